"""Every combination of values: the full factorial grid of a space, conditions respected."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tunewright.core.columns import Entry, grid_values
from tunewright.core.domains import Bool, Choice, Codes, Float, Int, Order
from tunewright.errors import SpaceError


def _values(entry: Entry, resolution: int, limit: int) -> Codes:
    """Codes of the values of one parameter, shape ``(values, columns)``."""
    domain = entry.domain
    if isinstance(domain, Float | Int | Choice | Order | Bool):
        return grid_values(domain, resolution)[:, None]
    if domain.count > limit:
        raise _too_many(limit, f"{domain.count:.3g}")
    return domain.every()


def _too_many(limit: int, got: object) -> SpaceError:
    return SpaceError(
        f"A grid takes at most {limit} points; got {got} or more. Use fewer values or another method."
    )


def lattice(entries: Iterable[Entry], d: int, resolution: int, limit: int) -> Codes:
    """Rows of codes, shape ``(n, d)``, NaN where inactive.

    Args:
        entries: The parameters, parents before children.
        d: Number of columns.
        resolution: Values of parameters that models see as continuous.
        limit: Most rows.

    Raises:
        SpaceError: If there would be more than ``limit``.
    """
    rows = np.full((1, d), np.nan)
    for entry in entries:
        on = np.ones(len(rows), dtype=np.bool_)
        for gate in entry.gates:
            on &= ~np.isnan(rows[:, gate.column]) & gate.open(rows[:, gate.column])
        values = _values(entry, resolution, limit)
        total = int((~on).sum() + on.sum() * len(values))
        if total > limit:
            raise _too_many(limit, total)
        repeats = np.where(on, len(values), 1)
        starts = np.repeat(np.cumsum(repeats) - repeats, repeats)
        which = np.arange(total) - starts
        lit = np.repeat(on, repeats)
        rows = np.repeat(rows, repeats, axis=0)
        rows[lit, entry.where] = values[which[lit]]
    return rows
