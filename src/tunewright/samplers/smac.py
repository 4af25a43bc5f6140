"""Sequential model-based algorithm configuration: a random forest of log losses, expected improvement, random trials between.

*Use when* there are many categories, branches or forbidden combinations, losses jump, or there will be some hundred trials.
*Do not use when* there are few smooth parameters and expensive trials; ``Bayes`` needs fewer of them.

*Paper*: Hutter, Hoos and Leyton-Brown 2011 (SMAC, LION 5), Algorithm 1 and section 4, with the expected improvement of
log-normal costs; Lindauer et al. 2022 (JMLR 23, arXiv:2109.09831) for the form without instances: losses on a log scale, a
Sobol design, interleaved random configurations.

*Differs*: one instance, so no racing. All starts of the local search move at once, each to its best neighbour. A forest is
told of awaited trials what it predicts for them, and then grown again. Several objectives are scalarised anew for each
proposal (Knowles 2006); failed trials count as the worst loss, those that exceed an outcome limit as no better. Guesses raise
the score by their log density times belief / n. Beyond 500 trials the forest learns from the best 250 and as many of the
rest, evenly spaced by rank.

*Cost*: tell O(1) per event; ask one forest of 10 trees, O(n d log n), and predictions for some 1,500 configurations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Event
from tunewright.core.history import History
from tunewright.core.novelty import first_new
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models import forest as model
from tunewright.models.acquisition import neighbours
from tunewright.models.belief import log_belief
from tunewright.models.data import training_set
from tunewright.models.design import design_row
from tunewright.numerics.distributions import normal_log_cdf

FloatArray = NDArray[np.float64]

RANDOM = 0.08447232371720552
STEP = 0.2
STEPS = 4
_BELIEF = 10.0
_STARTS = 5
_KNOWN_STARTS = 5
_MOVES = 6
_LARGEST = 500
_PERCENTILE = 5.0
_LEAST_STD = 1e-6
_SAME = 1e-9
_TINY = 1e-16
_SQRT_2 = 2.0**0.5


@dataclass(slots=True)
class SmacState:
    """What ``Smac`` remembers.

    Attributes:
        history: The trials.
    """

    history: History


def log_scaled(losses: FloatArray) -> FloatArray:
    """Logarithm of the losses, moved and scaled to (0, 1]; shape ``(n,)`` with two different values at least.

    The zero lies below the least loss by as much as the fifth percentile lies above it.

    Source: Lindauer et al. 2022 (SMAC3), the encoding of results on a log scale.
    """
    least, most = float(losses.min()), float(losses.max())
    # Half of each first: the difference of two huge losses may not be a number.
    unit = (losses / 2.0 - least / 2.0) / (most / 2.0 - least / 2.0)
    zero = max(float(np.percentile(unit, _PERCENTILE)), _LEAST_STD)
    out: FloatArray = np.log((unit + zero) / (1.0 + zero))
    return out


def log_improvement_of_logs(mean: FloatArray, std: FloatArray, best: float) -> FloatArray:
    """Log of ``E[max(exp(best) - exp(y), 0)]`` for normal ``y``, finite far into the tail; shape ``(q,)``.

    Args:
        mean: Means of log losses, shape ``(q,)``.
        std: Their standard deviations, positive, shape ``(q,)``.
        best: Log loss to improve on.

    Source: Hutter et al. 2011, the criterion ``E[I_exp]``, after Hutter, Hoos, Leyton-Brown and Murphy 2009 (GECCO):
    ``exp(best) cdf(z) - exp(mean + std^2 / 2) cdf(z - std)`` with ``z = (best - mean) / std``.
    """
    from scipy.special import erfcx, ndtr

    z = (best - mean) / std
    near = np.maximum(z, -1.0)
    grown = np.minimum(0.5 * std * std - near * std, 700.0)
    direct = np.log(np.maximum(ndtr(near) - np.exp(grown) * ndtr(near - std), _TINY))
    # The quotient of the two terms is one of Mills ratios, which keep their digits where both terms vanish.
    far = np.minimum(z, -1.0)
    left = 1.0 - erfcx((std - far) / _SQRT_2) / erfcx(-far / _SQRT_2)
    tail = normal_log_cdf(far) + np.log(np.maximum(left, _TINY))
    out: FloatArray = best + np.where(z > -1.0, direct, tail)
    return out


def one_exchange(
    rows: FloatArray, space: Space, rng: np.random.Generator
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Neighbours of rows that differ in one active parameter: every other option, or four normal steps of a number.

    Args:
        rows: Rows of codes, shape ``(k, d)``.
        space: Its levels say which columns have steps.
        rng: Draws the steps, and codes of parameters that a change may switch on.

    Returns:
        Neighbours, not yet repaired, shape ``(q, d)``, and the row that each belongs to, shape ``(q,)``.

    Source: Hutter et al. 2011, section 4.3: normal steps with standard deviation 0.2.
    """
    layout = space.layout
    k, d = rows.shape
    owner, column = np.nonzero(~np.isnan(rows) & ~layout.categorical)
    owner, column = np.repeat(owner, STEPS), np.repeat(column, STEPS)
    filled = np.where(np.isnan(rows), rng.random((k, d)), rows)
    moved = filled[owner]
    here = moved[np.arange(len(owner)), column]
    step = STEP * rng.standard_normal(len(owner))
    levels = layout.levels[column]
    least = np.where(levels > 0, 1.0 / np.maximum(levels, 1), 0.0)
    step = np.where(step < 0.0, -1.0, 1.0) * np.maximum(np.abs(step), least)
    to = here + step
    # A step across an edge goes the other way, so that edges gather no weight.
    to = np.where((to < 0.0) | (to > 1.0), here - step, to)
    moved[np.arange(len(owner)), column] = np.clip(to, 0.0, 1.0)
    beside, owners = [moved], [owner]
    named = np.where(layout.categorical, layout.levels, 0)
    for i in range(k):
        others = neighbours(rows[i], named, layout.categorical, rng)
        beside.append(others)
        owners.append(np.full(len(others), i))
    return np.concatenate(beside), np.concatenate(owners)


