"""Parametrizations by exponents: the table of the paper, its symmetries, and changes that do not depend on the width."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tunewright import scaling
from tunewright.bench.micro import CharTransformer, Mlp
from tunewright.scaling.rules import abc as rules
from tunewright.scaling.rules import rule

MLP = scaling.Family(Mlp, base={"width": 64})
NAMES: dict[str, rules.Exponents] = {
    "sp-layerwise": rules.STANDARD,
    "ntk": rules.NTK,
    "mup-abc": rules.MUP,
    "mean-field": rules.MEAN_FIELD,
}
LAYERS: tuple[rules.Layer, ...] = ("embedding", "hidden", "readout")
# Exponents c of table 1 of Everett et al., for the embedding, hidden layers and the readout.
FULL = {
    ("sp-layerwise", "sgd"): (-0.5, 0.5, 1.0),
    ("sp-layerwise", "adam"): (0.0, 1.0, 1.0),
    ("sp-layerwise", "adafactor"): (0.0, 0.5, 0.5),
    ("ntk", "sgd"): (-0.5, -0.5, 0.0),
    ("ntk", "adam"): (0.0, 0.5, 0.5),
    ("ntk", "adafactor"): (0.0, 0.5, 0.5),
    ("mup-abc", "sgd"): (0.0, 0.0, 0.0),
    ("mup-abc", "adam"): (0.5, 1.0, 0.5),
    ("mup-abc", "adafactor"): (0.0, 0.5, 0.0),
    ("mean-field", "sgd"): (-1.0, -1.0, -1.0),
    ("mean-field", "adam"): (0.0, 0.5, 0.0),
    ("mean-field", "adafactor"): (0.0, 0.5, 0.0),
}


@pytest.mark.parametrize(("name", "optimizer"), FULL)
def test_rates_are_those_of_the_table(name: str, optimizer: str) -> None:
    found = tuple(sum(rules.rate_exponent(NAMES[name], layer, optimizer)) for layer in LAYERS)
    assert found == FULL[name, optimizer]
    loose = tuple(sum(rules.rate_exponent(NAMES[name], layer, optimizer, "none")) for layer in LAYERS)
    assert loose == (found[0], found[1] - 0.5, found[2] - 0.5)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adafactor"])
@pytest.mark.parametrize(("one", "other"), [("sp-layerwise", "ntk"), ("mup-abc", "mean-field")])
def test_two_and_two_are_the_same_training(one: str, other: str, optimizer: str) -> None:
    """A symmetry: ``a + t, b - t`` with ``c - 2 t`` (SGD), ``c - t`` (Adam), ``c`` (Adafactor) changes nothing."""
    for layer in LAYERS:
        (a1, b1), (a2, b2) = NAMES[one].of(layer), NAMES[other].of(layer)
        assert a1 + b1 == a2 + b2
        moved = {"sgd": 2.0, "adam": 1.0, "adafactor": 0.0}[optimizer] * (a2 - a1)
        there = sum(rules.rate_exponent(NAMES[other], layer, optimizer))
        assert there == pytest.approx(sum(rules.rate_exponent(NAMES[one], layer, optimizer)) - moved)


def scores(name: str, width: int, optimizer: str, lr: float, steps: int = 3) -> list[torch.Tensor]:
    """Scores before training and after each step."""
    chosen: Any = optimizer
    plan = MLP.plan(name, optimizer=chosen, width=width, model=(model := MLP.model(width=width)))
    plan.apply_(model, 1)
    groups = plan.param_groups(lr, eps=1e-12)
    made: dict[str, Any] = {
        "sgd": lambda g: torch.optim.SGD([{k: v for k, v in x.items() if k != "eps"} for x in g]),
        "adam": torch.optim.Adam,
        "adafactor": lambda g: torch.optim.Adafactor([{k: v for k, v in x.items() if k != "eps"} for x in g]),
    }
    stepper = made[optimizer](groups)
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(64, 64, generator=generator), torch.randint(10, (64,), generator=generator)
    out = [model(x).detach()]
    for _ in range(steps):
        stepper.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        stepper.step()
        out.append(model(x).detach())
    return out


def change(*args: Any) -> float:
    out = scores(*args)
    return float((out[-1] - out[0]).square().mean().sqrt())


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adafactor"])
@pytest.mark.parametrize("name", NAMES)
def test_scores_change_alike_at_every_width(name: str, optimizer: str) -> None:
    """SP and NTK have an initial readout whose share in the change grows with the root of the width: the paper's omega."""
    lr = {"sgd": 0.1, "adam": 0.005, "adafactor": 0.05}[optimizer]
    widths = (64, 256, 1024)
    found = [change(name, w, optimizer, lr) for w in widths]
    slope = math.log(found[-1] / found[0]) / math.log(widths[-1] / widths[0])
    assert -0.25 < slope < (0.6 if NAMES[name].scores == 0.5 else 0.25), found


