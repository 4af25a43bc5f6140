"""Workers and their server in processes of their own, killed, frozen and cut off."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import Shell

import tunewright as tw
from small_server import Proxy
from tunewright.core.events import Edited, Ended, Enqueued, Interrupted, Noted, Reported, Started
from tunewright.store.http import HttpStore
from tunewright.store.sqlite import SqliteStore

TRAIN = """
import os, time

def train(trial):
    with open("began.txt", "a") as f:
        f.write(f"{trial.number}\\n")
    for step in trial.steps():
        time.sleep(float(os.environ.get("PAUSE", "0.05")))
        if not trial.report(step, loss=trial.params["x"] / step):
            trial.checkpoint.save({"step": step})
    return trial.params["x"] / 4
"""


class Place(Shell):
    """A folder with a server in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.store = folder / "s.db"
        self.write("train.py", TRAIN)
        self.study = tw.Study.open(
            "a", {"x": tw.Float(0, 1)}, minimize="loss", method="random", steps=4, storage=self.store
        )

    def serve(self) -> subprocess.Popen[str]:
        process = self.start("serve", "--port", self.port, "--storage", self.store, "--logs", "none")

        def there() -> bool:
            assert process.poll() is None, process.communicate()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                return False
            return True

        self.wait(there, "the server")
        return process

    def worker(self, *more: object, url: str = "") -> subprocess.Popen[str]:
        return self.start("worker", url or self.url, "a", "train.py:train", "--grace", "5s", *more)

    def trials(self) -> list[tw.Trial]:
        return list(self.study.session.sync().trials)

    def events(self, *kinds: type) -> list:  # type: ignore[type-arg]
        with_store = SqliteStore(self.store)
        try:
            return [r.event for r in with_store.read(1) if isinstance(r.event, kinds)]
        finally:
            with_store.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()
    made.study.close()


