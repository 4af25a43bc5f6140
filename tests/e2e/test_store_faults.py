"""What can go wrong around an SQLite store: killed, starved, cut, replaced, forked. Nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunewright.core.events import Ended, Event, Noted, Reported, Started
from tunewright.errors import LeaseLost, SchemaError, StoreUnavailable, TunewrightError
from tunewright.store.base import Lease
from tunewright.store.clock import worker_id
from tunewright.store.sqlite import SqliteStore

ME = "external/me"
WORKER = Path(__file__).with_name("store_worker.py")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults are made with Linux tools")


def spawn(*args: object, preexec: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=preexec)


def acknowledged(folder: Path) -> dict[int, float]:
    """What workers say was acknowledged: value by token; a line that a kill has torn does not count."""
    found: dict[int, float] = {}
    for path in folder.glob("*.ack"):
        for line in path.read_text().split("\n")[:-1]:
            token, value = line.split()
            found[int(token)] = float(value)
    return found


def check(store: SqliteStore, study: int, acks: dict[int, float]) -> None:
    records = store.read(study)
    assert [r.seq for r in records] == list(range(1, len(records) + 1))
    started = [r.event.trial for r in records if isinstance(r.event, Started)]
    assert started == list(range(len(started))), "numbers are dense and unique"
    ends = {r.event.token: r.event.metrics for r in records if isinstance(r.event, Ended)}
    assert len(ends) == sum(isinstance(r.event, Ended) for r in records), "nothing is recorded twice"
    lost = [token for token, value in acks.items() if ends.get(token) != {"loss": value}]
    assert lost == [], f"{len(lost)} of {len(acks)} acknowledged results are lost"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(path)
    made.create("s", {})
    yield made
    made.close()


# ---------------------------------------------------------------------- kills


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_workers_lose_nothing(store: SqliteStore, path: Path, tmp_path: Path, rounds: int) -> None:
    study, rng = 1, random.Random(rounds)
    for number in range(rounds):
        workers = [spawn("loop", path, tmp_path / f"{number}-{i}.ack", 1e9) for i in range(3)]
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.readline()
        time.sleep(0.05 + 0.2 * rng.random())
        for worker in workers:
            worker.kill()
            worker.communicate()
        check(store, study, acknowledged(tmp_path))
    assert len(acknowledged(tmp_path)) > 20 * rounds


def test_trial_of_a_killed_worker_is_free_within_a_second(store: SqliteStore, path: Path) -> None:
    worker = spawn("hold", path)
    assert worker.stdout is not None
    token = int(worker.stdout.readline())
    assert store.leases(1) == [Lease(0, token, store.read(1)[-1].worker, False)], (
        "a living holder is left alone"
    )
    worker.kill()
    worker.communicate()
    end = time.monotonic() + 1.0
    seen: list[Lease] = []

    def choose(tail: object, expired: list[Lease]) -> list[Event]:
        seen.extend(expired)
        return []

    while not seen and time.monotonic() < end:
        store.decide(1, store.last(1), choose, worker=ME)
        time.sleep(0.02)
    assert [(x.trial, x.token, x.expired) for x in seen] == [(0, token, True)]


def test_own_lease_is_not_taken_for_dead(store: SqliteStore) -> None:
    store.append(1, [Started(0, {})], worker=worker_id("x"))
    assert [x.expired for x in store.leases(1)] == [False]


def test_lock_of_a_killed_writer_is_free_at_once(store: SqliteStore, path: Path) -> None:
    worker = spawn("stall", path)
    assert worker.stdout is not None
    worker.stdout.readline()
    worker.kill()
    worker.communicate()
    begun = time.monotonic()
    store.append(1, [Noted("a", {})], worker=ME)
    assert time.monotonic() - begun < 0.5


def test_stopped_writer_is_waited_for_until_the_deadline(path: Path, store: SqliteStore) -> None:
    worker = spawn("stall", path)
    assert worker.stdout is not None
    worker.stdout.readline()
    impatient = SqliteStore(path, deadline=0.3)
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"within 0\.3 s"):
        impatient.append(1, [Noted("a", {})], worker=ME)
    assert time.monotonic() - begun < 2
    assert impatient.last(1) == 0, "readers do not wait for writers"
    worker.kill()
    worker.communicate()
    assert impatient.append(1, [Noted("a", {})], worker=ME)
    impatient.close()


def test_foreign_program_that_locks_the_file(path: Path, store: SqliteStore) -> None:
    impatient = SqliteStore(path, deadline=0.3)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        impatient.append(1, [Noted("a", {})], worker=ME)
    assert impatient.read(1) == []
    other.execute("ROLLBACK")
    other.close()
    assert impatient.append(1, [Noted("a", {})], worker=ME)
    impatient.close()


# ---------------------------------------------------------------------- starting


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_sixteen_first_starts(tmp_path: Path, rounds: int) -> None:
    for number in range(rounds):
        path = tmp_path / f"{number}.db"
        moment = time.time() + 3.0
        workers = [spawn("first", path, moment) for _ in range(16)]
        said = [worker.communicate()[0].strip() for worker in workers]
        assert sorted(said) == ["made"] + ["met"] * 15
        store = SqliteStore(path)
        assert store.last(1) == 16
        store.close()


# ---------------------------------------------------------------------- no room


def limit(size: int) -> Callable[[], None]:
    def apply() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return apply


@pytest.mark.parametrize("slack", [700, 5_000, 60_001])
def test_write_that_is_cut_short(store: SqliteStore, path: Path, tmp_path: Path, slack: int) -> None:
    store.append(1, [Noted("a", {"x": "y" * 5000})], worker=ME)
    largest = max(p.stat().st_size for p in tmp_path.iterdir())
    worker = spawn("loop", path, tmp_path / "0.ack", 20.0, preexec=limit(largest + slack))
    said = worker.communicate()[0].split("\n")
    assert said[1].startswith("StoreUnavailable The store needs "), said
    check(store, 1, acknowledged(tmp_path))
    before = store.last(1)
    store.append(1, [Noted("after", {})], worker=ME)
    assert store.last(1) == before + 1


def test_full_disk_heals_when_space_returns(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        store = SqliteStore(disk / "studies.db")
        store.create("s", {})
        acks, full = 0, None
        while full is None:
            try:
                store.append(1, [Noted("a", {"n": acks, "x": "y" * 1000})], worker=ME)
                acks += 1
            except StoreUnavailable as error:
                full = error
        assert "free space" in str(full)
        assert len(store.read(1)) == acks, "reading goes on"
        subprocess.run(["mount", "-o", "remount,size=6000k", str(disk)], check=True)
        store.append(1, [Noted("a", {"n": acks})], worker=ME)
        assert [r.event.data["n"] for r in store.read(1)] == list(range(acks + 1))  # type: ignore[union-attr]
        store.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def powerless(work: Callable[[], None]) -> None:
    """Runs the work in a child that has no special rights."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            work()
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike pytest's."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="tunewright-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_folder_that_cannot_be_written(open_folder: Path) -> None:
    open_folder.chmod(0o555)

    def work() -> None:
        with pytest.raises(StoreUnavailable, match="permissions"):
            SqliteStore(open_folder / "studies.db")

    powerless(work)
    open_folder.chmod(0o755)


