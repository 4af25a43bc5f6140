"""What the critical batch size of small language models follows: ``python -m benchmarks.scaling_batch [--quick]``.

How it grows with data and with the model, measured by its definition (20 % more examples than the best batch size
needs) on one-block transformers over grids of batch and rate, by the noise scale of their gradients along a training, and by an exact
recursion for averaged SGD on least squares. Zhang et al. 2024 (arXiv:2410.21676) report ``D^0.47`` and ``N^0.087``. The grids are those of
``claims/critical_batch.py`` and take about nine minutes of one core where the claim has not been run before.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from claims import critical_batch, least_squares, micro_lm

RESULTS = Path(__file__).resolve().parent / "results" / "scaling_batch.json"
_REFERENCE = "data 0.47, parameters 0.087 (Zhang et al. 2024)"
_ROWS = 8
_RATE = 2.0**-5.25


def rows(quick: bool) -> list[dict[str, Any]]:
    """What is measured, what it is compared with, and whether the batch follows the data and not the model.

    Args:
        quick: Two models, two horizons, one seed.
    """
    return [_overhead(quick), *_noise(quick), _theory(quick)]


def _row(what: str, measured: str, reached: bool, **figures: float) -> dict[str, Any]:
    """A row of the table."""
    return {
        "what": what,
        "reference": _REFERENCE,
        "measured": measured,
        "reached": reached,
        "figures": figures,
    }


def _follows(data: float, size: float) -> bool:
    """Whether data counts and the model at most half as much."""
    return bool(data > 0 and abs(size) <= data / 2)


def _overhead(quick: bool) -> dict[str, Any]:
    """By the definition, on the trainings of the claims."""
    widths, horizons = (
        (critical_batch.WIDTHS[:2], (2.0**13.5, 2.0**14))
        if quick
        else (critical_batch.WIDTHS, critical_batch.HORIZONS)
    )
    where, cells, steps = critical_batch.grids(widths, horizons, quick)
    sizes, drawn = critical_batch.resampled(where, cells, steps)
    found = critical_batch.exponents(where, sizes)
    low, high = np.nanquantile(critical_batch.exponents(where, drawn), [0.025, 0.975], axis=0)
    return _row(
        "critical batch size by 20 % overhead, one-block transformers",
        f"data {found[2]:.2f} ({low[2]:.2f} to {high[2]:.2f}), parameters {found[1]:.2f} ({low[1]:.2f} to {high[1]:.2f})",
        _follows(low[2], found[1]),
        data=float(found[2]),
        data_low=float(low[2]),
        data_high=float(high[2]),
        parameters=float(found[1]),
        parameters_low=float(low[1]),
        parameters_high=float(high[1]),
    )


def noise_along(width: int, seed: int, rate: float, marks: list[int]) -> tuple[int, list[float]]:
    """Weights of a model, and its gradient noise scale in letters after so many letters of training each.

    Args:
        width: Of the model.
        seed: Of first weights, order of the text and measurement.
        rate: Of Adam at the base width.
        marks: Letters read, increasing.
    """
    import torch

    from tunewright import scaling
    from tunewright.bench.micro import CharTransformer, next_letter_loss
    from tunewright.scaling.noise import gradient_noise_scale

    def model_of(size: int) -> Any:
        return CharTransformer(width=size, depth=1, context=micro_lm.CONTEXT)

    model = model_of(width)
    base = micro_lm.BASE
    plan = scaling.plan(
        "mup", model, model_of(base), delta=model_of(2 * base), optimizer="adam", form="folded"
    )
    plan.init_(model, seed)
    optimizer = torch.optim.Adam(plan.param_groups(rate), betas=(0.9, 0.99))
    pieces = torch.from_numpy(micro_lm.pieces(marks[-1] + 2**14, 0))
    order = np.random.default_rng([seed, 11]).permutation(len(pieces))
    unseen = torch.split(pieces[order[-512:]], 64)
    batch, found = _ROWS * micro_lm.CONTEXT, []
    for t in range(1, marks[-1] // batch + 1):
        for group in optimizer.param_groups:
            group.setdefault("peak", group["lr"])
            group["lr"] = group["peak"] * min(1.0, t * batch / 2**13)
        x = pieces[order[(t - 1) * _ROWS : t * _ROWS]]
        optimizer.zero_grad()
        next_letter_loss(model(x[:, :-1]), x[:, 1:]).backward()
        optimizer.step()
        if t * batch in marks:
            noise = gradient_noise_scale(model, next_letter_loss, [(u[:, :-1], u[:, 1:]) for u in unseen])
            found.append(noise.size * micro_lm.CONTEXT)
    return sum(p.numel() for p in model.parameters()), found


def _noise(quick: bool) -> list[dict[str, Any]]:
    """By the noise of gradients: along one training, and at the ends of trainings whose rate was tuned for their length.

    At a fixed rate and batch the weights end up bouncing at one temperature, which the noise scale then shows (the temperature
    of McCandlish et al. 2018); a rate that falls with the length, as the best one does, lets it grow.
    """
    marks = [2**k for k in ((13, 14) if quick else range(14, 18))]
    widths, seeds = critical_batch.WIDTHS[: 2 if quick else 3], range(1 if quick else 5)
    fixed: dict[int, list[Any]] = {}
    tuned: dict[int, list[Any]] = {}
    for w in widths:
        cell = micro_lm.grid(w, quick)[_ROWS]
        rates = [micro_lm.best_rate(cell, m)[0] for m in marks]
        fixed[w] = [noise_along(w, s, _RATE, marks) for s in seeds]
        tuned[w] = [
            [noise_along(w, s, r, [m])[1][0] for r, m in zip(rates, marks, strict=True)] for s in seeds
        ]
    where = [(fixed[w][0][0], m) for w in widths for m in marks]
    found = {
        "gradient noise scale along a training at one rate, one-block transformers": [
            [v for w in widths for v in fixed[w][s][1]] for s in seeds
        ],
        "gradient noise scale at the best rate of each length, one-block transformers": [
            [v for w in widths for v in tuned[w][s]] for s in seeds
        ],
    }
    return [_noise_row(what, where, np.array(sizes)) for what, sizes in found.items()]


def _noise_row(what: str, where: list[tuple[int, int]], sizes: Any) -> dict[str, Any]:
    """Exponents of noise scales of shape ``(seeds, models and lengths)``."""
    from tunewright.scaling.critical import fit_critical_law

    law = fit_critical_law([n for n, _ in where], [d for _, d in where], sizes)
    low, high = law.tokens_interval
    return _row(
        what,
        f"data {law.tokens:.2f} ({low:.2f} to {high:.2f}), parameters {law.parameters:.2f} "
        f"({law.parameters_interval[0]:.2f} to {law.parameters_interval[1]:.2f})",
        _follows(low, law.parameters),
        data=law.tokens,
        data_low=low,
        data_high=high,
        parameters=law.parameters,
        parameters_low=law.parameters_interval[0],
        parameters_high=law.parameters_interval[1],
        **{f"letters N{n} D{d}": float(v) for (n, d), v in zip(where, sizes.mean(axis=0), strict=True)},
    )


def _theory(quick: bool) -> dict[str, Any]:
    """By an exact recursion, where the number of dimensions stands for the model."""
    from tunewright.scaling.critical import fit_critical_law

    cells = [(d, n) for d in (64, 256) for n in ((512, 1024) if quick else (1024, 2048, 4096, 8192))]
    sizes = [2**k for k in range(9)]
    law = fit_critical_law(
        [d for d, _ in cells], [n for _, n in cells], [least_squares.critical(d, n, sizes) for d, n in cells]
    )
    return _row(
        "critical batch size by 20 % overhead, least squares, exact",
        f"data {law.tokens:.2f}, dimensions {law.parameters:.3f}",
        _follows(law.tokens, law.parameters),
        data=law.tokens,
        parameters=law.parameters,
    )


def main(argv: list[str] | None = None) -> int:
    """Prints the table; a full run is stored."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small grids, nothing stored")
    quick = parser.parse_args(argv).quick
    found = rows(quick)
    for row in found:
        print(
            f"{row['what']}: {row['measured']}; {'reached' if row['reached'] else 'not reached'} ({row['reference']})"
        )
    if not quick:
        versions = {"python": platform.python_version()}
        versions |= {n: metadata.version(n) for n in ("numpy", "scipy", "torch", "tunewright")}
        RESULTS.write_text(
            json.dumps({"rows": found, "versions": versions}, indent=1) + "\n", encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
