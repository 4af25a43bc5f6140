"""Which checkpoint files stay, and which go."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tunewright as tw
from tunewright.core.algorithm import Action, Resume, Start
from tunewright.core.events import Dropped, Ended, Event, Paused, Reported, Saved, Started
from tunewright.core.problem import Problem
from tunewright.errors import CheckpointError, ConfigError
from tunewright.run.retention import Retention
from tunewright.store import blobs

SPACE = tw.Space(x=tw.Float(0, 1))


class Number:
    """The smallest thing that ``trial.keep`` takes."""

    def __init__(self) -> None:
        self.n = 0

    def state_dict(self) -> dict[str, Any]:
        return {"n": self.n, "ballast": np.zeros(500)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.n = state["n"]


def train(trial: tw.Attempt) -> None:
    number = Number()
    trial.keep(number=number)
    for step in trial.steps():
        number.n += 1
        if trial.number == 2:
            raise ValueError("two is unlucky")
        trial.report(step, loss=trial.number % 4 + 1 / step)


def files(study: tw.Study) -> set[str]:
    folder = Path(study.session.store.blobs(study.session.info.id))
    return {p.name for p in folder.iterdir() if p.is_file()}


def opened(path: Path, **more: Any) -> tw.Study:
    more = {"space": SPACE, "steps": 9, "method": "random", "storage": str(path / "s.db"), **more}
    return tw.Study.open("s", **more)


def dropped(study: tw.Study) -> list[Dropped]:
    records = study.session.store.read(study.session.info.id)
    return [r.event for r in records if isinstance(r.event, Dropped)]


def test_files_of_completed_trials_stay_and_those_of_failed_ones_go(tmp_path: Path) -> None:
    study = opened(tmp_path)
    study.run(train, trials=4, progress="none")
    assert study.counts == {"completed": 3, "failed": 1}
    assert files(study) == set(study.session.ledger.held)
    assert sorted(study.session.ledger.finals) == [0, 1, 3]
    assert study.checkpoint(study.trials[1])["number"]["n"] == 9
    assert study.checkpoint(2, "none") == "none"


def test_promotions_leave_one_file_for_each_trial(tmp_path: Path) -> None:
    study = opened(tmp_path, method="asha")
    study.run(train, trials=9, progress="none")
    held = study.session.ledger.held
    assert files(study) == set(held)
    assert len(held) == sum(t.checkpoint is not None for t in study.trials) == 8
    for trial in study.trials:
        if trial.checkpoint is not None:
            assert study.checkpoint(trial)["number"]["n"] == trial.step


@pytest.mark.parametrize("keep", [0, 2])
def test_a_policy_keeps_the_best(keep: int, tmp_path: Path) -> None:
    study = opened(tmp_path, policy=tw.Policy(keep=keep))
    study.run(train, trials=8, progress="none")
    ranked = sorted(
        (t for t in study.trials if t.status == "completed"), key=lambda t: (t.metrics["loss"], t.number)
    )
    assert sorted(study.session.ledger.finals) == sorted(t.number for t in ranked[:keep])
    assert files(study) == set(study.session.ledger.held)
    assert len(files(study)) == keep
    assert {e.why for e in dropped(study)} == {f"the study keeps the best {keep}"}
    assert study.replay().verified == 8


def test_a_quota_gives_up_the_worst_and_never_what_is_needed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = opened(tmp_path, policy=tw.Policy(quota=20_000))
    study.run(train, trials=12, progress="none")
    # Looked at every twenty savings only; a manual look brings it below.
    Retention(study.session).tidy()
    study.session.saved += 100
    Retention(study.session).tidy()
    folder = Path(study.session.store.blobs(study.session.info.id))
    assert sum((folder / f).stat().st_size for f in files(study)) <= 20_000
    losses = {t.number: t.metrics["loss"] for t in study.trials if t.status == "completed"}
    kept = study.session.ledger.finals
    assert kept
    assert max(losses[n] for n in kept) <= min(v for n, v in losses.items() if n not in kept)

    (tmp_path / "more").mkdir()
    paused = opened(tmp_path / "more", method="asha", policy=tw.Policy(quota=1))
    with caplog.at_level(logging.WARNING):
        paused.run(train, trials=9, progress="none")
        paused.session.saved += 100
        Retention(paused.session).tidy()
    assert any("Raise the quota" in r.message for r in caplog.records)
    waiting = [t for t in paused.trials if t.status == "paused"]
    assert waiting
    assert all(t.checkpoint is not None and t.checkpoint[1] in files(paused) for t in waiting)


@pytest.mark.parametrize("wrong", [-1, 1.5, True])
def test_a_policy_says_what_is_wrong(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="whole number keep >= 0"):
        tw.Policy(keep=wrong)


def test_clean_removes_old_files_that_nobody_needs(tmp_path: Path) -> None:
    study = opened(tmp_path)
    study.run(train, trials=1, progress="none")
    folder = Path(study.session.store.blobs(study.session.info.id))
    orphan = blobs.put(folder, "t9-s9", b"orphan")
    part = folder / ".0123.part"
    part.write_bytes(b"half")
    (folder / "files").mkdir()
    (folder / "files" / "mine.txt").write_text("not a checkpoint")
    (kept,) = study.session.ledger.held
    retention = Retention(study.session)
    assert retention.clean() == (0, 0), "what is young may be on its way into the log"
    assert files(study) == {orphan, part.name, kept}
    old = time.time() - 7200
    for path in folder.iterdir():
        os.utime(path, (old, old))
    assert retention.clean() == (2, 10)
    assert files(study) == {kept}
    assert (folder / "files" / "mine.txt").exists()


def test_a_run_begins_by_removing_what_a_dead_process_left(tmp_path: Path) -> None:
    study = opened(tmp_path)
    folder = Path(study.session.store.blobs(study.session.info.id))
    orphan = folder / blobs.put(folder, "t9-s9", b"orphan")
    os.utime(orphan, (time.time() - 7200,) * 2)
    study.run(train, trials=1, progress="none")
    assert not orphan.exists()


class Scripted:
    """Takes decisions from a list, one at a time."""

    def __init__(self, *actions: Action) -> None:
        self.actions = list(actions)

    def init(self, problem: Problem) -> int:
        return 0

    def tell(self, state: int, events: Sequence[Event]) -> int:
        return state

    def ask(self, state: int, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        return (self.actions.pop(0),) if slots and self.actions else ()


def saved(study: tw.Study, trial: Any, step: int) -> str:
    """What a worker does that trains to a step and pauses there."""
    session = study.session
    folder = session.store.blobs(session.info.id)
    name = blobs.put(folder, f"t{trial.id}-s{step}", f"{trial.id} {step}".encode())
    session.record(Reported(trial.id, trial.token, step, {"loss": 1.0}))
    session.record(Saved(trial.id, trial.token, step, name))
    session.record(Paused(trial.id, trial.token, step, name))
    return name


def test_a_fork_of_another_process_keeps_what_the_donor_lets_go_of(tmp_path: Path) -> None:
    donors = opened(tmp_path, method=Scripted(Start({"x": 0.5}, 3), Resume(0, 6), Resume(0, 9)))
    forks = opened(tmp_path, method=Scripted(Start({"x": 0.4}, 6, (0, 3))), space=None)
    donor = donors.session.ask()
    assert donor is not None
    first = saved(donors, donor, 3)
    again = donors.session.ask()
    assert again is not None
    fork = forks.session.ask()
    assert fork is not None
    assert fork.checkpoint == (3, first)
    # The donor's process has not read the fork when it says that the old file is of no more use to it.
    assert len(donors.session.ledger.trials) == 1
    second = saved(donors, again, 6)
    Retention(donors.session).tidy()
    assert files(donors) == {first, second}
    forks.session.record(Ended(1, fork.token, "failed", step=3, error="died"))
    Retention(forks.session).tidy()
    assert files(forks) == {second}, "the last who needed it removes it"


def test_facts_of_others_in_between_leave_no_file_behind(tmp_path: Path) -> None:
    ours = opened(tmp_path, method=Scripted(Start({"x": 0.5}, 3), Resume(0, 6)))
    theirs = opened(tmp_path, method=Scripted(), space=None)
    trial = ours.session.ask()
    assert trial is not None
    saved(ours, trial, 3)
    again = ours.session.ask()
    assert again is not None
    session = ours.session
    folder = session.store.blobs(session.info.id)
    name = blobs.put(folder, "t0-s6", b"six")
    session.record(Reported(0, again.token, 6, {"loss": 1.0}))
    theirs.note("a word in between")
    session.record(Saved(0, again.token, 6, name))
    Retention(session).tidy()
    assert files(ours) == {name}


def test_forks_share_one_file(tmp_path: Path) -> None:
    """Copying on write costs nothing here: checkpoints are never written to, so forks begin with the same file."""
    copies = [Start({"x": 0.1 * n}, 6, (0, 3)) for n in range(5)]
    study = opened(tmp_path, steps=6, method=Scripted(Start({"x": 0.5}, 3), *copies))
    seen: list[int] = []

    def segment(trial: tw.Attempt) -> None:
        path = trial.checkpoint.load_file()
        if path is not None:
            seen.append(path.stat().st_ino)
            assert path.stat().st_nlink == 1
        for step in trial.steps():
            trial.report(step, loss=1.0)
            if trial.number == 0:
                trial.checkpoint.save_bytes(b"w" * 1000)

    study.run(segment, trials=1, progress="none")
    assert [t.parent for t in study.trials] == [None] + 5 * [(0, 3)]
    assert len(seen) == 5
    assert len(set(seen)) == 1
    assert len(files(study)) == 1
    assert study.session.ledger.held == {next(iter(files(study))): 6}


def test_reading_a_damaged_checkpoint_says_so(tmp_path: Path) -> None:
    study = opened(tmp_path)
    study.run(train, trials=1, progress="none")
    folder = Path(study.session.store.blobs(study.session.info.id))
    (name,) = files(study)
    (folder / name).write_bytes(b"short")
    with pytest.raises(CheckpointError, match="was changed or cut"):
        study.checkpoint(0)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match="must be there"):
        study.checkpoint(0)


def test_a_start_event_names_its_donor(tmp_path: Path) -> None:
    study = opened(tmp_path, steps=6, method=Scripted(Start({"x": 0.5}, 3), Start({"x": 0.4}, 6, (0, 3))))
    study.run(train, trials=1, progress="none")
    starts = [
        r.event for r in study.session.store.read(study.session.info.id) if isinstance(r.event, Started)
    ]
    assert [(e.trial, e.parent) for e in starts] == [(0, None), (1, (0, 3))]
    assert study.checkpoint(1)["number"]["n"] == 6, "it went on from its donor's three"
