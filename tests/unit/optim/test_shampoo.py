"""Shampoo against matrix functions of SciPy, and the laws of its steps."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from tunewright.errors import ConfigError, Diverged
from tunewright.optim import OptimWarning, Shampoo

F64 = torch.float64


def stepped(gradients: list[np.ndarray], **settings: object) -> np.ndarray:
    """How far weights of zero go."""
    p = torch.nn.Parameter(torch.zeros(gradients[0].shape, dtype=F64))
    optimizer = Shampoo([p], **{"lr": 1.0, "momentum": 0.0, **settings})  # type: ignore[arg-type]
    for g in gradients:
        p.grad = torch.tensor(g)
        optimizer.step()
    return p.detach().numpy()


def gradients(shape: tuple[int, ...], count: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).standard_normal((count, *shape)))


def test_first_step_of_a_matrix_is_the_polar_factor_of_its_gradient() -> None:
    (g,) = gradients((5, 5), 1)
    orthogonal, _ = linalg.polar(g)
    np.testing.assert_allclose(stepped([g], eps=1e-14), -orthogonal, atol=1e-9)


def test_three_steps_against_fractional_powers_of_scipy() -> None:
    seen, eps = gradients((4, 6), 3), 1e-3
    rows, columns, expected = eps * np.eye(4), eps * np.eye(6), np.zeros((4, 6))
    for g in seen:
        rows, columns = rows + g @ g.T, columns + g.T @ g
        left, right = (linalg.fractional_matrix_power(m, -0.25) for m in (rows, columns))
        expected -= 0.1 * left @ g @ right
    np.testing.assert_allclose(stepped(seen, lr=0.1, eps=eps), expected, rtol=1e-8)


def test_a_vector_is_full_matrix_adagrad() -> None:
    seen, eps = gradients((5,), 4), 1e-2
    total, expected = eps * np.eye(5), np.zeros(5)
    for g in seen:
        total = total + np.outer(g, g)
        expected -= 0.1 * linalg.inv(linalg.sqrtm(total)) @ g
    np.testing.assert_allclose(stepped(seen, lr=0.1, eps=eps), expected, rtol=1e-8)


def test_convolutions_are_matrices_of_their_outputs() -> None:
    seen = gradients((4, 3, 2, 2), 3)
    flat = stepped([g.reshape(4, 12) for g in seen])
    np.testing.assert_allclose(stepped(seen).reshape(4, 12), flat)


def test_long_sides_keep_diagonals() -> None:
    seen, eps = gradients((3, 5), 2), 1e-3
    rows, columns, expected = eps * np.eye(3), np.full(5, eps), np.zeros((3, 5))
    for g in seen:
        rows, columns = rows + g @ g.T, columns + (g**2).sum(axis=0)
        expected -= linalg.fractional_matrix_power(rows, -0.25) @ g * columns**-0.25
    np.testing.assert_allclose(stepped(seen, eps=eps, largest=4), expected, rtol=1e-8)


def test_momentum_sums_steps_and_decay_is_decoupled() -> None:
    (g,) = gradients((3, 3), 1)
    once = stepped([g], beta=0.5)
    # With an average of 1/2 and equal gradients the sums are 1/2 and 3/4 of the square.
    second = once * (0.75 / 0.5) ** -0.5
    np.testing.assert_allclose(
        stepped([g, g], beta=0.5, momentum=0.5, eps=1e-14), once + 0.5 * once + second, rtol=1e-3
    )
    p = torch.nn.Parameter(torch.ones(2, 2, dtype=F64))
    p.grad = torch.zeros_like(p)
    Shampoo([p], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(p.detach(), torch.full((2, 2), 0.95, dtype=F64))


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 1000))
def test_the_size_of_gradients_does_not_matter(scale: float, seed: int) -> None:
    seen = gradients((3, 4), 2, seed)
    scaled = stepped([scale * g for g in seen], eps=1e-6 * scale**2)
    np.testing.assert_allclose(scaled, stepped(seen, eps=1e-6), rtol=1e-6, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_turning_inputs_and_outputs_turns_the_steps(seed: int) -> None:
    seen = gradients((3, 4), 3, seed)
    rng = np.random.default_rng(seed + 1)
    left, right = (linalg.qr(rng.standard_normal((n, n)))[0] for n in (3, 4))
    turned = stepped([left @ g @ right for g in seen], eps=1e-4)
    np.testing.assert_allclose(turned, left @ stepped(seen, eps=1e-4) @ right, rtol=1e-6, atol=1e-8)


def test_roots_are_kept_between_their_computations() -> None:
    seen = gradients((3, 3), 3)
    root = [
        linalg.fractional_matrix_power(m + 1e-6 * np.eye(3), -0.25)
        for m in (seen[0] @ seen[0].T, seen[0].T @ seen[0])
    ]
    expected = -sum(root[0] @ g @ root[1] for g in seen)
    np.testing.assert_allclose(stepped(seen, every=3), expected, rtol=1e-6)


def test_a_resumed_run_is_the_same_bit_for_bit() -> None:
    def made() -> tuple[torch.nn.Linear, Shampoo]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 3)
        return layer, Shampoo(layer.parameters(), lr=0.1, every=2)

    def go(layer: torch.nn.Linear, optimizer: Shampoo, steps: range) -> None:
        for t in steps:
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(t))
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            optimizer.step()

    layer, optimizer = made()
    go(layer, optimizer, range(3))
    file = io.BytesIO()
    torch.save((layer.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    other, again = made()
    other.load_state_dict(weights)
    again.load_state_dict(state)
    go(layer, optimizer, range(3, 7))
    go(other, again, range(3, 7))
    assert torch.equal(layer.weight, other.weight)
    assert torch.equal(layer.bias, other.bias)


def test_gradients_that_are_missing_zero_or_no_numbers() -> None:
    p, q = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    optimizer = Shampoo([p, q])
    p.grad = torch.zeros(2, 2)
    for _ in range(3):
        optimizer.step()
    assert torch.equal(p.detach(), torch.ones(2, 2))
    assert torch.equal(q.detach(), torch.ones(2, 2))
    p.grad = torch.full((2, 2), float("nan"))
    with pytest.warns(OptimWarning, match="not finite"):
        optimizer.step()
    assert optimizer.skipped == 1
    assert torch.equal(p.detach(), torch.ones(2, 2))
    with pytest.raises(Diverged):
        strict = Shampoo([p], nonfinite="raise")
        strict.step()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -1),
        ("momentum", 1),
        ("eps", 0),
        ("exponent", 0),
        ("beta", 0),
        ("every", 0),
        ("largest", 0),
        ("nonfinite", "x"),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        Shampoo([torch.nn.Parameter(torch.ones(2))], **{name: value})  # type: ignore[arg-type]
