"""Tree-structured Parzen estimator: a density of the good trials over a density of the others, jointly over all parameters.

*Use when* there are many trials, many categories or branches, or asking must take about a millisecond. *Do not use
when* a trial costs minutes and there will be fewer than a hundred; a Gaussian process (``Bayes``) needs fewer of them.

*Paper*: Bergstra, Bardenet, Bengio and Kegl 2011, NeurIPS, section 4, with one joint density as in Falkner, Klein
and Hutter 2018 (BOHB, Algorithm 2); constants compared as in Watanabe 2023 (arXiv:2304.11127).

*Differs*: one joint density covers all branches of a conditional space; the good trials weigh log((k + 1) / rank);
bandwidths follow the spread of each column; at most 200 kernels, evenly spaced by rank, stand for the finished trials
that are not good, so that the cost of asking does not grow with history. Running trials count as not good. Failed trials
rank last, before them those that exceed an outcome limit, by how much. Partly trained trials are ordered by how far they
got, then by loss. Several objectives: fronts, then crowding distance, among a pool of at most 512 trials. Guesses raise
the score by their log density times belief / n, as in Hvarfner et al. 2022 (piBO, eq. 6). In finite spaces nothing is
proposed twice, and the search ends when everything was tried.

*Cost*: tell O(log n) comparisons per event; ask O(d) times at most 225 kernels and those of running trials, at most 200.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Amended, Edited, Ended, Event, Paused, Reported, Started
from tunewright.core.history import COMPLETED, FAILED, History
from tunewright.core.novelty import first_new, is_finite
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models import kde
from tunewright.models.belief import LogPrior, log_belief
from tunewright.numerics.pareto import crowding_distance, fronts
from tunewright.numerics.sequences import sobol

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_LARGEST_GOOD = 25
_OTHERS = 200
_BANDWIDTH = 0.8
_POOL = 512
_KEPT = 128
_MANY = 1000
_FEASIBLE, _INFEASIBLE, _FAILED = range(3)

Key = tuple[int, float, float, int]
"""Tier, minus the step reached, value to order by, trial: smaller is better."""


@dataclass(slots=True)
class TpeState:
    """What ``Tpe`` remembers.

    Attributes:
        history: The trials.
        columns: How the densities measure each parameter.
        guess: Codes of the guesses given with the space, shape ``(d,)``, NaN where there is none.
        confidence: Confidence of each guess, shape ``(d,)``, 0 where there is none.
        order: Keys of every trial that is known to be good or bad, best first.
        keys: The same keys by trial.
        waiting: Trials that run and have no result yet.
        pool: With several objectives, the trials that may be called good.
        seen: Codes of every trial, as bytes, in finite spaces; else None.
        belief: Log density of the guesses; None where there are none.
    """

    history: History
    columns: kde.Columns
    guess: FloatArray
    confidence: FloatArray
    order: list[Key] = field(default_factory=list)
    keys: dict[int, Key] = field(default_factory=dict)
    waiting: dict[int, None] = field(default_factory=dict)
    pool: dict[int, None] = field(default_factory=dict)
    seen: set[bytes] | None = None
    belief: LogPrior | None = field(default=None, compare=False)


def _adopt(state: TpeState) -> None:
    """Takes up what depends on the version of the space."""
    history = state.history
    space = history.problem.space
    state.columns = kde.columns(space.layout.levels, space.layout.categorical)
    state.guess, state.confidence = _guesses(space)
    state.seen = {row.tobytes() for row in history.codes} if is_finite(space) else None
    state.belief = log_belief(space)


def _guesses(space: Space) -> tuple[FloatArray, FloatArray]:
    """Codes of the guesses, NaN elsewhere, and the confidence in each, 0 elsewhere; both of shape ``(d,)``."""
    guess, confidence = np.full(space.d, np.nan), np.zeros(space.d)
    for j, column in enumerate(space.columns):
        if column.domain.guess is not None:
            guess[j] = column.domain.coder()[0](column.domain.guess)
            confidence[j] = column.domain.confidence
    return guess, confidence


def _rank(state: TpeState, trial: int) -> None:
    """Moves a trial to the place that its newest result gives it; O(log n)."""
    key, old = _key(state, trial), state.keys.get(trial)
    if key is None:
        return
    if key[0] == _FEASIBLE and state.history.problem.m > 1:
        _pool(state, trial)
    if old == key:
        return
    if old is not None:
        del state.order[bisect_left(state.order, old)]
    if key[0] != _FEASIBLE:
        state.pool.pop(trial, None)
    insort(state.order, key)
    state.keys[trial] = key
    state.waiting.pop(trial, None)


def _rank_all(state: TpeState, trials: Collection[int]) -> None:
    """The same for many trials of one objective at once: the list is sorted once, not shifted for each."""
    keys = {trial: key for trial in trials if (key := _key(state, trial)) is not None}
    old = {state.keys[trial] for trial in keys if trial in state.keys}
    kept = [key for key in state.order if key not in old] if old else state.order
    state.order = sorted([*kept, *keys.values()])
    state.keys.update(keys)
    for trial in keys:
        state.waiting.pop(trial, None)


def _key(state: TpeState, trial: int) -> Key | None:
    """What the newest result of a trial sorts it by; None when it has none."""
    history = state.history
    status = history.status[trial]
    loss = float(history.loss[trial])
    if status >= FAILED or (loss != loss and status == COMPLETED):
        return _FAILED, 0.0, 0.0, trial
    if loss != loss:
        return None
    depth = inf if status == COMPLETED else float(history.steps[trial])
    excess = float(history.violation[trial])
    if excess > 0.0:
        return _INFEASIBLE, 0.0, excess, trial
    return _FEASIBLE, -depth, loss if history.problem.m == 1 else 0.0, trial


def _is_taken(seen: set[bytes], taken: set[bytes], row: FloatArray) -> bool:
    """Whether a configuration was tried or is awaited."""
    key = row.tobytes()
    return key in seen or key in taken


def _pool(state: TpeState, trial: int) -> None:
    """Adds a trial to the pool; when it is full, only the best stay."""
    state.pool[trial] = None
    if len(state.pool) > _POOL:
        kept = set(_best_of(state, _KEPT))
        state.pool = {t: None for t in state.pool if t in kept or t == trial}


def _best_of(state: TpeState, k: int) -> list[int]:
    """The best ``k`` of the pool: those that got furthest, then by front, then the least crowded."""
    trials = np.fromiter(state.pool, dtype=np.int64, count=len(state.pool))
    history = state.history
    depth = np.where(history.status[trials] == COMPLETED, inf, history.steps[trials].astype(np.float64))
    chosen: list[int] = []
    for level in np.unique(depth)[::-1]:
        group = trials[depth == level]
        losses = history.losses[group]
        number = fronts(losses, enough=k)
        for front in range(int(number.max()) + 1):
            rows = np.flatnonzero(number == front)
            crowding = crowding_distance(losses[rows])
            chosen += group[rows[np.argsort(-crowding, kind="stable")]].tolist()
            if len(chosen) >= k:
                return chosen[:k]
    return chosen


@dataclass(frozen=True, slots=True)
class Tpe:
    """Tree-structured Parzen estimator, joint over all parameters.

    Args:
        initial: Trials before the first model: scrambled Sobol points, or draws around the guesses.
        gamma: Share of the trials called good, at most 25 of them.
        candidates: Draws from the good density that are compared in every decision.
        belief: Weight of the guesses, as a number of trials after which they count as much as the results.

    Raises:
        ConfigError: If a setting is out of range.
    """

    initial: int = 10
    gamma: float = 0.1
    candidates: int = 32
    belief: float = 10.0

    def __post_init__(self) -> None:
        if self.initial < 1 or self.candidates < 1 or not 0.0 < self.gamma < 1.0 or self.belief < 0.0:
            raise ConfigError(
                f"Tpe needs initial >= 1, candidates >= 1, 0 < gamma < 1 and belief >= 0; got initial={self.initial}, "
                f"candidates={self.candidates}, gamma={self.gamma}, belief={self.belief}. Use the defaults."
            )

    def init(self, problem: Problem) -> TpeState:
        """The state before the first event."""
        layout = problem.space.layout
        state = TpeState(
            History(problem), kde.columns(layout.levels, layout.categorical), *_guesses(problem.space)
        )
        _adopt(state)
        return state

    def tell(self, state: TpeState, events: Sequence[Event]) -> TpeState:
        """Takes in events, O(log n) each."""
        history = state.history
        many = len(events) >= _MANY and history.problem.m == 1
        measured: dict[int, None] = {}
        for event in events:
            history.apply(event)
            if isinstance(event, Reported | Ended):
                if many:
                    measured[event.trial] = None
                else:
                    _rank(state, event.trial)
            if isinstance(event, Ended | Paused):
                state.waiting.pop(event.trial, None)
            elif isinstance(event, Edited):
                _adopt(state)
            elif isinstance(event, Started | Amended):
                if isinstance(event, Started):
                    state.waiting[event.trial] = None
                if state.seen is not None:
                    state.seen.add(history.codes[event.trial].tobytes())
        if measured:
            _rank_all(state, measured)
        return state

    def ask(self, state: TpeState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations, each chosen with the earlier ones awaited."""
        space = state.history.problem.space
        awaited: list[FloatArray] = []
        out: list[Action] = []
        for slot in range(slots):
            good = self._good(state) if state.history.n + slot >= self.initial and space.d else []
            if good:
                found, ratio = self._propose(state, good, awaited, rng)
                why = {"log_ratio": round(ratio, 3)}
            else:
                found = self._design(state, state.history.n + slot, rng)
                why = {"design": float(state.history.n + slot)}
            row = self._new(state, awaited, found, rng)
            if row is None:
                break
            out.append(Start(space.decode(row), why=why))
            awaited.append(row)
        return tuple(out)

    def _design(self, state: TpeState, number: int, rng: np.random.Generator) -> FloatArray:
        """A scrambled Sobol point; a draw from the prior once those are used up, or where they would not fit it."""
        problem = state.history.problem
        space = problem.space
        even = number < self.initial and space.d > 0 and not space.constraints and not state.confidence.any()
        rows = space.snap(sobol(space.d, (problem.seed,)).block(number, 1)) if even else space.sample(rng, 1)
        row: FloatArray = rows[0]
        return row

    def _new(
        self, state: TpeState, awaited: list[FloatArray], row: FloatArray, rng: np.random.Generator
    ) -> FloatArray | None:
        """The row itself; in a finite space one that was not tried, and None when all were."""
        if state.seen is None or not _is_taken(state.seen, {r.tobytes() for r in awaited}, row):
            return row
        taken = np.concatenate((state.history.codes, np.reshape(awaited, (-1, len(row)))))
        return first_new(state.history.problem.space, taken, np.empty((0, len(row))), rng)

    def _good(self, state: TpeState) -> list[int]:
        """Trials called good, best first; none while no trial has a result."""
        order = state.order
        k = min(ceil(self.gamma * len(order)), _LARGEST_GOOD)
        if state.history.problem.m > 1 and state.pool:
            return _best_of(state, k)
        return [key[3] for key in order[:k] if key[0] != _FAILED]

    def _propose(
        self, state: TpeState, good: list[int], awaited: list[FloatArray], rng: np.random.Generator
    ) -> tuple[FloatArray, float]:
        space = state.history.problem.space
        better, worse = self._densities(state, good, awaited)
        rows = better.sample(rng, self.candidates)
        if space.conditional or space.grouped or state.seen is not None:
            rows = space.snap(rows)
        features = state.columns.features(rows)
        score = better.log_density(features) - worse.log_density(features)
        if state.belief is not None:
            score += self.belief / len(state.order) * state.belief(rows)
        taken = {row.tobytes() for row in awaited}
        order = np.argsort(-score, kind="stable")
        for i in order.tolist():
            if space.constraints and not space.feasible(space.decode(rows[i])):
                continue
            if state.seen is None or not _is_taken(state.seen, taken, rows[i]):
                return rows[i], float(score[i])
        return space.repair(rows[order[:1]], rng)[0], float(score[order[0]])

    def _densities(
        self, state: TpeState, good: list[int], awaited: list[FloatArray]
    ) -> tuple[kde.Parzen, kde.Parzen]:
        codes = state.history.codes
        k = len(good)
        weights = np.log(k + 1.0) - np.log(np.arange(1.0, k + 1.0))
        weights *= k / weights.sum()
        centres = codes[good]
        others = codes[self._others(state, good)]
        if awaited:
            others = np.concatenate((others, awaited))
        return _density(state, centres, weights), _density(state, others, np.ones(len(others)))

    def _others(self, state: TpeState, good: list[int]) -> list[int]:
        """Running trials, and at most 200 of the rest, evenly spaced by rank."""
        running = list(state.waiting)[-_OTHERS:]
        order = state.order
        chosen = set(good)
        skip = 0 if state.pool else len(good)
        count = len(order) - skip
        step = max(1.0, count / _OTHERS)
        places = [skip + int(i * step) for i in range(min(count, _OTHERS))]
        return [order[i][3] for i in places if order[i][3] not in chosen] + running


def _density(state: TpeState, centres: FloatArray, weights: FloatArray) -> kde.Parzen:
    """One kernel per trial, and the prior with the weight of one trial: partly uniform, partly at the guesses."""
    levels = state.columns.levels
    d = len(levels)
    known = (centres == centres).any(axis=1)
    if not known.all():
        # Trials of an earlier version of the space that no longer fit say nothing.
        centres, weights = centres[known], weights[known]
    widths = kde.scott_bandwidths(centres, levels, _BANDWIDTH, -1.0 / (d + 4))
    flips = kde.shrinking_flips(len(centres) + 1, levels)
    trust = float(state.confidence.max(initial=0.0))
    prior = np.array([np.full(d, np.nan), state.guess] if trust else [np.full(d, np.nan)])
    shares = [1.0 - trust, trust] if trust else [1.0]
    return kde.fit(
        state.columns, np.concatenate((centres, prior)), np.concatenate((weights, shares)), widths, flips
    )
