"""The command line as people use it: through a shell, interrupted, killed, and continued."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import SCRIPT, Shell

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")
PYTHON = sys.executable
LR = "{lr:log 1e-4..1e-1 = 1e-2}"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    made.write("train.py", SCRIPT)
    yield made
    made.close()


def run_script(*more: object, sleep: float = 0.0, epochs: int = 3) -> list[object]:
    command = [
        PYTHON,
        "train.py",
        "--lr",
        LR,
        "--opt",
        "{opt:adam|sgd}",
        "--sleep",
        sleep,
        "--epochs",
        epochs,
    ]
    return ["run", "--minimize", "loss", "--method", "random", "--name", "s", *more, "--", *command]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_command_from_start_to_end(shell: Shell) -> None:
    out, _ = shell(*run_script("--trials", 4, "--workers", 2))
    assert "all trials are done" in out
    assert f"use     {PYTHON} train.py --lr 0." in out
    state = shell.json("status", "s")
    assert state["counts"] == {"completed": 4}
    assert shell.json("trials", "s")[0]["params"]["lr"] == 0.01, "the default goes first"
    assert [r["step"] for r in shell.json("show", "s", 0)["reports"]] == [1, 2, 3]
    best = shell.json("best")
    assert best["use"] == shell("best", "s", "--as", "command")[0].strip()
    assert shell.json("replay", "s")["verified"] == 3
    assert shell.json("doctor")["ok"] is True
    assert [s["study"] for s in shell.json("ls")] == ["s"]
    again = shell.json("resume", "s", "--trials", "+2")
    assert again["trials"] == 6
    assert again["ended"] == 2


def test_python_function_and_outcome_as_json(shell: Shell) -> None:
    shell.write(
        "model.py",
        "import tunewright as tw\n"
        "def train(x=tw.Float(-1, 1), n=tw.Int(1, 3)):\n"
        "    print('to the log or the screen')\n"
        "    return {'score': -x * x + n}\n",
    )
    args = [
        "run",
        "--maximize",
        "score",
        "--method",
        "random",
        "--trials",
        5,
        "--workers",
        2,
        "model.py:train",
    ]
    data = shell.json(*args)
    assert data["study"] == "train"
    assert data["counts"] == {"completed": 5}
    assert data["best"]["metrics"]["score"] == max(t["metrics"]["score"] for t in shell.json("trials"))
    assert data["use"].startswith("train(x=")
    assert shell.json(*args)["ended"] == 0, "the same command has nothing left to do"


def test_a_function_that_declares_while_it_runs(shell: Shell) -> None:
    shell.write("f.py", "def train(trial) -> float:\n    return trial.suggest_float('x', 0, 1)\n")
    data = shell.json("run", "--method", "random", "--trials", 3, "f.py:train")
    assert data["counts"] == {"completed": 3}
    assert set(data["best"]["params"]) == {"x"}
    assert shell.json("replay")["same"] is True


def test_a_sweep_file_and_a_metrics_file(shell: Shell) -> None:
    shell.write(
        "write.py",
        "import json, os, sys\n"
        "with open(sys.argv[2], 'w') as f:\n"
        "    f.write(json.dumps({'step': 1, 'val': {'acc': float(sys.argv[1])}}) + '\\n')\n"
        "print('val.acc=99')\n",
    )
    shell.write(
        "sweep.toml",
        f'name = "t"\ncommand = "{PYTHON} write.py {{x}} {{checkpoint_dir}}/m.jsonl"\nmaximize = "val.acc"\n'
        'method = "random"\n[space]\nx = { float = [0.0, 1.0], default = 0.25 }\n'
        '[run]\ntrials = 3\nworkers = 2\nmetrics = "jsonl:{checkpoint_dir}/m.jsonl"\n',
    )
    shell("run", "sweep.toml")
    found = shell.json("trials", "t")
    assert [t["metrics"]["val.acc"] for t in found] == [t["params"]["x"] for t in found]
    assert found[0]["params"]["x"] == 0.25


def test_progress_as_json_lines(shell: Shell) -> None:
    out, _ = shell(*run_script("--trials", 1, "--progress", "jsonl"))
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert events[0] == "study.started"
    assert events[-1] == "study.finished"
    assert events.count("trial.reported") == 3
    assert events.count("trial.finished") == 1


def test_weak_scripts_are_stopped_by_signal(shell: Shell) -> None:
    shell.write(
        "slow.py",
        "import signal, sys, time\n"
        "def leave(n, f):\n    open('terminated.txt', 'a').write(sys.argv[1] + '\\n')\n    sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "for step in range(9):\n"
        "    print(f'epoch {step} loss={float(sys.argv[1]) / (step + 1)}', flush=True)\n    time.sleep(0.02)\n",
    )
    args = [
        "run",
        "--minimize",
        "loss",
        "--name",
        "h",
        "--method",
        "halting(random)",
        "--steps",
        9,
        "--trials",
        9,
    ]
    data = shell.json(*args, "--", PYTHON, "slow.py", "{x:0.0..1.0}")
    assert data["counts"].get("stopped", 0) >= 1
    assert data["counts"]["stopped"] + data["counts"]["completed"] == 9
    assert len(shell.lines("terminated.txt")) == data["counts"]["stopped"]
    assert shell.json("replay", "h")["same"] is True


def test_scripts_that_save_are_paused_and_resumed(shell: Shell) -> None:
    shell.write(
        "saves.py",
        "import os, pathlib, sys, time\n"
        "mark = pathlib.Path(os.environ['TUNEWRIGHT_CHECKPOINT_DIR'], 'step')\n"
        "done = int(mark.read_text()) if mark.exists() else 0\n"
        "for step in range(done + 1, 10):\n"
        "    mark.write_text(str(step))\n"
        "    open('steps.txt', 'a').write(f'{sys.argv[1]} {step}\\n')\n"
        "    print(f'step {step} loss={float(sys.argv[1]) + 1 / step}', flush=True)\n"
        "    time.sleep(0.1)\n",
    )
    args = [
        "run",
        "--minimize",
        "loss",
        "--name",
        "r",
        "--method",
        "asha(random)",
        "--steps",
        9,
        "--trials",
        9,
    ]
    shell(*args, "--workers", 2, "--resumable", "--", PYTHON, "saves.py", "{x:0.0..1.0}")
    done = [t for t in shell.json("trials", "r") if t["status"] == "completed"]
    assert done
    for trial in done:
        lines = [line.split() for line in shell.lines("steps.txt")]
        steps = [int(step) for x, step in lines if float(x) == trial["params"]["x"]]
        assert steps == list(range(1, 10)), "it went on from what it had saved"
    assert shell.json("replay", "r")["same"] is True


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_interrupted_and_continued_by_the_same_command(shell: Shell, number: int, code: int) -> None:
    args = run_script("--trials", 4, "--workers", 2, "--grace", "2s", sleep=0.15)
    process = shell.start(*args)
    shell.wait(lambda: len(shell.lines("steps.txt")) >= 2, "first steps")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "the same command continues" in out
    pids = {int(line.split()[2]) for line in shell.lines("steps.txt")}
    shell.wait(lambda: not any(map(alive, pids)), "scripts to be gone")
    state = shell.json("status", "s")
    assert "running" not in state["counts"]
    shell(*args)
    assert shell.json("status", "s")["counts"] == {"completed": 4}
    assert shell.json("doctor")["ok"] is True


def test_killed_driver_leaves_nothing_behind_and_continues(shell: Shell) -> None:
    args = run_script("--trials", 3, "--workers", 2, sleep=0.2)
    process = shell.start(*args)
    shell.wait(lambda: len(shell.lines("steps.txt")) >= 2, "first steps")
    process.kill()
    process.communicate()
    pids = {int(line.split()[2]) for line in shell.lines("steps.txt")}
    shell.wait(lambda: not any(map(alive, pids)), "scripts to be gone")
    shell(*args)
    state = shell.json("status", "s")
    assert state["counts"] == {"completed": 3}
    assert state["trials"] == 3
    assert shell.json("replay", "s")["same"] is True


def test_what_a_script_started_ends_with_a_killed_driver(shell: Shell) -> None:
    shell.write(
        "parent.py",
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('steps.txt', 'a').write(f'0 0 {child.pid}\\n')\n"
        "for step in range(600): print(f'step {step} loss={sys.argv[1]}', flush=True); time.sleep(0.1)\n",
    )
    args = ["run", "--minimize", "loss", "--method", "random", "--workers", 2]
    process = shell.start(*args, "--", PYTHON, "parent.py", "{x:0.0..1.0}")
    shell.wait(lambda: len(shell.lines("steps.txt")) >= 2, "children")
    process.kill()
    process.communicate()
    pids = {int(line.split()[2]) for line in shell.lines("steps.txt")}
    shell.wait(lambda: not any(map(alive, pids)), "children to be gone")


def test_ask_and_tell_across_processes(shell: Shell) -> None:
    shell(*run_script("--trials", 1))
    asked = shell.json("ask", "s", "--lease", "1h")
    assert asked["trial"] == 1
    assert shell.json("ask", "s")["trial"] == 2, "the first is still held, though its process is gone"
    out, _ = shell("tell", "s", 1, "--token", asked["token"], "--step", 1, "loss=0.9")
    assert out == "continue\n"
    for _ in range(2):
        told = shell.json("tell", "s", 1, "--token", asked["token"], "loss=0.5")
        assert told["metrics"] == {"loss": 0.5}
    _, err = shell("tell", "s", 2, "--token", asked["token"], "loss=0.1", code=5)
    assert err.startswith("error[TW044]: ")
    _, err = shell("tell", "s", 2, "lss=0.1", code=2)
    assert "Did you mean 'lss'?" in err
    assert shell.json("enqueue", "s", "lr=0.05", "--key", "k")["queued"] == 1
    assert shell.json("enqueue", "s", "lr=0.05", "--key", "k")["queued"] == 1
    assert shell.json("ask", "s")["params"]["lr"] == 0.05


def test_a_run_does_not_wait_for_trials_that_people_hold(shell: Shell) -> None:
    shell(*run_script("--trials", 1))
    shell("ask", "s")
    data = shell.json(*run_script("--trials", 3))
    assert data["counts"] == {"completed": 2, "running": 1}


def test_export(shell: Shell) -> None:
    shell(*run_script("--trials", 2))
    out, _ = shell("export", "s")
    assert out.splitlines()[0].startswith("number,status,lr,opt,loss")
    assert len(out.splitlines()) == 3
    assert [t["number"] for t in shell.json("export", "s")] == [0, 1]
    assert shell.json("plot", "s", "-o", "p.svg")["file"] == "p.svg"
    assert "<svg" in (shell.folder / "p.svg").read_text()
    for name in ("a.json", "a.jsonl", "a.csv", "a.parquet"):
        shell("export", "s", "-o", name)
        assert (shell.folder / name).stat().st_size > 100
    log, _ = shell("export", "s", "--format", "log")
    assert [json.loads(line)["seq"] for line in log.splitlines()] == list(range(1, log.count("\n") + 1))
    _, err = shell("export", "s", "-o", "a.xls", code=2)
    assert "'.xls'" in err


def test_exit_codes_and_sentences(shell: Shell) -> None:
    _, err = shell("status", "s", code=2)
    assert err.startswith("error[TW042]: ")
    assert not (shell.folder / ".tunewright").exists(), "reading makes no store"
    for wrong in (
        ["--trials", "many"],
        ["--timeout", "soon"],
        ["--memory", "-1"],
        ["--failures", "0"],
        ["--require"],
    ):
        shell(*run_script(*wrong), code=2)
    assert not (shell.folder / ".tunewright").exists(), "mistakes are said before a study is made"
    shell(*run_script("--trials", 1))
    _, err = shell("status", "ss", code=2)
    assert "did you mean 's'?" in err
    _, err = shell(*run_script("--new"), code=2)
    assert err.startswith("error[TW041]: ")
    changed = ["run", "--minimize", "loss", "--name", "s", "--trials", 1, "--space-change", "error"]
    _, err = shell(*changed, "--", PYTHON, "train.py", "--lr", "{lr:0.1..0.2}", code=6)
    assert err.startswith("error[TW011]: ")
    assert "lr" in err
    shell(*run_script("--trials", 2, "--target", "1e-9", "--require"), code=7)
    shell(*run_script("--trials", 3, "--target", "10", "--require"))
    (shell.folder / "junk.db").write_bytes(b"not a database" * 100)
    shell("status", "s", "--storage", "junk.db", code=5)
    shell("ru", code=2)
    shell("run", "--minimize", "loss", "--", PYTHON, "train.py", "--lr", "{rl}", code=2)
    shell("run", "--minimize", "loss", "--", "no-such-program", "{x:0..1}", code=2)
    _, err = shell("run", "--minimize", "loss", "--", PYTHON, "train.py", "{x:1..0}", code=2)
    assert "low < high" in err


def test_nothing_succeeded_and_gave_up(shell: Shell) -> None:
    shell.write(
        "bad.py", "import sys\nprint('loss=1')\nprint('no such data set', file=sys.stderr)\nsys.exit(3)\n"
    )
    args = ["run", "--minimize", "loss", "--name", "b", "--method", "random", "--trials", 5]
    command = ["--", PYTHON, "bad.py", "{x:0.0..1.0}"]
    _, err = shell(*args, *command, code=4)
    assert err.startswith("error[TW052]: ")
    assert "no such data set" in err
    shell(*args, "--failures", "none", *command, code=3)
    assert "no such data set" in shell("trials", "b", "--status", "failed")[0]


def test_a_misspelled_metric_stops_at_the_first_trial(shell: Shell) -> None:
    args = ["run", "--minimize", "los", "--name", "m", "--method", "random", "--trials", 5]
    _, err = shell(*args, "--", PYTHON, "train.py", "--lr", LR, code=4)
    assert "Did you mean 'loss'?" in err
    assert shell.json("status", "m")["trials"] == 1


def test_out_of_memory_and_time_limit_of_scripts(shell: Shell) -> None:
    shell.write(
        "gpu.py",
        "import sys, time\n"
        "if sys.argv[1] == 'big': sys.exit('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate')\n"
        "time.sleep(60 if sys.argv[1] == 'slow' else 0)\nprint('loss: 1e-3')\n",
    )
    args = [
        "run",
        "--minimize",
        "loss",
        "--name",
        "g",
        "--method",
        "grid",
        "--trials",
        3,
        "--trial-timeout",
        "2s",
    ]
    data = shell.json(*args, "--failures", "none", "--", PYTHON, "gpu.py", "{kind:big|slow|fine}")
    assert data["counts"] == {"out_of_memory": 1, "timed_out": 1, "completed": 1}


def test_arguments_are_never_seen_by_a_shell(shell: Shell) -> None:
    shell.write("echo.py", "import sys\nopen('args.txt', 'w').write(repr(sys.argv[1:]))\nprint('loss=1')\n")
    shell.write("space.json", json.dumps({"text": ["a b; touch hacked", "$(touch hacked)"]}))
    args = ["run", "--minimize", "loss", "--method", "grid", "--trials", 1, "--space", "space.json"]
    shell(*args, "--command", f"{PYTHON} echo.py --t={{text}} '{{\"k\": 1}}' '{{{{x}}}}'")
    assert (shell.folder / "args.txt").read_text() in (
        "['--t=a b; touch hacked', '{\"k\": 1}', '{x}']",
        "['--t=$(touch hacked)', '{\"k\": 1}', '{x}']",
    )
    assert not (shell.folder / "hacked").exists()


def test_a_closed_pipe_is_no_error(shell: Shell) -> None:
    shell(*run_script("--trials", 1))
    with shell.start("export", "s", "--format", "log") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=30) == 128 + signal.SIGPIPE
