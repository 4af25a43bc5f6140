"""Stops a trial when a signed-rank test says that it is worse than the best trial on the instances done so far.

*Use when* a trial is an average over instances, such as folds, seeds, data sets or problems, and reports the loss of one
instance per step, in the same order in every trial. *Do not use when* steps are those of one training, whose losses
fall (``Median``, ``Asha``), the number of instances is to be chosen as well (``Racing``), or there are several objectives.

*Paper*: Wilcoxon 1945, "Individual comparisons by ranking methods", Biometrics Bulletin 1(6); as a pruner in Optuna 3.6;
its use for racing: Birattari et al. 2002, GECCO.

*Differs*: the trial to beat is the completed one with the lowest mean loss over the most instances, within the outcome
limits; both the test and the means are over the instances that the two share, and a trial whose mean there is
not worse is never stopped; equal pairs are dropped; an instance that diverged counts as worse than any finite loss. Tests
are repeated as instances come, so that a good trial is stopped wrongly about twice as often as ``level`` says.

*Cost*: ``ask`` that of the wrapped method; ``tell`` O(s log s) per report for s instances done.

Example:
    In the training function::

        total = 0.0
        for step in trial.steps():
            loss = solve(instances[step - 1], trial.params)
            total += loss
            trial.report(step, loss=loss)
        return total / len(instances)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from tunewright.core.algorithm import Action, Algorithm
from tunewright.core.events import Ended, Event, Reported, Started
from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_count, steps_of
from tunewright.core.verdicts import Verdicts
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.numerics.statistics import wilcoxon

_TABLED = 50
Losses = dict[int, float]


@dataclass(slots=True)
class WilcoxonState:
    """What ``Wilcoxon`` remembers.

    Attributes:
        verdicts: The wrapped method, and whom to stop.
        losses: Loss on each instance done, of trials that are not over.
        best: Loss on each instance of the trial to beat; empty before there is one.
    """

    verdicts: Verdicts
    losses: dict[int, Losses] = field(default_factory=dict)
    best: Losses = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wilcoxon:
    """Stopping by a signed-rank test against the best trial.

    Args:
        sampler: Proposes configurations; may be another rule that stops trials.
        level: The trial is stopped when the one-sided p-value is below this.
        after: Instances that both must have before the test is made.

    Raises:
        ConfigError: If ``level`` is not within (0, 1), or ``after`` is not a whole number of at least 1.
    """

    sampler: Algorithm[Any]
    level: float = 0.1
    after: int = 2

    adds_stops: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked_count("Wilcoxon", "after", self.after, 1)
        value: Any = self.level
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1.0:
            raise ConfigError(f"Wilcoxon needs 0 < level < 1; got {value!r}. Use 0.1.")

    @property
    def deliberate(self) -> bool:
        """Whether the wrapped method thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> WilcoxonState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, there are several objectives, or the sampler refuses.
        """
        steps_of("Wilcoxon", problem)
        if problem.m > 1:
            raise UnsupportedError(
                f"Wilcoxon needs one objective, which it tests; got {problem.m}. Use Halting or Asha."
            )
        return WilcoxonState(Verdicts(problem, self.sampler.init(problem)))

    def tell(self, state: WilcoxonState, events: Sequence[Event]) -> WilcoxonState:
        """Tests a trial after each of its instances; the wrapped method learns from everything."""
        for event in events:
            if isinstance(event, Reported):
                self._report(state, event)
            elif isinstance(event, Started):
                state.losses[event.trial] = {}
            else:
                state.verdicts.settle(event)
                if isinstance(event, Ended):
                    losses = state.losses.pop(event.trial, {})
                    if event.outcome == "completed":
                        _challenge(state, losses, event)
        state.verdicts.inner = self.sampler.tell(state.verdicts.inner, events)
        return state

    def _report(self, state: WilcoxonState, event: Reported) -> None:
        own, problem = state.losses.get(event.trial), state.verdicts.problem
        losses = problem.losses(event.metrics)
        if own is None or (losses is None and problem.objectives[0].name not in (event.bad or ())):
            return
        own[event.step] = math.inf if losses is None else losses[0]
        fidelity = steps_of("Wilcoxon", problem)
        if not fidelity.low <= event.step < fidelity.high or event.step not in state.best:
            return
        shared = [s for s in own if s in state.best]
        if len(shared) < self.after:
            return
        ours, theirs = np.array([own[s] for s in shared]), np.array([state.best[s] for s in shared])
        if ours.mean() > theirs.mean() and _worse(ours - theirs, self.level):
            state.verdicts.doomed[event.trial] = {
                "instances": len(shared),
                "mean": float(ours.mean()),
                "best": float(theirs.mean()),
            }

    def ask(self, state: WilcoxonState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Stops what is worse than the best; else what the wrapped method wants."""
        return state.verdicts.joined(self.sampler.ask(state.verdicts.inner, slots, rng))


def _challenge(state: WilcoxonState, losses: Losses, event: Ended) -> None:
    """Makes a completed trial the one to beat if it has more instances, or as many and a lower mean."""
    problem = state.verdicts.problem
    within = not problem.limits or problem.violation(event.metrics or {}) == 0.0
    if losses and within and all(map(math.isfinite, losses.values())):
        best = state.best
        mean = sum(losses.values()) / len(losses)
        if len(losses) > len(best) or (len(losses) == len(best) and mean < sum(best.values()) / len(best)):
            state.best = losses


def _worse(gaps: np.ndarray[Any, np.dtype[np.float64]], level: float) -> bool:
    """Whether the signed-rank test finds the gaps to be positive, at that one-sided level."""
    gaps = gaps[gaps != 0.0]
    n = len(gaps)
    sizes = np.abs(gaps)
    order = sizes.argsort()
    if n > _TABLED or (sizes[order][1:] == sizes[order][:-1]).any():
        return wilcoxon(gaps, np.zeros(n), "greater") < level
    return int(np.flatnonzero(gaps[order] > 0.0).sum() + (gaps > 0.0).sum()) >= _bar(n, level)


@lru_cache(maxsize=1024)
def _bar(n: int, level: float) -> int:
    """Least sum of positive ranks whose probability to be reached is below the level, among ``n`` without ties."""
    law = np.ones(1)
    for rank in range(1, n + 1):
        law = 0.5 * (np.pad(law, (0, rank)) + np.pad(law, (rank, 0)))
    reached = np.cumsum(law[::-1])[::-1]
    return int((reached >= level).sum())
