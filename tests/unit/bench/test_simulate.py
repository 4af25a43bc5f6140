from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from tunewright.bench.simulate import Task, Trace, simulate
from tunewright.core.algorithm import Start, Stop
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Ended, Event, Paused, Started
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.asha import Asha
from tunewright.schedulers.halting import Halting
from tunewright.schedulers.hyperband import Hyperband

LINE = Space(x=Float(0, 1))


def falling(config: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Nine steps of decreasing loss; a step takes 1 + x seconds."""
    steps = np.arange(1, 10)
    return config["x"] + 1.0 / steps, np.full(9, 1.0 + config["x"])


TASK = Task("falling", Problem(LINE, fidelity=Fidelity(9)), falling, 1 / 9, 0.5 + 1 / 9)


def same(a: Trace, b: Trace) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("seconds", "steps", "losses", "trials"))


def test_one_worker_does_one_thing_at_a_time() -> None:
    trace = simulate(Random(), TASK, trials=3)
    assert trace.steps.tolist() == list(range(1, 28))
    assert trace.trials.tolist() == [0] * 9 + [1] * 9 + [2] * 9
    first = trace.ledger.trials[0]
    assert first.status == "completed"
    assert first.cost == pytest.approx(9 * (1 + first.config["x"]))
    assert trace.seconds[-1] == pytest.approx(trace.busy)


@pytest.mark.parametrize("workers", [1, 4])
def test_the_same_seed_gives_the_same_study(workers: int) -> None:
    runs = [simulate(Asha(Random()), TASK, seed=3, workers=workers, steps=200) for _ in range(2)]
    assert same(*runs)
    assert not same(runs[0], simulate(Asha(Random()), TASK, seed=4, workers=workers, steps=200))


def test_workers_share_the_clock() -> None:
    alone = simulate(Random(), TASK, trials=8)
    together = simulate(Random(), TASK, trials=8, workers=8)
    assert together.busy == pytest.approx(alone.busy)
    longest = max(9 * (1 + t.config["x"]) for t in together.ledger.trials)
    assert together.seconds[-1] == pytest.approx(longest)
    assert np.all(np.diff(together.seconds) >= 0)


def test_no_step_is_paid_twice() -> None:
    trace = simulate(Hyperband(Random()), TASK, steps=500)
    pairs = [(t.number, r.step) for t in trace.ledger.trials for r in t.reports]
    assert len(set(pairs)) == len(pairs) == 500
    assert trace.ledger.counts["completed"] > 0


def test_stops_take_effect_at_the_report() -> None:
    trace = simulate(Halting(Random()), TASK, steps=300)
    stopped = [t for t in trace.ledger.trials if t.status == "stopped"]
    assert stopped
    assert {t.step for t in stopped} <= {1, 3}


def test_limits_of_time_steps_and_trials() -> None:
    assert simulate(Random(), TASK, seconds=20.0).seconds[-1] <= 20.0
    assert len(simulate(Random(), TASK, steps=13).steps) == 13
    assert len(simulate(Asha(Random()), TASK, trials=9).ledger.trials) == 9


@pytest.mark.parametrize("workers", [1, 3])
def test_a_study_with_all_its_trials_still_halves_its_bracket(workers: int) -> None:
    trace = simulate(Hyperband(Random()), TASK, trials=5, workers=workers)
    assert sorted(t.step for t in trace.ledger.trials) == [1, 1, 1, 3, 9]


def test_a_finished_method_ends_the_study() -> None:
    two = Task("two", Problem(Space(c=Choice([1, 2]))), lambda c: (np.ones(1), np.ones(1)), 0, 1)
    trace = simulate(Random(), two, trials=50)
    assert len(trace.ledger.trials) == 2


def test_maximised_metrics_are_traced_as_losses() -> None:
    gain = Problem(LINE, (Objective("gain", "maximize"),))
    task = Task("gain", gain, lambda c: (np.array([c["x"]]), np.ones(1)), -1, 0)
    trace = simulate(Random(), task, trials=5)
    assert trace.incumbent[-1] == -max(t.config["x"] for t in trace.ledger.trials)
    assert trace.ledger.best is not None


def test_reading_a_trace() -> None:
    seconds = np.array([1.0, 2.0, 4.0])
    trace = Trace(
        seconds,
        seconds,
        np.array([3.0, 5.0, 1.0]),
        np.zeros(3, dtype=np.int64),
        None,
        0.0,
        np.zeros(3, dtype=np.int64),
    )  # type: ignore[arg-type]
    assert trace.incumbent.tolist() == [3.0, 3.0, 1.0]
    assert [trace.best_by(seconds, t) for t in (0.5, 1.0, 3.9, 9.0)] == [math.inf, 3.0, 3.0, 1.0]
    assert [trace.reached(seconds, g) for g in (3.0, 2.0, 0.0)] == [1.0, 4.0, math.inf]


def test_regret_is_scaled_and_clipped() -> None:
    assert TASK.regret(np.array([0.0, 1 / 9, 0.25 + 1 / 9, 9.0])).tolist() == pytest.approx([0, 0, 0.5, 1])


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="workers >= 1 and a limit"):
        simulate(Random(), TASK)
    with pytest.raises(ConfigError, match="workers >= 1 and a limit"):
        simulate(Random(), TASK, workers=0, steps=3)
    with pytest.raises(UnsupportedError):
        simulate(Asha(Random()), Task("flat", Problem(LINE), falling, 0, 1), trials=1)


@dataclass(frozen=True)
class Forking:
    """Trains the first trial for a while, then goes on from its checkpoint with other values."""

    def init(self, problem: Problem) -> list[Event]:
        return []

    def tell(self, state: list[Event], events: Sequence[Event]) -> list[Event]:
        return [*state, *events]

    def ask(self, state: list[Event], slots: int, rng: np.random.Generator) -> tuple[Start | Stop, ...]:
        if not slots:
            return ()
        if not state:
            return (Start({"x": 0.5}, 4),)
        if any(isinstance(e, Started) and e.parent for e in state):
            return ()
        paused = [e for e in state if isinstance(e, Paused)]
        if paused and not any(isinstance(e, Ended) for e in state):
            return (Stop(0), Start({"x": 0.0}, 9, (0, 4)))
        return ()


def test_a_fork_goes_on_from_the_step_of_its_parent_which_may_be_over() -> None:
    trace = simulate(Forking(), TASK, steps=100)
    first, child = trace.ledger.trials
    assert (first.status, first.step) == ("stopped", 4)
    assert trace.at.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert trace.trials.tolist() == [0] * 4 + [1] * 5
    assert trace.losses[4:].tolist() == pytest.approx([1 / s for s in range(5, 10)])
    assert (child.status, child.cost) == ("completed", pytest.approx(5.0))
    assert trace.busy == pytest.approx(4 * 1.5 + 5)


def test_a_training_that_diverges_fails_and_the_study_goes_on() -> None:
    def curve(config: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        losses, seconds = falling(config)
        return np.where((np.arange(9) >= 2) & (config["x"] < 0.3), np.nan, losses), seconds

    task = replace(TASK, curve=curve)
    trace = simulate(Asha(Random()), task, trials=30, workers=3)
    failed = [t for t in trace.ledger.trials if t.status == "failed"]
    assert failed
    assert all(t.step == 3 and t.config["x"] < 0.3 and "nan" in t.error for t in failed)
    assert trace.ledger.counts["completed"] >= 1
    assert np.isinf(trace.losses).sum() == len(failed)


def test_steps_fail_at_the_given_rate_whoever_runs_beside_them() -> None:
    runs = [simulate(Random(), TASK, trials=400, workers=w, failing=0.05, seed=1) for w in (1, 7)]
    failed = [{t.number: t.step for t in r.ledger.trials if t.status == "failed"} for r in runs]
    assert failed[0] == failed[1]
    # A trial of nine steps fails with probability 1 - 0.95^9 = 0.370; within four standard errors.
    assert abs(len(failed[0]) / 400 - 0.370) < 4 * 0.0242
    assert {t.status for t in runs[0].ledger.trials} == {"failed", "completed"}
    with pytest.raises(ConfigError, match="0 <= failing < 1"):
        simulate(Random(), TASK, trials=1, failing=1.0)


@pytest.mark.parametrize("scheduler", [Asha(Random()), Hyperband(Random()), Halting(Random())])
def test_schedulers_survive_failing_steps(scheduler: Any) -> None:
    trace = simulate(scheduler, TASK, trials=60, workers=5, failing=0.1)
    assert len(trace.ledger.trials) == 60
    assert not trace.ledger.running
    assert trace.ledger.counts["failed"] > 0


@pytest.mark.slow
def test_a_thousand_workers_take_seconds() -> None:
    began = time.process_time()
    trace = simulate(Asha(Random()), TASK, workers=1000, trials=20_000)
    assert len(trace.ledger.trials) == 20_000
    # A few seconds; a quadratic loop would take minutes.
    assert time.process_time() - began < 60.0
