"""Jobs through submitit: its local executor for real, and what it would hand to Slurm."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tunewright as tw
from tunewright.cli import main
from tunewright.core.events import Interrupted
from tunewright.errors import ConfigError, MissingExtra, RunError
from tunewright.run.slurm import Job, Warned, _storage, submit

real = pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="needs submitit")

WORK = """
import os, time

def counts(trial, x):
    done = trial.checkpoint.load({"step": 0})["step"]
    for step in trial.steps():
        assert step == done + 1
        done = step
        with open("steps.txt", "a") as file:
            file.write(f"{trial.number} {step} {os.getpid()}\\n")
        time.sleep(0.05)
        trial.checkpoint.save(step=step)
        trial.report(step, loss=x / step)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a training function, where the jobs work."""
    (tmp_path / "slurm_work.py").write_text(WORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNEWRIGHT_STORE", raising=False)
    return tmp_path


def command(storage: str, trials: int, steps: int) -> list[str]:
    words = f"run --name s --storage {storage} --method random --steps {steps} --trials {trials}"
    return [*words.split(), "--space", "x=log 0.1..1", "slurm_work.py:counts"]


@pytest.fixture
def jobs() -> Iterator[list[Any]]:
    """Jobs that are waited for, and ended where they are not over in time."""
    started: list[Any] = []
    yield started
    for job in started:
        try:
            job._process.wait(0 if sys.exc_info()[0] else 60)
        finally:
            job._process.kill()
            job._process.wait()


def steps(folder: Path) -> list[tuple[int, int, int]]:
    """Lines of trial, step and process."""
    path = folder / "steps.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(t), int(s), int(p)) for t, s, p in (line.split() for line in lines)]


def until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def over(jobs: list[Any]) -> None:
    for job in jobs:
        job._process.wait(60)


@real
@pytest.mark.slow
def test_jobs_share_a_study_and_the_trial_of_a_killed_one_goes_on(here: Path, jobs: list[Any]) -> None:
    jobs += submit(command("s.db", 4, 15), workers=2, local=True, time="2min", warning=10)
    until(lambda: len({p for _, _, p in steps(here)}) == 2 and len(steps(here)) > 8)
    victim = steps(here)[0][2]
    os.kill(victim, signal.SIGKILL)
    over(jobs)
    study = tw.Study.open("s", storage="s.db", exist="must")
    assert study.counts == {"completed": 4}
    assert sorted(t.attempts for t in study.trials) == [1, 1, 1, 2]
    taken = [(t, s) for t, s, _ in steps(here)]
    assert len(taken) - len(set(taken)) <= 1, "it went on from its last checkpoint"
    log = "".join(p.read_text() for p in (here / ".tunewright" / "jobs").glob("*_log.out"))
    assert "trial 3 completed" in log


@real
@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--fresh"]])
def test_a_warned_job_saves_and_goes_on_in_the_queue(
    options: list[str], here: Path, jobs: list[Any], request: pytest.FixtureRequest
) -> None:
    words = command("s.db", 1, 40)
    if options:
        # With worker processes, the warning meets them too, as Slurm sends it to all processes of a job.
        words[1:1] = ["--memory", "2GiB"]
    jobs += submit(words, workers=1, local=True, time="2min", warning=10)
    until(lambda: len(steps(here)) > 5)
    task, trained = _task(jobs[0]), steps(here)[0][2]
    for pid in {task, trained, *_above(trained, task)}:
        os.kill(pid, signal.SIGUSR2)
    over(jobs)
    study = tw.Study.open("s", storage="s.db", exist="must")
    assert study.counts == {"completed": 1}
    cut = [r.event for r in study.session.store.read(1) if isinstance(r.event, Interrupted)]
    assert [(e.cause) for e in cut] == ["preempted"]
    taken = [s for _, s, _ in steps(here)]
    assert taken == list(range(1, 41)), "no step was lost or taken twice"
    assert len({p for _, _, p in steps(here)}) == 2, "the job was put back and went on in a new process"


def _task(job: Any) -> int:
    """Process of the job, below submitit's controller."""
    children = Path(f"/proc/{job._process.pid}/task/{job._process.pid}/children").read_text().split()
    return int(children[0])


def _above(pid: int, top: int) -> list[int]:
    """The processes between one and one above it."""
    found = []
    while pid not in (top, 0, 1):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(pid)
    return found


@real
@pytest.mark.slow
def test_jobs_on_postgresql(here: Path, jobs: list[Any], postgres_url: str) -> None:
    jobs += submit(command(postgres_url, 6, 5), workers=3, local=True, time="2min", warning=10)
    over(jobs)
    study = tw.Study.open("s", storage=postgres_url, exist="must")
    assert study.counts == {"completed": 6}
    assert len({p for _, _, p in steps(here)}) > 1
    study.close()


