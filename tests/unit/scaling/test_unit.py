"""Unit-scaled operations: variance one forward and backward, right directions, rates of the table, search one factor at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tunewright import scaling
from tunewright.bench.micro import CharTransformer, Mlp
from tunewright.errors import ConfigError
from tunewright.scaling import unit


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def rms(x: Tensor) -> float:
    return float(x.detach().square().mean().sqrt())


OPERATIONS: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    "linear": (unit.linear, ((64, 128), (128, 128))),
    "gelu": (unit.gelu, ((20_000,),)),
    "silu": (unit.silu, ((20_000,),)),
    "gated": (unit.gated_silu, ((20_000,), (20_000,))),
    "sharp gate": (lambda x, g: unit.gated_silu(x, g, 4.0), ((20_000,), (20_000,))),
    "attention": (unit.attention, ((16, 4, 64, 32),) * 3),
    "open attention": (lambda q, k, v: unit.attention(q, k, v, causal=False), ((16, 4, 64, 32),) * 3),
    "layer norm": (unit.layer_norm, ((500, 64),)),
    "rms norm": (unit.rms_norm, ((500, 64),)),
    "residual": (lambda x, w: unit.residual(lambda h: unit.linear(h, w), x, 0.6), ((64, 128), (128, 128))),
}


class TestOperations:
    @pytest.mark.parametrize("name", OPERATIONS)
    def test_values_and_gradients_have_the_scale_of_what_comes_in(self, name: str) -> None:
        made, shapes = OPERATIONS[name]
        inputs = [normal(*s, seed=i) for i, s in enumerate(shapes)]
        out = made(*inputs)
        assert rms(out) == pytest.approx(1, rel=0.12)
        pulled = torch.autograd.grad(out, inputs, normal(*out.shape, seed=9).detach())
        # Queries and keys get what the softmax lets through, which is less; the factor of values is shared with them.
        checked = pulled[2:] if "attention" in name else pulled
        for gradient in checked:
            assert rms(gradient) == pytest.approx(1, rel=0.35), name

    def test_a_table_has_gradients_of_scale_one(self) -> None:
        table = normal(50, 32)
        index = torch.randint(50, (40, 100), generator=torch.Generator().manual_seed(0))
        out = unit.embedding(index, table)
        assert torch.equal(out, table[index])
        (gradient,) = torch.autograd.grad(out, table, normal(*out.shape, seed=9).detach())
        assert rms(gradient) == pytest.approx(1, rel=0.1)

    def test_scores_have_gradients_of_scale_one_whatever_the_batch(self) -> None:
        for rows, classes in ((10, 5), (3000, 5), (200, 1000)):
            scores = normal(rows, classes)
            flat = (0.01 * scores.detach()).requires_grad_()
            target = torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(1))
            loss = unit.cross_entropy(flat, target)
            assert loss.item() == pytest.approx(nn.functional.cross_entropy(flat, target).item(), rel=1e-5)
            assert rms(torch.autograd.grad(loss, flat)[0]) == pytest.approx(1, rel=0.05)

    def test_gradients_point_where_those_of_the_plain_operations_point(self) -> None:
        """Scales on paths that meet again are equal, so a whole model's gradients are the true ones times one number per tensor."""
        torch.manual_seed(0)
        model = unit.UnitTransformer(vocabulary=11, width=32, depth=2).double()
        index = torch.randint(11, (4, 12), generator=torch.Generator().manual_seed(2))
        target = torch.randint(11, (4, 12), generator=torch.Generator().manual_seed(3))
        model.loss(model(index), target).backward()
        for name in ("blocks.0.0.query.weight", "blocks.1.1.up.weight", "letters.weight", "outlet.weight"):
            parameter = model.get_parameter(name)
            assert parameter.grad is not None
            flat = parameter.grad.reshape(-1)
            order = flat.abs().argsort(descending=True)[:3]
            slopes = []
            for at in order.tolist():
                with torch.no_grad():
                    values = []
                    for step in (1e-5, -2e-5):
                        parameter.reshape(-1)[at] += step
                        values.append(
                            float(nn.functional.cross_entropy(model(index).flatten(0, 1), target.flatten()))
                        )
                    parameter.reshape(-1)[at] += 1e-5
                slopes.append((values[0] - values[1]) / 2e-5)
            ratio = torch.tensor(slopes, dtype=torch.float64) / flat[order]
            assert float(ratio.min()) > 0
            assert float(ratio.max() / ratio.min()) == pytest.approx(1, rel=1e-3), name

    @settings(max_examples=25, deadline=None)
    @given(st.floats(-4, 4), st.floats(-4, 4), st.lists(st.floats(-100, 100), min_size=1, max_size=5))
    def test_scaled_multiplies_each_way_by_its_own_factor(
        self, f: float, b: float, values: list[float]
    ) -> None:
        x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        y = unit.scaled(x, f, b)
        assert torch.equal(y, x * f)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(gradient, torch.full_like(x, b))

    @pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'>:DeprecationWarning")
    def test_scaled_can_be_stacked_and_compiled(self) -> None:
        x = normal(4, 3).detach()
        pulled = torch.func.vmap(torch.func.grad(lambda v: unit.scaled(v, 3.0, 0.5).sum()))(x)
        assert torch.equal(pulled, torch.full((4, 3), 0.5))
        compiled: Any = torch.compile(lambda v: unit.scaled(v, 3.0, 0.5), backend="eager")
        assert torch.equal(compiled(x), 3 * x)


