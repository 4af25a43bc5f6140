"""Ask and tell: your own loop decides when and where trials run.

Run it: python examples/ask_tell.py
"""

import math

import tunewright as tw


def branin(x: float, y: float) -> float:
    """A test function of two variables with minimum 0.3979."""
    return (y - 0.1291845 * x**2 + 1.5915494 * x - 6) ** 2 + 9.6021127 * math.cos(x) + 10


def main() -> None:
    """Asks for two trials at a time, as two machines would, and tells their results."""
    space = tw.Space(x=tw.Float(-5, 10), y=tw.Float(0, 15))
    study = tw.Study.open("branin", space, minimize="value", storage="memory", seed=3)
    study.enqueue({"x": 0.0, "y": 5.0})
    for _ in range(20):
        asked = [trial for trial in (study.ask(), study.ask()) if trial is not None]
        for trial in asked:
            trial.tell(branin(**trial.params))
    best = study.best
    print(f"best value {best.metrics['value']:.4f} at x={best.params['x']:.3f}, y={best.params['y']:.3f}")


if __name__ == "__main__":
    main()
