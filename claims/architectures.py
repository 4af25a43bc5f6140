"""A search over small networks for handwritten digits, every one of which was trained: what two claims are checked on.

``claims/data/digits_architectures.py`` trained the networks and wrote the table.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from claims.study import Floats
from tunewright import architect
from tunewright.bench.simulate import Task
from tunewright.core.domains import Choice, Order
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space

TABLE = Path(__file__).parent / "data" / "digits_architectures.json"
VALIDATION = 797
NET = architect.Sequence(
    architect.Or(None, [architect.Module("conv", filters=Order([4, 8])), "relu"], name="stem"),
    architect.Repeat(
        [
            architect.Module("dense", units=Order([16, 32, 64])),
            architect.Or("relu", "tanh", "sigmoid", name="activation"),
            architect.Optional(architect.Module("dropout", rate=Order([0.2, 0.5])), name="regularised"),
        ],
        [1, 2, 3],
        tied=True,
        name="depth",
    ),
)
RATES = tuple(float(f"{r:.3g}") for r in np.logspace(-4, 0.5, 8))
TRAINING = {"optimizer": Choice(["sgd", "adam"]), "lr": Order(RATES)}
SPACE = architect.space(NET, **TRAINING)
# The same search with the training decided after the architecture.
TRAINING_LAST = Space({**architect.space(NET).domains, **TRAINING}, when=architect.space(NET).when)


def key(config: Mapping[str, Any]) -> str:
    """A configuration as text."""
    return json.dumps(config, sort_keys=True)


@functools.cache
def errors() -> dict[str, float]:
    """Share of validation images that each trained network gets wrong, by configuration."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    assert table["space"] == SPACE.digest, "the search was changed after its networks were trained"
    rows = SPACE.grid(100_000)
    return {key(SPACE.decode(row)): w / VALIDATION for row, w in zip(rows, table["wrong"], strict=True)}


def task(space: Space = SPACE) -> Task:
    """The search as a task: one network per trial."""
    known = errors()
    values = np.array(list(known.values()))
    one = np.ones(1)

    def curve(config: Mapping[str, Any]) -> tuple[Floats, Floats]:
        return np.array([known[key(config)]]), one

    problem = Problem(space, (Objective("error"),))
    return Task("digits", problem, curve, float(values.min()), float(np.median(values)))