def test_without_alignment_rates_are_too_large_at_first() -> None:
    wide = [change(n, 1024, "adam", 0.005) for n in ("sp-layerwise", "sp-no-alignment")]
    base = [change(n, 64, "adam", 0.005) for n in ("sp-layerwise", "sp-no-alignment")]
    assert base[0] == base[1]
    assert wide[1] > 2 * wide[0]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_mup_trains_as_its_other_form(optimizer: str) -> None:
    """The exponents of the paper's muP and the table of Yang et al. are one training, up to what is done to biases."""
    bare = scaling.Family(Mlp, base={"width": 64}, fixed={"bias": False})
    outs = []
    for name in ("mup", "mup-abc"):
        chosen: Any = optimizer
        model = bare.model(width=256).double()
        plan = bare.plan(name, optimizer=chosen, width=256, model=model)
        plan.apply_(model, 1)
        groups = plan.param_groups(0.05, eps=1e-30)
        generator = torch.Generator().manual_seed(3)
        x = torch.randn(32, 64, generator=generator, dtype=torch.float64)
        y = torch.randint(10, (32,), generator=generator)
        made: Any = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
        stepper = made([{k: v for k, v in g.items() if k != "eps" or optimizer == "adam"} for g in groups])
        for _ in range(4):
            stepper.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            stepper.step()
        outs.append(model(x).detach())
    assert torch.allclose(outs[0], outs[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [*NAMES, "mup", "u-mup"])
def test_eps_falls_as_gradients_do(name: str) -> None:
    ratios: dict[str, list[float]] = {}
    eps: dict[str, float] = {}
    for width in (64, 1024):
        model, plan = MLP.build(name, 1, optimizer="adam", width=width)
        generator = torch.Generator().manual_seed(3)
        x, y = torch.randn(64, 64, generator=generator), torch.randint(10, (64,), generator=generator)
        nn.functional.cross_entropy(model(x), y).backward()
        for n, p in model.named_parameters():
            assert p.grad is not None
            ratios.setdefault(n, []).append(float(p.grad.square().mean().sqrt()))
            eps[n] = plan.entries[n].eps
    for n, (small, large) in ratios.items():
        assert math.log(large / small) / math.log(16) == pytest.approx(
            math.log(eps[n]) / math.log(16), abs=0.12
        ), n


def test_optimizers_without_eps_have_none_to_scale() -> None:
    for optimizer in ("adam-atan2", "lion", "sgd", "adafactor"):
        chosen: Any = optimizer
        assert {e.eps for e in MLP.plan("ntk", optimizer=chosen, width=512).entries.values()} == {1.0}


def test_attention_and_tuned_factors() -> None:
    family = scaling.Family(CharTransformer, base={"width": 32}, fixed={"heads": 2})
    tuned = scaling.Tuned(init=2.0, input=3.0, output=5.0, attention=7.0)
    plan = family.plan("ntk", width=128, tuned=tuned, model=family.model(width=128))
    factors = {(m.module, m.where): m.factor for m in plan.multipliers}
    assert factors["outlet", "input"] == pytest.approx(5 / 2)
    assert factors["blocks.0.0.branch.1.query", "output"] == pytest.approx(7 / 2)
    assert plan.entries["letters.weight"].multiplier == 3
    base = family.plan("ntk").entries["blocks.0.0.branch.1.key.weight"].std
    assert plan.entries["blocks.0.0.branch.1.key.weight"].std == pytest.approx(2 * base)
    assert rule("sp-layerwise").attention(4.0, rule_setting()) == 1


def rule_setting() -> Any:
    from tunewright.scaling.rules.base import Setting

    return Setting("adam")
