"""Population-based bandits: population-based training whose new hyperparameters come from a model of what helps now.

*Use when* the best setting changes while training goes on and a population of only four to eight can be afforded. *Do
not use when* the population is large (``Pbt``), most parameters have no order, or there are several objectives.

*Paper*: Parker-Holder, Nguyen and Roberts 2020, "Provably Efficient Online Hyperparameter Optimization with
Population-Based Bandits", NeurIPS, arXiv:2002.02518, Algorithm 1 and eqs. 4 to 6; the width of the confidence bound,
``sqrt(0.2 + log(0.4 n))``, is that of the authors' code.

*Differs*: the model is that of ``models.drift``, refitted whenever its data has grown by a quarter, on the newest 200
results. Parameters without an order are chosen as in ``Pbt``, and parameters that are inactive count as average.
Everything else is as in ``Pbt``: forks, limits of trials, generations, failures.

*Cost*: ``tell`` O(1) per event, plus about 50 ms whenever the model is refitted, plus the sampler's; ``ask`` a few
milliseconds per copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Algorithm, Pause, Start
from tunewright.core.events import Edited, Event
from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_count, steps_of
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.models.drift import Drift, Hyper, awaiting, condition, learn, predict
from tunewright.models.explore import explored, settled
from tunewright.models.firsthand import Firsthand
from tunewright.models.flock import Flock, Member

FloatArray = NDArray[np.float64]

_RESTS = 20
_WINDOW, _LEAST, _GROWTH = 200, 4, 1.25
_SPREAD, _NEAR, _ROUNDS, _WIDTH = 400, 60, 2, 0.08
_TRIED = 20


@dataclass(slots=True)
class Pb2State:
    """What ``Pb2`` remembers.

    Attributes:
        flock: The members.
        panel: The sampler, which hears about trainings from scratch.
        rows: Codes, number of the interval, and gain of the newest segments.
        heard: Segments with a gain so far.
        refit: How many there must be when the model is fitted again.
        hyper: What the model is told.
    """

    flock: Flock
    panel: Firsthand
    rows: list[tuple[FloatArray, float, float]] = field(default_factory=list)
    heard: int = 0
    refit: int = _LEAST
    hyper: Hyper = field(default_factory=Hyper)


@dataclass(frozen=True, slots=True)
class Pb2:
    """Population-based bandits.

    Args:
        sampler: Proposes the configurations that a population begins with.
        size: Members.
        interval: Steps between comparisons; by default a twentieth of a full training.
        share: Part of the population that is replaced, and that is copied; at least one.
        resample: Probability that a parameter without an order is drawn anew.
        fixed: Names of parameters that copies have from their donors, such as sizes of layers: what cannot change while a
            training goes on. Parameters that decide which others there are never change.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    size: int = 8
    interval: int | None = None
    share: float = 0.25
    resample: float = 0.25
    fixed: tuple[str, ...] = ()

    deliberate = True

    def __post_init__(self) -> None:
        checked_count("Pb2", "size", self.size, 2)
        if self.interval is not None:
            checked_count("Pb2", "interval", self.interval, 1)
        if not 0.0 < self.share <= 0.5:
            raise ConfigError(f"Pb2 needs 0 < share <= 0.5; got {self.share!r}. Use the default.")
        if not 0.0 <= self.resample <= 1.0:
            raise ConfigError(f"Pb2 needs resample in [0, 1]; got {self.resample!r}. Use the default.")

    def init(self, problem: Problem) -> Pb2State:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, there are several objectives, or the sampler refuses the problem.
        """
        fidelity = steps_of("Pb2", problem)
        if problem.m > 1:
            raise UnsupportedError(f"Pb2 needs one objective; got {problem.m}. Use pbt.")
        settled(problem.space, self.fixed)
        interval = self.interval or max(fidelity.low, math.ceil(fidelity.high / _RESTS))
        flock = Flock(problem, fidelity, self.size, interval)
        return Pb2State(flock, Firsthand.of(self.sampler, problem, fidelity.high))

    def tell(self, state: Pb2State, events: Sequence[Event]) -> Pb2State:
        """Follows the members, and learns what each segment gained; the sampler hears of trainings from scratch."""
        for event in events:
            rested = state.flock.apply(event)
            if isinstance(event, Edited):
                # Columns mean something else now, and what was learnt early in a training is soon forgotten anyway.
                state.rows, state.heard, state.refit = [], 0, _LEAST
            elif rested is not None:
                _learn(state, state.flock.members[rested])
        state.panel.apply(self.sampler, events)
        return state

    def ask(self, state: Pb2State, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """New members until all places are taken, then exploitation and exploration of those that rest."""
        flock = state.flock
        actions: list[Action] = [Pause(trial) for trial in flock.late]
        if slots == 0:
            return tuple(actions)
        moves = flock.plan(slots, self.share, "truncation", rng, slots)
        new = sum(m.kind == "new" for m in moves)
        wishes = state.panel.ask(self.sampler, new, rng) if new else []
        if len(wishes) < new:
            moves = flock.plan(slots, self.share, "truncation", rng, len(wishes))
        under_way = [m for m in flock.members.values() if not m.resting]
        awaited = [(m.config, float(m.target / flock.interval)) for m in under_way]
        for move in moves:
            if move.kind == "new":
                wish = wishes.pop(0)
                actions.append(Start(wish.config, move.until, wish.parent, wish.why))
            elif move.donor is None:
                assert move.trial is not None
                awaited.append((flock.members[move.trial].config, move.until / flock.interval))
                actions.append(flock.accepted(move, rng))
            else:
                config, why = self._explored(state, move.donor, move.until / flock.interval, awaited, rng)
                awaited.append((config, move.until / flock.interval))
                actions += flock.replaced(move, config, **why)
        return tuple(actions)

    def _explored(
        self,
        state: Pb2State,
        donor: int,
        time: float,
        awaited: Sequence[tuple[dict[str, Any], float]],
        rng: np.random.Generator,
    ) -> tuple[dict[str, Any], dict[str, float]]:
        """The most promising configuration for a copy, and what the model believes of it."""
        space, config = state.flock.problem.space, state.flock.members[donor].config
        row = explored(space, config, rng, resample=self.resample, fixed=self.fixed)
        free = ~np.isnan(row) & ~space.layout.categorical
        free[list(settled(space, {e.name for e in space.entries} & set(self.fixed)))] = False
        if len(state.rows) < _LEAST or not free.any():
            return space.decode(row), {}
        drift = _model(state, space, awaited)
        width = math.sqrt(0.2 + max(0.0, math.log(0.4 * len(state.rows))))
        row, mean, deviation = _most_promising(drift, space, row, free, time, width, rng)
        return space.decode(row), {"gain": mean, "deviation": deviation}


def _learn(state: Pb2State, member: Member) -> None:
    """Records by how much the loss fell in a segment; one that diverged counts as NaN, the worst."""
    flock = state.flock
    codes = flock.problem.space.project(member.config)
    if member.base is None or member.result is None or codes is None or not math.isfinite(member.base[-1]):
        return
    gain = member.base[-1] - member.result[-1]
    time = member.rest / flock.interval
    state.rows.append((codes, time, gain if math.isfinite(gain) else math.nan))
    del state.rows[:-_WINDOW]
    state.heard += 1
    if state.heard >= state.refit:
        state.refit = max(state.heard + 1, int(_GROWTH * state.heard))
        state.hyper = learn(*_table(state, flock.problem.space))


def _ordered(space: Space, rows: FloatArray) -> FloatArray:
    """What the model sees of codes ``(n, d)``: columns with an order, inactive ones as average."""
    seen: FloatArray = np.nan_to_num(rows[:, ~space.layout.categorical], nan=0.5)
    return seen


def _table(state: Pb2State, space: Space) -> tuple[FloatArray, FloatArray, FloatArray]:
    codes = np.array([c for c, _, _ in state.rows]).reshape(len(state.rows), space.d)
    times = np.array([t for _, t, _ in state.rows])
    gains = np.array([g for _, _, g in state.rows])
    return _ordered(space, codes), times, gains


def _model(state: Pb2State, space: Space, awaited: Sequence[tuple[dict[str, Any], float]]) -> Drift:
    drift = condition(state.hyper, *_table(state, space))
    rows = [(codes, t) for config, t in awaited if (codes := space.project(config)) is not None]
    pending = np.array([c for c, _ in rows]).reshape(len(rows), space.d)
    return awaiting(drift, _ordered(space, pending), np.array([t for _, t in rows]))


def _most_promising(
    drift: Drift,
    space: Space,
    row: FloatArray,
    free: NDArray[np.bool_],
    time: float,
    width: float,
    rng: np.random.Generator,
) -> tuple[FloatArray, float, float]:
    """The allowed codes with the highest upper confidence bound that differ from ``row`` in ``free`` columns only."""
    pool = np.repeat(row[None, :], _SPREAD, axis=0)
    pool[1:, free] = rng.random((_SPREAD - 1, int(free.sum())))
    pool = space.snap(pool)
    bound = _bound(drift, _ordered(space, pool), time, width)
    for _ in range(_ROUNDS):
        best = pool[int(np.argmax(bound))]
        near = np.repeat(best[None, :], _NEAR, axis=0)
        near[:, free] += rng.normal(0.0, _WIDTH, (_NEAR, int(free.sum())))
        near = space.snap(np.clip(near, 0.0, 1.0))
        pool = np.vstack([pool, near])
        bound = np.concatenate([bound, _bound(drift, _ordered(space, near), time, width)])
    order = np.argsort(-bound, kind="stable")
    allowed = (i for i in order[:_TRIED] if space.feasible(space.decode(pool[i])))
    first = next(allowed, None)
    chosen = space.repair(pool[order[:1]], rng)[0] if first is None else pool[first]
    mean, deviation = predict(drift, _ordered(space, chosen[None, :]), time)
    return chosen, float(mean[0]), float(deviation[0])


def _bound(drift: Drift, x: FloatArray, time: float, width: float) -> FloatArray:
    mean, deviation = predict(drift, x, time)
    return mean + width * deviation
