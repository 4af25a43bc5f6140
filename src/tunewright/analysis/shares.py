"""What every measure of importance gives and needs: shares with intervals, names of parameters, trials in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunewright.core.domains import Codes
from tunewright.core.history import COMPLETED, History
from tunewright.core.space import Space

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Importance:
    """Importance of one parameter.

    Attributes:
        name: The parameter; with its path where the same name occurs in several branches.
        value: Share of all importance, in [0, 1].
        low: Lower end of the 90 % interval.
        high: Upper end.
    """

    name: str
    value: float
    low: float
    high: float


class HasHistory(Protocol):
    """A study."""

    def history(self) -> History:
        """Its trials as arrays."""
        ...


def labels(space: Space) -> list[str]:
    """Name of every column, with its path where names repeat; length ``d``."""
    names = list(space.names)
    return [c.path if names.count(c.name) > 1 else c.name for c in space.columns]


def parameters(space: Space) -> list[str]:
    """Name of every parameter, with its path where names repeat."""
    names = [e.name for e in space.entries]
    return [e.path if names.count(e.name) > 1 else e.name for e in space.entries]


def ranking(history: History) -> tuple[NDArray[np.int64], Codes]:
    """Usable trials from best to worst, and their codes, shape ``(n, d)``.

    Trials that were given more steps come first: whatever stopped the others had found them worse.
    """
    usable = history.usable & ~np.all(np.isnan(history.codes), axis=1)
    rows = np.flatnonzero(usable)
    steps = history.steps[rows].astype(np.float64)
    steps[history.status[rows] == COMPLETED] = np.inf
    order = np.lexsort((history.loss[rows], -steps, history.violation[rows]))
    return rows[order], history.codes[rows[order]]


def history_of(study_or_history: HasHistory | History) -> History:
    """The history of a study, or the history given."""
    return study_or_history if isinstance(study_or_history, History) else study_or_history.history()
