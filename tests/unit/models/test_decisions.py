"""Configurations as decisions: every one can be reached, and following a row gives that row."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.constraints import Range
from tunewright.core.domains import Bool, Choice, Float, Int, Order, Permutation, Subset
from tunewright.core.space import Space
from tunewright.models.breeding import filled
from tunewright.models.decisions import cells_of, decide, spots_of

SPACES = {
    "flat": Space(x=Float(0, 1), o=Order([1, 2, 3, 4, 5]), c=Choice(list("abc")), b=Bool(), one=Choice(["o"])),
    "tree": Space(m=Choice({"a": {"n": Int(1, 9, log=True), "k": Choice({"p": {"q": Bool()}, "r": None})}, "b": None})),
    "grouped": Space(order=Permutation(list("abcd")), some=Subset(["u", "v", "w"], least=1, most=2), x=Int(0, 3)),
    "when": Space({"x": Float(0, 1), "y": Float(0, 1)}, when={"y": {"x": Range(low=0.5)}}),
}  # fmt: skip


def follow(walk, answers=None):
    """Runs a walk, by its known row or by given answers; returns the row and the decisions."""
    decisions = []
    try:
        k, wanted = next(walk)
        while True:
            option = wanted if answers is None else answers[len(decisions)]
            decisions.append((k, option))
            k, wanted = walk.send(option)
    except StopIteration as end:
        return np.array(end.value), decisions


@pytest.mark.parametrize("bisect", [True, False])
@pytest.mark.parametrize("kind", SPACES)
def test_following_a_row_gives_the_row(kind, bisect):
    space = SPACES[kind]
    spots = spots_of(space, 32, bisect)
    for row in space.sample(np.random.default_rng(0), 60):
        again, decisions = follow(decide(spots, row))
        assert np.array_equal(again, row, equal_nan=True)
        assert all(0 <= option < k and k >= 2 for k, option in decisions)


@pytest.mark.parametrize("bisect", [True, False])
@pytest.mark.parametrize("kind", SPACES)
def test_any_decisions_lead_to_a_configuration_that_leads_back_to_them(kind, bisect):
    space = SPACES[kind]
    spots = spots_of(space, 32, bisect)
    rng = np.random.default_rng(1)
    for _ in range(60):
        known = filled(space.sample(rng, 1)[0], rng)
        walk = decide(spots, known)
        taken = []
        try:
            k, _ = next(walk)
            while True:
                taken.append((k, int(rng.integers(k))))
                k, _ = walk.send(taken[-1][1])
        except StopIteration as end:
            row = np.array(end.value)
        snapped = space.encode(space.decode(space.snap(row[None])[0]))
        assert follow(decide(spots, snapped))[1] == taken


def test_the_tree_of_a_finite_space_has_a_leaf_for_every_configuration():
    for kind in ("tree", "grouped"):
        space = SPACES[kind]
        leaves = {tuple(follow(decide(spots_of(space, 32, True), row))[1]) for row in space.grid(100)}
        assert len(leaves) == len(space.grid(100)) == space.size


def test_what_is_halved():
    space = Space(o=Order([1, 2, 3]), few=Choice(list(range(8))), many=Choice(list(range(9))), x=Float(0, 1))
    assert [s.halved for s in spots_of(space, 32, True)] == [True, False, True, True]
    assert [s.halved for s in spots_of(space, 32, False)] == [False] * 4


def test_the_middle_of_five_belongs_to_the_upper_part():
    spots = spots_of(Space(o=Order([1, 2, 3, 4, 5])), 32, True)
    paths = [[o for _, o in follow(decide(spots, np.array([u])))[1]] for u in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert paths == [[0, 0], [0, 1], [1, 0], [1, 1, 0], [1, 1, 1]]


def test_cells_of_numbers():
    cells = cells_of(Float(0, 1), 4)
    assert cells.edges.tolist() == [0.25, 0.5, 0.75]
    assert [cells.of(u) for u in (0.0, 0.24, 0.25, 0.99, 1.0)] == [0, 0, 1, 3, 3]
    # As far within the third cell as 0.1 is within the first.
    assert cells.moved(0.1, 2) == pytest.approx(0.6)
    assert cells_of(Order([1, 2, 4]), 32).moved(0.2, 2) == pytest.approx(5 / 6)


@pytest.mark.parametrize("domain", [Int(1, 9, log=True), Int(1, 2**40, log=True), Int(1, 10**6), Float(0, 9, step=0.001)])  # fmt: skip
def test_no_cell_of_whole_numbers_is_empty(domain):
    cells = cells_of(domain, 32)
    encode, decode = domain.coder()
    assert len(cells.centres) == min(32, len({decode(u) for u in np.linspace(1 / 64, 63 / 64, 32)}))
    for cell, centre in enumerate(cells.centres.tolist()):
        assert cells.of(encode(decode(centre))) == cell
        for u in np.random.default_rng(0).random(50):
            moved = cells.moved(encode(decode(u)), cell)
            assert cells.of(encode(decode(moved))) == cell
