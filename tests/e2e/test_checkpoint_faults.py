"""Checkpoints that are lost, cut, swapped or moved, and processes killed around them: never the wrong weights."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.core.events import Dropped, Event, Interrupted, Paused, Started
from tunewright.run.session import Session

METHODS = {"asha": {}, "pbt": {"size": 4, "interval": 3, "share": 0.5}, "hyperband": {}}
SPACE = {"x": tw.Float(0, 1)}


class Weights:
    """Weights that tell whose steps they have seen, so that wrong ones cannot pass for right ones."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = list(state["seen"])


class Train:
    """Trains, and checks at every step that the weights are those of this trial or of its donors."""

    def __init__(self) -> None:
        self.study: Any = None
        self.fresh: list[int] = []

    def __call__(self, trial: tw.Attempt) -> None:
        weights = Weights()
        trial.keep(weights=weights)
        assert [step for _, step in weights.seen] == list(range(1, trial.step + 1))
        if weights.seen:
            line, number = {trial.number}, self.study.trials[trial.number]
            while number.parent is not None:
                number = self.study.trials[number.parent[0]]
                line.add(number.number)
            assert {n for n, _ in weights.seen} <= line, "weights of a stranger"
        else:
            self.fresh.append(trial.number)
        for step in trial.steps():
            weights.seen.append((trial.number, step))
            trial.report(step, loss=trial["x"] + 1 / step)


def run(path: Path, method: str, watch: Any = None, train: Any = None, trials: int = 6) -> tw.Study:
    study = tw.Study.open(
        "s", SPACE, steps=9, method=method, options=METHODS[method], storage=str(path / "s.db")
    )
    train = train or Train()
    train.study = study
    study.run(train, trials=trials, watch=watch, progress="none")
    return study


def told(study: tw.Study, kind: type) -> list[Any]:
    return [r.event for r in study.session.store.read(study.session.info.id) if isinstance(r.event, kind)]


def folder(session: Session) -> Path:
    return Path(session.store.blobs(session.info.id))


def deleted(path: Path, others: list[Path]) -> None:
    path.unlink()


def cut(path: Path, others: list[Path]) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def emptied(path: Path, others: list[Path]) -> None:
    path.write_bytes(b"")


def swapped(path: Path, others: list[Path]) -> None:
    shutil.copyfile(others[0], path)


def linked(path: Path, others: list[Path]) -> None:
    path.unlink()
    path.symlink_to(others[0])


def unreadable(path: Path, others: list[Path]) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("harm", [deleted, cut, emptied, swapped, linked, unreadable])
def test_a_harmed_checkpoint_is_dropped_and_the_trial_begins_anew(
    harm: Callable[[Path, list[Path]], None], method: str, tmp_path: Path
) -> None:
    harmed: list[str] = []

    def watch(event: Event, session: Session) -> None:
        """Harms what every second trial pauses with, the first six times."""
        if isinstance(event, Paused) and event.checkpoint and event.trial % 2 and len(harmed) < 6:
            path = folder(session) / event.checkpoint
            others = [p for p in folder(session).iterdir() if p.is_file() and p != path]
            harm(path, others)
            harmed.append(event.checkpoint)

    study = run(tmp_path, method, watch)
    dropped = told(study, Dropped)
    assert {e.checkpoint for e in dropped} <= set(harmed)
    assert dropped
    assert len(told(study, Interrupted)) == len(dropped)
    assert study.counts.get("failed", 0) == 0, [t.error for t in study.trials]
    assert study.counts["completed"] >= 1
    assert not study.session.ledger.running
    assert not study.session.ledger.waiting
    found = study.replay()
    assert found.verified + found.skipped == found.decisions


@pytest.mark.parametrize("method", METHODS)
def test_when_all_checkpoints_vanish_every_trial_still_ends(method: str, tmp_path: Path) -> None:
    def watch(event: Event, session: Session) -> None:
        if isinstance(event, Paused):
            for path in folder(session).iterdir():
                path.unlink()

    train = Train()
    study = run(tmp_path, method, watch, train)
    assert told(study, Dropped), "somebody wanted one"
    assert study.counts["completed"] >= 1
    assert study.best.step == 9
    assert study.session.ledger.held == {c[1]: 1 for t in study.trials if (c := t.checkpoint) is not None}, (
        "nobody shares what is gone"
    )


