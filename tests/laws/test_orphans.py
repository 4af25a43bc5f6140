"""Nothing that a trial started outlives it, however it was started and whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.run.messages import Answer, Finish, FromWorker, Segment
from tunewright.run.processes import Limits, Processes
from tunewright.run.tree import descendants, usage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are counted in the table of Linux")
MODULE = '''
import multiprocessing, os, signal, subprocess, sys, time

def note(folder):
    with open(os.path.join(folder, "pids"), "a") as file:
        file.write(f"{os.getpid()}\\n")

def daemon(folder):
    """Forks twice into a session of its own and ignores every polite request."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            note(folder)
            while True:
                time.sleep(60)
        os._exit(0)
    os.wait()
    while not os.path.exists(os.path.join(folder, "pids")):
        time.sleep(0.005)

def loader(folder):
    note(folder)
    time.sleep(600)

def leaves(x):
    daemon(x)
    return 1.0

def leaves_and_hangs(x):
    daemon(x)
    children = [multiprocessing.get_context("fork").Process(target=loader, args=(x,), daemon=True) for _ in range(2)]
    for child in children:
        child.start()
    note(x)
    while True:
        time.sleep(60)

def leaves_and_dies(x):
    daemon(x)
    os.kill(os.getpid(), signal.SIGKILL)

def starts_a_program(x):
    note(x)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    with open(os.path.join(x, "pids"), "a") as file:
        file.write(f"{child.pid}\\n")
    time.sleep(600)
