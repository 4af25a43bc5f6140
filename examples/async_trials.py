"""Runs trials as coroutines, for objectives that wait for something else: a service, a queue, an instrument.

Run it: python examples/async_trials.py
"""

import asyncio

import tunewright as tw


async def measure(temperature: float, mode: str) -> float:
    """Asks a pretended service, which takes its time; coroutines get their parameters by name."""
    await asyncio.sleep(0.05)
    return (temperature - 0.7) ** 2 + 0.1 * (mode == "fast")


async def main() -> None:
    """Keeps eight requests under way at a time in one event loop."""
    space = tw.Space(temperature=tw.Float(0, 2), mode=tw.Choice(["fast", "careful"]))
    study = tw.Study.open("service", space, minimize="cost", storage="memory", seed=0)
    summary = await study.arun(measure, workers=8, trials=40)
    print(f"best cost {study.best.metrics['cost']:.4f} with {study.best.params}; {summary.ended} trials")


if __name__ == "__main__":
    asyncio.run(main())
