from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from tunewright.core.algorithm import Start
from tunewright.core.domains import Bool, Choice, Float, Int, Order, Permutation
from tunewright.core.events import Amended, Ended, Extended, Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.explore import explored, kept, nudged, settled
from tunewright.models.flock import Flock

LINE = Space(x=Float(0, 1))


def flock_of(losses: Sequence[float | None], size: int = 0, **more: object) -> Flock:
    """Members that rest at step 2 of 10 with given losses; None for one that never reported."""
    fidelity = Fidelity(10)
    problem = Problem(LINE, fidelity=fidelity, **more)  # type: ignore[arg-type]
    flock = Flock(problem, fidelity, size or len(losses), 2)
    for trial, loss in enumerate(losses):
        flock.apply(Started(trial, {"x": trial / 10}, 2))
        if loss is not None:
            bad = {"loss": "nan"} if math.isnan(loss) else None
            flock.apply(Reported(trial, 1, 2, {} if bad else {"loss": loss, "size": loss}, bad))
        flock.apply(Paused(trial, 1, 2))
    return flock


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_worst_fifth_copies_the_best_fifth() -> None:
    flock = flock_of([float(i) for i in range(10)])
    moves = flock.plan(10, 0.2, "truncation", rng(), 0)
    forks = {m.trial: m for m in moves if m.kind == "fork"}
    assert set(forks) == {8, 9}
    assert all(m.donor in (0, 1) and m.until == 4 for m in forks.values())
    assert [m.trial for m in moves if m.kind == "resume"] == list(range(8))


def test_at_least_one_is_replaced_and_never_more_than_half() -> None:
    assert [m.kind for m in flock_of([1.0, 2.0]).plan(2, 0.2, "truncation", rng(), 0)] == ["resume", "fork"]
    assert [m.kind for m in flock_of([1.0, 2.0, 3.0]).plan(3, 0.5, "truncation", rng(), 0)] == [
        "resume",
        "resume",
        "fork",
    ]
    assert [m.kind for m in flock_of([1.0]).plan(1, 0.2, "truncation", rng(), 0)] == ["resume"]


def test_equal_results_and_unknown_ones_are_left_alone() -> None:
    assert {m.kind for m in flock_of([1.0] * 10).plan(10, 0.2, "truncation", rng(), 0)} == {"resume"}
    assert {m.kind for m in flock_of([None] * 4).plan(4, 0.2, "truncation", rng(), 0)} == {"resume"}


def test_all_that_diverged_are_replaced_and_never_copied() -> None:
    flock = flock_of([math.nan, math.nan, math.nan, 1.0, 2.0])
    moves = flock.plan(5, 0.2, "truncation", rng(), 0)
    assert [(m.kind, m.donor) for m in moves[:3]] == [("fork", 3)] * 3
    assert [m.kind for m in moves[3:]] == ["resume", "resume"]
    hopeless = flock_of([math.nan] * 4).plan(4, 0.2, "truncation", rng(), 0)
    assert {m.kind for m in hopeless} == {"resume"}


def test_a_tournament_copies_the_winner_of_a_pair() -> None:
    flock = flock_of([float(i) for i in range(10)])
    replaced = [0] * 10
    for seed in range(200):
        for move in flock.plan(10, 0.2, "tournament", np.random.default_rng(seed), 0):
            if move.kind == "fork":
                assert move.trial is not None and move.donor is not None and move.donor < move.trial
                replaced[move.trial] += 1
    # Against one of nine others at random, the member of rank r loses with probability r / 9.
    assert replaced[0] == 0
    assert 150 < replaced[9] <= 200
    assert 60 < replaced[5] < 160


def test_those_that_rest_are_preferred_as_donors_and_limits_come_first() -> None:
    flock = flock_of([1.0, 2.0] + [5.0] * 7 + [9.0])
    flock.apply(Resumed(0, 2, 4))
    forks = [m for m in flock.plan(9, 0.2, "truncation", rng(), 0) if m.kind == "fork"]
    assert [m.donor for m in forks] == [1, 1]
    flock.apply(Resumed(1, 2, 4))
    assert {m.donor for m in flock.plan(8, 0.2, "truncation", rng(), 0) if m.kind == "fork"} <= {0, 1}
    limited = flock_of([1.0, 2.0], limits=(Limit("size", 1.5),), objectives=(Objective("loss", "maximize"),))
    # Trial 1 has the better objective and exceeds the limit.
    assert limited.plan(2, 0.2, "truncation", rng(), 0)[1].donor == 0


def test_a_failed_member_is_replaced_by_a_copy_but_not_for_ever() -> None:
    flock = flock_of([1.0, 2.0, 3.0])
    flock.apply(Ended(2, 1, "failed"))
    for trial in (3, 4):
        (move,) = flock.plan(1, 0.2, "truncation", rng(), 0)
        assert (move.kind, move.trial, move.donor) == ("fork", None, 0)
        flock.apply(Started(trial, {"x": 0.5}, 4, (0, 2)))
        flock.apply(Ended(trial, 1, "failed"))
    # Two copies failed before they came to rest: the place stays empty until the donor has been trained further.
    assert flock.plan(1, 0.2, "truncation", rng(), 0)[0].kind == "resume"
    assert flock.plan(1, 0.2, "truncation", rng(), 1)[0].kind == "new"


