"""Noise scales and critical batch sizes against closed forms and an exact theory of least squares."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from claims.least_squares import critical, risks  # noqa: E402

from tunewright.scaling.critical import fit_critical_law  # noqa: E402
from tunewright.scaling.noise import gradient_noise_scale  # noqa: E402

nn = torch.nn


def half_square(out, target):
    """Mean over rows of half the squared error."""
    return 0.5 * (out - target).square().sum(dim=-1).mean()


class Mean(nn.Module):
    """A constant; its gradient at an example x is ``w - x``."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x):
        return self.w.expand(len(x), -1)


@pytest.mark.parametrize("parts", ["examples", 4])
def test_of_a_mean_it_is_variance_over_squared_distance(parts):
    g = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    w = torch.tensor([1.0, -1.0, 2.0, 0.5], dtype=torch.float64)
    data = [spread * torch.randn(64, 4, generator=g, dtype=torch.float64) for _ in range(200)]
    found = gradient_noise_scale(Mean(w), half_square, [(x, x) for x in data], parts=parts)
    exact = float(spread.square().sum() / w.square().sum())
    assert found.low <= exact <= found.high
    assert math.isclose(found.size, exact, rel_tol=0.08)
    assert math.isclose(found.squared, float(w.square().sum()), rel_tol=0.05)


def test_of_linear_regression_it_is_d_plus_one_and_the_noise():
    # g = x (x.e) - x s z with x standard normal: |G|^2 = |e|^2 and tr = |e|^2 (d + 1) + s^2 d by Isserlis' theorem
    d, s = 6, 1.5
    g = torch.Generator().manual_seed(1)
    model = nn.Linear(d, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.linspace(0.5, 1.5, d)[None])
    error = float(model.weight.detach().square().sum())
    batches = []
    for _ in range(400):
        x = torch.randn(64, d, generator=g, dtype=torch.float64)
        batches.append((x, s * torch.randn(64, 1, generator=g, dtype=torch.float64)))
    found = gradient_noise_scale(model, half_square, batches)
    exact = (d + 1) + s**2 * d / error
    assert found.low <= exact <= found.high
    assert math.isclose(found.size, exact, rel_tol=0.05)


def test_the_recursion_is_that_of_simulated_sgd():
    d, batch, rate, steps = 4, 2, 0.3, 12
    rng = np.random.default_rng(0)
    values = np.arange(1, d + 1.0) ** -1.5
    truth = np.sqrt(np.arange(1, d + 1.0) ** -2.5 / values)
    runs = 20000
    error, mean = np.tile(truth, (runs, 1)), np.tile(truth, (runs, 1))
    for t in range(steps):
        x = rng.standard_normal((runs, batch, d)) * np.sqrt(values)
        residual = np.einsum("rbd,rd->rb", x, error) - rng.standard_normal((runs, batch))
        error = error - rate * np.einsum("rb,rbd->rd", residual, x) / batch
        weight = 9.0 / (t + 9.0)
        mean = (1 - weight) * mean + weight * error
    simulated = 0.5 * (values * mean**2).sum(axis=1)
    exact = risks(d, batch, [rate], steps)[-1, 0]
    assert abs(simulated.mean() - exact) < 4 * simulated.std() / math.sqrt(runs)


@pytest.mark.slow
@pytest.mark.parametrize(("decay", "source"), [(1.5, 1.0), (2.0, 1.0)])
def test_in_least_squares_it_follows_the_data_and_not_the_dimension(decay, source):
    sizes = [2**k for k in range(9)]
    cells = [(d, n) for d in (64, 256) for n in (1024, 2048, 4096)]
    found = [critical(d, n, sizes, decay=decay, source=source) for d, n in cells]
    law = fit_critical_law([d for d, _ in cells], [n for _, n in cells], found)
    assert abs(law.parameters) < 0.02
    # Bias (g D)^-s against variance (g D)^(1/a) / D at rate g B; the rate may grow with the batch until SGD is unstable, so that
    # the largest useful batch grows as D^(1 - 1 / (s + 1/a)) in the limit; the first steps let it grow somewhat faster here
    limit = 1 - 1 / (source + 1 / decay)
    assert limit < law.tokens < limit + 0.25
