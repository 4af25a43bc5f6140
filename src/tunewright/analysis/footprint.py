"""Where in the space the trials lie: a map of configurations, and how much of the space they come near.

*Use when* the question is whether a search explored or settled, and what it left out. *Do not use when* single distances on the
map matter: a plane cannot keep all distances of a space of many parameters; ``kept`` says how many it keeps.

*Paper*: Sass, Bergman, Biedenkapp, Hutter and Lindauer 2022, "DeepCAVE", arXiv:2206.03493, section 4.2 (configuration
footprint), after Xu, Hoos and Leyton-Brown 2016; Torgerson 1952 (Psychometrika 17) for classical scaling; Gower 1971
(Biometrics 27) for distances between rows of mixed kinds.

*Differs*: classical scaling instead of an iterated one, so that the map is the same every time; a parameter that only one of two
configurations uses counts as fully different. A configuration is covered if a trial is as near to it as 90 % of random
configurations have one of as many random others.

*Cost*: O(n^2 d) for at most 400 trials and 150 random configurations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.core.space import Space

Floats = NDArray[np.float64]
_TRIALS, _SPACE = 400, 150


@dataclass(frozen=True, slots=True)
class Footprint:
    """The map.

    Attributes:
        rows: Which of the configurations given are shown, shape ``(n,)``.
        trials: Their places, shape ``(n, 2)``.
        space: Places of random configurations, shape ``(150, 2)``.
        covered: Share of the random configurations that are covered.
        kept: Share of the variation of distances that the map keeps.
    """

    rows: NDArray[np.int64]
    trials: Floats
    space: Floats
    covered: float
    kept: float


def distances(space: Space, a: Floats, b: Floats) -> Floats:
    """Mean difference over parameters between rows of codes, in [0, 1], shape ``(len(a), len(b))``."""
    total = np.zeros((len(a), len(b)))
    counted = np.zeros((len(a), len(b)))
    for j, column in enumerate(space.columns):
        x, y = a[:, j, None], b[None, :, j]
        here, there = ~np.isnan(x), ~np.isnan(y)
        away = np.abs(np.nan_to_num(x) - np.nan_to_num(y))
        if column.domain.categorical:
            away = (away > 1e-9).astype(np.float64)
        total += np.where(here & there, away, (here ^ there).astype(np.float64))
        counted += here | there
    out: Floats = total / np.maximum(counted, 1.0)
    return out


def footprint(space: Space, codes: Floats, seed: int = 0) -> Footprint:
    """Maps configurations together with random ones of the space.

    Args:
        space: The space.
        codes: Configurations, shape ``(n, d)``.
        seed: For the random ones.
    """
    rng = np.random.default_rng([seed, 67])
    rows = np.unique(np.linspace(0, len(codes) - 1, min(len(codes), _TRIALS)).astype(np.int64))
    tried, drawn = codes[rows], space.sample(rng, _SPACE)
    every = np.vstack([tried, drawn])
    apart = distances(space, every, every)
    places, kept = _scaled(apart)
    usual = distances(space, drawn, space.sample(rng, len(rows))).min(axis=1)
    nearest = apart[len(rows) :, : len(rows)].min(axis=1)
    # A hair of room, for spaces of few configurations, where random ones meet again.
    covered = float(np.mean(nearest <= np.quantile(usual, 0.9) + 1e-12))
    return Footprint(rows, places[: len(rows)], places[len(rows) :], covered, kept)


def _scaled(apart: Floats) -> tuple[Floats, float]:
    """Classical scaling: places, shape ``(n, 2)``, and the share of the variation that they keep."""
    square = apart**2
    centred = -0.5 * (square - square.mean(axis=0) - square.mean(axis=1)[:, None] + square.mean())
    values, vectors = np.linalg.eigh(centred)
    top = np.maximum(values[[-1, -2]], 0.0)
    directions = vectors[:, [-1, -2]]
    # The sign of a direction is free; fixed by its largest entry, so that the map is the same every time.
    largest = directions[np.argmax(np.abs(directions), axis=0), [0, 1]]
    places: Floats = directions * np.sqrt(top) * np.where(largest < 0, -1.0, 1.0)
    whole = float(np.maximum(values, 0.0).sum())
    return places, float(top.sum() / whole) if whole > 0 else 1.0
