"""A process that the fault tests kill, stop, starve and fork. It keeps its own record of what was acknowledged."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from tunewright.core.events import Ended, Event, Noted, Started
from tunewright.errors import TunewrightError
from tunewright.store.base import Lease, Record
from tunewright.store.clock import worker_id
from tunewright.store.sqlite import SqliteStore


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def loop(path: str, acks: str, seconds: str) -> None:
    """Starts and ends trials; one write per acknowledgement, so that a kill tears at most the last line."""
    fd = os.open(acks, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    store, worker = SqliteStore(path), worker_id("loop")
    trials, cursor = 0, 0

    def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
        nonlocal trials, cursor
        trials += sum(isinstance(r.event, Started) for r in tail)
        cursor = tail[-1].seq if tail else cursor
        return [Started(trials, {"x": 0.5})]

    say("ready")
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        (record,) = store.decide(1, cursor, choose, worker=worker)
        value = record.seq * 0.5
        store.append(1, [Ended(trials, record.seq, "completed", {"loss": value})], worker=worker)
        os.write(fd, f"{record.seq} {value}\n".encode())


def hold(path: str) -> None:
    """Begins a trial and falls silent."""
    (record,) = SqliteStore(path).append(1, [Started(0, {})], worker=worker_id("hold"), lease=1e6)
    say(str(record.seq))
    time.sleep(60)


def stall(path: str) -> None:
    """Stops in the middle of a decision."""

    def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
        say("inside")
        time.sleep(60)
        return []

    SqliteStore(path).decide(1, 0, choose, worker=worker_id("stall"))


def first(path: str, moment: str) -> None:
    """Opens a file that is not there yet, at the same moment as others."""
    while time.time() < float(moment):
        pass
    store, worker = SqliteStore(path), worker_id("first")
    before = store.find("s")
    study = store.create("s", {"by": worker}, exist_ok=True)
    store.append(study.id, [Noted("here", {})], worker=worker)
    say("made" if before is None and study.spec["by"] == worker else "met")
    store.close()


def orphan(path: str, acks: str) -> None:
    """Opens the file, forks, and goes; the child writes on."""
    store = SqliteStore(path)
    study = store.create("s", {}).id
    if os.fork() == 0:
        store.append(study, [Noted("orphan", {})], worker="external/orphan")
        say("child")
        for _ in range(199):
            store.append(study, [Noted("orphan", {})], worker="external/orphan")
            time.sleep(0.0005)
        os._exit(0)
    time.sleep(0.05)


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](*sys.argv[2:])
    except TunewrightError as error:
        say(f"{type(error).__name__} {error}")
