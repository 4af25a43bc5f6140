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
_DIFFERS = 0.1


def log_belief(space: Space) -> LogPrior | None:
    """Log density of the guesses given with the space, relative to uniform; None when there are none.

    The columns of an order or a selection are believed or not together.
    """
    terms = []
    for entry in space.entries:
        if entry.domain.guess is None or not entry.domain.confidence:
            continue
        columns = space.columns[entry.where]
        centres = np.array([c.domain.coder()[0](c.domain.guess) for c in columns])
        levels = space.columns[entry.first].domain.levels
        categorical = space.columns[entry.first].domain.categorical
        terms.append((entry.where, centres, entry.domain.confidence, categorical, levels))
    if not terms:
        return None

    def density(x: FloatArray) -> FloatArray:
        total = np.zeros(len(x))
        for where, centres, confidence, categorical, k in terms:
            away = x[:, where] - centres
            if categorical:
                near = k * (np.abs(away) < 0.5 / k).astype(np.float64)
                if len(centres) > 1:
                    # A selection near the guess differs from it in a few options.
                    near = 2.0 * np.where(near > 0.0, 1.0 - _DIFFERS, _DIFFERS)
            else:
                near = np.exp(-0.5 * (away / _WIDTH) ** 2) / (_WIDTH * (2.0 * np.pi) ** 0.5)
            joint = near.prod(axis=1)
            off = np.isnan(away[:, 0])
            total += np.where(off, 0.0, np.log(1.0 - confidence + confidence * joint + 1e-300))
        return total

    return density
