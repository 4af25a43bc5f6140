"""Trust-region Bayesian optimisation: a local Gaussian process in a box that grows on success and shrinks on failure.

*Use when* there are 20 to some hundred parameters, mixed ones included, and a few hundred trials. *Do not use when*
there are few parameters (``Bayes`` sees the whole space), or most parameters are known to have no effect (``Saas``).

*Paper*: Eriksson, Pearce, Gardner, Turner and Poloczek 2019 (TuRBO, arXiv:1910.01739), section 2 and Algorithm 1 of its
supplement: edge length 0.8 at first, at most 1.6, a new region below 2^-7, doubled after 3 successes, halved after
``d`` failures in a row; Thompson sampling of candidates that move each column with probability ``min(1, 20 / d)``.
Wan, Nguyen, Ha, Ru, Lu and Osborne 2021 (CASMOPOLITAN, arXiv:2102.07188), section 3.2, for the Hamming ball on
categories.

*Differs*: the edge also sets the radius of the Hamming ball (its share of the categorical columns, at least one); at most
30 failures are waited for, since results come one at a time; a region is left behind as soon as it collapses and
its late results are not counted; with several regions, these take turns instead of competing by samples, so that
membership is a fact of the log; with several objectives, an improvement of any counts as a success.

*Cost*: ``tell`` O(1) per event; ``ask`` one factorisation of n^3 (n the region's trials, at most 200) and a joint draw
at ``candidates`` rows, q^3; some twenty factorisations more when hyperparameters are due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.columns import Layout
from tunewright.core.events import Ended, Event
from tunewright.core.history import FAILED, History
from tunewright.core.novelty import first_new
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models import gp as model
from tunewright.models.belief import log_belief
from tunewright.models.data import training_set, training_trials
from tunewright.models.design import design_row
from tunewright.models.refit import Memo, hyper_of

FloatArray = NDArray[np.float64]

FIRST, LEAST, MOST = 0.8, 0.5**7, 1.6
SUCCESSES = 3
_PATIENCE = 30
_GAIN = 1e-3
_MOVED = 20.0
_LOCAL = 200
_BELIEF = 5.0


@dataclass(slots=True)
class Region:
    """A trust region, as a fold over the results of its trials.

    Attributes:
        born: Number of the first trial that may belong to it.
        best: Lowest loss of each objective, shape ``(m,)``; infinite before the first.
        violation: Lowest excess over the outcome limits.
        edge: Edge length of the box, in codes.
        wins: Successes in a row.
        defeats: Failures in a row.
        ended: Trials of the region that ended.
    """

    born: int
    best: FloatArray
    violation: float = inf
    edge: float = FIRST
    wins: int = 0
    defeats: int = 0
    ended: int = 0

    def take(self, losses: FloatArray, violation: float) -> bool:
        """Takes in a result, losses ``(m,)`` NaN where the trial failed; returns whether it is a success.

        A success betters the best by a thousandth of its size (TuRBO, section 2), or comes closer to the limits.
        """
        self.ended += 1
        if np.isnan(losses).any() or violation > self.violation:
            return False
        if violation < self.violation:
            self.violation, self.best = violation, losses.copy()
            return True
        # A best of 1e300 has no thousandth that matters; an infinite one is bettered by anything.
        margin = np.where(np.isfinite(self.best), _GAIN * np.abs(self.best), 0.0)
        better = bool(np.any(losses < self.best - margin))
        self.best = np.minimum(self.best, losses)
        return better

    def judge(self, success: bool, patience: int) -> bool:
        """Counts a success or failure and resizes the box; returns whether the region has collapsed."""
        self.wins, self.defeats = (self.wins + 1, 0) if success else (0, self.defeats + 1)
        if self.wins == SUCCESSES:
            self.edge, self.wins = min(2.0 * self.edge, MOST), 0
        elif self.defeats >= patience:
            self.edge, self.defeats = self.edge / 2.0, 0
        return self.edge < LEAST


@dataclass(slots=True)
class TurboState:
    """What ``Turbo`` remembers.

    Attributes:
        history: The trials.
        regions: The present regions; trial ``i`` belongs to number ``i % len(regions)``, if it began after its birth.
        memo: Hyperparameters already found, by region; a cache.
    """

    history: History
    regions: list[Region]
    memo: dict[int, Memo] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Turbo:
    """Trust-region Bayesian optimisation.

    Args:
        initial: Trials that open a region; by default two per parameter, within 4 and 30.
        regions: Regions that take turns.
        candidates: Rows at which the process is drawn jointly.
        patience: Failures in a row that halve the box; by default one per parameter, within 4 and 30.

    Raises:
        ConfigError: If a setting is out of range.
    """

    initial: int | None = None
    regions: int = 1
    candidates: int = 500
    patience: int | None = None

    deliberate = True

    def __post_init__(self) -> None:
        given = (self.initial, self.regions, self.candidates, self.patience)
        if any(v is not None and v < 1 for v in given):
            raise ConfigError(
                f"Turbo needs initial, regions, candidates and patience >= 1; got {given}. Use the defaults."
            )

    def init(self, problem: Problem) -> TurboState:
        """The state before the first event."""
        regions = [Region(0, np.full(problem.m, inf)) for _ in range(self.regions)]
        return TurboState(History(problem), regions)

    def tell(self, state: TurboState, events: Sequence[Event]) -> TurboState:
        """Takes in events, O(1) each; results resize the region that their trial belongs to."""
        history = state.history
        for event in events:
            history.apply(event)
            if not isinstance(event, Ended):
                continue
            number = event.trial % len(state.regions)
            region = state.regions[number]
            failed = history.status[event.trial] >= FAILED
            if event.trial < region.born or (not failed and np.isnan(history.loss[event.trial])):
                continue
            opening = region.ended < self._initial(history.problem.space)
            success = region.take(history.losses[event.trial], float(history.violation[event.trial]))
            if not opening and region.judge(success, self._patience(history.problem.space)):
                state.regions[number] = Region(history.n, np.full(history.problem.m, inf))
        return state

    def ask(self, state: TurboState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations, each by a draw of its own from its region's process."""
        history = state.history
        space = history.problem.space
        awaited: list[FloatArray] = list(history.codes[history.pending])
        out: list[Action] = []
        every, all_losses = training_set(history, rng)
        trials = np.flatnonzero(training_trials(history))
        for slot in range(slots):
            number = history.n + slot
            which = number % len(state.regions)
            region = state.regions[which]
            mine = (trials >= region.born) & (trials % len(state.regions) == which)
            x, losses = every[mine], all_losses[mine]
            begun = (number - region.born) // len(state.regions)
            if begun < self._initial(space) or len(np.unique(losses)) < 2:
                rows = design_row(history.problem, number, region.born + self._initial(space), rng)[None]
                why = {"design": float(number)}
            else:
                memo = state.memo.setdefault(which, {})
                rows = self._draw(space, region, memo, x, losses, np.array(awaited), rng)
                why = {"edge": region.edge, "region": float(which)}
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, rows, rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _initial(self, space: Space) -> int:
        return min(max(4, 2 * space.d), 30) if self.initial is None else self.initial

    def _patience(self, space: Space) -> int:
        return min(max(4, space.d), _PATIENCE) if self.patience is None else self.patience

    def _draw(
        self,
        space: Space,
        region: Region,
        memo: Memo,
        x: FloatArray,
        losses: FloatArray,
        awaited: FloatArray,
        rng: np.random.Generator,
    ) -> FloatArray:
        """Candidates of the region by one joint draw of the process, lowest first."""
        columns = model.columns_of(space.layout.levels, space.layout.categorical)
        centre = x[int(np.argmin(losses))]
        if len(x) > _LOCAL:
            # The latest trials are the ones inside of the present box.
            x, losses = x[-_LOCAL:], losses[-_LOCAL:]
        hyper = hyper_of(memo, columns, x, losses)
        gp = model.update(columns, hyper, x, losses)
        if len(awaited):
            gp = model.condition_on(gp, awaited)
        count = min(self.candidates, 100 * space.d)
        rows = perturbed(space.layout, centre, region.edge, hyper.length, count, rng)
        rows = space.repair(rows, rng)
        drawn = model.sample(gp, rows, rng)[0]
        prior = log_belief(space)
        if prior is not None:
            drawn = drawn - _BELIEF / len(losses) * prior(rows)
        return rows[np.argsort(drawn, kind="stable")[:50]]


