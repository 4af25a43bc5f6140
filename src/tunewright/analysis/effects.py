"""What the objective does on average as one parameter changes: marginal effects with bootstrap bands.

Use when      some tens of trials are done, to see where along a parameter the good values lie.
Do not use    as a claim about cause where the sampler tried one corner only; the band is blind outside the trials.
Paper         kernel regression, Nadaraya 1964 and Watson 1964; the bandwidth is Silverman's 1986 rule.
Differs       works on codes, so logarithmic parameters are smoothed in logarithm; categories get plain means; beyond 400
              trials the band is what the bootstrap tends to (Haerdle 1990, section 4.2: the variance of a weighted mean).
Cost          O(d n grid), times the bootstraps for small studies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.analysis.shares import HasHistory, history_of, labels
from tunewright.core.history import History
from tunewright.errors import ConfigError

Floats = NDArray[np.float64]
LEAST = 6
_GRID, _BOOTSTRAPS, _MANY = 40, 200, 400


@dataclass(frozen=True, slots=True)
class Effect:
    """Average objective along one parameter, all else as the search had it.

    Attributes:
        name: The parameter.
        column: Its column in the space.
        codes: Where, as codes in [0, 1], shape ``(g,)``.
        mean: Average loss (minimised) there, shape ``(g,)``.
        low: Lower end of the 90 % band, shape ``(g,)``.
        high: Upper end, shape ``(g,)``.
        n: Trials that it rests on.
    """

    name: str
    column: int
    codes: Floats
    mean: Floats
    low: Floats
    high: Floats
    n: int


def comparable(history: History) -> NDArray[np.bool_]:
    """Trials whose losses may be compared: those trained longest when there are enough, else all usable; ``(n,)``."""
    usable: NDArray[np.bool_] = history.usable & ~np.all(np.isnan(history.codes), axis=1)
    if not usable.any():
        return usable
    longest: NDArray[np.bool_] = usable & (history.steps == history.steps[usable].max())
    return longest if longest.sum() >= 2 * LEAST else usable


def effects(study_or_history: HasHistory | History, seed: int = 0) -> list[Effect]:
    """The effect of every parameter that enough trials vary, in the order of the space.

    Args:
        study_or_history: A study, or its history; the first objective counts.
        seed: For the bootstrap.

    Raises:
        ConfigError: If fewer than 6 trials have a result.
    """
    history = history_of(study_or_history)
    rows = comparable(history)
    if rows.sum() < LEAST:
        raise ConfigError(
            f"Effects need at least {LEAST} trials with a result; got {rows.sum()}. Run more trials."
        )
    found = []
    space = history.problem.space
    for j, name in enumerate(labels(space)):
        codes = history.codes[rows, j]
        active = ~np.isnan(codes)
        if active.sum() < LEAST or np.ptp(codes[active]) == 0:
            continue
        x, y = codes[active], history.loss[rows][active]
        domain = space.columns[j].domain
        where, mass = _levels(x, domain.levels) if 0 < domain.levels <= 12 else _smooth(x)
        mean, low, high = _band(mass, y, np.random.default_rng([seed, j]))
        found.append(Effect(name, j, where, mean, low, high, len(x)))
    return found


def _band(mass: Floats, y: Floats, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Weighted means at every place, and their 90 % intervals, each of shape ``(g,)``."""
    n = len(y)
    if n > _MANY:
        whole = mass.sum(axis=1)
        mean = (mass @ y) / whole
        # sum of w^2 (y - mean)^2, multiplied out so that no array of every trial at every place is made thrice.
        square = mass**2
        spread = square @ y**2 - 2.0 * mean * (square @ y) + mean**2 * square.sum(axis=1)
        half = 1.645 * np.sqrt(np.maximum(spread, 0.0)) / whole
        return mean, mean - half, mean + half
    weights = rng.multinomial(n, np.full(n, 1 / n), _BOOTSTRAPS)
    drawn = _means(mass, y, np.vstack([np.ones(n), weights]))
    low, high = np.nanquantile(drawn, [0.05, 0.95], axis=0)
    return drawn[0], low, high


def _levels(x: Floats, levels: int) -> tuple[Floats, Floats]:
    """The levels that occur, and which trial has which, shape ``(g, n)``."""
    level = np.minimum((x * levels).astype(np.int64), levels - 1)
    present = np.unique(level)
    return (present + 0.5) / levels, (level == present[:, None]).astype(np.float64)


def _smooth(x: Floats) -> tuple[Floats, Floats]:
    """A grid over the range that was tried, and the kernel weight of every trial at it, shape ``(g, n)``."""
    where = np.linspace(x.min(), x.max(), _GRID)
    spread = float(np.std(x))
    width = max(1.06 * spread * len(x) ** -0.2, 0.02)
    return where, np.exp(-0.5 * ((where[:, None] - x) / width) ** 2)


def _means(mass: Floats, y: Floats, weights: Floats) -> Floats:
    """Weighted means at every place under every weighting, shape ``(b, g)``; where nothing was drawn, the plain one."""
    plain = (mass @ y) / mass.sum(axis=1)
    below = weights @ mass.T
    out: Floats = np.where(below > 1e-9, (weights * y) @ mass.T / np.where(below > 1e-9, below, 1.0), plain)
    return out