class TestResidual:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 12), st.floats(0.1, 4), st.floats(0.2, 5))
    def test_all_branches_of_a_kind_add_alike(self, layers: int, mult: float, ratio: float) -> None:
        """Unrolled to the end of the stream; appendix G: the two kinds together add 2 mult^2 times the embedding's variance."""
        taus = unit.residual_ratios(layers, mult, ratio)
        shares = []
        for i, tau in enumerate(taus):
            after = math.prod(1 / (1 + t * t) for t in taus[i + 1 :])
            shares.append(tau * tau / (1 + tau * tau) * after)
        start = math.prod(1 / (1 + t * t) for t in taus)
        assert shares[::2] == pytest.approx([shares[0]] * layers)
        assert shares[1::2] == pytest.approx([shares[1]] * layers)
        assert sum(shares) == pytest.approx(2 * mult * mult * start)
        assert shares[0] == pytest.approx(ratio**2 * shares[1])


class TestModel:
    @pytest.mark.parametrize(("width", "depth"), [(32, 2), (128, 2), (32, 8)])
    def test_every_matrix_gets_and_gives_values_near_one(self, width: int, depth: int) -> None:
        torch.manual_seed(0)
        model = unit.UnitTransformer(27, width, depth)
        seen: dict[str, float] = {}
        for name, module in model.named_modules():
            if isinstance(module, unit.UnitLinear):
                module.register_forward_hook(
                    lambda _m, i, o, n=name: seen.update({f"{n} in": rms(i[0]), f"{n} out": rms(o)})
                )
        index = torch.randint(27, (8, 32), generator=torch.Generator().manual_seed(2))
        scores = model(index)
        model.loss(scores, index.roll(1, 1)).backward()
        assert seen.pop("outlet out") == pytest.approx(width**-0.5, rel=0.3)
        assert min(seen.values()) > 0.8 and max(seen.values()) < 2.5
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            assert 0.05 < rms(parameter.grad) < 8, name

    @pytest.mark.slow
    def test_scores_change_alike_at_every_width(self) -> None:
        """A little less where it is wide, as the paper lets the embedding's rate fall; in the standard parametrization: in proportion."""
        found = []
        for width in (32, 64, 128):
            torch.manual_seed(0)
            model = unit.UnitTransformer(27, width, 2)
            stepper = torch.optim.Adam(unit.plan(model, "adam").param_groups(0.2))
            index = torch.randint(27, (8, 16), generator=torch.Generator().manual_seed(2))
            before = model(index).detach()
            for _ in range(3):
                stepper.zero_grad()
                model.loss(model(index), index.roll(1, 1)).backward()
                stepper.step()
            found.append(rms(model(index) - before))
        slope = math.log(found[-1] / found[0]) / math.log(4)
        assert -0.35 < slope < 0.1, found

    def test_it_computes_what_the_plan_of_a_plain_model_says_of_rates(self) -> None:
        model = unit.UnitTransformer(27, 64, 8)
        plan = unit.plan(model)
        entries = plan.entries
        assert entries["letters.weight"].lr == pytest.approx(64**-0.5)
        assert entries["outlet.weight"].lr == 1
        assert entries["blocks.3.0.query.weight"].lr == pytest.approx((8 * 64) ** -0.5)
        assert entries["blocks.3.1.down.weight"].lr == pytest.approx((8 * 256) ** -0.5)
        assert all(e.lr * e.wd == pytest.approx(1) for e in entries.values())
        groups = plan.param_groups(0.5, 0.1)
        assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
        assert scaling.Plan.from_json(plan.to_json()) == plan

    def test_without_a_gate_it_has_the_matrices_of_the_plain_transformer(self) -> None:
        torch.manual_seed(0)
        model = unit.UnitTransformer(27, 64, 2, gated=False)
        plain = CharTransformer(27, 64, 2, bias=False, affine=False)
        assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())
        index = torch.randint(27, (8, 32), generator=torch.Generator().manual_seed(2))
        seen: list[float] = []
        for block in model.blocks:
            block[1].down.register_forward_hook(lambda _m, i, _o: seen.append(rms(i[0])))  # type: ignore[index]
        model(index)
        assert seen == pytest.approx([1, 1], rel=0.15)

    def test_it_can_be_swept(self) -> None:
        def build(seed: int) -> nn.Module:
            torch.manual_seed(seed)
            return unit.UnitTransformer(5, 16, 1, context=8)

        index = torch.randint(5, (4, 8), generator=torch.Generator().manual_seed(2))
        found = scaling.sweep(
            build,
            [0.1, 0.3],
            [0, 1],
            lambda _: [(index, index)] * 12,
            unit.cross_entropy,
            steps=12,
            plan=unit.plan(build(0), "adam"),
        )
        assert (found.losses[:, :, -1] < 0.7 * found.losses[:, :, 0]).all()

    def test_what_has_no_rates_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="UnitLinear"):
            unit.plan(Mlp())
        with pytest.raises(ConfigError, match="adam"):
            unit.plan(unit.UnitTransformer(), "sgd")
        with pytest.raises(ConfigError, match="multiple of the heads"):
            unit.UnitTransformer(27, 30, 1, heads=4)


