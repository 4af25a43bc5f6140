"""Takes every decision in the log again, from the log alone, and compares: the proof that nothing else mattered."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from tunewright.core.algorithm import Action, Algorithm, Resume, Start, Stop, generator
from tunewright.core.closing import closed
from tunewright.core.events import Ended, Event, Extended, Noted, Record, Resumed, Signalled, Started
from tunewright.core.problem import Problem
from tunewright.core.trial import Ledger
from tunewright.errors import ReplayMismatch
from tunewright.store.base import Store

Build = Callable[[str], Algorithm[Any] | None]
_OTHERS = frozenset({"retry", "finish", "queue", "user", "defaults", "define-by-run"})


class Replay(msgspec.Struct, frozen=True):
    """What a replay found.

    Attributes:
        records: Length of the log.
        decisions: Decisions in it.
        verified: Those taken again and found the same.
        skipped: Those of people, the queue and the retry policy, which follow from the log by rule, those of
            methods that cannot be rebuilt here, and those after a record that was lost and mended.
    """

    records: int
    decisions: int
    verified: int
    skipped: int


class _Mind:
    """One method, folded up to a position of the log."""

    def __init__(self, algorithm: Algorithm[Any], problem: Problem) -> None:
        self.algorithm = algorithm
        # A run that had all its trials let the method continue some only; the log does not say how many were allowed.
        shut = closed(algorithm)
        self.moods = (algorithm,) if shut is algorithm else (shut, algorithm)
        self.problem = problem
        self.state = algorithm.init(problem)
        self.told = 0

    def hear(self, news: list[Event], upto: int) -> None:
        """Learns the news up to a position; all of them anew when full trainings became longer."""
        fresh = news[self.told : upto]
        longer = [e.high for e in fresh if isinstance(e, Extended)]
        if longer:
            self.state = self.algorithm.init(self.problem.extended(longer[-1]))
            fresh = news[:upto]
        if fresh:
            self.state = self.algorithm.tell(self.state, fresh)
        self.told = max(self.told, upto)


def replay(store: Store, study: int, problem: Problem, build: Build, *, block: int = 20_000) -> Replay:
    """Reads the log once and takes each decision again at the position its decider had folded.

    Args:
        store: Where the log lives.
        study: Key of the study.
        problem: The problem as the study was created with.
        build: Makes the method of a given name; None when it cannot be rebuilt here.
        block: Records read at a time.

    Raises:
        ReplayMismatch: At the first decision that differs, with both.
    """
    ledger = Ledger(problem)
    news: list[Event] = []
    positions: list[tuple[int, int]] = [(0, 0)]
    counts = {0: 0}
    minds: dict[str, _Mind | None] = {}
    verified = skipped = 0
    mended = False
    pending: list[Record] = []
    after = 0
    while records := store.read(study, after, block):
        for record in records:
            event = record.event
            if not mended and _mended(event):
                mended, pending = True, []
            if pending and not _continues(pending, event):
                verified += _verify(pending, minds, news, positions, counts, build, problem)
                pending = []
            if isinstance(event, Started | Resumed | Signalled):
                if mended or event.by in _OTHERS or _mind(minds, event.by, build, problem) is None:
                    skipped += 1
                else:
                    pending.append(record)
            if ledger.apply(record):
                news.append(event)
            positions.append((record.seq, len(news)))
            counts[record.seq] = ledger.decisions
        after = records[-1].seq
    if pending:
        verified += _verify(pending, minds, news, positions, counts, build, problem)
    return Replay(after, verified + skipped, verified, skipped)


def _mended(event: Event) -> bool:
    """Whether an event takes the place of one that was lost; what was decided later may have rested on that."""
    if isinstance(event, Noted):
        return event.topic == "damaged"
    return isinstance(event, Started | Resumed) and event.by == "repair"


def _continues(pending: list[Record], event: Event) -> bool:
    """Whether an event belongs to the same decision as those before it: same basis, or the end of a paused trial."""
    first: Any = pending[0].event
    if isinstance(event, Started | Resumed | Signalled):
        return (
            event.basis == first.basis
            and event.by == first.by
            and not isinstance(pending[-1].event, Started | Resumed)
        )
    return (
        isinstance(event, Ended)
        and isinstance(pending[-1].event, Signalled)
        and event.trial == pending[-1].event.trial
    )


def _mind(minds: dict[str, _Mind | None], name: str, build: Build, problem: Problem) -> _Mind | None:
    if name not in minds:
        algorithm = build(name)
        minds[name] = _Mind(algorithm, problem) if algorithm is not None else None
    return minds[name]


def _verify(
    pending: list[Record],
    minds: dict[str, _Mind | None],
    news: list[Event],
    positions: list[tuple[int, int]],
    counts: dict[int, int],
    build: Build,
    problem: Problem,
) -> int:
    decisions: list[Any] = [r.event for r in pending if isinstance(r.event, Started | Resumed | Signalled)]
    basis = decisions[0].basis
    mind = _mind(minds, decisions[0].by, build, problem)
    assert mind is not None
    upto = positions[basis][1]
    mind.hear(news, upto)
    opens = any(isinstance(d, Started | Resumed) for d in decisions)
    actions: tuple[Action, ...] = ()
    for slots, algorithm in itertools.product((1,) if opens else (0, 1), mind.moods):
        actions = algorithm.ask(mind.state, slots, generator(problem.seed, counts[basis]))
        if _agree(actions, decisions):
            return len(decisions)
    raise ReplayMismatch(
        f"A replay must take the decision at position {pending[0].seq} again; the log has {decisions!r:.300}, "
        f"the method now takes {actions!r:.300}. Was the method changed, or its randomness not taken from the study?"
    )


def _agree(actions: tuple[Action, ...], decisions: list[Any]) -> bool:
    """Every logged decision is among the actions, in order; actions that newer facts made pointless were dropped."""
    position = 0
    for decision in decisions:
        while position < len(actions) and not _same(actions[position], decision):
            position += 1
        if position == len(actions):
            return False
        position += 1
    return True


def _same(action: Action, decision: Any) -> bool:
    if isinstance(action, Start):
        return (
            isinstance(decision, Started)
            and _plain(action.config) == _plain(decision.config)
            and (action.until, action.parent) == (decision.until, decision.parent)
        )
    if isinstance(action, Resume):
        return isinstance(decision, Resumed) and (action.trial, action.until) == (
            decision.trial,
            decision.until,
        )
    verdict = "stop" if isinstance(action, Stop) else "pause"
    return isinstance(decision, Signalled) and (action.trial, verdict) == (decision.trial, decision.verdict)


def _plain(config: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Configurations compare by value and type: True is not 1."""
    return [(k, type(v).__name__, v) for k, v in config.items()]
