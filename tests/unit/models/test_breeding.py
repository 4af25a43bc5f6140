"""Crossover and mutation of codes."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.domains import Choice, Float, Int
from tunewright.core.space import Space
from tunewright.models.breeding import (
    filled,
    mutated,
    offspring,
    other_options,
    polynomial_step,
    reflected,
    sbx,
)

MIXED = Space(x=Float(0, 1), n=Int(0, 4), c=Choice(["a", "b", "c"])).layout


def test_inactive_codes_come_from_the_other_parent_or_chance():
    rng = np.random.default_rng(0)
    row = filled(np.array([0.1, np.nan, np.nan]), rng, np.array([0.9, 0.4, np.nan]))
    assert row[:2].tolist() == [0.1, 0.4]
    assert 0.0 <= row[2] < 1.0


def test_reflection_folds_at_both_ends():
    assert reflected(np.array([-0.2, 1.3, 0.5, 2.25])) == pytest.approx([0.2, 0.7, 0.5, 0.25])


def test_a_crossed_child_stays_in_range_and_keeps_the_mean_of_its_parents():
    rng = np.random.default_rng(1)
    a, b = np.full(20_000, 0.4), np.full(20_000, 0.6)
    child = sbx(a, b, 20.0, rng, share=1.0)
    assert child.min() >= 0.0
    assert child.max() <= 1.0
    assert child.mean() == pytest.approx(0.5, abs=0.003)
    # A large index keeps children near their parents.
    assert np.minimum(abs(child - 0.4), abs(child - 0.6)).mean() < 0.02


def test_equal_parents_have_equal_children():
    a = np.full(50, 0.3)
    assert sbx(a, a, 20.0, np.random.default_rng(0), share=1.0).tolist() == a.tolist()


def test_polynomial_mutation_ends_at_the_bounds():
    x = np.array([0.3, 0.3, 0.3])
    # By hand: u = 0 reaches the lower bound, u = 1 the upper one, u = 1/2 stays.
    assert x + polynomial_step(x, 20.0, np.array([0.0, 0.5, 1.0])) == pytest.approx([0.0, 0.3, 1.0])


def test_another_option_is_never_the_same():
    rng = np.random.default_rng(2)
    row = np.array([0.5, 0.5, 0.5])
    seen = {round(float(other_options(row, MIXED, rng)[2]), 3) for _ in range(100)}
    assert seen == {round(1 / 6, 3), round(5 / 6, 3)}


def test_a_mutated_level_moves_by_at_least_one():
    rng = np.random.default_rng(3)
    row = np.array([0.5, 0.5, 0.5])
    for _ in range(50):
        n = mutated(row, MIXED, 20.0, 1.0, rng)[1]
        assert min(int(n * 5), 4) != 2


def test_without_crossover_and_mutation_the_first_parent_is_copied():
    row = np.array([0.2, 0.5, 0.5])
    assert mutated(row, MIXED, 20.0, 0.0, np.random.default_rng(0)).tolist() == row.tolist()


def test_options_of_a_child_are_those_of_a_parent_unless_mutated():
    rng = np.random.default_rng(4)
    a, b = np.array([0.1, 0.1, 1 / 6]), np.array([0.9, 0.9, 5 / 6])
    options = [float(offspring(a, b, MIXED, 20.0, rng)[2]) for _ in range(300)]
    share = np.mean([abs(o - 0.5) < 0.1 for o in options])
    # The third option appears by mutation only: chance 1/3 times 1/2.
    assert share == pytest.approx(1 / 6, abs=0.08)
