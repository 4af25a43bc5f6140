"""TPE: what counts as good, what it does about it, and what it costs."""

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.constraints import Linear
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import Edited, Ended, Reported, Started
from tunewright.core.problem import Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers import tpe
from tunewright.samplers.tpe import Tpe

PLANE = Space(x=Float(0.0, 1.0), y=Float(0.0, 1.0))
TREE = Space(
    m=Choice(
        {"svm": {"c": Float(1e-3, 1e3, log=True), "k": Choice(["p", "q"])}, "tree": {"depth": Int(1, 9)}}
    ),
    z=Float(-1.0, 1.0),
)


def tree_loss(c):
    if c["m"] == "tree":
        return 1.0 + abs(c["depth"] - 4) / 8 + c["z"] ** 2
    return (np.log10(c["c"]) - 1.0) ** 2 / 4 + (c["k"] != "q") * 0.5 + c["z"] ** 2


def bowl(c):
    return (c["x"] - 0.3) ** 2 + (c["y"] - 0.7) ** 2


def drive(problem, loss, n, method=None, seed=0):
    """Runs n trials one after the other; returns configurations, losses, state."""
    method = method or Tpe()
    state, configs, losses = method.init(problem), [], []
    for i in range(n):
        (action,) = method.ask(state, 1, generator(seed, i))
        value = loss(action.config)
        metrics = value if isinstance(value, dict) else {"loss": value}
        outcome = "completed" if value is not None else "failed"
        state = method.tell(state, [Started(i, action.config)])
        state = method.tell(
            state, [Ended(i, 2 * i + 1, outcome, metrics=metrics if value is not None else None)]
        )
        configs.append(action.config)
        losses.append(value)
    return configs, losses, state


@pytest.mark.parametrize(("space", "loss", "target"), [(PLANE, bowl, 2e-3), (TREE, tree_loss, 2e-2)])
def test_finds_better_points_than_random_search(space, loss, target):
    ours = [min(drive(Problem(space), loss, 80, seed=s)[1]) for s in range(5)]
    random = [min(drive(Problem(space), loss, 80, Tpe(initial=80), seed=s)[1]) for s in range(5)]
    assert np.median(ours) < target
    assert np.median(ours) < 0.5 * np.median(random)


def test_learns_the_better_branch():
    configs, _, _ = drive(Problem(TREE), tree_loss, 80, seed=3)
    assert sum(c["m"] == "svm" for c in configs[40:]) > 30


def test_asking_changes_nothing_and_repeats():
    method = Tpe()
    _, _, state = drive(Problem(TREE), tree_loss, 30)
    first = method.ask(state, 3, generator(0, 30))
    assert first == method.ask(state, 3, generator(0, 30))
    assert state.history.n == 30
    assert len(state.order) == 30


def test_maximising_the_negative_gives_the_same_trials():
    up = Problem(PLANE, (Objective("loss", "maximize"),))
    assert drive(Problem(PLANE), bowl, 30)[0] == drive(up, lambda c: -bowl(c), 30)[0]


def test_orders_by_tier_then_loss():
    problem = Problem(PLANE, limits=(Limit("memory", 1.0),))
    state = Tpe().init(problem)
    outcomes = [({"loss": 0.1, "memory": 3.0}, "completed"), ({"loss": 2.0, "memory": 1.0}, "completed")]
    outcomes += [
        (None, "failed"),
        ({"loss": 1.0, "memory": 0.0}, "completed"),
        ({"loss": 9.0, "memory": 2.0}, "completed"),
    ]
    for i, (metrics, outcome) in enumerate(outcomes):
        state = Tpe().tell(state, [Started(i, {"x": 0.1, "y": 0.1}), Ended(i, 1, outcome, metrics=metrics)])
    assert [key[3] for key in state.order] == [3, 1, 4, 0, 2]
    assert not state.waiting


def test_partly_trained_trials_rank_by_how_far_they_got():
    state = Tpe().init(Problem(PLANE))
    for i in range(3):
        state = Tpe().tell(state, [Started(i, {"x": 0.1, "y": 0.1})])
    state = Tpe().tell(state, [Reported(0, 1, 1, {"loss": 0.1}), Reported(1, 2, 3, {"loss": 0.9})])
    assert [key[3] for key in state.order] == [1, 0]
    assert list(state.waiting) == [2]
    state = Tpe().tell(
        state, [Reported(0, 1, 3, {"loss": 0.2}), Ended(2, 3, "completed", metrics={"loss": 5.0})]
    )
    assert [key[3] for key in state.order] == [2, 0, 1]
    state = Tpe().tell(state, [Ended(0, 1, "failed")])
    assert [key[3] for key in state.order] == [2, 1, 0]