@pytest.mark.parametrize("closed", [True, False])
def test_read_only_store_can_be_read(open_folder: Path, closed: bool) -> None:
    """Also while its owner has it open, when the newest records are still in the write-ahead log."""
    path = open_folder / "studies.db"
    owner = SqliteStore(path)
    owner.create("s", {})
    owner.append(1, [Noted("a", {})], worker=ME)
    if closed:
        owner.close()
    for file in open_folder.iterdir():
        file.chmod(0o444)
    open_folder.chmod(0o555)

    def work() -> None:
        store = SqliteStore(path)
        assert store.last(1) == 1
        with pytest.raises(StoreUnavailable, match="write access"):
            store.append(1, [Noted("a", {})], worker=ME)
        assert store.last(1) == 1
        with pytest.raises(StoreUnavailable, match="permissions"):
            store.blobs(1)

    powerless(work)
    open_folder.chmod(0o755)
    owner.close()


# ---------------------------------------------------------------------- damage


def test_log_cut_anywhere_keeps_what_came_before(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    for number in range(12):
        store.append(1, [Noted("a", {"n": number, "x": "y" * 300})], worker=ME)
    copy = tmp_path / "copy"
    copy.mkdir()
    whole = Path(f"{path}-wal").read_bytes()
    counts = []
    for cut in [*range(0, len(whole), 1531), len(whole)]:
        for file in copy.iterdir():
            file.unlink()
        shutil.copy(path, copy / "studies.db")
        (copy / "studies.db-wal").write_bytes(whole[:cut])
        again = SqliteStore(copy / "studies.db")
        if again.find("s") is None:
            counts.append(-1)
        else:
            records = again.read(1)
            assert [r.event.data["n"] for r in records] == list(range(len(records)))  # type: ignore[union-attr]
            counts.append(len(records))
            again.append(1, [Noted("b", {})], worker=ME)
        again.close()
    assert counts == sorted(counts)
    assert counts[-1] == 12


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_file(store: SqliteStore, path: Path, part: float) -> None:
    for _ in range(50):
        store.append(1, [Noted("a", {"x": "y" * 1000})], worker=ME)
    store.close()
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * part))
    with pytest.raises(SchemaError, match="undamaged"):
        SqliteStore(path).read(1)


def test_damaged_event_is_named(store: SqliteStore, path: Path) -> None:
    for number in range(3):
        store.append(1, [Noted("a", {"n": number})], worker=ME)
    other = sqlite3.connect(path)
    other.execute("UPDATE event SET data = ?, crc = NULL WHERE seq = 2", (b'{"kind": "no',))
    other.commit()
    other.close()
    with pytest.raises(SchemaError, match="number 2 of study 1"):
        store.read(1)
    assert len(store.read(1, 2)) == 1


