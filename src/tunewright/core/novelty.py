"""No configuration twice: what is left to propose in a space with finitely many configurations."""

from __future__ import annotations

import numpy as np

from tunewright.core.domains import Codes
from tunewright.core.space import Space

_DRAWS = 64
_LISTED = 100_000
_SAME = 1e-9


def is_finite(space: Space) -> bool:
    """Whether a space has finitely many configurations."""
    return space.d > 0 and all(c.domain.count for c in space.columns)


def _known(taken: Codes, row: Codes) -> bool:
    if not len(taken):
        return False
    gap = np.abs(np.nan_to_num(taken, nan=-1.0) - np.nan_to_num(row, nan=-1.0))
    return bool(np.any(gap.max(axis=1) < _SAME))


def first_new(space: Space, taken: Codes, rows: Codes, rng: np.random.Generator) -> Codes | None:
    """The first of ``rows`` that was not tried yet, else a draw from the prior that was not, else any that is left.

    In a space with a continuous parameter that is simply the first row: chance never meets a point twice.

    Args:
        space: The space.
        taken: Codes of every configuration begun or proposed, shape ``(n, d)``.
        rows: Legal candidates, the most wanted first, shape ``(q, d)``; q may be 0.
        rng: Source of randomness.

    Returns:
        Codes, shape ``(d,)``; None when every configuration was tried, which ends the search.
    """
    luck = np.empty((0, space.d)) if len(rows) and not is_finite(space) else space.sample(rng, _DRAWS)
    ordered = np.concatenate((rows, luck))
    if not is_finite(space):
        first: Codes = ordered[0]
        return first
    for row in ordered:
        if not _known(taken, row):
            found: Codes = row
            return found
    return _any_left(space, taken, rng)


def _any_left(space: Space, taken: Codes, rng: np.random.Generator) -> Codes | None:
    """A configuration that was not tried yet, from the list of all of them."""
    if space.size > _LISTED:
        # Too large to list, and luck fails only where nearly everything was tried.
        return None
    every = space.grid(_LISTED, _LISTED)
    tried = {_key(row) for row in taken}
    left = [i for i, row in enumerate(every) if _key(row) not in tried]
    if not left:
        return None
    row: Codes = every[left[int(rng.integers(len(left)))]]
    return row


def _key(row: Codes) -> bytes:
    return np.round(np.nan_to_num(row, nan=-1.0), 9).tobytes()
