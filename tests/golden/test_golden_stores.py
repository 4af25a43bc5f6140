"""Stores that earlier versions wrote are opened, read to the last bit, and continued."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any, get_args

import pytest
from make import summary

import tunewright as tw
from tunewright.core.events import Event, Noted, encode_event
from tunewright.errors import SchemaError
from tunewright.store import blobs
from tunewright.store.copying import copy_study, digest
from tunewright.store.memory import MemoryStore
from tunewright.store.schema import STEPS
from tunewright.store.sqlite import SqliteStore

HERE = Path(__file__).parent
VERSIONS = sorted(path.name for path in HERE.glob("v*"))
LARGEST = 100_000
# The decisions of these methods rest on models, whose last digits are another library's business.
MODELS = {"asha(tpe)"}


def expected(version: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((HERE / version / "expected.json").read_text())
    return found


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(version: str, tmp_path: Path) -> Path:
    shutil.copytree(HERE / version, tmp_path / version)
    return tmp_path / version / "studies.db"


def test_every_format_has_a_store_and_none_is_large() -> None:
    assert [f"v{i + 1}" for i in range(len(STEPS))] == VERSIONS, "run tests/golden/make.py for the new format"
    assert max(p.stat().st_size for p in HERE.rglob("*") if p.is_file()) < LARGEST


def test_kinds_of_events_never_go_away() -> None:
    known = {kind.__struct_config__.tag for kind in get_args(Event)}
    for version in VERSIONS:
        assert {kind for study in expected(version).values() for kind in study["kinds"]} <= known
    assert len({kind for study in expected("v1").values() for kind in study["kinds"]}) == 14


def test_what_was_written_is_read_again(version: str, path: Path) -> None:
    store = SqliteStore(path)
    wanted = expected(version)
    assert [info.name for info in store.studies()] == list(wanted)
    for name, told in wanted.items():
        found = summary(store, name)
        if told["method"] in MODELS:
            found["verified"] = told["verified"]
        assert found == told
        info = store.find(name)
        assert info is not None
        for checkpoint in told["held"]:
            assert blobs.get(store.blobs(info.id), checkpoint)
    store.close()


def test_the_lines_of_the_log_are_those_of_the_store(version: str, path: Path) -> None:
    store = SqliteStore(path)
    for info in store.studies():
        head, *lines = (HERE / version / f"{info.name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(head) == {"spec": info.spec, "created": info.created}
        records = store.read(info.id)
        assert [json.loads(line) for line in lines] == [
            [r.seq, r.at, r.worker, json.loads(encode_event(r.event))] for r in records
        ]
    store.close()


def test_an_old_study_goes_on(version: str, path: Path) -> None:
    store = SqliteStore(path)
    for name, told in expected(version).items():
        with tw.Study.open(name, storage=store, exist="must") as study:
            before = len(study.trials)
            trial = study.ask()
            if trial is None:
                assert study.session.ledger.running, "only a method that waits has nothing to hand out"
                continue
            values = {o.name: 0.125 for o in study.problem.objectives}
            study.tell(trial, {**values, "size": 1.0})
            assert len(study.trials) >= before
            assert digest(store, study.session.info.id, upto=told["records"]) == told["digest"]
    store.close()


def test_an_old_study_is_copied_unchanged(version: str, path: Path) -> None:
    store, target = SqliteStore(path), MemoryStore()
    for name, told in expected(version).items():
        assert copy_study(store, name, target).digest == told["digest"]
    store.close()
    target.close()


def test_events_of_a_later_version_are_passed_over(path: Path) -> None:
    connection = sqlite3.connect(path)
    (last,) = connection.execute("SELECT max(seq) FROM event WHERE study = 4").fetchone()
    later = json.dumps({"kind": "teleported", "trial": 0, "where": [1, 2]}).encode()
    row = connection.execute("SELECT * FROM event WHERE study = 4 AND seq = ?", (last,)).fetchone()
    names = [d[1] for d in connection.execute("PRAGMA table_info(event)")]
    fresh = {**dict(zip(names, row, strict=True)), "seq": last + 1, "data": later}
    fresh.pop("crc", None)
    connection.execute(
        f"INSERT INTO event({', '.join(fresh)}) VALUES({', '.join('?' * len(fresh))})", list(fresh.values())
    )
    connection.commit()
    connection.close()
    with tw.Study.open("plain", storage=path, exist="must") as study:
        study.tell(study.trials[5].number, 0.5)
        (note,) = [n for _, n in study.session.sync().notes if n.topic == "unknown"]
        assert note == Noted("unknown", json.loads(later))
        trial = study.ask()
        assert trial is not None
        study.tell(trial, 1.0)
        assert study.best.metrics == {"loss": 0.5}
        target = MemoryStore()
        assert copy_study(study.session.store, "plain", target).unknown == 1
        target.close()


def test_a_store_of_a_later_version_is_refused_and_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=f"has format {len(STEPS) + 1}. Upgrade Tunewright"):
        SqliteStore(path)
    assert path.read_bytes() == before