def perturbed(
    layout: Layout, centre: FloatArray, edge: float, length: FloatArray, count: int, rng: np.random.Generator
) -> FloatArray:
    """Candidates of a trust region, shape ``(count, d)``, not yet repaired.

    Each moves every column with probability ``min(1, 20 / d)``, at least one: an ordered one uniformly within a side of
    ``edge`` times its length scale over the geometric mean of all, at least a level up and down; a categorical one to
    any option, in at most a share ``edge`` of the categorical columns. Inactive columns are drawn uniformly.

    Args:
        layout: Of the space.
        centre: Best row of the region, shape ``(d,)``.
        edge: Edge length, in codes.
        length: Log length scales, shape ``(d,)``.
        count: Number of candidates.
        rng: Source of randomness.

    Source: Eriksson et al. 2019, section 2; Wan et al. 2021, section 3.2.
    """
    d = layout.d
    uniform = rng.random((count, d))
    off = np.isnan(centre)
    base = np.where(off, 0.5, centre)
    moved = rng.random((count, d)) < min(1.0, _MOVED / d)
    moved[np.arange(count), rng.integers(d, size=count)] = True
    ordered = ~layout.categorical
    side = np.zeros(d)
    if ordered.any():
        relative = np.exp(np.clip(length[ordered] - length[ordered].mean(), -50.0, 50.0))
        side[ordered] = 0.5 * edge * relative
    least = np.where(layout.levels > 0, 1.5 / np.maximum(layout.levels, 1), 0.0)
    side = np.maximum(side, least)
    low, high = np.maximum(base - side, 0.0), np.minimum(base + side, 1.0)
    inside = low + uniform * (high - low)
    radius = ceil(min(1.0, edge) * int(layout.categorical.sum()))
    flips = moved & layout.categorical
    keys = np.where(flips, rng.random((count, d)), inf)
    allowed = keys.argsort(axis=1).argsort(axis=1) < radius
    rows = np.where(flips & allowed, uniform, base)
    rows = np.where(moved & ordered, inside, rows)
    out: FloatArray = np.where(off, uniform, rows)
    return out
