"""The counters of a trust region, its candidates, and the region as a fold of the log."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tunewright.bench.functions import function_task
from tunewright.bench.simulate import simulate
from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.turbo import FIRST, LEAST, MOST, Region, Turbo, perturbed

SPACE = Space(x=Float(0, 1), y=Float(0, 1))


def fold(turbo, losses, problem=None):
    problem = problem or Problem(SPACE)
    state = turbo.init(problem)
    for i, loss in enumerate(losses):
        state = turbo.tell(state, [Started(i, {"x": (0.1 + 0.37 * i) % 1, "y": (0.7 * i) % 1})])
        end = Ended(i, 0, "failed", error="x") if loss is None else Ended(i, 0, "completed", {"loss": loss})
        state = turbo.tell(state, [end])
    return state


def test_three_successes_double_the_edge_up_to_the_most():
    region = Region(0, np.array([1.0]))
    for _ in range(3):
        assert not region.judge(True, 4)
    assert region.edge == 2 * FIRST == MOST
    for _ in range(3):
        region.judge(True, 4)
    assert region.edge == MOST


def test_failures_in_a_row_halve_the_edge_and_a_success_interrupts_them():
    region = Region(0, np.array([1.0]))
    for _ in range(3):
        region.judge(False, 4)
    region.judge(True, 4)
    for _ in range(3):
        region.judge(False, 4)
    assert region.edge == FIRST
    region.judge(False, 4)
    assert region.edge == FIRST / 2


def test_a_success_betters_the_best_by_a_thousandth():
    region = Region(0, np.array([np.inf]))
    assert region.take(np.array([10.0]), 0.0)
    assert not region.take(np.array([9.9901]), 0.0)
    assert region.best[0] == 9.9901
    assert region.take(np.array([9.97]), 0.0)
    assert not region.take(np.array([np.nan]), 0.0)
    assert not region.take(np.array([1.0]), 0.5)


def test_coming_closer_to_the_limits_is_a_success():
    region = Region(0, np.array([np.inf]))
    assert region.take(np.array([1.0]), 2.0)
    assert region.take(np.array([5.0]), 1.0)
    assert region.best[0] == 5.0


def test_a_region_is_the_fold_of_its_results():
    turbo = Turbo(initial=2, patience=2)
    state = fold(turbo, [5.0, 4.0, 4.5, None])
    assert state.regions[0].edge == FIRST / 2
    assert state.regions[0].best[0] == 4.0


def test_a_collapsed_region_is_left_and_its_late_results_do_not_count():
    turbo = Turbo(initial=1, patience=1)
    halvings = int(np.log2(FIRST / LEAST)) + 1
    state = fold(turbo, [1.0] + [2.0] * halvings)
    region = state.regions[0]
    assert (region.born, region.edge, region.ended) == (1 + halvings, FIRST, 0)
    (start,) = turbo.ask(state, 1, generator(0, 0))
    assert "design" in start.why


def test_regions_take_turns():
    turbo = Turbo(initial=1, regions=2, patience=1)
    state = fold(turbo, [1.0, 10.0, 2.0, 9.0])
    assert [r.best[0] for r in state.regions] == [1.0, 9.0]
    assert [r.edge for r in state.regions] == [FIRST / 2, FIRST]


def test_candidates_stay_in_the_box_and_in_the_hamming_ball():
    space = Space(x=Float(0, 1), n=Int(1, 4), **{f"c{i}": Choice(["a", "b", "c", "d"]) for i in range(4)})
    centre = space.encode({"x": 0.5, "n": 2, **{f"c{i}": "a" for i in range(4)}})
    rows = perturbed(space.layout, centre, 0.2, np.zeros(space.d), 4000, generator(0, 0))
    names = [c.name for c in space.columns]
    x, n = rows[:, names.index("x")], rows[:, names.index("n")]
    assert 0.4 <= x.min() < 0.41
    assert 0.59 < x.max() <= 0.6
    # A neighbouring level is always within reach: 1.5 levels on each side of the middle of level 2.
    assert set(np.floor(n * 4).astype(int)) == {0, 1, 2}
    cats = [names.index(f"c{i}") for i in range(4)]
    changed = (np.floor(rows[:, cats] * 4) != np.floor(centre[cats] * 4)).sum(axis=1)
    assert changed.max() == 1


def test_twenty_columns_move_in_high_dimension():
    space = Space({f"x{i}": Float(0, 1) for i in range(100)})
    rows = perturbed(space.layout, np.full(100, 0.5), 0.8, np.zeros(100), 2000, generator(0, 0))
    moved = (rows != 0.5).sum(axis=1)
    assert moved.min() >= 1
    # 20 of 100 by the mask, and the forced column adds 1 - 0.2 on average; the mean of 2000 is within 0.5.
    assert moved.mean() == pytest.approx(20.8, abs=0.5)


def test_a_hundred_parameters_are_asked_quickly():
    task = function_task("levy", 5, idle=95)
    began = time.process_time()
    simulate(Turbo(), task, trials=60)
    assert (time.process_time() - began) / 60 < 0.15


@pytest.mark.parametrize("settings", [{"initial": 0}, {"regions": 0}, {"candidates": 0}, {"patience": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="Turbo needs"):
        Turbo(**settings)
