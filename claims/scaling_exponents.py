"""With rates by layer every parametrization transfers, the standard one too; Adam's eps must fall with the width or go.

Everett et al. (2024) derive rates by layer for four parametrizations and three optimizers from how well weights and activations are
aligned, find that all transfer, that the standard parametrization with such rates ends lower than muP, and that gradients of wide
models fall below Adam's eps unless that is scaled by layer or avoided by an arc tangent.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from claims import transfer
from claims.record import Claim, Result, Verdict
from tunewright.errors import MissingExtra

CLAIM = Claim(
    title="With rates by layer all parametrizations transfer and the standard one ends lowest; Adam's eps must shrink with the width.",
    paper="Everett et al. 2024, arXiv:2407.05872, figures 2 to 6 and table 1",
    check=(
        "A letter transformer of 2 blocks and 2 heads, 60 steps of Adam on 8 pieces of 32 letters. Movement of the best rate from width "
        "32 to 128 (7 rates) with one rate, with rates by layer (full and no alignment) and in muP, and their losses at 128; "
        "losses of NTK and mean-field at the best rate of their twins, the standard parametrization and muP; log alignment ratio of "
        "the changes of weights after training, widths 64 to 256; mean-field grown from width 16 to 128 with an eps of a tenth of "
        "the hidden gradients at 16: eps left as it is, scaled by layer, and Adam-atan2, 10 seeds."
    ),
    rule=(
        "Holds at reduced scale if the best rate moves by at most one octave with rates by layer (full alignment) and in muP and by "
        "more with one rate, NTK and mean-field end within 2 % of their twins, the mean alignment of changes is above .6 at every width, "
        "rates by layer end no higher than muP at 128, and leaving eps ends at least 2 % above scaling it while Adam-atan2 "
        "ends at most 2 % above that; not reproduced otherwise."
    ),
)
_FIXED = {"heads": 2, "bias": False, "affine": False}
_RULES = ("sp", "sp-layerwise", "sp-no-alignment", "mup-abc")
_TWINS = {"ntk": "sp-layerwise", "mean-field": "mup-abc"}
_SMALL, _LARGE = 32, 128
_TINY = 1e-14


def _family(base: int = _SMALL) -> Any:
    from tunewright import scaling
    from tunewright.bench.micro import CharTransformer

    return scaling.Family(CharTransformer, base={"width": base}, fixed=_FIXED)


def _swept(
    rule: str,
    width: int,
    rates: list[float],
    seeds: tuple[int, ...],
    steps: int,
    *,
    base: int = _SMALL,
    eps: float = _TINY,
    even: bool = False,
    step: str = "adam",
) -> Any:
    """Final losses, shape ``(rates, seeds)``; ``even`` leaves eps the same for all tensors."""
    from tunewright import scaling
    from tunewright.bench.micro import next_letter_loss

    family, chosen = _family(base), step
    plan = family.plan(rule, optimizer=chosen, width=width, model=family.model(width=width))
    if even:
        plan = replace(plan, entries={n: replace(e, eps=1.0) for n, e in plan.entries.items()})
    how: Any = scaling.How(chosen, betas=(0.9, 0.99), eps=eps, schedule=transfer.warmed)  # type: ignore[arg-type]
    return scaling.sweep(
        lambda seed: family.build(rule, seed, optimizer=chosen, width=width)[0],
        rates,
        seeds,
        transfer.batches(8),
        next_letter_loss,
        steps=steps,
        how=how,
        plan=plan,
        held_out=transfer.held_out(),
    ).final


def _aligned(width: int, lr: float, steps: int) -> tuple[float, float, float]:
    """Mean alignment of the changes of hidden matrices and of the readout's, and of first weights with changes of inputs."""
    import torch

    from tunewright.bench.micro import next_letter_loss
    from tunewright.scaling import alignment

    model, plan = _family().build("sp-layerwise", 0, optimizer="adam", width=width)
    before = copy.deepcopy(model)
    optimizer = torch.optim.Adam(plan.param_groups(lr, model=model, eps=_TINY), betas=(0.9, 0.99))
    for x, y in itertools.islice(transfer.batches(8)(0), steps):
        optimizer.zero_grad()
        next_letter_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = alignment.measure(before, model, transfer.held_out(16)[0])
    hidden = [a for n, a in found.items() if n != "outlet"]
    mean = float(np.mean([a.change for a in hidden]))
    return mean, found["outlet"].change, float(np.mean([a.start for a in hidden if np.isfinite(a.start)]))


def _eps(base: int) -> float:
    """A tenth of the median size of hidden gradients in mean-field at the base width, before training."""
    import torch

    from tunewright.bench.micro import next_letter_loss

    model, plan = _family(base).build("mean-field", 0, optimizer="adam")
    x, y = next(transfer.batches(8)(0))
    next_letter_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
    sizes = [
        p.grad.square().mean().sqrt()
        for n, p in model.named_parameters()
        if p.grad is not None and plan.entries[n].role == "hidden"
    ]
    return 0.1 * float(torch.stack(sizes).median())


