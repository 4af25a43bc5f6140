"""Every parametrization beside the exponents of its paper, worked out by hand, for every kind of tensor and every optimizer.

A tensor's first deviation, multiplier, rate, decay and eps go with the width to a power; the powers below are those for square
growth of all layers. Sources: table 8 of Yang et al. 2022 (arXiv:2203.03466) for ``mup``; table 1 and the tables of rates and of eps of
Everett et al. 2024 (arXiv:2407.05872) for the parametrizations by exponents; table 2 of Blake et al. 2024 (arXiv:2407.17465) for
``u-mup``; proposition 4.1 of Ishikawa and Karakida 2023 (arXiv:2312.12226) for ``second-order``. Eps follows the entries of
gradients: what comes back from scores that fall as ``n^-s`` is ``n^-s`` in size, times the tensor's multiplier.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tunewright import scaling  # noqa: E402
from tunewright.bench.micro import CharTransformer, Mlp  # noqa: E402

BASE, WIDTH = 32, 512
MLP = scaling.Family(Mlp, base={"width": BASE})
TENSORS = ("inlet.weight", "hidden.0.weight", "outlet.weight", "hidden.0.bias")
ADAMS = ("adam", "adamw", "adam-atan2", "lion")
Powers = tuple[float, float, float, float]
H = 0.5

# rule -> powers of the deviation and of the multiplier; input, hidden, output, vector
STARTS: dict[str, tuple[Powers, Powers]] = {
    "mup": ((0, -H, 0, 0), (0, 0, -1, 0)),
    "u-mup": ((0, 0, 0, 0), (0, -H, -1, 0)),
    "sp-layerwise": ((0, -H, -H, -H), (0, 0, 0, 0)),
    "sp-no-alignment": ((0, -H, -H, -H), (0, 0, 0, 0)),
    "ntk": ((0, 0, 0, 0), (0, -H, -H, 0)),
    "mean-field": ((0, 0, 0, 0), (0, -H, -1, 0)),
    "mup-abc": ((-H, -H, -H, 0), (H, 0, -H, 0)),
    "second-order": ((0, -H, -1, 0), (0, 0, 0, 0)),
}
# (rule, optimizer) -> powers of the rate
RATES: dict[tuple[str, str], Powers] = {
    ("mup", "adam"): (0, -1, 0, 0),
    ("mup", "sgd"): (1, 0, 1, 1),
    ("u-mup", "adam"): (0, -H, 0, 0),
    ("u-mup", "sgd"): (1, 1, 1, 1),
    ("sp-layerwise", "adam"): (0, -1, -1, 0),
    ("sp-layerwise", "sgd"): (H, -H, -1, H),
    ("sp-layerwise", "adafactor"): (0, -H, -H, 0),
    ("sp-no-alignment", "adam"): (0, -H, -H, 0),
    ("sp-no-alignment", "sgd"): (H, 0, -H, H),
    ("sp-no-alignment", "adafactor"): (0, 0, 0, 0),
    ("ntk", "adam"): (0, -H, -H, 0),
    ("ntk", "sgd"): (H, H, 0, H),
    ("ntk", "adafactor"): (0, -H, -H, 0),
    ("mean-field", "adam"): (0, -H, 0, 0),
    ("mean-field", "sgd"): (1, 1, 1, 1),
    ("mean-field", "adafactor"): (0, -H, 0, 0),
    ("mup-abc", "adam"): (-H, -1, -H, 0),
    ("mup-abc", "sgd"): (0, 0, 0, 1),
    ("mup-abc", "adafactor"): (0, -H, 0, 0),
    ("second-order", "kfac"): (0, 0, 0, 0),
    ("second-order", "shampoo"): (H, 0, -H, H),
}
# rule -> powers of the gradient's entries, and so of Adam's eps; of second-order the squared norm, its damping
GRADIENTS: dict[str, Powers] = {
    "mup": (-1, -1, -1, -1),
    "u-mup": (-1, -1.5, -1, -1),
    "sp-layerwise": (-H, -H, 0, -H),
    "sp-no-alignment": (-H, -H, 0, -H),
    "ntk": (-H, -1, -H, -H),
    "mean-field": (-1, -1.5, -1, -1),
    "mup-abc": (-H, -1, -H, -1),
    "second-order": (-1, 0, 1, -1),
}
CASES = [(r, o) for r, o in RATES if o != "adam"] + [(r, o) for r, a in RATES if a == "adam" for o in ADAMS]


def powers(rule: str, optimizer: Any, what: str) -> Powers:
    small, large = (MLP.plan(rule, optimizer=optimizer, width=w).entries for w in (BASE, WIDTH))
    found = [getattr(large[n], what) / (getattr(small[n], what) or 1.0) or 1.0 for n in TENSORS]
    a, b, c, d = (math.log(v) / math.log(WIDTH / BASE) for v in found)
    return a, b, c, d


@pytest.mark.parametrize(("rule", "optimizer"), CASES)
def test_powers_are_those_of_the_papers(rule: str, optimizer: str) -> None:
    deviations, factors = STARTS[rule]
    assert powers(rule, optimizer, "std") == pytest.approx(deviations)
    assert powers(rule, optimizer, "multiplier") == pytest.approx(factors)
    rates = RATES[rule, "adam" if optimizer in ADAMS else optimizer]
    assert powers(rule, optimizer, "lr") == pytest.approx(rates)
    gradients = GRADIENTS[rule]
    with_eps = optimizer in ("adam", "adamw", "kfac", "shampoo")
    assert powers(rule, optimizer, "eps") == pytest.approx(gradients if with_eps else (0, 0, 0, 0))
    # What a step takes off a tensor: rate times decay, over the gradient where Adam divides by it.
    taken = gradients if optimizer == "adam" else (0, 0, 0, 0)
    decays = tuple(g - r for g, r in zip(taken, rates, strict=True))
    assert powers(rule, optimizer, "wd") == pytest.approx(decays)


@pytest.mark.parametrize("rule", sorted(STARTS))
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "kfac", "shampoo", "adafactor"])
def test_the_last_bias_stays_as_it_is(rule: str, optimizer: Any) -> None:
    """Its gradient sums to one at every width and it is added to the scores as it is."""
    if (rule, optimizer) not in RATES:
        return
    small, large = (
        MLP.plan(rule, optimizer=optimizer, width=w).entries["outlet.bias"] for w in (BASE, WIDTH)
    )
    assert (small.lr, small.wd, small.eps) == (large.lr, large.wd, large.eps) == (1, 1, 1)


@pytest.mark.parametrize(
    ("rule", "table", "logits"),
    [("mup", 0, -H), ("u-mup", -H, -H), ("sp-layerwise", 0, 0), ("ntk", 0, -H), ("mup-abc", -H, -H)],
)
def test_tables_of_letters_gains_and_attention(rule: str, table: float, logits: float) -> None:
    """A table sums over nothing. Of logits the model itself divides by the root of the head's size, muP by the size."""
    family = scaling.Family(CharTransformer, base={"width": BASE}, fixed={"heads": 2})
    plans = [family.plan(rule, width=w, model=family.model(width=w)) for w in (BASE, WIDTH)]
    growth = math.log(WIDTH / BASE)
    for name, power in (("letters.weight", table), ("norm.weight", 0.0)):
        small, large = (p.entries[name].lr for p in plans)
        assert math.log(large / small) / growth == pytest.approx(power), name
    place = "blocks.0.0.branch.1.query"
    small, large = (
        math.prod(m.factor for m in p.multipliers if (m.module, m.where) == (place, "output")) for p in plans
    )
    assert math.log(large / small) / growth == pytest.approx(logits)


@pytest.mark.parametrize("rule", ["mup", "sp-layerwise", "ntk"])
def test_plain_adam_decays_by_the_same_share_at_every_width(rule: str) -> None:
    """Measured: rate times decay over the gradient that Adam divides by."""
    shares: dict[str, list[float]] = {}
    for width in (BASE, WIDTH):
        model, plan = MLP.build(rule, 1, optimizer="adam", width=width)
        g = torch.Generator().manual_seed(3)
        x, y = torch.randn(64, 64, generator=g), torch.randint(10, (64,), generator=g)
        torch.autograd.backward(nn.functional.cross_entropy(model(x), y))
        for name, p in model.named_parameters():
            e = plan.entries[name]
            assert p.grad is not None
            shares.setdefault(name, []).append(e.lr * e.wd / float(p.grad.square().mean().sqrt()))
    for name, (narrow, wide) in shares.items():
        assert wide / narrow == pytest.approx(1.0, rel=0.4), name
