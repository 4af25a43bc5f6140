"""Random lives of processes that are killed, stopped and replaced; what they saw is held against the log.

A trial is a register that belongs to whoever has its newest token, so one pass over the log decides whether any order
of the acknowledged operations explains it.
"""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from history_worker import opened

import tunewright as tw
from tunewright.core.events import Ended, Enqueued, Resumed, Started

WORKER = Path(__file__).with_name("history_worker.py")
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are stopped as on Linux")


@pytest.fixture(params=["sqlite", "full", "postgres", "http"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "postgres":
        yield f"{request.getfixturevalue('postgres_url')}&blobs={tmp_path / 'blobs'}"
    elif request.param == "http":
        monkeypatch.syspath_prepend(str(ROOT))
        from benchmarks.faults.places import Server

        server = Server(tmp_path)
        try:
            server.start()
            yield server.url("tunewright")
        finally:
            server.close()
    else:
        yield f"sqlite:///{tmp_path}/studies.db" + ("?durability=full" if request.param == "full" else "")


def live(url: str, folder: Path, seconds: float, seed: int) -> int:
    """Three processes at a time for so many seconds; returns how many were killed."""
    rng, killed = random.Random(seed), 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parent)}

    def spawn(number: int) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            str(WORKER),
            url,
            str(folder / f"{number}.record"),
            str(seed * 1000 + number),
        ]
        return subprocess.Popen(command, env=environment)

    running, count = [spawn(i) for i in range(3)], 3
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            time.sleep(rng.uniform(0.8, 2.5))
            place = rng.randrange(3)
            victim = running[place]
            assert victim.poll() is None, f"a worker ended by itself: {victim.returncode}"
            if rng.random() < 0.4:
                victim.send_signal(signal.SIGSTOP)
                time.sleep(rng.choice([0.3, 3.0]))
                victim.send_signal(signal.SIGCONT)
            else:
                victim.kill()
                victim.wait()
                killed += 1
                running[place] = spawn(count)
                count += 1
    finally:
        for process in running:
            process.kill()
            process.wait()
    return killed + 3


def lines(folder: Path) -> dict[str, list[list[str]]]:
    found: collections.defaultdict[str, list[list[str]]] = collections.defaultdict(list)
    for path in folder.glob("*.record"):
        for line in path.read_text().split("\n")[:-1]:
            kind, *words = line.split(" ")
            found[kind].append(words)
    return found


def check(study: tw.Study, seen: dict[str, list[list[str]]]) -> None:
    records = study.session.store.read(study.session.info.id)
    ledger = study.session.sync()
    assert [r.seq for r in records] == list(range(1, len(records) + 1))
    numbers = [r.event.trial for r in records if isinstance(r.event, Started)]
    assert numbers == list(range(len(numbers))), "numbers are dense"
    newest: dict[int, int] = {}
    ends: dict[int, tuple[int, float | None]] = {}
    for record in records:
        event = record.event
        if isinstance(event, Started | Resumed):
            assert event.trial not in ends, "what is over never begins again"
            newest[event.trial] = record.seq
        elif isinstance(event, Ended):
            assert event.trial not in ends, "nothing ends twice"
            assert event.token == newest[event.trial], "only the newest attempt speaks"
            value = (event.metrics or {}).get("loss") if event.outcome == "completed" else None
            ends[event.trial] = (event.token, value)
    told = {(int(n), int(t), float(v)) for n, t, v in seen["TELL"]}
    for n, t, v in seen["ACK"]:
        assert ends[int(n)] == (int(t), float(v)), "acknowledged is recorded"
    for number, (token, value) in ends.items():
        assert value is None or (number, token, value) in told, "nobody told that"
    handed = collections.Counter((n, t) for n, t in seen["START"])
    assert set(handed.values()) <= {1}, "one attempt, one worker"
    tokens = {(str(r.event.trial), str(r.seq)) for r in records if isinstance(r.event, Started | Resumed)}
    assert set(handed) <= tokens
    keys = collections.Counter(r.event.key for r in records if isinstance(r.event, Enqueued))
    assert set(keys.values()) <= {1}, "one key, one item"
    assert {key for (key,) in seen["QUEUED"]} <= set(keys), "acknowledged items are there"
    served = collections.Counter(t.start.queue for t in ledger.trials if t.start.queue)
    assert set(served.values()) <= {1}, "one item, one trial"
    assert set(served) | set(ledger.queue) == set(ledger.keys.values())


@pytest.mark.slow
def test_history(url: str, tmp_path: Path) -> None:
    with opened(url) as study:
        killed = live(url, tmp_path, 25.0, 7)
        seen = lines(tmp_path)
        check(study, seen)
        begun = time.monotonic()
        while study.session.sync().running and time.monotonic() - begun < 20:
            asked = study.ask()
            assert asked is not None
            asked.tell(0.5)
        assert not study.session.sync().running, "no trial of the dead stays running"
        check(
            study,
            {k: v for k, v in seen.items() if k != "TELL"} | {"TELL": seen["TELL"] + mine(study)},
        )
        assert study.replay().verified >= 1
    assert not seen["ERROR"], seen["ERROR"][:3]
    assert len(seen["ACK"]) > 30
    assert killed > 5


def mine(study: tw.Study) -> list[list[str]]:
    """What this process told while it waited for the dead."""
    records = study.session.store.read(study.session.info.id)
    return [
        [str(r.event.trial), str(r.event.token), "0.5"]
        for r in records
        if isinstance(r.event, Ended) and r.worker == study.session.worker
    ]


@pytest.mark.parametrize("broken", ["lost", "twice", "phantom", "token", "item"])
def test_checker_notices(broken: str, tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/s.db") as study:
        asked = study.ask()
        assert asked is not None
        asked.tell(0.25)
        study.enqueue({"x": 0.5}, key="a")
        number, token = str(asked.number), str(asked.token)
        seen = collections.defaultdict(list, {
            "START": [[number, token]], "TELL": [[number, token, "0.25"]], "ACK": [[number, token, "0.25"]],
            "QUEUED": [["a"]],
        })  # fmt: skip
        check(study, seen)
        if broken == "lost":
            seen["ACK"].append([number, token, "0.75"])
        elif broken == "twice":
            seen["START"].append([number, token])
        elif broken == "phantom":
            seen["TELL"].clear()
        elif broken == "token":
            seen["START"].append([number, "77"])
        else:
            seen["QUEUED"].append(["b"])
        with pytest.raises(AssertionError):
            check(study, seen)
