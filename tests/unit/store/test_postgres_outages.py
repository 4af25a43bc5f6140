"""The PostgreSQL store while connections break, answers are lost, servers die or hang, and processes fork."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tunewright.core.events import Ended, Event, Interrupted, Noted, Record, Reported, Resumed, Started
from tunewright.errors import ConflictError, StoreUnavailable, StudyExists
from tunewright.store.base import Lease
from tunewright.store.memory import MemoryStore
from tunewright.store.pg_line import Line, Lost
from tunewright.store.postgres import PostgresStore

if TYPE_CHECKING:
    from benchmarks.postgres import Cluster

ME, YOU = "external/me", "external/you"


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    made = PostgresStore(postgres_url, deadline=10, patience=20)
    yield made
    made.close()


def begin(trial: int) -> Callable[[list[Record], list[Lease]], Sequence[Event]]:
    return lambda tail, expired: [Started(trial, {"x": 0.5})]


def life(store: Any, key: str) -> tuple[Any, ...]:
    """A bit of everything that writes; the same on every store."""
    study = store.create(key, {"a": 1}).id
    other = store.create(key + " copy", {}, created=5.0).id
    (one,) = store.decide(study, 0, begin(0), worker=ME)
    note = Noted("same", {"x": 1})
    store.append(study, [note], worker=ME)
    store.append(study, [note], worker=ME)
    (two,) = store.decide(study, one.seq, begin(1), worker=YOU)
    assert store.renew(study, [(0, one.seq), (1, one.seq)]) == [(1, one.seq)]
    store.append(
        study, [Reported(0, one.seq, 1, {"loss": 1.0}), Reported(1, two.seq, 1, {"loss": 2.0})], worker=ME
    )
    store.append(study, [Interrupted(0, one.seq), Resumed(0, by="retry")], worker=YOU)
    store.append(study, [Ended(1, two.seq, metrics={"loss": 2.0}), note], worker=YOU)
    store.append(study, [Ended(1, two.seq, metrics={"loss": 2.0})], worker=ME)
    store.save_snapshot(study, 3, b"abc")
    store.graft(other, store.read(study))
    gone = store.create(key + " gone", {}).id
    store.delete(gone)
    seen: list[Record] = []

    def count(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
        seen.extend(tail)
        return [Noted("seen", {"n": len(seen)})]

    with store.deciding(study):
        final = store.decide(study, 0, count, worker=ME)
    names = [s.name.removeprefix(key) for s in store.studies() if s.name.startswith(key)]
    log = [(r.seq, r.worker, r.event) for r in store.read(study)]
    copy = [(r.seq, r.worker, r.event) for r in store.read(other)]
    live = [(x.trial, x.token, x.worker) for x in store.leases(study)]
    return log, copy, live, store.load_snapshot(study), final[0].event, names


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_nth_request_fails(
    postgres_url: str, postgres: Cluster, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Whichever request breaks off, before it is sent or after it was done: the log is the same."""
    memory = MemoryStore(expiring=True)
    expected = life(memory, "s")
    memory.close()
    run, count, broken = Line.run, [0], [-1]

    def failing(self: Line, calls: Any, end: float) -> Any:
        count[0] += 1
        if count[0] != broken[0]:
            return run(self, calls, end)
        if when == "after":
            run(self, calls, end)
        lost = Lost("cut by the test", sent=True)
        lost.session = self.session
        raise lost

    monkeypatch.setattr(Line, "run", failing)
    monkeypatch.setattr("tunewright.store.pg_link._DICE.random", lambda: 0.0)
    for n in range(1, 200):
        store = PostgresStore(postgres_url, deadline=10, patience=20)
        count[0], broken[0] = 0, n
        assert life(store, f"life {n}.") == expected, f"request {n}"
        store.close()
        if count[0] < n:
            break
    assert 20 < n < 100, "every request of a life was cut once"


