"""Convolutional networks scaled mainly in width have fewer activations, are faster, and as accurate.

Dollar, Singh and Girshick (2021) scale depth, width and resolution together so that activations grow about as the root of the
FLOPs instead of in proportion, report accuracies like those of uniform compound scaling, and networks that run faster.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from tunewright.errors import MissingExtra
from tunewright.numerics.statistics import bootstrap_interval, wilcoxon
from tunewright.scaling.compound import growth, scale
from tunewright.scaling.counting import ConvShape
from tunewright.scaling.timing import measure

CLAIM = Claim(
    title="Scaling mainly the width of a convolutional network makes activations grow far slower than FLOPs, and it is faster and as accurate.",
    paper="Dollar, Singh and Girshick 2021, arXiv:2103.06877, sections 4 and 5, table 4",
    check=(
        "A network of two stages of three layers on the digits (enlarged to 16 x 16), with skips around layers that keep their shape, scaled by "
        "the strategies d, dwr, dWr (.8) and w: exponent of activations over 1 to 256 times the FLOPs; for all but d processor time of a "
        "training step at 64 times, batch 32, one thread; test accuracy at 16 times after 20 epochs, each with its own resolution, the same "
        "rate and schedule. This is the second set-up. In the first the base had two layers and no skips: 16 times the FLOPs are 1.3 times "
        "the depth under dWr, which of one layer is one layer, so that dWr was w and only dwr became deeper; the paper scales "
        "residual networks of 16 blocks or more."
    ),
    rule=(
        "Holds at reduced scale if the exponents of activations are within .1 of the paper's (.5 for w, .6 for dWr, .83 for dwr), a "
        "step of dWr takes at most 80 % of the time of dwr per FLOP that each has, and the mean test accuracy of dWr is at most one "
        "point below that of dwr; not reproduced otherwise."
    ),
)
_STRATEGIES = ("d", "dwr", "dWr", "w")
_TRAINED = ("dwr", "dWr", "w")
_THEORY = {"w": 0.5, "dWr": 0.6, "dwr": 5 / 6}
_BASE = ConvShape(16, (4, 8), (3, 3), channels=1, classes=10, batch=32)
_EPOCHS, _BATCH, _RATE = 20, 32, 0.1


@cache
def _digits(side: int) -> tuple[Any, Any]:
    """Images of shape (1797, 1, side, side) in about [-1, 1], and their classes."""
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    images = torch.from_numpy(x / 8.0 - 1.0).float().view(-1, 1, 8, 8)
    grown = torch.nn.functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
    return grown, torch.from_numpy(y)


def _network(shape: ConvShape) -> Any:
    """Convolutions with batch normalization and ReLU, each added to what it got where the shapes agree; the mean; a readout."""
    from torch import Tensor, nn

    class Layer(nn.Module):
        """One convolution."""

        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            kernel = shape.kernel
            self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
            self.norm = nn.BatchNorm2d(outputs)
            self.skip = stride == 1 and inputs == outputs

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.norm(self.convolution(x)).relu()
            return out + x if self.skip else out

    layers = [Layer(inputs, outputs, stride) for _, inputs, outputs, stride, _ in shape.layers()]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(shape.widths[-1], shape.classes)
    )


def _accuracy(shape: ConvShape, seed: int, epochs: int) -> float:
    """Share of test digits that are right after training."""
    import torch

    x, y = _digits(shape.resolution)
    torch.manual_seed(seed)
    model = _network(shape)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, test = order[:1000], order[1000:]
    steps = epochs * len(train) // _BATCH
    optimizer = torch.optim.SGD(model.parameters(), lr=_RATE, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps, pct_start=0.1)
    rows = torch.Generator().manual_seed(seed + 1)
    for _ in range(steps):
        part = train[torch.randint(len(train), (_BATCH,), generator=rows)]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[part]), y[part]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        return float((model(x[test]).argmax(dim=1) == y[test]).double().mean())


def _seconds(shapes: list[ConvShape], rounds: int) -> list[float]:
    """Processor seconds of a training step of each, the least over rounds in which all take turns."""
    import torch

    taken: list[list[float]] = []
    for _ in range(rounds):
        line = []
        for shape in shapes:
            torch.manual_seed(0)
            model = _network(shape)
            x = torch.randn(shape.batch, shape.channels, shape.resolution, shape.resolution)
            y = torch.randint(shape.classes, (shape.batch,))
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

            def step(model: Any = model, optimizer: Any = optimizer, x: Any = x, y: Any = y) -> None:
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
                optimizer.step()

            line.append(measure(step, repeats=5))
        taken.append(line)
    return [min(c) for c in zip(*taken, strict=True)]


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "dwr: depth, width and resolution in equal proportions, as EfficientNets are scaled"
    try:
        import torch
    except ImportError:
        return Result("cannot be checked here", str(MissingExtra("PyTorch is needed.")), baseline, "none", ())
    seeds = tuple(range(2 if quick else 10))
    exponents = {n: growth(_BASE, n, [4.0**i for i in range(5)])["activations"] for n in _STRATEGIES}
    large = {n: scale(_BASE, 16 if quick else 64, n) for n in _TRAINED}
    judged = {n: scale(_BASE, 4 if quick else 16, n) for n in _TRAINED}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        raw = _seconds([m.shape for m in large.values()], 2 if quick else 9)
        accuracy = {
            n: [_accuracy(m.shape, s, 3 if quick else _EPOCHS) for s in seeds] for n, m in judged.items()
        }
    finally:
        torch.set_num_threads(threads)
    # FLOPs differ a little because depths and widths are whole numbers.
    time = {n: t / m.flops for (n, m), t in zip(large.items(), raw, strict=True)}
    ratio = time["dWr"] / time["dwr"]
    difference = np.array(accuracy["dWr"]) - np.array(accuracy["dwr"])
    low, high = bootstrap_interval(difference, np.random.default_rng(0))
    p = wilcoxon(accuracy["dWr"], accuracy["dwr"], "two-sided") if len(seeds) > 2 else float("nan")
    near = all(abs(exponents[n] - v) <= 0.1 for n, v in _THEORY.items())
    good = near and ratio <= 0.8 and float(difference.mean()) >= -0.01
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"Activations grow with FLOPs to the power {exponents['w']:.2f} (w), {exponents['dWr']:.2f} (dWr), {exponents['dwr']:.2f} "
        f"(dwr) and {exponents['d']:.2f} (d). A step of dWr takes {100 * ratio:.0f} % of dwr's time for the same FLOPs. Test accuracy: "
        + ", ".join(f"{n} {100 * np.mean(a):.2f} %" for n, a in accuracy.items())
        + f"; dWr minus dwr {100 * difference.mean():+.2f} points ({100 * low:+.2f} to {100 * high:+.2f}).",
        baseline,
        "fixed margins; bootstrap interval of paired differences in accuracy, Wilcoxon signed-rank, two-sided, pairs by seed",
        seeds,
        {
            **{f"activations {n}": v for n, v in exponents.items()},
            **{f"time over dwr {n}": v / time["dwr"] for n, v in time.items()},
            **{f"accuracy {n}": float(np.mean(a)) for n, a in accuracy.items()},
            **{f"flops {n}": m.flops for n, m in judged.items()},
            "p": p,
        },
    )
