"""Emulated formats of few bits against PyTorch's own casts, and their effect on training."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tunewright import scaling
from tunewright.bench.micro import Mlp
from tunewright.errors import ConfigError
from tunewright.scaling import rounding
from tunewright.scaling.rounding import E4M3, E5M2, FP16, Format

CASTS = [(E4M3, torch.float8_e4m3fn), (E5M2, torch.float8_e5m2), (FP16, torch.float16)]


@pytest.mark.parametrize(("to", "dtype"), CASTS, ids=["e4m3", "e5m2", "fp16"])
class TestAgainstCasts:
    def test_every_number_of_the_format_stays(self, to: Format, dtype: torch.dtype) -> None:
        bits = torch.arange(2**16 if dtype == torch.float16 else 2**8)
        kind = torch.int16 if dtype == torch.float16 else torch.int8
        every = bits.to(kind).view(dtype).float()
        every = every[every.isfinite()]
        assert torch.equal(rounding.nearest(every, to), every)
        assert float(every.max()) == to.largest
        assert float(every[every > 0].min()) == to.smallest

    def test_others_go_where_the_cast_sends_them(self, to: Format, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        size = torch.exp2(torch.empty(200_000).uniform_(-30, 15, generator=generator))
        x = torch.randn(200_000, generator=generator) * size
        x = x[x.abs() <= to.largest]
        assert torch.equal(rounding.nearest(x, to), x.to(dtype).float())

    def test_ties_go_to_the_even_one(self, to: Format, dtype: torch.dtype) -> None:
        bits = torch.arange(1, 100, dtype=torch.int16 if dtype == torch.float16 else torch.int8)
        numbers = bits.view(dtype).float()
        middle = (numbers[1:] + numbers[:-1]) / 2
        assert torch.equal(rounding.nearest(middle, to), middle.to(dtype).float())


@settings(max_examples=100, deadline=None)
@given(
    st.integers(2, 8),
    st.integers(0, 12),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8),
)
def test_rounding_is_idempotent_odd_monotone_and_near(
    exponent: int, mantissa: int, values: list[float]
) -> None:
    to = Format(exponent, mantissa, 64.0)
    x = torch.tensor(sorted(values))
    near = rounding.nearest(x, to)
    assert torch.equal(rounding.nearest(near, to), near)
    assert torch.equal(rounding.nearest(-x, to), -near)
    assert bool((near.diff() >= 0).all())
    inside = x.abs() <= 50
    slack = torch.maximum(x.abs() * 2.0 ** -(mantissa + 1), torch.tensor(to.smallest / 2))
    assert bool(((near - x).abs()[inside] <= slack[inside] * (1 + 1e-6)).all())


class TestEmulation:
    def test_a_linear_map_is_that_of_rounded_parts(self) -> None:
        torch.manual_seed(0)
        layer = nn.Linear(8, 4)
        x = torch.randn(5, 8, requires_grad=True)
        weights = torch.randn(5, 4)
        with rounding.LowPrecision():
            out = layer(x)
        near_x, near_w = (
            x.detach().to(torch.float8_e4m3fn).float(),
            layer.weight.detach().to(torch.float8_e4m3fn).float(),
        )
        assert torch.allclose(out, nn.functional.linear(near_x, near_w, layer.bias))
        (out * weights).sum().backward()
        near_g = weights.to(torch.float8_e5m2).float()
        assert layer.weight.grad is not None and x.grad is not None
        assert torch.allclose(layer.weight.grad, near_g.T @ near_x)
        assert torch.allclose(x.grad, near_g @ near_w)

    def test_some_maps_may_be_left_out_and_nothing_stays_behind(self) -> None:
        torch.manual_seed(0)
        model, x = Mlp(width=32), torch.randn(5, 64)
        plain = model(x)
        with rounding.LowPrecision(which=lambda w: w.shape[0] != 10):
            part = model(x)
        with rounding.LowPrecision(which=lambda w: False):
            none = model(x)
        assert torch.equal(none, plain)
        assert not torch.equal(part, plain)
        assert torch.equal(model(x), plain)

    def test_it_works_in_a_sweep(self) -> None:
        torch.manual_seed(0)
        x, y = torch.randn(32, 64), torch.randint(10, (32,))

        def build(seed: int) -> nn.Module:
            torch.manual_seed(seed)
            return Mlp(width=16)

        def run() -> scaling.Sweep:
            return scaling.sweep(
                build, [0.01], [0, 1], lambda _: [(x, y)] * 30, nn.functional.cross_entropy, steps=30
            )

        plain = run()
        with rounding.LowPrecision():
            rough = run()
        assert (rough.losses != plain.losses).any()
        assert rough.final == pytest.approx(plain.final, rel=0.2)

    def test_gradients_of_a_small_loss_are_flushed(self) -> None:
        gradients = 1e-6 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))
        assert rounding.lost(gradients, E5M2).flushed > 0.99
        assert rounding.lost(gradients * 1e6, E5M2).flushed < 1e-4
        assert rounding.lost(gradients * 1e6, E5M2).error == pytest.approx(2**-3 / 3**0.5, rel=0.35)
        assert rounding.lost(gradients * 1e12, E5M2).cut > 0.9
        assert rounding.lost(torch.zeros(3), E5M2) == rounding.Lost(0.0, 0.0, 0.0)


def test_a_format_of_too_many_bits_is_refused() -> None:
    with pytest.raises(ConfigError, match="bits"):
        Format(11, 52, 1e300)
