"""What every chart reads of a study, and the words that they share."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tunewright.analysis.marks import GROUPS, cell, number
from tunewright.core.domains import Choice
from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.core.trial import FAILURES, Trial
from tunewright.errors import ConfigError

Floats = NDArray[np.float64]
MOST = 2000  # marks per chart; beyond that a page gets heavy and a chart no clearer
SHOWN = 200
BRIEF = 500  # from so many marks on, tooltips leave parameters out


class Charted(Protocol):
    """What charts read of a study."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def method(self) -> str:
        """Its method."""
        ...

    @property
    def problem(self) -> Problem:
        """The problem."""
        ...

    @property
    def trials(self) -> Sequence[Trial]:
        """All trials."""
        ...

    @property
    def session(self) -> Any:
        """Its handle on the log."""
        ...

    def history(self) -> History:
        """The trials as arrays."""
        ...


def tip(trial: Trial, value: float | None, *, brief: bool = False) -> str:
    """What a tooltip says about a trial; ``brief`` leaves its parameters out."""
    head = f"trial {trial.number}" + (f": {number(value)}" if value is not None else f", {trial.status}")
    if brief:
        return head
    return "\n".join([head, *(f"{k} = {cell(v)}" for k, v in list(trial.config.items())[:20])])


class Groups:
    """Colours by the first choice that has branches, else one colour for all."""

    def __init__(self, study: Charted) -> None:
        space = study.problem.space
        branched = [
            n
            for n, d in space.domains.items()
            if isinstance(d, Choice) and any(b is not None for b in d.branches) and len(d.options) <= GROUPS
        ]
        self._name = branched[0] if branched else None
        options = space.domains[self._name].options if self._name is not None else ()  # type: ignore[union-attr]
        self._options = [str(o) for o in options]

    def style(self, trial: Trial) -> str:
        """The style of a trial."""
        value = str(trial.config.get(self._name)) if self._name is not None else ""
        return f"s{self._options.index(value)}" if value in self._options else "s0"

    def legend(self) -> tuple[tuple[str, str], ...]:
        """What the colours mean."""
        return tuple((f"s{i}", f"{self._name} = {o}") for i, o in enumerate(self._options))


def objective_of(study: Charted, position: int = 0) -> tuple[str, float, str]:
    """Name, sign and label of an objective."""
    objective = study.problem.objectives[position]
    unit = f" ({objective.unit})" if objective.unit else ""
    return objective.name, objective.sign, f"{objective.name}{unit}, {objective.goal}d"


def measured(study: Charted, position: int = 0) -> list[tuple[Trial, float]]:
    """Trials with a value of an objective, in the user's sign, failed ones left out."""
    name, _, _ = objective_of(study, position)
    found = [(t, t.metrics.get(name)) for t in study.trials if t.status not in FAILURES]
    return [(t, float(v)) for t, v in found if v is not None and np.isfinite(v)]


def need(found: Sized, least: int, what: str) -> None:
    """Says that a chart needs more.

    Raises:
        ConfigError: If fewer than ``least`` were found.
    """
    if len(found) < least:
        raise ConfigError(
            f"A chart of {what} needs {'a trial' if least == 1 else f'at least {least} trials'} with a result; "
            f"got {len(found)}. Run more."
        )


def thin(n: int, most: int = MOST) -> NDArray[np.int64]:
    """At most ``most`` positions out of ``n``, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


def turns(values: Floats) -> NDArray[np.int64]:
    """Where a sequence takes another value than before, with its first and last place; NaN counts as a value."""
    same = (values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))
    return np.unique(np.r_[0, np.flatnonzero(~same) + 1, len(values) - 1])


def stairs(x: Floats, y: Floats) -> Floats:
    """A line that stays at each value until the next one, shape ``(2 n - 1, 2)``."""
    return np.column_stack([np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]])


def fully_trained(study: Charted, found: Sequence[tuple[Trial, float]]) -> NDArray[np.bool_]:
    """Which trials were trained as long as any; shape ``(n,)``."""
    if study.problem.fidelity is None:
        return np.array([t.status == "completed" for t, _ in found], dtype=np.bool_)
    most = max(t.step for t, _ in found)
    return np.array([t.step >= most for t, _ in found], dtype=np.bool_)
