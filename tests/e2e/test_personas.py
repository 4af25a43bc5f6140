"""The three people of the documentation's first page, with their scripts as they are written, on small budgets."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "examples" / "personas"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")]
LONGEST = 400.0


def needs(*modules: str) -> pytest.MarkDecorator:
    absent = [m for m in modules if importlib.util.find_spec(m) is None]
    return pytest.mark.skipif(bool(absent), reason=f"needs {', '.join(absent)}")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of the scripts, where they may write."""
    shutil.copytree(SCRIPTS, tmp_path / "personas")
    return tmp_path / "personas"


def run(place: Path, *words: str, **settings: object) -> str:
    """Runs a script in an environment of its own; what it printed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TUNEWRIGHT")}
    folder = str(Path(sys.executable).parent)
    environment = {
        **kept,
        **{k: str(v) for k, v in settings.items()},
        "PATH": f"{folder}{os.pathsep}{kept.get('PATH', '')}",
        "OMP_NUM_THREADS": "1",
        "XDG_CONFIG_HOME": str(place / "config"),
    }
    done = subprocess.run(
        words, cwd=place, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@needs("sklearn", "lightgbm")
def test_data_scientist(place: Path) -> None:
    out = run(place, sys.executable, "data_scientist.py", BUDGET=6, TRIALS=3)
    assert re.search(r"best score 0\.[89]\d+ with \{", out)
    assert re.search(r"better than the defaults by -?0\.\d+", out)
    assert re.search(r"best accuracy 0\.[89]\d+ with \{", out)


@needs("torch", "sklearn")
def test_engineer(place: Path) -> None:
    out = run(
        place, "./engineer.sh", GPUS="none", BUDGET="4 trials", MORE="+1 trials", FILE_BUDGET="2 trials"
    )
    assert "resnet: all trials are done; 4 trials ended" in out
    assert "resnet: all trials are done; 1 trial ended" in out
    assert re.search(r"^python train\.py --lr \S+ --width \d+ --opt \w+ --epochs 9$", out, re.MULTILINE)
    assert "sweep.toml: 3 of 5 options to be tuned: lr, width, opt" in out
    assert "train: all trials are done; 2 trials ended" in out
    assert "val_acc" in (place / "resnet.html").read_text()


@needs("torch", "sklearn", "submitit")
def test_research_group(place: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = run(
        place, "./cluster.sh", STORE=place / "store", PORT=port, SEEDS=2, KIND="local", WORKERS=1, TIME="5min", GPUS=0,
        TRIALS=3, UNTIL="120s", MORE=1,
    )  # fmt: skip
    assert "resnet: 3 parameters, method halting" in out
    assert "1 job submitted for 'resnet'" in out
    assert "running what the study says: python train.py" in out
    assert "resnet is paused" in out
    assert (
        "space of 'resnet': ~ lr: a number in [1e-05, 0.1], log scale -> a number in [1e-05, 0.3], log scale"
        in out
    )
    assert re.search(r"http://127\.0\.0\.1:7777/s/resnet\?token=tw_\w+", out)
    assert "val_acc" in (place / "store" / "resnet.html").read_text()
    listed = run(
        place, "tunewright", "trials", "resnet", "--json", "--storage", str(place / "store" / "studies.db")
    )
    trials = json.loads(listed)
    assert len(trials) == 4
    assert len({t["worker"] for t in trials}) > 1, "several processes shared them"
    assert all("val_acc_std" in t["metrics"] for t in trials if t["status"] == "completed")


@needs("ray")
def test_research_group_on_ray(place: Path) -> None:
    out = run(place, sys.executable, "cluster.py", TRIALS=4)
    found = re.search(r"^(\d) trials on the front$", out, re.MULTILINE)
    assert found is not None
    assert int(found[1]) >= 1
