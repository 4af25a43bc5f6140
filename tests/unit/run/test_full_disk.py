"""A checkpoint that finds no room waits for it, as results do."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

import tunewright as tw
from tunewright.core.events import Record
from tunewright.errors import StoreUnavailable
from tunewright.run import worker


def trained(folder: Path) -> tw.Study:
    def train(trial: tw.Attempt) -> float:
        for step in trial.steps():
            trial.checkpoint.save({"step": step})
            trial.report(step, loss=1.0 / step)
        return 0.5

    study = tw.Study.open("s", {"x": tw.Float(0, 1)}, steps=2, method="random", storage=folder / "s.db")
    study.run(train, trials=1, progress="none")
    return study


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often there is no room, in the only entry; short pauses."""
    left = [0]
    put = worker.blobs.put

    def failing(*args: object, **options: object) -> str:
        if left[0]:
            left[0] -= 1
            error = OSError(errno.ENOSPC, "No space left on device")
            raise worker.blobs._unwritable("folder", error) from error
        return put(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(worker.blobs, "put", failing)
    monkeypatch.setattr(worker, "_AGAIN", 0.001)
    return left


def test_a_checkpoint_waits_for_room(
    full: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full[0] = 3
    study = trained(tmp_path)
    assert [(t.status, t.attempts) for t in study.trials] == [("completed", 1)]
    assert study.checkpoint(0) == {"step": 2}
    assert caplog.text.count("a checkpoint is waiting to be saved") == 3
    study.close()


def test_it_does_not_wait_for_ever(full: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_PATIENCE", 0.0)
    full[0] = 10**6
    study = trained(tmp_path)
    assert study.trials[0].status == "lost"
    assert "No space left" in next(r.event.detail for r in records(study) if hasattr(r.event, "detail"))
    study.close()


def test_what_no_waiting_helps_is_not_waited_for() -> None:
    assert worker.blobs._unwritable("f", OSError(errno.ENOSPC, "full")).passing
    assert worker.blobs._unwritable("f", OSError(errno.EDQUOT, "quota")).passing
    assert not worker.blobs._unwritable("f", OSError(errno.EACCES, "closed")).passing
    assert not StoreUnavailable("x").passing


def records(study: tw.Study) -> list[Record]:
    return study.session.store.read(study.session.info.id)
