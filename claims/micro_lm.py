"""Small language models trained over grids of width, batch, rate and data, that claims about their scaling share.

All rates of a cell and three seeds at a time are trained side by side. One transformer block over 32 letters of a generated language, read once;
Adam, its parametrization muP (base width 16). With a constant rate the weights are averaged over the last tenth or so of training
at every moment, so that one run serves as a training of any length (warm-up over 8192 letters); with a cosine they are taken as
they are (warm-up over a sixteenth). Results are kept in the folder for temporary files, as several claims look at the same
trainings; the first of them pays for all, about a quarter of an hour of one core.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CONTEXT = 32
BASE = 16
FIRST = 2**12
_VERSION = 1
_WARMUP = 2**13
_MEMORY = 2**15
_HELD_OUT = 128
_TOGETHER = 3
"""Seeds that are trained and kept together."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Trainings of one model and one batch size at several rates.

    Args:
        width: Of the model.
        rows: Pieces of 32 letters in a batch.
        rates: Of Adam at the base width, where muP lets other widths follow.
        seeds: Each draws first weights and the order of the text.
        tokens: Letters read in the longest training.
        cosine: Whether the rate falls to a tenth along a cosine; constant otherwise.
        points: Measurements for each doubling of the letters read; with a cosine there is one at the end.
    """

    width: int
    rows: int
    rates: tuple[float, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    tokens: int = 2**18
    cosine: bool = False
    points: int = 4

    @property
    def batch(self) -> int:
        """Letters in a batch."""
        return self.rows * CONTEXT

    def steps(self) -> list[int]:
        """Steps after which the loss is measured."""
        last = self.tokens // self.batch
        if self.cosine:
            return [last]
        octaves = math.log2(self.tokens / FIRST)
        at = FIRST * 2.0 ** (np.arange(round(octaves * self.points) + 1) / self.points)
        return sorted({min(last, max(1, round(t / self.batch))) for t in at})


@dataclass(frozen=True, slots=True)
class Curves:
    """What a cell came to.

    Attributes:
        tokens: Letters read at each measurement, shape ``(p,)``.
        losses: Held-out loss in nats per letter, shape ``(rates, seeds, p)``; infinite once training has diverged.
        parameters: Weights of a model.
    """

    tokens: Floats
    losses: Floats
    parameters: int

    def at(self, tokens: float) -> Floats:
        """Losses after so many letters, interpolated in their logarithm, shape ``(rates, seeds)``."""
        x = np.log(self.tokens)
        where = math.log(tokens)
        flat = self.losses.reshape(-1, len(x))
        return np.array([np.interp(where, x, row) for row in flat]).reshape(self.losses.shape[:2])

    def reach(self, target: float) -> Floats:
        """Letters read until each run met a target loss, shape ``(rates, seeds)``; infinite where it never did."""
        x = np.log(self.tokens)
        out = np.full(self.losses.shape[:2], np.inf)
        for i in np.ndindex(out.shape):
            met = np.flatnonzero(self.losses[i] <= target)
            if not len(met):
                continue
            k = int(met[0])
            if k == 0:
                out[i] = self.tokens[0]
                continue
            before, after = self.losses[i][k - 1], self.losses[i][k]
            share = (before - target) / (before - after) if math.isfinite(before) else 1.0
            out[i] = math.exp(x[k - 1] + share * (x[k] - x[k - 1]))
        return out


def grid(width: int, quick: bool = False) -> dict[int, Cell]:
    """The cells of one model over batch sizes, by rows: rates around a centre that grows as the root of the batch.

    Batches of one and two rows are trained on half the letters, as they take fewest to a target.

    Args:
        width: Of the model.
        quick: Fewer and shorter trainings.
    """
    out = {}
    for rows in (2, 4, 8, 16) if quick else (1, 2, 4, 8, 16, 32):
        rates = tuple(2.0 ** (0.5 * math.log2(rows / 8) - 5.25 + k) for k in range(-2, 3))
        tokens = 2**15 if quick else 2**17 if rows < 4 else 2**18
        out[rows] = Cell(width, rows, rates, (0,) if quick else (0, 1, 2, 3, 4), tokens)
    return out


@functools.lru_cache(maxsize=256)
def curves(cell: Cell) -> Curves:
    """Trains a cell, or recalls it."""
    if len(cell.seeds) > _TOGETHER:
        groups = [cell.seeds[i : i + _TOGETHER] for i in range(0, len(cell.seeds), _TOGETHER)]
        parts = [curves(replace(cell, seeds=g)) for g in groups]
        return Curves(parts[0].tokens, np.concatenate([p.losses for p in parts], axis=1), parts[0].parameters)
    path = _place(cell)
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            return Curves(kept["tokens"], kept["losses"], int(kept["parameters"]))
    found = _train(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.npz")
    np.savez(part, tokens=found.tokens, losses=found.losses, parameters=found.parameters)
    part.replace(path)
    return found


def _place(cell: Cell) -> Path:
    """Where a cell's results are kept."""
    text = json.dumps([_VERSION, asdict(cell)], sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:24]
    return Path(tempfile.gettempdir()) / "tunewright-micro-lm" / f"{name}.npz"