def test_awaited_trials_push_new_ones_away():
    method = Tpe()
    _, _, state = drive(Problem(PLANE), bowl, 60, seed=1)
    alone = [method.ask(state, 1, generator(9, i))[0].config for i in range(40)]
    centre = np.mean([[c["x"], c["y"]] for c in alone], axis=0)
    events = [Started(60 + i, {"x": float(centre[0]), "y": float(centre[1])}) for i in range(20)]
    state = method.tell(state, events)
    crowded = [method.ask(state, 1, generator(9, i))[0].config for i in range(40)]

    def distance(configs):
        return np.mean([np.hypot(c["x"] - centre[0], c["y"] - centre[1]) for c in configs])

    assert distance(crowded) > 1.3 * distance(alone)


def test_a_batch_is_spread():
    _, _, state = drive(Problem(PLANE), bowl, 60, seed=1)
    batch = Tpe().ask(state, 8, generator(0, 60))
    assert len({tuple(a.config.values()) for a in batch}) == 8


def test_only_failures_keep_it_sampling_the_prior():
    configs, _, state = drive(Problem(PLANE), lambda c: None, 25)
    assert state.order[0][0] == 2
    assert np.std([c["x"] for c in configs[10:]]) > 0.15


def test_failures_are_avoided():
    def half(c):
        return None if c["x"] > 0.5 else c["y"]

    # Draws from the prior would fail 15 times out of 30.
    failed = [sum(c["x"] > 0.5 for c in drive(Problem(PLANE), half, 60, seed=s)[0][30:]) for s in range(5)]
    assert np.mean(failed) < 7


def test_the_design_is_spread_evenly():
    configs, _, _ = drive(Problem(PLANE, seed=4), bowl, 8)
    assert sorted(int(c["x"] * 8) for c in configs) == list(range(8))
    assert sorted(int(c["y"] * 8) for c in configs) == list(range(8))


def test_discrete_spaces_are_not_asked_twice_while_something_is_left():
    space = Space(a=Choice(["p", "q", "r"]), b=Int(1, 10))
    configs, losses, _ = drive(Problem(space), lambda c: c["b"] + (c["a"] != "q"), 25)
    assert len({tuple(c.items()) for c in configs}) >= 23
    assert min(losses) == 1


def test_constraints_hold():
    space = Space(x=Float(0, 1), y=Float(0, 1), constraints=[Linear({"x": 1.0, "y": 1.0}, 0.8)])
    configs, _, _ = drive(Problem(space), lambda c: -c["x"] - c["y"], 40)
    assert all(space.feasible(c) for c in configs)


def guessed(x, confidence=0.8):
    return Problem(Space(x=Float(0.0, 1.0, guess=x, confidence=confidence), y=Float(0.0, 1.0)))


def test_a_right_guess_helps_at_once_and_a_wrong_one_is_overcome():
    right, none = (
        np.mean([drive(p, bowl, 25, seed=s)[1] for s in range(8)]) for p in (guessed(0.3), Problem(PLANE))
    )
    assert right < 0.8 * none
    wrong = [min(drive(guessed(0.95), bowl, 80, seed=s)[1]) for s in range(5)]
    assert np.median(wrong) < 3e-3


def test_belief_is_the_density_that_the_space_draws_from():
    space = Space(
        x=Float(0.0, 1.0, guess=0.5), k=Choice(["a", "b", "c"], guess="b", confidence=0.3), z=Int(1, 9)
    )
    state = Tpe().init(Problem(space))
    x = (np.arange(1000) + 0.5) / 1000
    rows = np.array([[u, (k + 0.5) / 3, 0.5] for u in x for k in range(3)])
    assert state.belief is not None
    density = np.exp(state.belief(rows))
    assert density.mean() == pytest.approx(1.0, abs=1e-3)
    share = density.reshape(-1, 3).mean(axis=0) / density.reshape(-1, 3).mean(axis=0).sum()
    drawn = np.floor(space.sample(np.random.default_rng(0), 4000)[:, 1] * 3).astype(int)
    np.testing.assert_allclose(share, np.bincount(drawn, minlength=3) / 4000, atol=0.03)
    assert state.belief(np.full((1, 3), np.nan))[0] == 0.0


def test_a_finite_space_ends_when_everything_was_tried():
    space = Space(a=Choice(["p", "q"]), b=Int(1, 3))
    configs, _, state = drive(Problem(space), lambda c: float(c["b"]), 6)
    assert {(c["a"], c["b"]) for c in configs} == {(a, b) for a in "pq" for b in (1, 2, 3)}
    assert Tpe().ask(state, 2, generator(0, 6)) == ()


def test_several_slots_share_no_configuration_of_a_finite_space():
    space = Space(a=Choice(["p", "q"]), b=Int(1, 3))
    state = Tpe(initial=2).init(Problem(space))
    actions = Tpe(initial=2).ask(state, 9, generator(0, 0))
    assert len({repr(a.config) for a in actions}) == len(actions) == 6


