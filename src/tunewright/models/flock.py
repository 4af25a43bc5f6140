"""A population of trainings: who is in it, who rests with which result, and who should begin from whose weights.

The one engine behind population-based training. It folds events, keeps one entry per member, and answers what to do
with a free worker; which parameters a copy gets is up to the scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tunewright.core.algorithm import Resume, Start, Stop
from tunewright.core.events import (
    Amended,
    Edited,
    Ended,
    Event,
    Extended,
    Paused,
    Reported,
    Resumed,
    Signalled,
    Started,
)
from tunewright.core.problem import Fidelity, Problem
from tunewright.models.explore import kept
from tunewright.numerics.ranking import best_first

Selection = Literal["truncation", "tournament"]
Result = tuple[float, ...]

_LOSSES = 2


@dataclass(slots=True)
class Member:
    """A trial that is not over, or may go on since trainings were made longer.

    Attributes:
        config: Its parameters.
        rest: Step at which it last rested, or that it was forked at.
        target: Step at which its present segment ends.
        parent: Trial whose weights it began with, or None.
        latest: Newest ``(violation, loss of each objective)``; infinite when it diverged, None before the first.
        result: The same at its last rest: the result of its checkpoint. None before its first rest.
        base: Result of the weights that its last segment began with, where known.
        resting: Whether it is paused.
        lost: Copies of it that failed before their first rest, since it rested last.
        generation: Members are compared with, and copied from, their own.
        over: Whether it was trained to what was the end then; only a fork of it can go on.
    """

    config: dict[str, Any]
    rest: int
    target: int
    parent: int | None = None
    latest: Result | None = None
    result: Result | None = None
    base: Result | None = None
    resting: bool = False
    lost: int = 0
    generation: int = 0
    over: bool = False

    @property
    def sound(self) -> bool:
        """Whether its checkpoint has a finite result."""
        return self.result is not None and math.isfinite(self.result[-1])


@dataclass(frozen=True, slots=True)
class Move:
    """What to do with one free worker.

    Attributes:
        kind: ``resume`` a member, ``continue`` one that is over by a fork that is the same, ``fork`` a donor, or begin a
            ``new`` one.
        trial: The member that goes on, or whose place the copy takes; None for a place that is empty.
        donor: The member that is copied.
        until: Step at which the segment ends.
        rank: Place of the trial among those compared, best 0; None when it was not compared.
        of: How many were compared.
    """

    kind: Literal["resume", "continue", "fork", "new"]
    trial: int | None = None
    donor: int | None = None
    until: int = 0
    rank: int | None = None
    of: int = 0


@dataclass(slots=True)
class Flock:
    """Members and their places; a fold over events, O(1) each.

    Args:
        problem: The problem, with the newest version of its space.
        fidelity: Its steps.
        size: Places.
        interval: Steps between rests.

    Attributes:
        members: Trials that are not over, or may go on, by number.
        ready: Members that rest at the end of their segment, in order of arrival.
        cut: Members paused short of that.
        late: Running trials that were not given a segment and should rest by now.
        formers: Trials that were completed before what is the end now.
        generation: Number of the newest generation.
        taken: Places taken so far in it.
        vacant: Those among them whose trial failed or was stopped.
    """

    problem: Problem
    fidelity: Fidelity
    size: int
    interval: int
    members: dict[int, Member] = field(default_factory=dict)
    ready: dict[int, None] = field(default_factory=dict)
    cut: dict[int, None] = field(default_factory=dict)
    late: dict[int, None] = field(default_factory=dict)
    formers: dict[int, Member] = field(default_factory=dict)
    generation: int = 0
    taken: int = 0
    vacant: int = 0

    def next_rest(self, step: int) -> int:
        """Step at which a segment from ``step`` ends."""
        return min(step + self.interval, self.fidelity.high)

    def apply(self, event: Event) -> int | None:
        """Takes in one event; returns the member that came to rest by it with a result, if one did."""
        if isinstance(event, Edited):
            self.problem = self.problem.revised(event.space)
        elif isinstance(event, Extended):
            self._reopen(event.before)
        elif isinstance(event, Started):
            self._start(event)
        elif not isinstance(event, Reported | Paused | Resumed | Ended | Amended | Signalled):
            return None
        elif event.trial in self.members:
            return self._follow(event, self.members[event.trial])
        return None

    def _start(self, event: Started) -> None:
        step = event.parent[1] if event.parent is not None else 0
        member = Member(event.config, step, event.until or self.fidelity.high)
        if event.parent is None or not step:
            self._take_place()
            member.generation = self.generation
        else:
            member.parent = event.parent[0]
            donor = self.members.get(member.parent)
            member.generation = self.generation if donor is None else donor.generation
            if donor is not None and donor.rest == step:
                member.base = donor.result
            # One that is over cannot be stopped: who takes its place says so.
            why = event.why or {}
            left = why.get("continues", why.get("replaces"))
            if left in self.members and self.members[left].over:
                self._leave(left)
            elif self.vacant and member.generation == self.generation:
                self.vacant -= 1
        self.members[event.trial] = member

    def _reopen(self, before: int) -> None:
        """Those that were trained to the former end are members again."""
        for trial in [t for t, m in self.formers.items() if m.rest == before]:
            self.members[trial] = self.formers.pop(trial)
            self.ready[trial] = None

    def _leave(self, trial: int) -> None:
        for those in (self.ready, self.cut, self.late):
            those.pop(trial, None)
        del self.members[trial]

    def _take_place(self) -> None:
        if self.taken < self.size:
            self.taken += 1
        elif self.vacant:
            self.vacant -= 1
        else:
            self.generation += 1
            self.taken, self.vacant = 1, 0

    def _follow(
        self, event: Reported | Paused | Resumed | Ended | Amended | Signalled, member: Member
    ) -> int | None:
        if isinstance(event, Reported):
            self._measure(member, event.metrics, event.bad)
            if event.step >= self.next_rest(member.rest) and member.target > event.step:
                self.late[event.trial] = None
        elif isinstance(event, Paused):
            return self._pause(event, member)
        elif isinstance(event, Resumed):
            self.ready.pop(event.trial, None)
            self.cut.pop(event.trial, None)
            member.resting, member.target = False, event.until or self.fidelity.high
        elif isinstance(event, Ended):
            return self._end(event, member)
        elif isinstance(event, Amended):
            member.config = event.config
        else:
            self.late.pop(event.trial, None)
        return None

    def _measure(self, member: Member, metrics: dict[str, float], bad: dict[str, str] | None) -> None:
        problem = self.problem
        losses = problem.losses(metrics)
        if losses is not None:
            member.latest = (problem.violation(metrics) if problem.limits else 0.0, *losses)
        elif bad and any(o.name in bad for o in problem.objectives):
            member.latest = (math.inf,) * (problem.m + 1)

    def _pause(self, event: Paused, member: Member) -> int | None:
        self.late.pop(event.trial, None)
        member.resting = True
        if event.step < min(member.target, self.next_rest(member.rest)):
            self.cut[event.trial] = None
            return None
        if member.rest < event.step and member.result is not None:
            member.base = member.result
        member.rest, member.result, member.lost = event.step, member.latest, 0
        self.ready[event.trial] = None
        return event.trial if member.result is not None else None

    def _end(self, event: Ended, member: Member) -> int | None:
        newest = member.generation == self.generation
        if event.outcome == "completed":
            # One that never rested was no part of the population: its place is free again.
            self.taken -= newest and member.result is None and member.parent is None
            if member.rest < event.step < self.fidelity.high:
                member.rest, member.result, member.lost = event.step, member.latest, 0
                member.resting = member.over = True
                self.formers[event.trial] = member
        else:
            self.vacant += newest
            donor = self.members.get(member.parent) if member.parent is not None else None
            if donor is not None and member.result is None and event.outcome != "stopped":
                donor.lost += 1
        self._leave(event.trial)
        return None

    # ------------------------------------------------------------------ what to do

    def plan(
        self, slots: int, share: float, selection: Selection, rng: np.random.Generator, able: int
    ) -> list[Move]:
        """What to do with free workers.

        First come segments that were cut, then earlier generations, then empty places, then the newest generation,
        each from the lowest step up; a worker that would be idle begins another generation.

        Args:
            slots: At most so many moves.
            share: Part of a generation at either end, for truncation.
            selection: How a member is judged: among all, or against one other drawn at random.
            rng: Source of randomness.
            able: New configurations that can be had.
        """
        moves = [Move("resume", t, until=self.members[t].target) for t in list(self.cut)[:slots]]
        waiting = sorted(self.ready, key=lambda t: (self.members[t].generation, self.members[t].rest))
        early = [t for t in waiting if self.members[t].generation < self.generation]
        orders = {
            g: self._order(g) for g in {self.members[t].generation for t in waiting} | {self.generation}
        }
        gone: set[int] = set()
        self._judge_all(early, orders, slots, share, selection, rng, gone, moves)
        donors = [t for t in self._donors(orders[self.generation], share) if self.members[t].lost < _LOSSES]
        for place in range(self.vacant + max(0, self.size - self.taken)):
            if len(moves) < slots and place < self.vacant and donors:
                moves.append(self._copy(None, donors[int(rng.integers(len(donors)))]))
            elif len(moves) < slots and able:
                able -= 1
                moves.append(Move("new", until=self.next_rest(0)))
        self._judge_all(waiting[len(early) :], orders, slots, share, selection, rng, gone, moves)
        moves += [Move("new", until=self.next_rest(0))] * min(able, slots - len(moves))
        return moves

    def _judge_all(
        self,
        trials: Sequence[int],
        orders: Mapping[int, list[int]],
        slots: int,
        share: float,
        selection: Selection,
        rng: np.random.Generator,
        gone: set[int],
        moves: list[Move],
    ) -> None:
        """Appends what becomes of members that rest, while there are slots."""
        for trial in trials[: slots - len(moves)]:
            order = orders[self.members[trial].generation]
            move = self._judge(trial, order, share, selection, rng, gone)
            if move.kind == "fork":
                gone.add(trial)
            moves.append(move)

    def accepted(self, move: Move, rng: np.random.Generator) -> Resume | Start:
        """The action by which a member goes on as it is; one that is over does so by a fork."""
        assert move.trial is not None
        member = self.members[move.trial]
        why = None if move.rank is None else {"rank": move.rank, "of": move.of}
        if move.kind == "resume":
            return Resume(move.trial, move.until, why)
        config = kept(self.problem.space, member.config, rng)
        return Start(config, move.until, (move.trial, member.rest), {"continues": move.trial, **(why or {})})

    def replaced(self, move: Move, config: dict[str, Any], **why: float) -> list[Stop | Start]:
        """The actions by which a copy with another configuration begins, in the place of a member if there is one."""
        assert move.donor is not None
        start = Start(
            config, move.until, (move.donor, self.members[move.donor].rest), {"copies": move.donor, **why}
        )
        if move.trial is None:
            return [start]
        assert start.why is not None
        start.why["replaces"] = move.trial
        if self.members[move.trial].over:
            return [start]
        return [Stop(move.trial, None if move.rank is None else {"rank": move.rank, "of": move.of}), start]

    def _order(self, generation: int) -> list[int]:
        """Members of a generation with a result, best first."""
        found = [
            (m.result, t)
            for t, m in self.members.items()
            if m.result is not None and m.generation == generation
        ]
        if self.problem.m == 1 or not found:
            return [t for _, t in sorted(found)]
        table = np.array([r for r, _ in found], dtype=np.float64)
        return [found[i][1] for i in best_first(table[:, 1:], table[:, 0])]

    def _edge(self, n: int, share: float) -> int:
        """How many of ``n`` are at either end: the share, at least one, at most half."""
        return min(max(1, int(share * n + 1e-9)), n // 2)

    def _donors(self, order: Sequence[int], share: float) -> list[int]:
        """The best members that can be copied; those that rest, where there are any, since theirs is the exact step."""
        best = order[: max(1, self._edge(len(order), share))]
        sound = [t for t in best if self.members[t].sound and self.members[t].rest < self.fidelity.high]
        return [t for t in sound if self.members[t].resting] or sound

    def _judge(
        self,
        trial: int,
        order: Sequence[int],
        share: float,
        selection: Selection,
        rng: np.random.Generator,
        gone: set[int],
    ) -> Move:
        member = self.members[trial]
        if member.result is None or len(order) < 2:
            return self._go_on(trial)
        rank, n = order.index(trial), len(order)
        if selection == "tournament" and member.sound:
            others = [t for t in order if t != trial and t not in gone]
            rivals = [others[int(rng.integers(len(others)))]] if others else []
            rivals = [t for t in rivals if order.index(t) < rank and self.members[t].sound]
        else:
            poor = rank >= n - self._edge(n, share) or not member.sound
            rivals = [t for t in self._donors(order, share) if t not in gone] if poor else []
        # Nothing is won by weights that are no better than one's own.
        rivals = [t for t in rivals if t != trial and self.members[t].result != member.result]
        if not rivals:
            return self._go_on(trial, rank, n)
        donor = rivals[int(rng.integers(len(rivals)))]
        return self._copy(trial, donor, rank, n)

    def _go_on(self, trial: int, rank: int | None = None, of: int = 0) -> Move:
        member = self.members[trial]
        kind: Literal["resume", "continue"] = "continue" if member.over else "resume"
        return Move(kind, trial, until=self.next_rest(member.rest), rank=rank, of=of)

    def _copy(self, trial: int | None, donor: int, rank: int | None = None, of: int = 0) -> Move:
        return Move("fork", trial, donor, self.next_rest(self.members[donor].rest), rank, of)
