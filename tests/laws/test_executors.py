"""The laws of executors: one ending per segment, whatever happens to the worker, and nobody left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunewright.run.executor import InProcess
from tunewright.run.messages import Answer, Finish, FromWorker, Report, Save, Segment
from tunewright.run.processes import Limits, Processes
from tunewright.run.worker import call

MODULE = """
import os, signal, subprocess, sys, time

def fine(trial):
    for step in trial.steps():
        trial.report(step, loss=trial.params["x"] / step)

def plain(x):
    print("hello from", os.getpid())
    return x * 2

def raises(x):
    raise RuntimeError("no luck")

def exits(x):
    sys.exit(4)

def dies(x):
    os.kill(os.getpid(), signal.SIGKILL)

def hard_exit(x):
    os._exit(9)

def hangs(x):
    time.sleep(600)

def leaves_children(x):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(x, "w") as file:
        file.write(str(child.pid))
    time.sleep(600)

def hungry(x):
    block = []
    while True:
        block.append(bytearray(8 << 20))
        time.sleep(0.005)

def pauses(trial):
    for step in trial.steps():
        time.sleep(0.01)
        trial.report(step, loss=1.0)
        if trial.should_pause():
            trial.checkpoint.save({"step": step})

def environment(x):
    return {"loss": 1.0, "threads": int(os.environ["OMP_NUM_THREADS"]), "device": int(os.environ.get("CUDA_VISIBLE_DEVICES", "-1"))}
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A module that worker processes can import."""
    folder = tmp_path_factory.mktemp("workers")
    (folder / "law_workers.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    import law_workers  # type: ignore[import-not-found]

    yield law_workers
    sys.path.remove(str(folder))


class Listener:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[FromWorker] = []
        self.verdict: Any = ""

    def __call__(self, message: FromWorker) -> Answer:
        self.heard.append(message)
        return Answer(self.verdict)

    def endings(self, trial: int) -> list[Finish]:
        return [m for m in self.heard if isinstance(m, Finish) and m.trial == trial]


def ray_executor(function: Any, limits: dict[str, Any]) -> Any:
    """Two workers on a small Ray that is started for the first law and serves all of them."""
    ray = pytest.importorskip("ray")
    from tunewright.run.ray import Ray, RayExecutor

    if not ray.is_initialized():
        ray.init(
            num_cpus=2,
            num_gpus=1,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=80 << 20,
            logging_level="ERROR",
        )
    return RayExecutor(function, 2, Ray(cpus=0.5, gpus=0.5), Limits(**limits))


@pytest.fixture(scope="module", autouse=True)
def ray_ends() -> Iterator[None]:
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def executor_of(kind: str, function: Any, **limits: Any) -> Any:
    if kind == "inprocess":
        return InProcess(function)
    if kind.startswith("ray"):
        return ray_executor(function if kind == "ray" else lambda trial: call(function, trial), limits)
    # A closure cannot be imported by name, so it is forked.
    target = function if kind == "spawn" else (lambda trial: call(function, trial))
    return Processes(target, 2, Limits(**limits))


def run(
    executor: Any, segments: list[Segment], seconds: float = 30.0, listener: Listener | None = None
) -> Listener:
    listener = listener or Listener()
    executor.connect(listener)
    waiting = list(segments)
    under_way: set[int] = set()
    end = time.monotonic() + seconds
    while (waiting or under_way) and time.monotonic() < end:
        while waiting and len(under_way) < executor.capacity:
            segment = waiting.pop(0)
            under_way.add(segment.trial)
            executor.submit(segment)
        executor.poll(0.2)
        under_way = {t for t in under_way if not listener.endings(t)}
    return listener


def segment(folder: Path, trial: int = 0, **more: Any) -> Segment:
    config = more.pop("config", {"x": 0.5})
    return Segment(trial, trial + 1, config, [("loss", "minimize")], str(folder), **more)


SLOW = pytest.mark.slow
CHILDREN = ["spawn", "fork"]
REMOTE = [*CHILDREN, pytest.param("ray", marks=SLOW), pytest.param("ray-shipped", marks=SLOW)]
KINDS = ["inprocess", *REMOTE]


@pytest.mark.parametrize("kind", KINDS)
def test_every_segment_has_one_ending(kind: str, module: Any, tmp_path: Path) -> None:
    executor = executor_of(kind, module.plain)
    heard = run(executor, [segment(tmp_path, i, config={"x": float(i)}) for i in range(7)])
    executor.close()
    for i in range(7):
        (ending,) = heard.endings(i)
        assert ending.outcome == "completed"
        assert ending.metrics == {"loss": 2.0 * i}
        assert ending.token == i + 1


@pytest.mark.parametrize("kind", KINDS)
def test_reports_come_in_order_before_the_ending(kind: str, module: Any, tmp_path: Path) -> None:
    executor = executor_of(kind, module.fine)
    heard = run(executor, [segment(tmp_path, until=4, high=4)]).heard
    executor.close()
    assert [m.step for m in heard if isinstance(m, Report)] == [1, 2, 3, 4]
    assert isinstance(heard[-1], Finish)
    assert heard[-1].outcome == "completed"
    assert heard[-1].metrics == {"loss": 0.125}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "text"), [("raises", "RuntimeError: no luck"), ("exits", "sys.exit(4)")])
def test_user_errors_end_the_trial_not_the_worker(
    kind: str, name: str, text: str, module: Any, tmp_path: Path
) -> None:
    executor = executor_of(kind, getattr(module, name))
    heard = run(executor, [segment(tmp_path, i) for i in range(3)])
    executor.close()
    for i in range(3):
        (ending,) = heard.endings(i)
        assert ending.outcome == "failed"
        assert text in ending.error


@pytest.mark.parametrize("kind", REMOTE)
@pytest.mark.parametrize(("name", "text"), [("dies", "SIGKILL"), ("hard_exit", "exit status 9")])
def test_a_dead_worker_ends_its_segment_as_lost(
    kind: str, name: str, text: str, module: Any, tmp_path: Path
) -> None:
    executor = executor_of(kind, getattr(module, name))
    heard = run(executor, [segment(tmp_path, 0), segment(tmp_path, 1)])
    executor.close()
    for i in range(2):
        (ending,) = heard.endings(i)
        assert ending.outcome == "lost"
        assert text in ending.error


@pytest.mark.parametrize("kind", REMOTE)
def test_a_killed_segment_ends_as_asked_and_leaves_no_process(kind: str, module: Any, tmp_path: Path) -> None:
    executor = executor_of(kind, module.leaves_children)
    listener = Listener()
    executor.connect(listener)
    note = tmp_path / "pid"
    executor.submit(segment(tmp_path, config={"x": str(note)}))
    end = time.monotonic() + 20
    while time.monotonic() < end and not (note.exists() and note.read_text()):
        executor.poll(0.05)
    child = int(note.read_text())
    executor.kill(0, "timed_out", "took longer than 1 second")
    (ending,) = listener.endings(0)
    assert (ending.outcome, ending.error) == ("timed_out", "took longer than 1 second")
    executor.close()
    assert gone(child)


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process ends within a few seconds; one that nobody waits for counts as ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("kind", CHILDREN)
def test_closing_ends_what_still_runs(kind: str, module: Any, tmp_path: Path) -> None:
    executor = executor_of(kind, module.hangs)
    executor.connect(Listener())
    executor.submit(segment(tmp_path))
    executor.poll(0.3)
    pids = [w.pid for w in executor._workers]
    executor.close()
    executor.close()
    assert pids
    assert all(gone(p) for p in pids)


@pytest.mark.parametrize("kind", REMOTE)
def test_memory_has_a_limit(kind: str, module: Any, tmp_path: Path) -> None:
    executor = executor_of(kind, module.hungry, memory=300 << 20)
    heard = run(executor, [segment(tmp_path)])
    executor.close()
    (ending,) = heard.endings(0)
    assert ending.outcome == "out_of_memory"


@pytest.mark.parametrize("kind", KINDS)
def test_a_verdict_pauses_with_a_checkpoint_and_the_next_segment_goes_on(
    kind: str, module: Any, tmp_path: Path
) -> None:
    executor = executor_of(kind, module.pauses)
    listener = Listener()
    listener.verdict = "pause"
    heard = run(executor, [segment(tmp_path, until=50, high=50)], listener=listener)
    (ending,) = heard.endings(0)
    assert ending.outcome == "paused"
    assert ending.step == 1
    saved = [m for m in heard.heard if isinstance(m, Save)]
    assert saved[-1].checkpoint == ending.checkpoint
    listener.heard.clear()
    listener.verdict = ""
    run(
        executor,
        [segment(tmp_path, until=3, high=50, step=1, checkpoint=ending.checkpoint)],
        listener=listener,
    )
    executor.close()
    assert [m.step for m in listener.heard if isinstance(m, Report)] == [2, 3]
    assert listener.endings(0)[0].outcome == "paused"


def test_what_workers_print_goes_to_the_trials_own_file(
    module: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = executor_of("spawn", module.plain)
    run(executor, [segment(tmp_path, 3)])
    executor.close()
    assert "hello from" in (tmp_path / "logs" / "trial-3.log").read_text()
    assert "hello" not in capfd.readouterr().out


def test_workers_are_reused_unless_they_are_to_be_fresh(module: Any, tmp_path: Path) -> None:
    pids = {}
    for fresh in (False, True):
        executor = Processes(module.plain, 1, Limits(fresh=fresh))
        run(executor, [segment(tmp_path / str(fresh), i) for i in range(3)])
        executor.close()
        logs = [(tmp_path / str(fresh) / "logs" / f"trial-{i}.log").read_text() for i in range(3)]
        pids[fresh] = len(set(logs))
    assert pids == {False: 1, True: 3}


def test_threads_and_devices_are_shared_out(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    executor = Processes(module.environment, 2, Limits(devices=("4", "7")))
    heard = run(executor, [segment(tmp_path, i) for i in range(2)])
    executor.close()
    assert {e.metrics["device"] for i in range(2) for e in heard.endings(i) if e.metrics} == {4.0, 7.0}
    assert heard.endings(0)[0].metrics["threads"] == max(1, (os.cpu_count() or 1) // 2)  # type: ignore[index]


def test_a_function_that_cannot_be_found_says_so_once(tmp_path: Path, module: Any) -> None:
    executor = Processes(module.plain, 1)
    assert executor._target is not None
    executor._target = type(executor._target)("law_workers", "missing")
    heard = run(executor, [segment(tmp_path)])
    executor.close()
    (ending,) = heard.endings(0)
    assert ending.fatal
    assert "'missing' is not in law_workers" in ending.error


def test_workers_die_with_their_driver(tmp_path: Path, module: Any) -> None:
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            executor = Processes(module.hangs, 2)
            executor.connect(Listener())
            executor.submit(segment(tmp_path))
            executor.poll(0.1)
            (tmp_path / "pid").write_text(str(executor._workers[0].pid))
            time.sleep(30)
        os._exit(1)
    end = time.monotonic() + 20
    while time.monotonic() < end and not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        time.sleep(0.02)
    worker = int((tmp_path / "pid").read_text())
    time.sleep(0.5)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert gone(worker)


@pytest.mark.parametrize("kind", KINDS)
def test_an_attempt_that_was_taken_over_ends_and_its_worker_goes_on(
    kind: str, module: Any, tmp_path: Path
) -> None:
    class Fencing(Listener):
        def __call__(self, message: FromWorker) -> Answer:
            self.heard.append(message)
            taken = isinstance(message, Report) and message.trial == 0
            return Answer("stop", error="trial 0 was taken over") if taken else Answer()

    executor = executor_of(kind, module.fine)
    heard = run(executor, [segment(tmp_path, i, until=3, high=3) for i in range(6)], listener=Fencing())
    executor.close()
    assert heard.endings(0)[0].outcome == "killed"
    assert [m.step for m in heard.heard if isinstance(m, Report) and m.trial == 0] == [1]
    assert all(heard.endings(i)[0].outcome == "completed" for i in range(1, 6))
