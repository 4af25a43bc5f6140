from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from driving import LINE, Drive, problem

from tunewright import catalog
from tunewright.bench.simulate import Task, simulate
from tunewright.core.algorithm import Resume, Start
from tunewright.core.closing import closed
from tunewright.core.events import Ended, Paused, Reported, Started
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.guarded import Guarded


def audit(study: Drive, number: int, losses: tuple[float, float, float], outcome: Any = "completed") -> None:
    """A trial that is trained to the end, with losses at the rungs of 1, 3 and 9 steps."""
    study.tell(Started(number, {"x": 0.5}, 9))
    study.tell(*(Reported(number, 1, s, {"loss": v}) for s, v in zip((1, 3, 9), losses, strict=True)))
    study.tell(Ended(number, 1, outcome, {"loss": losses[-1]}, 9))


def test_without_evidence_it_is_asha() -> None:
    study = Drive(Guarded(Random()))
    for trial in study.begin(3):
        assert study.untils[trial] == 1
        study.finish(trial, float(trial))
    assert study.ask() == (Resume(0, 3, {"rung": 1, "of": 3}),)


def test_rungs_that_sort_audits_wrongly_are_not_compared_at() -> None:
    study = Drive(Guarded(Random()))
    # Three audits: the first rung sorts their three pairs wrongly, the second one rightly.
    for number, losses in enumerate([(3.0, 1.0, 1.0), (2.0, 2.0, 2.0), (1.0, 3.0, 3.0)]):
        assert study.state.first == 0
        audit(study, number, losses)
    assert study.state.credit == [-3, 3]
    assert study.state.first == 1
    (start,) = study.ask()
    assert isinstance(start, Start)
    assert start.until == 3
    assert start.why is not None
    assert start.why["first"] == 3


def test_with_no_rung_to_trust_every_trial_is_an_audit_and_trust_can_return() -> None:
    study = Drive(Guarded(Random()))
    for number in range(3):
        audit(study, number, (-number, -number, number))
    assert study.state.first == 2
    assert study.ask()[0].until == 9
    for number in range(3, 8):
        audit(study, number, (10.0 + number,) * 3)
    assert study.state.first == 0


def test_what_rests_below_the_first_rung_is_not_promoted_until_trust_returns() -> None:
    study = Drive(Guarded(Random()))
    study.untils = [9, 9, 9]
    for number in range(3):
        audit(study, number, (-number, -number, number))
    for number in range(3, 9):
        study.tell(Started(number, {"x": 0.5}, 1), Reported(number, 1, 1, {"loss": -50.0 - number}))
        study.tell(Paused(number, 1, 1))
    assert isinstance(study.ask()[0], Start)
    for number in range(9, 14):
        audit(study, number, (10.0 + number,) * 3)
    assert study.ask()[0] == Resume(8, 3, {"rung": 1, "of": 14})


def test_audits_take_their_share_of_the_steps() -> None:
    task = Task("line", Problem(LINE, fidelity=Fidelity(81)), _curve(lambda x, t: x + 1 / t), 0.0, 0.5)
    for share in (0.1, 0.4):
        trace = simulate(Guarded(Random(), share=share), task, steps=40 * 81)
        audits = [t for t in trace.ledger.trials if t.why.get("audit")]
        assert 81 * len(audits) == pytest.approx(share * 40 * 81, rel=0.15)
        assert all(t.start.until == 81 for t in audits)


def test_failed_audits_and_those_without_results_say_nothing() -> None:
    study = Drive(Guarded(Random()))
    audit(study, 0, (1.0, 1.0, 1.0))
    audit(study, 1, (0.0, 0.0, 2.0), "failed")
    study.tell(Started(2, {"x": 0.5}, 9), Ended(2, 1, "completed", {"other": 1.0}, 9))
    assert study.state.credit == [0, 0]
    assert study.state.under_way == {}
    study.tell(Started(3, {"x": 0.5}, None, (0, 9)), Reported(3, 1, 10, {"loss": 0.0}))
    assert study.state.under_way == {}, "a fork was not trained from the start"


def test_a_rung_that_an_audit_skipped_is_compared_by_its_next_report() -> None:
    study = Drive(Guarded(Random()))
    for number in range(2):
        study.tell(Started(number, {"x": 0.5}, 9), Reported(number, 1, 4, {"loss": -float(number)}))
        study.tell(Ended(number, 1, "completed", {"loss": float(number)}, 9))
    assert study.state.credit == [-1, -1]


def test_limits_count_before_losses() -> None:
    study = Drive(Guarded(Random()), problem(limits=(Limit("size", 1.0),)))
    for number, size in enumerate((0.0, 5.0)):
        study.tell(Started(number, {"x": 0.5}, 9))
        study.tell(Reported(number, 1, 1, {"loss": -float(number), "size": size}))
        study.tell(Ended(number, 1, "completed", {"loss": float(number), "size": 0.0}, 9))
    assert study.state.credit == [1, 0], "nothing was measured at the second rung"


def test_a_study_with_all_its_trials_ends_with_a_full_training() -> None:
    study = Drive(Guarded(Random()))
    for trial in study.begin(2):
        study.finish(trial, float(trial))
    study.algorithm = closed(study.algorithm)
    while begun := study.begin():
        study.finish(begun[0], 0.0)
    assert study.untils == [9, 1]


def test_one_level_means_full_trainings() -> None:
    study = Drive(Guarded(Random()), problem(5, 5))
    study.begin(3)
    assert study.untils == [5, 5, 5]


@pytest.mark.parametrize("share", [0.0, 1.1, -1, "0.2", True, float("nan")])
def test_settings_are_checked(share: Any) -> None:
    with pytest.raises(ConfigError, match="0 < share <= 1"):
        Guarded(Random(), share=share)
    with pytest.raises(ConfigError, match="finite eta > 1"):
        Guarded(Random(), eta=1)


def test_problems_that_it_cannot_handle_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="report by step"):
        Guarded(Random()).init(Problem(LINE))
    with pytest.raises(UnsupportedError, match="needs one objective"):
        Guarded(Random()).init(Problem(LINE, (Objective("a"), Objective("b")), Fidelity(9)))


def _curve(loss: Callable[[float, np.ndarray], np.ndarray]) -> Callable[..., Any]:
    steps = np.arange(1, 82, dtype=float)
    return lambda config: (loss(config["x"], steps), np.ones(81))


@pytest.mark.parametrize("turn", [81.0, 30.0])
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_where_curves_cross_it_finds_what_asha_does_not(turn: float, sampler: str) -> None:
    """The lowest final losses begin as the highest, and the order turns half-way to ``turn`` steps."""

    def loss(x: float, steps: np.ndarray) -> np.ndarray:
        done = np.minimum(steps / turn, 1.0)
        return done * x + (1.0 - done) * (2.0 - x)

    task = Task("crossing", Problem(LINE, fidelity=Fidelity(81)), _curve(loss), 0.0, 0.5)
    found = {}
    for method in ("asha", "guarded"):
        runs = [
            simulate(catalog.build(f"{method}({sampler})"), task, seed=s, steps=30 * 81) for s in range(3)
        ]
        best = [r.ledger.best for r in runs]
        found[method] = float(np.mean([b.metrics["loss"] for b in best if b is not None]))
    assert found["asha"] > 0.4
    assert found["guarded"] < 0.1
