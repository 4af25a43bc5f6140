"""Studies with a scale in processes that are killed, by several workers, and over every kind of store."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from small_server import SmallServer
from tunewright.core.events import Reported
from tunewright.scaling import Scale
from tunewright.store.memory import MemoryStore

SPACE = tw.Space(lr=tw.Float(1e-4, 1.0, log=True))
SCALE = Scale({"width": (64, 1024)}, [{"width": 64}, {"width": 128}, {"width": 256}], steps=(4, 4, 6, 24))
_FOLDERS = (Path(__file__).parent, Path(__file__).parents[1])


def loss_at(lr: float, width: int, step: int) -> float:
    return 1 + 0.05 * (math.log2(lr) + 7) ** 2 + 0.1 / step - 0.01 * math.log2(width)


def train(trial: tw.Attempt) -> None:
    """Counts its steps in its checkpoint, and says every one that it makes; must never meet weights of another size."""
    kept = trial.checkpoint.load()
    width, done = trial.size("width"), 0 if kept is None else int(kept["done"])
    assert kept is None or kept["width"] == width
    assert done == trial.step
    for step in trial.steps():
        done += 1
        assert step == done
        if "SAID" in os.environ:
            with Path(os.environ["SAID"]).open("a") as file:
                file.write(f"{trial.number} {width} {step}\n")
        trial.checkpoint.save({"done": done, "width": width})
        trial.report(step, loss=loss_at(trial["lr"], width, step))


def told(study: tw.Study) -> list[Any]:
    """What must not depend on how often a study was interrupted."""
    return [(t.params, t.status, t.step, [(r.step, r.metrics) for r in t.reports]) for t in study.trials]


def run_once(path: str, method: str, trials: int) -> None:
    """One process: dies by its own hand where ``DIE`` says, counted in steps."""
    left = [int(os.environ.get("DIE", "0"))]

    def mortal(trial: tw.Attempt) -> None:
        true = trial.report

        def report(step: int, **metrics: float) -> Any:
            found = true(step, **metrics)  # type: ignore[arg-type]
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        trial.report = report  # type: ignore[method-assign,assignment]
        train(trial)

    with tw.Study.open("p", SPACE, scale=SCALE, method=method, storage=path, seed=5) as study:
        study.run(mortal, trials=trials, progress="none")


def process(path: Path, method: str, trials: int, die: int, said: Path) -> int:
    """How a process ended that runs the study."""
    code = f"import test_proxy_faults as t; t.run_once({str(path)!r}, {method!r}, {trials})"
    environment = {
        **os.environ,
        "DIE": str(die),
        "SAID": str(said),
        "PYTHONPATH": os.pathsep.join(map(str, _FOLDERS)),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.slow
@pytest.mark.parametrize("method", ["random", "asha(tpe)", "hyperband(random)"])
def test_a_study_that_is_killed_at_any_size_ends_as_if_it_had_not_been(tmp_path: Path, method: str) -> None:
    cut, whole, said = tmp_path / "cut.db", tmp_path / "whole.db", tmp_path / "said.txt"
    # After 3 steps of the first size, at the very end of one, within the second, and within the last.
    killed = [process(cut, method, 6, die, said) for die in (3, 5, 7, 12, 11)]
    assert killed.count(-signal.SIGKILL) == 5
    assert process(cut, method, 6, 0, said) == 0
    assert process(whole, method, 6, 0, tmp_path / "other.txt") == 0
    with (
        tw.Study.open("p", storage=str(cut), exist="must") as a,
        tw.Study.open("p", storage=str(whole), exist="must") as b,
    ):
        assert told(a) == told(b)
        assert b.replay().skipped == 0
        assert a.replay().skipped == 5, "what was begun again was nobody's decision"
        assert a.replay().verified == b.replay().verified
        assert a.transfer().cost == b.transfer().cost
        steps = [
            (r.event.trial, r.event.step) for r in a.session.store.read(1) if isinstance(r.event, Reported)
        ]
    lines = said.read_text().split("\n")[:-1]
    # A kill costs the step that it fell on at most, and never a whole size.
    assert len(lines) - len(set(lines)) <= 5
    assert len(set(lines)) == len(set(steps))


@pytest.fixture(params=["memory", "sqlite", "server", "postgres"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "server":
        server = SmallServer(MemoryStore(expiring=True))
        yield server.url
        server.close()
    elif request.param == "memory":
        yield MemoryStore()
    else:
        yield str(tmp_path / "s.db") if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.mark.parametrize("method", ["random", "asha(random)"])
def test_every_store_gives_the_same_study_and_the_same_answer(storage: Any, method: str) -> None:
    with tw.Study.open("p", SPACE, scale=SCALE, method=method, storage=storage, seed=5) as study:
        study.run(train, trials=12, progress="none")
        found, here = study.transfer().to_dict(), told(study)
    with tw.Study.open("p", SPACE, scale=SCALE, method=method, storage="memory", seed=5) as study:
        study.run(train, trials=12, progress="none")
        assert told(study) == here
        assert study.transfer().to_dict() == found
    with tw.Study.open("p", storage=storage, exist="must") as study:
        assert study.problem.scale == SCALE
        assert study.transfer().to_dict() == found
        assert study.replay().skipped == 0


def test_two_drivers_of_one_study_share_its_trials(tmp_path: Path) -> None:
    path = str(tmp_path / "s.db")
    tw.Study.open("p", SPACE, scale=SCALE, method="asha(random)", storage=path).close()

    def drive() -> None:
        with tw.Study.open("p", storage=path, exist="must") as study:
            study.run(train, trials=12, progress="none")

    drivers = [threading.Thread(target=drive) for _ in range(2)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join(60)
    with tw.Study.open("p", storage=path, exist="must") as study:
        assert len(study.trials) == 12
        assert not [t.error for t in study.trials if t.error]
        assert {t.step for t in study.trials} <= {s.end for s in SCALE.stages}
        assert study.replay().skipped == 0
        found = study.transfer()
        ends = math.fsum(SCALE.cost_of(t.step) for t in study.trials)
        assert found.cost == pytest.approx(ends, rel=1e-12)