@functools.lru_cache(maxsize=8)
def pieces(tokens: int, text: int) -> NDArray[np.int64]:
    """A text in pieces of the context and one letter, shape ``(n, context + 1)``."""
    from tunewright.bench.language import Language

    count = tokens // CONTEXT
    letters = Language().text(count * (CONTEXT + 1), seed=text)
    return letters.reshape(count, CONTEXT + 1)


def _model(width: int) -> Any:
    """A transformer of one block."""
    from tunewright.bench.micro import CharTransformer

    return CharTransformer(width=width, depth=1, context=CONTEXT)


def _begin(cell: Cell) -> tuple[Any, dict[str, Any], Any]:
    """The bare model, its shapes, first weights of all runs in a row each, and what each weight's rate is multiplied by."""
    import torch

    from tunewright import scaling

    plan = scaling.plan(
        "mup", _model(cell.width), _model(BASE), delta=_model(2 * BASE), optimizer="adam", form="folded"
    )
    rows = []
    for seed in cell.seeds:
        model = _model(cell.width)
        plan.init_(model, seed)
        rows.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    bare = _model(cell.width)
    shapes = {n: p.shape for n, p in bare.named_parameters()}
    times = plan.rates(1.0)
    factors = torch.cat([torch.full((s.numel(),), float(times[n])) for n, s in shapes.items()])
    return bare, shapes, (torch.stack(rows).repeat(len(cell.rates), 1), factors)


def _train(cell: Cell) -> Curves:
    """All runs of a cell side by side: row ``i * seeds + j`` of every tensor has rate i and seed j."""
    import torch

    from tunewright.bench.micro import next_letter_loss

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        bare, shapes, (weights, factors) = _begin(cell)
        sizes = [s.numel() for s in shapes.values()]

        def named(flat: Any) -> dict[str, Any]:
            parts = torch.split(flat, sizes, dim=1)
            return {n: v.reshape(-1, *s) for (n, s), v in zip(shapes.items(), parts, strict=True)}

        def loss(values: dict[str, Any], x: Any, y: Any) -> Any:
            return next_letter_loss(torch.func.functional_call(bare, values, (x,)), y)

        slope = torch.func.vmap(torch.func.grad(loss), in_dims=(0, 0, 0))
        measure = torch.func.vmap(loss, in_dims=(0, None, None))
        held = torch.from_numpy(pieces(_HELD_OUT * CONTEXT, 1))
        # The fused attention would be run for one model after another
        with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            found = _loop(
                cell, weights, factors, named, slope, lambda v: measure(named(v), held[:, :-1], held[:, 1:])
            )
    finally:
        torch.set_num_threads(threads)
    losses = np.nan_to_num(np.array(found, dtype=np.float64), nan=np.inf)
    shape = (len(losses), len(cell.rates), len(cell.seeds))
    tokens = np.array(cell.steps(), dtype=np.float64) * cell.batch
    return Curves(tokens, np.moveaxis(losses.reshape(shape), 0, -1), sum(sizes))


