"""Freeze-thaw: what is asked of the network, and what is done with its answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tunewright as tw
from tunewright.bench.simulate import Task, simulate
from tunewright.core.algorithm import Resume, Start, generator
from tunewright.core.closing import closed
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Ended, Event, Paused, Reported, Started
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.quasirandom import QuasiRandom
from tunewright.samplers.random import Random
from tunewright.schedulers import ifbo
from tunewright.schedulers.ifbo import Ifbo, IfboState

SPACE = Space(x=Float(0, 1), y=Float(0, 1))


def problem(space: Space = SPACE, high: int = 20, low: int = 1) -> Problem:
    return Problem(space, fidelity=Fidelity(high, low))


def told(curves: list[list[float]], method: Ifbo, high: int = 20) -> IfboState:
    """A study whose trials are paused after these losses."""
    events: list[Event] = []
    rng = np.random.default_rng(0)
    for trial, losses in enumerate(curves):
        events.append(Started(trial, {"x": rng.random(), "y": rng.random()}, len(losses)))
        events += [Reported(trial, 1, s, {"loss": v}) for s, v in enumerate(losses, 1)]
        done = len(losses) >= high
        events.append(
            Ended(trial, 1, "completed", {"loss": losses[-1]}, high)
            if done
            else Paused(trial, 1, len(losses))
        )
    return method.tell(method.init(problem(high=high)), events)


def thaws(state: IfboState, method: Ifbo, decisions: int = 25) -> list[int]:
    """How often each trial is continued; the last entry counts new ones."""
    out = [0] * (state.book.n + 1)
    for i in range(decisions):
        (action,) = method.ask(state, 1, generator(0, i))
        out[action.trial if isinstance(action, Resume) else -1] += 1
    return out


def test_horizons_and_targets_span_their_ranges() -> None:
    rng = np.random.default_rng(0)
    drawn = [ifbo.drawn_wager(50, rng) for _ in range(4000)]
    horizons = np.array([w.horizon for w in drawn])
    assert (horizons.min(), horizons.max()) == (1, 50)
    # y = 1/2 - g / (2 + 2 g), so g = (1 - 2 y) / (2 y).
    gains = np.array([(1.0 - 2.0 * w.target) / (2.0 * w.target) for w in drawn])
    low, high = ifbo.GAINS
    logs = np.log10(gains)
    assert low <= logs.min() < low + 0.01
    assert high - 0.01 < logs.max() <= high
    assert np.mean(logs < (low + high) / 2) == pytest.approx(0.5, abs=0.03)


def test_the_falling_leader_is_thawed_and_the_flat_loser_is_not() -> None:
    falling = [1.0 - 0.08 * s for s in range(1, 8)]
    flat = [0.9] * 7
    counts = thaws(told([falling, flat, flat, flat], method := Ifbo(QuasiRandom(), first=1)), method)
    assert counts[0] > 8 * max(1, *counts[1:4])


def test_a_plateau_at_the_best_gives_way_to_new_ones() -> None:
    plateau = [0.5] * 15
    worse = [[0.5 + 0.001 * k, *([0.5 + 0.0005 * k] * 6)] for k in range(1, 5)]
    counts = thaws(told([plateau, *worse], method := Ifbo(QuasiRandom(), first=1)), method)
    assert counts[-1] > 12


def test_it_begins_with_what_the_sampler_says() -> None:
    method, sampler = Ifbo(QuasiRandom(), first=5), QuasiRandom()
    state = method.init(problem())
    (first,) = method.ask(state, 1, generator(0, 0))
    (theirs,) = sampler.ask(sampler.init(problem()), 1, generator(0, 0))
    assert isinstance(first, Start)
    assert isinstance(theirs, Start)
    assert first.config == theirs.config
    assert first.until == 1


def test_segments_grow_and_end_with_the_training() -> None:
    method = Ifbo(QuasiRandom(), growth=0.5)
    state = method.init(problem(high=200, low=10))
    ends = [0]
    while ends[-1] < 200:
        ends.append(method.until(state.book, ends[-1]))
    assert ends == [0, 10, 15, 22, 33, 49, 73, 109, 163, 200]


def test_what_diverged_is_never_continued() -> None:
    method = Ifbo(QuasiRandom(), first=1)
    state = told([[0.5, 0.4], [0.6, 0.5], [0.7, 0.6]], method)
    events = [Started(3, {"x": 0.5, "y": 0.5}, 2), Reported(3, 1, 1, {"loss": 0.1})]
    events += [Reported(3, 1, 2, {}, {"loss": "nan"}), Paused(3, 1, 2)]
    state = method.tell(state, events)
    assert thaws(state, method)[3] == 0


def test_several_slots_get_different_trials() -> None:
    method = Ifbo(QuasiRandom(), first=1)
    falling = [[1.0 - 0.05 * s - 0.01 * k for s in range(1, 5)] for k in range(6)]
    actions = method.ask(told(falling, method), 8, generator(0, 1))
    assert len(actions) == 8
    resumed = [a.trial for a in actions if isinstance(a, Resume)]
    assert len(set(resumed)) == len(resumed) > 0


def test_once_no_trial_may_begin_hopeless_ones_are_left() -> None:
    method = Ifbo(QuasiRandom(), first=1)
    done = [1.0 / s for s in range(1, 21)]
    state = told([done, [0.9] * 15, [0.8] * 15, [0.95] * 15, [0.9] * 15], method)
    assert closed(method).ask(state, 1, generator(0, 0)) == ()
    hopeful = told([[0.8 / s for s in range(1, 11)], [0.9] * 15, [0.8] * 15, [0.95] * 15], method)
    (action,) = closed(method).ask(hopeful, 1, generator(0, 0))
    assert isinstance(action, Resume)


def curve(config: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """A bowl that training digs; one corner diverges."""
    steps = np.arange(1, 21)
    floor = (config["x"] - 0.3) ** 2 + (config["y"] - 0.7) ** 2
    losses = floor + np.exp(-steps / 4.0)
    return (np.where(steps > 5, math.nan, losses) if config["x"] > 0.9 else losses), np.ones(20)


@pytest.mark.parametrize("workers", [1, 5])
def test_it_finds_a_good_training_in_a_few_trainings_worth_of_steps(workers: int) -> None:
    task = Task("bowl", problem(), curve, 0.0, 0.3)
    found = [simulate(Ifbo(Random()), task, seed=s, workers=workers, steps=120) for s in range(2)]
    assert np.mean([t.incumbent[-1] for t in found]) < 0.1
    trials = found[0].ledger.trials
    assert len(trials) > 10
    assert sum(t.step >= 20 for t in trials) >= 1


def test_crossing_curves_do_not_stop_it() -> None:
    def crossing(config: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        steps = np.arange(1, 21)
        return config["x"] + (0.5 - config["x"]) * steps / 10.0, np.ones(20)

    task = Task("crossing", problem(), crossing, 0.0, 0.5)
    trace = simulate(Ifbo(QuasiRandom()), task, steps=120)
    assert len(trace.steps) == 120


def test_many_parameters_are_reduced_to_those_that_matter() -> None:
    rng = np.random.default_rng(0)
    codes = rng.random((60, 30))
    lowest = 5.0 * codes[:, 21] - 3.0 * codes[:, 4] + 0.1 * rng.random(60)
    columns = ifbo.chosen_columns(codes, lowest)
    assert len(columns) == 16
    assert {4, 21} <= set(columns.tolist())
    assert np.all(np.diff(columns) > 0)
    np.testing.assert_array_equal(ifbo.chosen_columns(codes[:, :5], lowest), np.arange(5))


def test_a_space_of_thirty_options_and_numbers_runs() -> None:
    space = Space(
        {**{f"x{i}": Float(0, 1) for i in range(25)}, **{f"c{i}": Choice(["a", "b"]) for i in range(5)}}
    )

    def bowl(config: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        return np.linspace(2.0, config["x0"], 20), np.ones(20)

    trace = simulate(Ifbo(Random(), context=20), Task("wide", problem(space), bowl, 0.0, 0.5), steps=60)
    assert len(trace.steps) == 60


def test_candidates_are_the_proposals_and_changes_of_the_best_each_new() -> None:
    method = Ifbo(QuasiRandom(), first=1, proposals=3, near=5)
    state = told([[0.5, 0.4], [0.6, 0.5], [0.7, 0.6]], method)
    (action,) = method.ask(state, 1, generator(0, 0))
    assert isinstance(action, Start | Resume)
    assert action.why is not None
    # Three paused, three proposed, five changed.
    assert action.why["of"] == 11


def test_the_context_holds_the_best_and_a_share_of_the_rest() -> None:
    method = Ifbo(QuasiRandom(), context=10)
    state = told([[1.0 - 0.01 * k] for k in range(40)], method)
    rows = method.seen_by(state.book)
    assert len(rows) == 10
    assert set(range(35, 40)) <= set(rows.tolist())
    assert rows.min() < 5


def test_what_it_cannot_do_is_refused() -> None:
    two = Problem(SPACE, (Objective("a"), Objective("b")), Fidelity(9))
    with pytest.raises(UnsupportedError, match="needs one objective"):
        Ifbo(QuasiRandom()).init(two)
    with pytest.raises(UnsupportedError, match="needs trials that report by step"):
        Ifbo(QuasiRandom()).init(Problem(SPACE))
    with pytest.raises(ConfigError, match="whole number context >= 2"):
        Ifbo(QuasiRandom(), context=1)
    with pytest.raises(ConfigError, match="needs growth >= 0"):
        Ifbo(QuasiRandom(), growth=-1.0)


def test_a_study_of_few_trials_ends_with_a_full_training_and_can_be_replayed() -> None:
    study = tw.Study.open("s", storage="memory", space=SPACE, steps=15, method="ifbo")

    def train(trial: tw.Attempt) -> None:
        for step in trial.steps():
            trial.report(step, loss=(trial.params["x"] - 0.3) ** 2 + 1.0 / step)

    study.enqueue({"x": 0.9, "y": 0.5})
    study.run(train, trials=14, progress="none")
    assert len(study.trials) == 14
    assert study.counts["completed"] >= 2
    assert study.trials[0].status == "completed"
    assert {t.status for t in study.trials} <= {"completed", "paused"}
    study.replay()
