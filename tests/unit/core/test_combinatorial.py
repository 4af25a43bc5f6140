"""Orders and selections: coding, draws with equal chances, repair, versions of a space, conditions, beliefs."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from tunewright.core.combinatorial import Permutation, Subset
from tunewright.core.constraints import Linear
from tunewright.core.domains import Choice, Float, Int, domain_from_dict
from tunewright.core.space import Space
from tunewright.errors import SpaceError
from tunewright.models.belief import log_belief

ITEMS = ["wash", "dry", "fold", "iron"]


def rng(seed=0):
    return np.random.default_rng(seed)


def test_positions_are_codes_and_their_distance_is_spearmans():
    p = Permutation(ITEMS)
    a, b = ["wash", "dry", "fold", "iron"], ["dry", "wash", "iron", "fold"]
    assert p.encode(b) == [0.375, 0.125, 0.875, 0.625]
    # Spearman's distance: four items, each one place off, sums to 4.
    assert 16 * np.sum((np.array(p.encode(a)) - p.encode(b)) ** 2) == pytest.approx(4.0)
    assert p.decode(p.encode(b)) == b
    assert p.decode([0.9, 0.1, 0.1, 0.2]) == ["dry", "fold", "iron", "wash"]


@pytest.mark.parametrize(
    ("domain", "count"),
    [(Permutation(ITEMS), 24), (Subset(ITEMS), 16), (Subset(ITEMS, 1, 2), 10), (Subset(ITEMS, 2, 2), 6), (Permutation([1]), 1)],
)  # fmt: skip
def test_draws_have_equal_chances_and_every_value_is_listed(domain, count):
    assert domain.count == count == len(domain.every())
    values = [tuple(domain.decode(row)) for row in domain.draw(rng(), 200 * count).tolist()]
    counts = Counter(values)
    assert len(counts) == count
    # Chi-square of a uniform law: mean count - 1, and beyond 2.5 times that (plus 20) with chance below 1e-4.
    assert sum((c - 200) ** 2 / 200 for c in counts.values()) < 2.5 * (count - 1) + 20


@pytest.mark.parametrize("domain", [Permutation(ITEMS), Subset(ITEMS, 1, 2), Subset(ITEMS)])
def test_snapping_agrees_with_decoding_and_moves_nothing_twice(domain):
    rows = rng(1).random((50, 4))
    snapped = domain.snap(rows)
    np.testing.assert_array_equal(domain.snap(snapped), snapped)
    for raw, row in zip(rows.tolist(), snapped.tolist(), strict=True):
        assert domain.decode(raw) == domain.decode(row)
        assert domain.encode(domain.decode(row)) == row


def test_a_selection_too_large_keeps_the_options_with_the_largest_keys():
    assert Subset(ITEMS, 1, 2).decode([0.9, 0.6, 0.1, 0.8]) == ["wash", "iron"]
    assert Subset(ITEMS, 2).decode([0.4, 0.1, 0.7, 0.2]) == ["wash", "fold"]


def test_equal_keys_favour_no_option():
    domain = Subset(list(range(6)), 0, 1)
    rows = np.where(rng(2).random((3000, 6)) < 0.5, 0.75, 0.25)
    kept = (domain.snap(rows) > 0.5).mean(axis=0)
    assert kept.max() < 2.0 * kept.min()


@pytest.mark.parametrize(
    "domain", [Permutation(["a", 1, None, True]), Subset(["a", 1, True], 1, 2, guess=["a"], confidence=0.7)]
)
def test_the_json_form_comes_back(domain):
    assert domain_from_dict(domain.to_dict()) == domain
    assert hash(domain_from_dict(domain.to_dict())) == hash(domain)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Permutation("abc"), "Permutation needs a list"),
        (lambda: Permutation([]), "at least one option"),
        (lambda: Permutation([1, 1]), "distinct options"),
        (lambda: Permutation([1, 2], guess=[1]), "guess must list every item once"),
        (lambda: Permutation(range(1001)), "at most 1000 options"),
        (lambda: Subset([1, 2], 2, 1), "0 <= least <= most <= 2"),
        (lambda: Subset([1, 2], 0.5), "whole numbers for its sizes"),
        (lambda: Subset([1, 2], guess=[3]), "guess must be 0 to 2 of 1, 2"),
        (lambda: Subset([1, 2], 1, guess=[]), "guess must be 1 to 2 of 1, 2"),
        (lambda: Space(p=Permutation([1, 2]), x=Float(0, 1), when={"x": {"p": 1}}), "one option of a Subset"),
        (lambda: Space(s=Subset(["a"]), x=Float(0, 1), when={"x": {"s": "b"}}), "one option of a Subset"),
        (lambda: Space({"s": Subset([1])}, constraints=[Linear({"s": 1}, 0)]), "needs numbers"),
        (lambda: Space({"p": Permutation([1, 2])}, forbidden=[{"p": 1}]), "possible values"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(SpaceError, match=message):
        make()


SPACE = Space(
    order=Permutation(ITEMS),
    m=Choice({"a": {"extras": Subset(["x", "y", "z"], most=2), "p": Permutation([1, 2])}, "b": None}),
    flags=Subset(["on", "off"], least=1),
    depth=Int(1, 5),
    when={"depth": {"flags": "on"}},
    forbidden=[{"flags": [["on", "off"]]}, {"m": "b", "order": [ITEMS]}],
)


def test_a_space_holds_them_in_branches_with_conditions_and_bans():
    assert SPACE.d == 4 + 1 + 3 + 2 + 2 + 1
    assert [e.name for e in SPACE.entries] == ["order", "m", "extras", "p", "flags", "depth"]
    assert SPACE.layout.group.tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 3, 3, 4, 4, 5]
    for row in SPACE.sample(rng(), 300):
        config = SPACE.decode(row)
        np.testing.assert_array_equal(SPACE.encode(config), row)
        assert SPACE.check(config) == config
        assert ("depth" in config) == ("on" in config["flags"])
        assert config["flags"] != ["on", "off"]
    assert Space.from_dict(SPACE.to_dict()) == SPACE
    changed = "~ order: an order of 'wash', 'dry', 'fold', 'iron' -> an order of 'wash', 'dry', 'fold'"
    assert changed in SPACE.diff(Space(order=Permutation(ITEMS[:3])))


def test_the_grid_has_every_configuration_once():
    rows = SPACE.grid()
    # m=a: 24 orders x 7 selections x 2 orders; m=b: 23 orders. Flags: on with five depths, or off.
    assert len(rows) == (24 * 7 * 2 + 23) * 6
    assert len({row.tobytes() for row in np.nan_to_num(rows, nan=-1)}) == len(rows)
    with pytest.raises(SpaceError, match="at most 100000 points"):
        Space(p=Permutation(range(20))).grid()
    assert Space(p=Permutation(range(20))).size == float(math.factorial(20))


def test_values_may_be_tuples_and_selections_in_any_order():
    space = Space(p=Permutation([1, 2]), s=Subset(["a", "b", "c"]))
    assert space.check({"p": (2, 1), "s": np.array(["c", "a"])}) == {"p": [2, 1], "s": ["a", "c"]}
    assert space.merge(np.full(5, 0.2), {"s": ["c"]}) == {"p": [1, 2], "s": ["c"]}
    with pytest.raises(SpaceError, match="'p' must be an order of 1, 2; got 3"):
        space.check({"p": 3, "s": []})


def test_configurations_of_another_version_keep_what_still_exists():
    space = Space(p=Permutation(["a", "c"]), s=Subset(["x", "y"], most=1))
    codes = space.project({"p": ["c", "b", "a"], "s": ["x", "y"]})
    np.testing.assert_array_equal(codes, [0.75, 0.25, 0.75, 0.75])
    assert space.project({"p": ["a"], "s": []}) is None
    assert space.project({"p": ["a", "c"], "s": ["z"]}) is None


@pytest.mark.parametrize(
    "domain",
    [Permutation(ITEMS, guess=ITEMS[::-1], confidence=0.9), Subset(ITEMS, guess=["dry"], confidence=0.9)],
)
def test_a_guess_draws_the_search_near_and_raises_its_belief(domain):
    space = Space(z=domain)
    rows = space.sample(rng(), 400)
    near = np.abs(rows - domain.encode(domain.guess)).mean()
    assert near < 0.6 * np.abs(domain.draw(rng(1), 400) - domain.encode(domain.guess)).mean()
    belief = log_belief(space)
    scores = belief(domain.every())
    assert np.argmax(scores) == np.argmin(np.abs(domain.every() - domain.encode(domain.guess)).sum(axis=1))
    assert scores.min() > math.log(1 - 0.9) - 1e-9
    assert space.defaults() == {"z": domain.guess}


def test_a_guess_against_a_constraint_is_refused():
    with pytest.raises(SpaceError, match=r"Guesses must satisfy the constraints together; got .*'x': 0.9"):
        Space(
            {"x": Float(0, 1, guess=0.9), "y": Float(0, 1, guess=0.9)},
            constraints=[Linear({"x": 1, "y": 1}, 1)],
        )
