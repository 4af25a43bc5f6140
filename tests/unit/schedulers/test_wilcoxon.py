from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from driving import LINE, Drive

from tunewright.core.events import Ended, Reported, Started
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.wilcoxon import Wilcoxon

FOLDS = Problem(LINE, fidelity=Fidelity(20))
BEST = [1.0 + 0.1 * i for i in range(20)]


def complete(study: Drive, number: int, losses: list[float], metrics: dict[str, float] | None = None) -> None:
    study.tell(Started(number, {"x": 0.5}))
    study.tell(*(Reported(number, 1, s, {"loss": v}) for s, v in enumerate(losses, 1)))
    study.tell(Ended(number, 1, "completed", metrics or {"loss": float(np.mean(losses))}, 20))


def drive(of: Problem = FOLDS, **settings: Any) -> Drive:
    study = Drive(Wilcoxon(Random(), **settings), of)
    complete(study, 0, BEST)
    study.tell(Started(1, {"x": 0.5}))
    return study


def run(study: Drive, losses: list[float | None]) -> int | None:
    """Reports losses instance by instance; returns the one after which the trial is to be stopped."""
    for step, loss in enumerate(losses, 1):
        metrics = {} if loss is None else {"loss": loss}
        study.tell(Reported(1, 1, step, metrics, {"loss": "nan"} if loss is None else None))
        if study.ask(0):
            return step
    return None


def test_worse_on_every_instance_is_stopped_at_the_first_that_can_tell() -> None:
    # All of n instances worse has probability 2^-n: below 0.1 from n = 4 on, below 0.01 from n = 7 on.
    worse: list[float | None] = [b + 0.01 * i for i, b in enumerate(BEST, 1)]
    assert run(drive(), worse) == 4
    assert run(drive(level=0.01), worse) == 7
    assert run(drive(after=9), worse) == 9


def test_what_is_better_on_average_is_never_stopped() -> None:
    # Slightly worse on nearly all, and much better on one: the test rejects, the mean does not.
    losses: list[float | None] = [BEST[0] - 100.0, *(b + 0.1 for b in BEST[1:])]
    assert run(drive(), losses) is None


def test_equal_results_stop_nobody() -> None:
    assert run(drive(), list(BEST)) is None


def test_an_instance_that_diverges_is_worse_than_any() -> None:
    assert run(drive(), [None, *(b + 0.1 for b in BEST[1:4])]) == 4
    assert run(drive(), [None] * 6) == 4


def test_ties_are_judged_by_the_exact_law() -> None:
    # Four gaps of the same size: the probability is still 2^-4.
    assert run(drive(), [b + 0.5 for b in BEST]) == 4


def test_only_instances_that_both_did_are_compared() -> None:
    study = Drive(Wilcoxon(Random()), FOLDS)
    study.tell(Started(0, {"x": 0.5}), *(Reported(0, 1, s, {"loss": 1.0}) for s in range(2, 21, 2)))
    study.tell(Ended(0, 1, "completed", {"loss": 1.0}, 20), Started(1, {"x": 0.5}))
    assert run(study, [9.0 + 0.1 * i for i in range(19)]) == 8


def test_the_one_to_beat_has_the_most_instances_and_the_lowest_mean() -> None:
    study = drive()
    complete(study, 2, [0.0] * 5)
    assert len(study.state.best) == 20, "fewer instances"
    complete(study, 3, [b + 1 for b in BEST])
    assert study.state.best[1] == 1.0, "a higher mean"
    complete(study, 4, [b - 1 for b in BEST])
    assert study.state.best[1] == 0.0
    study.tell(Started(5, {"x": 0.5}), Reported(5, 1, 1, {"loss": -9.0}), Ended(5, 1, "stopped"))
    assert study.state.best[1] == 0.0


def test_the_one_to_beat_meets_the_limits() -> None:
    bound = Problem(LINE, fidelity=Fidelity(20), limits=(Limit("size", 1.0),))
    study = Drive(Wilcoxon(Random()), bound)
    complete(study, 0, BEST, {"loss": 1.0, "size": 2.0})
    assert study.state.best == {}
    complete(study, 1, BEST, {"loss": 1.0, "size": 1.0})
    assert len(study.state.best) == 20


def test_many_instances_are_judged_by_the_normal_law() -> None:
    long = Problem(LINE, fidelity=Fidelity(200))
    study = Drive(Wilcoxon(Random(), after=60), long)
    rng = np.random.default_rng(0)
    complete(study, 0, rng.normal(size=200).tolist())
    study.tell(Started(1, {"x": 0.5}))
    assert run(study, rng.normal(3.0, 1.0, 200).tolist()) == 60


@pytest.mark.parametrize("level", [0.0, 1.0, math.nan, "0.1", True])
def test_settings_are_checked(level: Any) -> None:
    with pytest.raises(ConfigError, match="0 < level < 1"):
        Wilcoxon(Random(), level=level)
    with pytest.raises(ConfigError, match="whole number after >= 1"):
        Wilcoxon(Random(), after=0)


def test_several_objectives_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="needs one objective"):
        Wilcoxon(Random()).init(Problem(LINE, (Objective("a"), Objective("b")), Fidelity(9)))
