"""``backup``, ``copy``, ``vacuum`` and ``delete`` from the command line."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.cli import main
from tunewright.core.events import Noted
from tunewright.store import blobs
from tunewright.store.sqlite import SqliteStore


class Weights:
    def state_dict(self) -> dict[str, Any]:
        return {"w": 1.0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state == {"w": 1.0}


def train(trial: tw.Attempt) -> None:
    trial.keep(weights=Weights())
    for step in trial.steps():
        trial.report(step, loss=trial["x"])


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    path = str(tmp_path / "s.db")
    for name in ("a", "b"):
        with tw.Study.open(name, {"x": tw.Float(0, 1)}, steps=3, method="asha", storage=path) as study:
            study.run(train, trials=4, progress="none")
    return path


def run(*args: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    assert (stop.value.code or 0) == code


def said(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    capsys.readouterr()
    run(*args, code=code)
    out, err = capsys.readouterr()
    return str(out if code == 0 else err)


def test_a_study_or_all_of_them_are_copied(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "copy", "a", "--to", "t.db", "--as", "c", "--storage", db)
    assert "c: 20 records in sqlite:///" in out
    assert "4 checkpoint files copied" in out
    (again,) = json.loads(said(capsys, "copy", "a", "--to", "t.db", "--as", "c", "--json", "--storage", db))
    assert (again["found"], again["files"]) == (20, 0)
    both = json.loads(said(capsys, "copy", "--all", "--to", "u.db", "--json", "--storage", db))
    assert [x["name"] for x in both] == ["a", "b"]
    newest = json.loads(said(capsys, "copy", "--to", "t.db", "--no-checkpoints", "--json", "--storage", db))
    assert [(x["name"], x["files"]) for x in newest] == [("b", 0)]
    assert "Leave one of them out" in said(
        capsys, "copy", "a", "--all", "--to", "v.db", "--storage", db, code=2
    )
    assert "did you mean" in said(capsys, "copy", "aa", "--to", "v.db", "--storage", db, code=2)
    with tw.Study.open("c", storage="t.db", exist="must") as study:
        study.run(train, trials=6, progress="none")
        assert study.replay().records > 20


def test_a_store_is_backed_up(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "backup", "--storage", db)
    (made,) = Path().glob("tunewright-backup-*.db")
    assert "2 studies, 40 records" in out
    assert "8 checkpoint files copied" in out
    assert "must not overwrite" in said(capsys, "backup", "--to", str(made), "--storage", db, code=2)
    data = json.loads(said(capsys, "backup", "--to", str(made), "--force", "--json", "--storage", db))
    assert set(data["digests"]) == {"a", "b"}
    assert "must be there to be read" in said(capsys, "backup", "--storage", "memory", code=2)
    assert json.loads(said(capsys, "doctor", "--json", "--storage", str(made)))["ok"]


def test_vacuum_says_what_it_freed(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = SqliteStore(db)
    info = store.find("a")
    assert info is not None
    folder = Path(store.blobs(info.id))
    orphan = blobs.put(folder, "t9-s9", b"123456")
    os.utime(folder / orphan, (time.time() - 7200,) * 2)
    young = blobs.put(folder, "t8-s8", b"12")
    (folder / "logs").mkdir()
    (folder / "logs" / "trial-0.log").write_text("printed")
    store.append(info.id, [Noted("n", {"text": "x" * 1000})] * 500, worker="external/a")
    (Path(db + "-blobs") / "77").mkdir()
    (Path(db + "-blobs") / "77" / "old").write_bytes(b"1234")
    store.close()
    data = json.loads(said(capsys, "vacuum", "--json", "--storage", db))
    assert (data["checkpoints"], data["logs"], data["leftovers"], data["said"]) == (6, 0, 4, [])
    assert (folder / young).exists()
    with tw.Study.open("a", storage=db, exist="must") as study:
        finished = [t.number for t in study.trials if t.finished]
    assert finished
    (folder / "logs" / f"trial-{finished[0]}.log").write_text("printed")
    out = said(capsys, "vacuum", "a", "--keep", "0", "--logs", "--age", "0", "--storage", db)
    assert "bytes of checkpoints" in out
    assert "7 bytes of logs" in out
    assert "bytes freed" in out
    assert not (folder / young).exists()
    data = json.loads(said(capsys, "vacuum", "--quota", "1", "--json", "--storage", db))
    assert data["checkpoints"] > 0
    assert json.loads(said(capsys, "doctor", "--json", "--storage", db))["ok"]


def test_a_study_is_deleted_after_a_yes(
    db: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Pass --yes" in said(capsys, "delete", "a", "--storage", db, code=2)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code in ((False, 130), (True, 0)):
        monkeypatch.setattr("click.confirm", lambda question, answer=answer: answer)
        said(capsys, "delete", "a", "--storage", db, code=code)
    assert not tw.Study.exists("a", db)
    assert "did you mean" in said(capsys, "delete", "bb", "--yes", "--storage", db, code=2)
    with tw.Study.open("b", storage=db, exist="must") as study:
        study.ask()
        assert "run now" in said(capsys, "delete", "b", "--yes", "--storage", db, code=2)
        said(capsys, "delete", "b", "--yes", "--force", "--storage", db)
    assert SqliteStore(db).studies() == []
