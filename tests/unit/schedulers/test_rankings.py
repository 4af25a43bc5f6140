"""Several objectives and outcome limits at the rungs of every scheduler that has them."""

from __future__ import annotations

from typing import Any

import pytest
from driving import LINE, Drive

from tunewright.core.algorithm import Resume, Start, Stop
from tunewright.core.events import Paused, Reported
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.errors import ConfigError
from tunewright.samplers.random import Random
from tunewright.schedulers.asha import Asha
from tunewright.schedulers.halting import Halting
from tunewright.schedulers.hyperband import Hyperband

BOUND = Problem(LINE, (Objective("loss"),), Fidelity(9), (Limit("size", 1.0),))
TWO = Problem(LINE, (Objective("a"), Objective("b")), Fidelity(9))
# Loss and size of nine trials: the best losses are out of bounds, or their size was not measured.
NINE: list[dict[str, float]] = [
    {"loss": 0.0, "size": 5.0},
    {"loss": 0.1},
    {"loss": 0.2, "size": 3.0},
    {"loss": 7.0, "size": 0.5},
    {"loss": 6.0, "size": 1.0},
    {"loss": 0.3, "size": 1.1},
    {"loss": 9.0, "size": 0.0},
    {"size": 0.0},
    {"loss": 0.4},
]
ORDER = [4, 3, 6, 5, 2, 0, 1, 8]


def rested(method: Any, of: Problem, metrics: list[dict[str, float]]) -> Drive:
    """Trials that rest on the first rung with these metrics."""
    study = Drive(method, of)
    for trial in study.begin(len(metrics)):
        study.tell(Reported(trial, 1, 1, metrics[trial]), Paused(trial, 1, 1))
    return study


@pytest.mark.parametrize("method", [Asha(Random()), Hyperband(Random())])
def test_those_within_the_limits_are_promoted_first(method: Any) -> None:
    study = rested(method, BOUND, NINE)
    assert [a.trial for a in study.ask(9) if isinstance(a, Resume)] == ORDER[:3]


def test_promotions_go_on_by_excess_and_end_with_what_is_unknown() -> None:
    rung = rested(Asha(Random()), BOUND, NINE).state.ladder.rungs[0]
    assert list(rung.top(9)) == ORDER, (
        "one that lacks the limited metric comes last, one without a loss never"
    )


@pytest.mark.parametrize("last", [{"loss": 0.0, "size": 2.0}, {"loss": 0.0}])
def test_those_beyond_the_limits_are_stopped_first(last: dict[str, float]) -> None:
    study = Drive(Halting(Random(), eta=2), BOUND)
    for trial in study.begin(4):
        metrics = [{"loss": 5.0, "size": 0.0}, {"loss": 6.0, "size": 0.0}, {"loss": 4.0, "size": 0.0}, last][
            trial
        ]
        study.tell(Reported(trial, 1, 1, metrics))
    assert [a.trial for a in study.ask(0) if isinstance(a, Stop)] == [1, 3]


def test_limits_met_later_count_at_the_later_rung() -> None:
    study = Drive(Halting(Random(), eta=3), BOUND)
    for trial in study.begin(3):
        size = 9.0 if trial == 0 else 0.0
        study.tell(Reported(trial, 1, 1, {"loss": float(trial), "size": size}))
        study.tell(Reported(trial, 1, 3, {"loss": float(trial), "size": 0.0}))
    rungs = study.state.ladder.rungs
    assert [int(e[-1]) for e in rungs[0].entries] == [1, 2, 0]
    assert [int(e[-1]) for e in rungs[1].entries] == [0, 1, 2]


@pytest.mark.parametrize("kind", [Asha, Hyperband])
def test_an_epsilon_net_promotes_what_covers_the_front(kind: Any) -> None:
    # A front of nine, seven of them close together: three that cover it are its ends and the one in the middle.
    a = [0.0, 1.0, 0.47, 0.48, 0.49, 0.5, 0.51, 0.52, 0.53]
    study = rested(kind(Random(), ranking="epsilon_net"), TWO, [{"a": x, "b": 1 - x} for x in a])
    assert [p.trial for p in study.ask(3) if isinstance(p, Resume)] == [0, 1, 5]


def test_an_epsilon_net_stops_what_is_near_to_others() -> None:
    study = Drive(Halting(Random(), eta=2, ranking="epsilon_net"), TWO)
    for trial in study.begin(4):
        x = [0.0, 1.0, 0.9, 0.05][trial]
        study.tell(Reported(trial, 1, 1, {"a": x, "b": 1 - x}))
    assert [a.trial for a in study.ask(0) if isinstance(a, Stop)] == [1, 2, 3]
    assert isinstance(study.ask(1)[-1], Start)


@pytest.mark.parametrize("kind", [Asha, Halting, Hyperband])
def test_rankings_are_checked(kind: Any) -> None:
    with pytest.raises(ConfigError, match=f"{kind.__name__} needs ranking="):
        kind(Random(), ranking="crowding")
