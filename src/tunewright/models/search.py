"""The best rows of a space by any score, without gradients: draws, changes of good rows, and changes of the winners.

*Use when* an acquisition is not that of one Gaussian process (an ensemble, a network, a sum of several). *Do not use
when* it is: ``acquisition.maximize_acquisition`` climbs by gradient.

*Paper*: Hutter, Hoos and Leyton-Brown 2011 (SMAC), section 4.3: random draws and local search from the best trials.

*Cost*: ``candidates + local + 60 rounds`` evaluations of the score, in batches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tunewright.core.space import Space
from tunewright.models.acquisition import mutations

FloatArray = NDArray[np.float64]
Score = Callable[[FloatArray], FloatArray]

_LEADERS = 5
_CHILDREN = 60


def best_rows(
    score: Score,
    space: Space,
    incumbents: FloatArray,
    rng: np.random.Generator,
    *,
    candidates: int = 400,
    local: int = 200,
    rounds: int = 2,
) -> tuple[FloatArray, FloatArray]:
    """Rows by falling score.

    Args:
        score: From legal rows ``(q, d)`` to one number each, ``(q,)``; larger is better.
        space: Draws, snaps and repairs.
        incumbents: Good rows to search around, shape ``(k, d)``; may be empty.
        rng: Source of randomness.
        candidates: Draws from the prior.
        local: Changes of the incumbents.
        rounds: How often the leaders are changed again.

    Returns:
        Rows ``(q, d)`` and their scores ``(q,)``, best first.
    """
    levels, categorical = space.layout.levels, space.layout.categorical
    rows = space.sample(rng, candidates)
    if len(incumbents) and local:
        beside = space.repair(mutations(incumbents, local, levels, categorical, rng), rng)
        rows = np.concatenate([rows, space.repair(incumbents, rng), beside])
    values = score(rows)
    for _ in range(rounds):
        leaders = rows[np.argsort(-values, kind="stable")[:_LEADERS]]
        fresh = space.repair(mutations(leaders, _CHILDREN, levels, categorical, rng), rng)
        rows, values = np.concatenate([rows, fresh]), np.concatenate([values, score(fresh)])
    order = np.argsort(-values, kind="stable")
    return rows[order], values[order]
