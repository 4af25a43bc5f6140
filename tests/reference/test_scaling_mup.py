"""Our muP beside that of microsoft/mup 1.0.0 on the same network: rates, decays, first values and multiplier.

The figures below were read off that package with torch 2.13: ``set_base_shapes(model, base of width 64, delta of width 128)``, its
``MuAdam``, ``MuAdamW(weight_decay=0.1)`` and ``MuSGD(weight_decay=0.1)`` at rate 1, and the factor between its first values and
PyTorch's for the same seed. That package keeps what it knows of a tensor as an attribute of it, which a deep copy loses.
"""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tunewright import scaling  # noqa: E402

BASE = 64
# kind of tensor -> (Adam's rate, AdamW's decay over that given, SGD's rate, SGD's decay, first values over PyTorch's)
MUP = {
    128: {
        "input": (1.0, 1.0, 2.0, 0.5, 1.0),
        "bias": (1.0, 1.0, 2.0, 0.5, 1.4142135),
        "first bias": (1.0, 1.0, 2.0, 0.5, 1.0),
        "hidden": (0.5, 2.0, 1.0, 1.0, 1.0),
        "readout": (1.0, 1.0, 2.0, 0.5, 1.4142135),
        "last bias": (1.0, 1.0, 1.0, 1.0, 1.4142135),
        "multiplier": (0.5,),
    },
    512: {
        "input": (1.0, 1.0, 8.0, 0.125, 1.0),
        "bias": (1.0, 1.0, 8.0, 0.125, 2.8284271),
        "first bias": (1.0, 1.0, 8.0, 0.125, 1.0),
        "hidden": (0.125, 8.0, 1.0, 1.0, 1.0),
        "readout": (1.0, 1.0, 8.0, 0.125, 2.8284271),
        "last bias": (1.0, 1.0, 1.0, 1.0, 2.8284271),
        "multiplier": (0.125,),
    },
}
KINDS = {
    "inlet.weight": "input",
    "inlet.bias": "first bias",
    "hidden.0.weight": "hidden",
    "hidden.0.bias": "bias",
    "hidden.1.weight": "hidden",
    "hidden.1.bias": "bias",
    "mix.weight": "hidden",
    "mix.bias": "bias",
    "back.weight": "hidden",
    "outlet.weight": "readout",
    "outlet.bias": "last bias",
}


class Network(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inlet = nn.Linear(64, width)
        self.hidden = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.mix = nn.Linear(width, 3 * width)
        self.back = nn.Linear(3 * width, width, bias=False)
        self.outlet = nn.Linear(width, 10)

    def forward(self, x: Any) -> Any:
        h = self.inlet(x).relu()
        for layer in self.hidden:
            h = layer(h).relu()
        return self.outlet(self.back(self.mix(h).relu()))


def plan_of(model: nn.Module, optimizer: Any) -> Any:
    return scaling.plan("mup", model, Network(BASE), Network(2 * BASE), optimizer=optimizer)


def settings(groups: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    return {name: (g["lr"], g["weight_decay"]) for g in groups for name in g["names"]}


@pytest.mark.parametrize("width", [128, 512])
def test_rates_and_decays_are_those_of_mup(width: int) -> None:
    model = Network(width)
    golden = MUP[width]
    found = settings(plan_of(model, "adamw").param_groups(1.0, 0.1))
    assert set(found) == set(KINDS)
    for name, kind in KINDS.items():
        assert found[name] == pytest.approx((golden[kind][0], 0.1 * golden[kind][1]), rel=1e-6), name
    found = settings(plan_of(model, "sgd").param_groups(1.0, 0.1))
    for name, kind in KINDS.items():
        assert found[name] == pytest.approx((golden[kind][2], 0.1 * golden[kind][3]), rel=1e-6), name


@pytest.mark.parametrize("width", [128, 512])
def test_first_values_and_the_multiplier_are_those_of_mup(width: int) -> None:
    model = Network(width)
    plan = plan_of(model, "adam")
    named = dict(model.named_modules())
    for name, kind in KINDS.items():
        fan_in = named[name.rpartition(".")[0]].weight.shape[1]
        pytorch = (3 * fan_in) ** -0.5  # uniform within one over the root of the fan-in
        entry = plan.entries[name]
        assert entry.std**2 == pytest.approx((pytorch * MUP[width][kind][4]) ** 2, rel=1e-6), name
        assert entry.start == "uniform"
    assert [(m.module, m.factor) for m in plan.multipliers] == [("outlet", *MUP[width]["multiplier"])]


def test_at_the_base_nothing_changes() -> None:
    model = Network(BASE)
    plan = plan_of(model, "adamw")
    assert not plan.multipliers
    assert set(settings(plan.param_groups(0.01, 0.1)).values()) == {(0.01, 0.1)}


def steps(model: nn.Module, groups: list[dict[str, Any]], count: int = 3) -> list[float]:
    g = torch.Generator().manual_seed(7)
    x, y = torch.randn(16, 64, generator=g), torch.randint(0, 10, (16,), generator=g)
    optimizer, out = torch.optim.AdamW(groups), []
    for _ in range(count):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        torch.autograd.backward(loss)
        optimizer.step()
        out.append(float(loss.detach()))
    return out


@pytest.mark.slow
def test_a_plan_survives_a_copy_compilation_and_a_checkpoint() -> None:
    model = Network(128)
    plan = plan_of(model, "adamw")
    plan.apply_(model, seed=4)
    reloaded = Network(128)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    reloaded.load_state_dict(torch.load(file, weights_only=True))
    plan.attach_(reloaded)
    copied = copy.deepcopy(model)
    compiled: Any = torch.compile(copy.deepcopy(model), backend="eager")
    expected = settings(plan.param_groups(0.01, 0.1))
    losses = steps(model, plan.param_groups(0.01, 0.1))
    for other in (copied, compiled, reloaded):
        groups = plan.param_groups(0.01, 0.1, model=other)
        assert settings(groups) == expected
        assert steps(other, groups) == pytest.approx(losses, rel=1e-6)
    assert scaling.Plan.from_json(plan.to_json()) == plan