def test_ctrl_c_while_an_answer_is_on_its_way(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request must not take the late answer for its own."""
    from tunewright.store import pg_line

    study = store.create("s", {}).id
    ready = pg_line._ready
    for n in range(1, 6):
        left = [n]

        def interrupted(*args: Any, left: list[int] = left, **options: Any) -> bool:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return ready(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(pg_line, "_ready", interrupted)
            with pytest.raises(KeyboardInterrupt):
                while left[0] > 0:
                    store.decide(study, 0, lambda tail, expired: [Noted("a", {})], worker=ME)
        assert store.find("s") is not None
        assert [s.name for s in store.studies()] == ["s"]
        assert store.last(study) == len(store.read(study))


def test_session_that_is_ended_in_the_middle(postgres: Cluster, store: PostgresStore) -> None:
    study = store.create("s", {}).id
    calls: list[int] = []

    def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
        calls.append(len(tail))
        if len(calls) == 1:
            with psycopg.connect(postgres.url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tunewright'"
                )
        return [Started(len(tail) - 1, {})]

    store.append(study, [Noted("a", {})], worker=ME)
    (record,) = store.decide(study, 0, choose, worker=ME)
    assert calls == [1, 0], "what choose was told once is not told again"
    assert record.seq == 2
    assert store.last(study) == 2
    store.append(study, [Noted("b", {})], worker=ME)
    assert store.last(study) == 3


def test_conflict_after_a_lost_answer_is_told(store: PostgresStore, postgres_url: str) -> None:
    """An unanswered decision that was never written is refused once somebody else has decided."""
    study = store.create("s", {}).id
    store.append(study, [Noted("other", {})], worker=YOU)
    with pytest.raises(ConflictError):
        store.append(study, [Started(0, {})], worker=ME, expected=0, again=True)
    store.append(study, [Started(0, {})], worker=ME, expected=1)
    assert len(store.append(study, [Started(0, {})], worker=ME, expected=1, again=True)) == 1
    assert store.last(study) == 2


def test_name_that_somebody_else_took_while_the_answer_was_lost(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, broken = Line.run, [True]

    def failing(self: Line, calls: Any, end: float) -> Any:
        if broken[0]:
            broken[0] = False
            raise Lost("cut by the test", sent=True)
        return run(self, calls, end)

    store.create("s", {"a": 1}, created=1.0)
    monkeypatch.setattr(Line, "run", failing)
    with pytest.raises(StudyExists):
        store.create("s", {"a": 1})


def test_what_a_lost_session_was_told_cannot_happen_later(
    postgres: Cluster, postgres_url: str, store: PostgresStore
) -> None:
    """A request that still waits in the server when we give it up must not be carried out after we have looked."""
    study = store.create("s", {}).id
    space = store._link.call(lambda line, end, again: line.space)
    patient = PostgresStore(postgres_url, deadline=1.0, patience=20)
    done: list[Record] = []
    with psycopg.connect(postgres.url) as blocker:
        blocker.execute("SELECT pg_advisory_xact_lock(%s, %s)", (space, study))
        with psycopg.connect(postgres.url, autocommit=True) as other:
            # Without the server's own time limit the request would wait for ever.
            patient._link.call(lambda line, end, again: line.execute("SET statement_timeout = 0", end))
            patient._link.call(lambda line, end, again: line.execute("SET lock_timeout = 0", end))
            thread = threading.Thread(
                target=lambda: done.extend(patient.append(study, [Noted("once", {})], worker=ME))
            )
            thread.start()
            time.sleep(1.6)
            blocker.rollback()
            thread.join(20)
            ((waiting,),) = other.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            ).fetchall()
    assert len(done) == 1
    assert waiting == 0
    assert store.read(study) == done
    patient.close()


# ---------------------------------------------------------------------- forks


def child(store: PostgresStore, study: int, number: int) -> None:
    """Runs in a forked process, on the parent's store."""
    store.append(study, [Noted("child", {"n": number})], worker=YOU)
    store.close()


def test_fork_after_open(store: PostgresStore) -> None:
    study = store.create("s", {}).id
    context = multiprocessing.get_context("fork")
    inside: list[Any] = []

    def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
        inside.append(context.Process(target=child, args=(store, study, 1)))
        inside[0].start()
        return [Started(0, {})]

    with store.deciding(study):
        (record,) = store.decide(study, 0, choose, worker=ME)
        assert record.seq == 1, "the child, made in the middle of a decision, waits for its turn"
        before = context.Process(target=child, args=(store, study, 2))
        before.start()
        for _ in range(5):
            store.append(study, [Noted("parent", {})], worker=ME)
    for process in (inside[0], before):
        process.join(20)
        assert process.exitcode == 0
    assert store.last(study) == 8


def test_child_that_goes_on_inside_a_decision(store: PostgresStore) -> None:
    """A bare fork copies a half-done decision; the copy must not speak on its parent's connection."""
    study = store.create("s", {}).id
    pids: list[int] = []

    def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
        if not pids:
            pids.append(os.fork())
        return [Noted("child" if pids[0] == 0 else "parent", {})]

    failed = 1
    try:
        with store.deciding(study):
            store.decide(study, 0, choose, worker=ME)
        failed = 0
    finally:
        if pids[0] == 0:
            store.close()
            os._exit(failed)
    store.append(study, [Noted("parent again", {})], worker=ME)
    assert os.waitpid(pids[0], 0)[1] == 0
    topics = [r.event.topic for r in store.read(study) if isinstance(r.event, Noted)]
    assert sorted(topics) == ["child", "parent", "parent again"]


def test_child_does_not_keep_the_parents_sessions(postgres: Cluster, postgres_url: str) -> None:
    """A parent that is killed frees its locks although a child of it lives on."""
    reader, writer = os.pipe()
    store = PostgresStore(postgres_url, deadline=10, patience=20)
    study = store.create("s", {}).id
    middle = os.fork()
    if middle == 0:
        with store.deciding(study), contextlib.suppress(BaseException):
            grandchild = os.fork()
            if grandchild == 0:
                time.sleep(60)
                os._exit(0)
            os.write(writer, str(grandchild).encode())
            time.sleep(60)
        os._exit(0)
    grandchild = int(os.read(reader, 20))
    os.kill(middle, 9)
    os.waitpid(middle, 0)
    begun = time.monotonic()
    with store.deciding(study):
        assert time.monotonic() - begun < 5
    os.kill(grandchild, 9)
    os.close(reader)
    os.close(writer)
    store.close()


# ---------------------------------------------------------------------- the server


def test_frozen_server(postgres: Cluster, postgres_url: str) -> None:
    store = PostgresStore(postgres_url, deadline=0.4, patience=0.8)
    study = store.create("s", {}).id
    postgres.freeze()
    try:
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="no answer"):
            store.append(study, [Noted("a", {})], worker=ME)
        assert 0.7 < time.monotonic() - begun < 5
    finally:
        postgres.thaw()
    assert store._link.quiet() > 1e6
    store._link.patience = 20
    store.append(study, [Noted("b", {})], worker=ME)
    assert [r.event for r in store.read(study)][-1] == Noted("b", {})
    store.close()


