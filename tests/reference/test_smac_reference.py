"""Expected improvement of log-normal losses against integrals, and settings against the published ones."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.samplers import smac

integrate = pytest.importorskip("scipy.integrate")
stats = pytest.importorskip("scipy.special")


def integral(mean, std, best):
    """Expected improvement by SciPy's quadrature."""

    def value(y):
        return (
            (np.exp(best) - np.exp(y)) * np.exp(-0.5 * ((y - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
        )

    return integrate.quad(value, best - 12 * std - abs(best - mean), best, epsabs=0.0, limit=400)[0]


@pytest.mark.parametrize(
    ("mean", "std", "best"),
    [
        (0.0, 1.0, 0.0),
        (-1.0, 0.5, -2.0),
        (-1.0, 0.2, -0.5),
        (-3.0, 2.0, -4.0),
        (0.0, 0.3, -2.0),
        (-0.2, 3.0, -9.0),
    ],
)
def test_expected_improvement_of_log_normal_losses(mean, std, best):
    found = smac.log_improvement_of_logs(np.array([mean]), np.array([std]), best)[0]
    assert found == pytest.approx(np.log(integral(mean, std, best)), rel=1e-6)


def test_expected_improvement_by_the_papers_formula():
    # Hutter et al. 2011, the criterion E[I_exp], term by term where neither cancels.
    mean, std, best = np.linspace(-3.0, 1.0, 9), np.linspace(0.4, 2.0, 9), -0.5
    z = (best - mean) / std
    formula = np.exp(best) * stats.ndtr(z) - np.exp(mean + 0.5 * std**2) * stats.ndtr(z - std)
    np.testing.assert_allclose(smac.log_improvement_of_logs(mean, std, best), np.log(formula), rtol=1e-9)


def test_the_tail_stays_finite_and_falls():
    mean = -np.log10(np.logspace(0, -13, 27))
    found = smac.log_improvement_of_logs(mean, np.full(27, 1e-6), -0.1)
    assert np.all(np.isfinite(found))
    assert np.all(np.diff(found) < 0.0)


def test_settings_of_the_published_implementation():
    # SMAC3 2.x, facade for hyperparameters: share of random configurations, trees; steps as in Hutter et al. 2011, 4.3.
    assert pytest.approx(0.08447232371720552) == smac.RANDOM
    assert smac.Smac().trees == 10
    assert (smac.STEP, smac.STEPS) == (0.2, 4)
