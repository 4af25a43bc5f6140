import numpy as np
import pytest

from tunewright.models.warp import fit_warp


def test_warped_losses_are_standardised_and_keep_their_order():
    y = np.random.default_rng(0).lognormal(0.0, 3.0, 200)
    z = fit_warp(y)(y)
    assert z.mean() == pytest.approx(0.0, abs=1e-12)
    assert z.std() == pytest.approx(1.0)
    assert np.all(np.diff(z[np.argsort(y)]) >= 0)
    assert np.all(np.diff(np.sort(z)[:150]) > 0)


def test_shift_and_scale_of_the_losses_do_not_matter():
    y = np.random.default_rng(1).random(30)
    np.testing.assert_allclose(fit_warp(1e3 * y - 77.0)(1e3 * y - 77.0), fit_warp(y)(y), atol=1e-9)


def test_a_diverged_run_does_not_flatten_the_good_region():
    y = np.linspace(0.0, 1.0, 40)
    z = fit_warp(y)(y)
    bad = np.append(y, 1e9)
    squeezed = fit_warp(bad)(bad)
    assert np.ptp(squeezed[:20]) > 0.5 * np.ptp(z[:20])
    assert np.ptp(((bad - bad.mean()) / bad.std())[:20]) < 1e-8


@pytest.mark.parametrize(
    "y",
    [
        np.array([2.0]),
        np.zeros(5),
        np.full(4, 1e300),
        np.array([-1.7e308, 0.0, 1.7e308]),
        np.array([0.0, 0.0, 0.0, 1.0]),
    ],
)
def test_degenerate_losses_stay_finite(y):
    assert np.isfinite(fit_warp(y)(y)).all()


def test_the_slope_is_the_derivative():
    losses = np.array([0.1, 0.5, 0.9, 2.0])
    for offset in (0.1, 1.0, 10.0):
        warp = fit_warp(losses, offset)
        numeric = np.log((warp(losses[1:3] + 1e-7) - warp(losses[1:3] - 1e-7)) / 2e-7).sum()
        assert warp.log_slope(losses[1:3]) == pytest.approx(numeric, rel=1e-5)
