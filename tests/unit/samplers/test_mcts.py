"""Monte-Carlo tree search: how the tree grows, what rewards are, and which branch is taken."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.constraints import Linear, Range
from tunewright.core.domains import Bool, Choice, Float, Int, Order, Permutation, Subset
from tunewright.core.events import Amended, Edited, Ended, Reported, Started
from tunewright.core.problem import Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.mcts import Mcts, rewards, uct

TREE = Space(a=Choice({"deep": {"n": Order([1, 2, 4, 8])}, "flat": None}), b=Bool())


def tell(method, state, config, loss, number=None):
    trial = state.history.n if number is None else number
    end = Ended(trial, 0, "failed") if loss is None else Ended(trial, 0, "completed", {"loss": loss})
    return method.tell(state, [Started(trial, config), end])


def test_the_bound_by_hand():
    # 0.25 + 0.5 sqrt(2 ln(e^2) / 4) = 0.25 + 0.5
    assert uct(0.25, 4.0, math.e**2, 0.5) == pytest.approx(0.75)
    assert uct(0.25, 1.0, 1.0, 0.5) == 0.25
    assert uct(0.6, 3.0, 50.0, 0.0) == 0.6


def test_a_trial_adds_one_node():
    method = Mcts(bisect=False)
    state = method.init(Problem(TREE))
    configs = [
        {"a": "deep", "n": 4, "b": True},
        {"a": "deep", "n": 4, "b": True},
        {"a": "deep", "n": 1, "b": True},
        {"a": "flat", "b": False},
        {"a": "deep", "n": 4, "b": False},
    ]
    for config in configs:
        state = tell(method, state, config, 1.0)
    # The root grows first; then deep (option 0); then n=1 (0) under it; flat (1); n=4 (2) under deep.
    assert state.children == [{0: 1, 1: 3}, {0: 2, 2: 4}, {}, {}, {}]
    assert state.grown == [True] * 5
    assert state.trials.tolist() == [0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4]
    assert state.nodes.tolist() == [0, 0, 1, 0, 1, 2, 0, 3, 0, 1, 4]


def test_bisection_finds_an_option_half_by_half():
    method = Mcts()
    state = method.init(Problem(Space(n=Order([1, 2, 4, 8]))))
    for _ in range(4):
        state = tell(method, state, {"n": 4}, 1.0)
    # The upper half (1), then the lower of it (0), and nothing below.
    assert state.children == [{1: 1}, {0: 2}, {}]
    assert state.grown == [True, True, False]


def test_rewards_are_ranks_and_equal_losses_earn_the_same():
    method = Mcts()
    state = method.init(Problem(TREE))
    for loss in (3.0, 1.0, 1.0, None, 1e300):
        state = tell(method, state, {"a": "flat", "b": True}, loss)
    state = method.tell(state, [Started(5, {"a": "flat", "b": False})])
    assert rewards(state.history).tolist()[:5] == [0.5, 0.875, 0.875, 0.0, 0.25]
    assert math.isnan(rewards(state.history)[5])
    # Partly trained, it comes after those that are complete, whatever its loss.
    state = method.tell(state, [Reported(5, 0, 1, {"loss": 0.0})])
    assert rewards(state.history)[5] == pytest.approx(0.2)
    state = method.tell(state, [Ended(5, 0, "completed", {"loss": 0.0})])
    assert rewards(state.history)[5] == 1.0


def test_rewards_of_a_constant_and_of_one_trial_are_a_half():
    method = Mcts()
    state = method.init(Problem(TREE))
    assert rewards(state.history).tolist() == []
    for n in range(1, 4):
        state = tell(method, state, {"a": "flat", "b": True}, 7.0)
        assert rewards(state.history).tolist() == [0.5] * n
    failing = method.init(Problem(TREE))
    for _ in range(3):
        failing = tell(method, failing, {"a": "flat", "b": True}, None)
    assert rewards(failing.history).tolist() == [0.5] * 3


def test_what_exceeds_a_limit_earns_less_than_what_does_not():
    problem = Problem(TREE, (Objective("loss"),), None, (Limit("latency", 1.0),))
    method = Mcts()
    state = method.init(problem)
    for i, (loss, latency) in enumerate([(0.0, 3.0), (9.0, 0.5), (0.0, 2.0)]):
        end = Ended(i, 0, "completed", {"loss": loss, "latency": latency})
        state = method.tell(state, [Started(i, {"a": "flat", "b": True}), end])
    assert rewards(state.history).tolist() == [0.0, 1.0, 0.5]


def test_every_option_is_tried_before_any_is_tried_again():
    method = Mcts(bisect=False)
    space = Space(c=Choice(list("abcdefg")), x=Float(0, 1))
    state = method.init(Problem(space))
    seen = []
    for i in range(8):
        (action,) = method.ask(state, 1, generator(0, i))
        seen.append(action.config["c"])
        state = tell(method, state, action.config, float(i))
    # The first trial only grows the root.
    assert sorted(seen[1:]) == list("abcdefg")


def test_proposals_of_one_decision_and_awaited_trials_count_as_visits():
    method = Mcts(bisect=False)
    space = Space(c=Choice(list("abcd")), x=Float(0, 1))
    state = tell(method, method.init(Problem(space)), {"c": "a", "x": 0.1}, 1.0)
    actions = method.ask(state, 4, generator(0, 0))
    assert sorted(a.config["c"] for a in actions) == list("abcd")
    for i, action in enumerate(actions[:3]):
        state = method.tell(state, [Started(i + 1, action.config)])
    (last,) = method.ask(state, 1, generator(5, 0))
    assert last.config["c"] == actions[3].config["c"]


@pytest.mark.parametrize("bisect", [True, False])
def test_the_better_branch_gets_most_trials(bisect):
    space = Space(n=Order([1, 2, 3, 4]), x=Float(0, 1))
    method = Mcts(bisect=bisect, exploration=0.2)
    state = method.init(Problem(space))
    counts: Counter[int] = Counter()
    for i in range(120):
        (action,) = method.ask(state, 1, generator(1, i))
        counts[action.config["n"]] += 1
        state = tell(method, state, action.config, abs(action.config["n"] - 3) + 0.3 * action.config["x"])
    assert counts[3] > 60
    assert counts[4] >= 1
    assert counts[1] + counts[2] >= 1


def test_rollouts_follow_the_guesses():
    space = Space(x=Float(0, 1, guess=0.9, confidence=0.95), y=Float(0, 1))
    method = Mcts()
    state = method.init(Problem(space))
    drawn = [method.ask(state, 1, generator(s, 0))[0].config for s in range(60)]
    assert np.mean([c["x"] > 0.7 for c in drawn]) > 0.8
    assert 0.3 < np.mean([c["y"] for c in drawn]) < 0.7


def test_a_branch_without_allowed_configurations_is_left_out():
    space = Space(
        {"c": Choice(["good", "bad"]), "x": Float(0, 1)},
        constraints=[lambda config: config["c"] == "good"],
    )
    method = Mcts()
    state = method.init(Problem(space))
    for i in range(10):
        (action,) = method.ask(state, 1, generator(0, i))
        assert action.config["c"] == "good"
        state = tell(method, state, action.config, action.config["x"])
    assert len(state.children) > 5, "the tree grows in spite of the closed branch"


def test_a_finite_space_is_tried_once_over_and_then_it_ends():
    method = Mcts(bisect=False)
    state = method.init(Problem(TREE))
    seen = []
    while actions := method.ask(state, 3, generator(4, state.history.n)):
        for action in actions:
            seen.append(action.config)
            state = tell(method, state, action.config, float(len(seen)))
    assert len(seen) == len({str(c) for c in seen}) == TREE.size == 10
    assert method.ask(state, 0, generator(4, 0)) == ()


def test_there_need_be_nothing_to_choose():
    method = Mcts()
    state = method.init(Problem(Space()))
    for i in range(3):
        assert method.ask(state, 1, generator(0, i))[0].config == {}
        state = tell(method, state, {}, 1.0)


def test_no_allowed_configuration_within_reach_falls_back_on_a_draw():
    # One in twenty thousand is allowed: walks that leave a draw of the space break the constraint.
    space = Space(
        {"x": Float(0, 1), "y": Float(0, 1)},
        constraints=[Linear({"x": 1.0, "y": 1.0}, 1e-2)],
    )
    method = Mcts()
    state = method.init(Problem(space))
    for i in range(12):
        (action,) = method.ask(state, 1, generator(0, i))
        assert space.feasible(action.config)
        state = tell(method, state, action.config, action.config["x"])


def test_an_edited_space_and_an_amended_trial_grow_the_tree_anew():
    method = Mcts()
    state = method.init(Problem(TREE))
    for _ in range(3):
        state = tell(method, state, {"a": "deep", "n": 8, "b": True}, 1.0)
    narrow = Space(a=Choice({"flat": None, "deep": {"n": Order([2, 8])}}), b=Bool())
    state = method.tell(state, [Edited(narrow.to_dict())])
    assert state.children == [{1: 1}, {1: 2}, {}]
    state = method.tell(state, [Amended(2, {"a": "flat", "b": True})])
    assert state.children == [{1: 1, 0: 2}, {}, {}]


def test_many_awaited_trials_and_odd_parameters():
    space = Space(
        {
            "order": Permutation(list("abcde")),
            "some": Subset(["u", "v", "w"], least=1),
            "k": Int(1, 2**40, log=True),
            "x": Float(0, 10, step=0.001),
            "deep": Choice({"in": {"y": Float(0, 1)}, "out": None}),
            "z": Float(0, 1),
        },
        when={"z": {"x": Range(low=5.0)}},
    )
    method = Mcts()
    state = method.init(Problem(space))
    for i in range(50):
        (action,) = method.ask(state, 1, generator(2, i))
        state = method.tell(state, [Started(i, action.config)])
    assert len({str(c) for c in state.history.configs}) == 50
    assert len(method.ask(state, 50, generator(2, 99))) == 50


@pytest.mark.parametrize("settings", [{"exploration": -1.0}, {"exploration": math.nan}, {"cells": 1}])
def test_settings_are_refused(settings):
    with pytest.raises(ConfigError, match="Mcts needs"):
        Mcts(**settings)
