"""Whether early results mislead: how the order of trials at one level of training agrees with that at a later one.

Learning curves that cross are what early stopping cannot stand. Every trial that reached two levels says something about
them; where the early order is against the late one, the trials that were stopped for being worse may have been better.
Trials that went on were chosen for being good, so that their order agrees less than that of all trials would:
a correlation near 0 is no alarm, one that is surely negative is.

*Cost*: O(n^2) for n trials that reached both of two levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_eta, levels, steps_of
from tunewright.core.trial import Trial
from tunewright.numerics.concordance import interval, kendall
from tunewright.numerics.ranking import best_first

Result = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the order of trials at one level agrees with that at a later one.

    Attributes:
        early: Steps of the earlier level.
        late: Steps of the later level.
        n: Trials that were measured at both.
        tau: Kendall's rank correlation.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    early: int
    late: int
    n: int
    tau: float
    low: float
    high: float

    @property
    def misleads(self) -> bool:
        """Whether the early order is surely against the late one."""
        return self.high < 0.0


def agreements(trials: Iterable[Trial], problem: Problem, eta: float = 3.0) -> list[Agreement]:
    """Compares each level of training with the next, and with the full training.

    Args:
        trials: Trials of a study, whatever became of them.
        problem: Says what a loss is; several objectives are compared by front and crowding distance.
        eta: Each level is this many times the one before; the last is the full training.

    Returns:
        In order of the earlier level, then of the later one; pairs of levels that fewer than two trials reached are
        left out.

    Raises:
        UnsupportedError: If trials have no steps.
        ConfigError: If ``eta`` is not above 1.
    """
    checked_eta("Agreement", eta)
    fidelity = steps_of("Agreement", problem)
    steps = levels(fidelity.low, fidelity.high, eta)
    seen = [_measured(t, problem, steps) for t in trials]
    last = len(steps) - 1
    out = []
    for i in range(last):
        for j in dict.fromkeys((i + 1, last)):
            both = [s for s in seen if i in s and j in s and s[i][0] < s[j][0]]
            if len(both) >= 2:
                tau = kendall(_places([s[i][1] for s in both]), _places([s[j][1] for s in both]))
                out.append(Agreement(steps[i], steps[j], len(both), tau, *interval(tau, len(both))))
    return out


def _measured(trial: Trial, problem: Problem, steps: Sequence[int]) -> dict[int, tuple[int, Result]]:
    """Step and ``(violation, losses)`` of the first result at or after each level, by index of the level."""
    rows = [(r.step, r.metrics) for r in trial.reports]
    if trial.status == "completed":
        rows.append((steps[-1], trial.metrics))
    out: dict[int, tuple[int, Result]] = {}
    for step, metrics in rows:
        losses = problem.losses(metrics)
        if losses is not None:
            for i, level in enumerate(steps):
                if step >= level and (i not in out or i == len(steps) - 1):
                    out[i] = (step, (problem.violation(metrics), *losses))
    return out


def _places(results: list[Result]) -> NDArray[np.float64]:
    """Place of each result, equal ones sharing theirs for one objective, shape ``(n,)``."""
    table = np.array(results, dtype=np.float64)
    if table.shape[1] == 2:
        return np.unique(table, axis=0, return_inverse=True)[1].ravel().astype(np.float64)
    places = np.empty(len(table))
    places[best_first(table[:, 1:], table[:, 0])] = np.arange(len(table))
    return places


def warning(found: Sequence[Agreement]) -> str | None:
    """What to say about early results that mislead, naming the last level that does; None if none surely does.

    Args:
        found: What ``agreements`` found.
    """
    bad = [a for a in found if a.misleads]
    if not bad:
        return None
    worst = max(bad, key=lambda a: (a.early, a.late))
    return (
        f"Early results mislead here: after {worst.early} steps, {worst.n} trials are in an order against that after "
        f"{worst.late} (rank correlation {worst.tau:.2f}, 95 % interval {worst.low:.2f} to {worst.high:.2f}). "
        f"Use method='guarded' or 'hyperband', or compare later: steps=(fewest, most) sets the first level."
    )
