"""What more trials would bring, contours, attainment and maps: against closed forms."""

import math

import numpy as np
import pytest

import tunewright as tw
from tunewright.analysis.attainment import surfaces, volume_by_trial
from tunewright.analysis.contours import contour
from tunewright.analysis.footprint import distances, footprint
from tunewright.analysis.outlook import outlook


@pytest.mark.parametrize("tail", ["normal", "quadratic"])
@pytest.mark.parametrize("n", [20, 100])
def test_expected_gains_are_those_that_come(tail, n):
    promised, came, held = [], [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        losses = (
            rng.normal(size=n + 20)
            if tail == "normal"
            else ((rng.random((n + 20, 6)) - 0.4) ** 2).sum(axis=1)
        )
        mean, low, high = outlook(losses[:n]).gain(20)
        gain = losses[:n].min() - losses.min()
        promised.append(mean)
        came.append(gain)
        held.append(low - 1e-12 <= gain <= high + 1e-12)
    assert 0.6 < np.mean(promised) / np.mean(came) < 2
    assert np.mean(held) > 0.85


def test_gains_grow_with_trials_and_never_turn_negative():
    seen = outlook(np.random.default_rng(1).normal(size=80), 60)
    gains = [seen.gain(m)[0] for m in (0, 5, 20, 60)]
    assert gains[0] == 0
    assert gains == sorted(gains)
    assert all(low <= mean <= high for mean, low, high in (seen.gain(m) for m in (5, 20, 60)))


def test_equal_results_promise_nothing():
    assert outlook(np.ones(30)).gain(20) == (0.0, 0.0, 0.0)


def test_a_search_that_still_falls_promises_more_than_one_that_has_settled():
    rng = np.random.default_rng(2)
    falling = 10 * 0.97 ** np.arange(100) + 0.05 * rng.normal(size=100)
    settled = 0.5 + np.r_[10 * 0.9 ** np.arange(50), np.abs(0.001 * rng.normal(size=50))]
    assert outlook(falling).gain(20)[0] > 10 * outlook(settled).gain(20)[0]


def test_the_contour_of_a_cone_is_a_circle():
    x = np.linspace(-1, 1, 41)
    z = np.hypot(*np.meshgrid(x, x))
    (circle,) = contour(x, x, z, 0.6)
    assert np.allclose(np.hypot(*circle.T), 0.6, atol=2e-3)
    assert np.allclose(circle[0], circle[-1])
    assert np.hypot(*np.diff(circle, axis=0).T).sum() == pytest.approx(2 * math.pi * 0.6, rel=0.01)


def test_contours_of_a_plane_saddles_and_holes():
    x = np.arange(4.0)
    (line,) = contour(x, x, np.tile(x, (4, 1)), 1.5)
    assert np.allclose(line[:, 0], 1.5)
    assert sorted(line[:, 1]) == [0, 1, 2, 3]
    assert len(contour(np.arange(2.0), np.arange(2.0), np.array([[1.0, 0.0], [0.0, 1.0]]), 0.4)) == 2
    holes = np.tile(x, (4, 1))
    holes[1, 1] = np.nan
    assert sum(len(p) for p in contour(x, x, holes, 1.5)) == 2
    assert contour(x, x, np.zeros((4, 4)), 1.0) == []


def test_attainment_surfaces_by_hand():
    first = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [3.0, 3.0]])
    second = np.array([[1.5, 2.5], [4.0, 0.5]])
    either, both = surfaces([first, second])
    assert either.tolist() == [[1, 3], [1.5, 2.5], [2, 2], [3, 1], [4, 0.5]]
    assert both.tolist() == [[1.5, 3], [2, 2.5], [4, 1]]
    assert surfaces([first])[0].tolist() == [[1, 3], [2, 2], [3, 1]]


def test_the_volume_grows_to_that_of_the_staircase():
    """Three unit steps below the corner (4, 4) hold 3 + 2 + 1 unit squares."""
    losses = np.array([[3, 3], [1, 3], [np.nan, 0], [3, 1], [2, 2], [5, 0]], dtype=float)
    assert volume_by_trial(losses, np.array([4.0, 4.0])).tolist() == [1, 3, 3, 5, 6, 6]


def test_three_losses_have_a_volume_too():
    losses = np.array([[1.0, 1, 1], [0, 1.5, 1.5]])
    assert volume_by_trial(losses, np.full(3, 2.0)).tolist() == [1.0, pytest.approx(1.25)]


def test_a_map_of_one_parameter_is_a_line_in_its_order():
    space = tw.Space(x=tw.Float(0, 1))
    codes = np.linspace(0, 1, 30)[:, None]
    found = footprint(space, codes)
    assert found.kept == pytest.approx(1)
    assert abs(np.corrcoef(found.trials[:, 0], codes[:, 0])[0, 1]) > 0.9999
    assert found.covered > 0.9
    assert footprint(space, codes * 0.1).covered < 0.3


def test_distances_count_options_and_unused_parameters_as_whole_steps():
    space = tw.Space(m=tw.Choice({"a": {"u": tw.Float(0, 1)}, "b": None}), v=tw.Float(0, 1))
    rows = np.array([[0.25, 0.5, 0.0], [0.75, np.nan, 0.0], [0.25, 0.0, 1.0], [0.75, np.nan, 0.5]])
    found = distances(space, rows, rows)
    assert found[0].tolist() == pytest.approx([0, 2 / 3, 0.5, 2.5 / 3])
    assert found[1, 3] == pytest.approx(0.25)
    assert np.array_equal(found, found.T)