GRID = {"lr": (0.25, 0.5, 1.0, 2.0), "a": (0.5, 1.0, 2.0), "b": (0.5, 1.0, 2.0)}


class TestSearch:
    def test_it_finds_the_best_where_hyperparameters_do_not_interact(self) -> None:
        def loss(v: Mapping[str, float]) -> float:
            return math.log(v["lr"] / 0.5) ** 2 + math.log(v["a"] / 2) ** 2 + math.log(v["b"] / 0.5) ** 2

        found = unit.independent_search(loss, GRID)
        assert found.best == {"lr": 0.5, "a": 2.0, "b": 0.5}
        assert found.loss == pytest.approx(0)
        assert found.evaluations == 4 + 3 + 3 + 1 == len(found.trail)
        assert list(found.trail) == sorted(found.trail, reverse=True)

    def test_it_is_led_astray_where_they_do(self) -> None:
        """Each factor alone would be doubled, both together are too much: what the paper says of muP's multipliers."""

        def loss(v: Mapping[str, float]) -> float:
            return math.log(v["a"] * v["b"] / 2) ** 2

        found = unit.independent_search(loss, GRID)
        assert (found.best["a"], found.best["b"]) == (2.0, 2.0)
        assert found.loss > min(found.lines["a"])

    def test_trainings_that_break_down_lose(self) -> None:
        found = unit.independent_search(lambda v: math.nan if v["lr"] > 0.5 else -v["lr"], GRID)
        assert found.best["lr"] == 0.5
        assert found.lines["lr"][2:] == (math.inf, math.inf)

    def test_a_grid_without_the_first_or_with_an_empty_line_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="'lr'"):
            unit.independent_search(lambda _: 0.0, {"a": (1.0,)})
        with pytest.raises(ConfigError, match="line of values"):
            unit.independent_search(lambda _: 0.0, {"lr": (1.0,), "a": ()})
