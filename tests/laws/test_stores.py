"""What every store promises; see ``tunewright.store.base``."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from small_server import SmallServer
from tunewright.core.events import (
    Ended,
    Enqueued,
    Event,
    Interrupted,
    Noted,
    Paused,
    Record,
    Reported,
    Resumed,
    Saved,
    Started,
)
from tunewright.errors import ConflictError, LeaseLost, StudyExists, StudyMissing
from tunewright.store import blobs
from tunewright.store.base import Lease, Store
from tunewright.store.http import HttpStore
from tunewright.store.memory import MemoryStore
from tunewright.store.sqlite import SqliteStore
from tunewright.store.urls import open_store

ME, YOU = "external/me", "external/you"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite", "sqlite-full", "http", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    made: Store
    if request.param == "http":
        behind = MemoryStore(expiring=True, clock=clock)
        with SmallServer(behind) as server:
            made = HttpStore(server.url)
            yield made
            made.close()
        behind.close()
        return
    if request.param == "memory":
        made = MemoryStore(expiring=True, clock=clock)
    elif request.param == "postgres":
        from tunewright.store.postgres import PostgresStore

        url = request.getfixturevalue("postgres_url")
        made = PostgresStore(f"{url}&blobs={tmp_path / 'blobs'}", clock=clock)
    else:
        durability = "full" if request.param == "sqlite-full" else "process"
        made = SqliteStore(tmp_path / "studies.db", durability=durability, clock=clock)
    yield made
    made.close()


@pytest.fixture
def study(store: Store) -> int:
    return store.create("s", {"a": 1}).id


def start(store: Store, study: int, trial: int = 0, worker: str = ME) -> int:
    (record,) = store.append(study, [Started(trial, {"x": 0.5})], worker=worker)
    return record.seq


def take_over(store: Store, study: int, token: int, worker: str = YOU) -> int:
    """Gives trial 0 to another worker."""
    events = [Interrupted(0, token), Resumed(0, by="retry")]
    return store.append(study, events, worker=worker)[-1].seq


EVERY_KIND: list[Event] = [
    Started(0, {"x": 0.1, "net": "größe", "n": 2**53}, until=3, why={"ei": 0.25}),
    Reported(0, 1, 1, {"loss": -0.0, "acc": 1e-308}, {"bad": "nan"}, {"loss": 1e308}, 2.5),
    Saved(0, 1, 1, "c.0123456789abcdef"),
    Enqueued({"x": 1}, "key"),
    Noted("topic", {"deep": [{"list": [None, True, "\u2028"]}]}, 0),
    Started(1, {"x": 0.2}, parent=(0, 1)),
    Paused(0, 1, 3, "c.0123456789abcdef"),
    Resumed(0, 3, 9),
    Ended(1, 6, "failed", error="x" * 100_000),
    Interrupted(0, 8, "preempted", "bye"),
]


# ---------------------------------------------------------------------- studies


def test_study_is_found_again(store: Store) -> None:
    spec = {"space": {"x": [1, 2.5, None, "ü"]}, "seed": 3}
    made = store.create("größe", spec)
    assert store.find("größe") == made
    assert made.spec == spec
    assert store.find("nobody") is None
    other = store.create("b", {})
    assert [s.name for s in store.studies()] == ["größe", "b"]
    assert other.id != made.id


def test_name_is_taken_once(store: Store) -> None:
    made = store.create("a", {"k": 1})
    with pytest.raises(StudyExists, match="'a' is there already"):
        store.create("a", {"k": 2})
    assert store.create("a", {"k": 2}, exist_ok=True) == made


def test_deleted_study_is_gone_and_its_key_is_not_given_again(store: Store) -> None:
    first, second = store.create("a", {}), store.create("b", {})
    blobs.put(store.blobs(first.id), "file", b"x")
    start(store, first.id)
    store.delete(first.id)
    third = store.create("a", {})
    assert len({first.id, second.id, third.id}) == 3
    assert store.last(third.id) == 0
    assert store.leases(third.id) == []
    assert {s.id for s in store.studies()} == {second.id, third.id}
    start(store, second.id)
    assert store.last(second.id) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.last(77),
        lambda s: s.read(77),
        lambda s: s.append(77, [Noted("a", {})], worker=ME),
        lambda s: s.decide(77, 0, lambda tail, expired: [], worker=ME),
        lambda s: s.leases(77),
        lambda s: s.delete(77),
        lambda s: s.blobs(77),
        lambda s: s.save_snapshot(77, 1, b""),
        lambda s: s.renew(77, [(0, 1)]),
    ],
)
def test_missing_study_is_named(store: Store, call: Callable[[Store], object]) -> None:
    with pytest.raises(StudyMissing, match="77"):
        call(store)


# ---------------------------------------------------------------------- the log


def test_log_is_what_was_appended(store: Store, study: int) -> None:
    for event in EVERY_KIND[:4]:
        store.append(study, [event], worker=ME)
    store.append(study, EVERY_KIND[4:], worker=YOU)
    records = store.read(study)
    assert [r.event for r in records] == EVERY_KIND
    assert [r.seq for r in records] == list(range(1, len(EVERY_KIND) + 1))
    assert [r.worker for r in records] == [ME] * 4 + [YOU] * (len(EVERY_KIND) - 4)
    assert store.last(study) == len(EVERY_KIND)


def test_log_is_read_in_pieces(store: Store, study: int) -> None:
    appended = store.append(study, EVERY_KIND, worker=ME)
    assert store.read(study, 3) == appended[3:]
    assert store.read(study, 3, 2) == appended[3:5]
    assert store.read(study, len(EVERY_KIND)) == []
    assert store.read(study, 0, 1) == appended[:1]


def test_empty_append_writes_nothing(store: Store, study: int) -> None:
    assert store.append(study, [], worker=ME) == []
    assert store.last(study) == 0


def test_studies_do_not_mix(store: Store, study: int) -> None:
    other = store.create("other", {}).id
    start(store, study)
    start(store, other, worker=YOU)
    start(store, study, 1)
    assert [r.event.trial for r in store.read(study)] == [0, 1]  # type: ignore[union-attr]
    assert [x.worker for x in store.leases(other)] == [YOU]


def test_stale_position_writes_nothing(store: Store, study: int) -> None:
    start(store, study)
    with pytest.raises(ConflictError, match="ended at 1, not 0"):
        store.append(study, [Started(1, {})], worker=ME, expected=0)
    assert store.last(study) == 1
    assert len(store.append(study, [Started(1, {})], worker=ME, expected=1)) == 1


def test_append_is_all_or_nothing(store: Store, study: int) -> None:
    token = start(store, study)
    events = [Noted("a", {}), Reported(0, token + 9, 1, {"loss": 1.0}), Noted("b", {})]
    with pytest.raises(LeaseLost):
        store.append(study, events, worker=ME)
    after = [r.event for r in store.read(study, 1)]
    assert len(after) == 1
    assert isinstance(after[0], Noted)
    assert after[0].topic == "late"


def test_decide_sees_what_is_new(store: Store, study: int) -> None:
    start(store, study)
    seen: list[Record] = []

    def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
        seen.extend(tail)
        return [Started(1, {"x": 1.0})]

    (record,) = store.decide(study, 0, choose, worker=ME)
    assert [r.seq for r in seen] == [1]
    assert record.seq == 2
    assert store.read(study, 1) == [record]


def test_whoever_decides_may_read_older_records(store: Store, study: int) -> None:
    """A trial that is paused or over is read from the log when a decision is about it."""
    said: list[Event] = [Noted("n", {"i": i}) for i in range(3)]
    store.append(study, said, worker=ME)
    read: list[Record] = []

    def choose(tail: list[Record], expired: object) -> list[Event]:
        read.extend(store.read(study, 1, 1))
        return [Noted("n", {"i": 3})]

    (record,) = store.decide(study, 2, choose, worker=ME)
    assert record.seq == 4
    assert [r.event for r in read] == said[1:2]


def test_decide_may_choose_nothing_or_fail(store: Store, study: int) -> None:
    assert store.decide(study, 0, lambda tail, expired: [], worker=ME) == []

    def fail(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.decide(study, 0, fail, worker=ME)
    assert store.last(study) == 0
    assert start(store, study) == 1


# ---------------------------------------------------------------------- fencing


def test_only_the_latest_attempt_is_heard(store: Store, study: int) -> None:
    old = start(store, study)
    new = take_over(store, study, old)
    for event in (
        Reported(0, old, 1, {"loss": 1.0}),
        Paused(0, old, 1),
        Saved(0, old, 1, "c"),
        Ended(0, old, "completed", {"loss": 1.0}),
        Interrupted(0, old),
    ):
        with pytest.raises(LeaseLost, match=f"taken over by attempt {new}"):
            store.append(study, [event], worker=ME)
        note = store.read(study)[-1].event
        assert isinstance(note, Noted)
        assert note.trial == 0
        assert note.data["event"]["token"] == old, "the late fact is kept"
    assert store.append(study, [Ended(0, new, "completed", {"loss": 2.0})], worker=YOU)


def test_trial_that_never_started_is_refused(store: Store, study: int) -> None:
    with pytest.raises(LeaseLost, match="never started"):
        store.append(study, [Ended(3, 1)], worker=ME)


def test_ending_twice_is_one_ending(store: Store, study: int) -> None:
    token = start(store, study)
    end = Ended(0, token, "completed", {"loss": 0.25, "acc": 0.1}, 4)
    assert len(store.append(study, [end], worker=ME)) == 1
    assert store.append(study, [end], worker=ME) == []
    assert store.append(study, [end], worker=YOU) == []
    assert store.last(study) == 2
    with pytest.raises(LeaseLost, match="over"):
        store.append(study, [Ended(0, token, "completed", {"loss": 0.5})], worker=ME)
    with pytest.raises(LeaseLost):
        store.append(study, [Reported(0, token, 9, {"loss": 0.5})], worker=ME)


def test_whole_life_in_one_append(store: Store, study: int) -> None:
    events = [Started(0, {}), Reported(0, 1, 1, {"loss": 1.0}), Ended(0, 1, "completed", {"loss": 1.0})]
    assert len(store.append(study, events, worker=ME)) == 3
    assert store.leases(study) == []
    assert store.append(study, events[2:], worker=ME) == []


def test_paused_trial_is_silent_until_resumed(store: Store, study: int) -> None:
    token = start(store, study)
    store.append(study, [Paused(0, token, 1)], worker=ME)
    assert store.leases(study) == []
    with pytest.raises(LeaseLost, match="not running"):
        store.append(study, [Reported(0, token, 2, {"loss": 1.0})], worker=ME)
    (resumed,) = store.append(study, [Resumed(0, 1)], worker=YOU)
    assert store.leases(study) == [Lease(0, resumed.seq, YOU, False)]
    assert store.append(study, [Reported(0, resumed.seq, 2, {"loss": 1.0})], worker=YOU)


def test_result_of_an_interrupted_attempt_still_counts(store: Store, study: int) -> None:
    """Nobody has begun the trial again, so the work need not be done twice."""
    token = start(store, study)
    store.append(study, [Interrupted(0, token)], worker=YOU)
    assert store.append(study, [Ended(0, token, "completed", {"loss": 1.0})], worker=ME)


# ---------------------------------------------------------------------- leases


def expired(store: Store, study: int) -> list[tuple[int, int]]:
    """What a decision is told."""
    found: list[tuple[int, int]] = []

    def choose(tail: list[Record], leases: list[Lease]) -> Sequence[Event]:
        assert all(lease.expired for lease in leases)
        found.extend((x.trial, x.token) for x in leases)
        return []

    store.decide(study, store.last(study), choose, worker=ME)
    return found


def test_silent_lease_expires(store: Store, study: int, clock: Clock) -> None:
    token = start(store, study)
    clock.time += 29
    assert expired(store, study) == []
    clock.time += 2
    assert expired(store, study) == [(0, token)]
    assert store.leases(study) == [Lease(0, token, ME, True)]


def test_renewed_lease_lives_on(store: Store, study: int, clock: Clock) -> None:
    first, second = start(store, study), start(store, study, 1)
    clock.time += 29
    assert store.renew(study, [(0, first), (1, first)], lease=60) == [(1, first)], "1 has another token"
    clock.time += 2
    assert expired(store, study) == [(1, second)]
    clock.time += 57
    assert store.renew(study, [(0, first)]) == []
    store.append(study, [Ended(0, first)], worker=ME)
    assert store.renew(study, [(0, first)]) == [(0, first)]
    assert store.renew(study, []) == []


def test_clock_that_jumps_back_loses_nothing(store: Store, study: int, clock: Clock) -> None:
    token = start(store, study)
    clock.time -= 500
    assert expired(store, study) == []
    assert store.append(study, [Ended(0, token, "completed", {"loss": 1.0})], worker=ME)


def test_taking_over_moves_the_lease(store: Store, study: int, clock: Clock) -> None:
    token = start(store, study)
    clock.time += 31
    assert expired(store, study) == [(0, token)]
    new = take_over(store, study, token)
    assert store.leases(study) == [Lease(0, new, YOU, False)]


# ---------------------------------------------------------------------- caches, blobs, locks


def test_snapshot_is_kept(store: Store, study: int) -> None:
    assert store.load_snapshot(study) is None
    store.save_snapshot(study, 5, b"\x00five")
    store.save_snapshot(study, 9, b"nine" * 100_000)
    assert store.load_snapshot(study) == (9, b"nine" * 100_000)
    store.save_snapshot(study, 7, b"older")
    assert store.load_snapshot(study) == (9, b"nine" * 100_000)


def test_blobs_have_a_folder_per_study(store: Store, study: int) -> None:
    other = store.create("other", {}).id
    place = store.blobs(study)
    name = blobs.put(place, "file", b"x")
    assert store.blobs(study) == place
    assert blobs.get(place, name) == b"x"
    assert [e.name for e in blobs.listing(place)] == [name]
    assert not blobs.exists(store.blobs(other), name)


def test_deciders_of_a_study_take_turns(store: Store, study: int) -> None:
    other = store.create("other", {}).id
    inside, most = [0], [0]

    def decide() -> None:
        for _ in range(20):
            with store.deciding(study), store.deciding(study):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                threading.Event().wait(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=decide) for _ in range(4)]
    with store.deciding(other):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == [1]


def test_close_twice(store: Store, study: int) -> None:
    store.close()
    store.close()
    assert store.last(study) == 0, "a later call opens it again"


# ---------------------------------------------------------------------- many writers


def count_up(store: Store, study: int, worker: str, rounds: int) -> None:
    """Starts the next trial and ends it, over and over."""
    trials, cursor = 0, 0

    def choose(tail: list[Record], leases: list[Lease]) -> Sequence[Event]:
        nonlocal trials, cursor
        trials += sum(isinstance(r.event, Started) for r in tail)
        cursor = tail[-1].seq if tail else cursor
        return [Started(trials, {"x": 0.5})]

    for _ in range(rounds):
        (record,) = store.decide(study, cursor, choose, worker=worker)
        trial = record.event.trial  # type: ignore[union-attr]
        assert trial is not None
        store.append(study, [Ended(trial, record.seq, "completed", {"loss": trial})], worker=worker)


def check_counted(store: Store, study: int, total: int) -> None:
    records = store.read(study)
    assert [r.seq for r in records] == list(range(1, 2 * total + 1))
    started = [r for r in records if isinstance(r.event, Started)]
    assert [r.event.trial for r in started] == list(range(total)), "numbers are dense and unique"  # type: ignore[union-attr]
    owner = {r.seq: r.worker for r in started}
    ends = [r for r in records if isinstance(r.event, Ended)]
    assert len(ends) == total
    assert all(owner[r.event.token] == r.worker for r in ends)  # type: ignore[union-attr]


def test_threads_share_a_store(store: Store, study: int) -> None:
    threads = [threading.Thread(target=count_up, args=(store, study, f"external/{i}", 25)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_counted(store, study, 150)


def count_up_elsewhere(place: str, study: int, worker: str, rounds: int) -> None:
    store = open_store(place)
    count_up(store, study, worker, rounds)
    store.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_processes_share_a_place(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, method: str
) -> None:
    sqlite = kind == "sqlite"
    place = str(tmp_path / "studies.db") if sqlite else request.getfixturevalue("postgres_url")
    store = open_store(place)
    study = store.create("s", {}).id
    context = multiprocessing.get_context(method)
    children = [
        context.Process(target=count_up_elsewhere, args=(place, study, f"external/{i}", 40)) for i in range(4)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    check_counted(store, study, 160)
    store.close()