def test_constraints_that_no_candidate_meets_are_repaired():
    space = Space(x=Float(0.0, 1.0), constraints=[Linear({"x": 1.0}, 0.02)])
    configs, _, _ = drive(Problem(space), lambda c: -c["x"], 14, Tpe(initial=3, candidates=1))
    assert all(space.feasible(c) for c in configs)


def test_log_scaled_whole_numbers_count_as_tried():
    space = Space(n=Int(1, 4, log=True), k=Choice(["a", "b"]))
    configs, _, state = drive(Problem(space), lambda c: float(c["n"]), 8, Tpe(initial=2))
    assert len({tuple(c.items()) for c in configs[2:]}) == 6
    assert len(state.seen) == len({tuple(c.items()) for c in configs})


def test_several_objectives_approach_the_front():
    problem = Problem(PLANE, (Objective("f"), Objective("g")))

    def both(c):
        return {"f": c["x"] + 2 * c["y"], "g": 1 - c["x"] + 2 * c["y"]}

    configs, _, state = drive(problem, both, 100)
    assert len(state.pool) == 100
    late = configs[60:]
    assert np.median([c["y"] for c in late]) < 0.1
    assert np.ptp([c["x"] for c in late]) > 0.6


def test_the_pool_stays_bounded_and_keeps_the_front(monkeypatch):
    monkeypatch.setattr(tpe, "_POOL", 40)
    monkeypatch.setattr(tpe, "_KEPT", 10)
    problem = Problem(PLANE, (Objective("f"), Objective("g")))
    state = Tpe().init(problem)
    rng = np.random.default_rng(0)
    losses = rng.random((300, 2))
    losses[17] = [-1.0, -1.0]
    for i, (f, g) in enumerate(losses.tolist()):
        state = Tpe().tell(state, [Started(i, {"x": 0.5, "y": 0.5}), Ended(i, 1, metrics={"f": f, "g": g})])
    assert len(state.pool) <= 40
    assert 17 in state.pool


def test_a_new_version_of_the_space_keeps_what_was_learned():
    _, _, state = drive(Problem(PLANE), bowl, 40)
    wider = Space(x=Float(0.0, 1.0), y=Float(0.0, 1.0), z=Choice(["a", "b"]))
    state = Tpe().tell(state, [Edited(wider.to_dict())])
    configs = [Tpe().ask(state, 1, generator(1, i))[0].config for i in range(20)]
    assert {c["z"] for c in configs} == {"a", "b"}
    assert np.mean([bowl(c) for c in configs]) < 0.1


def test_a_space_without_parameters():
    assert drive(Problem(Space()), lambda c: 1.0, 15)[0] == [{}] * 15


def test_others_are_bounded_and_spread_over_the_ranks():
    state = Tpe().init(Problem(PLANE))
    events = []
    for i in range(2000):
        events += [Started(i, {"x": 0.5, "y": 0.5}), Ended(i, 1, metrics={"loss": float(i)})]
    state = Tpe().tell(state, events)
    good = Tpe()._good(state)
    others = Tpe()._others(state, good)
    assert good == list(range(25))
    assert len(others) == 200
    assert min(others) == 25
    assert max(others) > 1980


@pytest.mark.parametrize("bad", [{"initial": 0}, {"gamma": 1.0}, {"candidates": 0}, {"belief": -1.0}])
def test_settings_are_checked(bad):
    with pytest.raises(ConfigError, match="Tpe needs"):
        Tpe(**bad)


def test_a_long_log_told_at_once_ranks_as_if_told_piece_by_piece():
    rng = np.random.default_rng(0)
    problem = Problem(PLANE, limits=(Limit("ms", 5.0),))
    events = []
    for i in range(500):
        config = PLANE.draw(rng)
        loss, ms = bowl(config), float(rng.uniform(0, 6))
        events.append(Started(i, config))
        events += [
            Reported(i, 1, s, {"loss": loss + 1 / s, "ms": ms}) for s in range(1, int(rng.integers(1, 4)))
        ]
        if rng.random() < 0.8:
            outcome = str(rng.choice(["completed", "failed", "stopped"]))
            events.append(Ended(i, 1, outcome, {"loss": loss, "ms": ms} if outcome == "completed" else None))
    method = Tpe()
    whole = method.tell(method.tell(method.init(problem), events[:60]), events[60:])
    parts = method.init(problem)
    for event in events:
        parts = method.tell(parts, [event])
    assert len(events) > 60 + tpe._MANY
    assert whole.order == parts.order
    assert whole.keys == parts.keys
    assert list(whole.waiting) == list(parts.waiting)
    assert method.ask(whole, 2, generator(1, 5)) == method.ask(parts, 2, generator(1, 5))