def test_whoever_rests_at_the_lowest_step_goes_first_and_cut_segments_before_all() -> None:
    flock = flock_of([1.0, 1.0, 1.0])
    flock.apply(Resumed(0, 2, 4))
    flock.apply(Reported(0, 1, 4, {"loss": 1.0}))
    flock.apply(Paused(0, 1, 4))
    flock.apply(Resumed(1, 2, 4))
    flock.apply(Paused(1, 1, 3))
    assert [m.trial for m in flock.plan(3, 0.2, "truncation", rng(), 0)] == [1, 2, 0]


def test_a_trial_without_a_segment_is_told_to_rest() -> None:
    flock = flock_of([1.0])
    flock.apply(Started(1, {"x": 0.3}, None, by="queue"))
    flock.apply(Reported(1, 1, 1, {"loss": 1.0}))
    assert not flock.late
    flock.apply(Reported(1, 1, 2, {"loss": 1.0}))
    assert list(flock.late) == [1]
    flock.apply(Paused(1, 1, 2))
    assert not flock.late
    assert 1 in flock.ready


def test_the_base_of_a_copy_is_its_donors_result_and_then_its_own() -> None:
    flock = flock_of([1.0, 2.0])
    flock.apply(Started(2, {"x": 0.3}, 4, (0, 2)))
    assert flock.members[2].base == (0.0, 1.0)
    flock.apply(Reported(2, 1, 4, {"loss": 0.5}))
    assert flock.apply(Paused(2, 1, 4)) == 2
    assert (flock.members[2].base, flock.members[2].result) == ((0.0, 1.0), (0.0, 0.5))
    flock.apply(Resumed(2, 4, 6))
    flock.apply(Reported(2, 1, 6, {"loss": 0.25}))
    flock.apply(Paused(2, 1, 6))
    assert flock.members[2].base == (0.0, 0.5)


def test_a_worker_that_would_be_idle_begins_another_generation() -> None:
    flock = flock_of([1.0, 2.0])
    assert flock.plan(1, 0.2, "truncation", rng(), 5)[0].kind == "resume"
    flock.apply(Resumed(0, 2, 4))
    assert [m.kind for m in flock.plan(2, 0.2, "truncation", rng(), 5)] == ["fork", "new"]
    flock.apply(Resumed(1, 2, 4))
    assert flock.plan(2, 0.2, "truncation", rng(), 0) == []
    flock.apply(Started(2, {"x": 0.3}, 2))
    assert (flock.generation, flock.taken) == (1, 1)
    flock.apply(Reported(1, 1, 4, {"loss": 3.0}))
    flock.apply(Paused(1, 1, 4))
    # The older generation goes first, and is compared with its own.
    assert [(m.kind, m.trial) for m in flock.plan(2, 0.2, "truncation", rng(), 5)] == [
        ("fork", 1),
        ("new", None),
    ]


def test_a_trial_that_ends_before_it_rests_leaves_its_place() -> None:
    flock = flock_of([1.0], size=2)
    flock.apply(Started(1, {"x": 0.3}, None, by="queue"))
    assert flock.taken == 2
    flock.apply(Ended(1, 1, "completed", {"loss": 1.0}, 10))
    assert flock.taken == 1


def test_amended_configurations_are_followed() -> None:
    flock = flock_of([1.0])
    flock.apply(Amended(0, {"x": 0.9}))
    assert flock.members[0].config == {"x": 0.9}


MIXED = Space(
    lr=Float(1e-4, 1.0, log=True),
    momentum=Float(0, 1),
    layers=Int(1, 9),
    width=Order([16, 64, 256]),
    kind=Choice({"a": {"q": Float(0, 1)}, "b": None}),
    flag=Bool(),
    order=Permutation([1, 2, 3]),
)


def entry(name: str) -> object:
    return next(e for e in MIXED.entries if e.name == name)


@pytest.mark.parametrize(
    ("name", "value", "factor", "expected"),
    [
        ("lr", 0.1, 1.2, 0.12),
        ("lr", 0.1, 0.8, 0.08),
        ("lr", 0.9, 1.2, 1.0),
        ("momentum", 0.5, 1.2, 0.6),
        ("momentum", 0.0, 1.2, 0.02),
        ("momentum", 0.01, 0.8, 0.0),
        ("layers", 5, 1.2, 6),
        ("layers", 2, 1.2, 3),
        ("layers", 2, 0.8, 1),
        ("layers", 9, 1.2, 9),
        ("layers", 1, 0.8, 1),
        ("width", 64, 1.2, 256),
        ("width", 64, 0.8, 16),
        ("width", 16, 0.8, 16),
        ("kind", "a", 1.2, "a"),
        ("flag", True, 0.8, True),
    ],
)
def test_a_step_is_taken_in_the_units_of_the_parameter(
    name: str, value: object, factor: float, expected: object
) -> None:
    e = entry(name)
    codes = np.atleast_1d(np.asarray(e.encode(value), dtype=np.float64))  # type: ignore[attr-defined]
    out = nudged(e, codes, factor)  # type: ignore[arg-type]
    got = e.decode(float(out[0]))  # type: ignore[attr-defined]
    assert got == pytest.approx(expected) if isinstance(expected, float) else got == expected