def test_nobody_loses_a_lease_because_we_could_not_reach_the_server(store: PostgresStore) -> None:
    study = store.create("s", {}).id
    store.append(study, [Started(0, {})], worker=ME, lease=0.2)
    time.sleep(0.3)
    assert [x.expired for x in store.leases(study)] == [True]
    store._link._restored = time.monotonic()
    assert [x.expired for x in store.leases(study)] == [False], "its renewals may have been lost, too"
    time.sleep(0.3)
    assert [x.expired for x in store.leases(study)] == [True]


def first_start(url: str, barrier: Any) -> None:
    barrier.wait(30)
    store = PostgresStore(url, deadline=20)
    info = store.create("s", {}, exist_ok=True)
    store.append(info.id, [Noted("here", {})], worker=f"external/{os.getpid()}")
    store.close()


@pytest.mark.parametrize("count", [16, pytest.param(64, marks=pytest.mark.slow)])
def test_simultaneous_first_starts(postgres_url: str, count: int) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(count)
    children = [context.Process(target=first_start, args=(postgres_url, barrier)) for _ in range(count)]
    for process in children:
        process.start()
    for process in children:
        process.join(60)
    assert [process.exitcode for process in children] == [0] * count
    store = PostgresStore(postgres_url)
    assert [s.name for s in store.studies()] == ["s"]
    assert store.last(store.studies()[0].id) == count
    store.close()


