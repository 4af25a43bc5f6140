"""Hyper-Tune: halving from several first levels, chosen by how far results at each can be trusted, with late promotions.

*Use when* it is not known how early results mean something, and training is dear enough for a model. *Do not use when* a
report must cost less than a millisecond (``Asha``, ``Hyperband``).

*Paper*: Li, Shen, Jiang, Zhang, Li, Liu, Zhang and Cui 2022 (VLDB 15(6), arXiv:2201.06834): bracket selection, section 4.1;
D-ASHA, section 4.2 and Algorithm 1.

*Differs*: the optimiser is any sampler, by default one joint process (``Joint``) instead of the paper's ensemble; no rounds of every bracket at the start: the weights are equal until there is something to judge by, so that a full
training is as rare as it is dear; the highest level with four results is what the lower ones are judged by; several
objectives are weighed at random for the model, and ranked by fronts on the rungs. When the sampler has nothing more to
propose and nothing runs, the best trial is promoted from a rung too small to spare one.

*Cost*: ``ask`` O(k^2) for k levels, plus the sampler's when a trial is begun; ``tell`` O(k) per event, and at every snapshot,
when results have grown by a quarter, the weights anew on the next ``ask``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Algorithm, Resume, Start, generator
from tunewright.core.events import Event, Extended, Started
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem
from tunewright.core.rungs import Ladder, checked_eta, levels, share, steps_of
from tunewright.models.ensemble import learn_levels, processes, trust
from tunewright.models.kernel import columns_of
from tunewright.models.staged import Staged
from tunewright.numerics.ranking import best_first

FloatArray = NDArray[np.float64]

_ROWS = 300
_PURPOSE = 8


@dataclass(slots=True)
class HypertuneState:
    """What ``Hypertune`` remembers.

    Attributes:
        staged: Losses by level.
        ladders: Rungs of each bracket, the one that starts lowest first.
        panel: The sampler.
        member: Bracket of each trial that is not over.
        trust: Weights of the levels found on the present snapshot, by its content; a cache, not a fact.
    """

    staged: Staged
    ladders: list[Ladder]
    panel: Panel
    member: dict[int, int] = field(default_factory=dict)
    trust: dict[tuple[bytes, bytes], FloatArray] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Hypertune:
    """Brackets chosen by learned weights, and delayed asynchronous halving in each.

    Args:
        sampler: Proposes configurations.
        eta: One trial in so many is promoted, to as many times the steps.

    Raises:
        ConfigError: If ``eta`` is out of range.
    """

    sampler: Algorithm[Any]
    eta: float = 3

    deliberate = True

    def __post_init__(self) -> None:
        checked_eta("Hypertune", self.eta)

    def init(self, problem: Problem) -> HypertuneState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, or the sampler refuses the problem.
        """
        fidelity = steps_of("Hypertune", problem)
        steps = levels(fidelity.low, fidelity.high, self.eta)
        ladders = [Ladder.of(problem, steps[i:], best_first) for i in range(len(steps))]
        return HypertuneState(Staged(problem, steps, _ROWS), ladders, Panel.of(self.sampler, problem, steps))

    def tell(self, state: HypertuneState, events: Sequence[Event]) -> HypertuneState:
        """Moves trials along the rungs of their brackets; the sampler learns the results."""
        steps = state.staged.steps
        for event in events:
            state.staged.apply(event)
            if isinstance(event, Started):
                own = steps.index(event.until) if event.until in steps else len(steps) - 1
                # A trial that goes on, since trainings became longer, stays in its bracket.
                parent = event.parent[0] if event.parent is not None else -1
                state.member[event.trial] = next(
                    (i for i, ladder in enumerate(state.ladders) if parent in ladder.formers), own
                )
            elif isinstance(event, Extended):
                for ladder in state.ladders:
                    ladder.apply(event)
            trial = getattr(event, "trial", None)
            bracket = state.member.get(trial) if isinstance(trial, int) else None
            if trial is not None and bracket is not None:
                ladder = state.ladders[bracket]
                ladder.apply(event)
                if trial not in ladder.climbs:
                    del state.member[trial]
        state.panel.apply(self.sampler, events)
        return state

    def ask(self, state: HypertuneState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Promotions to the highest levels first, then new configurations, each in a bracket drawn by weight."""
        if slots == 0:
            return ()
        actions: list[Action] = list(islice(self._promotions(state), slots))
        if len(actions) < slots:
            steps = state.staged.steps
            wishes = state.panel.ask(self.sampler, slots - len(actions), rng)
            places = rng.choice(len(steps), size=len(wishes), p=self.weights(state))
            actions += [
                Start(w.config, steps[i], w.parent, w.why)
                for w, i in zip(wishes, places.tolist(), strict=True)
            ]
        if not actions and all(ladder.idle for ladder in state.ladders):
            actions += islice(_leftover(state.ladders), 1)
        return tuple(actions)

    def weights(self, state: HypertuneState) -> FloatArray:
        """Chance of each first level: how far it can be trusted, over its steps; shape ``(k,)``, summing to 1.

        Source: Li et al. 2022, section 4.1, ``w_i = c_i theta_i``.
        """
        staged = state.staged
        space = staged.history.problem.space
        snapshot = staged.snapshot
        codes = staged.history.codes[snapshot.trials]
        theta = np.ones(len(staged.steps))
        if len(snapshot.trials) and space.d:
            key = (codes.tobytes(), snapshot.losses.tobytes())
            if key not in state.trust:
                columns = columns_of(space.layout.levels, space.layout.categorical)
                found = processes(columns, learn_levels(staged, columns), codes, snapshot.losses)
                rng = generator(staged.history.problem.seed, len(snapshot.trials), _PURPOSE)
                state.trust.clear()
                state.trust[key] = trust(found, codes, snapshot.losses, rng)
            theta = state.trust[key] if state.trust[key].any() else theta
        raw = theta / np.array(staged.steps, dtype=np.float64)
        out: FloatArray = raw / raw.sum()
        return out

    def _promotions(self, state: HypertuneState) -> Iterator[Resume | Start]:
        for ladder in state.ladders:
            for trial, target in ladder.cut.items():
                yield Resume(trial, target)
        for top in range(len(state.staged.steps) - 2, -1, -1):
            for bracket, ladder in enumerate(state.ladders[: top + 1]):
                below, above = ladder.rungs[top - bracket], ladder.rungs[top - bracket + 1]
                # Later than in ASHA: only where the next rung would still be at most a share of this one.
                spare = share(below.n, self.eta) - ladder.passed(top - bracket)
                for trial in islice(below.top(share(below.n, self.eta), lagging=True), max(0, spare)):
                    yield ladder.go_on(trial, above.level, {"rung": below.level, "of": below.n})


def _leftover(ladders: list[Ladder]) -> Iterator[Resume | Start]:
    """The best trial of the highest rung where the best one still waits."""
    most = max(len(ladder.rungs) for ladder in ladders)
    for back in range(2, most + 1):
        for ladder in ladders:
            if len(ladder.rungs) >= back:
                below, above = ladder.rungs[-back], ladder.rungs[1 - back]
                for trial in below.top(1):
                    yield ladder.go_on(trial, above.level, {"rung": below.level, "of": below.n})
