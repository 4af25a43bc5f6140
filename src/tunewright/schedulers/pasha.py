"""PASHA: asynchronous halving whose longest training grows only while longer training still changes the ranking.

*Use when* a full training is so long that few can be afforded, trials can be resumed, and the number of trials is set: at the
end of the study the best is trained to its full length. *Do not use when* the ranking changes late, since what looks settled
early then stays (``Asha``, ``Hyperband``), or there are several objectives.

*Paper*: Bohdal, Balles, Wistuba, Ermis, Archambeau and Zappella 2023, ICLR, arXiv:2207.06940, Algorithm 1 and section 4.1
(soft ranking with an estimated epsilon).

*Differs*: levels are counted down from the full training, as in ``Asha``; epsilon comes from the first 64 trials that come
to the top rung, each compared with the others when it arrives; the ranking of the top two rungs is checked whenever a trial
arrives, and from 64 trials on whenever they are a few percent more; trials that break a limit have no part in it. A study
that has all its trials, or whose sampler has no more, trains its best trial on to the full length; one that is stopped by
its time ends with partly trained trials.

*Cost*: ``ask`` O(k) for k rungs, plus the sampler's; ``tell`` O(log n) per event, plus the sampler's for each rung; for the
first 64 trials on a top rung O(64 t) for t reports each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Algorithm, Resume, Start
from tunewright.core.events import Ended, Event, Paused, Reported
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem
from tunewright.core.rungs import Ladder, checked_eta, levels, ranked_by_then, share, steps_of
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.numerics.ranking import best_first

Floats = NDArray[np.float64]
Curve = dict[int, float]
"""Loss of one trial by step, ascending."""

_PAIRED = 64


def agrees(below: Floats, above: Floats, epsilon: float) -> bool:
    """Whether two rungs rank trials alike, as far as differences above ``epsilon`` go.

    At every place of the upper ranking must stand a trial whose loss on the lower rung is within ``epsilon`` of the loss of
    the trial at the same place of the lower ranking.

    Args:
        below: Losses on the lower rung, shape ``(n,)``.
        above: Losses of the same trials on the upper rung, shape ``(n,)``.
        epsilon: Difference that means nothing, in the unit of the loss.

    Source: Bohdal et al. 2023, section 4.1.

    Example:
        >>> agrees(np.array([1.0, 2.0, 3.0]), np.array([0.4, 0.3, 0.9]), 1.0)
        True
        >>> agrees(np.array([1.0, 2.0, 3.0]), np.array([0.4, 0.3, 0.9]), 0.5)
        False
    """
    order = np.argsort(above, kind="stable")
    return bool((np.abs(below[order] - np.sort(below)) <= epsilon).all())


def swaps_back(mine: Curve, other: Curve) -> float | None:
    """How far apart two curves end, if their order changed and changed back on the way; None if it did not.

    Such curves cross by noise alone: their difference at the last common step means nothing.

    Source: Bohdal et al. 2023, section 4.1 (criss-crossing curves).
    """
    common = [s for s in mine if s in other]
    if not common:
        return None
    a, b = np.array([mine[s] for s in common]), np.array([other[s] for s in common])
    over = a > b
    same = over == over[-1]
    opposite = np.flatnonzero(~same)
    if not len(opposite) or int(np.argmax(same)) > opposite[-1]:
        return None
    return float(abs(a[-1] - b[-1]))


@dataclass(slots=True)
class PashaState:
    """What ``Pasha`` remembers.

    Attributes:
        ladder: The rungs.
        panel: The sampler, at each level.
        top: Index of the highest rung that trials are promoted to.
        epsilon: Difference of losses that means nothing.
        curves: Losses by step of trials that are not over; empty once the top rung is the last.
        last: Loss of these trials on the highest rung that they came to.
        below: Losses of the trials on the top rung, when they were on the one below.
        above: Losses of the same trials on the top rung.
        paired: Curves of the first of them.
        gaps: Differences of those that criss-crossed.
        growths: Number of trials on the top rung at each time it was raised.
    """

    ladder: Ladder
    panel: Panel
    top: int
    epsilon: float = 0.0
    curves: dict[int, Curve] = field(default_factory=dict)
    last: dict[int, float] = field(default_factory=dict)
    below: list[float] = field(default_factory=list)
    above: list[float] = field(default_factory=list)
    paired: list[Curve] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    growths: list[int] = field(default_factory=list)

    @property
    def grown(self) -> bool:
        """Whether the top rung is the full training."""
        return self.top + 1 == len(self.ladder.rungs)


@dataclass(frozen=True, slots=True)
class Pasha:
    """Asynchronous successive halving with a longest training that grows on demand.

    Args:
        sampler: Proposes configurations.
        eta: One trial in so many is promoted, to as many times the steps.
        percentile: Percentile of the differences of criss-crossing curves that is taken for noise, within [0, 100].

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    eta: float = 3
    percentile: float = 90

    def __post_init__(self) -> None:
        checked_eta("Pasha", self.eta)
        if not 0.0 <= self.percentile <= 100.0:
            raise ConfigError(
                f"Pasha needs a percentile within [0, 100]; got {self.percentile!r}. Use the default, 90."
            )

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> PashaState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, there are several objectives, or the sampler refuses.
        """
        fidelity = steps_of("Pasha", problem)
        if problem.m > 1:
            raise UnsupportedError(
                f"Pasha needs one objective, since it compares rankings by one; got {problem.m}. Use Asha."
            )
        steps = levels(fidelity.low, fidelity.high, self.eta)
        panel = Panel.of(self.sampler, problem, steps)
        return PashaState(Ladder.of(problem, steps, best_first), panel, min(1, len(steps) - 1))

    def tell(self, state: PashaState, events: Sequence[Event]) -> PashaState:
        """Moves trials along the rungs, and raises the top rung when the ranking there has changed."""
        for event in events:
            reached = state.ladder.apply(event)
            if state.grown:
                continue
            if isinstance(event, Reported):
                _remember(state, event)
            if isinstance(event, Reported | Paused):
                for height in reached:
                    self._arrive(state, event.trial, height)
            elif isinstance(event, Ended):
                state.curves.pop(event.trial, None)
                state.last.pop(event.trial, None)
        state.panel.apply(self.sampler, events)
        return state

    def _arrive(self, state: PashaState, trial: int, height: int) -> None:
        """A trial came to a rung. Source: Bohdal et al. 2023, Algorithm 1, lines 6 to 13."""
        violation, loss = state.ladder.climbs[trial].result
        if violation > 0.0 or not math.isfinite(loss):
            state.last.pop(trial, None)
            return
        before = state.last.get(trial)
        state.last[trial] = loss
        if height != state.top or before is None:
            return
        state.below.append(before)
        state.above.append(loss)
        self._pair(state, state.curves.get(trial, {}))
        n = len(state.above)
        if ranked_by_then(n) == n and not agrees(np.array(state.below), np.array(state.above), state.epsilon):
            state.growths.append(n)
            state.top += 1
            state.below, state.above, state.paired, state.gaps = [], [], [], []
            if state.grown:
                state.curves, state.last = {}, {}

    def _pair(self, state: PashaState, curve: Curve) -> None:
        """Compares a curve with those that came to the top rung before it, and estimates epsilon anew."""
        if len(state.paired) >= _PAIRED:
            return
        found = [gap for other in state.paired if (gap := swaps_back(curve, other)) is not None]
        state.paired.append(dict(curve))
        if found:
            state.gaps += found
            state.epsilon = float(np.percentile(state.gaps, self.percentile))

    def ask(self, state: PashaState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Promotions from the rung below the top one down, then new configurations."""
        if slots == 0:
            return ()
        ladder = state.ladder
        actions: list[Action] = list(islice(self._promotions(state), slots))
        if len(actions) < slots:
            first = ladder.rungs[0].level
            wishes = state.panel.ask(self.sampler, slots - len(actions), rng)
            actions += [Start(w.config, first, w.parent, w.why) for w in wishes]
        if not actions and ladder.idle:
            actions += islice(ladder.leftovers(), 1)
        return tuple(actions)

    def _promotions(self, state: PashaState) -> Iterator[Resume | Start]:
        ladder = state.ladder
        for trial, target in ladder.cut.items():
            yield Resume(trial, target)
        for i in range(state.top - 1, -1, -1):
            below, above = ladder.rungs[i], ladder.rungs[i + 1]
            for trial in below.top(share(below.n, self.eta)):
                yield ladder.go_on(trial, above.level, {"rung": below.level, "of": below.n})


def _remember(state: PashaState, event: Reported) -> None:
    losses = state.ladder.problem.losses(event.metrics)
    if losses is not None and event.trial in state.ladder.climbs:
        state.curves.setdefault(event.trial, {})[event.step] = losses[0]
