"""What every parametrization keeps: plans are data, the same for the same shapes, and a model with one survives copies and reloads."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

from tunewright import scaling
from tunewright.bench.micro import CharTransformer, ConvNet, Mlp, ResidualMlp
from tunewright.scaling import multipliers
from tunewright.scaling.rules import RULES, rule

FAMILIES = {
    "mlp": scaling.Family(Mlp, base={"width": 32}),
    "residual": scaling.Family(ResidualMlp, base={"width": 32, "depth": 2}),
    "transformer": scaling.Family(CharTransformer, base={"width": 32, "depth": 2}),
    "convolutional": scaling.Family(ConvNet, base={"width": 16}),
}
RELATIVE = ("sp", "mup", "sp-layerwise", "sp-no-alignment", "depth-mup", "depthwise")


def cases() -> list[Any]:
    """Each rule with each family and an optimizer of its own that it has rates for."""
    out = []
    for name in RULES:
        known = rule(name).optimizers
        for family in FAMILIES:
            if name == "architecture-aware" and family == "transformer":
                continue  # is for networks of linear layers and convolutions, and says so
            optimizer = next(o for o in ("adamw", "adam", "sgd", "kfac", "shampoo") if o in known)
            out.append(pytest.param(name, family, optimizer, id=f"{name}-{family}-{optimizer}"))
    return out


def inputs(model: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    if isinstance(model, CharTransformer):
        return torch.randint(27, (2, 8), generator=generator)
    if isinstance(model, ConvNet):
        return torch.randn(2, 1, 8, 8, generator=generator)
    return torch.randn(2, 64, generator=generator)


def planned(name: str, family: str, optimizer: Any, **more: Any) -> tuple[nn.Module, scaling.Plan]:
    made = FAMILIES[family]
    width = 2 * made.base["width"]
    return made.build(name, 0, optimizer=optimizer, width=width, **more)


@pytest.mark.parametrize(("name", "family", "optimizer"), cases())
class TestEveryRule:
    def test_a_plan_is_the_same_twice_and_from_saved_shapes(
        self, name: str, family: str, optimizer: Any
    ) -> None:
        made = FAMILIES[family]
        width = 2 * made.base["width"]
        model, base = made.model(width=width), made.model()
        first = scaling.plan(name, model, base, optimizer=optimizer)
        assert first == scaling.plan(name, model, base, optimizer=optimizer)
        saved = scaling.shapes(base, graph=name == "architecture-aware").to_dict()
        again = scaling.plan(name, model, saved, optimizer=optimizer)
        assert again == first
        assert scaling.Plan.from_json(first.to_json()) == first

    def test_the_order_of_parameters_does_not_matter(self, name: str, family: str, optimizer: Any) -> None:
        model, plan = planned(name, family, optimizer)
        turned = FAMILIES[family].model(width=2 * FAMILIES[family].base["width"])
        for module in turned.modules():
            module._parameters = dict(reversed(module._parameters.items()))
        turned._modules = dict(reversed(turned._modules.items()))
        other = scaling.plan(name, turned, FAMILIES[family].model(), optimizer=optimizer)
        assert {n: e.lr for n, e in other.entries.items()} == {n: e.lr for n, e in plan.entries.items()}
        assert list(other.entries) == list(plan.entries)
        plan.init_(turned, 0)
        for n, p in model.named_parameters():
            assert torch.equal(p, dict(turned.named_parameters())[n]), n

    def test_first_values_have_the_deviation_that_the_plan_says(
        self, name: str, family: str, optimizer: Any
    ) -> None:
        model, plan = planned(name, family, optimizer)
        for n, p in model.named_parameters():
            entry = plan.entries[n]
            if entry.start in ("normal", "uniform") and p.numel() >= 500:
                assert float(p.detach().square().mean().sqrt()) == pytest.approx(
                    entry.std, rel=5 / (2 * p.numel()) ** 0.5
                )
            elif entry.start == "constant":
                assert bool((p == entry.value).all()), n

    def test_every_rate_is_in_exactly_one_group(self, name: str, family: str, optimizer: Any) -> None:
        model, plan = planned(name, family, optimizer)
        groups = plan.param_groups(0.5, 0.1, model=model, eps=1e-8)
        seen = [id(p) for g in groups for p in g["params"]]
        assert sorted(seen) == sorted(id(p) for p in model.parameters())
        for group in groups:
            for n in group["names"]:
                assert group["lr"] == pytest.approx(plan.rates(0.5)[n])
                assert group["weight_decay"] == pytest.approx(0.1 * plan.entries[n].wd)

    def test_copies_compiled_models_and_reloaded_ones_compute_the_same(
        self, name: str, family: str, optimizer: Any
    ) -> None:
        model, plan = planned(name, family, optimizer)
        x = inputs(model)
        expected = model(x)
        twin = copy.deepcopy(model)
        assert torch.equal(twin(x), expected)
        assert multipliers.attached(twin) == plan.multipliers
        compiled = torch.compile(model, backend="eager")
        assert torch.allclose(compiled(x), expected, rtol=1e-6, atol=1e-6)
        assert len(plan.param_groups(0.1, model=compiled, eps=1e-8)) == len(
            plan.param_groups(0.1, model=model, eps=1e-8)
        )
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        anew = FAMILIES[family].model(width=2 * FAMILIES[family].base["width"])
        anew.load_state_dict(torch.load(file, weights_only=True))
        scaling.Plan.from_json(plan.to_json()).attach_(anew)
        assert torch.equal(anew(x), expected)

    def test_hanging_the_factors_on_twice_is_hanging_them_on_once(
        self, name: str, family: str, optimizer: Any
    ) -> None:
        model, plan = planned(name, family, optimizer)
        expected = model(inputs(model))
        plan.attach_(model)
        assert torch.equal(model(inputs(model)), expected)
        multipliers.detach_(model)
        assert multipliers.attached(model) == ()


@pytest.mark.parametrize("name", RELATIVE)
@pytest.mark.parametrize("family", FAMILIES)
def test_at_the_base_nothing_changes(name: str, family: str) -> None:
    plan = FAMILIES[family].plan(name)
    assert plan.multipliers == ()
    for entry in plan.entries.values():
        assert (entry.lr, entry.wd, entry.multiplier) == (1.0, 1.0, 1.0)
    base = FAMILIES[family].model()
    for n, p in base.named_parameters():
        if plan.entries[n].std:
            bound = 3**0.5 * plan.entries[n].std if plan.entries[n].start == "uniform" else 10.0
            assert float(p.detach().abs().max()) <= bound * (1 + 1e-6)


@pytest.mark.parametrize("name", ["mup"])
@pytest.mark.parametrize("family", ["mlp", "transformer"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.filterwarnings("ignore:Adam adds its decay")
def test_both_forms_train_alike(name: str, family: str, optimizer: Any) -> None:
    """The abc symmetry: a multiplier may go into first values and rates, here in double precision and with no eps."""
    losses = []
    for form in ("multipliers", "folded"):
        torch.manual_seed(0)
        model, plan = planned(name, family, optimizer, form=form)
        model = model.double()
        groups = plan.param_groups(0.01, 0.1, model=model, eps=1e-30)
        kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        chosen: Any = kinds[optimizer]
        if optimizer == "sgd":
            groups = [{k: v for k, v in g.items() if k != "eps"} for g in groups]
        stepper = chosen(groups, lr=0.01)
        x = inputs(model)
        x = x if x.dtype == torch.long else x.double()
        target = torch.zeros(x.shape if family == "transformer" else len(x), dtype=torch.long)
        found = []
        for _ in range(6):
            out = model(x)
            loss = nn.functional.cross_entropy(out.reshape(-1, out.shape[-1]), target.reshape(-1))
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            found.append(loss.item())
        losses.append(found)
    tolerance = 1e-9 if family == "mlp" or optimizer == "sgd" else 2e-2
    assert losses[0] == pytest.approx(losses[1], rel=tolerance)
