"""One rule from the number of examples and the size of images is about as good for fine-tuning as tuning every task.

Kolesnikov et al. (2020) fine-tune one pretrained network on more than twenty tasks with settings from a rule, without any tuning per
task, and reach the results of much larger efforts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from tunewright.errors import MissingExtra
from tunewright.numerics.statistics import bootstrap_interval, wilcoxon
from tunewright.scaling.hyper_rule import FineTuning, hyper_rule

CLAIM = Claim(
    title="Fine-tuning with BiT's rule is about as good as tuning the rate for each task, and better than one default for all.",
    paper="Kolesnikov et al. 2020, arXiv:1912.11370, section 3.3 and table 1",
    check=(
        "A small convolutional network with group normalization learns digits 0 to 5 in four rotations; then eight tasks (unseen digits, "
        "inverted, parity, all ten, with 4 and 12 examples a class) are learned from its weights, with the rule as "
        "printed (500 steps of SGD), with the rule's schedule and the best of three rates (.003, .02, .1) (by validation on a third of the "
        "examples, then trained again on all), and with a default (Adam at 1e-3). Resizing and crop are kept in proportion "
        "(10, then 8 pixels); flips are left out, as they change digits."
    ),
    rule=(
        "Holds at reduced scale if the mean test accuracy with the rule is at most 2 points below tuning and not below the default, "
        "over tasks and seeds, and above the rule without pretraining; not reproduced otherwise."
    ),
)
_RATES = (2e-2, 1e-1)
_CLASSES = 10


@dataclass(frozen=True, slots=True)
class _Task:
    """Images to learn and to be tested on, with their classes."""

    name: str
    x: Any
    y: Any
    test_x: Any
    test_y: Any


@cache
def _images() -> tuple[Any, Any]:
    """Digits of shape (1797, 1, 10, 10) in about [-1, 1], and their classes; the margin is for crops of 8."""
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    small = torch.from_numpy(x / 8.0 - 1.0).float().view(-1, 1, 8, 8)
    return torch.nn.functional.interpolate(
        small, size=(10, 10), mode="bilinear", align_corners=False
    ), torch.from_numpy(y)


def _network() -> Any:
    from torch import nn

    def stage(a: int, b: int, stride: int) -> list[Any]:
        return [nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.GroupNorm(4, b), nn.ReLU()]

    return nn.Sequential(
        *stage(1, 8, 1),
        *stage(8, 16, 2),
        *stage(16, 16, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 24),
    )


def _crop(x: Any, generator: Any) -> Any:
    """The same random crop of 8 by 8 pixels for a batch."""
    import torch

    i, j = torch.randint(3, (2,), generator=generator).tolist()
    return x[:, :, i : i + 8, j : j + 8]


def _pretrained(seed: int, steps: int) -> tuple[Any, Any, Any]:
    """A network that knows rotated digits 0 to 5, and the images it has not seen, with their classes."""
    import torch

    x, y = _images()
    order = torch.from_numpy(np.random.default_rng([seed, 1]).permutation(len(x)))
    seen = [i for i in order[:900].tolist() if y[i] < 6]
    a, b = x[seen], y[seen]
    turned = torch.cat([torch.rot90(a, k, (2, 3)) for k in range(4)])
    classes = torch.cat([b + 6 * k for k in range(4)])
    torch.manual_seed(seed)
    model = _network()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rows = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        part = torch.randint(len(turned), (64,), generator=rows)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(_crop(turned[part], rows)), classes[part]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return model.state_dict(), x[order[900:]], y[order[900:]]


def _tasks(x: Any, y: Any, seed: int, quick: bool) -> Iterator[_Task]:
    """Four questions about unseen images, each with few and with more examples."""
    import torch

    unseen = y >= 6
    kinds = {
        "unseen digits": (x[unseen], y[unseen] - 6),
        "all digits": (x, y),
        "all digits, inverted": (-x, y),
        "parity": (x, y % 2),
    }
    rng = np.random.default_rng([seed, 2])
    for name, (a, b) in list(kinds.items())[: 2 if quick else None]:
        for each in (12,) if quick else (4, 12):
            pick: list[int] = []
            for k in sorted(set(b.tolist())):
                pick += rng.permutation(np.flatnonzero((b == k).numpy()))[:each].tolist()
            rest = torch.ones(len(b), dtype=torch.bool)
            rest[pick] = False
            yield _Task(f"{name}, {each} a class", a[pick], b[pick], a[rest], b[rest])


def _accuracy(weights: Any, task: _Task, settings: FineTuning, seed: int, adam: bool = False) -> float:
    """Test accuracy after fine-tuning; the readout begins at zero, as the paper's does. ``weights`` None begins anew."""
    import torch

    torch.manual_seed(seed)
    model = _network()
    if weights is not None:
        model.load_state_dict(weights)
    model[-1] = torch.nn.Linear(16, _CLASSES)
    torch.nn.init.zeros_(model[-1].weight)
    torch.nn.init.zeros_(model[-1].bias)
    optimizer: Any = torch.optim.SGD(model.parameters(), lr=settings.lr, momentum=settings.momentum)
    if adam:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rows = torch.Generator().manual_seed(seed)
    size = min(settings.batch, len(task.x))
    for step in range(settings.steps):
        part = torch.randperm(len(task.x), generator=rows)[:size]
        if not adam:
            optimizer.param_groups[0]["lr"] = settings.rate(step)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(_crop(task.x[part], rows)), task.y[part]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        right = model(task.test_x[:, :, 1:9, 1:9]).argmax(dim=1) == task.test_y
    return float(right.double().mean())


