"""Covariance matrix adaptation with margin: a normal that adapts to the best of each generation, for mixed spaces too.

*Use when* there are some hundred trials or more, many workers, and parameters that depend on each other; or asking must be
fast. *Do not use when* a trial is expensive: below a hundred trials ``Bayes`` finds more.

*Paper*: Hamano, Saito, Nomura and Shirakawa 2022 (GECCO, arXiv:2205.13482), Algorithm 1, on Hansen 2016 (arXiv:1604.00772);
options without order as in Hamano et al. 2024 (CatCMA, arXiv:2405.09962); restarts with twice the trials per generation as
in Auger and Hansen 2005 (IPOP, CEC).

*Differs*: asynchronous: a generation is the next so many trials that end, whichever distribution they were drawn from, and
free workers draw more. Draws outside a range are repeated up to ten times, then cut, and learned from as evaluated. Inactive
parameters keep the value that was drawn for them. Failed trials carry no weight. Several objectives are ranked by front and
crowding. The mean starts at the guesses, with a smaller step there. Configurations from elsewhere count as injected
solutions. Integers with too many values to list count as continuous. No negative weights.

*Cost*: tell O(d) per event and O(d^3) at the end of a generation; ask O(d^2). With more than 100 numbers both are O(d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, generator
from tunewright.core.columns import Layout
from tunewright.core.events import Amended, Edited, Event, Started
from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models import cma
from tunewright.models.population import ATTEMPTS, Population, best_first, lost, starts

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_PURPOSE = 0xC3A
_REDRAWS = 10
_NARROWEST = 1e-7
_FLATTEST = 1e-12
_LARGEST = 8
_WORST_CONDITION = 1e14
_CLOSE = 1e-9


@dataclass(slots=True)
class CmaState:
    """What ``Cmaes`` remembers.

    Attributes:
        population: The trials.
        size: Trials per generation.
        restarts: Number of restarts so far.
        normal: Distribution of the numbers and ordered levels; None where there are none.
        options: Distribution of the parameters without order; None where there are none.
        drawn: Number of restarts before it, and point before rounding ``(d,)``, of each trial not yet counted.
        arrived: Trials of the present generation that ended.
        points: Their points before rounding, each ``(d,)``.
        bests: Lowest loss of each generation since the restart.
    """

    population: Population
    size: int
    restarts: int = 0
    normal: cma.Normal | None = None
    options: cma.Options | None = None
    drawn: dict[int, tuple[int, FloatArray]] = field(default_factory=dict)
    arrived: list[int] = field(default_factory=list)
    points: list[FloatArray] = field(default_factory=list)
    bests: list[float] = field(default_factory=list)


def _point(state: CmaState, number: int, attempt: int) -> FloatArray:
    """What the distribution draws for a trial, codes ``(d,)`` before rounding; the same each time it is called."""
    problem = state.population.history.problem
    layout = problem.space.layout
    rng = generator(problem.seed, number * ATTEMPTS + attempt, _PURPOSE)
    out = np.empty(layout.d)
    if state.normal is not None:
        tries = rng.standard_normal((_REDRAWS, len(state.normal.mean)))
        point = state.normal.draw(tries[0])
        for z in tries[1:]:
            if (point >= 0.0).all() and (point <= 1.0).all():
                break
            point = state.normal.draw(z)
        out[~layout.categorical] = np.clip(point, 0.0, 1.0)
    if state.options is not None:
        picks = state.options.draw(rng.random(len(state.options.chances)))
        out[layout.categorical] = (picks + 0.5) / layout.levels[layout.categorical]
    return out


def _remember(state: CmaState, trial: int) -> None:
    """Keeps the point that a trial was rounded from, or its codes where it came from elsewhere."""
    history = state.population.history
    space = history.problem.space
    codes = history.codes[trial]
    if not space.d or np.isnan(codes).all():
        return
    found = point = _point(state, trial, 0)
    for attempt in range(ATTEMPTS):
        point = _point(state, trial, attempt) if attempt else point
        if _same(space.snap(point[None])[0], codes).all():
            found = point
            break
    stay = _same(space.snap(found[None])[0], codes) & (space.layout.levels > 0)
    state.drawn[trial] = (state.restarts, np.where(stay | np.isnan(codes), found, codes))


def _same(a: FloatArray, b: FloatArray) -> NDArray[np.bool_]:
    """Where codes agree or the second is inactive."""
    return np.isnan(b) | (np.abs(a - b) < _CLOSE)


def _beginning(space: Space) -> tuple[FloatArray, float, list[FloatArray]]:
    """Mean of every column ``(d,)``, share of guessed numbers, and chances of the options: the middle, or the guesses."""
    layout = space.layout
    mean, trust = np.full(space.d, 0.5), np.zeros(space.d)
    chances: list[FloatArray] = []
    for j, column in enumerate(space.columns):
        k = int(layout.levels[j])
        q = np.full(max(k, 1), 1.0 / max(k, 1))
        domain = column.domain
        if domain.guess is not None:
            mean[j] = domain.coder()[0](domain.guess)
            trust[j] = domain.confidence
            q *= 1.0 - domain.confidence
            q[min(int(mean[j] * len(q)), len(q) - 1)] += domain.confidence
        if layout.categorical[j]:
            chances.append(q)
    numbers = trust[~layout.categorical]
    return mean, float(numbers.mean()) if len(numbers) else 0.0, chances


@dataclass(frozen=True, slots=True)
class Cmaes:
    """Covariance matrix adaptation evolution strategy with margin.

    Args:
        size: Trials per generation; 0 takes ``4 + 3 log(d)``.
        sigma: First step size, as a share of the range of every parameter.
        margin: Whether neighbouring levels and rare options keep a chance; without it, numbers are merely rounded.
        restart: Whether a converged search begins again elsewhere, with twice the trials per generation.

    Raises:
        ConfigError: If a setting is out of range.
    """

    size: int = 0
    sigma: float = 0.3
    margin: bool = True
    restart: bool = True

    def __post_init__(self) -> None:
        if self.size < 0 or self.size in (1, 2, 3) or not 0.0 < self.sigma <= 1.0:
            raise ConfigError(
                f"Cmaes needs size >= 4 (or 0) and 0 < sigma <= 1; got size={self.size}, sigma={self.sigma}. "
                f"Use the defaults."
            )

    def init(self, problem: Problem) -> CmaState:
        """The state before the first event."""
        state = CmaState(Population(History(problem)), 0)
        self._begin(state)
        return state

    def tell(self, state: CmaState, events: Sequence[Event]) -> CmaState:
        """Takes in events; a full generation updates the distribution."""
        for event in events:
            back = state.population.take(event)
            if isinstance(event, Started | Amended):
                _remember(state, event.trial)
            elif isinstance(event, Edited):
                state.drawn, state.restarts = {}, 0
                self._begin(state)
            elif back is not None:
                epoch, point = state.drawn.pop(back, (-1, None))
                if epoch == state.restarts and point is not None:
                    state.arrived.append(back)
                    state.points.append(point)
                    if len(state.arrived) >= state.size:
                        self._learn(state)
        return state

    def ask(self, state: CmaState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Draws from the present distribution, one per slot."""
        why = {"restart": float(state.restarts)}
        if state.normal is not None:
            why["sigma"] = round(state.normal.sigma, 6)
        return starts(
            state.population.history, slots, rng, lambda number, attempt: _point(state, number, attempt), why
        )

    def _begin(self, state: CmaState) -> None:
        """Sets the first distribution of a restart."""
        problem = state.population.history.problem
        space = problem.space
        numbers = ~space.layout.categorical
        d = int(numbers.sum())
        mean, trust, chances = _beginning(space)
        if state.restarts and d:
            rng = generator(problem.seed, state.restarts, _PURPOSE + 1)
            fresh = space.sample(rng, 1)[0]
            mean, trust = np.where(np.isnan(fresh), 0.5, fresh), 0.0
        base = self.size or 4 + int(3 * log(max(space.d, 1)))
        state.size = base * min(2**state.restarts, _LARGEST)
        state.normal = cma.normal(mean[numbers], self.sigma * (1.0 - 0.7 * trust)) if d else None
        state.options = cma.options(chances) if chances else None
        state.arrived, state.points, state.bests = [], [], []
        self._correct(state, space.layout)

    def _correct(self, state: CmaState, layout: Layout) -> None:
        if self.margin and state.normal is not None:
            numbers = ~layout.categorical
            cma.keep_margin(state.normal, layout.levels[numbers], 1.0 / (layout.d * state.size))

    def _learn(self, state: CmaState) -> None:
        """Updates the distribution by a full generation."""
        history = state.population.history
        layout = history.problem.space.layout
        place = {t: i for i, t in enumerate(state.arrived)}
        order = best_first(history, state.arrived)
        order = order[~lost(history, order)]
        points = np.array([state.points[place[t]] for t in order.tolist()]).reshape(-1, layout.d)
        state.arrived, state.points = [], []
        if not len(order):
            return
        numbers = ~layout.categorical
        rate = cma.rates(max(int(numbers.sum()), 1), state.size)
        points = points[: len(rate.weights)]
        weights = rate.weights[: len(points)] / rate.weights[: len(points)].sum()
        if state.normal is not None:
            state.normal = cma.update(state.normal, points[:, numbers], rate)
            self._correct(state, layout)
        if state.options is not None:
            k = layout.levels[~numbers]
            picks = np.minimum((points[:, ~numbers] * k).astype(np.int64), k - 1)
            state.options = cma.update_options(state.options, picks, weights)
        state.bests.append(float(history.loss[order[0]]))
        if self.restart and state.normal is not None and _is_over(state, state.normal, layout):
            state.restarts += 1
            self._begin(state)


def _is_over(state: CmaState, normal: cma.Normal, layout: Layout) -> bool:
    """Whether the distribution has collapsed, lost its shape, or led nowhere for long.

    Source: Hansen 2016, appendix B.3 (TolX, TolFun, ConditionCov).
    """
    free = layout.levels[~layout.categorical] == 0
    if free.any() and float(normal.spread[free].max()) < _NARROWEST:
        return True
    if normal.condition > _WORST_CONDITION:
        return True
    patience = 10 + -(-30 * len(normal.mean) // state.size)
    recent = state.bests[-patience:]
    if len(recent) < patience or state.population.history.problem.m > 1:
        return False
    return max(recent) - min(recent) <= _FLATTEST * max(abs(min(recent)), 1e-300)
