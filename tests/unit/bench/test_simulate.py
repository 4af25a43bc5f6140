from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tunewright.bench.simulate import Task, Trace, simulate
from tunewright.core.domains import Choice, Float
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
