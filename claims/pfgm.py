"""A diffusion model's noise schedule, moved to Poisson flow models of any extra dimension by r = sigma sqrt(D).

Xu et al. (2023) put a knob D between Poisson flow and diffusion, and move EDM's tuned schedule to any D by this alignment alone; image
quality then is as good as diffusion's or better, and tends to it as D grows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import Floats
from tunewright.errors import MissingExtra
from tunewright.numerics.statistics import holm, wilcoxon
from tunewright.scaling import sigma_dimension as pfgm

CLAIM = Claim(
    title="Aligned by r = sigma sqrt(D), a tuned diffusion schedule works at every D; large D is diffusion, and some smaller D is no worse.",
    paper="Xu et al. 2023, arXiv:2302.04265, section 4 (alignment and transfer) and the tables on CIFAR-10",
    check=(
        "EDM's training and 18-step Heun sampler on a mixture of eight Gaussians in the plane and on digits of 8 x 8 pixels, with "
        "D = 4, 32, 256 and 4,096 and diffusion; a perceptron of three layers of 128, 800 steps of 128 examples. The schedule is EDM's, its "
        "mean of the logarithm of levels tuned for diffusion (-2, -1.2, -0.4 or 0.4, two seeds of its own); it is "
        "moved by the alignment, or its levels are taken for radii as they stand. Quality: sliced Wasserstein distance of 1,500 samples to "
        "data held out, 200 directions."
    ),
    rule=(
        "Holds at reduced scale if on both data sets the aligned schedule is better at each D (Wilcoxon over seeds of both data sets "
        "together, p < 0.05 after Holm over the four), the aligned distance at D = 4,096 is within 10 % of diffusion's, and at some "
        "finite D it is at most 1.02 times diffusion's (geometric means over seeds); not reproduced otherwise."
    ),
)
_DIMENSIONS = (4.0, 32.0, 256.0, 4096.0)
_WIDTH, _BATCH, _SAMPLES = 128, 128, 1500


def _plane(seed: int) -> tuple[Any, Any]:
    """Eight Gaussians on a circle, standard deviation half in all, to train on and held out, each (4000, 2)."""
    import torch

    rng = np.random.default_rng([seed, 1])
    angle = rng.integers(0, 8, 8000) * (math.pi / 4)
    points = np.stack((np.cos(angle), np.sin(angle)), 1) + 0.05 * rng.standard_normal((8000, 2))
    points = torch.from_numpy((0.5 * points / points.std()).astype(np.float32))
    return points[:4000], points[4000:]


def _digits(seed: int) -> tuple[Any, Any]:
    """Digits from -1 to 1, to train on and held out, each about (898, 64)."""
    import torch
    from sklearn.datasets import load_digits

    data = load_digits().data / 8.0 - 1.0
    order = np.random.default_rng([seed, 2]).permutation(len(data))
    pixels = torch.from_numpy(data[order].astype(np.float32))
    return pixels[:898], pixels[898:]


_TASKS = {"plane": _plane, "digits": _digits}


def _network(dimensions: int, seed: int) -> Any:
    """A perceptron that also takes the level, by sines and cosines of it."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    body = nn.Sequential(
        nn.Linear(dimensions + 16, _WIDTH),
        nn.SiLU(),
        nn.Linear(_WIDTH, _WIDTH),
        nn.SiLU(),
        nn.Linear(_WIDTH, _WIDTH),
        nn.SiLU(),
        nn.Linear(_WIDTH, dimensions),
    )
    rates = 2.0 ** torch.arange(-2, 6)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            turns = level[:, None] * rates
            return self.body(torch.cat((x, torch.sin(turns), torch.cos(turns)), dim=1))  # type: ignore[no-any-return]

    return Net()


def _distance(one: Any, other: Any, seed: int) -> float:
    """Sliced Wasserstein distance of second order between two clouds."""
    import torch

    g = torch.Generator().manual_seed(seed)
    along = torch.nn.functional.normalize(torch.randn(one.shape[1], 200, generator=g), dim=0)
    part = (torch.arange(400) + 0.5) / 400
    a, b = (torch.quantile(cloud @ along, part, dim=0) for cloud in (one, other))
    return float((a - b).square().mean().sqrt())


