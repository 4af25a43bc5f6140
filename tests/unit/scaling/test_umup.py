"""u-muP for plain modules: variance one everywhere, the paper's table, and changes that do not depend on the width."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tunewright import scaling
from tunewright.bench.micro import CharTransformer, ConvNet, Mlp, ResidualMlp

TRANSFORMER = scaling.Family(CharTransformer, base={"width": 32, "depth": 2})
BARE = scaling.Family(CharTransformer, base={"width": 32}, fixed={"bias": False, "affine": False})
MLP = scaling.Family(Mlp, base={"width": 32})


def changes(family: scaling.Family, width: int, optimizer: Any, lr: float, steps: int = 3) -> float:
    """Root mean square change of the scores after some steps."""
    model, plan = family.build("u-mup", 1, optimizer=optimizer, width=width)
    groups = plan.param_groups(lr)
    made: Any = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    stepper = made(groups)
    generator = torch.Generator().manual_seed(3)
    if isinstance(model, CharTransformer):
        x = torch.randint(27, (8, 16), generator=generator)
        y = torch.randint(27, (8, 16), generator=generator)
    else:
        x = torch.randn(64, 64, generator=generator)
        y = torch.randint(10, (64,), generator=generator)
    before = model(x).detach()
    for _ in range(steps):
        stepper.zero_grad()
        out = model(x)
        nn.functional.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1)).backward()
        stepper.step()
    return float((model(x).detach() - before).square().mean().sqrt())


class TestTable:
    """Table 2 of the paper at absolute sizes."""

    def test_a_transformer_has_the_rates_and_multipliers_of_the_table(self) -> None:
        plan = TRANSFORMER.plan("u-mup", width=64, depth=8, model=TRANSFORMER.model(width=64, depth=8))
        d, deep = 64, 8**-0.5
        e = plan.entries
        assert e["letters.weight"].lr == pytest.approx(d**-0.5)
        assert e["letters.weight"].std == 1
        query = e["blocks.3.0.branch.1.query.weight"]
        assert (query.std, query.lr) == (1.0, pytest.approx(deep * d**-0.5))
        down = e["blocks.3.1.branch.3.weight"]
        assert (down.std, down.lr) == (1.0, pytest.approx(deep * (4 * d) ** -0.5))
        assert e["outlet.weight"].lr == 1
        assert e["blocks.0.0.branch.0.weight"].lr == pytest.approx(deep)
        assert e["blocks.0.0.branch.0.weight"].value == 1
        assert e["outlet.bias"].lr == 1
        factors = {(m.module, m.where): m.factor for m in plan.multipliers}
        assert factors["outlet", "input"] == pytest.approx(1 / d)
        assert factors["blocks.3.1.branch.3", "input"] == pytest.approx((4 * d) ** -0.5)
        assert factors["blocks.5.0.branch", "output"] == pytest.approx(8**-0.5)
        assert all(entry.lr * entry.wd == pytest.approx(1) for entry in e.values())

    def test_the_base_decides_nothing(self) -> None:
        one = MLP.plan("u-mup", width=128)
        other = scaling.Family(Mlp, base={"width": 8}).plan("u-mup", width=128)
        for name, entry in one.entries.items():
            assert (entry.lr, entry.wd, entry.std, entry.multiplier) == (
                other.entries[name].lr,
                other.entries[name].wd,
                other.entries[name].std,
                other.entries[name].multiplier,
            )

    def test_branches_are_the_papers_ratios_up_to_the_scale_of_the_stream(self) -> None:
        """Unrolled, ``x <- (x + tau_i f_i(x)) / sqrt(1 + tau_i^2)`` has all its branches at one factor (appendix G)."""
        depth = 6
        layers = 2 * depth
        total, factors = 1.0, []
        for i in range(layers):
            tau = (layers / 2 + (i + 1) // 2 + i // 2) ** -0.5
            factors.append(tau * math.sqrt(total))
            total *= 1 + tau**2
        plan = TRANSFORMER.plan("u-mup", depth=depth)
        branches = [m.factor for m in plan.multipliers if m.where == "output"]
        assert len(branches) == layers
        assert branches == pytest.approx(factors)

    def test_sgd_moves_relative_to_another_width_as_mup_does(self) -> None:
        """What multiplies a matrix may be folded into it, and then first values and rates are those of muP."""
        both: tuple[Any, ...] = ("sgd", "adam")
        for optimizer in both:
            ratios = {}
            for name in ("mup", "u-mup"):
                small = MLP.plan(name, optimizer=optimizer, form="folded", width=32)
                large = MLP.plan(name, optimizer=optimizer, form="folded", width=256)
                ratios[name] = {
                    n: (large.entries[n].lr / small.entries[n].lr, e.std and large.entries[n].std / e.std)
                    for n, e in small.entries.items()
                    if n.endswith("weight")
                }
            for n, found in ratios["u-mup"].items():
                assert found == pytest.approx(ratios["mup"][n]), (optimizer, n)

    def test_matrices_that_do_not_grow_and_convolutions_have_variance_one_too(self) -> None:
        family = scaling.Family(ConvNet, base={"width": 16})
        plan = family.plan("u-mup", width=32)
        kernel = plan.entries["convolutions.0.weight"]
        assert (kernel.std, kernel.multiplier) == (1.0, pytest.approx((32 * 9) ** -0.5))

        class Fixed(Mlp):
            def __init__(self, width: int) -> None:
                super().__init__(8, 4, width)
                self.front = nn.Linear(8, 8)

        fixed = scaling.Family(Fixed, base={"width": 16}).plan("u-mup", width=32).entries["front.weight"]
        assert fixed.role == "scalar"
        assert (fixed.std, fixed.lr, fixed.multiplier) == (
            1.0,
            pytest.approx(8**-0.5),
            pytest.approx(8**-0.5),
        )

    def test_tuned_factors_go_where_they_belong(self) -> None:
        tuned = scaling.Tuned(init=2.0, output=3.0, residual=0.5, attention=4.0)
        plan = TRANSFORMER.plan("u-mup", tuned=tuned, width=64)
        factors = {(m.module, m.where): m.factor for m in plan.multipliers}
        assert factors["outlet", "input"] == pytest.approx(3 / 64)
        assert factors["blocks.0.0.branch", "output"] == pytest.approx(0.5 * 2**-0.5)
        assert plan.entries["blocks.0.0.branch.1.key.weight"].std == 2
        assert factors["blocks.0.0.branch.1.query", "output"] == pytest.approx(4)


class TestScale:
    def test_activations_start_near_one_at_every_width_and_depth(self) -> None:
        seen: list[float] = []

        def note(_module: nn.Module, _inputs: Any, out: torch.Tensor) -> None:
            seen.append(float(out.detach().square().mean().sqrt()))

        for width, depth in ((32, 2), (128, 2), (64, 8)):
            model, _ = TRANSFORMER.build("u-mup", 0, width=width, depth=depth)
            for layer in model.modules():
                if isinstance(layer, nn.Linear) and layer is not model.outlet:
                    layer.register_forward_hook(note)
            model(torch.randint(27, (8, 32), generator=torch.Generator().manual_seed(0)))
        assert len(seen) == 6 * (2 + 2 + 8)
        assert min(seen) > 0.2 and max(seen) < 2, (min(seen), max(seen))

    @pytest.mark.parametrize(
        ("family", "optimizer", "lr"),
        [(MLP, "adam", 0.2), (MLP, "sgd", 0.1), (BARE, "adam", 0.2)],
        ids=["mlp-adam", "mlp-sgd", "transformer-adam"],
    )
    def test_scores_change_alike_at_every_width(
        self, family: scaling.Family, optimizer: Any, lr: float
    ) -> None:
        widths = (32, 64, 128) if family is BARE else (64, 256, 1024)
        found = [changes(family, w, optimizer, lr) for w in widths]
        slope = (math.log(found[-1]) - math.log(found[0])) / math.log(widths[-1] / widths[0])
        assert abs(slope) < 0.2, found

    def test_a_residual_network_changes_alike_at_every_depth(self) -> None:
        family = scaling.Family(ResidualMlp, base={"width": 64, "depth": 2}, fixed={"norm": True})
        found = []
        for depth in (2, 8, 32):
            model, plan = family.build("u-mup", 1, optimizer="adam", depth=depth)
            stepper = torch.optim.Adam(plan.param_groups(0.1))
            generator = torch.Generator().manual_seed(3)
            x, y = (
                torch.randn(64, 64, generator=generator),
                torch.randint(10, (64,), generator=generator),
            )
            before = model(x).detach()
            for _ in range(3):
                stepper.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                stepper.step()
            found.append(float((model(x).detach() - before).square().mean().sqrt()))
        assert max(found) / min(found) < 2, found
