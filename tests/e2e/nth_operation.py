"""Makes the n-th call of a kind fail, for n = 1, 2, 3 ... until a whole run passes; prints what became of each as JSON.

``python nth_operation.py KIND ACTION CODE STORE FOLDER [FIRST STEP]``, started with the library of
``benchmarks.faults.shim`` preloaded. STORE is ``process``, ``full`` or the address of a server. Every run is a forked
child, so that imports are paid for once; a second child looks at what the first one left.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.faults import shim

import tunewright as tw
from tunewright.core.events import Ended, Enqueued, Event, Reported, Saved
from tunewright.errors import TunewrightError
from tunewright.run import session as sessions
from tunewright.run.session import Session
from tunewright.store import blobs, clock, sqlite

SPACE = {"x": tw.Float(0, 1)}
logging.disable()
PATIENCE = 0.4


def truth(params: dict[str, Any]) -> float:
    return float((params["x"] - 0.3) ** 2)


class Weights:
    def __init__(self) -> None:
        self.seen = 0

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


def train(trial: Any) -> None:
    weights = Weights()
    trial.keep(weights=weights)
    assert weights.seen == trial.step, "these are other weights"
    for step in trial.steps():
        weights.seen = step
        trial.report(step, loss=truth(trial.params) + 3 - step)


def opened(folder: Path, where: str, deadline: float = 0.4) -> tw.Study:
    """The study of one run: in its folder, or of its name on the server."""
    if "://" in where:
        return tw.Study.open(
            (folder / "name").read_text(), SPACE, steps=3, method="random", storage=where,
            policy=tw.Policy(lease=1.0, patience=PATIENCE, max_attempts=5),
        )  # fmt: skip
    url = f"sqlite:///{folder}/studies.db?durability={where}&deadline={deadline:g}"
    policy = tw.Policy(lease=1.0, patience=PATIENCE, max_attempts=5)
    return tw.Study.open("s", SPACE, steps=3, method="random", storage=url, policy=policy)


class Acks:
    """What this process was told is safe; one write per line, to a file that is not tampered with."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)

    def __call__(self, *words: object) -> None:
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())

    def watch(self, event: Event, session: Session) -> None:
        if isinstance(event, Reported):
            self("reported", event.trial, event.token, event.step)
        elif isinstance(event, Saved):
            self("saved", event.trial, event.token, event.checkpoint)
        elif isinstance(event, Ended):
            self("ended", event.trial, event.token, event.outcome)


def work(folder: Path, where: str, acks: Acks) -> None:
    """A queue, two trials by ask and tell, two by a run; whatever fails is tried once more, as people do."""
    study = patiently(lambda: opened(folder, where), acks)
    for number in range(2):
        key = f"item-{number}"
        patiently(partial(study.enqueue, {"x": 0.25}, key=key), acks)
        acks("queued", key)
    for _ in range(2):
        asked = patiently(study.ask, acks)
        assert asked is not None
        for step in (1, 2, 3):
            patiently(partial(asked.report, step, loss=float(step)), acks)
            acks("reported", asked.number, asked.token, step)
        patiently(partial(asked.tell, truth(asked.params)), acks)
        acks("ended", asked.number, asked.token, "completed")
    patiently(lambda: study.run(train, trials=4, progress="none", watch=acks.watch), acks)
    patiently(study.close, acks)


def patiently(call: Callable[[], Any], acks: Acks) -> Any:
    try:
        return call()
    except TunewrightError as error:
        acks("error", type(error).__name__)
        time.sleep(0.01)
        return call()


