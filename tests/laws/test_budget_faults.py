"""What every scheduler owes when curves cross, and when metrics are bad, late, repeated, skipped or never come."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunewright import catalog
from tunewright.bench.simulate import Task, simulate
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Paused, Reported
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import UnsupportedError

sys.path.insert(0, str(Path(__file__).parent))
from simulator import Simulator
from test_algorithms import same

AROUND = [
    "threshold(patience(asha(random)))",
    "median(hyperband(random))",
    "percentile(smoothie(random))",
    "wilcoxon(halting(random))",
    "patience(pbt(random))",
]
SCHEDULERS = [*(m.name for m in catalog.METHODS.values() if m.kind == "scheduler"), *AROUND]
LINE = Space(x=Float(0, 1), y=Float(0, 1))
HIGH = 9
Report = tuple[dict[str, float], dict[str, str] | None]


def quick(name: str) -> Any:
    """A scheduler around random search, so that faults cost no model."""
    wraps = name in catalog.METHODS and catalog.METHODS[name].wraps
    return catalog.build(f"{name}(random)" if wraps else name)


def size_for(method: Any) -> int:
    """Trials per case; fewer for a method that models every decision."""
    return 8 if getattr(method, "deliberate", False) else 24


def problem_of(**more: Any) -> Problem:
    return Problem(LINE, fidelity=Fidelity(HIGH), **more)


class Faulty(Simulator):
    """Workers that report at some steps only, and what a fault makes of the metrics.

    Args:
        steps: Steps at which a trial reports.
        says: From trial and step to metrics, and values that are not finite.
    """

    def __init__(
        self,
        algorithm: Any,
        problem: Problem,
        says: Callable[[int, int], Report],
        steps: Iterable[int] = range(1, HIGH + 1),
        **world: Any,
    ) -> None:
        super().__init__(algorithm, problem, lambda config, step: {}, **world)
        self.says, self.steps = says, tuple(steps)

    def advance(self, number: int) -> None:
        trial = self.ledger.trials[number]
        until = trial.until if trial.until is not None else HIGH
        if trial.signal is not None:
            super().advance(number)
            return
        following = next((s for s in self.steps if s > trial.step), None)
        if following is not None and following <= until:
            metrics, bad = self.says(number, following)
            self.append(Reported(number, trial.token, following, metrics, bad))
            self.decide(0)
        elif until >= HIGH:
            metrics, _ = self.says(number, HIGH)
            self.append(Ended(number, trial.token, "completed", metrics, HIGH))
        else:
            self.append(Paused(number, trial.token, until))


def falling(number: int, step: int) -> float:
    """A loss of its own for every trial, falling with the steps."""
    return (0.618 * number) % 1.0 + 1.0 / step


def check(method: Any, problem: Problem, says: Callable[[int, int], Report], **world: Any) -> Simulator:
    """It goes on until all trials are begun or it is finished, whatever the workers say."""
    trials = size_for(method)
    made = Faulty(method, problem, says, workers=3, **world).run(trials)
    assert len(made.ledger.trials) >= trials or made.finished
    return made


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [(2, 4, 5, 7, 9), (9,), (4, 8), (1,)], ids=str)
def test_reports_that_skip_the_rungs_hold_nobody_up(name: str, steps: tuple[int, ...]) -> None:
    check(quick(name), problem_of(), lambda n, s: ({"loss": falling(n, s)}, None), steps=steps, chaos=1)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("first", [1, 2, 4], ids=lambda s: f"from step {s}")
def test_trials_that_report_nan_for_good_are_survived(name: str, first: int) -> None:
    def says(number: int, step: int) -> Report:
        if number % 2 and step >= first:
            return {}, {"loss": ("nan", "inf", "-inf")[number % 3]}
        return {"loss": falling(number, step)}, None

    world = check(quick(name), problem_of(), says, chaos=2)
    done = [t for t in world.ledger.trials if t.status == "completed" and "loss" in t.metrics]
    assert all(t.id % 2 == 0 for t in done)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_metrics_that_are_missing_at_a_rung_are_survived(name: str) -> None:
    def says(number: int, step: int) -> Report:
        if step in (1, 3) or number % 4 == 0:
            return {"other": 1.0}, {"another": "nan"}
        return {"loss": falling(number, step)}, None

    check(quick(name), problem_of(), says, chaos=3)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_limited_metric_that_is_missing_at_a_rung_is_survived(name: str) -> None:
    def says(number: int, step: int) -> Report:
        size = {"size": float(number % 3)} if step > 3 or number % 2 else {}
        return {"loss": falling(number, step), **size}, None

    check(quick(name), problem_of(limits=(Limit("size", 1.5),)), says, chaos=4)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_reports_that_come_twice_or_out_of_order_change_nothing(name: str) -> None:
    problem = problem_of()
    world = Faulty(quick(name), problem, lambda n, s: ({"loss": falling(n, s)}, None), workers=4, chaos=5)
    world.run(8)
    told, before = len(world.news), copy.deepcopy(world.state)
    for trial in list(world.ledger.running.values()):
        for step in range(1, trial.peak + 1):
            world.append(Reported(trial.id, trial.token, step, {"loss": -1e9}))
    assert len(world.news) == told
    assert same(world.state, before)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_an_objective_that_is_never_reported_is_refused_or_survived(name: str) -> None:
    two = problem_of(objectives=(Objective("loss"), Objective("never")))
    method = quick(name)
    try:
        method.init(two)
    except UnsupportedError as refusal:
        assert "objective" in str(refusal)
        return
    check(method, two, lambda n, s: ({"loss": falling(n, s)}, None), chaos=6)


def crossing(x: float, y: float) -> Any:
    """The best at the end is the worst until half-way."""
    done = np.minimum(np.arange(1, HIGH + 1) / (HIGH / 2), 1.0)
    return done * (x + y) + (1.0 - done) * (4.0 - x - y), np.ones(HIGH)


CROSSING = Task("crossing", problem_of(), lambda c: crossing(c["x"], c["y"]), 0.0, 1.0)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("workers", [1, 40])
def test_crossing_curves_end_in_full_trainings(name: str, workers: int) -> None:
    method = quick(name)
    trials = size_for(method)
    trace = simulate(method, CROSSING, workers=workers, trials=trials)
    assert trace.ledger.begun == trials
    assert not trace.ledger.running
    assert trace.ledger.counts.get("completed", 0) >= 1


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_thousand_workers_are_kept_busy(name: str) -> None:
    method = quick(name)
    # One that models every decision is asked by fewer, so that the test stays short.
    workers = 5 if getattr(method, "deliberate", False) else 1000
    trace = simulate(method, CROSSING, workers=workers, trials=3 * workers, steps=3 * workers)
    assert sum(t.at == 0.0 for t in trace.ledger.trials) == workers
    # Steps take a second each: three times as many steps as workers take three seconds if nobody waits.
    assert len(trace.seconds) == 3 * workers
    assert trace.seconds[-1] == 3.0
