"""Racing, confirming, reporting and stopping from the command line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import Shell

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")

TRAIN = """
import random

def train(trial):
    return (trial["x"] - 1) ** 2 + random.Random(trial.seed).gauss(0, 0.3)

def exact(x):
    return (x - 1) ** 2
"""
SCRIPT = """
import argparse, random, time
p = argparse.ArgumentParser()
p.add_argument("--x", type=float)
p.add_argument("--seed", type=int)
a = p.parse_args()
time.sleep(0.02)
print("loss:", (a.x - 1) ** 2 + random.Random(a.seed).random())
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    made.write("model.py", TRAIN)
    made.write("train.py", SCRIPT)
    yield made
    made.close()


def test_a_winner_is_confirmed_shown_and_reported(shell: Shell) -> None:
    shell("run", "--minimize", "loss", "--trials", 20, "--method", "tpe", "--space", "x=-5.0..5.0", "--name", "s",
          "model.py:train")  # fmt: skip
    before = shell.json("best", "s")
    assert before["truth"] == []
    out, err = shell("confirm", "s", "--top", 3, "--seeds", 4, "--workers", 2)
    assert err.count("seed") == 12
    assert "standard error" in out
    assert "best of 20" in out
    again = shell.json("confirm", "s", "--top", 3, "--seeds", 4)
    after = shell.json("best", "s")
    assert after["number"] == again["trials"][0]
    assert any("expected loss is" in line for line in after["truth"])
    shell("report", "s", "-o", "page.html")
    page = (shell.folder / "page.html").read_text()
    assert "The winner" in page
    assert "expected loss is" in page
    assert "20 of 20 decisions" in shell("replay", "s")[0]
    assert shell.json("status", "s")["trials"] == 20


def test_a_command_is_confirmed_with_its_seed_and_goes_on_after_an_interruption(shell: Shell) -> None:
    shell("run", "--minimize", "loss", "--trials", 5, "--method", "random", "--name", "c", "--", sys.executable,
          "train.py", "--x", "{x:-5.0..5.0}", "--seed", "{seed}")  # fmt: skip
    process = shell.start("confirm", "c", "--top", 2, "--seeds", 10)
    shell.wait(lambda: (shell.json("show", "c")["records"]) > 14, "some measurements")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    records = shell.json("show", "c")["records"]
    out, err = shell("confirm", "c", "--top", 2, "--seeds", 10)
    assert "expected loss is" in out
    assert err.count("seed") < 20
    assert shell.json("show", "c")["records"] == records + err.count("seed") + 1


def test_racing_tells_the_mean_over_seeds(shell: Shell) -> None:
    shell("run", "--minimize", "loss", "--trials", 30, "--method", "racing", "--space", "x=-5.0..5.0", "--name", "r",
          "model.py:train")  # fmt: skip
    assert "Its mean over" in shell("best", "r")[0]
    replicates = [t for t in shell.json("trials", "r") if "replicate_of" in t["why"]]
    assert replicates
    assert all(t["why"]["seed"] >= 1 for t in replicates)


def test_a_rule_ends_the_study_and_says_why(shell: Shell) -> None:
    arguments = [
        "run",
        "--minimize",
        "loss",
        "--trials",
        200,
        "--method",
        "quasirandom",
        "--space",
        "x=-5.0..5.0",
    ]
    out, _ = shell(*arguments, "--stop-when", "regret<0.5", "--name", "e", "model.py:exact")
    assert "little is left to gain" in out
    assert "regret<0.5: after" in out
    assert shell.json("status", "e")["trials"] < 100
    assert "regret<0.5: after" in shell("show", "e")[0]
    shell("report", "e")
    assert "Why it ended" in (shell.folder / "e.html").read_text()
    _, err = shell(*arguments, "--stop-when", "soon", "--name", "f", "model.py:exact", code=2)
    assert "stop_when must be" in err


def test_confirm_needs_a_study_that_it_can_train(shell: Shell) -> None:
    shell.write("own.py", "import tunewright as tw\n"
          "tw.Study.open('p', {'x': tw.Float(0, 1)}).run(lambda x: x, trials=3, progress='none')\n")  # fmt: skip
    import subprocess

    subprocess.run([sys.executable, "own.py"], cwd=shell.folder, check=True, capture_output=True)
    _, err = shell("confirm", "p", code=2)
    assert "tunewright.confirm(study, train)" in err
