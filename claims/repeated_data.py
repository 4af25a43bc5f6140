"""Repeating few data makes models worse, dropout mends it, and a mixture of experts tells how much of it a dense model needs.

Xue et al. (2023) train language models for many epochs: test losses rise, more so for larger models; of the usual regularizers only
dropout helps, it must be tuned at every size, and a mixture of experts of as many weights is a cheap model to tune it on.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from tunewright.bench.language import Language, windows
from tunewright.errors import MissingExtra
from tunewright.scaling.counting import linear

CLAIM = Claim(
    title="Only dropout mends what many epochs spoil, and the best dropout of a mixture of experts is right for a dense model of as many weights.",
    paper="Xue et al. 2023, arXiv:2305.13230, insights 1, 2, 8 and 11",
    check=(
        "Character transformers 48 wide, 2 deep, with feed-forward layers of 768 units, on 8,192 letters of a generated language for 24 "
        "epochs (Adam at 2e-3): without dropout, with .15 to .6, and with weight decay of .1 and 1; one of a quarter of the feed-forward "
        "units; and the same as a mixture of four experts with the same dropouts. Test losses on fresh text at the end."
    ),
    rule=(
        "Holds at reduced scale if for every seed the dense model ends at least .05 nats above its lowest test loss without dropout and "
        "rises more than the smaller one, the best dropout gains more than the better weight decay and removes at least half of the "
        "rise, and the mixture's best dropout costs the dense model at most a tenth of what dropout gains it; not reproduced otherwise."
    ),
)
_DROPOUTS = (0.0, 0.15, 0.3, 0.45, 0.6)
_DECAYS = (0.1, 1.0)
_WIDTH, _FACTOR, _EXPERTS, _CONTEXT, _BATCH, _LETTERS, _ROWS = 48, 16, 4, 32, 16, 27, 256


@cache
def _data() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Rows of few letters to repeat, and fresh rows to test on."""
    import torch

    language = Language(seed=6, words=200)
    text = language.text(_ROWS * _CONTEXT + 1, seed=0)
    x = np.stack([text[i * _CONTEXT : (i + 1) * _CONTEXT] for i in range(_ROWS)])
    y = np.stack([text[i * _CONTEXT + 1 : (i + 1) * _CONTEXT + 1] for i in range(_ROWS)])
    far = windows(language.text(30_000, seed=1), _CONTEXT, 128, np.random.default_rng(0))
    return (torch.from_numpy(x), torch.from_numpy(y)), (torch.from_numpy(far[0]), torch.from_numpy(far[1]))


def _model(kind: str, seed: int) -> Any:
    """A dense model, one of a quarter of its feed-forward units, or a mixture of four experts with all its weights."""
    import torch
    from torch import nn

    from tunewright.bench.micro import CharTransformer
    from tunewright.scaling.repeated import MoeFeedForward

    torch.manual_seed(seed)
    factor = _FACTOR if kind == "dense" else _FACTOR // _EXPERTS
    # A share above 0 so that the modules are there; trainings set their own.
    model = CharTransformer(_LETTERS, _WIDTH, 2, context=_CONTEXT, factor=factor, dropout=0.1)
    if kind == "mixture":
        for block in model.blocks:
            norm, last = block[1].branch[0], block[1].branch[-1]
            block[1].branch = nn.Sequential(norm, MoeFeedForward(_WIDTH, factor * _WIDTH, _EXPERTS), last)
    return model


def _train(kind: str, dropout: float, seed: int, epochs: int, decay: float = 0.0) -> Any:
    import torch

    from tunewright.scaling.repeated import train_repeated

    data, (x, y) = _data()
    model = _model(kind, seed)

    def test(m: Any) -> float:
        return float(torch.nn.functional.cross_entropy(m(x).reshape(-1, _LETTERS), y.reshape(-1)))

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=decay, fused=True)
    return train_repeated(
        model,
        data,
        test,
        optimizer,
        epochs=epochs,
        batch=_BATCH,
        dropout=dropout,
        seed=seed,
        tests=range(2, epochs + 1, 2),
    )


def _one(seed: int, epochs: int, dropouts: tuple[float, ...]) -> dict[str, Any]:
    """Everything that is compared, for one seed."""
    dense = {p: _train("dense", p, seed, epochs) for p in dropouts}
    mixture = {p: _train("mixture", p, seed, epochs) for p in dropouts}
    small = _train("small", 0.0, seed, epochs)
    decayed = [_train("dense", 0.0, seed, epochs, d) for d in _DECAYS]
    plain, best = dense[0.0].test[-1], min(dropouts, key=lambda p: dense[p].test[-1])
    proxy = min(dropouts, key=lambda p: mixture[p].test[-1])
    gain = plain - dense[best].test[-1]
    return {
        "rise": dense[0.0].degradation,
        "small_rise": small.degradation,
        "best": best,
        "proxy": proxy,
        "gain": gain,
        "rise_left": dense[best].degradation,
        "decay_gain": plain - min(d.test[-1] for d in decayed),
        "cost_of_proxy": (dense[proxy].test[-1] - dense[best].test[-1]) / gain if gain > 0 else float("inf"),
        "mixture_rise": mixture[0.0].degradation,
        "end": plain,
    }


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = (
        "the same model without dropout, with weight decay, and tuned dropout of the dense model itself"
    )
    try:
        import torch
    except ImportError:
        return Result("cannot be checked here", str(MissingExtra("PyTorch is needed.")), baseline, "none", ())
    seeds = (0,) if quick else tuple(range(5))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [_one(s, 4 if quick else 24, (0.0, 0.2) if quick else _DROPOUTS) for s in seeds]
    finally:
        torch.set_num_threads(threads)
    good = all(
        f["rise"] >= 0.05
        and f["rise"] > f["small_rise"]
        and f["gain"] > f["decay_gain"]
        and f["rise_left"] <= 0.5 * f["rise"]
        and f["cost_of_proxy"] <= 0.1
        for f in found
    )
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    weights = [sum(p.numel() for p in _model(k, 0).parameters()) for k in ("dense", "mixture", "small")]
    hidden = _FACTOR * _WIDTH
    saved = 1 - linear(1, _WIDTH, hidden // _EXPERTS).flops / linear(1, _WIDTH, hidden).flops
    mean = {k: float(np.mean([f[k] for f in found])) for k in found[0]}
    return Result(
        verdict,
        f"Without dropout the test loss of the dense model ({weights[0]:,} weights) rises by {mean['rise']:.2f} nats from its lowest, the "
        f"smaller one's ({weights[2]:,}) by {mean['small_rise']:.2f}. The best dropout ({', '.join(str(f['best']) for f in found)}) ends "
        f"{mean['gain']:.2f} nats lower and leaves a rise of {mean['rise_left']:.2f}; weight decay gains {mean['decay_gain']:.2f}. "
        f"The mixture ({weights[1]:,} weights, {100 * saved:.0f} % less feed-forward arithmetic) is best at "
        f"{', '.join(str(f['proxy']) for f in found)}, which costs the dense model {100 * mean['cost_of_proxy']:.0f} % of that gain.",
        baseline,
        "fixed margins, for every seed",
        seeds,
        {**mean, "saved_flops": saved, "worst_cost_of_proxy": max(f["cost_of_proxy"] for f in found)},
    )
