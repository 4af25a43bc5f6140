"""What training functions do wrong, and what happens around them: each gets a clear end, and the study goes on."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from shell import Shell

import tunewright as tw
from tunewright.errors import (
    ConfigError,
    InvalidTrial,
    SpaceConflict,
    StudyExists,
    StudyMissing,
    TooManyFailures,
)
from tunewright.run.driver import Summary

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults are made with Linux tools")
SPACE = tw.Space(x=tw.Float(0.0, 1.0))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


@pytest.fixture
def study(tmp_path: Path) -> Iterator[tw.Study]:
    with tw.Study.open("s", SPACE, method="random", storage=tmp_path / "s.db") as made:
        yield made


def run(study: tw.Study, train: Callable[..., Any], **more: Any) -> Summary:
    return study.run(train, **{"trials": 3, "progress": "none", "failures": None, **more})


# ---------------------------------------------------------------------- what functions return


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("workers", [1, 2])
def test_values_that_are_not_finite_fail_the_trial(study: tw.Study, value: float, workers: int) -> None:
    summary = run(study, lambda x: value, workers=workers)
    assert (summary.ended, summary.failed) == (3, 3)
    assert {t.status for t in study.trials} == {"failed"}
    assert study.trials[0].error == f"returned loss={value}"


def test_reporting_nan_ends_the_trial_there(study: tw.Study) -> None:
    def train(trial: tw.Attempt) -> None:
        for step in range(1, 10):
            if not trial.report(step, loss=math.nan if step == 3 else 1.0):
                return

    run(study, train)
    assert [t.error for t in study.trials] == ["reported loss=nan at step 3"] * 3
    assert study.trials[0].step == 3


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "must return or report 'loss'"),
        ("0.3", "must be a number; got '0.3' of type str"),
        ({"los": 0.3}, "Did you mean 'los'?"),
        ((1.0, 2.0), "one number per objective"),
        ({"loss": [1, 2]}, "must be a number"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_mistakes_that_every_trial_would_make_stop_the_study(
    study: tw.Study, value: Any, words: str, workers: int
) -> None:
    with pytest.raises(TooManyFailures, match="no other would do better") as caught:
        run(study, lambda x: value, workers=workers, trials=50)
    assert words in str(caught.value)
    assert len(study.trials) <= workers
    assert not study.session.sync().running


def test_misspelled_metric_in_a_report(study: tw.Study) -> None:
    def train(trial: tw.Attempt) -> None:
        trial.report(1, los=0.3)

    with pytest.raises(TooManyFailures, match="Did you mean 'los'"):
        run(study, train)


# ---------------------------------------------------------------------- what functions do


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_is_kept_with_the_users_frames_only(study: tw.Study, workers: int) -> None:
    def train(x: float) -> float:
        if x < 2:
            raise ValueError(f"bad data set, x={x}")
        return x

    summary = run(study, train, workers=workers)
    assert summary.failed == 3
    error = study.trials[0].error
    assert "bad data set" in error.splitlines()[-1]
    assert "test_run_faults.py" in error
    assert os.path.join("tunewright", "run") not in error  # noqa: PTH118


def test_invalid_is_not_failed(study: tw.Study) -> None:
    def train(x: float) -> float:
        raise InvalidTrial("x makes no sense")

    assert run(study, train).failed == 0
    assert study.counts == {"invalid": 3}


@pytest.mark.parametrize("workers", [1, 2])
def test_sys_exit_ends_the_trial_and_not_the_study(study: tw.Study, workers: int) -> None:
    def train(x: float) -> float:
        sys.exit(7)

    run(study, train, workers=workers)
    assert [t.error for t in study.trials] == ["the training function called sys.exit(7)"] * 3


def test_os_exit_counts_as_a_lost_worker(study: tw.Study) -> None:
    run(study, lambda x: os._exit(3), workers=2, trials=2)
    assert study.counts == {"lost": 2}
    assert all("lost 3 times" in t.error for t in study.trials)


def test_hanging_trials_are_ended(study: tw.Study) -> None:
    began = time.monotonic()
    run(study, lambda x: time.sleep(600), trial_timeout=0.5, workers=2, trials=2)
    assert time.monotonic() - began < 20
    assert study.counts == {"timed_out": 2}
    assert "longer than 0.5 seconds" in study.trials[0].error


def test_memory_beyond_the_limit_ends_the_trial(study: tw.Study) -> None:
    def train(x: float) -> float:
        held = [bytearray(20_000_000)]
        while len(held) < 200:
            held.append(bytearray(os.urandom(1) * 20_000_000))
            time.sleep(0.02)
        return 1.0

    run(study, train, memory="600MiB", trials=1)
    assert study.counts == {"out_of_memory": 1}


def test_memory_error_is_out_of_memory(study: tw.Study) -> None:
    def train(x: float) -> float:
        raise MemoryError("no room")

    run(study, train, trials=1)
    assert study.counts == {"out_of_memory": 1}


def test_output_goes_to_the_log_of_the_trial(study: tw.Study, capfd: pytest.CaptureFixture[str]) -> None:
    def train(x: float) -> float:
        print("said by the training")
        os.write(1, b"raw bytes on the pipe\n")
        os.write(2, b"and on the other\n")
        return x

    run(study, train, workers=2, trials=2)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""
    folder = Path(study.session.store.blobs(study.session.info.id)) / "logs"
    text = (folder / "trial-0.log").read_text()
    assert "said by the training" in text
    assert "raw bytes" in text
    assert "and on the other" in text


def test_the_same_failure_three_times_gives_up(study: tw.Study) -> None:
    def train(x: float) -> float:
        raise ValueError("no such file")

    with pytest.raises(TooManyFailures, match="first 3 trials all failed in the same way"):
        run(study, train, failures="auto", trials=50)
    assert study.counts == {"failed": 3}


def test_a_number_of_failures_gives_up(study: tw.Study) -> None:
    def train(x: float) -> float:
        raise ValueError(str(x))

    with pytest.raises(TooManyFailures, match="after 5 failures"):
        run(study, train, failures=5, trials=50)
    assert len(study.trials) == 5


# ---------------------------------------------------------------------- studies and spaces


def test_study_exists_and_study_missing(study: tw.Study, tmp_path: Path) -> None:
    where = tmp_path / "s.db"
    with pytest.raises(StudyExists, match="'s' is there already"):
        tw.Study.open("s", SPACE, storage=where, exist="error")
    with pytest.raises(StudyMissing, match=r"it has s\."):
        tw.Study.open("zzzz", storage=where, exist="must")


def test_changed_space_on_resume(study: tw.Study, tmp_path: Path) -> None:
    run(study, lambda x: x)
    wider = tw.Space(x=tw.Float(0.0, 10.0), n=tw.Int(1, 3))
    with pytest.raises(SpaceConflict, match="n: .*x: "):
        tw.Study.open("s", wider, storage=tmp_path / "s.db", on_change="error")
    with tw.Study.open("s", wider, storage=tmp_path / "s.db") as again:
        assert len(again.trials) == 3
        run(again, lambda x, n: x + n, trials=5)
        assert {frozenset(t.params) for t in again.trials[3:]} == {frozenset({"x", "n"})}
        assert again.replay().verified >= 5


def test_changed_goal_on_resume(study: tw.Study, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keeps its objectives"):
        tw.Study.open("s", SPACE, maximize="acc", storage=tmp_path / "s.db")


# ---------------------------------------------------------------------- kills

TRAIN = """
import os, time
import tunewright as tw
def train(trial, x=tw.Float(0, 1)):
    with open("pids.txt", "a") as f:
        f.write(f"{trial.number} {os.getpid()}\\n")
    time.sleep(PAUSE)
    with open("done.txt", "a") as f:
        f.write(f"{trial.number}\\n")
    return x
