"""CARBS: local Bayesian search around the front of loss and cost, from cheap trials towards dear ones.

*Use when* good settings are wanted for every budget (a scaling law), cheap trainings tell about dear ones, and a starting point
is known. *Do not use when* all trials cost the same, or the best region may be far from any that was tried (``Bayes``).

*Paper*: Fetterman et al. 2023 (arXiv:2306.08055), section 3: processes of performance, log cost and the Pareto front; candidates
from normal distributions around the members of the front; expected improvement over the front at the candidate's cost, or at
a cost drawn log-uniformly along the front where that is harder to beat, which favours dear trials; times the density of the
search around the nearest member, the probability of success, and an upper bound of the cost; resampling of members.

*Differs*: coordinates are codes, logarithmic where the space is, and the bounds of the space are hard, but the search does not
depend on them: it starts at the guesses, or in the middle, with a radius, and moves as the front does; give wide bounds.
The front is that of the processes' means, and its process is made monotone. The bound of the cost is met with a probability,
not by the mean alone. Options of choices are switched at random and have no density. Awaited trials join the front's
process with their means. Failures are left out of the processes of performance and cost.

*Cost*: ``tell`` O(1) per event; ``ask`` two Gaussian processes of at most 300 rows, one of the front, and 400 candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Event
from tunewright.core.history import History
from tunewright.core.novelty import first_new, is_finite
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models.cost import cost_objective, log_costs
from tunewright.models.data import scalarise
from tunewright.models.kernel import Columns, columns_of
from tunewright.models.metric import Metric, log_feasible, metric_of, outcomes
from tunewright.models.refit import Memo
from tunewright.numerics.distributions import log_normal_improvement, normal_log_cdf
from tunewright.numerics.pareto import nondominated

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_LINE = columns_of(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool))
_GRID = 64
_SWITCH = 0.2
_PATIENCE = 20


@dataclass(frozen=True, slots=True)
class Curve:
    """Loss that the front reaches at a cost, never rising.

    Attributes:
        costs: Log costs, ascending.
        values: Losses in standard units.
    """

    costs: FloatArray
    values: FloatArray

    def at(self, costs: FloatArray) -> FloatArray:
        """At log costs, same shape; constant beyond both ends."""
        return np.asarray(np.interp(costs, self.costs, self.values))


def front_curve(memo: Memo, costs: FloatArray, losses: FloatArray) -> Curve:
    """A process of the front's loss by its log cost, made monotone.

    Args:
        memo: A cache.
        costs: Log costs of the members, shape ``(k,)`` with ``k >= 1``.
        losses: Their losses in standard units, shape ``(k,)``.
    """
    low, span = float(costs.min()), float(np.ptp(costs))
    if len(costs) < 3 or span <= 0.0:
        order = np.argsort(costs, kind="stable")
        return Curve(costs[order], np.minimum.accumulate(losses[order]))
    metric = metric_of(memo, _LINE, ((costs - low) / span)[:, None], losses)
    grid = np.linspace(0.0, 1.0, _GRID)
    mean = metric.shift + metric.scale * metric.predict(grid[:, None])[0]
    # Smoothing must not hide the best that was seen.
    mean = np.maximum(mean, float(losses.min()))
    return Curve(low + span * grid, np.minimum.accumulate(mean))


def centre_of(problem: Problem) -> FloatArray:
    """Codes of the guesses, or the middle where there are none, shape ``(d,)``."""
    codes = [
        0.5 if c.domain.guess is None else float(c.domain.coder()[0](c.domain.guess))
        for c in problem.space.columns
    ]
    return np.array(codes, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Front:
    """Members of the front.

    Attributes:
        codes: Rows of codes, shape ``(k, d)``.
        costs: Log costs, shape ``(k,)``.
        curve: Loss by cost.
    """

    codes: FloatArray
    costs: FloatArray
    curve: Curve


@dataclass(slots=True)
class CarbsState:
    """What ``Carbs`` remembers.

    Attributes:
        history: The trials.
        memo: Hyperparameters already found, by process; a cache.
    """

    history: History
    memo: dict[int, Memo] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Carbs:
    """Cost-aware Pareto-region Bayesian search.

    Args:
        cost: ``"seconds"``, what trials are measured to take, or the name of one of several objectives.
        max_cost: Largest cost wanted, in its unit; None lets the search grow.
        radius: Standard deviation of the search around a member of the front, in codes (the range of a parameter is 1).
        initial: Trials around the starting point before the first model.
        resample: Every so many trials a member of the front is measured again; 0 never.
        candidates: Configurations compared in every decision.

    Raises:
        ConfigError: If a setting is out of range.
    """

    cost: str = "seconds"
    max_cost: float | None = None
    radius: float = 0.1
    initial: int = 5
    resample: int = 5
    candidates: int = 400

    deliberate = True

    def __post_init__(self) -> None:
        fine = 0.0 < self.radius <= 1.0 and self.initial >= 1 and self.candidates >= 1
        if not fine or self.resample < 0 or self.resample == 1:
            raise ConfigError(
                f"Carbs needs radius in (0, 1], initial >= 1, candidates >= 1 and resample 0 or at least 2; got "
                f"radius={self.radius}, initial={self.initial}, candidates={self.candidates}, "
                f"resample={self.resample}. Use the defaults."
            )
        if self.max_cost is not None and not 0.0 < self.max_cost < float("inf"):
            raise ConfigError(
                f"Carbs needs a positive max_cost; got max_cost={self.max_cost}. Leave it out for no limit."
            )

    def init(self, problem: Problem) -> CarbsState:
        """The state before the first event.

        Raises:
            ConfigError: If the cost is not an objective that can be one.
        """
        cost_objective(problem, self.cost)
        return CarbsState(History(problem))

    def tell(self, state: CarbsState, events: Sequence[Event]) -> CarbsState:
        """Takes in events, O(1) each."""
        for event in events:
            state.history.apply(event)
        return state

    def ask(self, state: CarbsState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` configurations: new ones near the front, now and then a member again."""
        history = state.history
        space = history.problem.space
        awaited: list[FloatArray] = list(history.codes[history.pending])
        out: list[Action] = []
        for slot in range(slots):
            number = history.n + slot
            good = outcomes(history)[2]
            if number < self.initial or not space.d or int(good.sum()) < 2:
                wanted = self._design(history, number, rng)
                why = {"design": float(number)}
            else:
                wanted, why = self._model(state, number, np.array(awaited), rng)
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, wanted, rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _design(self, history: History, number: int, rng: np.random.Generator) -> FloatArray:
        """The starting point, then points around it; ever wider when trials keep failing."""
        space = history.problem.space
        if not space.d:
            return space.sample(rng, 1)
        radius = 0.0 if number == 0 else self.radius * (1.0 + number / _PATIENCE)
        return self._near(history, centre_of(history.problem)[None], 1, radius, rng)

    def _near(
        self, history: History, centres: FloatArray, count: int, radius: float, rng: np.random.Generator
    ) -> FloatArray:
        """Rows from normal distributions around some centres, shape ``(count, d)``, repaired."""
        space = history.problem.space
        layout = space.layout
        base = centres[rng.integers(len(centres), size=count)]
        base = np.where(np.isnan(base), rng.random(base.shape), base)
        moved = np.clip(base + radius * rng.standard_normal(base.shape), 0.0, 1.0)
        # A level is a step of its own, however small the radius.
        ordered = (layout.levels > 0) & ~layout.categorical
        step = rng.choice([-1.0, 0.0, 1.0], size=base.shape) / np.maximum(layout.levels, 1)
        small = ordered & (radius * layout.levels < 1.0) & (radius > 0.0)
        moved = np.where(small, np.clip(base + step, 0.0, 1.0), moved)
        switched = rng.random(base.shape) < (_SWITCH if radius > 0.0 else 0.0)
        moved = np.where(layout.categorical, np.where(switched, rng.random(base.shape), base), moved)
        return space.repair(moved, rng)

    def _model(
        self, state: CarbsState, number: int, awaited: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, dict[str, float]]:
        """Rows, best first, and why the first was chosen."""
        history = state.history
        space = history.problem.space
        columns = columns_of(space.layout.levels, space.layout.categorical)
        rows, losses, good = outcomes(history)
        objective = cost_objective(history.problem, self.cost)
        if objective is not None:
            losses = np.delete(losses, objective, axis=1)
        loss = losses[:, 0] if losses.shape[1] == 1 else scalarise(losses, rng)
        x, used = history.codes[rows], rows.copy()
        used[rows] = good
        loss_of = metric_of(state.memo.setdefault(0, {}), columns, x[good], loss[good])
        spent = log_costs(history, used, objective)
        cost_of = metric_of(state.memo.setdefault(1, {}), columns, x[good], spent)
        believed = np.empty((0, 2))
        if len(awaited):
            costs = cost_of.shift + cost_of.scale * cost_of.predict(awaited)[0]
            believed = np.column_stack([loss_of.predict(awaited)[0], costs])
        front = self._front(state, loss_of, spent, x[good], history.violation[used] <= 0.0, believed)
        if self.resample and number % self.resample == self.resample - 1 and not is_finite(space):
            member = _least_measured(front.codes, history.codes)[None]
            # Parameters that came after it was measured have no value yet.
            return self._near(history, member, 1, 0.0, rng), {"again": 1.0}
        if len(awaited):
            loss_of, cost_of = loss_of.given(awaited), cost_of.given(awaited)
        pool = self._near(history, front.codes, self.candidates, self.radius, rng)
        mean, std = loss_of.predict(pool)
        level, spread = cost_of.predict(pool)
        expected = cost_of.shift + cost_of.scale * level
        to_beat = np.minimum(front.curve.at(expected), front.curve.at(self._drawn_cost(front, rng)))
        gain = np.log(std) + log_normal_improvement((to_beat - mean) / std)
        value = gain.copy()
        if self.max_cost is not None:
            value += normal_log_cdf((float(np.log(self.max_cost)) - expected) / (cost_of.scale * spread))
        value += self._log_search(front.codes, pool, space.layout.categorical)
        value += log_feasible(state.memo, columns, history, pool, awaited)
        if not good.all():
            value += self._log_success(state, columns, x, good, pool)
        order = np.argsort(-value, kind="stable")
        first = int(order[0])
        why = {"log_ei": round(float(gain[first]), 3), "log_cost": round(float(expected[first]), 3)}
        return pool[order[:50]], why

    def _drawn_cost(self, front: _Front, rng: np.random.Generator) -> FloatArray:
        """A log cost along the front, shape ``(1,)``: what is cheaper must be as good as the front is there."""
        least, most = float(front.costs.min()), float(front.costs.max())
        if self.max_cost is not None:
            most = max(least, min(most, float(np.log(self.max_cost))))
        return np.array([rng.uniform(least, most)])

    def _front(
        self,
        state: CarbsState,
        loss_of: Metric,
        spent: FloatArray,
        x: FloatArray,
        allowed: NDArray[np.bool_],
        believed: FloatArray,
    ) -> _Front:
        """Members that no allowed trial beats in both the process's mean and the cost; awaited ones are in the curve only."""
        if not allowed.any():
            allowed = np.ones(len(x), dtype=bool)
        points = np.column_stack([loss_of.predict(x[allowed])[0], spent[allowed]])
        members = np.flatnonzero(nondominated(points))
        both = np.concatenate([points[members], believed])
        both = both[nondominated(both)]
        curve = front_curve(state.memo.setdefault(2, {}), both[:, 1], both[:, 0])
        return _Front(x[allowed][members], spent[allowed][members], curve)

    def _log_search(
        self, centres: FloatArray, pool: FloatArray, categorical: NDArray[np.bool_]
    ) -> FloatArray:
        """Log density of the search distribution over its peak: how near the nearest member is, shape ``(q,)``."""
        ordered = np.flatnonzero(~categorical)
        if not len(ordered):
            return np.zeros(len(pool))
        gap = np.nan_to_num(pool[:, None, ordered] - centres[None, :, ordered])
        out: FloatArray = -0.5 * (gap * gap).sum(axis=2).min(axis=1) / self.radius**2
        return out

    def _log_success(
        self, state: CarbsState, columns: Columns, x: FloatArray, good: NDArray[np.bool_], pool: FloatArray
    ) -> FloatArray:
        """Log probability that a trial does not fail, by a process of the outcomes, shape ``(q,)``."""
        model = metric_of(state.memo.setdefault(3, {}), columns, x, np.where(good, 0.0, 1.0))
        mean, std = model.predict(pool)
        return normal_log_cdf((float(model.standard(0.5)) - mean) / std)


def _least_measured(members: FloatArray, tried: FloatArray) -> FloatArray:
    """The row among some that was tried least often, codes ``(d,)``."""
    same = (np.nan_to_num(members[:, None], nan=-1.0) == np.nan_to_num(tried[None], nan=-1.0)).all(axis=2)
    row: FloatArray = members[int(np.argmin(same.sum(axis=1)))]
    return row
