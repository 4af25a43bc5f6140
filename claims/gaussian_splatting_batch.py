"""Adam's settings at another batch size by the square root: fitting Gaussians to an image.

Zhao et al. (2024) train Gaussian splats on many views per step. They multiply Adam's rate by the root of the batch size and take
its averages to the power of it, and show that what the weights move by then stays closest to training with one view per step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import Floats
from tunewright.errors import MissingExtra
from tunewright.numerics.statistics import holm, wilcoxon
from tunewright.scaling import batch_rule

CLAIM = Claim(
    title="When the batch grows, Adam's rate times its square root keeps the path and the quality of training on single views.",
    paper="Zhao et al. 2024, arXiv:2406.18533, section 4 (batched training) and the figures on update similarity",
    check=(
        "200 Gaussians in the plane (place, size, turn, colour, opacity) are fitted to a photograph of 48 x 64 pixels; an example is a window of "
        "8 x 8 pixels at a random place, as a view is in the paper. Rates are the best of four common factors for single windows, on a seed of "
        "their own. From a checkpoint after 500 single windows Adam starts "
        "anew at batch sizes 1, 4, 16 and 64 on the same 1,024 windows; averages always go to the power of the batch size, the rate grows by its "
        "root, by itself, or not. Compared: cosine and ratio of lengths of what each kind of parameter has moved by, against batch size 1, "
        "averaged over five kinds and eight moments. Then all are trained from the start on 2,048 windows: PSNR of the whole image."
    ),
    rule=(
        "Holds at reduced scale if, at each of the batch sizes 4, 16 and 64, the root's cosine is above that of both others and its ratio of lengths "
        "is nearest to 1 (Wilcoxon over seeds and kinds of parameters, p < 0.05 after Holm for each of the twelve), and at 4 and 16 its final PSNR is "
        "above both others' and at most 0.5 dB below that of batch size 1 (means over seeds); not reproduced otherwise."
    ),
)
_BATCHES = (4, 16, 64)
_RULES: tuple[batch_rule.BatchRule, ...] = ("sqrt", "constant", "linear")
# Rates of 3DGS in proportion: places slowest, opacity fastest; betas and eps as there.
_RATES = {"place": 2e-3, "size": 1e-2, "turn": 1e-2, "colour": 5e-3, "opacity": 5e-2}
_PACES = (1.0, 0.5, 0.25, 0.125)
_BETAS, _EPS = (0.9, 0.999), 1e-15
_GAUSSIANS, _WINDOW, _MOMENTS = 200, 8, 8
_UNIT = 32.0  # pixels in which places are measured
Weights = dict[str, Any]


@dataclass(frozen=True)
class _Scale:
    """How long things take."""

    before: int = 500
    compared: int = 1024
    whole: int = 2048


def _image() -> Any:
    """A photograph of 48 x 64 pixels, colours from 0 to 1, shape (48, 64, 3)."""
    import torch
    from sklearn.datasets import load_sample_image

    photo = torch.from_numpy(load_sample_image("china.jpg").copy()).float() / 255.0
    return torch.nn.functional.adaptive_avg_pool2d(photo[:420, :560].permute(2, 0, 1), (48, 64)).permute(
        1, 2, 0
    )


def _started(seed: int) -> Weights:
    """Gaussians at random places, small, grey and half transparent."""
    import torch

    g = torch.Generator().manual_seed(seed)
    n = _GAUSSIANS
    return {
        "place": torch.rand(n, 2, generator=g) * torch.tensor([48.0, 64.0]) / _UNIT,
        "size": torch.log(torch.full((n, 2), 2.5)) + 0.2 * torch.randn(n, 2, generator=g),
        "turn": 3.14 * torch.rand(n, 1, generator=g),
        "colour": 0.5 + 0.1 * torch.randn(n, 3, generator=g),
        "opacity": torch.full((n, 1), -1.0),
    }


def _drawn(weights: Weights, points: Any) -> Any:
    """Colours at points in pixels, shape (m, 3): weighted sums of the Gaussians' colours."""
    import torch

    away = points[:, None, :] - _UNIT * weights["place"][None]
    cos, sin = torch.cos(weights["turn"][:, 0]), torch.sin(weights["turn"][:, 0])
    scale = torch.exp(-weights["size"])
    u = (away[..., 0] * cos + away[..., 1] * sin) * scale[:, 0]
    v = (away[..., 1] * cos - away[..., 0] * sin) * scale[:, 1]
    weight = torch.exp(-0.5 * (u * u + v * v)) * torch.sigmoid(weights["opacity"][:, 0])
    return weight @ weights["colour"]