def _loop(cell: Cell, weights: Any, factors: Any, named: Any, slope: Any, measure: Any) -> list[Any]:
    """Adam on all runs; the losses of each at the steps that are measured."""
    import torch

    read = pieces(cell.tokens, 0)
    order = np.stack([np.random.default_rng([s, 11]).permutation(len(read)) for s in cell.seeds])
    text = torch.from_numpy(read)
    rate = torch.tensor(cell.rates).repeat_interleave(len(cell.seeds))[:, None] * factors
    beta, second = 0.9, min(0.999, max(0.95, 1.0 - cell.batch / _MEMORY))
    mean, square, average = torch.zeros_like(weights), torch.zeros_like(weights), weights.clone()
    warmup = cell.tokens / 16 if cell.cosine else _WARMUP
    marks, found = set(cell.steps()), []
    last = max(marks)
    for t in range(1, last + 1):
        rows = torch.from_numpy(order[:, (t - 1) * cell.rows : t * cell.rows])
        batch = text[rows].repeat(len(cell.rates), 1, 1)
        with torch.enable_grad():
            slopes = slope(named(weights), batch[..., :-1], batch[..., 1:])
        g = torch.cat([v.reshape(len(weights), -1) for v in slopes.values()], dim=1)
        mean.lerp_(g, 1 - beta)
        square.mul_(second).addcmul_(g, g, value=1 - second)
        step = mean / ((square / (1 - second**t)).sqrt_().add_(1e-10))
        scale = min(1.0, t * cell.batch / warmup)
        if cell.cosine:
            scale *= 0.55 + 0.45 * math.cos(math.pi * t / last)
        weights.addcmul_(step, rate, value=-scale / (1 - beta**t))
        average.lerp_(weights, 1.0 if cell.cosine else min(1.0, 9.0 / (t + 8)))
        if t in marks:
            found.append(measure(average).numpy())
    return found


def lowest(x: Floats, y: Floats) -> tuple[float, float]:
    """Place and value of the minimum of a parabola through the best finite point and its two neighbours.

    The best point itself where it has none on a side.

    Args:
        x: Increasing, shape ``(k,)``.
        y: Shape ``(k,)``; infinite where nothing was measured.
    """
    kept = np.isfinite(y)
    if not kept.any():
        return math.nan, math.inf
    x, y = x[kept], y[kept]
    best = int(np.argmin(y))
    if best in (0, len(x) - 1):
        return float(x[best]), float(y[best])
    near = slice(best - 1, best + 2)
    bend, slope, level = np.polyfit(x[near] - x[best], y[near], 2)
    if not bend > 0:
        return float(x[best]), float(y[best])
    return float(x[best] - slope / (2 * bend)), float(level - slope**2 / (4 * bend))


def best_rate(cell: Cell, tokens: float, chosen: Any = slice(None)) -> tuple[float, float]:
    """Best rate of a cell after so many letters, and the mean loss there.

    Args:
        cell: The trainings.
        tokens: Letters read.
        chosen: Seeds, as positions, with repetitions in a resample.
    """
    losses = curves(cell).at(tokens)[:, chosen].mean(axis=1)
    where, loss = lowest(np.log(cell.rates), losses)
    return math.exp(where), loss


def steps_to(cells: dict[int, Cell], target: float) -> Floats:
    """Steps to a target loss at the best rate of each batch size, shape ``(seeds, batch sizes)``; infinite where it was missed."""
    out = []
    for rows in sorted(cells):
        cell = cells[rows]
        read = curves(cell).reach(target)
        x = np.log(cell.rates)
        out.append([math.exp(lowest(x, np.log(read[:, s]))[1]) / cell.batch for s in range(read.shape[1])])
    return np.array(out).T
