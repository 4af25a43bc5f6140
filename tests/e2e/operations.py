"""One operation of a study goes wrong at one moment in one way, in every combination; prints what was broken as JSON.

``python operations.py URL FOLDER``. Operations: create, enqueue, ask, report, save, tell. Moments: before the store is
asked; on the way, when the store has begun to write or the request has been sent; after it has answered, when the
caller does not know yet. Ways: the process is killed; it is stopped for two leases while somebody else takes over; the
call raises something strange; the answer is lost.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tunewright as tw
from tunewright.core.events import Ended, Enqueued, Reported, Saved
from tunewright.errors import TunewrightError
from tunewright.run import session as sessions
from tunewright.store import blobs

OPERATIONS = ("create", "enqueue", "ask", "report", "save", "tell")
MOMENTS = ("before", "within", "after")
WAYS = ("kill", "stop", "raise", "lose")
LEASE = 0.5
logging.disable()


class Strange(Exception):
    """Nothing that anybody expects."""


class Failpoint:
    """Goes off once, in one operation at one moment.

    Attributes:
        operation: What is under way.
    """

    def __init__(self, operation: str, moment: str, way: str) -> None:
        self.wanted = (operation, moment)
        self.way = way
        self.operation = ""
        self.spent = False

    def __call__(self, moment: str, lost: Callable[[], BaseException]) -> None:
        if self.spent or (self.operation, moment) != self.wanted:
            return
        self.spent = True
        if self.way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.way == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self.way == "raise":
            raise Strange
        else:
            raise lost()

    def install(self, url: str) -> None:
        """Wraps what the session calls, and one place below it."""
        kind, (inside, name, lost) = _inside(url)
        unavailable = partial(tw.errors.StoreUnavailable, "lost on the way", passing=True)
        for method in ("create", "decide", "append", "ask"):
            if hasattr(kind, method):
                self._wrap(kind, method, "before", "after", unavailable)
        self._wrap(inside, name, "", "within", lost) if "sqlite" in url else self._wrap(
            inside, name, "within", "", lost
        )
        self._wrap(blobs, "put", "before", "after", unavailable)

    def _wrap(
        self, owner: Any, name: str, before: str, after: str, lost: Callable[[], BaseException]
    ) -> None:
        real = getattr(owner, name)

        def wrapped(*arguments: Any, **more: Any) -> Any:
            self(before, lost)
            found = real(*arguments, **more)
            self(after, lost)
            return found

        setattr(owner, name, wrapped)


def _inside(url: str) -> tuple[Any, tuple[Any, str, Callable[[], BaseException]]]:
    """The class of the store, and a method below it with how that one fails."""
    if url.startswith("postgresql"):
        from tunewright.store.pg_line import Line, Lost
        from tunewright.store.postgres import PostgresStore

        return PostgresStore, (Line, "_answers", partial(Lost, "lost on the way", sent=True))
    if url.startswith("http"):
        from tunewright.store.client import _Wire
        from tunewright.store.http import HttpStore

        return HttpStore, (_Wire, "head", partial(ConnectionResetError, 104, "lost on the way"))
    import sqlite3

    from tunewright.store.sqlite import SqliteStore

    def busy() -> BaseException:
        return sqlite3.OperationalError("lost on the way")

    return SqliteStore, (SqliteStore, "_insert", busy)


def opened(url: str, name: str) -> tw.Study:
    policy = tw.Policy(lease=LEASE, patience=2.0, max_attempts=20)
    return tw.Study.open(name, {"x": tw.Float(0, 1)}, steps=2, method="random", storage=url, policy=policy)


def work(url: str, name: str, fail: Failpoint, acks: Callable[..., object]) -> None:
    fail.operation = "create"
    study = opened(url, name)
    fail.operation = "enqueue"
    study.enqueue({"x": 0.5}, key="item")
    acks("queued", "item")
    fail.operation = "ask"
    asked = study.ask() or study.ask()
    assert asked is not None
    fail.operation = "report"
    asked.report(1, loss=1.0)
    acks("reported", asked.number, asked.token, 1)
    fail.operation = "save"
    session = study.session
    place = session.store.blobs(session.info.id)
    kept = blobs.put(place, f"t{asked.number}", os.urandom(100))
    session.record(Saved(asked.number, asked.token, 1, kept))
    acks("saved", asked.number, asked.token, kept)
    fail.operation = "tell"
    asked.tell(0.25)
    acks("ended", asked.number, asked.token, "completed")
    fail.operation = ""
    study.close()


def check(url: str, name: str, lines: list[list[str]]) -> None:
    with opened(url, name) as study:
        store, key = study.session.store, study.session.info.id
        told: set[tuple[str, ...]] = set()
        for event in (r.event for r in store.read(key)):
            if isinstance(event, Enqueued):
                told.add(("queued", event.key))
            elif isinstance(event, Reported):
                told.add(("reported", str(event.trial), str(event.token), str(event.step)))
            elif isinstance(event, Saved):
                told.add(("saved", str(event.trial), str(event.token), event.checkpoint))
            elif isinstance(event, Ended):
                told.add(("ended", str(event.trial), str(event.token), event.outcome))
        lost = [words for words in lines if tuple(words) not in told]
        assert not lost, f"acknowledged and lost: {lost}"
        end = time.monotonic() + 10
        while True:
            ledger = study.session.sync()
            if not (ledger.running or ledger.waiting or ledger.queue):
                break
            assert time.monotonic() < end, f"left over: {ledger.running} {ledger.waiting} {ledger.queue}"
            asked = study.ask()
            if asked is not None:
                asked.tell(0.25)
            time.sleep(0.02)
        asked = study.ask()
        assert asked is not None
        asked.tell(0.5)
        trials = study.trials
        assert [t.number for t in trials] == list(range(len(trials)))
        assert {t.status for t in trials} == {"completed"}
        assert sum(t.params == {"x": 0.5} for t in trials) <= 1, "one item, one trial"
        found = study.replay()
        assert found.verified + found.skipped == found.decisions


def fork(work: Callable[[], Any], trouble: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except (TunewrightError, Strange):
        code = 3
    except BaseException:
        trouble.write_text(traceback.format_exc())
    finally:
        os._exit(code)


def ended(pid: int, seconds: float, stopped: bool = False) -> int | None:
    """Exit code; None when it is stopped, -1000 when it had to be killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG | (os.WUNTRACED if stopped else 0))
        if done and os.WIFSTOPPED(status):
            return None
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1000


