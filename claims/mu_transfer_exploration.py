"""muP's best rate stays where it is under most changes of the architecture and of the training, and moves under a few.

Lingle (2024) trains transformers of many widths under muP and finds the best rate unmoved with projection biases, another batch
size, zero queries and others, and moved with trained gains, with Lion, with decoupled decay and where the logits of attention are
scaled as in the standard parametrization.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from claims import transfer
from claims.record import Claim, Result, Verdict
from tunewright.errors import MissingExtra

CLAIM = Claim(
    title="Under muP the best learning rate does not move with the width in most settings of a transformer, and does in a few.",
    paper="Lingle 2024, arXiv:2404.05728, the sections on baselines and on ablations",
    check=(
        "A letter transformer of 2 blocks and 2 heads, width 32 (base) against 128, 60 steps of 8 pieces of 32 letters, 7 rates by "
        "factors of 2, 5 seeds, in muP and 11 variants of it and in the standard parametrization: octaves by which the best rate "
        "(vertex of a parabola, mean over seeds) moves, and what the narrow model's best rate loses on the wide one."
    ),
    rule=(
        "Holds at reduced scale if the best rate moves by at most one octave in muP and in at least five of the six settings that the "
        "paper reports as transferring (biases, zero readout, zero queries, standard readout start, a quarter and twice the batch), by "
        "more than one in the standard parametrization, and by more than one in at least two of the five settings that the paper "
        "reports as doubtful (gains, decay times the rate, independent decay, Lion, attention over the root of the head's size); "
        "not reproduced otherwise."
    ),
)
_WIDTHS = (32, 128)
_STEPS = 60


@dataclass(frozen=True, slots=True)
class _Variant:
    """A setting of the model and the training.

    Attributes:
        model: Arguments of the model, beside its sizes.
        rows: Pieces of a batch.
        optimizer: The rule.
        decay: Weight decay.
        even: Whether the decay is the same for all tensors, so that what is decayed falls with the rate.
        zero: Ends of names of tensors that start at zero.
        root: Whether the logits of attention are divided by the root of the head's size at every width.
        shift: Octaves by which the grid of rates is moved.
        rule: The parametrization.
        readout: Whether the readout starts as in the standard parametrization.
    """

    model: dict[str, Any] = field(default_factory=dict)
    rows: int = 8
    optimizer: str = "adam"
    decay: float = 0.0
    even: bool = False
    zero: tuple[str, ...] = ()
    root: bool = False
    shift: int = 0
    rule: str = "mup"
    readout: bool = False


_WORKING: dict[str, _Variant] = {
    "biases": _Variant({"bias": True}),
    "zero readout": _Variant(zero=("outlet.weight",)),
    "zero queries": _Variant(zero=("query.weight",)),
    "standard readout start": _Variant(readout=True),
    "quarter batch": _Variant(rows=2),
    "twice the batch": _Variant(rows=16),
}
_DOUBTFUL: dict[str, _Variant] = {
    "gains": _Variant({"affine": True}),
    "decay times rate": _Variant(optimizer="adamw", decay=2.0, even=True),
    "independent decay": _Variant(optimizer="adamw", decay=2.0),
    "lion": _Variant(optimizer="lion", shift=-1),
    "root attention": _Variant(root=True),
}
_VARIANTS: dict[str, _Variant] = {
    "mup": _Variant(),
    "standard": _Variant(rule="sp"),
    **_WORKING,
    **_DOUBTFUL,
}


def _changed(model: Any, plan: Any, variant: _Variant, width: int) -> Any:
    """The plan of a variant; the model's first values are changed in place."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(variant.zero) and variant.zero:
                parameter.zero_()
            if variant.readout and name == "outlet.weight":
                parameter.mul_((_WIDTHS[0] / width) ** 0.5)
    if variant.root:
        plan = replace(plan, multipliers=tuple(m for m in plan.multipliers if not m.module.endswith("query")))
        plan.attach_(model)
    if variant.even:
        plan = replace(plan, entries={n: replace(e, wd=1.0) for n, e in plan.entries.items()})
    return plan


def _losses(variant: _Variant, width: int, rates: list[float], seeds: tuple[int, ...], steps: int) -> Any:
    """Final losses, shape ``(rates, seeds)``."""
    from tunewright import scaling
    from tunewright.bench.micro import CharTransformer, next_letter_loss

    fixed = {"heads": 2, "bias": False, "affine": False, **variant.model}
    family = scaling.Family(CharTransformer, base={"width": _WIDTHS[0]}, fixed=fixed)
    plans: list[Any] = []

    def build(seed: int) -> Any:
        chosen: Any = variant.optimizer
        model, plan = family.build(variant.rule, seed, optimizer=chosen, width=width)
        plans.append(_changed(model, plan, variant, width))
        return model

    build(0)
    how: Any = scaling.How(
        variant.optimizer,  # type: ignore[arg-type]
        betas=(0.9, 0.99),
        weight_decay=variant.decay,
        schedule=transfer.warmed,
    )
    return scaling.sweep(
        build,
        rates,
        seeds,
        transfer.batches(variant.rows),
        next_letter_loss,
        steps=steps,
        how=how,
        plan=plans[0],
        held_out=transfer.held_out(),
    ).final


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "muP without biases, gains and decay, and the standard parametrization"
    try:
        import torch
    except ImportError:
        return Result("cannot be checked here", str(MissingExtra("PyTorch is needed.")), baseline, "none", ())
    seeds = (0,) if quick else tuple(range(5))
    steps = 8 if quick else _STEPS
    powers = np.arange(-9, -2)[:: 3 if quick else 1]
    names = ("mup", "standard", "lion") if quick else tuple(_VARIANTS)
    found: dict[str, transfer.Moved] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in names:
            variant = _VARIANTS[name]
            rates = [float(2.0 ** (p + variant.shift)) for p in powers]
            found[name] = transfer.moved(
                rates, {w: _losses(variant, w, rates, seeds, steps) for w in _WIDTHS}
            )
    finally:
        torch.set_num_threads(threads)
    drift = {n: m.drift for n, m in found.items()}
    stays = {n: abs(d) <= 1 for n, d in drift.items()}
    working = sum(stays.get(n, False) for n in _WORKING)
    failing = sum(not stays.get(n, True) for n in _DOUBTFUL)
    good = stays["mup"] and not stays["standard"] and working >= 5 and failing >= 2
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"From width {_WIDTHS[0]} to {_WIDTHS[1]} the best rate moves by {drift['mup']:+.2f} octaves in muP and "
        f"{drift['standard']:+.2f} in the standard parametrization (which costs {found['standard'].regret:.3f} nats where the narrow "
        f"model's rate is kept; {found['mup'].regret:.3f} in muP). Of six settings said to transfer {working} stay within one octave; of "
        f"five doubtful ones {failing} leave it: "
        + ", ".join(f"{n} {drift[n]:+.2f}" for n in names if n not in ("mup", "standard"))
        + ".",
        baseline,
        "fixed margins on the movement of the best rate; movement by seed in the figures",
        seeds,
        {
            **{f"drift {n}": m.drift for n, m in found.items()},
            **{f"drift by seed {n}": " ".join(f"{d:+g}" for d in m.by_seed) for n, m in found.items()},
            **{f"regret {n}": m.regret for n, m in found.items()},
            **{f"loss {n}": m.loss for n, m in found.items()},
            **{f"best log2 rate {n} {w}": v for n, m in found.items() for w, v in m.optima.items()},
        },
    )
