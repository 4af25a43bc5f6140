"""Parzen densities: they integrate to one, sample what they say, and do not mind inactive columns."""

import numpy as np
import pytest

from tunewright.models.kde import columns, fit, scott_bandwidths, shrinking_flips

NAN = np.nan


def mixed():
    """A continuous column, a category of 3, an ordered column of 5, and a fine ordered column of 100."""
    cols = columns(np.array([0, 3, 5, 100]), np.array([False, True, False, False]))
    centres = np.array([[0.1, 0.5 / 3, 0.1, 0.205], [0.8, 2.5 / 3, 0.9, NAN], [NAN] * 4])
    weights = np.array([2.0, 1.0, 1.0])
    return fit(cols, centres, weights, np.array([0.15, 1.0, 0.2, 0.1]), np.array([1.0, 0.3, 1.0, 1.0]))


def test_density_is_one_kernel_at_a_time_by_hand():
    from scipy.stats import truncnorm

    density = mixed()
    x = np.array([[0.3, 0.5 / 3, 0.3, 0.305]])
    s = 0.15
    smooth = [truncnorm(-m / s, (1 - m) / s, m, s).pdf(0.3) for m in (0.1, 0.8)]
    category = [3 * (0.7 + 0.3 / 3), 0.3]
    ordered = [5 * np.diff(truncnorm(-m / 0.2, (1 - m) / 0.2, m, 0.2).cdf([0.2, 0.4]))[0] for m in (0.1, 0.9)]
    fine = truncnorm(-0.205 / 0.1, 0.795 / 0.1, 0.205, 0.1).pdf(0.305)
    expected = (
        0.5 * smooth[0] * category[0] * ordered[0] * fine + 0.25 * smooth[1] * category[1] * ordered[1] + 0.25
    )
    found = density.log_density(density.columns.features(x))
    # The mass of an ordered level is renormalised over the levels; both ways agree to rounding.
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-9)


def test_density_integrates_to_one():
    density = mixed()
    grid = (np.arange(200) + 0.5) / 200
    total = 0.0
    for category in range(3):
        for level in range(5):
            for fine in (np.arange(100) + 0.5) / 100:
                rows = np.empty((200, 4))
                rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3] = (
                    grid,
                    (category + 0.5) / 3,
                    (level + 0.5) / 5,
                    fine,
                )
                total += np.exp(density.log_density(density.columns.features(rows))).mean() / 1500
    assert total == pytest.approx(1.0, abs=1e-3)


def test_samples_follow_the_density():
    density = mixed()
    draws = density.sample(np.random.default_rng(0), 40_000)
    # Importance weights 1 / density turn the draws back into the uniform law.
    weights = np.exp(-density.log_density(density.columns.features(draws)))
    assert weights.mean() == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose((weights[:, None] * draws).mean(axis=0), 0.5, atol=0.02)
    for column, k in ((1, 3), (2, 5)):
        level = np.floor(draws[:, column] * k).astype(int)
        np.testing.assert_allclose(draws[:, column], (level + 0.5) / k)
        share = np.bincount(level, weights, minlength=k) / weights.sum()
        np.testing.assert_allclose(share, 1 / k, atol=0.02)


def test_inactive_columns_count_as_uniform():
    density = mixed()
    known = density.columns.features(np.array([[0.3, 0.5, 0.5, 0.4], [0.3, 0.5, 0.5, NAN]]))
    second = fit(
        density.columns,
        density.centres[1:2],
        np.ones(1),
        density.bandwidths,
        density.flips,
    ).log_density(known)
    # The only kernel never saw the last column, so knowing it changes nothing.
    assert second[0] == pytest.approx(second[1], rel=1e-12)
    nothing = density.columns.features(np.full((1, 4), NAN))
    assert density.log_density(nothing)[0] == pytest.approx(0.0, abs=1e-12)


def test_uniform_row_alone_is_the_uniform_law():
    cols = columns(np.array([0, 4]), np.array([False, True]))
    law = fit(cols, np.full((1, 2), NAN), np.ones(1), np.full(2, 0.1), np.full(2, 0.5))
    draws = law.sample(np.random.default_rng(1), 4000)
    np.testing.assert_allclose(draws.mean(axis=0), 0.5, atol=0.03)
    np.testing.assert_allclose(law.log_density(cols.features(draws)), 0.0, atol=1e-12)


def test_tiny_bandwidths_far_points_and_edges_stay_finite():
    cols = columns(np.array([0, 20]), np.array([False, False]))
    law = fit(cols, np.array([[0.0, 0.025], [1.0, 0.975]]), np.ones(2), np.full(2, 0.002), np.ones(2))
    found = law.log_density(cols.features(np.array([[0.5, 0.475], [0.0, 0.025], [1.0, 0.975]])))
    assert np.isfinite(found).all()
    draws = law.sample(np.random.default_rng(2), 1000)
    assert draws.min() >= 0.0
    assert draws.max() <= 1.0


def test_scott_bandwidths_by_hand():
    levels = np.zeros(3, dtype=np.int64)
    centres = np.array([[0.2, 0.5, NAN], [0.8, 0.5, NAN], [0.4, 0.5, 0.9]])
    widths = scott_bandwidths(centres, levels, 1.0, -0.2)
    column = np.array([0.2, 0.4, 0.5, 0.8])
    iqr = np.subtract(*np.percentile(column, [75, 25]))
    assert widths[0] == pytest.approx(max(min(column.std(), iqr / 1.34) * 4**-0.2, 1 / 5))
    # Without spread the floor 1 / (k + 2) holds; two values spread over 0.5 and 0.9.
    assert widths[1] == pytest.approx(1 / 5)
    assert widths[2] == pytest.approx(1 / 5)
    coarse = scott_bandwidths(np.full((98, 1), 0.25), np.array([2]), 1.0, -0.2)
    assert coarse[0] == pytest.approx(0.4 / 2)


def test_flips_shrink_with_kernels():
    np.testing.assert_allclose(shrinking_flips(9, np.array([0, 3])), [0.1, 0.25])
