"""Studies on a real Ray: results, resources, lost workers, a killed driver, and nobody left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.errors import ConfigError, MissingExtra, TooManyFailures
from tunewright.run.allowance import Limits
from tunewright.run.messages import Answer, Finish, FromWorker, Segment
from tunewright.run.ray import Ray, RayExecutor

ray: Any = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

MODULE = '''
import os, pathlib, time
import tunewright as tw

HERE = pathlib.Path(__file__).parent

def actor():
    """The actor that this worker process belongs to; a guard is in between."""
    stat = pathlib.Path(f"/proc/{os.getppid()}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])

class Counter:
    n = 0
    def state_dict(self):
        return {"n": self.n}
    def load_state_dict(self, state):
        self.n = state["n"]

def counts(trial):
    """Each step says who took it, so that a test can end that process or look at what was repeated."""
    counter = Counter()
    trial.keep(counter=counter)
    for step in trial.steps():
        counter.n += 1
        with open(HERE / "steps.txt", "a") as file:
            file.write(f"{trial.number} {step} {os.getpid()} {actor()}\\n")
        while (HERE / "together").exists() and len({line.split()[0] for line in open(HERE / "steps.txt")}) < 2:
            time.sleep(0.02)
        time.sleep(trial.params.get("pause", 0.0))
        trial.checkpoint.save(counter=counter)
        trial.report(step, loss=trial["x"] / counter.n)

def where(x):
    return {"loss": x, "device": float(os.environ.get("CUDA_VISIBLE_DEVICES", "-1")), "pid": float(os.getpid()),
            "here": float(os.getcwd() == str(HERE)), "threads": float(os.environ["OPENBLAS_NUM_THREADS"])}
'''

DRIVER = """
import sys
sys.path.insert(0, {here!r})
import tunewright as tw, ray_work
from tunewright.run.ray import Ray, RayExecutor

