"""PFGM++: noise against closed forms, the limit of diffusion, the alignment of schedules, sampling from a known field."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tunewright.errors import ConfigError
from tunewright.scaling import sigma_dimension as pfgm


@pytest.mark.parametrize(("n", "dimension"), [(2, 3.0), (8, 1.0), (64, 128.0), (5, 2.5)])
def test_lengths_follow_the_beta_law(n: int, dimension: float) -> None:
    """R = r sqrt(B / (1 - B)) with B from Beta(N/2, D/2); error rate of each test 1e-3."""
    sigma = 0.7
    drawn = sigma * pfgm.noise((20_000, n), dimension, np.random.default_rng(1))
    square = np.square(drawn).sum(1) / pfgm.radius(sigma, dimension) ** 2
    assert stats.kstest(square / (1 + square), stats.beta(n / 2, dimension / 2).cdf).pvalue > 1e-3


def test_density_is_the_papers_kernel() -> None:
    """Log-density of Student's t at level sigma, from SciPy, against -(N + D)/2 log(|x|^2 + r^2): they differ by a constant."""
    n, dimension, sigma = 3, 7.0, 1.3
    x = np.random.default_rng(0).standard_normal((50, n)) * 5
    kernel = -(n + dimension) / 2 * np.log(np.square(x).sum(1) + pfgm.radius(sigma, dimension) ** 2)
    known = stats.multivariate_t(np.zeros(n), sigma**2 * np.eye(n), df=dimension).logpdf(x)
    assert np.ptp(kernel - known) < 1e-9


def test_large_dimensions_are_diffusion() -> None:
    exactly = pfgm.noise((20_000, 2), math.inf, np.random.default_rng(2))
    nearly = pfgm.noise((20_000, 2), 1e7, np.random.default_rng(3))
    for drawn in (exactly, nearly):
        assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    few = pfgm.noise((20_000, 2), 5.0, np.random.default_rng(3))
    assert stats.kstest(few.ravel(), "norm").pvalue < 1e-6


def test_the_schedule_is_edms() -> None:
    """First and last levels of EDM's 18 steps as its text gives them, and the formula of its table at step 9."""
    levels = pfgm.NoiseSchedule().levels()
    assert levels[[0, 17, 18]] == pytest.approx([80.0, 0.002, 0.0])
    a, b = 80 ** (1 / 7), 0.002 ** (1 / 7)
    assert levels[9] == pytest.approx((a + 9 / 17 * (b - a)) ** 7)
    assert (np.diff(levels) < 0).all()


def test_radii_of_the_paper() -> None:
    """sigma_max = 80 at D = 2048 is r_max = 3620 (section on transfer)."""
    assert pfgm.NoiseSchedule().radii(2048)[0] == pytest.approx(3620.39, abs=0.01)


@given(st.floats(1e-3, 1e3), st.floats(0.5, 1e6), st.floats(0.5, 1e6))
def test_moving_there_and_back(sigma: float, one: float, other: float) -> None:
    r = pfgm.radius(sigma, one)
    assert pfgm.moved(pfgm.moved(r, one, other), other, one) == pytest.approx(r)
    assert pfgm.level(pfgm.moved(r, one, other), other) == pytest.approx(sigma)


def test_levels_read_as_radii() -> None:
    plain = pfgm.NoiseSchedule()
    wrong = plain.read_as_radii(64)
    assert wrong.radii(64) == pytest.approx(plain.levels())
    assert wrong.log_mean == pytest.approx(plain.log_mean - math.log(8))


def test_weights_by_hand_and_their_limit() -> None:
    torch = pytest.importorskip("torch")
    data = torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    point, sigma = torch.tensor([[0.5, 1.0]], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    found = pfgm.closeness(point, data, sigma, 4.0)
    one, two = (1.25 + 4.0) ** -3, (3.25 + 4.0) ** -3
    assert found[0, 0].item() == pytest.approx(one / (one + two))
    far = pfgm.closeness(point, data, sigma, 1e9)
    limit = 1 / (1 + math.exp(-1.0))
    assert far[0, 0].item() == pytest.approx(limit, rel=1e-6)
    assert pfgm.closeness(point, data, sigma, math.inf)[0, 0].item() == pytest.approx(limit)


@pytest.mark.parametrize("dimension", [4.0, 64.0, math.inf])
def test_the_exact_field_leads_to_the_data(dimension: float) -> None:
    """Every sample ends at an example, and each example gets its share: chi-square at an error rate of 1e-3."""
    torch = pytest.importorskip("torch")
    data = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]], dtype=torch.float64)
    schedule = pfgm.NoiseSchedule(steps=40, sigma_max=20.0)
    found = pfgm.sample(
        pfgm.exact(data, dimension), (600, 2), schedule, dimension, np.random.default_rng(5), like=data
    )
    away, nearest = torch.cdist(found, data).min(1)
    assert away.quantile(0.95) < 0.05
    assert stats.chisquare(np.bincount(nearest.numpy(), minlength=3)).pvalue > 1e-3


def test_preconditioning_is_edms_and_the_loss_is_least_at_the_exact_field() -> None:
    torch = pytest.importorskip("torch")
    points, sigma = torch.tensor([[3.0]]), torch.tensor([2.0])
    seen: list[Any] = []

    def network(x: Any, level: Any) -> Any:
        seen.append((x, level))
        return torch.ones_like(x)

    out = pfgm.preconditioned(network, 0.5)(points, sigma)
    assert seen[0][0].item() == pytest.approx(3 / math.sqrt(4.25))
    assert seen[0][1].item() == pytest.approx(math.log(2.0) / 4)
    assert out.item() == pytest.approx(0.25 / 4.25 * 3 + 2 * 0.5 / math.sqrt(4.25))
    data = torch.tensor([[0.5], [-0.5]], dtype=torch.float64)
    batch = data.repeat(2000, 1)
    best = pfgm.loss(pfgm.exact(data, 8.0), batch, pfgm.NoiseSchedule(), 8.0, np.random.default_rng(0))
    other = pfgm.loss(pfgm.exact(data, math.inf), batch, pfgm.NoiseSchedule(), 8.0, np.random.default_rng(0))
    assert best < other


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pfgm.radius(1.0, 0.0), "above 0"),
        (lambda: pfgm.radius(1.0, math.nan), "above 0"),
        (lambda: pfgm.radius(1.0, math.inf), "finite"),
        (lambda: pfgm.radius(-1.0, 4), "levels"),
        (lambda: pfgm.level([-1.0], 4), "Radii"),
        (lambda: pfgm.noise((2, 2), -1.0, np.random.default_rng(0)), "above 0"),
        (lambda: pfgm.NoiseSchedule(sigma_min=1.0, sigma_max=0.5), "sigma_min"),
        (lambda: pfgm.NoiseSchedule(steps=1), "steps"),
        (lambda: pfgm.NoiseSchedule(rho=0.0), "rho"),
    ],
)
def test_refusals(call: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        call()
