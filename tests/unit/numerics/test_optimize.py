import numpy as np

from tunewright.numerics import optimize


def rosenbrock(p):
    x, y = p
    value = (1 - x) ** 2 + 100 * (y - x * x) ** 2
    return value, np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)])


def test_minimize_finds_the_rosenbrock_valley_floor():
    low, high = np.full(2, -2.0), np.full(2, 2.0)
    point, value = optimize.minimize_in_box(
        rosenbrock, np.array([-1.2, 1.0]), low, high, max_evaluations=200, tolerance=1e-12
    )
    np.testing.assert_allclose(point, 1.0, atol=1e-4)
    assert value < 1e-8


def test_minimize_respects_the_box_and_the_budget():
    calls = []

    def counted(p):
        calls.append(p.copy())
        return rosenbrock(p)

    low, high = np.array([-2.0, -2.0]), np.array([0.5, 2.0])
    point, value = optimize.minimize_in_box(counted, np.array([3.0, 1.0]), low, high, max_evaluations=60)
    assert np.all(np.asarray(calls) <= high + 1e-12)
    np.testing.assert_allclose(point, [0.5, 0.25], atol=1e-3)
    assert value == min(rosenbrock(c)[0] for c in calls)
    # One line search of at most 20 trial steps may finish after the budget is spent.
    assert len(calls) <= 80


def bumps(x):
    centre = np.array([0.3, 0.9, 0.5])
    scale = np.array([1.0, 25.0, 100.0])
    return -np.sum(scale * (x - centre) ** 2, axis=1), -2 * scale * (x - centre)


def test_ascend_climbs_every_row_to_the_top():
    starts = np.random.default_rng(0).random((6, 3))
    x, value = optimize.ascend_in_box(bumps, starts, np.zeros(3), np.ones(3), steps=60)
    np.testing.assert_allclose(x, np.tile([0.3, 0.9, 0.5], (6, 1)), atol=1e-3)
    np.testing.assert_allclose(value, bumps(x)[0])


def test_ascend_holds_frozen_coordinates_and_never_loses_value():
    rng = np.random.default_rng(1)
    starts = rng.random((5, 3))
    low, high = np.zeros((5, 3)), np.ones((5, 3))
    low[:, 1] = high[:, 1] = starts[:, 1]
    high[:, 0] = 0.2
    for steps in (0, 1, 3, 30):
        x, value = optimize.ascend_in_box(bumps, starts, low, high, steps=steps)
        np.testing.assert_array_equal(x[:, 1], starts[:, 1])
        assert np.all(x[:, 0] <= 0.2)
        assert np.all(value >= bumps(np.clip(starts, low, high))[0])
