"""Random lives of a study, in memory and on a disk or a server at once, against a model written down independently."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from small_server import SmallServer
from tunewright.core.events import (
    Ended,
    Event,
    Interrupted,
    Noted,
    Paused,
    Record,
    Reported,
    Resumed,
    Started,
)
from tunewright.errors import ConflictError, LeaseLost
from tunewright.store.base import Lease, Store
from tunewright.store.http import HttpStore
from tunewright.store.memory import MemoryStore
from tunewright.store.sqlite import SqliteStore

_names = itertools.count()
if TYPE_CHECKING:
    from benchmarks.postgres import Cluster

WORKERS = ["external/a", "external/b", "external/c"]
LEASE = 30.0
which = st.integers(0, 3)
back = st.integers(0, 3)
worker = st.sampled_from(WORKERS)
value = st.sampled_from([0.25, -0.0, 1e308, 5e-324])


class Attempt:
    """The model's idea of one attempt at a trial."""

    def __init__(self, token: int, worker: str, expires: float) -> None:
        self.token, self.worker, self.expires = token, worker, expires
        self.state = "live"
        self.end: tuple[str, float] | None = None


class Stores(RuleBasedStateMachine):
    """Every rule does the same to both stores and to the model, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.folder = Path(tempfile.mkdtemp(prefix="tunewright-laws-"))
        self.memory = MemoryStore(expiring=True, clock=lambda: self.time)
        self.durable = self.open()
        self.studies: list[int] = []
        self.events: list[Event] = []
        self.authors: list[str] = []
        self.trials: list[list[Attempt]] = []

    def open(self) -> Store:
        return SqliteStore(self.folder / "s.db", clock=lambda: self.time)

    @initialize()
    def create(self) -> None:
        # A first study shifts the keys, so that nothing can work by taking the wrong one.
        name = str(next(_names))
        for store in (self.durable, self.memory):
            store.create("before " + name, {})
            self.study = store.create(name, {}).id
            self.studies.append(self.study)

    def both(self, call: Callable[[Store], Any]) -> Any:
        """What both stores answer: a value or the kind of error."""
        answers: list[Any] = []
        for store, key in zip((self.durable, self.memory), self.studies, strict=True):
            self.study = key
            try:
                found = call(store)
            except (LeaseLost, ConflictError) as error:
                found = type(error)
            else:
                if isinstance(found, list) and found and isinstance(found[0], Record):
                    found = [(r.seq, r.worker, r.event) for r in found]
            answers.append(found)
        assert answers[0] == answers[1]
        return answers[0]

    def append(self, events: Sequence[Event], by: str, *, accepted: bool, repeats: bool = False) -> None:
        answer = self.both(lambda s: s.append(self.study, events, worker=by, lease=LEASE))
        if not accepted:
            assert answer is LeaseLost
            note = self.memory.read(self.study)[-1].event
            assert isinstance(note, Noted)
            assert note.topic == "late"
            events = [note]
        elif repeats:
            assert answer == []
            events = []
        else:
            assert [e for _, _, e in answer] == list(events)
        self.events += events
        self.authors += [by] * len(events)

    def pick(self, trial: int, back: int) -> tuple[int, Attempt, bool] | None:
        """A trial, one of its attempts, and whether that is the latest."""
        if not self.trials:
            return None
        number = trial % len(self.trials)
        attempts = self.trials[number]
        index = max(0, len(attempts) - 1 - back)
        return number, attempts[index], index == len(attempts) - 1

    @rule(by=worker)
    def begin(self, by: str) -> None:
        number = len(self.trials)
        self.append([Started(number, {"x": 0.5})], by, accepted=True)
        self.trials.append([Attempt(len(self.events), by, self.time + LEASE)])

    @rule(trial=which, back=back, by=worker)
    def report(self, trial: int, back: int, by: str) -> None:
        if (picked := self.pick(trial, back)) is not None:
            number, attempt, latest = picked
            event = Reported(number, attempt.token, 1, {"loss": 1.0})
            self.append([event], by, accepted=latest and attempt.state == "live")

    @rule(trial=which, back=back, by=worker, interrupt=st.booleans())
    def silence(self, trial: int, back: int, by: str, interrupt: bool) -> None:
        if (picked := self.pick(trial, back)) is not None:
            number, attempt, latest = picked
            accepted = latest and attempt.state == "live"
            kind = Interrupted if interrupt else Paused
            self.append([kind(number, attempt.token)], by, accepted=accepted)
            if accepted:
                attempt.state = "idle"

    @rule(trial=which, back=back, by=worker, loss=value, failed=st.booleans())
    def end(self, trial: int, back: int, by: str, loss: float, failed: bool) -> None:
        if (picked := self.pick(trial, back)) is not None:
            number, attempt, latest = picked
            outcome = "failed" if failed else "completed"
            repeats = latest and attempt.end == (outcome, loss)
            accepted = repeats or (latest and attempt.state != "over")
            event = Ended(number, attempt.token, outcome, {"loss": loss})  # type: ignore[arg-type]
            self.append([event], by, accepted=accepted, repeats=repeats)
            if accepted and not repeats:
                attempt.state, attempt.end = "over", (outcome, loss)

    @rule(trial=which, by=worker)
    def resume(self, trial: int, by: str) -> None:
        if (picked := self.pick(trial, 0)) is not None and picked[1].state == "idle":
            self.append([Resumed(picked[0])], by, accepted=True)
            self.trials[picked[0]].append(Attempt(len(self.events), by, self.time + LEASE))

    @rule(by=worker)
    def take_over(self, by: str) -> None:
        """One decision that interrupts every silent attempt and resumes the first."""
        seen: list[list[tuple[int, int]]] = []
        before = len(self.events)

        def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
            assert [r.event for r in tail] == self.events[max(0, before - 2) :]
            seen.append([(x.trial, x.token) for x in expired])
            events: list[Event] = [Interrupted(x.trial, x.token) for x in expired]
            return events + [Resumed(x.trial) for x in expired[:1]]

        self.time += 1.0  # decisions look through the leases at most twice a second
        silent = [
            (i, a[-1])
            for i, a in enumerate(self.trials)
            if a[-1].state == "live" and a[-1].expires < self.time
        ]
        answer = self.both(lambda s: s.decide(self.study, max(0, before - 2), choose, worker=by, lease=LEASE))
        assert seen == [[(i, a.token) for i, a in silent]] * 2
        self.events += [e for _, _, e in answer]
        self.authors += [by] * len(answer)
        for _, attempt in silent:
            attempt.state = "idle"
        if silent:
            self.trials[silent[0][0]].append(Attempt(len(self.events), by, self.time + LEASE))

    @rule(trial=which, back=back)
    def renew(self, trial: int, back: int) -> None:
        if (picked := self.pick(trial, back)) is not None:
            number, attempt, latest = picked
            lost = self.both(lambda s: s.renew(self.study, [(number, attempt.token)], lease=LEASE))
            if latest and attempt.state == "live":
                assert lost == []
                attempt.expires = self.time + LEASE
            else:
                assert lost == [(number, attempt.token)]

    @rule(by=worker, behind=st.integers(1, 2))
    def stale(self, by: str, behind: int) -> None:
        expected = len(self.events) - behind
        event = Started(len(self.trials), {})
        assert (
            self.both(lambda s: s.append(self.study, [event], worker=by, expected=expected)) is ConflictError
        )

    @rule(seconds=st.sampled_from([1.0, 11.0, 25.0, 31.0, -5.0, -40.0]))
    def wait(self, seconds: float) -> None:
        self.time += seconds

    @rule()
    def reopen(self) -> None:
        self.durable.close()
        self.durable = self.open()

    @invariant()
    def logs_agree(self) -> None:
        if self.studies:
            log = self.both(lambda s: s.read(self.study))
            assert [e for _, _, e in log] == self.events
            assert [w for _, w, _ in log] == self.authors
            assert self.both(lambda s: s.last(self.study)) == len(self.events)
            live = [
                Lease(i, a[-1].token, a[-1].worker, a[-1].expires < self.time)
                for i, a in enumerate(self.trials)
                if a[-1].state == "live"
            ]
            assert self.both(lambda s: s.leases(self.study)) == live

    def teardown(self) -> None:
        self.durable.close()
        self.memory.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class StoresOnPostgres(Stores):
    """The same on PostgreSQL."""

    url = ""

    def open(self) -> Store:
        from tunewright.store.postgres import PostgresStore

        return PostgresStore(self.url, clock=lambda: self.time)


class StoresOverHttp(Stores):
    """The same on a server, which keeps its port over a restart."""

    server: SmallServer | None = None

    def open(self) -> Store:
        if self.server is None:
            self.server = SmallServer(MemoryStore(expiring=True, clock=lambda: self.time))
        else:
            self.server.close()
            self.server = SmallServer(self.server.store, self.server.port)
        return HttpStore(self.server.url)

    def teardown(self) -> None:
        super().teardown()
        if self.server is not None:
            self.server.close()
            self.server.store.close()


@pytest.fixture(scope="module")
def shared_schema(postgres: Cluster) -> None:
    StoresOnPostgres.url = f"{postgres.url}?schema=lives"


COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True, "database": None}
TestQuick = Stores.TestCase
TestQuick.settings = settings(max_examples=50, stateful_step_count=30, **COMMON)  # type: ignore[arg-type]


TestQuickOnPostgres = pytest.mark.usefixtures("shared_schema")(StoresOnPostgres.TestCase)
TestQuickOnPostgres.settings = settings(max_examples=12, stateful_step_count=30, **COMMON)


TestQuickOverHttp = StoresOverHttp.TestCase
TestQuickOverHttp.settings = settings(max_examples=6, stateful_step_count=30, **COMMON)  # type: ignore[arg-type]


@pytest.mark.slow
class TestLongOverHttp(StoresOverHttp.TestCase):  # type: ignore[misc,name-defined]
    """The same with many more lives."""

    settings = settings(max_examples=100, stateful_step_count=50, **COMMON)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.usefixtures("shared_schema")
class TestLongOnPostgres(StoresOnPostgres.TestCase):  # type: ignore[misc,name-defined]
    """The same with many more lives."""

    settings = settings(max_examples=200, stateful_step_count=50, **COMMON)  # type: ignore[arg-type]


@pytest.mark.slow
class TestLong(Stores.TestCase):  # type: ignore[misc,name-defined]
    """The same with many more lives."""

    settings = settings(max_examples=400, stateful_step_count=50, **COMMON)  # type: ignore[arg-type]