def ended(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, f"{out}\n{err}"
    assert "Traceback" not in err, err
    return out, err


def check(place: Place, trials: int) -> None:
    """Every trial has one beginning and one result, the right one."""
    starts, ends = place.events(Started), place.events(Ended)
    assert [e.trial for e in starts] == list(range(trials)), "no trial was begun twice"
    assert sorted(e.trial for e in ends) == list(range(trials)), "no result was lost"
    assert all(e.outcome == "completed" for e in ends)
    assert all(abs(e.metrics["loss"] - starts[e.trial].config["x"] / 4) < 1e-12 for e in ends)
    steps = [(e.trial, e.token, e.step) for e in place.events(Reported)]
    assert len(steps) == len(set(steps)), "nothing was recorded twice"
    assert not list(place.folder.rglob("*.spool"))


def test_worker_trains_and_pauses_when_it_is_told_to(place: Place) -> None:
    place.serve()
    worker = place.worker("--workers", 2)
    place.wait(lambda: any(t.status == "completed" for t in place.trials()), "a result")
    worker.send_signal(signal.SIGTERM)
    out, _ = ended(worker, 143)
    assert "interrupted" in out
    assert place.study.session.store.leases(1) == []
    assert {e.cause for e in place.events(Interrupted)} <= {"preempted"}
    total = len(place.trials())
    out, _ = place("worker", place.url, "a", "--trials", total, "--", "python", "-c", "print('loss=0.5')")
    assert "finished" in out
    assert {t.status for t in place.trials()} == {"completed"}


@pytest.mark.slow
def test_nothing_is_lost_when_a_worker_and_the_server_are_killed(place: Place) -> None:
    server = place.serve()
    first, second = place.worker("--trials", 24), place.worker("--trials", 24)
    place.wait(lambda: len(place.trials()) >= 4, "some trials")
    first.kill()
    first.communicate()
    place.wait(lambda: len(place.trials()) >= 8, "more trials")
    server.kill()
    server.communicate()
    time.sleep(2.0)
    place.serve()
    third = place.worker("--trials", 24)
    ended(second, 0)
    ended(third, 0)
    check(place, 24)


@pytest.mark.slow
def test_server_killed_again_and_again(place: Place) -> None:
    """Every result that a worker was told is kept is there at the end, and no trial is trained in vain."""
    server = place.serve()
    workers = [place.worker("--trials", 30, "--workers", 2) for _ in range(2)]
    for _ in range(5):
        time.sleep(1.0)
        server.kill()
        server.communicate()
        time.sleep(0.3)
        server = place.serve()
    for worker in workers:
        ended(worker, 0)
    check(place, 30)
    assert len(place.lines("began.txt")) == 30


@pytest.mark.slow
def test_lines_that_drop_stall_and_break_cost_no_trial(place: Place) -> None:
    place.serve()
    rng = random.Random(1)
    stalls = iter(range(1))

    def plan(number: int, head: str) -> str:
        if number == 20 and next(stalls, None) is not None:
            return "stall"
        return rng.choice(["drop", "refuse", "cut", *[""] * 9])

    with Proxy(place.port, plan) as proxy:
        workers = [place.worker("--trials", 20, url=proxy.url) for _ in range(2)]
        for worker in workers:
            ended(worker, 0)
        assert proxy.hit > 10
    check(place, 20)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_program_that_asks_and_tells_over_a_bad_line_loses_and_doubles_nothing(
    place: Place, seed: int
) -> None:
    place.serve()
    rng = random.Random(seed)
    with Proxy(place.port, lambda n, head: rng.choice(["drop", "refuse", "cut", "", "", ""])) as proxy:
        with tw.Study.open("a", storage=HttpStore(proxy.url, deadline=1.0)) as study:
            for i in range(5):
                study.enqueue({"x": i / 10})
            for _ in range(8):
                asked = study.ask()
                assert asked is not None
                asked.report(1, loss=asked.params["x"])
                asked.tell(asked.params["x"] / 4)
            many = study.ask_many(4)
            study.tell_many([(m, m.params["x"] / 4) for m in many])
            study.edit({"x": tw.Float(0, 2)})
            assert study.counts == {"completed": 12}
        assert proxy.hit > 20
    check(place, 12)
    assert [e.config["x"] for e in place.events(Enqueued)] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert len(place.events(Edited)) == 1


@pytest.mark.slow
def test_frozen_worker_wakes_up_and_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUSE", "0.2")
    place.serve()
    frozen = place.worker("--trials", 6, "--lease", "2s")
    place.wait(lambda: bool(place.events(Reported)), "a report")
    frozen.send_signal(signal.SIGSTOP)
    place.wait(lambda: bool(place.trials()), "a trial")
    other = place.worker("--trials", 6, "--lease", "2s")
    place.wait(lambda: bool(place.events(Interrupted)), "the trial to be taken over")
    time.sleep(0.5)
    frozen.send_signal(signal.SIGCONT)
    _, err = ended(frozen, 0)
    ended(other, 0)
    assert "taken over" in err
    trials = place.trials()
    assert [t.status for t in trials] == ["completed"] * 6
    assert sorted(e.trial for e in place.events(Ended)) == list(range(6))
    assert {e.topic for e in place.events(Noted)} <= {"late"}


@pytest.mark.slow
def test_worker_runs_what_the_study_says_only_when_it_may(place: Place) -> None:
    (place.folder / "script.py").write_text("import sys; print('loss=' + sys.argv[1])")
    place(
        "run", "--name", "b", "--minimize", "loss", "--method", "random", "--trials", 2, "--storage", place.store,
        "--progress", "none", "--", "python", "script.py", "{x:0.0..1.0}",
    )  # fmt: skip
    place.serve()
    _, err = place("worker", place.url, "b", code=2)
    assert "--command-from-study" in err
    out, err = place("worker", place.url, "b", "--trials", 4, "--command-from-study")
    assert "running what the study says: python script.py {x}" in err
    assert "2 begun, 2 ended here" in out
    _, err = place("worker", place.url, "b", "--command-from-study", "--", "python", code=2)
    assert "got two of them" in err


@pytest.mark.slow
def test_worker_opens_a_store_itself(place: Place) -> None:
    place("worker", place.store, "a", "train.py:train", "--trials", 3)
    assert [t.status for t in place.trials()] == ["completed"] * 3
    _, err = place("worker", place.store, "a", "train.py:train", "--once", code=2)
    assert "needs a server" in err