"""


def arguments(trials: int, workers: int) -> list[object]:
    return [
        "run",
        "--method",
        "random",
        "--trials",
        trials,
        "--workers",
        workers,
        "--name",
        "k",
        "train.py:train",
    ]


def test_killed_worker_is_retried(shell: Shell) -> None:
    shell.write("train.py", TRAIN.replace("PAUSE", "0.4"))
    process = shell.start(*arguments(4, 2))
    shell.wait(lambda: len(shell.lines("pids.txt")) >= 2, "workers")
    os.kill(int(shell.lines("pids.txt")[0].split()[1]), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    found = shell.json("trials", "k")
    assert [t["status"] for t in found] == ["completed"] * 4
    assert sorted(t["attempts"] for t in found) == [1, 1, 1, 2]
    assert shell.json("replay", "k")["same"] is True


@pytest.mark.parametrize("rounds", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_killed_driver_loses_nothing(shell: Shell, rounds: int) -> None:
    shell.write("train.py", TRAIN.replace("PAUSE", "0.05"))
    for number in range(rounds):
        process = shell.start(*arguments(10 * (rounds + 1), 2))
        before = len(shell.lines("done.txt"))
        shell.wait(lambda least=before + 3: len(shell.lines("done.txt")) >= least, "trials")  # type: ignore[misc]
        time.sleep(0.03 * number)
        process.kill()
        process.communicate()
    shell(*arguments(10 * (rounds + 1), 2))
    state = shell.json("status", "k")
    assert state["counts"] == {"completed": 10 * (rounds + 1)}
    numbers = [t["number"] for t in shell.json("trials", "k")]
    assert numbers == list(range(10 * (rounds + 1)))
    assert shell.json("doctor")["ok"] is True


def test_sigterm_pauses_and_saves(shell: Shell) -> None:
    shell.write(
        "train.py",
        "import time\nimport tunewright as tw\n"
        "def train(trial, x=tw.Float(0, 1)):\n"
        "    for step in trial.steps(40):\n"
        "        open('steps.txt', 'a').write(f'{trial.number} {step}\\n')\n"
        "        time.sleep(0.03)\n"
        "        trial.checkpoint.save(step=step)\n"
        "        trial.report(step, loss=x)\n",
    )
    args = [
        "run",
        "--method",
        "random",
        "--trials",
        2,
        "--workers",
        2,
        "--steps",
        40,
        "--name",
        "k",
        "train.py:train",
    ]
    process = shell.start(*args)
    shell.wait(lambda: len(shell.lines("steps.txt")) >= 10, "steps")
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143
    shell(*args)
    assert shell.json("status", "k")["counts"] == {"completed": 2}
    seen = [line.split() for line in shell.lines("steps.txt")]
    for trial in ("0", "1"):
        steps = [int(s) for t, s in seen if t == trial]
        assert set(steps) == set(range(1, 41))
        assert len(steps) <= 42, "it went on from its checkpoint"


def test_two_drivers_share_a_study(shell: Shell) -> None:
    shell.write("train.py", TRAIN.replace("PAUSE", "0.05"))
    processes = [shell.start(*arguments(20, 1)) for _ in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    found = shell.json("trials", "k")
    assert [t["number"] for t in found] == list(range(20))
    assert {t["status"] for t in found} == {"completed"}
    assert sorted(map(int, shell.lines("done.txt"))) == list(range(20)), "each was trained once"
    assert len({t["worker"] for t in found}) == 2
    assert shell.json("replay", "k")["same"] is True