def _tuned(weights: Any, task: _Task, rule: FineTuning, seed: int) -> tuple[float, float]:
    """Accuracy with the rate that is best on a third of the examples, the published one among the candidates, and that rate."""
    import torch

    held = torch.arange(len(task.x)) % 3 == 0
    inner = _Task(task.name, task.x[~held], task.y[~held], task.x[held], task.y[held])
    rates = sorted((*_RATES, rule.lr))
    scores = [_accuracy(weights, inner, replace(rule, lr=lr), seed) for lr in rates]
    best = rates[int(np.argmax(scores))]
    return _accuracy(weights, task, replace(rule, lr=best), seed), best


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the best of three rates by validation, for every task; Adam at 1e-3 for all tasks; the rule without pretraining"
    try:
        import torch
    except ImportError:
        return Result("cannot be checked here", str(MissingExtra("PyTorch is needed.")), baseline, "none", ())
    seeds = (0,) if quick else tuple(range(5))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {n: [] for n in ("rule", "tuned", "default", "from scratch", "rate")}
    try:
        for seed in seeds:
            weights, x, y = _pretrained(seed, 150 if quick else 800)
            for task in _tasks(x, y, seed, quick):
                rule = hyper_rule(len(task.x), 8, 8)
                rule = rule.shortened(60) if quick else rule
                found["rule"].append(_accuracy(weights, task, rule, seed))
                tuned, rate = _tuned(weights, task, rule, seed)
                found["tuned"].append(tuned)
                found["rate"].append(rate)
                found["default"].append(_accuracy(weights, task, rule, seed, adam=True))
                found["from scratch"].append(_accuracy(None, task, rule, seed))
    finally:
        torch.set_num_threads(threads)
    mean = {k: float(np.mean(v)) for k, v in found.items()}
    gap = np.array(found["tuned"]) - np.array(found["rule"])
    low, high = bootstrap_interval(gap, np.random.default_rng(0))
    p = wilcoxon(found["rule"], found["tuned"], "less")
    good = gap.mean() <= 0.02 and mean["rule"] >= mean["default"] and mean["rule"] > mean["from scratch"]
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"Mean test accuracy over tasks and seeds: the rule {100 * mean['rule']:.1f} %, tuned {100 * mean['tuned']:.1f} %, default "
        f"{100 * mean['default']:.1f} %, the rule from scratch {100 * mean['from scratch']:.1f} %. Tuning gains "
        f"{100 * gap.mean():+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}; largest {100 * gap.max():+.1f}); the median of "
        f"tuned rates is {np.median(found['rate']):.2g}, the rule's is .003.",
        baseline,
        "fixed margins; bootstrap interval of the gap, Wilcoxon signed-rank, one-sided, pairs by task and seed",
        seeds,
        {
            **{k: v for k, v in mean.items() if k != "rate"},
            "median_tuned_rate": float(np.median(found["rate"])),
            "gap_low": low,
            "gap_high": high,
            "p_rule_below_tuned": p,
        },
    )