def _windows(image: Any, count: int, seed: int) -> Any:
    """Upper left corners of windows, shape (count, 2)."""
    import torch

    g = torch.Generator().manual_seed(seed)
    room = torch.tensor([image.shape[0] - _WINDOW + 1, image.shape[1] - _WINDOW + 1])
    return (torch.rand(count, 2, generator=g) * room).long()


class _Fit:
    """Gaussians that are being fitted, in one process with settings of one batch size."""

    def __init__(
        self, image: Any, weights: Weights, batch: int, rule: batch_rule.BatchRule, pace: float
    ) -> None:
        import torch

        self.image = image
        self.weights = {k: v.clone().requires_grad_(True) for k, v in weights.items()}
        groups = [{"params": [self.weights[k]], "lr": pace * r} for k, r in _RATES.items()]
        self.optimizer = torch.optim.Adam(groups, betas=_BETAS, eps=_EPS)
        if batch > 1:
            batch_rule.rescale_(self.optimizer, 1, batch, rule=rule)
        self.batch = batch
        side = torch.arange(_WINDOW)
        self.grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).view(-1, 2)

    def loss(self, corners: Any) -> Any:
        """Mean squared error over windows."""
        at = (corners[:, None] + self.grid).view(-1, 2)
        # Gaussians far from a window add nothing to it, as renderers cull them; here the whole sum is taken.
        return (_drawn(self.weights, at.float()) - self.image[at[:, 0], at[:, 1]]).square().mean()

    def seen(self, windows: Any) -> None:
        """Trains on windows, as many per step as the batch has."""
        for corners in windows.split(self.batch):
            self.optimizer.zero_grad()
            self.loss(corners).backward()
            self.optimizer.step()

    def now(self) -> dict[str, Floats]:
        """Copies of the weights by kind, flat."""
        return {k: v.detach().numpy().astype(np.float64).ravel().copy() for k, v in self.weights.items()}

    def quality(self) -> float:
        """Peak signal-to-noise ratio of the whole image, in dB."""
        import torch

        rows, columns = self.image.shape[:2]
        points = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
        with torch.no_grad():
            seen = torch.cat([_drawn(self.weights, p.float()) for p in points.split(1024)])
            error = (seen.clamp(0, 1) - self.image.reshape(-1, 3)).square().mean()
        return float(-10.0 * torch.log10(error))


def _path(
    image: Any, start: Weights, batch: int, rule: batch_rule.BatchRule, pace: float, windows: Any
) -> dict[str, Floats]:
    """Weights by kind at the start and after each eighth of the windows, shape (9, d)."""
    fit = _Fit(image, start, batch, rule, pace)
    at = [fit.now()]
    for part in windows.chunk(_MOMENTS):
        fit.seen(part)
        at.append(fit.now())
    return {k: np.stack([a[k] for a in at]) for k in at[0]}


def _share(fit: _Fit, windows: Any) -> float:
    """Share of noise in the gradients of single windows, averaged over kinds."""
    found: dict[str, list[Floats]] = {k: [] for k in fit.weights}
    for corners in windows.split(1):
        fit.optimizer.zero_grad()
        fit.loss(corners).backward()
        for k, v in fit.weights.items():
            found[k].append(v.grad.numpy().astype(np.float64).ravel().copy())
    return float(np.mean([batch_rule.noise_share(np.stack(g)) for g in found.values()]))


def _paced(image: Any, scale: _Scale) -> float:
    """The common factor on all rates that is best for single windows, by the quality reached with a seed of its own."""
    quality = {}
    for pace in _PACES:
        fit = _Fit(image, _started(1000), 1, "sqrt", pace)
        fit.seen(_windows(image, scale.whole, 1400))
        quality[pace] = fit.quality()
    return max(quality, key=lambda pace: quality[pace])