study = tw.Study.open("s", {{"x": tw.Float(0, 1), "pause": tw.Choice([0.05])}}, steps=40, method="random", storage="s.db")
study.run(ray_work.counts, trials=2, progress="none", executor=RayExecutor(ray_work.counts, 2, Ray({cpus}, address="auto")))
"""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A small Ray on this machine, for all tests of this file."""
    ray.init(
        num_cpus=2,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80 << 20,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of training functions in the folder that the driver works in."""
    (tmp_path / "ray_work.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("ray_work", None)
    import ray_work  # type: ignore[import-not-found]

    yield ray_work
    sys.modules.pop("ray_work", None)


def steps(folder: Path) -> list[list[int]]:
    """Lines of trial, step, worker process and actor."""
    path = folder / "steps.txt"
    return [[int(w) for w in line.split()] for line in path.read_text().splitlines()] if path.exists() else []


def until(condition: Any, seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_study_on_ray(work: Any, tmp_path: Path) -> None:
    study = tw.Study.open("s", {"x": tw.Float(0, 1)}, steps=9, method="asha", storage="s.db", seed=3)
    study.run(work.counts, workers=2, trials=9, progress="none", on=Ray(cpus=0.5))
    assert study.counts["completed"] >= 1
    assert study.counts.get("failed", 0) == 0
    taken = [(t, s) for t, s, _, _ in steps(tmp_path)]
    assert len(set(taken)) == len(taken), "a promoted trial goes on from its checkpoint"
    assert len({pid for _, _, pid, _ in steps(tmp_path)}) <= 2, "workers are reused"
    assert study.checkpoint(study.best)["counter"] == {"n": 9}


def test_resources_are_shared_out(work: Any) -> None:
    """Two trials share each of the two GPUs of the machine; the folder and the threads are the driver's."""
    study = tw.Study.open("s", {"x": tw.Float(0, 1)}, storage="memory")
    study.run(work.where, workers=4, trials=12, progress="none", on=Ray(cpus=0.5, gpus=0.5))
    metrics = [t.metrics for t in study.trials]
    assert {m["device"] for m in metrics} <= {0.0, 1.0}
    assert all(m["here"] == 1.0 and m["threads"] == 1.0 for m in metrics)


def test_the_short_name_and_a_closure(tmp_path: Path) -> None:
    shift = 2.0
    study = tw.Study.open("s", {"x": tw.Float(0, 1)}, storage="memory")
    study.run(lambda x: x + shift, workers=2, trials=6, progress="none", on="ray")
    assert all(t.metrics["loss"] == t.config["x"] + 2.0 for t in study.trials)


@pytest.mark.parametrize("victim", ["worker", "actor"])
def test_a_lost_worker_costs_the_steps_since_the_last_checkpoint(
    victim: str, work: Any, tmp_path: Path
) -> None:
    ended: list[int] = []

    def watch(event: object, session: object) -> None:
        done = steps(tmp_path)
        if len(done) >= 5 and not ended:
            ended.append(done[-1][2 if victim == "worker" else 3])
            os.kill(ended[0], signal.SIGKILL)

    space = {"x": tw.Float(0, 1), "pause": tw.Choice([0.02])}
    study = tw.Study.open("s", space, steps=12, method="random", storage="s.db")
    study.run(work.counts, workers=2, trials=3, progress="none", on=Ray(cpus=0.5), watch=watch)
    assert study.counts == {"completed": 3}
    assert sorted(t.attempts for t in study.trials) == [1, 1, 2]
    assert gone(ended[0])
    taken = [(t, s) for t, s, _, _ in steps(tmp_path)]
    assert len(taken) - len(set(taken)) <= 2, "only the step under way was taken again"
    assert {t.checkpoint[0] for t in study.trials if t.checkpoint} == {12}


def test_a_frozen_worker_is_taken_over(work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is cut off says nothing; its trial does not wait for it."""
    monkeypatch.setattr("tunewright.run.ray._LISTEN", 0.3)
    monkeypatch.setattr("tunewright.run.ray._SILENCE", 0.7)
    frozen: list[int] = []

    def watch(event: object, session: object) -> None:
        done = steps(tmp_path)
        if len(done) >= 5 and not frozen:
            worker, actor = done[-1][2:]
            frozen.extend([worker, _parent(worker), actor])
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)

    space = {"x": tw.Float(0, 1), "pause": tw.Choice([0.02])}
    study = tw.Study.open("s", space, steps=12, method="random", storage="s.db")
    study.run(work.counts, workers=1, trials=1, progress="none", on=Ray(cpus=0.5), watch=watch)
    assert study.counts == {"completed": 1}
    assert study.trials[0].attempts == 2
    for pid in frozen:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    for pid in frozen:
        until(lambda pid=pid: gone(pid))


def _each_has(folder: Path, least: int) -> bool:
    """Whether both trials have taken that many steps: on a slow machine the second worker is up long after the first."""
    taken = [line[0] for line in steps(folder)]
    return len(set(taken)) == 2 and all(taken.count(trial) >= least for trial in set(taken))


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_driver_that_is_killed_leaves_nobody_and_the_next_goes_on(work: Any, tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(here=str(tmp_path), cpus=0.5))
    together = tmp_path / "together"
    together.touch()  # neither is over before the second worker is up, however slow the machine
    with (tmp_path / "out.txt").open("w") as out:
        driver = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, stdout=out, stderr=out)
    try:
        until(lambda: _each_has(tmp_path, 3) or driver.poll() is not None)
        assert driver.poll() is None, (tmp_path / "out.txt").read_text()
    finally:
        driver.kill()
        driver.wait()
    together.unlink()
    before = steps(tmp_path)
    for pid in {p for line in before for p in line[2:]}:
        until(lambda pid=pid: gone(pid))
    study = tw.Study.open("s", storage="s.db", exist="must")
    assert study.counts == {"running": 2}
    study.run(work.counts, workers=2, trials=2, progress="none", on=Ray(cpus=0.5))
    assert study.counts == {"completed": 2}
    assert [t.attempts for t in study.trials] == [2, 2]
    taken = [(t, s) for t, s, _, _ in steps(tmp_path)]
    assert len(taken) - len(set(taken)) <= 4
    assert max(s for _, s, _, _ in before) > 1


class Listener:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.ends: list[Finish] = []

    def __call__(self, message: FromWorker) -> Answer:
        if isinstance(message, Finish):
            self.ends.append(message)
        return Answer()


def segment(folder: Path, trial: int = 0) -> Segment:
    return Segment(trial, trial + 1, {"x": 0.5, "pause": 30.0}, [("loss", "minimize")], str(folder), 0, 3, 3)


def test_closing_ends_what_still_runs(work: Any, tmp_path: Path) -> None:
    executor = RayExecutor(work.counts, 1, Ray(cpus=0.5))
    executor.connect(Listener())
    executor.submit(segment(tmp_path))
    end = time.monotonic() + 30
    while not steps(tmp_path) and time.monotonic() < end:
        executor.poll(0.1)
    executor.close()
    executor.close()
    ((_, _, worker, actor),) = steps(tmp_path)
    until(lambda: gone(worker) and gone(actor))


def test_no_room_on_the_cluster_ends_the_run_with_a_reason(work: Any) -> None:
    study = tw.Study.open("s", {"x": tw.Float(0, 1)}, storage="memory")
    with pytest.raises(TooManyFailures, match="room for a worker with 64 CPUs"):
        study.run(work.where, trials=2, progress="none", on=Ray(cpus=64, patience=1.0))
    assert study.counts == {"waiting": 1}, "the trial is not blamed"


def test_a_segment_that_was_never_placed_is_not_timed_out(work: Any, tmp_path: Path) -> None:
    heard = Listener()
    executor = RayExecutor(work.counts, 1, Ray(cpus=64))
    executor.connect(heard)
    executor.submit(segment(tmp_path))
    executor.poll(0.1)
    executor.kill(0, "timed_out", "took longer than 1 second")
    executor.close()
    assert [(e.outcome, e.token) for e in heard.ends] == [("lost", 1)]


class Unreadable:
    """What Ray can ship and no worker can read."""

    def __reduce__(self) -> Any:
        return (int, ("not a number",))


def test_workers_that_cannot_start_end_the_run() -> None:
    ballast = Unreadable()
    study = tw.Study.open("s", {"x": tw.Float(0, 1)}, storage="memory")
    with pytest.raises(TooManyFailures, match="not a number"):
        study.run(lambda x: (x, ballast), trials=2, workers=2, progress="none", on=Ray(cpus=0.5))
    assert study.counts == {"waiting": 1}


def test_ray_says_what_it_cannot_do(work: Any, tmp_path: Path) -> None:
    executor = RayExecutor(work.where, 1, Ray(runtime_env={"working_dir": str(tmp_path)}))
    with pytest.raises(ConfigError, match="only supported at the job level"):
        executor.connect(Listener())


@pytest.mark.parametrize(
    ("workers", "place", "limits", "message"),
    [
        (0, Ray(), Limits(), "at least one worker"),
        (1, Ray(cpus=-1), Limits(), "cpus and gpus from 0"),
        (1, Ray(patience=0), Limits(), "patience above 0"),
        (1, Ray(), Limits(devices=("0",)), "gpus=1"),
    ],
)
def test_what_cannot_be_used_is_said(workers: int, place: Ray, limits: Limits, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RayExecutor(lambda x: x, workers, place, limits)


def test_a_function_that_cannot_be_shipped_is_said() -> None:
    import threading

    lock = threading.Lock()
    with pytest.raises(ConfigError, match="top level of a module"):
        RayExecutor(lambda x: lock.locked(), 1)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"tunewright\[ray\]"), contextlib.suppress(ConfigError):
        RayExecutor(lambda x: x, 1)


def test_a_command_on_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from tunewright.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("import sys, os\nprint('loss:', float(sys.argv[1]) ** 2)\n")
    words = "run --name s --storage s.db --minimize loss --trials 4 --workers 2 --progress none --on ray?cpus=0.5 --"
    done = CliRunner().invoke(main, [*words.split(), sys.executable, "train.py", "{x:0.5..1.5}"])
    assert done.exit_code == 0, done.output
    study = tw.Study.open("s", storage="s.db", exist="must")
    assert study.counts == {"completed": 4}
    assert all(t.metrics["loss"] == pytest.approx(t.config["x"] ** 2) for t in study.trials)
