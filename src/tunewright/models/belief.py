"""What the user believes: the log density of the guesses given with a space.

*Paper*: Hvarfner et al. 2022 (piBO, arXiv:2204.11051), eq. 6, weighs an acquisition by such a density.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tunewright.core.space import Space

FloatArray = NDArray[np.float64]
LogPrior = Callable[[FloatArray], FloatArray]

_WIDTH = 0.1


def log_belief(space: Space) -> LogPrior | None:
    """Log density of the guesses given with the space, relative to uniform; None when there are none."""
    believed = [(j, c.domain) for j, c in enumerate(space.columns) if c.domain.guess is not None]
    if not believed:
        return None
    terms = []
    for j, domain in believed:
        encode, _ = domain.coder()
        terms.append((j, float(encode(domain.guess)), domain.confidence, domain.categorical, domain.levels))

    def density(x: FloatArray) -> FloatArray:
        total = np.zeros(len(x))
        for j, centre, confidence, categorical, k in terms:
            away = x[:, j] - centre
            if categorical:
                near = k * (np.abs(away) < 0.5 / k).astype(np.float64)
            else:
                near = np.exp(-0.5 * (away / _WIDTH) ** 2) / (_WIDTH * (2.0 * np.pi) ** 0.5)
            total += np.where(np.isnan(away), 0.0, np.log(1.0 - confidence + confidence * near + 1e-300))
        return total

    return density
