"""Ratio of a new language and learning rate, tuned together on a small model, are right for a larger one.

Xi et al. (2024) continue the training of Llama-3 8B with different shares of Chinese and learning rates, find that the best of one goes
with the other, and train the 70-billion model with what that gives.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from tunewright.bench.language import Language, windows
from tunewright.errors import MissingExtra
from tunewright.scaling.mixture import fit_mixture

CLAIM = Claim(
    title="The mixture ratio and the learning rate of continued training, fitted together on a small model, are near the best for a larger one.",
    paper="Xi et al. 2024, arXiv:2409.06624, sections 3 and 4",
    check=(
        "Two generated languages with the same letters; character transformers 32 and 64 wide, 2 deep, know the first (500 steps of "
        "Adam) and go on for 80 steps with shares of the second from .1 to .9 and seven rates; the sum of both test losses counts "
        "half and half. The law is fitted to the narrow model's 35 runs; its rate is halved for the wide one, as muP does for "
        "hidden weights."
    ),
    rule=(
        "Holds at reduced scale if for every seed the nearest pair of the wide model's own grid has a loss at most a tenth of the way "
        "from the grid's best to its median, and over the narrow grid the new language's loss falls and the old one's rises with the "
        "ratio in the mean; not reproduced otherwise."
    ),
)
_RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)
_RATES = tuple(2.0**-k for k in (11, 10, 9, 8, 7, 6, 5))
_CONTEXT, _BATCH, _LETTERS = 32, 16, 27
_NARROW, _WIDE = 32, 64


@cache
def _texts() -> tuple[list[Any], list[Any]]:
    languages = [Language(seed=11), Language(seed=12)]
    return [lang.text(300_000, seed=0) for lang in languages], [
        lang.text(8_000, seed=1) for lang in languages
    ]


def _batch(ratio: float, rng: np.random.Generator) -> tuple[Any, Any]:
    """A batch in which so large a share comes from the second language, in expectation."""
    import torch

    texts = _texts()[0]
    many = int(rng.binomial(_BATCH, ratio))
    parts = [windows(t, _CONTEXT, n, rng) for t, n in zip(texts, (_BATCH - many, many), strict=True) if n]
    x, y = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
    return torch.from_numpy(x), torch.from_numpy(y)


def _train(model: Any, ratio: float, lr: float, steps: int, seed: int) -> None:
    """Adam with a rate that goes down linearly after a tenth of the steps of warm-up."""
    import torch

    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    rng = np.random.default_rng([seed, 21])
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1.0, 10 * (step + 1) / steps, (steps - step) / steps / 0.9)
        x, y = _batch(ratio, rng)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x).reshape(-1, _LETTERS), y.reshape(-1)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _losses(model: Any) -> list[float]:
    """Test losses on both languages, the old one first."""
    import torch

    out = []
    for text in _texts()[1]:
        x, y = (torch.from_numpy(v) for v in windows(text, _CONTEXT, 64, np.random.default_rng(3)))
        with torch.no_grad():
            out.append(
                float(torch.nn.functional.cross_entropy(model(x).reshape(-1, _LETTERS), y.reshape(-1)))
            )
    return out


def _grid(width: int, rates: tuple[float, ...], seed: int, quick: bool) -> tuple[Any, Any]:
    """Losses on the new and on the old language, shape (ratios, rates), of a model of that width."""
    import torch

    from tunewright.bench.micro import CharTransformer

    torch.manual_seed(seed)
    model = CharTransformer(_LETTERS, width, 2, context=_CONTEXT)
    _train(model, 0.0, 0.096 / width, 100 if quick else 500, seed)
    new, old = np.empty((len(_RATIOS), len(rates))), np.empty((len(_RATIOS), len(rates)))
    for i, ratio in enumerate(_RATIOS):
        for j, lr in enumerate(rates):
            again = copy.deepcopy(model)
            _train(again, ratio, lr, 15 if quick else 80, seed + 100)
            old[i, j], new[i, j] = _losses(again)
    return new, old


def _transferred(seed: int, quick: bool) -> dict[str, Any]:
    """How the pair chosen on the narrow model does on the wide one."""
    factor = _NARROW / _WIDE
    new, old = _grid(_NARROW, _RATES, seed, quick)
    ratio, rate = (a.ravel() for a in np.meshgrid(_RATIOS, _RATES, indexing="ij"))
    law = fit_mixture(ratio, rate, new.ravel(), old.ravel(), seed=seed)
    chosen = law.recommend(rate_factor=factor, least_explained=-np.inf)
    wide = tuple(factor * r for r in _RATES)
    far_new, far_old = _grid(_WIDE, wide, seed, quick)
    score = 0.5 * far_new + 0.5 * far_old
    i = int(np.argmin(np.abs(np.array(_RATIOS) - chosen.ratio)))
    j = int(np.argmin(np.abs(np.log(np.array(wide) / chosen.lr))))
    best = np.unravel_index(int(score.argmin()), score.shape)
    return {
        "regret": float((score[i, j] - score.min()) / (np.median(score) - score.min())),
        "above": float(score[i, j] - score.min()),
        "ratio": chosen.ratio,
        "lr": chosen.lr,
        "best": (_RATIOS[int(best[0])], wide[int(best[1])]),
        "edge": chosen.at_edge,
        "explained": law.explained,
        "slope": law.slope(),
        "falls": bool(np.all(np.diff(new.mean(axis=1)) < 0)),
        "rises": bool(np.all(np.diff(old.mean(axis=1)) > 0)),
    }


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the wide model's own grid of 35 pairs, its best and its median"
    try:
        import torch
    except ImportError:
        return Result("cannot be checked here", str(MissingExtra("PyTorch is needed.")), baseline, "none", ())
    seeds = (0,) if quick else tuple(range(5))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [_transferred(seed, quick) for seed in seeds]
    finally:
        torch.set_num_threads(threads)
    good = all(f["regret"] <= 0.1 and f["falls"] and f["rises"] for f in found)
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    said = "; ".join(
        f"seed {s}: chosen {f['ratio']:.2f} at {f['lr']:.2g}, the wide grid's best {f['best'][0]:g} at {f['best'][1]:.2g}, "
        f"{100 * f['regret']:.0f} % of the way to the median ({f['above']:.3f} nats)"
        for s, f in zip(seeds, found, strict=True)
    )
    return Result(
        verdict,
        f"Recommended from the narrow model: {said}. The surfaces explain {100 * min(f['explained'] for f in found):.0f} % of the "
        f"variance on runs left out; the best rate changes by 2 to the power {np.mean([f['slope'] for f in found]):+.2f} when the "
        "odds of the new language double.",
        baseline,
        "fixed margins, for every seed",
        seeds,
        {
            "worst_regret": max(f["regret"] for f in found),
            "explained": min(f["explained"] for f in found),
            "slope": float(np.mean([f["slope"] for f in found])),
            "at_edge": str([f["edge"] for f in found]),
            "new_falls": str([f["falls"] for f in found]),
            "old_rises": str([f["rises"] for f in found]),
        },
    )