@real
@pytest.mark.slow
def test_a_command_that_fails_fails_its_job(here: Path, jobs: list[Any]) -> None:
    jobs += submit(
        [*command("s.db", 1, 2)[:-1], "slurm_work.py:missing"], workers=1, local=True, time="2min", warning=10
    )
    over(jobs)
    assert "ended with 2" in str(jobs[0].exception())


SBATCH = """#!/bin/sh
cp "$1" {seen}
echo "Submitted batch job 4242"
"""


@pytest.fixture
def sbatch(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Slurm that takes everything and keeps the script it was given."""
    folder, seen = here / "bin", here / "seen.sh"
    folder.mkdir()
    for name, text in (
        ("sbatch", SBATCH.format(seen=seen)),
        ("srun", "#!/bin/sh\n"),
        ("sacct", "#!/bin/sh\n"),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return seen


@real
def test_what_slurm_is_asked_for(sbatch: Path) -> None:
    words = [
        "slurm", "--workers", "6", "--partition", "gpu", "--time", "4h", "--cpus", "3", "--gpus", "1", "--mem", "32GB",
        "--at-once", "4", "--warning", "5min", "--sbatch", "account=physics", "--json",
        "resume", "s", "--storage", "postgresql://db/tune", "--trials", "50",
    ]  # fmt: skip
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["jobs"] == [f"4242_{i}" for i in range(6)]
    asked = {
        line.removeprefix("#SBATCH --")
        for line in sbatch.read_text().splitlines()
        if line.startswith("#SBATCH")
    }
    assert asked >= {
        "partition=gpu", "time=240", "cpus-per-task=3", "gpus-per-node=1", "mem=32GB", "array=0-5%4",
        "signal=USR2@300", "account=physics", "job-name=tunewright",
    }  # fmt: skip


@real
def test_a_slurm_that_refuses_says_why(sbatch: Path) -> None:
    refusing = sbatch.parent / "bin" / "sbatch"
    refusing.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    refusing.chmod(refusing.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(RunError, match="must take the jobs"):
        submit(["resume", "s", "--storage", "http://head:8000"])


@real
def test_without_slurm(here: Path) -> None:
    with pytest.raises(RunError, match="use --local"):
        submit(["resume", "s", "--storage", "http://head:8000"])


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ([], {}, "got 'nothing'"),
        (["ls"], {}, "run, resume, worker"),
        (["resume", "s"], {}, "every node reaches; got 'none'"),
        (["resume", "s", "--storage", "s.db"], {}, "every node reaches; got 's.db'"),
        (["resume", "s", "--storage=postgresql://me:secret@db/x"], {}, "holds a password"),
        (
            ["resume", "s", "--storage=http://h"],
            {"time": "1min", "warning": "2min"},
            "longer than its warning",
        ),
        (["resume", "s", "--storage=http://h"], {"workers": 0}, "workers"),
    ],
)
def test_what_cannot_be_submitted_is_said(
    words: list[str], options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUNEWRIGHT_STORE", raising=False)
    with pytest.raises(ConfigError, match=message) as caught:
        submit(words, **options)
    assert "secret" not in str(caught.value)


def test_options_of_sbatch_have_values() -> None:
    done = CliRunner().invoke(main, ["slurm", "--sbatch", "account", "resume", "s", "--storage", "http://h"])
    assert done.exit_code == 2


def test_a_password_in_the_environment_is_not_written_to_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_STORE", "postgresql://me:secret@db/x")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MissingExtra, match=r"tunewright\[slurm\]"):
        submit(["resume", "s"])


@pytest.mark.parametrize(
    ("words", "storage"),
    [
        (["run", "--storage", "a", "--", "x", "--storage", "b"], "a"),
        (["run", "--", "x", "--storage", "b"], "env"),
        (["worker", "http://h:1", "s"], "http://h:1"),
        (["worker", "s"], "env"),
        (["resume", "--storage=a"], "a"),
    ],
)
def test_the_store_of_a_command(words: list[str], storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_STORE", "env")
    assert _storage(words) == storage


def test_a_warning_waits_until_somebody_listens_and_comes_once() -> None:
    came: list[int] = []
    before = signal.getsignal(signal.SIGTERM)
    try:
        with Warned() as warned:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGUSR2)
                time.sleep(0.05)
            signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
            until(lambda: bool(came), 5)
            time.sleep(0.3)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [signal.SIGTERM]
    assert warned.number == signal.SIGUSR2
    assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_stopped_job_that_was_not_warned_is_not_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    put_back: list[int] = []
    monkeypatch.setattr("tunewright.run.slurm._run", lambda words: 143)
    before = signal.signal(signal.SIGUSR2, lambda number, frame: put_back.append(number))
    try:
        assert Job(["resume", "s"], [])() == 143
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert put_back == []