def count_on(store: PostgresStore, study: int, worker: str, stop: threading.Event, acked: list[str]) -> None:
    """Appends notes with names of their own until told to stop."""
    number = 0
    while not stop.is_set():
        name = f"{worker}-{number}"
        store.append(study, [Noted(name, {})], worker=worker)
        acked.append(name)
        number += 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "immediate", "fast", "freeze"])
def test_server_goes_away_and_comes_back(how: str) -> None:
    """Three times in a row, under load: what was acknowledged is there, once, and nobody noticed."""
    from benchmarks.postgres import Cluster

    with Cluster() as cluster:
        stores = [PostgresStore(cluster.url, deadline=1.0, patience=60) for _ in range(3)]
        study = stores[0].create("s", {}).id
        stop = threading.Event()
        acked: list[list[str]] = [[] for _ in stores]
        threads = [
            threading.Thread(target=count_on, args=(store, study, f"external/{i}", stop, acked[i]))
            for i, store in enumerate(stores)
        ]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(0.5)
            before = [len(names) for names in acked]
            if how == "freeze":
                cluster.freeze()
                time.sleep(1.5)
                cluster.thaw()
            else:
                cluster.kill() if how == "kill" else cluster.stop(how)  # type: ignore[arg-type]
                time.sleep(0.3)
                cluster.start()
            end = time.monotonic() + 30
            while any(len(names) < n + 5 for names, n in zip(acked, before, strict=True)):
                assert time.monotonic() < end, "a worker does not go on"
                time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join(60)
        written = [r.event.topic for r in stores[0].read(study) if isinstance(r.event, Noted)]
        assert len(written) == len(set(written)), "something was written twice"
        assert set(written) == {name for names in acked for name in names}
        for store in stores:
            store.close()


@pytest.mark.slow
def test_leases_outlive_an_outage() -> None:
    from benchmarks.postgres import Cluster

    with Cluster(fsync=False) as cluster:
        store = PostgresStore(cluster.url, deadline=5, patience=30)
        study = store.create("s", {}).id
        store.append(study, [Started(0, {})], worker=ME, lease=1.5)
        cluster.kill()
        time.sleep(2.0)
        cluster.start()
        fresh = PostgresStore(cluster.url)
        assert [x.expired for x in fresh.leases(study)] == [False], (
            "it could not be renewed while the server was away"
        )
        time.sleep(1.8)
        assert [x.expired for x in fresh.leases(study)] == [True]
        store.close()
        fresh.close()


@pytest.mark.slow
def test_decider_that_thinks_for_long_holds_nobody_up(postgres_url: str) -> None:
    """The server throws it out; it then decides without the lock, on what has come in meanwhile."""
    slow, quick = (
        PostgresStore(postgres_url, deadline=1.0, patience=60),
        PostgresStore(postgres_url, patience=60),
    )
    study = slow.create("s", {}).id
    told: list[int] = []
    thinking = threading.Event()

    def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
        told.extend(r.seq for r in tail)
        thinking.set()
        if len(told) < 2:
            time.sleep(2.5)
        return [Noted("decided", {"on": len(told)})]

    slow.append(study, [Noted("first", {})], worker=ME)
    found: list[Record] = []
    thread = threading.Thread(target=lambda: found.extend(slow.decide(study, 0, choose, worker=ME)))
    thread.start()
    thinking.wait(10)
    begun = time.monotonic()
    quick.append(study, [Noted("second", {})], worker=YOU)
    assert time.monotonic() - begun < 2.0
    thread.join(30)
    assert told == [1, 2]
    assert found[0].event == Noted("decided", {"on": 2})
    assert slow.last(study) == 3
    slow.close()
    quick.close()
