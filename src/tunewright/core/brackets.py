"""The brackets of Hyperband: how many trials are trained how long at each rate of early stopping, and who goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tunewright.core.algorithm import Resume, Start
from tunewright.core.rungs import Ladder, levels


@dataclass(frozen=True, slots=True)
class Plan:
    """One bracket as planned.

    Attributes:
        sizes: Trials on each rung, shape ``(k,)``.
        steps: Steps of each rung, shape ``(k,)``.
    """

    sizes: tuple[int, ...]
    steps: tuple[int, ...]


def brackets(low: int, high: int, eta: float) -> tuple[Plan, ...]:
    """The brackets of one round, the most aggressive first.

    Source: Li et al. 2018, Algorithm 1: ``n = ceil((s_max + 1) eta^s / (s + 1))``, ``n_i = floor(n eta^-i)``.

    Example:
        >>> [(p.sizes, p.steps) for p in brackets(1, 9, 3)]
        [((9, 3, 1), (1, 3, 9)), ((5, 1), (3, 9)), ((3,), (9,))]
    """
    steps = levels(low, high, eta)
    out = []
    for s in range(len(steps) - 1, -1, -1):
        n = math.ceil(len(steps) * eta**s / (s + 1) - 1e-9)
        sizes = tuple(max(1, int(n / eta**i + 1e-9)) for i in range(s + 1))
        out.append(Plan(sizes, steps[-s - 1 :]))
    return tuple(out)


@dataclass(slots=True)
class Bracket:
    """A bracket under way.

    Attributes:
        plan: Its sizes and steps.
        ladder: Its rungs.
        started: Trials begun in it.
        origins: Of each fork in it, the trial that it continues, from the beginning.
    """

    plan: Plan
    ladder: Ladder
    started: int = 0
    origins: dict[int, int] = field(default_factory=dict)

    @property
    def room(self) -> int:
        """Trials still to be begun in it."""
        return self.plan.sizes[0] - self.started

    def promotions(self, pick: Pick) -> Iterator[Resume | Start]:
        """Trials to continue now: of the lowest rung that is complete and has some to give."""
        for trial, target in self.ladder.cut.items():
            yield Resume(trial, target)
        if self.room <= 0:
            yield from self._judged(self.plan.sizes, pick)

    def leftovers(self, pick: Pick) -> Iterator[Resume | Start]:
        """Trials to continue although the first rung has room, because no more will come: the same share of fewer."""
        if self.room > 0:
            n = self.ladder.rungs[0].n
            yield from self._judged(
                tuple(math.ceil(n * k / self.plan.sizes[0]) for k in self.plan.sizes), pick
            )

    def _judged(self, sizes: tuple[int, ...], pick: Pick) -> Iterator[Resume | Start]:
        ladder, plan = self.ladder, self.plan
        for i in range(len(sizes) - 1):
            if ladder.heading[i]:
                return
            going = list(pick(self, sizes, i))
            for trial in going:
                yield ladder.go_on(trial, plan.steps[i + 1], {"rung": plan.steps[i], "of": ladder.rungs[i].n})
            if going:
                return

    def over(self, pick: Pick) -> bool:
        """Whether nothing in it can go on."""
        return self.room <= 0 and self.ladder.idle and next(self.promotions(pick), None) is None


Pick = Callable[[Bracket, tuple[int, ...], int], Iterable[int]]
"""Who goes on: from a bracket, the sizes of its rungs and the index of a complete one to trials that wait there."""


def best_of_rung(bracket: Bracket, sizes: tuple[int, ...], rung: int) -> Iterator[int]:
    """Those that wait among the best of a rung, as many as the next one takes; best first."""
    return bracket.ladder.rungs[rung].top(sizes[rung + 1])
