"""Every way in which a trial can end keeps its own name, and every limit ends the trial and not the study."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from shell import Shell

import tunewright as tw
from tunewright.core.events import Ended, Interrupted
from tunewright.core.trial import Trial
from tunewright.errors import InvalidTrial

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="limits are set and looked at with Linux tools"
)


@pytest.fixture
def study(tmp_path: Path) -> Iterator[tw.Study]:
    with tw.Study.open("s", {"x": tw.Float(0, 1)}, method="random", storage=tmp_path / "s.db") as made:
        yield made


def one(study: tw.Study, train: Callable[..., Any], **more: Any) -> Trial:
    study.run(train, **{"trials": len(study.trials) + 1, "progress": "none", "failures": None, **more})
    return study.trials[-1]


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_processor_time_has_a_limit(study: tw.Study) -> None:
    trial = one(study, lambda x: burn(60), cpu=0.3)
    assert trial.status == "timed_out"
    assert "seconds of processor time, more than the limit of 0.3" in trial.error
    assert one(study, lambda x: time.sleep(0.8) or x, cpu="500ms").status == "completed", (
        "waiting costs nothing"
    )


@pytest.mark.slow
def test_processor_time_of_children_counts_and_that_of_earlier_trials_does_not(study: tw.Study) -> None:
    code = "import time\nwhile time.process_time() < 60: pass"

    study.run(lambda x: burn(0.3) or x, trials=3, cpu=0.6, progress="none")
    assert study.counts == {"completed": 3}, "one worker trained them all"
    assert one(study, lambda x: subprocess.call([sys.executable, "-c", code]), cpu=0.6).status == "timed_out"


def test_processes_have_a_limit(study: tw.Study) -> None:
    def train(x: float) -> float:
        for _ in range(5):
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        time.sleep(60)
        return x

    trial = one(study, train, processes=3)
    assert (trial.status, "more than the limit of 3" in trial.error) == ("failed", True)


def test_files_have_limits(study: tw.Study, tmp_path: Path) -> None:
    def opens(x: float) -> float:
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]
        return float(len(held))

    def writes(x: float) -> float:
        (tmp_path / "large").write_bytes(b"x" * 3_000_000)
        return x

    trial = one(study, opens, files=64)
    assert (trial.status, "Too many open files" in trial.error) == ("failed", True)
    trial = one(study, writes, file_size="1MB")
    assert (trial.status, "File too large" in trial.error) == ("failed", True)
    assert one(study, writes, files=64, file_size="4MB").status == "completed"
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64, "only the worker is held to it"


def test_two_trials_share_a_device(study: tw.Study) -> None:
    def train(x: float) -> dict[str, float]:
        time.sleep(0.1)
        return {"loss": x, "device": float(os.environ["CUDA_VISIBLE_DEVICES"])}

    study.run(train, trials=8, devices=[4, 7], per_device=2, fresh=False, progress="none")
    assert {t.metrics["device"] for t in study.trials} == {4.0, 7.0}
    assert one(
        study, lambda x: float(os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"), devices=[4, 7], per_device=0.5
    ).metrics == {"loss": 1.0}


def test_every_ending_keeps_its_name(study: tw.Study) -> None:
    def invalid(x: float) -> float:
        raise InvalidTrial("makes no sense")

    def memory(x: float) -> float:
        raise MemoryError

    def failed(x: float) -> float:
        raise ValueError("no")

    endings = {
        "completed": (lambda x: x, {}),
        "failed": (failed, {}),
        "invalid": (invalid, {}),
        "out_of_memory": (memory, {}),
        "timed_out": (lambda x: time.sleep(60), {"trial_timeout": 0.2}),
        "lost": (lambda x: os.kill(os.getpid(), signal.SIGKILL), {"workers": 2}),
    }
    for status, (train, more) in endings.items():
        assert one(study, train, **more).status == status
    assert study.counts == dict.fromkeys(endings, 1)
    asked = study.ask()
    assert asked is not None
    study.session.record(Ended(asked.number, asked.token, "killed", error="by hand"))
    assert study.trials[-1].status == "killed"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "cause"), [(signal.SIGTERM, "preempted"), (signal.SIGINT, "shutdown")])
def test_work_that_is_cut_short_says_by_whom(number: int, cause: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.write(
        "train.py",
        "import time, pathlib\nimport tunewright as tw\n"
        "def train(trial, x=tw.Float(0, 1)):\n"
        "    pathlib.Path('began').touch()\n    time.sleep(60)\n    return x\n",
    )
    process = shell.start(
        "run", "--trials", 1, "--workers", 2, "--grace", "0.2s", "--name", "k", "train.py:train"
    )
    shell.wait((tmp_path / "began").exists, "the trial")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    with tw.Study.open("k", storage=tmp_path / ".tunewright" / "studies.db") as study:
        events = [r.event for r in study.session.store.read(study.session.info.id)]
        (cut,) = [e for e in events if isinstance(e, Interrupted)]
        assert cut.cause == cause
        assert study.trials[0].status == "waiting"


@pytest.mark.slow
def test_limits_on_the_command_line(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.write("burn.py", "import time\nwhile time.process_time() < 60: pass\n")
    shell(
        "run", "--trials", 1, "--cpu", "0.3s", "--failures", "none", "--name", "k", "--minimize", "loss",
        "--", sys.executable, "burn.py", "{x:0..1}", code=3,
    )  # fmt: skip
    (trial,) = shell.json("trials", "k")
    assert (trial["status"], "processor time" in trial["error"]) == ("timed_out", True)
    shell.write(
        "see.py", "import os\nprint('loss=' + os.environ['CUDA_VISIBLE_DEVICES'].replace(',', '.'))\n"
    )
    shell(
        "run", "--trials", 2, "--devices", "4,7", "--per-device", "0.5", "--name", "d", "--minimize", "loss",
        "--", sys.executable, "see.py", "{x:0..1}",
    )  # fmt: skip
    assert [t["metrics"]["loss"] for t in shell.json("trials", "d")] == [4.7, 4.7]
    _, err = shell("run", "--trials", 1, "--cpu", "soon", "--name", "e", "--", "true", "{x:0..1}", code=2)
    assert "A time must be" in err


SECRETS = {
    "TUNEWRIGHT_TOKEN": "canary-1",
    "PGPASSWORD": "canary-2",
    "TUNEWRIGHT_ADMIN_PASSWORD": "canary-3",
}


@pytest.mark.slow
def test_neither_functions_nor_scripts_see_the_keys_of_the_store(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "seen = open('/proc/self/environ').read() + str(dict(os.environ))\n"
        "assert 'canary' not in seen, seen\n"
        "import tunewright as tw\n"
        "with tw.Study.open('inner', {'y': tw.Float(0, 1)}, storage='memory') as study:\n"
        "    study.run(lambda y: y, trials=2, progress='none')\n"
        "print('loss=1')\n"
    )
    (tmp_path / "script.py").write_text(script)
    (tmp_path / "module.py").write_text(
        "import os\nimport tunewright as tw\n"
        "def train(x=tw.Float(0, 1)):\n"
        "    assert 'canary' not in str(dict(os.environ)) + open('/proc/self/environ').read()\n"
        "    return x\n"
        "study = tw.Study.open('m', train, storage=os.environ['TUNEWRIGHT_STORE'], method='random')\n"
        "study.run(train, trials=2, workers=2, progress='none')\n"
        "study.run(lambda x: float('canary' in str(dict(os.environ))), trials=4, workers=2, progress='none')\n"
        "assert [t.metrics['loss'] for t in study.trials][2:] == [0.0, 0.0]\n"
        "assert study.counts == {'completed': 4}, study.trials[0].error\n"
    )
    environment = {**os.environ, **SECRETS, "TUNEWRIGHT_STORE": "sqlite:///s.db"}
    command = [
        sys.executable,
        "-m",
        "tunewright",
        "run",
        "--trials",
        "1",
        "--minimize",
        "loss",
        "--",
        sys.executable,
    ]
    done = subprocess.run(
        [*command, "script.py", "{x:0..1}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "module.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