def _underflow(rate: float, seeds: tuple[int, ...], steps: int) -> dict[str, float]:
    """Mean losses of mean-field at width 128 with eps left, scaled and avoided, and at the base with eps."""
    eps = _eps(16)
    common: dict[str, Any] = {"base": 16, "eps": eps}
    rates = [rate]
    out = {
        "left": _swept("mean-field", _LARGE, rates, seeds, steps, even=True, **common),
        "scaled": _swept("mean-field", _LARGE, rates, seeds, steps, **common),
        "atan2": _swept("mean-field", _LARGE, rates, seeds, steps, step="adam-atan2", **common),
        "base": _swept("mean-field", 16, rates, seeds, steps, **common),
    }
    return {**{n: float(v.mean()) for n, v in out.items()}, "eps": eps}


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "one rate for all layers in the standard parametrization, and muP"
    try:
        import torch
    except ImportError:
        return Result("cannot be checked here", str(MissingExtra("PyTorch is needed.")), baseline, "none", ())
    seeds = (0,) if quick else tuple(range(10))
    more = (0,) if quick else tuple(range(10))
    steps = 4 if quick else 60
    rates = [2.0**p for p in range(-9, -2)][:: 3 if quick else 1]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        losses = {r: {w: _swept(r, w, rates, seeds, steps) for w in (_SMALL, _LARGE)} for r in _RULES}
        found = {r: transfer.moved(rates, by_width) for r, by_width in losses.items()}
        twins = {}
        for rule, twin in _TWINS.items():
            at = int(np.argmin(losses[twin][_LARGE].mean(axis=1)))
            there = float(_swept(rule, _LARGE, [rates[at]], seeds, steps).mean())
            twins[rule] = there / found[twin].loss - 1
        rate = 2.0 ** round(found["sp-layerwise"].optima[_SMALL])
        widths = (64,) if quick else (64, 128, 256)
        aligned = {w: _aligned(w, rate, steps) for w in widths}
        eps = _underflow(2.0 ** round(found["mup-abc"].optima[_SMALL]), more, steps)
    finally:
        torch.set_num_threads(threads)
    return _result(found, twins, aligned, eps, baseline, more)


def _result(
    found: dict[str, transfer.Moved],
    twins: dict[str, float],
    aligned: dict[int, tuple[float, float, float]],
    eps: dict[str, float],
    baseline: str,
    seeds: tuple[int, ...],
) -> Result:
    """The verdict by the rule, and the figures."""
    drift = {r: m.drift for r, m in found.items()}
    ratio = found["sp-layerwise"].loss / found["mup-abc"].loss
    left, arc = eps["left"] / eps["scaled"] - 1, eps["atan2"] / eps["scaled"] - 1
    good = abs(drift["sp-layerwise"]) <= 1 and abs(drift["mup-abc"]) <= 1 and abs(drift["sp"]) > 1
    good = (
        good and all(abs(t) <= 0.02 for t in twins.values()) and ratio <= 1 and left >= 0.02 and arc <= 0.02
    )
    good = good and all(min(a[:2]) > 0.6 for a in aligned.values())
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"From width {_SMALL} to {_LARGE} the best rate moves by {drift['sp']:+.2f} octaves with one rate, {drift['sp-layerwise']:+.2f} "
        f"with rates by layer ({drift['sp-no-alignment']:+.2f} if no alignment is assumed) and {drift['mup-abc']:+.2f} in muP. Rates by "
        f"layer end at {ratio:.4f} times muP's loss (one rate, tuned at {_LARGE}: {found['sp'].loss / found['mup-abc'].loss:.4f}). NTK and "
        f"mean-field are {100 * twins['ntk']:+.2f} % and {100 * twins['mean-field']:+.2f} % from their twins. Changes of hidden matrices "
        "are aligned with what comes in with exponents "
        + ", ".join(f"{a[0]:.2f} (readout {a[1]:.2f}) at width {w}" for w, a in aligned.items())
        + f". With eps left as at the base mean-field ends {100 * left:+.1f} % from where eps is scaled, Adam-atan2 {100 * arc:+.1f} %.",
        baseline,
        "fixed margins",
        seeds,
        {
            **{f"drift {r}": m.drift for r, m in found.items()},
            **{f"drift by seed {r}": " ".join(f"{d:+g}" for d in m.by_seed) for r, m in found.items()},
            **{f"loss {r}": m.loss for r, m in found.items()},
            **{f"regret {r}": m.regret for r, m in found.items()},
            **{f"twin {r}": t for r, t in twins.items()},
            **{
                f"alignment {k} {w}": v
                for w, a in aligned.items()
                for k, v in zip(("change", "readout", "start"), a, strict=True)
            },
            **{f"eps {n}": v for n, v in eps.items()},
        },
    )
