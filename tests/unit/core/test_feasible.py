"""Draws under constraints: uniform against closed forms, proofs of contradiction, repair by projection."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.constraints import Linear
from tunewright.core.domains import Bool, Choice, Float, Int, Order
from tunewright.core.polytope import inner, nearest
from tunewright.core.space import Space
from tunewright.errors import SpaceError


def rng(seed=0):
    return np.random.default_rng(seed)


def sum_of(names, upper, sign=1.0):
    return Linear(dict.fromkeys(names, sign), sign * upper)


def cube(d):
    return {f"x{i}": Float(0, 1) for i in range(d)}


def test_a_triangle_is_sampled_by_rejection_with_its_moments():
    space = Space(x=Float(0, 1), y=Float(0, 1), constraints=[Linear({"x": 1, "y": 1}, 1)])
    assert space.sampling == "rejection"
    rows = space.sample(rng(), 4000)
    # Uniform on the triangle: mean 1/3, variance 1/18, covariance -1/36.
    np.testing.assert_allclose(rows.mean(axis=0), 1 / 3, atol=0.02)
    np.testing.assert_allclose(np.cov(rows.T), [[1 / 18, -1 / 36], [-1 / 36, 1 / 18]], atol=0.005)


def test_a_corner_far_too_small_for_rejection_is_sampled_with_dirichlet_moments():
    space = Space(cube(10), constraints=[sum_of(cube(10), 1e-3)])
    assert space.sampling == "polytope"
    rows = space.sample(rng(), 4000) * 1e3
    assert rows.sum(axis=1).max() <= 1.0 + 1e-9
    # Dirichlet(1, ..., 1) of eleven parts: mean 1/11, variance 10 / (11^2 12).
    np.testing.assert_allclose(rows.mean(axis=0), 1 / 11, rtol=0.12)
    np.testing.assert_allclose(rows.var(axis=0), 10 / (121 * 12), rtol=0.3)


def test_a_simplex_is_sampled_through_two_bounds():
    names = list(cube(4))
    space = Space(cube(4), constraints=[sum_of(names, 1.0), sum_of(names, 1.0, -1.0)])
    rows = space.sample(rng(), 3000)
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-12)
    assert all(space.feasible(space.decode(row)) for row in rows)
    # Dirichlet(1, 1, 1, 1): mean 1/4, variance 3/80.
    np.testing.assert_allclose(rows.mean(axis=0), 0.25, atol=0.02)
    np.testing.assert_allclose(rows.var(axis=0), 3 / 80, rtol=0.12)


def test_a_sliver_a_millionth_wide_is_sampled_along_all_of_it():
    space = Space(cube(2), constraints=[Linear({"x0": 1, "x1": -1}, 1e-6), Linear({"x0": -1, "x1": 1}, 1e-6)])
    rows = space.sample(rng(), 2000)
    np.testing.assert_allclose([rows[:, 0].mean(), rows[:, 0].var()], [1 / 2, 1 / 12], atol=0.03)


def test_whole_numbers_and_numbers_on_a_log_scale_keep_their_law():
    space = Space(
        {**cube(8), "n": Int(0, 9), "y": Float(1e-3, 1, log=True), "k": Int(1, 100, log=True)},
        constraints=[sum_of(cube(8), 0.01), Linear({"n": 1, "x0": 1}, 4.5), Linear({"y": 1}, 0.1), Linear({"k": 1}, 30)],
    )  # fmt: skip
    assert space.sampling == "polytope"
    configs = [space.decode(row) for row in space.sample(rng(), 2000)]
    assert all(space.feasible(c) for c in configs)
    np.testing.assert_allclose(np.bincount([c["n"] for c in configs], minlength=5) / 2000, 0.2, atol=0.05)
    # Uniform in the logarithm: the middle of [1e-3, 1e-1] is 1e-2; of [0.5, 30.5] about 3.9.
    assert np.median([c["y"] for c in configs]) == pytest.approx(1e-2, rel=0.25)
    assert 3 <= np.median([c["k"] for c in configs]) <= 5


def test_whole_numbers_with_a_fixed_sum_move():
    domains = {f"n{i}": Int(0, 400) for i in range(4)}
    space = Space(domains, constraints=[sum_of(domains, 100), sum_of(domains, 100, -1.0)])
    configs = [space.decode(row) for row in space.sample(rng(), 300)]
    assert {sum(c.values()) for c in configs} == {100}
    assert len({tuple(c.values()) for c in configs}) > 250
    np.testing.assert_allclose(np.mean([list(c.values()) for c in configs], axis=0), 25, atol=5)


def test_whole_numbers_and_fractions_share_an_equality():
    space = Space(
        n=Int(0, 9), x=Float(0, 1), y=Float(0, 1),
        constraints=[Linear({"n": 1, "x": 1, "y": 1}, 5.3), Linear({"n": -1, "x": -1, "y": -1}, -5.3)],
    )  # fmt: skip
    n = np.array([space.decode(row)["n"] for row in space.sample(rng(), 2000)])
    # Lengths of the two segments: x + y = 1.3 has 0.7, x + y = 0.3 has 0.3.
    assert set(n) == {4, 5}
    assert (n == 4).mean() == pytest.approx(0.7, abs=0.06)


@pytest.mark.parametrize(
    ("make", "names", "absent"),
    [
        (
            lambda: Space(
                cube(3), constraints=[Linear({"x0": 1, "x1": 1}, 0.5), Linear({"x0": -1}, -0.6), Linear({"x2": 1}, 0.9)]
            ),
            "'x0', 'x1'",
            "x2",
        ),
        (
            lambda: Space(
                n=Int(0, 9), m=Int(0, 9), constraints=[Linear({"n": 2, "m": 2}, 5), Linear({"n": -2, "m": -2}, -5)]
            ),
            "'n', 'm'",
            "forbidden",
        ),
        (lambda: Space(c=Choice(["a", "b"]), x=Float(0, 1), forbidden=[{"c": "a"}, {"c": "b"}]), "'c'", "'x'"),
        (
            lambda: Space(o=Order([1, 2, 4]), b=Bool(), constraints=[Linear({"o": -1, "b": -1}, -5.5)]),
            "'o', 'b'",
            "forbidden",
        ),
    ],
)  # fmt: skip
def test_contradictions_are_declared_with_the_names_to_blame(make, names, absent):
    with pytest.raises(SpaceError, match=f"constraints on {names} that no value of them satisfies") as caught:
        make()
    assert absent not in str(caught.value)


def test_functions_that_hardly_ever_hold_together_are_reached_by_a_chain():
    tests = [lambda c, i=i: c[f"x{i}"] < 0.4 for i in range(14)]
    space = Space(cube(14), constraints=tests)
    assert space.sampling == "chain"
    rows = space.sample(rng(), 60)
    assert rows.max() < 0.4
    assert rows.mean() == pytest.approx(0.2, abs=0.02)


def test_a_function_that_never_holds_is_said_to():
    with pytest.raises(SpaceError, match=r"got 0 out of \d+ random ones"):
        Space(x=Float(0, 1), constraints=[lambda c: c["x"] > 2])


def test_repair_is_the_euclidean_projection():
    space = Space(cube(2), constraints=[Linear({"x0": 1, "x1": 1}, 1)])
    rows = space.repair(np.array([[0.9, 0.9], [0.2, 0.1], [1.0, 0.3]]), rng())
    np.testing.assert_allclose(rows, [[0.5, 0.5], [0.2, 0.1], [0.85, 0.15]], atol=1e-9)


def test_repair_rounds_whole_numbers_and_lets_the_others_make_up_for_them():
    space = Space(
        n=Int(0, 10),
        x=Float(0, 10),
        constraints=[Linear({"n": 1, "x": 1}, 9), Linear({"n": -1, "x": -1}, -9)],
    )
    for row in space.repair(rng().random((20, 2)), rng()):
        config = space.decode(row)
        assert config["n"] + config["x"] == pytest.approx(9.0)


def test_constraints_of_a_branch_leave_the_chances_of_its_option_alone():
    branch = Space(cube(6), constraints=[sum_of(cube(6), 0.05)])
    space = Space(m=Choice({"a": branch, "b": None}))
    configs = [space.decode(row) for row in space.sample(rng(), 400)]
    assert all(space.feasible(c) for c in configs)
    assert np.mean([c["m"] == "a" for c in configs]) == pytest.approx(0.5, abs=0.1)


def test_projection_agrees_with_alternating_projections():
    a = np.array([[0.6, 0.8, 0.0], [0.0, 0.6, 0.8]])
    b = np.array([0.3, 0.4])
    for point in rng(3).random((20, 3)):
        # Dykstra's algorithm, 400 rounds over the half-spaces and the box.
        x, memory = point.copy(), np.zeros((3, 3))
        for _ in range(400):
            for k in range(3):
                y = x + memory[k]
                x = np.clip(y, 0, 1) if k == 2 else y - max(0.0, a[k] @ y - b[k]) * a[k]
                memory[k] = y - x
        np.testing.assert_allclose(nearest(point, a, b), x, atol=1e-6)


def test_an_inner_point_names_the_rows_without_room():
    a = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, 0.0]])
    point, tight = inner(a, np.array([1.0, -1.0, 0.9]))
    assert tight.tolist() == [True, True, False]
    assert point.sum() == pytest.approx(1.0)
    assert point.min() > 0.01
    assert inner(a, np.array([1.0, -1.5, 0.9])) is None
