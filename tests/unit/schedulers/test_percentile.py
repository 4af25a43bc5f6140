from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from driving import LINE, Drive, problem

from tunewright.core.algorithm import Stop
from tunewright.core.events import Ended, Reported, Started
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.percentile import Percentile


def after_others(curves: Sequence[Sequence[float]], of: Problem | None = None, **settings: Any) -> Drive:
    """A study in which trials with these losses by step have completed."""
    study = Drive(Percentile(Random(), **settings), of)
    for number, losses in enumerate(curves):
        study.tell(Started(number, {"x": 0.5}, 9))
        study.tell(*(Reported(number, 1, s + 1, {"loss": v}) for s, v in enumerate(losses)))
        study.tell(Ended(number, 1, "completed", {"loss": losses[-1]}, 9))
    study.tell(Started(len(curves), {"x": 0.5}, 9))
    return study


FIVE = [[float(i)] * 9 for i in range(5)]


@pytest.mark.parametrize(("percentile", "bar"), [(25.0, 1.0), (50.0, 2.0), (90.0, 3.6)])
def test_only_what_is_within_the_best_share_goes_on(percentile: float, bar: float) -> None:
    for loss, stops in ((bar, False), (bar + 0.01, True)):
        study = after_others(FIVE, percentile=percentile)
        study.tell(Reported(5, 1, 1, {"loss": loss}))
        assert study.ask(0) == ((Stop(5, {"step": 1, "best": loss, "bar": bar}),) if stops else ())


def test_the_best_loss_so_far_counts() -> None:
    study = after_others(FIVE)
    study.tell(Reported(5, 1, 1, {"loss": 0.5}), Reported(5, 1, 2, {"loss": 100.0}))
    assert study.ask(0) == ()


def test_too_few_others_stop_nobody() -> None:
    study = after_others(FIVE[:4])
    study.tell(Reported(4, 1, 1, {"loss": 99.0}))
    assert study.ask(0) == ()
    study = after_others([[0.0]] * 5)
    study.tell(Reported(5, 1, 2, {"loss": 99.0}))
    assert study.ask(0) == (), "nobody else reported at step 2"


def test_judgement_waits_for_warmup_and_comes_once_per_interval() -> None:
    curves = [[0.0] * 9] * 5
    study = after_others(curves, warmup=3, interval=3)
    study.tell(*(Reported(5, 1, s, {"loss": 0.0}) for s in (1, 2, 3)), Reported(5, 1, 4, {"loss": 0.0}))
    assert study.state.courses[5].judged == 0
    study.tell(Reported(5, 1, 8, {"loss": 0.0}))
    assert study.state.courses[5].judged == 1
    late = after_others(curves, warmup=3, interval=3)
    late.tell(Reported(5, 1, 2, {"loss": 9.0}))
    assert late.ask(0) == ()
    late.tell(Reported(5, 1, 5, {"loss": 9.0}))
    assert [a.trial for a in late.ask(0)] == [5], "a judgement that fell out is made up for"


def test_the_last_step_stops_nobody() -> None:
    study = after_others(FIVE)
    study.tell(Reported(5, 1, 9, {"loss": 99.0}))
    assert study.ask(0) == ()


def test_diverged_reports_count_as_infinite() -> None:
    study = after_others([*FIVE[:2], *[[0.0] * 9] * 3])
    study.tell(Reported(5, 1, 1, {}, {"loss": "nan"}))
    assert study.ask(0)[0].why["best"] == math.inf
    missing = after_others(FIVE)
    missing.tell(Reported(5, 1, 1, {"other": 1.0}))
    assert missing.ask(0) == ()


def test_stopped_and_failed_trials_are_nobodys_measure() -> None:
    study = Drive(Percentile(Random(), after=1))
    for number, outcome in enumerate(["stopped", "failed", "lost"]):
        study.tell(Started(number, {"x": 0.5}, 9), Reported(number, 1, 1, {"loss": 0.0}))
        study.tell(Ended(number, 1, outcome))  # type: ignore[arg-type]
    study.tell(Started(3, {"x": 0.5}, 9), Reported(3, 1, 1, {"loss": 9.0}))
    assert study.ask(0) == ()


@pytest.mark.parametrize("percentile", [0, 100, -1, math.nan, True, "25"])
def test_the_percentile_is_checked(percentile: Any) -> None:
    with pytest.raises(ConfigError, match="0 < percentile < 100"):
        Percentile(Random(), percentile=percentile)


@pytest.mark.parametrize("setting", [{"after": 0}, {"warmup": -1}, {"interval": 0}])
def test_counts_are_checked(setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"whole number {next(iter(setting))}"):
        Percentile(Random(), **setting)


def test_several_objectives_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="needs one objective"):
        Percentile(Random()).init(Problem(LINE, (Objective("a"), Objective("b")), Fidelity(9)))
    assert Percentile(Random()).init(problem()).others == {}
