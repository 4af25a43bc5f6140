"""The variable-length genetic algorithm inside schedulers: lower losses for as much training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tunewright import catalog
from tunewright.bench.simulate import Task, Trace, simulate
from tunewright.core.constraints import Range
from tunewright.core.domains import Float, Int
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space

STEPS, LAYERS = 27, 5
SPACE = Space(
    {"layers": Int(1, LAYERS), **{f"w{i}": Float(0, 1) for i in range(1, LAYERS + 1)}},
    when={f"w{i}": {"layers": Range(i, None)} for i in range(2, LAYERS + 1)},
)


def end(config: Any) -> float:
    """Every good layer takes a third of the loss away."""
    n = int(config["layers"])
    return math.prod(1 - 0.35 * math.exp(-6 * (config[f"w{i}"] - 0.15 * i) ** 2) for i in range(1, n + 1))


def curve(config: Any) -> tuple[np.ndarray, np.ndarray]:
    """Deeper stacks are trained more slowly, so that early results favour short ones a little."""
    steps = np.arange(1, STEPS + 1)
    return end(config) + 0.6 * np.exp(-steps / (2.0 + config["layers"])), np.ones(STEPS)


TASK = Task("stack", Problem(SPACE, (Objective("loss"),), Fidelity(STEPS)), curve, 0.0, 1.0)


def ran(name: str, seed: int) -> Trace:
    return simulate(catalog.build(name), TASK, seed=seed, trials=120)


@pytest.mark.parametrize(
    ("scheduler", "share"), [("halting(vlga)", 0.8), ("asha(vlga)", 0.3), ("hyperband(vlga)", 0.4)]
)
def test_early_stopping_saves_training_and_configurations_still_grow(scheduler: str, share: float) -> None:
    full = [ran("vlga", seed) for seed in range(4)]
    early = [ran(scheduler, seed) for seed in range(4)]
    paid = [float(t.steps[-1]) for t in early]
    assert np.mean(paid) < share * np.mean([t.steps[-1] for t in full])
    # With as many steps as early stopping took, full trainings are behind.
    behind = [f.best_by(f.steps, at) for f, at in zip(full, paid, strict=True)]
    assert np.mean([t.incumbent[-1] for t in early]) < np.mean(behind)
    for trace in early:
        assert trace.ledger.begun == 120
        lengths = [t.config["layers"] for t in trace.ledger.trials]
        # The first phase allows a quarter of the levels, rounded up; the last all of them.
        assert max(lengths[:12]) <= 2
        assert max(lengths[60:]) >= 4
