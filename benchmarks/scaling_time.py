"""Step times predicted from shapes, by FLOPs and by memory copies: ``python -m benchmarks.scaling_time [--quick]``.

Character transformers of different width, depth, heads, context, batch and vocabulary take steps of AdamW on one thread. Half of the
shapes calibrate every model of time, the other half judges it. Processor time, the least over rounds in which all shapes take turns, each the median of three
steps: what other programs do to caches can only add to it.
Models from FLOPs are the usual one (6 per weight and token), one with all matrix products of the network, and one with as many
coefficients as ours; all are fitted to relative errors in the same way.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.bench.micro import CharTransformer
from tunewright.scaling.counting import TransformerShape, transformer
from tunewright.scaling.timing import calibrate, measure, training_step

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "scaling_time.json"
Floats = NDArray[np.float64]
# Models of time: the basis of ``calibrate``, and how many coefficients that is.
MODELS = {"full": 4, "copies": 2, "flops": 2, "flops-curve": 4}


def shapes(n: int, seed: int = 0) -> list[TransformerShape]:
    """Random shapes whose step takes between a millisecond or so and a quarter of a second."""
    rng = np.random.default_rng(seed)
    found: list[TransformerShape] = []
    while len(found) < n:
        width, heads = (
            int(rng.choice([32, 48, 64, 96, 128, 192, 256, 384, 512])),
            int(2 ** rng.integers(0, 5)),
        )
        depth, context = int(rng.integers(1, 13)), int(2 ** rng.integers(4, 9))
        batch, vocabulary = int(2 ** rng.integers(0, 6)), int(rng.choice([27, 65, 256, 1024, 4096]))
        if width % heads or width // heads < 8:
            continue
        shape = TransformerShape(width, depth, heads, context, batch, vocabulary)
        if 5e6 < transformer(shape).flops < 5e9:
            found.append(shape)
    return found


def built(shape: TransformerShape) -> CharTransformer:
    """The network of a shape."""
    return CharTransformer(
        shape.vocabulary, shape.width, shape.depth, heads=shape.heads, context=shape.context
    )


def times(given: list[TransformerShape], rounds: int) -> Floats:
    """Processor seconds of a step, shape (shapes, rounds); only one network is in memory at a time."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken = np.empty((len(given), rounds))
    try:
        for r in range(rounds):
            for i, shape in enumerate(given):
                taken[i, r] = measure(training_step(shape, built), repeats=3)
    finally:
        torch.set_num_threads(threads)
    return taken


def judged(
    known: list[TransformerShape], seconds: Floats, new: list[TransformerShape], truth: Floats
) -> list[dict[str, Any]]:
    """Errors of every model of time on shapes that it was not calibrated on."""
    out = []
    for basis, coefficients in MODELS.items():
        model = calibrate(known, list(seconds), basis=basis)
        found = [model.predict(s, slack=float("inf")) for s in new]
        error = np.abs(np.array([f.seconds for f in found]) / truth - 1)
        inside = [f.low <= t <= f.high for f, t in zip(found, truth, strict=True)]
        out.append(
            {
                "model": basis,
                "coefficients": coefficients,
                "mean_error": float(error.mean()),
                "median_error": float(np.median(error)),
                "r2_log": _explained(np.array([f.seconds for f in found]), truth),
                "in_range": float(np.mean(inside)),
            }
        )
    usual = [6.0 * s.parameters * s.tokens for s in known]
    a, b = _line(np.array(usual), seconds)
    guess = a * np.array([6.0 * s.parameters * s.tokens for s in new]) + b
    error = np.abs(guess / truth - 1)
    out.append(
        {
            "model": "6 x weights x tokens",
            "coefficients": 2,
            "mean_error": float(error.mean()),
            "median_error": float(np.median(error)),
            "r2_log": _explained(guess, truth),
            "in_range": float("nan"),
        }
    )
    return out


def _line(x: Floats, t: Floats) -> tuple[float, float]:
    """Non-negative slope and constant with the least squared relative error."""
    from scipy.optimize import nnls

    rows = np.stack([x / x.max(), np.ones_like(x)], axis=1)
    (slope, constant), _ = nnls(rows / t[:, None], np.ones_like(t))
    return float(slope / x.max()), float(constant)


def _explained(guess: Floats, truth: Floats) -> float:
    """Share of the variance of the logarithm of the time that is explained."""
    residual = np.log(guess / truth)
    return float(1 - (residual**2).sum() / ((np.log(truth) - np.log(truth).mean()) ** 2).sum())


def rows(quick: bool) -> list[dict[str, Any]]:
    """Errors of predicted step times on held-out shapes, a row for every model of time.

    Args:
        quick: 15 shapes to calibrate on and 15 to judge in one round, where the full run has 30 and 30 in nine.
    """
    n = 15 if quick else 30
    given = shapes(2 * n)
    taken = times(given, 1 if quick else 9).min(axis=1)
    return judged(given[:n], taken[:n], given[n:], taken[n:])


def main(argv: list[str] | None = None) -> int:
    """Measures, prints and stores."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling_time", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="fewer shapes, one round; nothing is stored")
    given = parser.parse_args(argv)
    n, rounds = (15, 1) if given.quick else (30, 9)
    chosen = shapes(2 * n)
    taken = times(chosen, rounds)
    least = taken.min(axis=1)
    found = judged(chosen[:n], least[:n], chosen[n:], least[n:])
    for row in found:
        print(
            f"{row['model']:22} {row['coefficients']} coefficients: mean error {100 * row['mean_error']:.1f} %, median "
            f"{100 * row['median_error']:.1f} %, R2 of the logarithm {row['r2_log']:.3f}, in range {row['in_range']:.2f}"
        )
    if not given.quick:
        record = {
            "rows": [{k: v for k, v in r.items() if v == v} for r in found],
            "noise": float(np.median(taken.std(axis=1) / taken.mean(axis=1))),
            "shapes": [
                {**asdict(s), "seconds": float(f"{t:.4g}"), "held_out": i >= n}
                for i, (s, t) in enumerate(zip(chosen, least, strict=True))
            ],
            "machine": f"{platform.machine()}, one thread",
            "date": datetime.now(UTC).date().isoformat(),
        }
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
