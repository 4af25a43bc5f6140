"""A learned optimizer trained under the maximal update parametrization, on networks wider, deeper and longer than it was trained on.

Thérien et al. (2024) train a learned optimizer on perceptrons of a few widths, parametrized so that widths do not matter, and report
that it goes on to wide networks where the same optimizer trained as usual fails, and to five times the depth and 25 times the length.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import Floats
from tunewright.errors import MissingExtra
from tunewright.numerics.statistics import wilcoxon

CLAIM = Claim(
    title="A learned optimizer trained under muP on narrow networks trains wider, deeper and longer ones better than its usual twin.",
    paper="Thérien et al. 2024, arXiv:2406.00153, the experiments on width, depth and length",
    check=(
        "Two rules with one architecture, start, budget (9 processor minutes each) and tasks: generated data, perceptrons 16 to 64 wide, 1 to 3 "
        "hidden layers, 30 to 300 steps; one trained and used under muP, the other under the usual parametrization. Tested on digits, "
        "turned into endless data by shifts and noise, with ReLU perceptrons: 64, 256 and 512 wide with two hidden layers and 100 steps; "
        "15 hidden layers of 128; 3,000 steps at width 128, ten times the longest and thirty times the usual length in training. Beside them up to width 256 the package's standard rule, which knows fan-ins; and Adam with linear decay "
        "tuned at width 64 (eight rates, two seeds of their own) and copied, and tuned at each width, and copied under muP. Judged by the loss "
        "on fresh examples. Told but not judged: width 1,024 with three seeds, as far as time allows."
    ),
    rule=(
        "Holds at reduced scale if the muP rule's mean logarithm of the loss is below its twin's at width 256, at 512, at 15 layers and at "
        "3,000 steps, with p < 0.05 over all pairs of these (Wilcoxon), and at width 512 its loss is at most 1.1 times that of Adam "
        "tuned at width 64 and copied without muP (geometric means); not reproduced otherwise."
    ),
)
_BASE = 64
_RATES = tuple(2.0**k for k in range(-12, -4))
_BATCH, _FRESH = 64, 512
_TWIN = Path(__file__).parent / "data" / "mulo_sp_rule.npz"


@dataclass(frozen=True)
class _Test:
    """A size of network and a length of training; whether its losses are judged, and with how many seeds at most."""

    name: str
    width: int
    depth: int = 2
    steps: int = 100
    judged: bool = True
    seeds: int = 10


_TESTS = (
    _Test("width_64", 64),
    _Test("width_256", 256),
    _Test("width_512", 512),
    _Test("width_1024", 1024, judged=False, seeds=3),
    _Test("depth_15", 128, 15),
    _Test("steps_3000", 128, 2, 3000),
)


class _Digits:
    """Digits shifted by a pixel at most, with noise: a stream for each seed, all of them at once."""

    def __init__(self, seeds: Sequence[int]) -> None:
        import torch
        from sklearn.datasets import load_digits

        data = load_digits()
        self.images = torch.nn.functional.pad(torch.from_numpy(data.images).float() / 16.0, (1, 1, 1, 1))
        self.labels = torch.from_numpy(data.target)
        self.sources = [torch.Generator().manual_seed(7919 * s + 1) for s in seeds]

    def drawn(self, count: int) -> tuple[Any, Any]:
        """Examples ``(p, count, 64)`` and labels ``(p, count)``."""
        import torch

        xs, ys = [], []
        for g in self.sources:
            rows = torch.randint(0, len(self.images), (count,), generator=g)
            down, right = torch.randint(0, 3, (2, count, 1, 1), generator=g)
            side = torch.arange(8)
            x = self.images[rows[:, None, None], down + side[:, None], right + side[None, :]]
            xs.append(x.flatten(1) + 0.3 * torch.randn(count, 64, generator=g))
            ys.append(self.labels[rows])
        return torch.stack(xs), torch.stack(ys)


class _Networks:
    """Perceptrons of one size, one for each seed, in either parametrization."""

    def __init__(self, test: _Test, seeds: Sequence[int], mup: bool) -> None:
        import torch

        growth = test.width / _BASE if mup else 1.0
        self.last = 1.0 / growth
        self.weights: list[Any] = []
        self.scales: list[float] = []
        sources = [torch.Generator().manual_seed(104_729 * s + 5) for s in seeds]
        sizes = [64, *[test.width] * test.depth, 10]
        for at, (into, out) in enumerate(itertools.pairwise(sizes)):
            final = at == test.depth
            spread = math.sqrt((growth if final else 2.0) / into)
            self.weights += [
                spread * torch.stack([torch.randn(out, into, generator=g) for g in sources]),
                torch.zeros(len(seeds), 1, out),
            ]
            self.scales += [1.0 if final or at == 0 else 1.0 / growth, 1.0]

    def losses(self, weights: list[Any], x: Any, y: Any) -> Any:
        """Cross-entropy of each, shape ``(p,)``."""
        import torch

        for at in range(0, len(weights) - 2, 2):
            x = torch.relu(torch.baddbmm(weights[at + 1], x, weights[at].transpose(1, 2)))
        score = torch.baddbmm(weights[-1], self.last * x, weights[-2].transpose(1, 2))
        each = torch.nn.functional.cross_entropy(score.flatten(0, 1), y.flatten(), reduction="none")
        return each.view(y.shape).mean(1)


def _ended(networks: _Networks, digits: _Digits) -> Floats:
    """Losses on fresh examples, shape ``(p,)``; 10 where one is not finite or larger."""
    import torch

    with torch.no_grad():
        found = networks.losses(networks.weights, *digits.drawn(_FRESH))
    return np.asarray(found.nan_to_num(10.0).clamp(1e-6, 10.0).numpy(), dtype=np.float64)


def _learned(test: _Test, seeds: Sequence[int], flat: Any, mup: bool, widthless: bool = True) -> Floats:
    """Losses after training by a learned rule, all seeds at once."""
    import torch

    from tunewright.optim.learned import rule as rules

    digits, networks = _Digits(seeds), _Networks(test, seeds, mup)
    rule = rules.unpacked(flat.expand(len(seeds), -1))
    states = [rules.fresh(w) for w in networks.weights]
    trend = torch.full((len(seeds), 4), math.nan)
    for step in range(test.steps):
        weights = [w.requires_grad_(True) for w in networks.weights]
        losses = networks.losses(weights, *digits.drawn(_BATCH))
        gradients = torch.autograd.grad(losses.sum(), weights)
        with torch.no_grad():
            trend = rules.followed(trend, losses.detach())
            moment = rules.Moment(step, test.steps, trend)
            scales = networks.scales if widthless else None
            changes = rules.advanced(rule, states, weights, gradients, moment, scales)
            networks.weights = [w.detach().add_(c) for w, c in zip(weights, changes, strict=True)]
    return _ended(networks, digits)


def _adam(test: _Test, seeds: Sequence[int], rate: float, mup: bool) -> Floats:
    """Losses after training by Adam with linear decay, all seeds at once."""
    import torch

    digits, networks = _Digits(seeds), _Networks(test, seeds, mup)
    groups = [
        {"params": [w.requires_grad_(True)], "lr": rate * s}
        for w, s in zip(networks.weights, networks.scales, strict=True)
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1.02 - k / test.steps)
    for _ in range(test.steps):
        optimizer.zero_grad()
        networks.losses(networks.weights, *digits.drawn(_BATCH)).sum().backward()
        optimizer.step()
        decay.step()
    return _ended(networks, digits)


def _tuned(test: _Test, mup: bool) -> float:
    """The rate whose mean logarithm of the loss is lowest over two seeds of its own."""
    return min(_RATES, key=lambda r: float(np.log(_adam(test, (1001, 1002), r, mup)).mean()))


def _rules() -> dict[str, tuple[Any, bool, bool]]:
    """Numbers of each learned rule, whether under muP, and whether it knows no widths."""
    import torch

    from tunewright.optim.learned.optimizer import shipped

    with np.load(_TWIN, allow_pickle=False) as stored:
        twin = torch.from_numpy(stored["rule"].astype(np.float32))[None]
    return {
        "mup": (shipped("mup")[0], True, True),
        "twin": (twin, False, True),
        "standard": (shipped()[0], False, False),
    }


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the same rule trained and used without muP; Adam tuned at width 64 and copied; Adam tuned at each width"
    seeds = tuple(range(2 if quick else 10))
    try:
        import sklearn
        import torch
    except ImportError:
        return Result(
            "cannot be checked here",
            str(MissingExtra("PyTorch and scikit-learn are needed.")),
            baseline,
            "none",
            (),
        )
    del sklearn
    tests = list(_TESTS)
    if quick:
        tests = [replace(t, width=min(t.width, 128), depth=min(t.depth, 4), steps=15) for t in _TESTS]
    found: dict[str, dict[str, Floats]] = {}
    figures: dict[str, float | int | str] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        copied = {mup: _tuned(tests[0], mup) for mup in (False, True)}
        for test in tests:
            drawn = seeds[: test.seeds]
            row = {
                name: _learned(test, drawn, flat, mup, widthless)
                for name, (flat, mup, widthless) in _rules().items()
                if name != "standard" or test.name in ("width_64", "width_256")
            }
            row["adam_copied"] = _adam(test, drawn, copied[False], False)
            if test.name.startswith("width") and test.judged:
                row["adam_mup"] = _adam(test, drawn, copied[True], True)
                rate = copied[False] if test is tests[0] else _tuned(test, False)
                row["adam_tuned"] = _adam(test, drawn, rate, False)
                figures[f"{test.name}_tuned_rate"] = rate
            found[test.name] = row
    finally:
        torch.set_num_threads(threads)
    return _judged(found, figures, seeds, baseline)


def _judged(
    found: dict[str, dict[str, Floats]],
    figures: dict[str, float | int | str],
    seeds: tuple[int, ...],
    baseline: str,
) -> Result:
    """The verdict on losses by test, method and seed."""
    logs = {t: {m: np.log(x) for m, x in row.items()} for t, row in found.items()}
    mean = {t: {m: float(np.exp(x.mean())) for m, x in row.items()} for t, row in logs.items()}
    judged = {t.name for t in _TESTS if t.judged}
    beyond = [t for t in logs if t in judged and t != "width_64"]
    won = [t for t in beyond if mean[t]["mup"] < mean[t]["twin"]]
    p = wilcoxon(
        np.concatenate([logs[t]["mup"] for t in beyond]),
        np.concatenate([logs[t]["twin"] for t in beyond]),
        "less",
    )
    against = mean["width_512"]["mup"] / mean["width_512"]["adam_copied"]
    good = len(won) == len(beyond) and p < 0.05 and against <= 1.1
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    for t, row in mean.items():
        figures |= {f"{t}_{m}": x for m, x in row.items()}
    figures |= {"p": p, "won": len(won), "mup_over_adam_copied_at_512": against}
    told = "; ".join(f"{t.replace('_', ' ')} {row['mup']:.3f} / {row['twin']:.3f}" for t, row in mean.items())
    wide = mean["width_512"]
    return Result(
        verdict,
        f"Loss with the muP rule / its twin: {told} (lower on {len(won)} of {len(beyond)} beyond its training, p = {p:.2g}). At width 512 "
        f"Adam copied from width 64 ends at {wide['adam_copied']:.3f}, with muP at {wide['adam_mup']:.3f}, tuned there at "
        f"{wide['adam_tuned']:.3f}.",
        baseline,
        "Wilcoxon signed-rank on the logarithm of the loss, one-sided, pairs by test and seed",
        seeds,
        figures,
    )
