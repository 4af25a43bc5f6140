"""DyHPO: the next few steps go to whichever curve a deep-kernel process expects most of, new ones included.

*Use when* trials report by step, can be paused and resumed, and curves of different configurations run differently. *Do not
use when* trials cannot resume (``Halting``), there are several objectives, or a report must cost less than a millisecond
(``Asha``).

*Paper*: Wistuba, Kadra and Grabocka 2022, "Supervising the Multi-Fidelity Race of Hyperparameter Configurations" (DyHPO),
NeurIPS, arXiv:2202.09774, Algorithm 1; deep kernel of configuration, budget and curve, section 4.1; multi-fidelity expected
improvement, eq. 5 and 6.

*Differs*: budgets are ``budgets`` equal parts of a full training; the curve enters as its last loss, its last
gain and its first loss, in place of a convolution; losses are the lowest so far, warped (``models.warp``); the kernel is
that of ``models.deep_kernel``, learned anew from the same start when results have grown by a quarter; new candidates are the
proposals of any sampler, by default 30 random ones. Once nothing new may be begun, trials go on only while one may well
beat the best.

*Cost*: ``tell`` O(1) per event, ``ask`` one factorisation of 200 rows and a prediction of 94 candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Algorithm, Resume, Start
from tunewright.core.events import Ended, Event, Paused, Reported, Started
from tunewright.core.history import FAILED, PAUSED, RUNNING
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_count, steps_of
from tunewright.errors import UnsupportedError
from tunewright.models import deep_kernel
from tunewright.models.acquisition import log_expected_improvement
from tunewright.models.kernel import Columns, columns_of
from tunewright.models.staged import Staged, spread_rows
from tunewright.models.warp import Warp, fit_warp
from tunewright.numerics.distributions import normal_log_cdf

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_ROWS, _TUNING_ROWS = 200, 120
_WAITING = 64
_POOL = 1000
_KEPT = 5
_LOG_HOPE = float(np.log(0.05))
_OFFSET = 0.1


def budgets_of(low: int, high: int, parts: int) -> tuple[int, ...]:
    """Steps after which a trial is judged: multiples of a part of ``high``, at least ``low``, the last is ``high``."""
    part = max(1, -(-high // parts))
    found = {max(low, min(high, part * i)) for i in range(1, parts + 1)}
    return tuple(sorted(found | {high}))


@dataclass(slots=True)
class DyhpoState:
    """What ``Dyhpo`` remembers.

    Attributes:
        staged: Losses by budget.
        panel: The sampler.
        steps: Last step of every trial that is not over.
        lost: Trials that diverged; they never go on.
        pool: Trials that count, ascending: all but failed ones, and of thousands those with the lowest losses.
        kernel: The kernel learned on the present snapshot, by its content; a cache, not a fact.
    """

    staged: Staged
    panel: Panel
    steps: dict[int, int] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    pool: list[int] = field(default_factory=list)
    kernel: dict[tuple[bytes, bytes], deep_kernel.DeepKernel] = field(
        default_factory=dict, compare=False, repr=False
    )


class _View(NamedTuple):
    """What the process knows at one decision; ``seen`` is the lowest loss at each budget, infinite where there is none."""

    columns: Columns
    seen: FloatArray
    warp: Warp
    process: deep_kernel.Posterior


@dataclass(frozen=True, slots=True)
class Dyhpo:
    """Gray-box optimisation by multi-fidelity expected improvement.

    Args:
        sampler: Proposes configurations.
        first: Configurations that are begun, in the order of the sampler, before the process is asked.
        proposals: New configurations among the candidates of a decision.
        budgets: Parts of a full training; trials are judged after each.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    first: int = 5
    proposals: int = 30
    budgets: int = 27

    deliberate = True

    def __post_init__(self) -> None:
        for name, least in (("first", 2), ("proposals", 1), ("budgets", 1)):
            checked_count("Dyhpo", name, getattr(self, name), least)

    def init(self, problem: Problem) -> DyhpoState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, there are several objectives, or the sampler refuses the problem.
        """
        fidelity = steps_of("Dyhpo", problem)
        if problem.m > 1:
            raise UnsupportedError(
                f"Dyhpo needs one objective, since it compares losses of curves; got {problem.m}. Use asha."
            )
        steps = budgets_of(fidelity.low, fidelity.high, self.budgets)
        return DyhpoState(Staged(problem, steps, _TUNING_ROWS), Panel.of(self.sampler, problem, steps[-1:]))

    def tell(self, state: DyhpoState, events: Sequence[Event]) -> DyhpoState:
        """Notes the curves; the sampler learns the results of full trainings."""
        name = state.staged.history.problem.objectives[0].name
        for event in events:
            state.staged.apply(event)
            if isinstance(event, Started):
                state.steps[event.trial] = event.parent[1] if event.parent is not None else 0
                state.pool.append(event.trial)
                if len(state.pool) > _POOL:
                    _prune(state)
            elif isinstance(event, Reported | Paused) and event.trial in state.steps:
                state.steps[event.trial] = max(state.steps[event.trial], event.step)
                if isinstance(event, Reported) and event.bad and name in event.bad:
                    state.lost.add(event.trial)
            elif isinstance(event, Ended):
                state.steps.pop(event.trial, None)
                state.lost.discard(event.trial)
                if _failed(state.staged, event.trial) and event.trial in state.pool:
                    state.pool.remove(event.trial)
        state.panel.apply(self.sampler, events)
        return state

    def ask(self, state: DyhpoState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """For every slot, the trial or the new configuration with the largest expected improvement at its next budget."""
        if slots == 0:
            return ()
        staged = state.staged
        history, space = staged.history, staged.history.problem.space
        wishes = state.panel.ask(self.sampler, max(slots, self.proposals), rng)
        actions: list[Action] = []
        view = None
        pool = np.array(state.pool, dtype=np.int64)
        if not wishes or int((staged.reached[pool] > 0).sum()) >= self.first:
            view = self._view(state, pool)
        waiting = [t for t in pool[history.status[pool] == PAUSED].tolist() if t not in state.lost]
        while len(actions) < slots and (wishes or waiting):
            if view is None:
                if wishes:
                    actions.append(self._begun(state, wishes.pop(0), {}))
                else:
                    actions.append(self._continued(state, waiting.pop(0), {}))
                continue
            few = _best(staged, np.array(waiting, dtype=np.int64))
            if not wishes and not self._worthwhile(state, view, few):
                break
            rows = np.array([space.encode(w.config) for w in wishes]).reshape(len(wishes), space.d)
            gains = self._gains(state, view, few, rows)
            best = int(np.argmax(gains))
            why = {"log_ei": round(float(gains[best]), 3), "of": len(gains)}
            if best < len(few):
                actions.append(self._continued(state, int(few[best]), why))
                waiting.remove(int(few[best]))
            else:
                actions.append(self._begun(state, wishes.pop(best - len(few)), why))
        return tuple(actions)

    def _begun(self, state: DyhpoState, wish: Start, why: dict[str, Any]) -> Start:
        return Start(wish.config, state.staged.steps[0], wish.parent, why or wish.why)

    def _continued(self, state: DyhpoState, trial: int, why: dict[str, Any]) -> Resume:
        steps = state.staged.steps
        return Resume(trial, next((s for s in steps if s > state.steps[trial]), steps[-1]), why)

    def _view(self, state: DyhpoState, pool: IntArray) -> _View | None:
        """The process given what is known; None while no two losses differ."""
        staged = state.staged
        history, space = staged.history, staged.history.problem.space
        pool = pool[~np.isnan(history.codes[pool]).all(axis=1)]
        losses = staged.losses[pool, :, 0]
        few = _thinned(losses)
        chosen = spread_rows(few, _ROWS)
        trial, level = np.nonzero(~np.isnan(few[chosen]))
        values = few[chosen][trial, level]
        if not space.d or not len(values) or values.min() == values.max():
            return None
        columns = columns_of(space.layout.levels, space.layout.categorical)
        warp = fit_warp(values, _OFFSET)
        kernel = self._kernel(state, columns)
        if kernel is None:
            return None
        x = _inputs(columns, history.codes[pool[chosen]], losses[chosen], warp, trial, level)
        seen = np.where(np.isnan(losses), np.inf, losses).min(axis=0)
        return _View(columns, seen, warp, deep_kernel.condition(kernel, x, warp(values)))

    def _kernel(self, state: DyhpoState, columns: Columns) -> deep_kernel.DeepKernel | None:
        snapshot = state.staged.snapshot
        codes = state.staged.history.codes[snapshot.trials]
        key = (codes.tobytes(), snapshot.losses.tobytes())
        if key not in state.kernel:
            few = _thinned(snapshot.losses)
            trial, level = np.nonzero(~np.isnan(few))
            if len(trial) < 2:
                return None
            values = few[trial, level]
            warp = fit_warp(values, _OFFSET)
            x = _inputs(columns, codes, snapshot.losses, warp, trial, level)
            state.kernel.clear()
            state.kernel[key] = deep_kernel.fit(x[-_ROWS:], warp(values)[-_ROWS:])
        return state.kernel[key]

    def _gains(self, state: DyhpoState, view: _View, trials: IntArray, rows: FloatArray) -> FloatArray:
        """Log expected improvement of each candidate at its next budget, over the best there, else over the best of all."""
        staged = state.staged
        codes = np.concatenate((staged.history.codes[trials], rows))
        blank = np.full((len(rows), len(staged.steps)), np.nan)
        losses = np.concatenate((staged.losses[trials, :, 0], blank))
        level = np.minimum(
            np.concatenate((staged.reached[trials], np.zeros(len(rows), dtype=np.int64))),
            len(staged.steps) - 1,
        )
        x = _inputs(view.columns, codes, losses, view.warp, np.arange(len(codes)), level)
        mean, std = deep_kernel.predict(view.process, x)
        best = view.warp(np.where(np.isfinite(view.seen), view.seen, view.seen.min()))[level]
        return np.array(
            [
                log_expected_improvement(m, s, float(b))
                for m, s, b in zip(mean[:, None], std[:, None], best, strict=True)
            ]
        )[:, 0]

    def _worthwhile(self, state: DyhpoState, view: _View, trials: IntArray) -> bool:
        """Whether some trial, trained to its end, may well beat the best; always until one was."""
        staged = state.staged
        if not len(trials):
            return False
        top = len(staged.steps) - 1
        if np.isinf(view.seen[top]):
            return True
        losses = staged.losses[trials, :, 0]
        x = _inputs(
            view.columns,
            staged.history.codes[trials],
            losses,
            view.warp,
            np.arange(len(trials)),
            np.full(len(trials), top),
        )
        mean, std = deep_kernel.predict(view.process, x)
        best = float(view.warp(view.seen.min(keepdims=True))[0])
        return bool((normal_log_cdf((best - mean) / std) > _LOG_HOPE).any())


def _failed(staged: Staged, trial: int) -> bool:
    """Whether a trial failed, so that its losses count for nothing."""
    return bool(staged.history.status[trial] >= FAILED)


def _prune(state: DyhpoState) -> None:
    """Keeps the running trials and the better half of the pool."""
    staged, pool = state.staged, np.array(state.pool)
    keep = set(pool[staged.history.status[pool] == RUNNING].tolist())
    lowest = _lowest(staged, pool)
    keep |= set(pool[np.argsort(lowest, kind="stable")[: _POOL // 2]].tolist())
    state.pool = [t for t in state.pool if t in keep]


def _lowest(staged: Staged, trials: IntArray) -> FloatArray:
    """Lowest loss of each trial, infinite where none is known."""
    losses = staged.losses[trials, :, 0]
    out: FloatArray = np.where(np.isnan(losses), np.inf, losses).min(axis=1)
    return out


def _best(staged: Staged, trials: IntArray) -> IntArray:
    """At most so many of some trials, those with the lowest losses."""
    if len(trials) <= _WAITING:
        return trials
    return trials[np.argsort(_lowest(staged, trials), kind="stable")[:_WAITING]]


def _thinned(losses: FloatArray) -> FloatArray:
    """Losses ``(n, k)`` with NaN at all but the first, the last and some budgets between, of each trial."""
    n, k = losses.shape
    keep = np.unique(np.round(np.geomspace(1, k, min(k, _KEPT))).astype(np.int64) - 1)
    out = np.full((n, k), np.nan)
    out[:, keep] = losses[:, keep]
    known = ~np.isnan(losses)
    rows = np.flatnonzero(known.any(axis=1))
    last = k - 1 - np.argmax(known[rows, ::-1], axis=1)
    out[rows, last] = losses[rows, last]
    return out


def _inputs(
    columns: Columns, codes: FloatArray, losses: FloatArray, warp: Warp, trial: IntArray, level: IntArray
) -> FloatArray:
    """Inputs of the network: configuration, budget, and the curve before that budget; NaN where there is none.

    Args:
        columns: The embedding.
        codes: Codes of trials, shape ``(t, d)``.
        losses: Their losses by budget, NaN where not known, shape ``(t, k)``.
        warp: Of the losses.
        trial: Trial of each row, shape ``(n,)``.
        level: Budget of each row, shape ``(n,)``.
    """
    k = losses.shape[1]
    before = np.where(np.arange(k) < level[:, None], losses[trial], np.nan)
    known = ~np.isnan(before)
    some = known.any(axis=1)
    last = k - 1 - np.argmax(known[:, ::-1], axis=1)
    first = np.argmax(known, axis=1)
    at = np.arange(len(trial))
    late = warp(before[at, last])
    prior = warp(before[at, np.maximum(last - 1, first)])
    curve = np.column_stack([late, late - prior, warp(before[at, first])])
    curve[~some] = np.nan
    budget = (level + 1.0) / k
    return np.column_stack([columns.embed(codes)[trial], budget, np.log(budget), curve])