'''
KINDS = ["spawn", "fork"]


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A module that worker processes can import."""
    folder = tmp_path_factory.mktemp("orphans")
    (folder / "orphan_makers.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    import orphan_makers  # type: ignore[import-not-found]

    yield orphan_makers
    sys.path.remove(str(folder))


def alive(pid: int) -> bool:
    """Whether a process is there and not only waiting to be taken note of."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def pids(folder: Path) -> list[int]:
    path = folder / "pids"
    return [int(x) for x in path.read_text().split()] if path.exists() else []


def wait(test: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not test() and time.monotonic() < end:
        time.sleep(0.02)
    return test()


def started(kind: str, function: Any, folder: Path, **limits: Any) -> tuple[Processes, list[FromWorker]]:
    """An executor with one trial under way."""
    target = function if kind == "spawn" else (lambda x: function(x))
    executor = Processes(target, 1, Limits(**limits))
    heard: list[FromWorker] = []

    def sink(message: FromWorker) -> Answer:
        heard.append(message)
        return Answer()

    executor.connect(sink)
    executor.submit(Segment(0, 1, {"x": str(folder)}, [("loss", "minimize")], str(folder)))
    return executor, heard


def ending(executor: Processes, heard: list[FromWorker]) -> Finish:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        executor.poll(0.05)
        for message in heard:
            if isinstance(message, Finish):
                return message
    raise AssertionError("the trial did not end")


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_finished_trial_left_behind_is_ended(kind: str, module: Any, tmp_path: Path) -> None:
    executor, heard = started(kind, module.leaves, tmp_path)
    try:
        assert ending(executor, heard).outcome == "completed"
        (left,) = pids(tmp_path)
        assert wait(lambda: not alive(left), 5.0), "the worker lives on, what the trial left does not"
        assert len(executor._workers) == 1
    finally:
        executor.close()


@pytest.mark.parametrize("kind", KINDS)
def test_ending_a_trial_ends_its_whole_tree(kind: str, module: Any, tmp_path: Path) -> None:
    executor, heard = started(kind, module.leaves_and_hangs, tmp_path)
    try:
        assert wait(lambda: len(pids(tmp_path)) == 4)
        assert all(map(alive, pids(tmp_path)))
        root = executor._workers[0].pid
        assert set(pids(tmp_path)) <= set(descendants(root))
        assert usage([root])[root].processes >= 4
        executor.kill(0, "timed_out", "it took too long")
        assert ending(executor, heard).outcome == "timed_out"
        assert not any(map(alive, pids(tmp_path)))
    finally:
        executor.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_worker_takes_its_tree_along(kind: str, module: Any, tmp_path: Path) -> None:
    executor, heard = started(kind, module.leaves_and_dies, tmp_path)
    try:
        found = ending(executor, heard)
        assert (found.outcome, "SIGKILL" in found.error) == ("lost", True)
        assert pids(tmp_path)
        assert not any(map(alive, pids(tmp_path)))
    finally:
        executor.close()


def test_closing_ends_what_left_the_session(module: Any, tmp_path: Path) -> None:
    executor, _ = started("spawn", module.starts_a_program, tmp_path)
    assert wait(lambda: len(pids(tmp_path)) == 2)
    executor.close()
    executor.close()
    assert not any(map(alive, pids(tmp_path)))


@pytest.mark.slow
def test_a_guard_that_is_stopped_does_not_save_its_worker(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunewright.run.processes._PATIENCE", 0.2)
    executor, _ = started("spawn", module.leaves_and_hangs, tmp_path)
    assert wait(lambda: len(pids(tmp_path)) == 4)
    os.kill(executor._workers[0].pid, signal.SIGSTOP)
    executor.close()
    assert wait(lambda: not any(map(alive, pids(tmp_path))), 5.0)


DRIVER = """
import sys
sys.path.insert(0, {folder!r})
import tunewright as tw, orphan_makers
if {kind!r} == "fork":
    train = lambda x: orphan_makers.leaves_and_hangs({place!r})
else:
    def train(x):
        orphan_makers.leaves_and_hangs({place!r})
if __name__ == "__main__":
    study = tw.Study.open("s", {{"x": tw.Float(0, 1)}}, method="random", storage="memory")
    study.run(train, trials=2, workers=1, fresh=True, progress="none")
"""


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("spawn", signal.SIGKILL),
        ("fork", signal.SIGKILL),
        pytest.param("spawn", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("fork", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_nothing_outlives_a_killed_driver(kind: str, number: int, module: Any, tmp_path: Path) -> None:
    folder = str(Path(module.__file__).parent)
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(folder=folder, place=str(tmp_path), kind=kind))
    driver = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE)
    try:
        assert wait(lambda: len(pids(tmp_path)) == 4), driver.communicate(timeout=5)
        below = descendants(driver.pid)
        assert set(pids(tmp_path)) <= set(below)
        driver.send_signal(number)
        if number != signal.SIGKILL:
            time.sleep(0.3)
            driver.send_signal(number)
        driver.communicate(timeout=20)
        assert wait(lambda: not any(map(alive, {*below, *pids(tmp_path)})), 5.0), (
            "0 processes after 5 seconds"
        )
    finally:
        if driver.poll() is None:
            driver.kill()
            driver.communicate()


SCRIPT = """
import os, signal, sys, time
sys.path.insert(0, {folder!r})
import orphan_makers
orphan_makers.daemon({place!r})
print("loss=0.5", flush=True)
"""


def test_what_a_script_left_behind_is_ended(module: Any, tmp_path: Path) -> None:
    from tunewright.run.command import script

    path = tmp_path / "train.py"
    path.write_text(SCRIPT.format(folder=str(Path(module.__file__).parent), place=str(tmp_path)))
    executor, heard = started("spawn", script([sys.executable, str(path)]), tmp_path)
    try:
        assert ending(executor, heard).outcome == "completed"
        (left,) = pids(tmp_path)
        assert wait(lambda: not alive(left), 5.0)
    finally:
        executor.close()


def held() -> tuple[int, int, int]:
    """Open files, children and threads of this process."""
    return len(list(Path("/proc/self/fd").iterdir())), len(descendants(os.getpid())), threading.active_count()


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"workers": 2}, {"workers": 1}, {"workers": 2, "fresh": True}], ids=str)
def test_files_children_and_threads_do_not_grow_with_trials(how: dict[str, Any], tmp_path: Path) -> None:
    trials = 60 if how.get("fresh") else 2000
    with tw.Study.open("s", {"x": tw.Float(0, 1)}, method="random", storage=tmp_path / "s.db") as study:
        study.run(lambda x: x, trials=20, progress="none", **how)
        before, seen = held(), []

        def watch(event: Any, session: Any) -> None:
            if len(seen) < trials:
                seen.append(held())

        study.run(lambda x: x, trials=20 + trials, progress="none", watch=watch, **how)
        assert held() == before
    first, last = seen[len(seen) // 10], max(seen[len(seen) // 2 :])
    assert last[0] <= first[0] + 4
    assert last[1] <= 2 * how["workers"] + 1
    assert last[2] == first[2]
