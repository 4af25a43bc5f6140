"""DEHB's operators and sizes against cases worked out by hand from the papers."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.brackets import brackets
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Ended, Paused, Reported, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.samplers.random import Random
from tunewright.schedulers.dehb import Course, Dehb, binomial, rand1, sizes_of, within


def test_rand1_by_hand():
    # Storn and Price 1997, eq. 2: v = x_r1 + F (x_r2 - x_r3) with F = 0.5, column by column:
    # 0.2 + 0.5 (0.9 - 0.1) = 0.6; 0.8 + 0.5 (0.9 - 0.3) = 1.1; 0.1 + 0.5 (0.0 - 0.6) = -0.2.
    mutant = rand1(np.array([0.2, 0.8, 0.1]), np.array([0.9, 0.9, 0.0]), np.array([0.1, 0.3, 0.6]), 0.5)
    assert mutant == pytest.approx([0.6, 1.1, -0.2])
    # Awad et al. 2021, section 3: what leaves [0, 1] is drawn anew.
    assert within(mutant, np.array([0.25, 0.5, 0.75])) == pytest.approx([0.6, 0.5, 0.75])


@pytest.mark.parametrize(
    ("draws", "forced", "expected"),
    [
        # Storn and Price 1997, eq. 4 and 5: from the mutant where u <= Cr = 0.5, and in the forced column always.
        ([0.5, 0.51, 0.9], 0, [1, 20, 30]),
        ([0.9, 0.9, 0.9], 2, [10, 20, 3]),
        ([0.1, 0.2, 0.3], 1, [1, 2, 3]),
        ([0.6, 0.4, 0.6], 0, [1, 2, 30]),
    ],
)
def test_binomial_crossover_by_hand(draws, forced, expected):
    target, mutant = np.array([10.0, 20.0, 30.0]), np.array([1.0, 2.0, 3.0])
    assert binomial(target, mutant, 0.5, np.array(draws), forced).tolist() == expected


@pytest.mark.parametrize(
    ("low", "high", "eta", "expected"),
    [
        # The largest column entries of Hyperband's table for R = 81, eta = 3 (Awad et al. 2021, section 4.2).
        (1, 81, 3, {1: 81, 3: 34, 9: 15, 27: 8, 81: 5}),
        # R = 8, eta = 2: brackets 8 4 2 1, 6 3 1, 4 2 and 4.
        (1, 8, 2, {1: 8, 2: 6, 4: 4, 8: 4}),
        (9, 9, 3, {9: 1}),
    ],
)
def test_sizes_of_the_populations(low, high, eta, expected):
    assert sizes_of(brackets(low, high, eta)) == expected


def populated(space, rows, losses, level=0, high=9):
    """A state whose population of one level consists of trials with the given codes and losses."""
    dehb = Dehb(Random())
    state = dehb.init(Problem(space, fidelity=Fidelity(high)))
    steps = state.levels[level]
    for i, (row, loss) in enumerate(zip(rows, losses, strict=True)):
        # Enqueued trials: they take no slot.
        state = dehb.tell(state, [Started(i, space.decode(np.array(row, dtype=float)), None)])
        state = dehb.tell(state, [Reported(i, 1, steps, {"loss": loss}), Paused(i, 1, steps)])
        state.populations[level][i] = (0.0, loss, i)
    return dehb, state


def test_a_child_on_the_first_rung_is_made_of_four_members_of_its_population():
    # Four members on a line; the target is the first. With Cr = 1 the child is the mutant of a permutation of the rest:
    # a + 0.5 (b - c) for {0.2, 0.4, 0.5} gives these six, all within [0, 1].
    space = Space(x=Float(0, 1))
    _, state = populated(space, [[0.9], [0.2], [0.4], [0.5]], [1.0, 2.0, 3.0, 4.0])
    dehb = Dehb(Random(), cr=1.0)
    course = Course([9, 3, 1], 0, promotes=False)
    found = {round(float(dehb._vector(state, course, 0, generator(0, i))[0]), 9) for i in range(200)}
    rest = (0.2, 0.4, 0.5)
    orders = [(a, b, c) for a in rest for b in rest for c in rest if len({a, b, c}) == 3]
    assert found == {round(a + 0.5 * (b - c), 9) for a, b, c in orders}


def test_parents_on_a_higher_rung_are_the_best_of_the_level_below():
    # Algorithm 2: of five members of the level below, the best three are the parents, as the rung takes three.
    space = Space(x=Float(0, 1))
    rows = [[0.1], [0.2], [0.4], [0.5], [0.95]]
    _, state = populated(space, rows, [9.0, 1.0, 2.0, 3.0, 8.0])
    dehb = Dehb(Random(), cr=1.0)
    course = Course([9, 3, 1], 0, promotes=False, rung=1)
    found = {round(float(dehb._vector(state, course, 0, generator(0, i))[0]), 9) for i in range(200)}
    rest = (0.2, 0.4, 0.5)
    orders = [(a, b, c) for a in rest for b in rest for c in rest if len({a, b, c}) == 3]
    assert found == {round(a + 0.5 * (b - c), 9) for a, b, c in orders}


def test_too_few_parents_are_filled_up_from_the_global_pool():
    # The last rung takes one: its best parent is 0.2, and two come from the other populations (section 4.3).
    space = Space(x=Float(0, 1))
    _, state = populated(space, [[0.2], [0.4], [0.5]], [1.0, 2.0, 3.0], level=1)
    dehb = Dehb(Random(), cr=1.0)
    course = Course([9, 3, 1], 0, promotes=False, rung=2)
    found = {round(float(dehb._vector(state, course, 0, generator(0, i))[0]), 9) for i in range(200)}
    rest = (0.2, 0.4, 0.5)
    orders = [(a, b, c) for a in rest for b in rest for c in rest if len({a, b, c}) == 3]
    assert found == {round(a + 0.5 * (b - c), 9) for a, b, c in orders}


def test_options_are_equal_parts_of_the_unit_interval():
    # Awad et al. 2021, appendix on mixed types: k options split [0, 1] into k equal parts.
    space = Space(c=Choice(["a", "b", "c", "d"]), x=Float(0, 1))
    rows = np.array([[0.1, 0.5], [0.25, 0.5], [0.6, 0.5], [0.99, 0.5]])
    assert [space.decode(r)["c"] for r in space.snap(rows)] == ["a", "b", "c", "d"]


def test_a_second_round_trains_from_scratch():
    # Algorithm 1: after the first round no configuration is promoted; every rung gets new ones.
    dehb = Dehb(Random())
    state = dehb.init(Problem(Space(x=Float(0, 1)), fidelity=Fidelity(3)))
    kinds = []
    until: dict[int, int] = {}
    for turn in range(11):
        (action,) = dehb.ask(state, 1, generator(0, turn))
        kinds.append(type(action).__name__)
        trial = len(until) if kinds[-1] == "Start" else action.trial
        until[trial] = action.until
        if kinds[-1] == "Start":
            state = dehb.tell(state, [Started(trial, action.config, action.until)])
        report = Reported(trial, 1, action.until, {"loss": float(trial)})
        over = Ended(trial, 1, "completed", {"loss": float(trial)}, 3)
        state = dehb.tell(state, [report, Paused(trial, 1, 1) if action.until == 1 else over])
    # R = 3, eta = 3: brackets 3 1 and 2. First round: three short ones, one resumed, two full ones.
    assert kinds == ["Start"] * 3 + ["Resume"] + ["Start"] * 7
