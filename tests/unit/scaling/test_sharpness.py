"""Lanczos against known spectra and SciPy, the Hessian against PyTorch's own, and sharpness over a training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from tunewright.bench.micro import CharTransformer, Mlp  # noqa: E402
from tunewright.errors import ConfigError  # noqa: E402
from tunewright.scaling import Family  # noqa: E402
from tunewright.scaling.checking import made_up, usual_loss  # noqa: E402
from tunewright.scaling.sharpness import (  # noqa: E402
    Sharpnesses,
    hessian,
    lanczos,
    sharpness,
    sharpness_check,
    step_scale,
)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(3, 24), count=st.integers(1, 3))
def test_lanczos_finds_known_spectra(seed: int, n: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.sort(rng.normal(size=n) * 10.0 ** rng.integers(-2, 3))[::-1]
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    matrix = torch.from_numpy(basis @ np.diag(values) @ basis.T)
    found = lanczos(
        lambda v: matrix @ v, n, count=count, most=n, tolerance=1e-12, seed=seed, dtype=torch.float64
    )
    assert found.values == pytest.approx(values[:count], rel=1e-8, abs=1e-8 * np.abs(values).max())
    images = torch.stack([matrix @ v for v in found.vectors])
    assert images.numpy() == pytest.approx(
        found.values[:, None] * found.vectors.numpy(), abs=1e-6 * np.abs(values).max()
    )


def test_lanczos_agrees_with_scipy_on_a_large_operator() -> None:
    linalg = pytest.importorskip("scipy.sparse.linalg")
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 120))
    matrix = a @ a.T - 40 * np.eye(300)
    found = lanczos(
        lambda v: torch.from_numpy(matrix @ v.numpy()), 300, count=3, tolerance=1e-10, dtype=torch.float64
    )
    expected = np.sort(linalg.eigsh(matrix, k=3, which="LA", return_eigenvectors=False))[::-1]
    assert found.values == pytest.approx(expected, rel=1e-8)
    assert found.iterations <= 60


def test_the_residual_bounds_the_error() -> None:
    rng = np.random.default_rng(1)
    values = rng.exponential(size=200)
    found = lanczos(lambda v: torch.from_numpy(values) * v, 200, most=12, tolerance=0.0, dtype=torch.float64)
    assert found.iterations == 12
    assert np.abs(values - found.values[0]).min() <= found.residuals[0]
    assert found.values[0] <= values.max() + 1e-12


def test_lanczos_stops_in_an_invariant_subspace() -> None:
    found = lanczos(lambda v: 3 * v, 50)
    assert found.iterations == 1 and found.values[0] == pytest.approx(3, rel=1e-5)


def test_the_operator_is_the_hessian() -> None:
    model = Mlp(4, 3, width=5, depth=2, activation=nn.Tanh).double()
    x, y = torch.randn(7, 4, dtype=torch.float64), torch.randint(0, 3, (7,))
    named = dict(model.named_parameters())
    flat = torch.cat([p.detach().reshape(-1) for p in named.values()])

    def value(weights: Any) -> Any:
        parts = torch.split(weights, [p.numel() for p in named.values()])
        shaped = {n: v.reshape(p.shape) for (n, p), v in zip(named.items(), parts, strict=True)}
        return usual_loss(torch.func.functional_call(model, shaped, (x,)), y)

    dense = torch.autograd.functional.hessian(value, flat)
    factors = {n: float(i + 1) for i, n in enumerate(named)}
    root = torch.cat([torch.full((p.numel(),), factors[n]).double() for n, p in named.items()]).sqrt()
    for scale, matrix in ((None, dense), (factors, root[:, None] * dense * root)):
        product, size, _ = hessian(model, usual_loss, (x, y), scale)
        assert size == len(flat)
        v = torch.randn(size, dtype=torch.float64)
        assert product(v).numpy() == pytest.approx((matrix @ v).numpy(), abs=1e-10)
        top = sharpness(model, (x, y), scale=scale, tolerance=1e-9).values[0]
        assert top == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-6)
    assert all(p.grad is None for p in model.parameters())


def test_sharpness_of_least_squares_is_that_of_its_inputs() -> None:
    x, y = torch.randn(40, 6), torch.randn(40, 1)
    model = nn.Linear(6, 1, bias=False)
    found = sharpness(model, (x, y), tolerance=1e-6).values[0]
    assert found == pytest.approx(2 * float(torch.linalg.eigvalsh(x.T @ x / 40)[-1]), rel=1e-4)


def test_attention_has_second_derivatives() -> None:
    model = CharTransformer(width=16, depth=1)
    x = torch.randint(0, 27, (4, 8))
    assert sharpness(model, (x, x), most=20).values[0] > 0


def test_the_step_scale_is_what_an_optimizer_multiplies_gradients_by() -> None:
    family = Family(Mlp, base={"width": 16})
    model, plan = family.build("mup", 0, optimizer="adam", width=32)
    x, y = next(made_up(model)(0))
    stepper = torch.optim.Adam(plan.param_groups(0.01), betas=(0.0, 0.999))
    usual_loss(model(x), y).backward()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    stepper.step()
    scale = step_scale(plan, model, stepper)
    for name, p in model.named_parameters():
        assert torch.allclose(before[name] - p.detach(), 0.01 * scale[name] * p.grad, atol=1e-6)
    assert step_scale(plan, model)["hidden.0.weight"] == 0.5


@pytest.mark.slow
def test_under_mup_sharpness_stays_and_with_standard_it_grows() -> None:
    family = Family(Mlp, base={"width": 32})
    batches = made_up(family.model())
    more: dict[str, Any] = {"sizes": (32, 256), "steps": 6, "moments": 2, "seeds": (0, 1), "optimizer": "sgd"}
    mup, sp = (sharpness_check(family, rule, batches, lr=0.5, **more) for rule in ("mup", "sp"))
    assert mup.passed and abs(mup.slope[0]) < 0.15
    assert not sp.passed and sp.slope[0] > 0.35 and "grows" in sp.why
    assert mup.edge == 4.0 and mup.steps == (1, 6)
    assert "over the edge" in mup.table() and mup.to_dict()["slope"] == mup.slope[0]


def test_noise_is_not_a_pass() -> None:
    values = np.array([[[1.0, 1.0], [1.0, 1.0]], [[8.0, 8.0], [0.25, 0.25]]])
    found = Sharpnesses("mup", "sgd", 0.1, "width", (16, 32), (1, 2), values, values)
    assert not found.passed and "too much to tell" in found.why


def test_mistakes_are_said_in_a_sentence() -> None:
    family = Family(Mlp, base={"width": 16})
    batches = made_up(family.model())
    frozen = Mlp().requires_grad_(False)
    with pytest.raises(ConfigError, match="weights that are trained"):
        sharpness(frozen, next(batches(0)))
    with pytest.raises(ConfigError, match="moments within its steps"):
        sharpness_check(family, "mup", batches, sizes=(16, 32), steps=2, moments=5)
    with pytest.raises(ConfigError, match="must be finite"):
        sharpness_check(family, "mup", batches, sizes=(16, 32), lr=1e30, seeds=(0,), steps=3, moments=1)
    with pytest.raises(ConfigError, match="Eigenvalues must be from 1"):
        lanczos(lambda v: v, 3, count=4)
