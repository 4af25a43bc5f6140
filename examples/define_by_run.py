"""Declares the space while trials run: what is asked for may depend on what was answered.

Run it: python examples/define_by_run.py
"""

import tunewright as tw


def train(trial: tw.Attempt) -> float:
    """A made-up loss: the number of layers decides how many widths there are."""
    layers = trial.suggest_int("layers", 1, 3)
    widths = [trial.suggest_int(f"width{i}", 8, 256, log=True) for i in range(layers)]
    rate = trial.suggest_float("lr", 1e-4, 1.0, log=True)
    if trial.suggest_bool("dropout"):
        keep = 1 - trial.suggest_float("rate", 0.0, 0.5)
    else:
        keep = 1.0
    return abs(layers - 2) + sum(abs(w - 64) for w in widths) / 200 + abs(rate - 0.03) + abs(keep - 0.9)


def main() -> None:
    """Opens a study without a space; it grows with the first trials."""
    study = tw.Study.open("by-run", minimize="loss", storage="memory", method="tpe", seed=0)
    study.run(train, trials=60)
    print(f"best loss {study.best.metrics['loss']:.3f} with {study.best.params}")
    print(f"the space has grown to {study.space}")


if __name__ == "__main__":
    main()
