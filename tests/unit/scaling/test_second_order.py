"""The exponents for K-FAC and Shampoo: as published, and measured, by how far every layer moves at growing widths."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tunewright import scaling
from tunewright.bench.micro import Mlp
from tunewright.errors import ConfigError
from tunewright.optim import Kfac, Shampoo
from tunewright.scaling.plans import ScalingWarning

FAMILY = scaling.Family(Mlp, base={"width": 32}, fixed={"depth": 3})
LAYERS = ("inlet", "hidden.0", "hidden.1", "outlet")


@pytest.mark.parametrize("optimizer", ["kfac", "shampoo"])
def test_exponents_are_those_of_the_paper_s_code(optimizer: Any) -> None:
    """Rates of input, hidden and output go with the width to the power -c: c = 0, 0, 0 for K-FAC and -1/2, 0, 1/2 for Shampoo."""
    base, wide = (FAMILY.plan("second-order", width=w, optimizer=optimizer).entries for w in (32, 32 * 16))
    published = {"kfac": (0, 0, 0), "shampoo": (-0.5, 0, 0.5)}[optimizer]
    for layer, c, b in zip(("inlet", "hidden.1", "outlet"), published, (0, 0.5, 1), strict=True):
        now, was = wide[f"{layer}.weight"], base[f"{layer}.weight"]
        assert np.log(now.lr / was.lr) / np.log(16) == pytest.approx(-c)
        assert np.log(now.std / was.std) / np.log(16) == pytest.approx(-b)
        assert now.lr * now.wd == pytest.approx(1.0)


def test_nothing_changes_at_the_base_and_nothing_is_multiplied() -> None:
    plan = FAMILY.plan("second-order", width=32, optimizer="kfac")
    assert plan.multipliers == ()
    assert all(e.lr == e.wd == e.eps == 1.0 for e in plan.entries.values())


def test_sides_that_grow_by_different_factors() -> None:
    def model(a: int, b: int) -> nn.Module:
        return nn.Sequential(nn.Linear(4, a), nn.Linear(a, b), nn.Linear(b, 2))

    plan = scaling.plan("second-order", model(80, 30), model(8, 6), optimizer="shampoo")
    assert plan.entries["1.weight"].lr == pytest.approx((5 / 10) ** 0.5)
    assert plan.entries["1.weight"].eps == pytest.approx(10 / 5)
    assert plan.entries["2.weight"].eps == pytest.approx(5)
    assert plan.entries["0.bias"].eps == pytest.approx(1 / 10)


def test_other_optimizers_are_refused() -> None:
    with pytest.raises(ConfigError, match="kfac"):
        FAMILY.plan("second-order", width=64, optimizer="adamw")


def test_groups_without_eps_are_warned_of() -> None:
    model, plan = FAMILY.build("second-order", seed=0, width=64, optimizer="kfac")
    with pytest.warns(ScalingWarning, match="pass eps="):
        plan.param_groups(0.01, model=model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(g["eps"] > 0 for g in plan.param_groups(0.01, model=model, eps=0.1))


def _changes(rule: str, optimizer: str, width: int, **more: Any) -> np.ndarray:
    """RMS of the change of every layer's outputs by three steps, shape ``(4,)``, mean over three seeds."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, 64, generator=generator), torch.randint(10, (32,), generator=generator)
    found = []
    for seed in range(3):
        model, plan = FAMILY.build(rule, seed=seed, width=width, optimizer=optimizer)  # type: ignore[arg-type]
        relative = more.get("damping") == "relative"
        groups = plan.param_groups(more["lr"], eps=None if relative else more["eps"])
        steps: torch.optim.Optimizer
        if optimizer == "kfac":
            steps = Kfac(groups, model, eps=more["eps"], damping=more["damping"])
        else:
            steps = Shampoo(groups, eps=more["eps"])
        seen: dict[str, list[torch.Tensor]] = {name: [] for name in LAYERS}
        for name in LAYERS:
            model.get_submodule(name).register_forward_hook(
                lambda _m, _a, out, kept=seen[name]: kept.append(out.detach())
            )
        for _ in range(3):
            steps.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            steps.step()
        model(x)
        found.append([float((h[-1] - h[0]).square().mean().sqrt()) for h in seen.values()])
    return np.mean(found, axis=0)


CASES = [
    ("kfac", {"lr": 0.003, "eps": 0.1, "damping": "trace"}),
    ("kfac", {"lr": 0.001, "eps": 0.01, "damping": "relative"}),
    ("shampoo", {"lr": 0.02, "eps": 1e-6}),
    ("shampoo", {"lr": 0.05, "eps": 1e-2}),
]


@pytest.mark.filterwarnings("ignore:Under second-order the eps")
@pytest.mark.parametrize(("optimizer", "more"), CASES)
def test_every_layer_moves_as_far_at_every_width(optimizer: str, more: dict[str, Any]) -> None:
    def exponents(rule: str) -> np.ndarray:
        narrow, wide = (_changes(rule, optimizer, width, **more) for width in (32, 160))
        return np.log(wide / narrow) / np.log(5)

    assert np.abs(exponents("second-order")).max() < 0.2
    assert exponents("sp")[0] < -0.3