@pytest.mark.parametrize("method", METHODS)
def test_trials_that_cannot_resume_repeat_their_steps(method: str, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []

    class Forgetful:
        study: Any = None

        def __call__(self, trial: tw.Attempt) -> None:
            for step in trial.steps():
                steps.append((trial.number, step))
                trial.report(step, loss=trial["x"] + 1 / step)

    study = run(tmp_path, method, train=Forgetful())
    assert study.counts["completed"] >= 1
    assert all(t.checkpoint is None for t in study.trials)
    for trial in study.trials:
        mine = [s for n, s in steps if n == trial.number]
        assert all(b == a + 1 or b == 1 for a, b in itertools.pairwise(mine)), "always from the first"
    assert list(folder(study.session).iterdir()) == []
    study.replay()


def test_a_donor_that_dies_while_it_is_forked_leaves_its_checkpoint(tmp_path: Path) -> None:
    """The donor's file is deleted by nobody between the decision to fork and the fork's first save."""
    seen: list[int] = []

    def watch(event: Event, session: Session) -> None:
        if isinstance(event, Started) and event.parent is not None:
            donor = session.ledger.trials[event.parent[0]]
            if donor.status == "paused":
                # Another process ends the donor right now, and tidies up.
                with tw.Study.open("s", storage=str(tmp_path / "s.db"), exist="must") as other:
                    from tunewright.core.events import Ended
                    from tunewright.run.retention import Retention

                    other.session.record(Ended(donor.id, donor.token, "killed", step=donor.step))
                    Retention(other.session).tidy()
                seen.append(event.trial)

    train = Train()
    study = run(tmp_path, "pbt", watch, train)
    assert seen
    assert told(study, Dropped) == []
    assert not set(seen) & set(train.fresh), "every fork began with its donor's weights"


@pytest.mark.parametrize("method", ["asha", "pbt"])
def test_a_study_moves_to_another_place(method: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    pauses = 0

    def watch(event: Event, session: Session) -> None:
        nonlocal pauses
        pauses += isinstance(event, Paused)
        if pauses == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", method, watch)
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = [(t.params, t.status, t.step, t.metrics) for t in run(whole, method).trials]
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "a").iterdir():
        shutil.move(path, tmp_path / "b" / path.name)
    study = run(tmp_path / "b", method)
    assert told(study, Dropped) == []
    assert [(t.params, t.status, t.step, t.metrics) for t in study.trials] == expected


SAVER = """
import os, sys
from pathlib import Path
from tunewright.store import blobs
n = 0
while True:
    n += 1
    blobs.put(sys.argv[1], "t0-s%d" % (n % 7), bytes([n % 251]) * 300_000)
    print(n, flush=True)
"""


@pytest.mark.parametrize("moment", range(4))
def test_killed_while_saving_every_named_file_is_whole(moment: int, tmp_path: Path) -> None:
    from tunewright.store import blobs

    process = subprocess.Popen(
        [sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ}, text=True
    )
    assert process.stdout is not None
    for _ in range(3 + moment):
        process.stdout.readline()
    process.kill()
    process.communicate()
    named = [p.name for p in tmp_path.iterdir() if not p.name.endswith(".part")]
    assert len(named) >= 3
    for name in named:
        assert len(blobs.get(tmp_path, name)) == 300_000
    assert len([p for p in tmp_path.iterdir() if p.name.endswith(".part")]) <= 1


RACER = """
import sys, time
import tunewright as tw

class Weights:
    def __init__(self): self.seen = []
    def state_dict(self): return {"seen": self.seen}
    def load_state_dict(self, state): self.seen = list(state["seen"])

def train(trial):
    weights = Weights()
    trial.keep(weights=weights)
    assert weights.seen == list(range(1, trial.step + 1))
    for step in trial.steps():
        time.sleep(0.005)
        weights.seen.append(step)
        trial.report(step, loss=trial["x"] + 1 / step)
        print(trial.number, step, flush=True)

options = {"size": 6, "interval": 2, "share": 0.5}
with tw.Study.open("s", {"x": tw.Float(0, 1)}, steps=12, method="pbt", options=options, storage="s.db") as study:
    study.run(train, trials=6, progress="none")
"""


def test_processes_that_fork_each_others_trials_take_nothing_from_each_other(tmp_path: Path) -> None:
    from tunewright.run.retention import Retention

    def racer() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", RACER],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    others = [racer(), racer()]
    victim = racer()
    assert victim.stdout is not None
    for _ in range(6):
        victim.stdout.readline()
    victim.kill()
    victim.communicate()
    for process in others:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    with tw.Study.open("s", storage=str(tmp_path / "s.db"), exist="must") as study:
        assert told(study, Dropped) == [], "no file was taken from a trial that needed it"
        assert any(t.parent for t in study.trials)
        assert study.counts.get("failed", 0) == 0, [t.error for t in study.trials]
        assert study.counts["completed"] >= 1
        Retention(study.session).clean(age=0.0)
        left = {p.name for p in folder(study.session).iterdir() if p.is_file()}
        assert left == set(study.session.ledger.held)
        found = study.replay()
        assert found.verified + found.skipped == found.decisions
