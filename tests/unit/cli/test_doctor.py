"""``doctor`` finds what is wrong with a store, repairs it after a yes, and says what was lost."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.cli import main
from tunewright.core.events import Noted, Started
from tunewright.core.snapshot import dump
from tunewright.core.trial import Ledger
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


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    for name in ("a", "b"):
        with tw.Study.open(
            name, {"x": tw.Float(0, 1)}, steps=3, method="asha", storage=folder / "s.db"
        ) as study:
            study.run(train, trials=4, progress="none")
    return folder


@pytest.fixture
def db(sound: Path, tmp_path: Path) -> str:
    shutil.copytree(sound, tmp_path / "x")
    return str(tmp_path / "x" / "s.db")


def change(path: str, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def run(capsys: pytest.CaptureFixture[str], *args: str, code: int) -> tuple[str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["doctor", *args])
    out, err = capsys.readouterr()
    assert (stop.value.code or 0) == code, out + err
    return out, err


def looked(capsys: pytest.CaptureFixture[str], *args: str, code: int) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(run(capsys, "--json", *args, code=code)[0])
    assert data["ok"] is (code == 0)
    return data


def bad(data: dict[str, Any]) -> dict[str, str]:
    return {c["what"]: c["text"] for c in data["checks"] if not c["ok"]}


def fixes(data: dict[str, Any]) -> list[str]:
    return [c["fix"] for c in data["checks"] if "fix" in c]


def test_a_store_that_is_well(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = looked(capsys, "--storage", db, code=0)
    what = [c["what"] for c in data["checks"]]
    assert what[:8] == [
        "versions", "store", "format", "disk", "file system", "permissions", "write-ahead log", "clock",
    ]  # fmt: skip
    assert Counter(w.partition(": ")[2] for w in what if ": " in w) == dict.fromkeys(
        ("records", "attempts", "log", "leases", "checkpoints", "decisions"), 2
    )
    assert fixes(data) == []
    out, _ = run(capsys, "a", "--storage", db, code=0)
    assert out.endswith("all is well\n")
    assert "b: log" not in out
    assert "did you mean" in run(capsys, "aa", "--storage", db, code=2)[1]
    out, _ = run(capsys, "--repair", "--storage", db, code=0)
    assert "this would be done" not in out
    assert looked(capsys, "--repair", "--storage", db, code=0)["repaired"] is None


def test_damaged_and_missing_records(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    change(
        db,
        "UPDATE event SET data = x'7b7d' WHERE study = 1 AND seq = 3",
        "DELETE FROM event WHERE study = 1 AND seq IN (7, 8)",
    )
    data = looked(capsys, "--storage", db, code=1)
    found = bad(data)
    assert found["a: records"] == "damaged: 3 (its checksum differs); gone: 7 to 8"
    assert "b: decisions" in {c["what"] for c in data["checks"]}, "the other study is looked at all the same"
    assert "a: decisions" not in {c["what"] for c in data["checks"]}
    before = Path(db).read_bytes()
    assert "Pass --yes" in run(capsys, "--repair", "--storage", db, code=2)[1]
    assert Path(db).read_bytes() == before, "nothing is changed without a yes"
    out, _ = run(capsys, "--repair", "--yes", "--storage", db, code=0)
    assert "lost  a: 3: " in out
    assert "lost  a: 7: " in out
    assert "done  a: the table of attempts was built again from the log" in out
    assert "follow by rule or rest on records that were lost" in out
    (aside,) = Path(db).parent.glob("*.bak")
    with closing(sqlite3.connect(aside)) as connection:
        assert connection.execute("SELECT data FROM event WHERE study = 1 AND seq = 3").fetchone() == (b"{}",)
    with tw.Study.open("a", storage=db, exist="must") as study:
        study.run(train, trials=6, progress="none", failures=None)


def test_the_table_of_attempts_and_the_snapshot(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = SqliteStore(db)
    with tw.Study.open("b", storage=store, exist="must") as study:
        ledger = study.session.sync()
        ledger.decisions += 1
        wrong = dump(ledger)
    store.save_snapshot(2, ledger.cursor, wrong)
    store.save_snapshot(1, 3, dump(Ledger(study.session.origin)))
    store.close()
    change(
        db,
        "UPDATE head SET token = 1 WHERE study = 1 AND trial = 2",
        "UPDATE snapshot SET crc = 7 WHERE study = 1",
    )
    data = looked(capsys, "--storage", db, code=1)
    found = bad(data)
    assert "1 differ; trial 2: the table says attempt 1 of" in found["a: attempts"]
    assert found["a: snapshot"] == "its checksum differs"
    assert found["b: log"] == "the state in use is not what the log says"
    data = looked(capsys, "--repair", "--yes", "--storage", db, code=0)
    assert sorted(data["repaired"]["done"]) == [
        "a: the snapshot was dropped; the next one is made from the log",
        "a: the table of attempts was built again from the log",
        "b: the snapshot was dropped; the next one is made from the log",
    ]
    assert data["repaired"]["lost"] == []
    assert looked(capsys, "--storage", db, code=0)["ok"]


def test_a_log_that_contradicts_itself(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = SqliteStore(db)
    last = store.last(1)
    store.close()
    twice = '{"kind":"started","trial":0,"config":{"x":0.5}}'
    change(
        db,
        f"INSERT INTO event SELECT 1, {last + 1}, at, worker, CAST('{twice}' AS BLOB), NULL FROM event "
        "WHERE study = 1 AND seq = 1",
        f"UPDATE head SET token = {last + 1}, state = 0, ended = 0, expires = 0 WHERE study = 1 AND trial = 0",
    )
    found = bad(looked(capsys, "--storage", db, code=1))
    assert "contradicts itself: trial 0 is not the next number" in found["a: log"]
    data = looked(capsys, "--repair", "--yes", "--storage", db, code=0)
    assert data["repaired"]["lost"] == [
        f"a: {last + 1}: 'started' of trial 0 became a note, because trial 0 had begun already"
    ]
    store = SqliteStore(db)
    event = store.read(1, last)[0].event
    assert isinstance(event, Noted)
    assert event.data["event"] == json.loads(twice)
    store.close()


def test_checkpoints_leases_and_leftovers(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    with tw.Study.open("a", storage=db, exist="must") as study:
        folder = Path(study.session.store.blobs(1))
        first, second = [t.checkpoint for t in study.trials if t.status == "paused"][:2]
        assert first is not None
        assert second is not None
        began = Started(len(study.trials), {"x": 0.5}, by="user")
        study.session.store.append(1, [began], worker="gone/0.0/1/1/", lease=-1.0)
    (folder / first[1]).unlink()
    (folder / second[1]).write_bytes(b"damaged")
    orphan = blobs.put(folder, "t9-s9", b"123456")
    os.utime(folder / orphan, (time.time() - 7200,) * 2)
    (folder.parent / "99").mkdir()
    data = looked(capsys, "--storage", db, code=1)
    text = bad(data)["a: checkpoints"]
    assert "missing; they start over; those of trials [" in text
    assert "damaged; they start over; 1 files, 6 bytes, are needed by no trial" in text
    assert [f.partition(": ")[2] or f for f in fixes(data)] == [
        "remove the checkpoint folders of 1 studies that are no more",
        "take trials [4] back from workers that are gone",
        "remove 1 checkpoint files that no trial needs, 6 bytes",
    ]
    data = looked(capsys, "--repair", "--yes", "--storage", db, code=1)
    assert data["repaired"]["done"] == [
        "99: 0 bytes of leftovers removed",
        "a: trials [4] were taken back",
        "a: 1 checkpoint files removed, 6 bytes",
    ]
    assert data["repaired"]["aside"] is None, "nothing in the file was repaired"
    assert set(bad(data)) == {"a: checkpoints"}, "what is lost is lost; those trials start over"


def test_the_place(db: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from tunewright.cli import health

    change(db, f"UPDATE event SET at = {time.time() + 500} WHERE study = 2 AND seq = 9")
    change(
        db,
        f"UPDATE event SET at = {time.time() + 500} WHERE study = 2 AND seq = (SELECT max(seq) FROM event)",
    )
    monkeypatch.setattr(health, "_LITTLE", 1 << 60)
    monkeypatch.setattr(health, "_LONG_WAL", -1)
    monkeypatch.setattr("tunewright.store.schema.filesystem", lambda folder: "nfs4")
    monkeypatch.setattr("tunewright.store.sqlite.check_place", lambda path, force: None)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    found = bad(looked(capsys, "--storage", db, code=1))
    assert "ahead of this machine's time of day" in found["clock"]
    assert "GiB free" in found["disk"]
    assert "nfs4, shared over a network" in found["file system"]
    assert "cannot be written" in found["permissions"]
    assert "write-ahead log" in found


def test_a_file_with_damaged_pages_is_salvaged(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(Path(db).read_bytes())
    Path(db).write_bytes(data[:-6000])
    found = bad(looked(capsys, "--storage", db, code=1))
    assert "--salvage" in found["store"]
    out, _ = run(capsys, "--salvage", db + ".new", "--storage", db, code=1)
    assert "pages of the old file cannot be read" in out
    assert "lost  " in out
    assert f"the new store is {db}.new" in out
    names = {study.name for study in SqliteStore(db + ".new").studies()}
    assert names
    looked(capsys, "--storage", db + ".new", code=0 if not bad(looked_at(db + ".new", capsys)) else 1)
    assert "must not overwrite" in run(capsys, "--salvage", db + ".new", "--storage", db, code=2)[1]
    told = json.loads(
        run(capsys, "--json", "--salvage", db + ".2", "--storage", f"sqlite:///{db}", code=1)[0]
    )
    assert told["lost"]
    assert told["records"]
    assert "Only a file" in run(capsys, "--salvage", "n.db", "--storage", "postgresql://h/d", code=2)[1]


def looked_at(path: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["doctor", "--json", "--storage", path])
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    return data


def test_there_is_nothing_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNEWRIGHT_STORE", raising=False)
    assert "none here yet" in run(capsys, code=0)[0]
    assert "must be there" in run(capsys, "--repair", code=2)[1]
    (tmp_path / "text.db").write_text(
        "no database at all, but text that is long enough to be read as a header" * 9
    )
    assert "BAD  store" in run(capsys, "--storage", "text.db", code=1)[0]


def test_an_old_file_is_said_to_have_been_old(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(Path(__file__).parents[2] / "golden" / "v1", tmp_path / "v1")
    path = str(tmp_path / "v1" / "studies.db")
    for text in ("2, the newest; it was 1 before it was opened", "2, the newest"):
        data = looked_at(path, capsys)
        assert {c["what"]: c["text"] for c in data["checks"]}["format"] == text
        assert set(bad(data)) <= {"deep: decisions"}, "which rest on models"


def test_a_database_server(postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = f"{postgres_url}&blobs={tmp_path / 'blobs'}"
    with tw.Study.open("a", {"x": tw.Float(0, 1)}, method="random", storage=where) as study:
        study.run(lambda x: x, trials=2, progress="none")
    data = looked(capsys, "--storage", where, code=0)
    found = {c["what"]: c["text"] for c in data["checks"]}
    assert found["connection"].startswith("PostgreSQL 1")
    assert found["a: decisions"] == "2 taken again, the same"
    assert data["checks"][1]["text"].endswith("1 study")
