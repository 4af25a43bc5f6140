"""Hyperband's brackets and ASHA's promotions, against numbers from the papers and from counting by hand."""

from __future__ import annotations

import pytest

from tunewright.core.algorithm import Resume, Start, generator
from tunewright.core.brackets import brackets
from tunewright.core.domains import Float
from tunewright.core.events import Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.rungs import levels
from tunewright.core.space import Space
from tunewright.samplers.random import Random
from tunewright.schedulers.asha import Asha

# Li et al. 2018, JMLR 18(185): Algorithm 1 for R = 81, eta = 3, that is n = ceil(5 / (s + 1) * 3^s) and
# n_i = floor(n / 3^i), r_i = 81 * 3^(i - s); worked out by hand for each s.
HYPERBAND_81 = [
    ((81, 27, 9, 3, 1), (1, 3, 9, 27, 81)),
    ((34, 11, 3, 1), (3, 9, 27, 81)),
    ((15, 5, 1), (9, 27, 81)),
    ((8, 2), (27, 81)),
    ((5,), (81,)),
]
# mlr3hyperband's documentation prints this table for r_min = 1, r_max = 8, eta = 2 (its last bracket is s = 0 with 4
# configurations of 8 steps; the columns of that row are swapped there).
HYPERBAND_8 = [((8, 4, 2, 1), (1, 2, 4, 8)), ((6, 3, 1), (2, 4, 8)), ((4, 2), (4, 8)), ((4,), (8,))]


def test_brackets_of_the_paper() -> None:
    assert [(p.sizes, p.steps) for p in brackets(1, 81, 3)] == HYPERBAND_81


def test_brackets_of_mlr3() -> None:
    assert [(p.sizes, p.steps) for p in brackets(1, 8, 2)] == HYPERBAND_8


def test_no_bracket_costs_more_than_the_budget_of_the_paper() -> None:
    # Algorithm 1: B = (s_max + 1) R = 405 for each bracket, every rung counted from scratch. By hand:
    # 81 + 81 + 81 + 81 + 81; 102 + 99 + 81 + 81; 135 + 135 + 81; 216 + 162; 405.
    plans = brackets(1, 81, 3)
    scratch = [sum(n * r for n, r in zip(p.sizes, p.steps, strict=True)) for p in plans]
    assert scratch == [405, 363, 351, 378, 405]
    # With pause and resume only the additional steps are paid: 81 + 27 2 + 9 6 + 3 18 + 54; ...
    paid = [
        sum(n * (r - before) for n, r, before in zip(p.sizes, p.steps, (0, *p.steps), strict=False))
        for p in plans
    ]
    assert paid == [297, 276, 279, 324, 405]


def test_brackets_grow_by_a_rung_when_trainings_become_longer() -> None:
    # Brandt et al. 2023, section 4: with R three times as long, the bracket that begins with r steps has one rung more and
    # a larger pool, n = ceil((s_max + 1) 3^s / (s + 1)) with both s and s_max larger by one. R = 27: 27, 12, 6, 4.
    short, long = brackets(1, 27, 3), brackets(1, 81, 3)
    assert [p.sizes[0] for p in short] == [27, 12, 6, 4]
    assert [p.sizes[0] for p in long] == [81, 34, 15, 8, 5]
    for before, after in zip(short, long, strict=False):
        assert after.steps == (*before.steps, 81)
        assert all(n >= m for n, m in zip(after.sizes, before.sizes, strict=False))


@pytest.mark.parametrize(
    ("low", "high", "eta", "expected"),
    [
        (1, 81, 3, (1, 3, 9, 27, 81)),
        (1, 100, 3, (1, 4, 11, 33, 100)),  # 100/3, 100/9, 100/27, 100/81 rounded
        (
            4,
            256,
            4,
            (4, 16, 64, 256),
        ),  # Li et al. 2020, section 4: r = R/256 with eta = 4, s = 1 drops the lowest
        (5, 5, 3, (5,)),
        (2, 3, 2, (3,)),  # 1.5 is below 2
        (1, 10, 2.5, (2, 4, 10)),
    ],
)
def test_levels(low: int, high: int, eta: float, expected: tuple[int, ...]) -> None:
    assert levels(low, high, eta) == expected


# Trial i has loss LOSSES[i] at every step; nine configurations, eta = 3, R = 9, one worker (Li et al. 2020, Algorithm
# 2, followed by hand). Of the first 3 the best is trial 1: it goes to 3 steps. Trial 4 is the best of 5, so it goes
# too; of 6 trials the best two are {4, 1}, both gone already, and so it stays with 7 and 8. Of 9 trials the best
# three are {8, 4, 1}: trial 8 goes. Rung 3 now holds {1, 4, 8}, the best of which is 8: it goes to 9 steps.
LOSSES = [5, 2, 7, 8, 1, 6, 4, 3, 0]
BY_HAND = ["0", "1", "2", "1>3", "3", "4", "4>3", "5", "6", "7", "8", "8>3", "8>9"]


def test_asha_promotes_as_counted_by_hand() -> None:
    problem = Problem(Space(x=Float(0, 1)), fidelity=Fidelity(9))
    algorithm = Asha(Random())
    state = algorithm.init(problem)
    seen: list[str] = []
    trials = 0
    for turn in range(len(BY_HAND)):
        (action,) = algorithm.ask(state, 1, generator(0, turn))
        if isinstance(action, Start):
            number, until = trials, action.until
            trials += 1
            seen.append(str(number))
            state = algorithm.tell(state, [Started(number, action.config, until)])
        else:
            assert isinstance(action, Resume)
            number, until = action.trial, action.until
            seen.append(f"{number}>{until}")
            state = algorithm.tell(state, [Resumed(number, 0, until)])
        assert until is not None
        report = Reported(number, 1, until, {"loss": float(LOSSES[number])})
        state = algorithm.tell(state, [report, Paused(number, 1, until)])
    assert seen == BY_HAND