def test_event_of_a_kind_from_the_future_is_passed_over(store: SqliteStore, path: Path) -> None:
    for number in range(3):
        store.append(1, [Noted("a", {"n": number})], worker=ME)
    other = sqlite3.connect(path)
    other.execute(
        "UPDATE event SET data = ?, crc = NULL WHERE seq = 2", (b'{"kind": "teleported", "trial": 3}',)
    )
    other.commit()
    other.close()
    assert [r.event for r in store.read(1)][1] == Noted("unknown", {"kind": "teleported", "trial": 3})


def test_file_of_a_newer_version(store: SqliteStore, path: Path) -> None:
    store.close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version=99")
    other.close()
    with pytest.raises(SchemaError, match=r"has format 99\. Upgrade"):
        SqliteStore(path)


def test_file_of_another_program(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE trials(id)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(SchemaError, match="another program"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_file_that_is_no_database(path: Path) -> None:
    path.write_text("learning_rate,loss\n0.1,2.0\n" * 100)
    with pytest.raises(SchemaError, match="not a database"):
        SqliteStore(path)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_file_that_is_taken_away(store: SqliteStore, path: Path, how: str) -> None:
    """SQLite would go on writing to the file that nobody can find any more."""
    store.append(1, [Noted("a", {})], worker=ME)
    path.rename(path.with_suffix(".gone"))
    if how == "replaced":
        shutil.copy(path.with_suffix(".gone"), path)
    with pytest.raises(StoreUnavailable, match="moved, deleted or replaced"):
        store.append(1, [Noted("a", {})], worker=ME)
    path.with_suffix(".gone").rename(path)
    assert len(store.append(1, [Noted("a", {})], worker=ME)) == 1


# ---------------------------------------------------------------------- forks, clocks, values


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_fork_after_open(store: SqliteStore) -> None:
    """Children and parent go on with the same handle, also when a thread of the parent is writing."""
    stop = threading.Event()
    mine = [0]

    def write() -> None:
        while not stop.is_set():
            store.append(1, [Noted("parent", {})], worker=ME)
            mine[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for i in range(50):
                    store.append(1, [Noted("child", {"i": i})], worker=f"external/{number}")
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
        time.sleep(0.01)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    stop.set()
    thread.join()
    assert codes == [0] * 4
    records = store.read(1)
    assert [r.seq for r in records] == list(range(1, 201 + mine[0]))
    for number in range(4):
        own = [r.event.data["i"] for r in records if r.worker == f"external/{number}"]  # type: ignore[union-attr]
        assert own == list(range(50))


def test_child_that_outlives_its_parent_does_not_harm(path: Path, tmp_path: Path) -> None:
    """A forked child goes on when its parent, which had opened the file, is gone and others come."""
    worker = spawn("orphan", path, tmp_path / "0.ack")
    assert worker.stdout is not None
    worker.stdout.readline()
    worker.wait()
    store = SqliteStore(path)
    for number in range(200):
        store.append(1, [Noted("late", {"n": number})], worker=ME)
    worker.stdout.read()
    worker.stdout.close()
    topics = [r.event.topic for r in store.read(1)]  # type: ignore[union-attr]
    assert topics.count("late") == 200
    assert topics.count("orphan") == 200
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.close()


def test_wall_clock_that_steps_back(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = [2e9]
    monkeypatch.setattr("tunewright.store.sqlite.time.time", lambda: wall[0])
    (first,) = store.append(1, [Started(0, {})], worker=worker_id())
    wall[0] -= 1e8
    assert [x.expired for x in store.leases(1)] == [False]
    wall[0] += 2e8
    assert [x.expired for x in store.leases(1)] == [False], "leases do not look at the wall clock"
    (second,) = store.append(1, [Ended(0, first.seq)], worker=ME)
    assert (first.seq, second.seq) == (1, 2)


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "größe 🎛️ \u2028 \x00 \u202e'; DROP TABLE event;--", "<img onerror=alert(1)>"]
)
def test_strange_text_comes_back(store: SqliteStore, path: Path, text: str) -> None:
    study = store.create(text, {text: text}).id
    events: list[Event] = [Started(0, {text: text}, why={text: text}), Noted(text, {text: [text]})]
    store.append(study, events, worker=f"external/{text}")
    store.close()
    again = SqliteStore(path)
    found = again.find(text)
    assert found is not None
    assert found.spec == {text: text}
    assert [(r.worker, r.event) for r in again.read(study)] == [(f"external/{text}", e) for e in events]
    again.close()


@pytest.mark.parametrize(
    "event",
    [
        Reported(0, 1, 1, {"loss": float("nan")}),
        Started(0, {"x": {1, 2}, "y": object()}),
        Noted("\ud800", {}),
    ],
)
def test_event_that_could_not_be_read_again_is_refused(store: SqliteStore, event: Event) -> None:
    with pytest.raises((TunewrightError, ValueError)) as caught:
        store.append(1, [Started(0, {}), event], worker=ME)
    assert not isinstance(caught.value, LeaseLost)
    assert store.last(1) == 0
