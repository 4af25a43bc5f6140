"""A configuration as one decision after another: the tree that a space spans, with large sets of options halved.

*Use when* a method searches that tree. *Do not use when* a method models all parameters together.

*Paper*: Negrinho and Gordon 2017 (arXiv:1704.08792): search spaces as trees, one hyperparameter after another, and their
restructuring by bisection.

*Differs*: a number with too many values to list is divided into cells, evenly in its code; a value is drawn within the cell.

*Cost*: O(d) decisions per configuration; with bisection O(log options) each.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.core.columns import Entry
from tunewright.core.combinatorial import Permutation, Subset
from tunewright.core.domains import Coder, Scalar
from tunewright.core.entries import is_open
from tunewright.core.space import Space

FloatArray = NDArray[np.float64]
Walk = Generator[tuple[int, int], int, list[float]]

_MANY = 8
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Cells:
    """How the codes of one parameter are divided.

    Attributes:
        centres: A possible code in each cell, ascending, shape ``(k,)``.
        edges: Codes between neighbouring cells, shape ``(k - 1,)``.
        exact: Whether a cell is one value.
        ordered: Whether neighbouring cells are alike.
        coder: Rounds codes of whole numbers and steps; None for the others.
    """

    centres: FloatArray
    edges: FloatArray
    exact: bool
    ordered: bool
    coder: Coder | None

    def of(self, code: float) -> int:
        """The cell of a code."""
        return int(np.searchsorted(self.edges, code, side="right"))

    def moved(self, code: float, cell: int) -> float:
        """A code as far within another cell as ``code`` is within its own."""
        mine = self.of(code)
        if mine == cell:
            return code
        if self.exact:
            return float(self.centres[cell])
        ends = [0.0, *self.edges.tolist(), 1.0]
        share = (code - ends[mine]) / (ends[mine + 1] - ends[mine])
        there = ends[cell] + share * (ends[cell + 1] - ends[cell])
        if self.coder is not None:
            there = self.coder[0](self.coder[1](there))
        # At the very edge, or rounded across it.
        return there if self.of(there) == cell else float(self.centres[cell])


def cells_of(domain: Scalar, cells: int) -> Cells:
    """Divides a parameter: a level each, or so many cells of equal width in code where there are too many values.

    Whole numbers on a log scale get no cell in which there is none.
    """
    k = domain.levels or cells
    centres = (np.arange(k) + 0.5) / k
    exact = domain.levels > 0
    coder = None
    if not exact and domain.count:
        coder = encode, decode = domain.coder()
        centres = np.unique([encode(decode(u)) for u in centres.tolist()])
        exact = domain.count <= len(centres)
    return Cells(centres, 0.5 * (centres[1:] + centres[:-1]), exact, not domain.categorical, coder)


@dataclass(frozen=True, slots=True)
class Spot:
    """One parameter of the tree.

    Attributes:
        entry: The parameter.
        cells: Its cells; None for an order or a selection.
        halved: Whether its cells are found by bisection.
    """

    entry: Entry
    cells: Cells | None
    halved: bool


def spots_of(space: Space, cells: int, bisect: bool) -> tuple[Spot, ...]:
    """The parameters of a space in the order in which they are decided.

    Args:
        space: The space.
        cells: Cells of a number with too many values to list.
        bisect: Whether to halve ordered options, and those without an order when there are more than eight.
    """
    out = []
    for entry in space.entries:
        if isinstance(entry.domain, Permutation | Subset):
            out.append(Spot(entry, None, False))
        else:
            divided = cells_of(entry.domain, cells)
            out.append(Spot(entry, divided, bisect and (divided.ordered or len(divided.centres) > _MANY)))
    return tuple(out)


def decide(spots: Sequence[Spot], known: FloatArray) -> Walk:
    """Walks from the root to a configuration; yields every decision and is sent what was decided.

    Args:
        spots: The parameters.
        known: A row of codes, shape ``(d,)``, not NaN for any parameter that comes to be active.

    Yields:
        Number of options, at least 2, and the one that the known row takes.

    Returns:
        Codes of what was decided, NaN where inactive, length ``d``: those of the known row wherever it was followed.
    """
    row: list[float] = []
    for spot in spots:
        entry, cells = spot.entry, spot.cells
        if not is_open(row, entry.gates):
            row.extend([_NAN] * (entry.width or 1))
        elif cells is not None:
            code = float(known[entry.first])
            cell = yield from _decide_cell(len(cells.centres), cells.of(code), spot.halved)
            row.append(cells.moved(code, cell))
        elif isinstance(entry.domain, Subset):
            row.extend((yield from _decide_selection(entry.domain, known[entry.where])))
        else:
            row.extend((yield from _decide_order(known[entry.where])))
    return row


def _decide_cell(k: int, wanted: int, halved: bool) -> Generator[tuple[int, int], int, int]:
    """One of ``k`` cells, at once or half by half."""
    if not halved:
        return (yield k, wanted) if k > 1 else 0
    low, high = 0, k
    while high - low > 1:
        middle = (low + high) // 2
        if (yield 2, int(wanted >= middle)):
            low = middle
        else:
            high = middle
    return low


def _decide_order(codes: FloatArray) -> Walk:
    """An order, one place after another: which of the items that are left comes next."""
    left = np.argsort(codes, kind="stable").tolist()
    n = len(left)
    row = [0.0] * n
    items = sorted(left)
    for place in range(n):
        chosen = (yield len(items), items.index(left[0])) if len(items) > 1 else 0
        item = items.pop(chosen)
        left.remove(item)
        row[item] = (place + 0.5) / n
    return row


def _decide_selection(domain: Subset, codes: FloatArray) -> Walk:
    """A selection, one option after another, as far as its size leaves a choice."""
    least, most, n = domain.least, domain.largest, len(codes)
    row: list[float] = []
    inside = 0
    for i, code in enumerate(codes.tolist()):
        if inside == most:
            chosen = 0
        elif inside + n - i == least:
            chosen = 1
        else:
            chosen = yield 2, int(code >= 0.5)
        inside += chosen
        row.append(0.75 if chosen else 0.25)
    return row