def _seed(image: Any, seed: int, scale: _Scale, pace: float) -> dict[str, Any]:
    """Everything of one seed: similarities of shape (batches, rules, kinds), PSNR of shape (1 + batches * rules,), share of noise."""
    begin = _Fit(image, _started(seed), 1, "sqrt", pace)
    begin.seen(_windows(image, scale.before, 100 + seed))
    start = {k: v.detach() for k, v in begin.weights.items()}
    noise = _share(begin, _windows(image, 64, 200 + seed))
    windows = _windows(image, scale.compared, 300 + seed)
    single = _path(image, start, 1, "sqrt", pace, windows)
    cosine, length = (np.zeros((len(_BATCHES), len(_RULES), len(_RATES))) for _ in range(2))
    quality = np.zeros((len(_BATCHES), len(_RULES)))
    everything = _windows(image, scale.whole, 400 + seed)
    for i, batch in enumerate(_BATCHES):
        for j, rule in enumerate(_RULES):
            path = _path(image, start, batch, rule, pace, windows)
            for k, kind in enumerate(_RATES):
                found = batch_rule.similarity(single[kind], path[kind])
                cosine[i, j, k] = found.cosine.mean()
                length[i, j, k] = np.abs(np.log(found.length)).mean()
            fit = _Fit(image, _started(seed), batch, rule, pace)
            fit.seen(everything)
            quality[i, j] = fit.quality()
    one = _Fit(image, _started(seed), 1, "sqrt", pace)
    one.seen(everything)
    return {"cosine": cosine, "length": length, "quality": quality, "one": one.quality(), "noise": noise}


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "batch size 1; the rate constant, and times the batch size; averages to the power of the batch size with all"
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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        image = _image()
        scale = _Scale(100, 128, 128) if quick else _Scale()
        pace = _paced(image, scale)
        found = [_seed(image, s, scale, pace) for s in seeds]
    finally:
        torch.set_num_threads(threads)
    result = _judged(found, seeds, baseline)
    result.figures["pace"] = pace
    return result


def _judged(found: list[dict[str, Any]], seeds: tuple[int, ...], baseline: str) -> Result:
    """The verdict on what was measured."""
    cosine, length, quality = (np.stack([f[k] for f in found]) for k in ("cosine", "length", "quality"))
    p = []
    for i in range(len(_BATCHES)):
        for j in (1, 2):
            p.append(wilcoxon(cosine[:, i, 0].ravel(), cosine[:, i, j].ravel(), "greater"))
            p.append(wilcoxon(length[:, i, 0].ravel(), length[:, i, j].ravel(), "less"))
    worst = float(holm(p).max())
    one = float(np.mean([f["one"] for f in found]))
    mean = quality.mean(axis=0)
    better = bool((mean[:2, 0] > mean[:2, 1:].max(axis=1)).all())
    near = bool((mean[:2, 0] >= one - 0.5).all())
    verdict: Verdict = "holds at reduced scale" if worst < 0.05 and better and near else "not reproduced"
    figures: dict[str, float | int | str] = {
        "psnr_batch_1": one,
        "noise_share": float(np.mean([f["noise"] for f in found])),
        "largest_p": worst,
    }
    for i, batch in enumerate(_BATCHES):
        for j, rule in enumerate(_RULES):
            figures[f"cosine_{batch}_{rule}"] = float(cosine[:, i, j].mean())
            figures[f"log_length_{batch}_{rule}"] = float(length[:, i, j].mean())
            figures[f"psnr_{batch}_{rule}"] = float(mean[i, j])
    told = "; ".join(
        f"at {b}: cosine "
        + " / ".join(f"{cosine[:, i, j].mean():.3f}" for j in range(3))
        + ", PSNR "
        + " / ".join(f"{mean[i, j]:.2f}" for j in range(3))
        for i, b in enumerate(_BATCHES)
    )
    return Result(
        verdict,
        f"Root / constant / linear {told}; batch size 1 reaches {one:.2f} dB. Share of noise in a window's gradient "
        f"{figures['noise_share']:.2f}; largest p of the twelve comparisons of paths {worst:.2g}.",
        baseline,
        "Wilcoxon signed-rank, one-sided, pairs by seed and kind of parameter, Holm over twelve comparisons",
        seeds,
        figures,
    )