def check(folder: Path, where: str, lines: list[list[str]], hopeless: bool) -> None:
    """Nothing acknowledged is lost, everything that is named is whole, and the study goes on.

    Where no checkpoint could be written at all, trials may have been given up.
    """
    served = "://" in where
    # The dead are looked for at every decision here, and not only twice a second.
    sqlite._SWEEP = 0.0
    with opened(folder, where, 10.0) as study:
        if not served:
            study.session.store._pulse = clock.Pulse(0.0)  # type: ignore[attr-defined]
        store, info = study.session.store, study.session.info
        records = store.read(info.id)
        assert [r.seq for r in records] == list(range(1, len(records) + 1))
        told: set[tuple[str, ...]] = set()
        for event in (r.event for r in records):
            if isinstance(event, Enqueued):
                told.add(("queued", event.key))
            elif isinstance(event, Reported):
                told.add(("reported", str(event.trial), str(event.token), str(event.step)))
            elif isinstance(event, Saved):
                told.add(("saved", str(event.trial), str(event.token), event.checkpoint))
            elif isinstance(event, Ended):
                told.add(("ended", str(event.trial), str(event.token), event.outcome))
        lost = [words for words in lines if words[0] != "error" and tuple(words) not in told]
        assert not lost, f"acknowledged and lost: {lost}"
        place = store.blobs(info.id)
        for name in study.session.sync().held:
            blobs.get(place, name)
        for trial in study.trials:
            if trial.status == "completed" and trial.start.queue:
                assert math.isclose(trial.metrics["loss"], truth(trial.params), abs_tol=1e-9)
        study.run(train, trials=max(5, len(study.trials) + 1), progress="none")
        ledger = study.session.sync()
        assert not ledger.running
        assert not ledger.waiting
        assert not ledger.queue
        assert set(study.counts) <= ({"completed", "lost"} if hopeless else {"completed"}), study.counts
        assert [t.number for t in study.trials] == list(range(len(study.trials)))
        found = study.replay()
        assert found.verified + found.skipped == found.decisions
    if not served:
        connection = sqlite3.connect(folder / "studies.db")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def child(path: Path, work: Callable[[], Any]) -> int:
    """Runs the work in a fork; what it raises goes to a file. Returns its exit code, minus the signal it died of."""
    pid = os.fork()
    if pid:
        end = time.monotonic() + 30
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
                path.write_text("hung for 30 s")
                return -1000
            time.sleep(0.002)
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        path.write_text(traceback.format_exc())
    finally:
        os._exit(code)


def once(kind: str, nth: int, action: str, code: int, where: str, home: Path) -> tuple[bool, str, int]:
    """One run: whether the call was reached, what was wrong, and how much was acknowledged."""
    folder, record = home / "studies", home / "acks"
    shutil.rmtree(folder, ignore_errors=True)
    record.unlink(missing_ok=True)
    folder.mkdir()
    (folder / "name").write_text(f"{kind}-{action}-{nth}-{os.getpid()}")
    calls = home / "calls"
    calls.write_text(str(nth))

    def hurt() -> None:
        sessions._AGAIN = 0.05
        acks = Acks(record)
        # What goes to a server is counted wherever it goes, what goes to files only in the folder.
        shim.arm(kind, nth, action, code, str(folder))
        try:
            work(folder, where, acks)
        except TunewrightError as error:
            acks("error", type(error).__name__)
        finally:
            seen = shim.disarm()
            calls.write_text(str(seen))

    ended = child(home / "trouble", hurt)
    lines = [line.split() for line in record.read_text().split("\n")[:-1]] if record.exists() else []
    kept = sum(words[0] != "error" for words in lines)
    reached = ended < 0 or int(calls.read_text()) >= nth
    if ended == -1000 or ended > 0:
        return reached, (home / "trouble").read_text(), kept
    if child(home / "trouble", lambda: check(folder, where, lines, action == "on")):
        return reached, (home / "trouble").read_text(), kept
    return reached, "", kept


def main(kind: str, action: str, code: str, where: str, home: str, first: str = "1", step: str = "1") -> None:
    nth, kept, bad = int(first), 0, []
    while True:
        reached, trouble, acks = once(kind, nth, action, int(code), where, Path(home))
        kept += acks
        if trouble:
            bad.append([nth, trouble[-1500:]])
        if not reached or len(bad) > 5:
            break
        nth += int(step)
    print(json.dumps({"calls": nth - 1, "acknowledged": kept, "bad": bad}))


if __name__ == "__main__":
    main(*sys.argv[1:])
