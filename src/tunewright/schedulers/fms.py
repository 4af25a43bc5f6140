"""Looks at the weights: whichever training is expected to improve most on the best gets the next few steps.

*Use when* networks are trained, trials report by step and can be paused and resumed, and the training function can report
a description of its weights. *Do not use when* trials cannot resume (``Halting``), there are several objectives, or
workers come by the thousand (``Asha``).

*Paper*: Mehta, Lorraine, Masson, Arunachalam, Bhat, Lucas and Zachariah 2024, "Improving Hyperparameter Optimization with
Checkpointed Model Weights", arXiv:2406.18630, section 3 (FMS): DyHPO (Wistuba, Kadra and Grabocka 2022, arXiv:2202.09774,
Algorithm 1) with an embedding of the weights as input of the deep kernel, and multi-fidelity expected improvement (eq. 3
and 4 there).

*Differs*: weights never leave the training. What embeds them there (``models.weights``) is a graph metanetwork whose message
passing is fixed and random instead of learned, with statistics of layers; only the deep kernel on top of its 24 numbers is
learned, by what the study reports. Without such reports this is a search by configuration, budget and curve alone, as
DyHPO. The process predicts changes (``models.forecast``); segments are a 27th of a training, or a quarter of what is done;
candidates are paused trials, draws from the prior and changes of the best configurations, not a fixed list; a running trial
counts as having the loss expected at the end of its segment. Once nothing new may be begun, a trial goes on only while it
may well beat the best. On a hub of 648 small networks the weights helped, yet not beyond chance (``claims/fms.py``).

*Cost*: ``tell`` O(1) per event; ``ask`` one factorisation of at most 250 rows and a prediction of at most 350 candidates,
some 4 ms, and a fit of some 0.1 s whenever there are a quarter more results.

Example:
    In the training function, next to the loss::

        from tunewright.integrations.weights_torch import weight_features

        for epoch in trial.steps():
            train(model)
            trial.report(epoch, loss=validate(model), **weight_features(model))

    Networks of NumPy arrays and scikit-learn: ``tunewright.models.weights.weight_features(model.coefs_, model.intercepts_)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Algorithm, Start
from tunewright.core.events import Event
from tunewright.core.history import RUNNING
from tunewright.core.novelty import first_new
from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_count, steps_of
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.models.acquisition import log_expected_improvement, mutations
from tunewright.models.design import design_row
from tunewright.models.forecast import Examples, Forecaster, forecaster
from tunewright.models.weights import PREFIX

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

_LEADERS = 5
_AWAITED = 64
_HOPE = -1.64
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class Fms:
    """Forecasting model search.

    Args:
        initial: Configurations begun before the first forecast: scrambled Sobol points, or draws around the guesses.
        segments: The first segment of a trial is this part of a full training.
        growth: A segment lasts at least this share of the steps already done.
        fresh: Candidates drawn from the prior at every decision.
        near: Candidates that are changes of the best configurations.
        paused: Paused trials that are candidates; of more, those with the lowest losses.
        features: Beginning of the names of the metrics that describe the weights; empty to leave them out.

    Raises:
        ConfigError: If a setting is out of range.
    """

    initial: int = 6
    segments: int = 27
    growth: float = 0.25
    fresh: int = 96
    near: int = 48
    paused: int = 200
    features: str = PREFIX

    deliberate = True

    def __post_init__(self) -> None:
        for name, least in (("initial", 1), ("segments", 1), ("fresh", 1), ("near", 0), ("paused", 1)):
            checked_count("Fms", name, getattr(self, name), least)
        growth: Any = self.growth
        if isinstance(growth, bool) or not isinstance(growth, int | float) or not 0.0 <= growth < inf:
            raise ConfigError(
                f"Fms needs a finite growth >= 0; got {growth!r:.80}. Use 0.25, or 0 for equal segments."
            )
        if not isinstance(self.features, str):
            raise ConfigError(
                f"Fms needs the beginning of metric names as features; got {self.features!r:.80}. Use {PREFIX!r}, or '' to "
                f"leave weights out."
            )

    def init(self, problem: Problem) -> Examples:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, or there are several objectives.
        """
        fidelity = steps_of("Fms", problem)
        if problem.m > 1:
            raise UnsupportedError(
                f"Fms needs one objective, since it forecasts one curve; got {problem.m}. Use asha."
            )
        return Examples.of(problem, max(1, round(fidelity.high / self.segments)), self.growth, self.features)

    def tell(self, state: Examples, events: Sequence[Event]) -> Examples:
        """Notes losses and what was known before them."""
        for event in events:
            state.apply(event)
        return state

    def ask(self, state: Examples, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """For every slot the trial, begun or not, with the largest expected improvement at its next step."""
        return self.decided(state, slots, rng, begin=True)

    def closed(self) -> Algorithm[Examples]:
        """The same method once no trial may be begun any more."""
        return Continuing(self)

    def decided(
        self, state: Examples, slots: int, rng: np.random.Generator, *, begin: bool
    ) -> tuple[Action, ...]:
        """As ``ask``; ``begin`` says whether trials may be begun."""
        if slots == 0:
            return ()
        book, actions, awaited = state.book, list[Action](), list[Array]()
        idle = book.idle()
        view = forecaster(state) if book.n >= self.initial else None
        if view is not None:
            running = np.flatnonzero(book.history.status == RUNNING)[-_AWAITED:]
            running = running[book.fits(running)]
            view = view.expecting(state.questions(running, np.empty((0, book.history.codes.shape[1]))))
        for _ in range(slots):
            rows = self._rows(state, len(awaited), rng, plain=view is None) if begin else None
            trial, row, why = self._chosen(view, state, idle, rows, awaited, rng)
            if row is not None:
                space = book.history.problem.space
                actions.append(Start(space.decode(row), state.until(0), None, why))
                awaited.append(row)
            elif trial >= 0:
                actions.append(book.continued(trial, state.until(book.curves[trial].step), why))
                idle = idle[idle != trial]
            else:
                break
            if view is not None and len(actions) < slots:
                one = np.array([] if row is not None else [trial], dtype=np.int64)
                fresh = np.empty((0, book.history.codes.shape[1])) if row is None else row[None]
                view = view.expecting(state.questions(one, fresh))
        return tuple(actions)

    def _rows(self, state: Examples, awaited: int, rng: np.random.Generator, *, plain: bool) -> Array:
        """Codes of new candidates, shape ``(q, d)``; ``plain`` for the first ones, one of the design."""
        history = state.book.history
        problem, space = history.problem, history.problem.space
        if plain:
            return design_row(problem, history.n + awaited, self.initial, rng)[None]
        parts = [space.sample(rng, self.fresh)]
        lowest = state.book.picks[: state.book.n, -1]
        few = min(_LEADERS, len(lowest))
        leaders = np.sort(np.argpartition(lowest, few - 1)[:few])
        leaders = leaders[state.book.fits(leaders) & np.isfinite(lowest[leaders])]
        if self.near and space.d and len(leaders):
            levels, kinds = space.layout.levels, space.layout.categorical
            parts.append(space.repair(mutations(history.codes[leaders], self.near, levels, kinds, rng), rng))
        return np.concatenate(parts)

    def _chosen(
        self,
        view: Forecaster | None,
        state: Examples,
        idle: Ints,
        rows: Array | None,
        awaited: list[Array],
        rng: np.random.Generator,
    ) -> tuple[int, Array | None, dict[str, Any]]:
        """One decision: the trial that goes on or -1, the codes of a new one or None, and why."""
        history = state.book.history
        space, taken = history.problem.space, history.codes
        if awaited:
            taken = np.concatenate([taken, np.array(awaited).reshape(len(awaited), -1)])
        if view is None:
            new = None if rows is None else first_new(space, taken, rows, rng)
            waiting = self._promising(state, idle)
            trial = int(waiting[0]) if new is None and len(waiting) else -1
            return trial, new, {"design": float(history.n + len(awaited))} if new is not None else {}
        idle = self._promising(state, idle)
        fresh = np.empty((0, taken.shape[1])) if rows is None else rows
        if not len(idle) and rows is None:
            return -1, None, {}
        asked = state.questions(idle, fresh)
        mean, std = view.predict(asked)
        best = view.warp(state.best(asked.steps))
        gain = log_expected_improvement((mean - best) / std, np.ones(len(std)), 0.0) + np.log(std)
        order = np.argsort(-gain, kind="stable")
        why = {"log_ei": round(float(gain[order[0]]), 3), "of": len(gain)}
        if order[0] >= len(idle):
            new = first_new(space, taken, _unknown(taken, fresh[order[order >= len(idle)] - len(idle)]), rng)
            if new is not None:
                return -1, new, why
            rows = None
        if not len(idle) or (rows is None and not self._worthwhile(state, view, mean, std, len(idle))):
            return -1, None, {}
        return int(idle[int(np.argmax(gain[: len(idle)]))]), None, why

    def _promising(self, state: Examples, idle: Ints) -> Ints:
        """Trials that are candidates."""
        book = state.book
        if len(idle) > self.paused:
            losses = book.picks[idle, -1]
            idle = np.sort(idle[np.argpartition(losses, self.paused)[: self.paused]])
        return np.array([t for t in idle if book.curves[t].step < book.high], dtype=np.int64)

    def _worthwhile(self, state: Examples, view: Forecaster, mean: Array, std: Array, idle: int) -> bool:
        """Whether a trial may well beat the best of all at its next report; always until one had its full training."""
        book = state.book
        if not (book.seen[: book.n] >= book.high).any():
            return True
        best = float(view.warp(np.array([state.lowest.min()]))[0])
        return bool(((best - mean[:idle]) / std[:idle] > _HOPE).any())


@dataclass(frozen=True, slots=True)
class Continuing:
    """Forecasting model search in a study that has all its trials.

    Args:
        method: The method; states are the same.
    """

    method: Fms

    deliberate = True

    def init(self, problem: Problem) -> Examples:
        """The state before the first event."""
        return self.method.init(problem)

    def tell(self, state: Examples, events: Sequence[Event]) -> Examples:
        """The state after more events."""
        return self.method.tell(state, events)

    def ask(self, state: Examples, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Continues trials that may well beat the best."""
        return self.method.decided(state, slots, rng, begin=False)


def _unknown(taken: Array, rows: Array) -> Array:
    """The rows from the first on that was not taken: changes of a row at the edge may be that row."""
    known = np.nan_to_num(taken, nan=-1.0)
    for i, row in enumerate(np.nan_to_num(rows, nan=-1.0)):
        if not bool((np.abs(known - row).max(axis=1, initial=0.0) < _SAME).any()):
            return rows[i:]
    return rows[:0]
