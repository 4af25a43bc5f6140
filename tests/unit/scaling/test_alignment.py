"""Exponents of alignment: closed forms for random, aligned and cancelled sums, and what a step of training gives."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tunewright import scaling
from tunewright.bench.micro import Mlp
from tunewright.errors import ConfigError
from tunewright.scaling import alignment


class TestExponent:
    @pytest.mark.parametrize("fan_in", [64, 1024])
    def test_random_sums_have_one_half_and_aligned_ones_one(self, fan_in: int) -> None:
        generator = torch.Generator().manual_seed(0)
        weight, x = (
            torch.randn(300, fan_in, generator=generator),
            torch.randn(300, fan_in, generator=generator),
        )
        assert alignment.exponent(weight, x) == pytest.approx(0.5, abs=0.01)
        u, v = torch.randn(300, 1, generator=generator), torch.randn(1, fan_in, generator=generator)
        assert alignment.exponent(u @ v, v) == pytest.approx(1, abs=1e-9)

    def test_what_is_cancelled_has_minus_infinity_and_nothing_has_no_exponent(self) -> None:
        weight = torch.tensor([[1.0, -1.0]])
        assert alignment.exponent(weight, torch.tensor([2.0, 2.0])) == -math.inf
        assert math.isnan(alignment.exponent(weight, torch.zeros(2)))

    @settings(max_examples=40, deadline=None)
    @given(
        st.integers(2, 20), st.integers(1, 5), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 99)
    )
    def test_it_never_exceeds_one_and_knows_no_scale(
        self, n: int, m: int, a: float, b: float, seed: int
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        weight, x = (
            torch.randn(m, n, generator=generator).double(),
            torch.randn(4, n, generator=generator).double(),
        )
        found = alignment.exponent(weight, x)
        assert found <= 1 + 1e-9
        assert alignment.exponent(a * weight, b * x) == pytest.approx(found, abs=1e-9)

    def test_shapes_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="fan_in"):
            alignment.exponent(torch.ones(3, 4), torch.ones(3))
        with pytest.raises(ConfigError, match="fan_in"):
            alignment.exponent(torch.ones(3, 1), torch.ones(1))


class TestMeasure:
    def test_a_step_of_gradient_descent_on_one_example_is_fully_aligned_with_it(self) -> None:
        """The change is an outer product with what came in."""
        torch.manual_seed(0)
        before = Mlp(width=128, depth=3)
        after = copy.deepcopy(before)
        x, y = torch.randn(1, 64), torch.tensor([3])
        nn.functional.cross_entropy(after(x), y).backward()
        torch.optim.SGD(after.parameters(), lr=0.01).step()
        found = alignment.measure(before, after, x)
        assert set(found) == {"inlet", "hidden.0", "hidden.1", "outlet"}
        for name, a in found.items():
            assert a.change == pytest.approx(1, abs=1e-3), name
            assert math.isnan(a.start) == (name == "inlet")

    def test_changes_of_a_wide_network_lie_between_random_and_full(self) -> None:
        family = scaling.Family(Mlp, base={"width": 32})
        model, plan = family.build("sp-layerwise", 0, optimizer="adam", width=512)
        before = copy.deepcopy(model)
        generator = torch.Generator().manual_seed(0)
        x, y = torch.randn(64, 64, generator=generator), torch.randint(10, (64,), generator=generator)
        stepper = torch.optim.Adam(plan.param_groups(0.02))
        for _ in range(5):
            stepper.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            stepper.step()
        found = alignment.measure(before, model, x)
        assert 0.6 < found["hidden.0"].change <= 1
        assert 0.6 < found["outlet"].change <= 1
        assert found["hidden.0"].fan_in == 512
        random = copy.deepcopy(before)
        with torch.no_grad():
            random.outlet.weight.add_(torch.randn(10, 512, generator=generator))
        assert alignment.measure(before, random, x)["outlet"].change < 0.65

    def test_other_models_are_refused_and_no_hook_stays(self) -> None:
        model = Mlp(depth=2)
        with pytest.raises(ConfigError, match="same linear layers"):
            alignment.measure(model, Mlp(depth=3), torch.zeros(1, 64))
        assert not any(m._forward_hooks for m in model.modules())