@dataclass(frozen=True, slots=True)
class Smac:
    """Sequential model-based optimisation with a random forest.

    Args:
        initial: Trials before the first model: scrambled Sobol points, or draws around the guesses.
        trees: Number of trees.
        candidates: Random configurations compared in every decision, besides those of the local search.

    Raises:
        ConfigError: If a setting is out of range.
    """

    initial: int = 10
    trees: int = 10
    candidates: int = 500

    deliberate = True

    def __post_init__(self) -> None:
        if self.initial < 1 or self.trees < 1 or self.candidates < 1:
            raise ConfigError(
                f"Smac needs initial >= 1, trees >= 1 and candidates >= 1; got initial={self.initial}, "
                f"trees={self.trees}, candidates={self.candidates}. Use the defaults or larger numbers."
            )

    def init(self, problem: Problem) -> SmacState:
        """The state before the first event."""
        return SmacState(History(problem))

    def tell(self, state: SmacState, events: Sequence[Event]) -> SmacState:
        """Takes in events, O(1) each."""
        for event in events:
            state.history.apply(event)
        return state

    def ask(self, state: SmacState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations, each chosen with the earlier ones awaited."""
        history = state.history
        space = history.problem.space
        awaited: list[FloatArray] = list(history.codes[history.pending])
        out: list[Action] = []
        for slot in range(slots):
            number = history.n + slot
            x, losses = training_set(history, rng)
            why: dict[str, float]
            if number < self.initial or len(np.unique(losses)) < 2:
                rows = design_row(history.problem, number, self.initial, rng)[None]
                why = {"design": float(number)}
            elif rng.random() < RANDOM:
                rows, why = space.sample(rng, 1), {"random": 1.0}
            else:
                rows, gain = self._search(space, x, losses, np.reshape(awaited, (len(awaited), space.d)), rng)
                why = {"log_ei": round(gain, 3)}
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, rows, rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _fit(
        self, space: Space, x: FloatArray, y: FloatArray, awaited: FloatArray, rng: np.random.Generator
    ) -> model.Forest:
        if len(y) > _LARGEST:
            order = np.argsort(y, kind="stable")
            half = _LARGEST // 2
            rest = order[half:][np.linspace(0, len(y) - half - 1, half).astype(np.int64)]
            keep = np.concatenate((order[:half], rest))
            x, y = x[keep], y[keep]
        layout = space.layout
        forest = model.fit(x, y, layout.levels, layout.categorical, rng, trees=self.trees, logs=True)
        if len(awaited):
            mean, _ = model.predict(forest, awaited)
            x, y = np.concatenate((x, awaited)), np.concatenate((y, mean))
            forest = model.fit(x, y, layout.levels, layout.categorical, rng, trees=self.trees, logs=True)
        return forest

    def _search(
        self,
        space: Space,
        x: FloatArray,
        losses: FloatArray,
        awaited: FloatArray,
        rng: np.random.Generator,
    ) -> tuple[FloatArray, float]:
        """Configurations by falling log expected improvement on the scale of the losses, and that of the first."""
        y = log_scaled(losses)
        forest = self._fit(space, x, y, awaited, rng)
        prior = log_belief(space)
        best = float(y.min())

        def score(rows: FloatArray) -> FloatArray:
            mean, variance = model.predict(forest, rows)
            gain = log_improvement_of_logs(mean, np.sqrt(np.maximum(variance, _LEAST_STD**2)), best)
            return gain if prior is None else gain + _BELIEF / len(y) * prior(rows)

        rows = space.sample(rng, self.candidates)
        values = score(rows)
        tried = x[np.argsort(losses, kind="stable")[:_KNOWN_STARTS]]
        first = np.argsort(-values, kind="stable")[:_STARTS]
        starts = np.concatenate((space.repair(tried, rng), rows[first]))
        at, reached = starts, score(starts)
        known = np.concatenate((x, awaited))
        for _ in range(_MOVES):
            beside, owner = one_exchange(at, space, rng)
            if not len(beside):
                break
            beside = space.repair(beside, rng)
            gains = score(beside)
            rows, values = np.concatenate((rows, beside)), np.concatenate((values, gains))
            by_owner = np.lexsort((-gains, owner))
            top = by_owner[np.unique(owner[by_owner], return_index=True)[1]]
            climbs = gains[top] > reached[owner[top]]
            if not climbs.any():
                break
            at, reached = beside[top[climbs]], gains[top[climbs]]
        return _new_first(rows, values, known)


def _new_first(rows: FloatArray, values: FloatArray, known: FloatArray) -> tuple[FloatArray, float]:
    """The best few rows that were not tried, best first, and the value of the first; else the best of all."""
    order = np.argsort(-values, kind="stable")[:50]
    gap = np.abs(np.nan_to_num(rows[order], nan=-1.0)[:, None] - np.nan_to_num(known, nan=-1.0))
    new = gap.max(axis=2, initial=0.0).min(axis=1) > _SAME
    kept = order[new] if new.any() else order
    return rows[kept], float(values[kept[0]])
