"""The laws of algorithms must catch the bugs they are for: each planted one fails the law that is named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunewright.core.algorithm import Resume, Start, Stop
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space

sys.path.insert(0, str(Path(__file__).parent))
import test_algorithms as laws
from simulator import Simulator

SPACE = Space(x=Float(0, 1))


class Base:
    """A correct little method: remembers the losses, and draws."""

    def init(self, problem: Any) -> dict[str, Any]:
        return {"problem": problem, "losses": [], "started": 0}

    def tell(self, state: dict[str, Any], events: Any) -> dict[str, Any]:
        for event in events:
            if isinstance(event, Ended) and event.metrics:
                state["losses"].append(state["problem"].losses(event.metrics))
            elif isinstance(event, Started):
                state["started"] += 1
        return state

    def ask(self, state: dict[str, Any], slots: int, rng: np.random.Generator) -> Any:
        return tuple(Start({"x": float(rng.random())}) for _ in range(slots))


class OwnGenerator(Base):
    """Keeps a generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng()

    def ask(self, state: dict[str, Any], slots: int, rng: np.random.Generator) -> Any:
        return super().ask(state, slots, self.rng)


class CountsInAsk(Base):
    """Writes its memory while asking."""

    def ask(self, state: dict[str, Any], slots: int, rng: np.random.Generator) -> Any:
        state["started"] += 1
        return super().ask(state, slots, rng)


class LosesWithinABatch(Base):
    """Remembers only the last ending of a batch."""

    def tell(self, state: dict[str, Any], events: Any) -> dict[str, Any]:
        ended = [e for e in events if isinstance(e, Ended)]
        rest = [e for e in events if not isinstance(e, Ended)]
        return super().tell(state, rest + ended[-1:])


class Greedy(Base):
    """Starts more than there are slots."""

    def ask(self, state: dict[str, Any], slots: int, rng: np.random.Generator) -> Any:
        return super().ask(state, slots + 1, rng)


class Outside(Base):
    """Leaves the space."""

    def ask(self, state: dict[str, Any], slots: int, rng: np.random.Generator) -> Any:
        return tuple(Start({"x": 1.5}) for _ in range(slots))


class ResumesRunning(Base):
    """Resumes a trial that runs."""

    def ask(self, state: dict[str, Any], slots: int, rng: np.random.Generator) -> Any:
        return (Resume(0),) if state["started"] and slots else super().ask(state, slots, rng)


class StopsTheDead(Base):
    """Stops a trial that is over."""

    def ask(self, state: dict[str, Any], slots: int, rng: np.random.Generator) -> Any:
        return (Stop(0),) if len(state["losses"]) > 3 else super().ask(state, slots, rng)


class Maximises(Base):
    """Looks at the raw sign of a metric."""

    def tell(self, state: dict[str, Any], events: Any) -> dict[str, Any]:
        for event in events:
            if isinstance(event, Ended) and event.metrics:
                state["losses"].append(next(iter(event.metrics.values())))
        return state

    def ask(self, state: dict[str, Any], slots: int, rng: np.random.Generator) -> Any:
        shift = 0.5 if state["losses"] and min(state["losses"]) > 0 else 0.0
        return tuple(Start({"x": shift + float(rng.random()) / 2}) for _ in range(slots))


class Stalls(Base):
    """Waits for ever after a failure."""

    def ask(self, state: dict[str, Any], slots: int, rng: np.random.Generator) -> Any:
        return super().ask(state, slots, rng) if state["started"] < 3 else ()


def simulated(algorithm: Any, kind: str = "single") -> Simulator:
    problem = Problem(SPACE, (Objective("loss"),), Fidelity(9) if kind == "fidelity" else None, (), 1)
    return Simulator(algorithm, problem, laws.objective, workers=2, chaos=3).run(20)


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (OwnGenerator, laws.test_ask_changes_nothing_and_depends_on_state_slots_rng_only),
        (OwnGenerator, laws.test_a_fresh_process_takes_the_same_decisions),
        (CountsInAsk, laws.test_ask_changes_nothing_and_depends_on_state_slots_rng_only),
        (CountsInAsk, laws.test_state_is_the_fold_of_the_log_after_json),
        (LosesWithinABatch, laws.test_tell_in_pieces_equals_tell_at_once),
    ],
)
def test_a_planted_bug_breaks_its_law(broken: Any, law: Callable[[Simulator], None]) -> None:
    law(simulated(Base()))
    simulator = simulated(broken())
    with pytest.raises(AssertionError):
        law(simulator)


@pytest.mark.parametrize("broken", [Greedy, Outside, ResumesRunning, StopsTheDead])
def test_an_illegal_action_is_noticed_when_it_is_taken(broken: Any) -> None:
    with pytest.raises((AssertionError, ValueError)):
        simulated(broken())


def test_a_method_that_looks_at_raw_signs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laws, "FLAT", SPACE)
    for algorithm, fails in ((Base(), False), (Maximises(), True)):
        monkeypatch.setattr(laws, "make", lambda name, problem, a=algorithm: a)
        if fails:
            with pytest.raises(AssertionError):
                laws.test_minimising_and_maximising_are_mirror_images("own")
        else:
            laws.test_minimising_and_maximising_are_mirror_images("own")


def test_a_method_that_stalls_is_noticed() -> None:
    simulator = simulated(Stalls())
    with pytest.raises(AssertionError):
        laws.test_it_never_stalls_and_stays_legal(simulator)