def test_exploring_stays_in_the_space_and_keeps_what_a_training_cannot_change() -> None:
    config = MIXED.decode(MIXED.sample(rng(), 1)[0])
    for seed in range(100):
        row = explored(MIXED, config, np.random.default_rng(seed), resample=0.5, fixed=("width",))
        found = MIXED.decode(row)
        assert MIXED.check(found) == found
        # ``kind`` decides whether there is a ``q``; ``width`` was named.
        assert (found["kind"], found["width"]) == (config["kind"], config["width"])
    with pytest.raises(ConfigError, match="fixed must name parameters"):
        settled(MIXED, ("depth",))


def test_exploring_without_resampling_only_takes_steps_and_obeys_constraints() -> None:
    space = Space({"x": Float(0, 1), "c": Choice(["a", "b"])}, constraints=[lambda c: c["x"] <= 0.55])
    for seed in range(20):
        found = space.decode(explored(space, {"x": 0.5, "c": "b"}, np.random.default_rng(seed), resample=0.0))
        assert found["c"] == "b"
        assert found["x"] <= 0.55
    assert space.check(space.decode(explored(space, {"x": 0.5, "c": "gone"}, rng())))
    assert len(explored(Space(), {}, rng())) == 0


def completed(losses: list[float]) -> Flock:
    """Members that were trained to step 4, which was the end then, in a study whose trainings have ten steps by now."""
    flock = flock_of(list(losses))
    for trial, loss in enumerate(losses):
        flock.apply(Resumed(trial, 2, 4))
        flock.apply(Reported(trial, 1, 4, {"loss": loss}))
        flock.apply(Ended(trial, 1, "completed", {"loss": loss}, 4))
    return flock


def test_when_trainings_are_made_longer_the_members_that_had_come_to_the_end_go_on_by_forks() -> None:
    flock = completed([1.0, 2.0, 3.0])
    assert not flock.members
    flock.apply(Extended(10, 4))
    moves = flock.plan(5, 0.2, "truncation", rng(), 0)
    assert [(m.kind, m.trial, m.donor, m.until) for m in moves] == [
        ("continue", 0, None, 6),
        ("continue", 1, None, 6),
        ("fork", 2, 0, 6),
    ]
    on = flock.accepted(moves[0], rng())
    assert isinstance(on, Start)
    assert (on.config, on.parent, on.why) == ({"x": 0.0}, (0, 4), {"continues": 0, "rank": 0, "of": 3})
    # One that is over cannot be stopped, so its place is taken by the copy alone.
    (copy,) = flock.replaced(moves[2], {"x": 0.7})
    assert isinstance(copy, Start)
    assert copy.why == {"copies": 0, "replaces": 2}
    flock.apply(Started(3, on.config, 6, on.parent, why=on.why))
    flock.apply(Started(4, copy.config, 6, copy.parent, why=copy.why))
    assert set(flock.members) == {1, 3, 4}
    assert (flock.taken, flock.vacant) == (3, 0)
    assert [m.trial for m in flock.plan(5, 0.2, "truncation", rng(), 0)] == [1]


def test_trials_that_ended_early_of_their_own_stay_ended() -> None:
    flock = completed([1.0, 2.0])
    flock.apply(Extended(10, 5))
    assert not flock.members


def test_a_configuration_is_kept_as_long_as_the_space_allows() -> None:
    assert kept(LINE, {"x": 0.25}, rng()) == {"x": 0.25}
    assert kept(Space(x=Float(0.5, 1)), {"x": 0.25}, rng()) == {"x": 0.5}


@pytest.mark.parametrize("both", [True, False])
def test_several_objectives_are_compared_by_fronts_and_a_silent_one_stops_nobody(both: bool) -> None:
    fidelity = Fidelity(10)
    problem = Problem(LINE, (Objective("loss"), Objective("size")), fidelity)
    flock = Flock(problem, fidelity, 5, 2)
    for trial, (loss, size) in enumerate([(1, 9), (9, 1), (5, 5), (9, 9), (6, 6)]):
        flock.apply(Started(trial, {"x": 0.5}, 2))
        metrics = {"loss": float(loss), "size": float(size)} if both else {"loss": float(loss)}
        flock.apply(Reported(trial, 1, 2, metrics))
        flock.apply(Paused(trial, 1, 2))
    moves = flock.plan(5, 0.2, "truncation", rng(), 0)
    forks = [(m.trial, m.donor) for m in moves if m.kind == "fork"]
    if both:
        assert len(forks) == 1
        assert forks[0][0] == 3
        assert forks[0][1] in (0, 1, 2)
    else:
        assert not forks
        assert len(moves) == 5
