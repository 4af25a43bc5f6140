"""Short trainings of letter models over widths and rates, and how far the best rate moves; shared by claims about transfer."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CONTEXT = 32
_LETTERS = 400_000


@functools.cache
def _text(seed: int) -> Any:
    from tunewright.bench.language import Language

    return Language().text(_LETTERS, seed=seed)


def batches(rows: int) -> Callable[[int], Iterator[tuple[Any, Any]]]:
    """Pieces of a generated text, by seed, without end."""
    import torch

    from tunewright.bench.language import windows

    def stream(seed: int) -> Iterator[tuple[Any, Any]]:
        rng = np.random.default_rng([seed, rows])
        while True:
            x, y = windows(_text(0), CONTEXT, rows, rng)
            yield torch.from_numpy(x), torch.from_numpy(y)

    return stream


def held_out(rows: int = 64) -> tuple[Any, Any]:
    """Pieces of another text of the language, always the same."""
    import torch

    from tunewright.bench.language import windows

    x, y = windows(_text(1), CONTEXT, rows, np.random.default_rng(9))
    return torch.from_numpy(x), torch.from_numpy(y)


def warmed(share: float) -> float:
    """A rise over the first tenth, then a line to zero."""
    return min(1.0, share / 0.1 + 0.02) * min(1.0, (1.0 - share) / 0.9)


def optimum(rates: Sequence[float], losses: Floats) -> float:
    """Binary logarithm of the best rate: the vertex of the parabola through the lowest mean loss and its neighbours.

    Args:
        rates: Evenly spaced in their logarithm, ascending.
        losses: Mean loss by rate, infinite where training broke down.
    """
    logs = np.log2(np.asarray(rates, dtype=float))
    i = int(np.argmin(losses))
    if not 0 < i < len(logs) - 1 or not np.all(np.isfinite(losses[i - 1 : i + 2])):
        return float(logs[i])
    left, here, right = losses[i - 1 : i + 2]
    bend = left - 2 * here + right
    return float(logs[i] + (0.5 * (left - right) / bend if bend > 0 else 0.0) * (logs[1] - logs[0]))


def at(rates: Sequence[float], losses: Floats, log_rate: float) -> float:
    """Loss at a rate between those that were tried, along the line through its neighbours; infinite outside of what trains."""
    logs = np.log2(np.asarray(rates, dtype=float))
    right = int(np.clip(np.searchsorted(logs, log_rate), 1, len(logs) - 1))
    share = float(np.clip((log_rate - logs[right - 1]) / (logs[right] - logs[right - 1]), 0, 1))
    pair = losses[right - 1 : right + 1]
    if not np.all(np.isfinite(pair)):
        return float(pair[0] if share == 0 else pair[1] if share == 1 else math.inf)
    return float((1 - share) * pair[0] + share * pair[1])


@dataclass(frozen=True, slots=True)
class Moved:
    """How the best rate of a setting moves from the narrowest width to the widest.

    Attributes:
        optima: Binary logarithm of the best rate by width, of the mean over seeds.
        by_seed: Movement of each seed's best rate on the grid, in octaves.
        loss: Lowest mean loss at the largest width.
        regret: What the rate that is best at the smallest width loses at the largest, over the best there.
    """

    optima: dict[int, float]
    by_seed: tuple[float, ...]
    loss: float
    regret: float

    @property
    def drift(self) -> float:
        """Octaves between the best rates of the widest and the narrowest."""
        return list(self.optima.values())[-1] - next(iter(self.optima.values()))


def moved(rates: Sequence[float], losses: dict[int, Floats]) -> Moved:
    """Reads sweeps.

    Args:
        rates: Of every sweep.
        losses: By width ascending, shape ``(rates, seeds)``.
    """
    mean = {w: f.mean(axis=1) for w, f in losses.items()}
    optima = {w: optimum(rates, m) for w, m in mean.items()}
    first, last = next(iter(losses)), list(losses)[-1]
    ends = [np.log2(np.asarray(rates))[np.argmin(losses[w], axis=0)] for w in (first, last)]
    best = float(mean[last].min())
    regret = at(rates, mean[last], optima[first]) - best
    return Moved(optima, tuple(float(d) for d in ends[1] - ends[0]), best, regret)
