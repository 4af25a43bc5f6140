"""The ten mistakes that everybody makes once: what is said, in which words, and with which exit code."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from shell import SCRIPT, Shell

import tunewright as tw
from tunewright.cli import main
from tunewright.errors import (
    ConfigError,
    SpaceConflict,
    SpaceError,
    StudyExists,
    StudyMissing,
    TooManyFailures,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")
SPACE = {"x": tw.Float(0.0, 1.0)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("TUNEWRIGHT")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process; exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(w) for w in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err.replace("error was:\nTraceback", "")
        return int(stop.value.code or 0), out, err.strip()

    return run


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


def module(folder: Path, body: str) -> str:
    """A training function in a module of its own, as a target of ``run``."""
    name = f"mistake_{abs(hash((str(folder), body)))}"
    (folder / f"{name}.py").write_text(f"import tunewright as tw\ndef train(x=tw.Float(0, 1)):\n    {body}\n")
    return f"{name}.py:train"


def quick(target: str, *more: object) -> list[object]:
    return ["run", "--name", "s", "--method", "random", "--trials", 12, "--progress", "none", *more, target]


# 1. the objective is NaN


def test_nan_ends_the_study_after_five_with_a_hint(folder: Path, said: Any) -> None:
    code, _, err = said(*quick(module(folder, "return float('nan')")))
    assert code == 4
    assert err == (
        "error[TW052]: The study stopped: its first 5 trials all ended with loss=nan, which is no result. Is a learning "
        "rate too high, or the logarithm of 0 taken? Narrow the range, or mend the metric."
    )
    study = tw.Study.open("s", exist="must")
    assert study.counts == {"failed": 5}
    assert {t.error for t in study.trials} == {"returned loss=nan"}


def test_a_nan_now_and_then_is_a_failed_trial(folder: Path) -> None:
    study = tw.Study.open("s", SPACE, method="random")
    study.run(lambda x: math.nan if x > 0.7 else x, trials=12, progress="none")
    assert 0 < study.counts["failed"] < 7
    assert all(
        t.error == "returned loss=nan" and t.params["x"] > 0.7 for t in study.trials if t.status == "failed"
    )
    assert study.best.params["x"] <= 0.7


# 2. the objective raises


def test_an_error_in_the_first_three_trials_ends_the_study(folder: Path, said: Any) -> None:
    target = module(folder, "raise ValueError('no such file: data.csv')")
    code, _, err = said(*quick(target))
    assert code == 4
    lines = err.splitlines()
    assert lines[0] == (
        "error[TW052]: The study stopped: its first 3 trials all failed in the same way. The error was:"
    )
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[2].endswith(f'{target.partition(":")[0]}", line 3, in train'), (
        "frames of the user's code only"
    )
    assert sum(line.startswith("  File ") for line in lines) == 1
    assert lines[-1] == "ValueError: no such file: data.csv"


def test_errors_now_and_then_do_not_stop_a_study(folder: Path) -> None:
    def train(x: float) -> float:
        if x > 0.8:
            raise ValueError(f"x must be at most 0.8, got {x:.1f}")
        return x

    study = tw.Study.open("s", SPACE, method="random")
    summary = study.run(train, trials=12, progress="none")
    assert summary.why == "trials"
    assert 0 < summary.failed < 6


def test_most_of_ten_failing_ends_the_study_and_fail_fast_ends_it_at_once(folder: Path, said: Any) -> None:
    target = module(folder, "raise ValueError(x)")
    code, _, err = said(*quick(target))
    assert code == 4
    assert err.startswith(
        "error[TW052]: The study stopped: 10 of its first 10 trials failed. The last error was:\n"
    )
    code, _, err = said(*quick(target, "--name", "t", "--fail-fast"))
    assert code == 4
    assert err.startswith("error[TW052]: The study stopped after 1 failures, as asked. The last error was:\n")


# 3. wrong bounds


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("0.1..0.01", "'lr': Float needs low < high; got low=0.1, high=0.01. Swap the bounds or use Choice."),
        ("log 0.0..0.1", "'lr': Float on a log scale needs low > 0; got low=0.0. Did you mean 1e-07?"),
        ("8..1", "'lr': Int needs low < high; got low=8, high=1. Swap the bounds or use Choice."),
        ("adam", "'lr' must be declared like 'log 1e-5..1e-1', 'int 1..8', 'adam|sgd' or 'bool'; got 'adam'. Correct it."),
    ],
)  # fmt: skip
def test_wrong_bounds(folder: Path, said: Any, declaration: str, message: str) -> None:
    code, _, err = said(
        "run", "--minimize", "loss", "--", sys.executable, "t.py", "--lr", f"{{lr:{declaration}}}"
    )
    assert (code, err) == (2, f"error[TW010]: {message}")
    assert not (folder / ".tunewright").exists(), "nothing is made before everything is right"


def test_wrong_bounds_in_python() -> None:
    with pytest.raises(
        SpaceError, match=r"^Float needs low < high; got low=1.0, high=0.1. Swap the bounds or use Choice.$"
    ):
        tw.Float(1.0, 0.1)
    with pytest.raises(
        SpaceError, match=r"^Float on a log scale needs low > 0; got low=0.0. Did you mean 1e-07\?$"
    ):
        tw.Float(0.0, 0.1, log=True)


# 4. the space changed


def test_a_changed_space_is_a_new_version_or_refused_with_a_diff(folder: Path, said: Any) -> None:
    study = tw.Study.open("s", {"x": tw.Float(0.0, 1.0), "o": tw.Choice(["a", "b"])}, method="random")
    study.run(lambda x, o: x, trials=3, progress="none")
    wider = {"x": tw.Float(0.0, 2.0), "o": tw.Choice(["a", "b", "c"])}
    with pytest.raises(SpaceConflict) as refused:
        tw.Study.open("s", wider, on_change="error")
    assert str(refused.value) == (
        "The space must be the one of study 's'; it differs: ~ x: a number in [0.0, 1.0] -> a number in [0.0, 2.0]; "
        "~ o: one of 'a', 'b' -> one of 'a', 'b', 'c'. Accept a new version with on_change='version' "
        "(--space-change version), or choose another name."
    )
    again = tw.Study.open("s", wider)
    assert len(again.trials) == 3, "earlier trials are kept"
    assert len(again.session.ledger.spaces) == 2


def test_a_changed_space_on_the_command_line(folder: Path, said: Any) -> None:
    (folder / "t.py").write_text("import sys\nprint(f'loss={float(sys.argv[1])}')\n")

    def go(declared: str, *more: object) -> tuple[int, str, str]:
        command = [sys.executable, "t.py", f"{{x:{declared}}}"]
        return said("create", "--name", "s", "--method", "random", *more, "--", *command)  # type: ignore[no-any-return]

    assert go("0.0..1.0")[0] == 0
    for word in ("error", "strict"):
        code, _, err = go("0.0..2.0", "--space-change", word)
        assert code == 6
        assert err.startswith(
            "error[TW011]: The space must be the one of study 's'; it differs: ~ x: a number in [0.0, 1.0]"
        )
    code, _out, err = go("0.0..2.0", "--space-change", "fork")
    assert (code, err) == (0, "the space is not that of 's'; this is 's-2'")
    assert go("0.0..3.0")[0] == 0, "a new version unless told otherwise"


# 5. the study exists


def test_a_study_that_exists(folder: Path, said: Any) -> None:
    target = module(folder, "return x")
    assert said(*quick(target, "--trials", 3))[0] == 0
    best = tw.Study.open("s", exist="must").best.metrics["loss"]
    code, _, err = said(*quick(target, "--new"))
    assert (code, err) == (
        2,
        f"error[TW041]: A new study needs a new name; 's' exists (3 trials, best loss={best:.4g}). Go on with it by leaving "
        "out --new (tunewright resume s), or pass --name s-2.",
    )
    with pytest.raises(StudyExists) as refused:
        tw.Study.open("s", SPACE, exist="error")
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None
    assert str(refused.value).startswith("A new study needs a new name; 's' is there already, with ")


# 6. a killed process


@pytest.mark.slow
def test_a_killed_run_loses_no_trial(shell: Shell) -> None:
    shell.write("train.py", SCRIPT)
    command = [sys.executable, "train.py", "--lr", "{lr:log 1e-4..1e-1}", "--sleep", "0.2"]
    args = ["run", "--minimize", "loss", "--method", "random", "--name", "s", "--trials", 2, "--", *command]
    process = shell.start(*args)
    shell.wait(lambda: len(shell.lines("steps.txt")) >= 1, "the first report")
    process.kill()
    process.communicate()
    out, _ = shell("resume", "s")
    assert "all trials are done" in out
    found = shell.json("trials", "s")
    assert [t["status"] for t in found] == ["completed", "completed"]
    assert found[0]["attempts"] == 2, "the dead process was noticed at once, on the same machine"


# 7. Ctrl-C


@pytest.mark.slow
def test_control_c_saves_and_says_how_to_go_on(shell: Shell) -> None:
    shell.write("train.py", SCRIPT)
    command = [sys.executable, "train.py", "--lr", "{lr:log 1e-4..1e-1}", "--sleep", "0.1", "--epochs", "30"]
    args = ["run", "--minimize", "loss", "--method", "random", "--name", "s", "--trials", 2, "--grace", "1s"]
    process = shell.start(*args, "--", *command)
    shell.wait(lambda: len(shell.lines("steps.txt")) >= 1, "the first report")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    lines = out.splitlines()
    assert any(
        line.startswith("s: interrupted; everything is saved, and the same command continues; ")
        for line in lines
    )
    assert lines[-1] == "next    tunewright resume s"
    assert "Traceback" not in err
    assert shell.json("status", "s")["counts"] == {"waiting": 1}


# 8. a misspelled metric


def test_a_misspelled_metric_stops_the_first_trial(folder: Path, said: Any) -> None:
    code, _, err = said(*quick(module(folder, "return {'los': x}")))
    assert (code, err) == (
        4,
        "error[TW052]: The study stopped at trial 0, because no other would do better:\n"
        "tunewright.errors.ConfigError: A trial must report what the study optimises, 'loss'; got ['los']. "
        "Did you mean 'los'? Call it 'loss'.",
    )
    assert len(tw.Study.open("s", exist="must").trials) == 1


def test_a_misspelled_metric_of_a_script(folder: Path, said: Any) -> None:
    (folder / "t.py").write_text("import sys\nprint(f'los={sys.argv[1]} speed=3')\n")
    command = [sys.executable, "t.py", "{x:0.0..1.0}"]
    code, _, err = said("run", "--minimize", "loss", "--trials", 9, "--progress", "none", "--", *command)
    assert (code, err) == (
        4,
        "error[TW052]: The study stopped at trial 0, because no other would do better:\n"
        "tunewright.errors.ConfigError: The script must report 'loss', which the study optimises; its output named "
        "['los', 'speed']. Did you mean 'los'?",
    )


# 9. a result of another kind


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("'abc'", "Metric 'loss' must be a number; got 'abc' of type str. Return a float."),
        ("(x, x)", "A trial must return one number per objective, ['loss']; got 2 of them: "),
        ("[]", "A trial must return one number per objective, ['loss']; got 0 of them: []."),
        ("None", "A training function must return or report 'loss'; it returned None and reported nothing. Return a number, or "
                 "call trial.report(step, loss=...)."),
    ],
)  # fmt: skip
def test_results_that_are_no_number(folder: Path, said: Any, value: str, message: str) -> None:
    code, _, err = said(*quick(module(folder, f"return {value}")))
    assert code == 4
    assert err.splitlines()[1].startswith(f"tunewright.errors.ConfigError: {message}")


def test_numbers_dicts_and_one_number_per_objective_are_results() -> None:
    for n, result in enumerate([0.5, 1, {"loss": 0.5, "other": 2.0}, True, (0.5,)]):
        study = tw.Study.open(f"s{n}", SPACE, method="random", storage="memory")
        study.run(lambda x, result=result: result, trials=1, progress="none")
        assert study.counts == {"completed": 1}


def test_python_says_the_same() -> None:
    study = tw.Study.open("s", SPACE, method="random", storage="memory")
    with pytest.raises(
        TooManyFailures, match=r"Metric 'loss' must be a number; got 'abc' of type str. Return a float."
    ):
        study.run(lambda x: "abc", trials=3, progress="none")
    asked = study.ask()
    assert asked is not None
    with pytest.raises(
        ConfigError, match=r"^A trial must report what the study optimises, 'loss'; got \['los'\]"
    ):
        asked.tell(los=1.0)
    asked.tell(0.5)


# 10. a study's name is misspelled


@pytest.mark.parametrize("command", ["best", "show", "trials", "status", "resume", "export", "watch"])
def test_a_misspelled_study(folder: Path, said: Any, command: str) -> None:
    tw.Study.open("digits", SPACE, method="random")
    code, out, err = said(command, "digts")
    assert (code, out) == (2, "")
    assert (
        err
        == f"error[TW042]: No study 'digts' in sqlite:///{folder}/.tunewright/studies.db; did you mean 'digits'?"
    )


def test_a_misspelled_study_in_python(folder: Path, said: Any) -> None:
    tw.Study.open("digits", SPACE, method="random")
    with pytest.raises(StudyMissing, match=r"^No study 'digts' in .*; did you mean 'digits'\?$"):
        tw.Study.open("digts", exist="must")
    code, _, err = said("explain", "TW042")
    assert (code, err) == (0, "")
