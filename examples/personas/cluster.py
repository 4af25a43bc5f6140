"""The same research group from Python: trials on a Ray cluster, two objectives.

pip install "tunewright[ray]"
python cluster.py
"""

from __future__ import annotations

import os
from typing import Annotated

import tunewright as tw


def train(
    lr: Annotated[float, tw.log(1e-4, 1e-1)] = 1e-3, width: Annotated[int, tw.log(16, 512)] = 64
) -> dict[str, float]:
    """Stands for a training: a wide network is better and slower."""
    return {"loss": (lr - 0.01) ** 2 + 1.0 / width, "latency": 0.001 * width}


if __name__ == "__main__":
    study = tw.tune(
        train,
        trials=int(os.environ.get("TRIALS", "500")),
        on=tw.Ray(cpus=1),
        workers=2,
        minimize=["loss", "latency"],
        name="latency",
        progress="plain",
    )
    for trial in study.pareto:
        print(trial.number, trial.params, trial.metrics)
    print(f"{len(study.pareto)} trials on the front")