def _quality(task: str, seed: int, dimension: float, schedule: pfgm.NoiseSchedule, steps: int) -> float:
    """Trains, samples and measures."""
    import torch

    mine, held = _TASKS[task](seed)
    net = _network(mine.shape[1], seed)
    denoiser = pfgm.preconditioned(net, schedule.sigma_data)
    rng = np.random.default_rng([seed, 3])
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = mine[torch.from_numpy(rng.integers(0, len(mine), _BATCH))]
        optimizer.zero_grad()
        pfgm.loss(denoiser, batch, schedule, dimension, rng).backward()
        optimizer.step()
        decay.step()
    found = pfgm.sample(denoiser, (_SAMPLES, mine.shape[1]), schedule, dimension, rng)
    return _distance(found.nan_to_num(0.0).clamp(-10, 10), held, seed)


def _tuned(task: str, steps: int, seeds: int) -> pfgm.NoiseSchedule:
    """The schedule that is best for diffusion, chosen with seeds of its own."""
    tried = [pfgm.NoiseSchedule(log_mean=m) for m in (-2.0, -1.2, -0.4, 0.4)]
    losses = [
        np.mean([np.log(_quality(task, 1000 + s, math.inf, one, steps)) for s in range(seeds)])
        for one in tried
    ]
    return tried[int(np.argmin(losses))]


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the same schedule with its levels taken for radii; diffusion (D infinite)"
    seeds = tuple(range(1 if quick else 10))
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
    steps = 60 if quick else 800
    schedules = []
    aligned, taken = (np.zeros((len(_TASKS), len(_DIMENSIONS), len(seeds))) for _ in range(2))
    diffusion, floor = (np.zeros((len(_TASKS), len(seeds))) for _ in range(2))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for t, task in enumerate(_TASKS):
            plain = _tuned(task, steps, 1 if quick else 2)
            schedules.append(plain.log_mean)
            for s, seed in enumerate(seeds):
                diffusion[t, s] = _quality(task, seed, math.inf, plain, steps)
                floor[t, s] = _distance(*_TASKS[task](seed), seed)
                for i, d in enumerate(_DIMENSIONS):
                    aligned[t, i, s] = _quality(task, seed, d, plain, steps)
                    taken[t, i, s] = _quality(task, seed, d, plain.read_as_radii(d), steps)
    finally:
        torch.set_num_threads(threads)
    result = _judged(aligned, taken, diffusion, floor, seeds, baseline)
    result.figures.update({f"{t}_log_mean": m for t, m in zip(_TASKS, schedules, strict=True)})
    return result


def _judged(
    aligned: Floats, taken: Floats, diffusion: Floats, floor: Floats, seeds: tuple[int, ...], baseline: str
) -> Result:
    """The verdict on distances by task, dimension and seed."""

    def mean(x: Floats) -> Floats:
        return np.exp(np.log(x).mean(axis=-1))

    a, b, c = mean(aligned), mean(taken), mean(diffusion)
    better = bool((a < b).all())
    p = holm([wilcoxon(aligned[:, i].ravel(), taken[:, i].ravel(), "less") for i in range(len(_DIMENSIONS))])
    ratio = a / c[:, None]
    same = bool((np.abs(ratio[:, -1] - 1) <= 0.10).all())
    good = bool((ratio.min(axis=1) <= 1.02).all())
    verdict: Verdict = (
        "holds at reduced scale" if better and p.max() < 0.05 and same and good else "not reproduced"
    )
    figures: dict[str, float | int | str] = {"largest_p": float(p.max())}
    told = []
    for t, task in enumerate(_TASKS):
        figures[f"{task}_diffusion"], figures[f"{task}_data_itself"] = float(c[t]), float(mean(floor)[t])
        for i, d in enumerate(_DIMENSIONS):
            figures[f"{task}_aligned_{d:g}"], figures[f"{task}_unaligned_{d:g}"] = (
                float(a[t, i]),
                float(b[t, i]),
            )
        told.append(
            f"{task}: diffusion {c[t]:.4f}; aligned "
            + ", ".join(f"{x:.4f}" for x in a[t])
            + "; not aligned "
            + ", ".join(f"{x:.4f}" for x in b[t])
        )
    return Result(
        verdict,
        f"Distances at D = 4, 32, 256 and 4,096: {'; '.join(told)}. Largest p {p.max():.2g}; at D = 4,096 the aligned distance is "
        + " and ".join(f"{x:.3f}" for x in ratio[:, -1])
        + " of diffusion's.",
        baseline,
        "Wilcoxon signed-rank on the distance, one-sided, pairs by data set and seed, Holm over four dimensions",
        seeds,
        figures,
    )