def cell(url: str, home: Path, operation: str, moment: str, way: str) -> tuple[str, bool]:
    """What was broken, or nothing; and whether the process was killed as planned."""
    name, record, trouble = f"{operation}-{moment}-{way}", home / "acks", home / "trouble"
    record.write_text("")
    trouble.write_text("")
    place = url.replace("STUDY", name)

    def hurt() -> None:
        sessions._AGAIN = 0.05
        fd = os.open(record, os.O_WRONLY | os.O_APPEND)
        fail = Failpoint(operation, moment, way)
        fail.install(url)
        work(place, name, fail, lambda *words: os.write(fd, (" ".join(map(str, words)) + "\n").encode()))

    pid = fork(hurt, trouble)
    code = ended(pid, 20, stopped=True)
    if code is None:
        # Somebody else finds the trial silent and takes it over, unless the store itself is being held.
        other = fork(lambda: check(place, name, []), home / "other")
        time.sleep(2.2 * LEASE)
        os.kill(pid, signal.SIGCONT)
        if ended(other, 30) not in (0, 3):
            return f"{name}: who took over: {(home / 'other').read_text()[-800:]}", False
        code = ended(pid, 20)
    if code not in (0, 3, -signal.SIGKILL):
        return f"{name}: ended with {code}: {trouble.read_text()[-800:]}", False
    lines = [line.split() for line in record.read_text().split("\n")[:-1]]
    if ended(fork(lambda: check(place, name, lines), trouble), 40) != 0:
        return f"{name}: afterwards: {trouble.read_text()[-800:]}", False
    return "", code == -signal.SIGKILL


def main(url: str, folder: str) -> None:
    bad, killed = [], 0
    cells = list(itertools.product(OPERATIONS, MOMENTS, WAYS))
    for operation, moment, way in cells:
        found, dead = cell(url, Path(folder), operation, moment, way)
        killed += dead
        if found:
            bad.append(found)
    print(json.dumps({"cells": len(cells), "killed": killed, "bad": bad}))


if __name__ == "__main__":
    main(*sys.argv[1:])
