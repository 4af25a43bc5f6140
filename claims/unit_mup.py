"""u-muP starts every tensor near one, keeps its best rate over widths, is tuned one factor at a time, and trains in eight bits.

Blake et al. (2024) join unit scaling and muP. They report rates that transfer over widths, losses below those of muP, a search of
the rate alone that is nearly enough where muP needs its multipliers searched together, and training in eight bits without changes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from claims import transfer
from claims.record import Claim, Result, Verdict
from tunewright.errors import MissingExtra

CLAIM = Claim(
    title="u-muP starts at variance one, keeps its best rate over widths, needs only independent searches, and trains in eight bits.",
    paper="Blake et al. 2024, arXiv:2407.17465, figure 1 and sections 4.2, 4.5 and 5",
    check=(
        "Letter transformers of 2 blocks and 2 heads, 60 steps of Adam on 8 pieces of 32 letters. Root mean squares of inputs and "
        "outputs of all matrices but the readout at the start, widths 32 and 256; octaves by which the best rate moves from width 32 "
        "to 128 (7 rates, 10 seeds); loss of the wide network at the narrow one's best rate, from trainings at that very rate (a first "
        "run of this claim, with 5 seeds, read it off the line between two rates of the grid, which is too high where losses bend), against "
        "muP's lowest (base 32), at the bottom of its own parabola or on its grid; search of one factor at a time (rate, then "
        "attention, residual and output or loss) against random search on the same grid of 7 x 5 x 5 x 5 with twice the trainings, in both; losses "
        "where linear maps are rounded to E4M3 and their gradients to E5M2, and the share of gradients that this turns to zero."
    ),
    rule=(
        "Holds at reduced scale if for u-muP all root mean squares at the start are within a factor of 3 of one, the best rate moves "
        "by at most one octave, the loss at width 128 with the rate of width 32 is at most 1.01 times muP's lowest, the independent "
        "search ends at most 1 % above the best of random search, and the rounded training at most 1 % above the exact one with fewer "
        "gradients turned to zero than in muP; not reproduced otherwise."
    ),
)
_SMALL, _LARGE = 32, 128
_FACTORS = tuple(2.0**k for k in (-2, -1, 0, 1, 2))
_NAMES = ("attention", "residual", "scores")


def _unit(width: int, seed: int, factors: Mapping[str, float] | None = None) -> tuple[Any, Any]:
    """A unit-scaled transformer and its rates."""
    import torch

    from tunewright.scaling import unit

    torch.manual_seed(seed)
    f = dict(factors or {})
    chosen = unit.Factors(
        attention=f.get("attention", 1.0), residual=f.get("residual", 1.0), loss=f.get("scores", 1.0)
    )
    model = unit.UnitTransformer(27, width, 2, heads=2, factors=chosen, gated=False)
    return model, unit.plan(model, "adam")


def _mup(width: int, seed: int, factors: Mapping[str, float] | None = None) -> tuple[Any, Any]:
    """A plain transformer with the plan of muP."""
    from tunewright import scaling
    from tunewright.bench.micro import CharTransformer

    f = dict(factors or {})
    tuned = scaling.Tuned(
        attention=f.get("attention", 1.0), residual=f.get("residual", 1.0), output=f.get("scores", 1.0)
    )
    fixed = {"heads": 2, "bias": False, "affine": False}
    family = scaling.Family(CharTransformer, base={"width": _SMALL}, fixed=fixed)
    return family.build("mup", seed, optimizer="adam", width=width, tuned=tuned)


_MADE = {"u-mup": _unit, "mup": _mup}
_CENTRE = {"u-mup": 0, "mup": -5}


def _loss(model: Any, scores: Any, target: Any) -> Any:
    from tunewright.bench.micro import next_letter_loss

    return model.loss(scores, target) if hasattr(model, "loss") else next_letter_loss(scores, target)


def _sizes(name: str, width: int) -> tuple[float, float]:
    """Smallest and largest root mean square of what goes into and comes out of matrices at the start."""
    import torch

    model, _ = _MADE[name](width, 0)
    seen: list[float] = []

    def note(_module: Any, inputs: Any, out: Any) -> None:
        seen.extend(float(t.detach().square().mean().sqrt()) for t in (inputs[0], out))

    for part, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and part != "outlet":
            module.register_forward_hook(note)
    model(next(transfer.batches(8)(0))[0])
    return min(seen), max(seen)


def _swept(name: str, width: int, powers: Sequence[float], seeds: tuple[int, ...], steps: int) -> Any:
    """Final losses over rates and seeds."""
    from tunewright import scaling
    from tunewright.scaling import unit

    how = scaling.How("adam", betas=(0.9, 0.99), schedule=transfer.warmed)
    return scaling.sweep(
        lambda seed: _MADE[name](width, seed)[0],
        [2.0**p for p in powers],
        seeds,
        transfer.batches(8),
        unit.cross_entropy if name == "u-mup" else lambda s, t: _loss(None, s, t),
        steps=steps,
        how=how,
        plan=_MADE[name](width, 0)[1],
        held_out=transfer.held_out(),
    ).final


def _train(
    name: str, width: int, values: Mapping[str, float], seed: int, steps: int, context: Any = None
) -> float:
    """Held-out loss of one training; exact, or as ``context`` rounds."""
    import torch

    model, plan = _MADE[name](width, seed, values)
    optimizer = torch.optim.Adam(plan.param_groups(values["lr"], model=model), betas=(0.9, 0.99))
    groups = [g["lr"] for g in optimizer.param_groups]
    for t, (x, y) in enumerate(itertools.islice(transfer.batches(8)(seed), steps)):
        for group, lr in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] = lr * transfer.warmed(t / steps)
        optimizer.zero_grad()
        with context() if context else contextlib.nullcontext():
            loss = _loss(model, model(x), y)
        loss.backward()
        optimizer.step()
    with torch.no_grad(), context() if context else contextlib.nullcontext():
        x, y = transfer.held_out()
        return float(_loss(model, model(x), y))


def _searches(name: str, steps: int, quick: bool) -> dict[str, float]:
    """Losses of the search one factor at a time, of the best of its lines, and of the best of random search."""
    from tunewright.scaling import unit

    grid = {
        "lr": [2.0 ** (_CENTRE[name] + k) for k in range(-3, 4)],
        **{key: list(_FACTORS) for key in _NAMES},
    }
    if quick:
        grid = {n: v[1::2] for n, v in grid.items()}
    found = unit.independent_search(lambda v: _train(name, _SMALL, v, 0, steps), grid)
    rng = np.random.default_rng(0)
    tried = [
        _train(name, _SMALL, {n: float(rng.choice(v)) for n, v in grid.items()}, 0, steps)
        for _ in range(2 if quick else 2 * found.evaluations)
    ]
    return {
        "independent": found.loss,
        "rate alone": min(found.lines["lr"]),
        "lines": min(min(line) for line in found.lines.values()),
        "random": min(tried),
        "random half": min(tried[: max(1, len(tried) // 2)]),
        "trainings": float(found.evaluations),
    }


def _flushed(name: str) -> float:
    """Share of the gradients of what linear maps put out that E5M2 turns to zero, at the start."""
    import torch

    from tunewright.scaling import rounding

    model, _ = _MADE[name](_LARGE, 0)
    shares: list[float] = []

    def watch(out: Any) -> None:
        out.register_hook(lambda g: shares.append(rounding.lost(g, rounding.E5M2).flushed))

    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _m, _i, out: watch(out))
    x, y = next(transfer.batches(64)(0))
    _loss(model, model(x), y).backward()
    return float(np.mean(shares))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = (
        "muP of a transformer with the same matrices (plain operations, layer normalization, base width 32)"
    )
    try:
        import torch  # noqa: F401

        from tunewright.scaling import rounding
    except ImportError:
        return Result("cannot be checked here", str(MissingExtra("PyTorch is needed.")), baseline, "none", ())
    seeds = (0,) if quick else tuple(range(10))
    steps = 4 if quick else 60
    offsets = range(-3, 4, 3 if quick else 1)
    with _one_thread():
        sizes = {(n, w): _sizes(n, w) for n in _MADE for w in (_SMALL, 64 if quick else 256)}
        found = {}
        for n in _MADE:
            powers = [_CENTRE[n] + k for k in offsets]
            losses = {w: _swept(n, w, powers, seeds, steps) for w in (_SMALL, _LARGE)}
            found[n] = transfer.moved([2.0**p for p in powers], losses)
        copied = {
            n: float(_swept(n, _LARGE, [f.optima[_SMALL]], seeds, steps).mean()) for n, f in found.items()
        }
        own = {n: float(_swept(n, _LARGE, [f.optima[_LARGE]], seeds, steps).mean()) for n, f in found.items()}
        lowest = {n: min(own[n], found[n].loss) for n in found}
        search = {n: _searches(n, steps, quick) for n in _MADE}
        eight = {}
        for n in _MADE:
            at = {"lr": 2.0 ** round(found[n].optima[_LARGE])}
            pairs = [
                (_train(n, 64, at, s, steps), _train(n, 64, at, s, steps, rounding.LowPrecision))
                for s in seeds
            ]
            eight[n] = float(np.mean([b / a for a, b in pairs]) - 1)
        flushed = {n: _flushed(n) for n in _MADE}
    return _result(sizes, found, copied, lowest, search, eight, flushed, baseline, seeds)


def _result(
    sizes: dict[tuple[str, int], tuple[float, float]],
    found: dict[str, transfer.Moved],
    copied: dict[str, float],
    lowest: dict[str, float],
    search: dict[str, dict[str, float]],
    eight: dict[str, float],
    flushed: dict[str, float],
    baseline: str,
    seeds: tuple[int, ...],
) -> Result:
    """The verdict by the rule, and the figures."""
    low = min(v[0] for (n, _), v in sizes.items() if n == "u-mup")
    high = max(v[1] for (n, _), v in sizes.items() if n == "u-mup")
    u, m = found["u-mup"], found["mup"]
    ratio = copied["u-mup"] / lowest["mup"]
    over = {n: s["independent"] / s["random"] - 1 for n, s in search.items()}
    good = low >= 1 / 3 and high <= 3 and abs(u.drift) <= 1 and ratio <= 1.01 and over["u-mup"] <= 0.01
    good = good and eight["u-mup"] <= 0.01 and flushed["u-mup"] < flushed["mup"]
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    plain = [v for (n, _), v in sizes.items() if n == "mup"]
    return Result(
        verdict,
        f"Root mean squares at the start are {low:.2f} to {high:.2f} (muP: {min(p[0] for p in plain):.2f} to "
        f"{max(p[1] for p in plain):.2f}). From width {_SMALL} to {_LARGE} the best rate moves by {u.drift:+.2f} octaves (muP "
        f"{m.drift:+.2f}); with the narrow model's rate the wide one ends at {ratio:.3f} times muP's lowest loss. One factor at a time "
        f"({search['u-mup']['trainings']:.0f} trainings) ends {100 * over['u-mup']:+.1f} % from the best of twice as many random ones, in "
        f"muP {100 * over['mup']:+.1f} %; the rate alone gives {search['u-mup']['rate alone']:.3f}, all factors "
        f"{search['u-mup']['independent']:.3f} nats (muP {search['mup']['rate alone']:.3f} and {search['mup']['independent']:.3f}). In "
        f"eight bits the loss is {100 * eight['u-mup']:+.2f} % (muP {100 * eight['mup']:+.2f} %), and "
        f"{100 * flushed['u-mup']:.2g} % of gradients become zero (muP {100 * flushed['mup']:.2g} %).",
        baseline,
        "fixed margins",
        seeds,
        {
            **{
                f"rms {e} {n} {w}": v
                for (n, w), s in sizes.items()
                for e, v in zip(("low", "high"), s, strict=True)
            },
            **{f"best log2 rate {n} {w}": v for n, f in found.items() for w, v in f.optima.items()},
            **{f"lowest loss {n}": v for n, v in lowest.items()},
            **{f"loss at the narrow one's rate {n}": v for n, v in copied.items()},
            **{f"search {k} {n}": v for n, s in search.items() for k, v in s.items()},
            **{f"eight bits over exact {n}": v for n, v in eight.items()},
            **{f"flushed {n}": v for n, v in flushed.items()},
        },
    )
