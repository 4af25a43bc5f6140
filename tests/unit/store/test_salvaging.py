"""Stores that were cut, overwritten and flipped: what lies outside the damage is read again, and nothing is ever another value."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import tunewright as tw
from tunewright.core.events import Event, Noted, Record
from tunewright.errors import ConfigError, SchemaError, StoreError
from tunewright.store import blobs
from tunewright.store.inspection import inspect_file
from tunewright.store.pages import Pages
from tunewright.store.salvaging import salvage
from tunewright.store.sqlite import SqliteStore

PAGE = 4096
TAIL = 64 * 1024


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies, one of them long, with large records in between and a checkpoint."""
    path = tmp_path_factory.mktemp("sound") / "s.db"
    store = SqliteStore(path)
    for name, trials in (("short", 5), ("long", 120)):
        with tw.Study.open(name, {"x": tw.Float(0, 1)}, method="random", storage=store) as study:
            study.run(lambda x: x * x, trials=trials // 2, progress="none")
            for i in range(trials // 4):
                study.session.note(
                    "large", {"text": chr(97 + i % 26) * 5000 if i % 5 == 0 else "x" * 300, "n": i}
                )
            study.run(lambda x: x * x, trials=trials, progress="none")
            blobs.put(store.blobs(study.session.info.id), "t0-s1", b"weights")
    store.close()
    return path


def read(path: Path) -> dict[tuple[str, int], Record]:
    store = SqliteStore(path)
    found = {(info.name, r.seq): r for info in store.studies() for r in store.read(info.id)}
    store.close()
    return found


def places(path: Path) -> dict[tuple[int, int], int]:
    """The page that each record begins in, by study and position; only of records that fit in it."""
    pages = Pages(path)
    found = {}
    for page, rowid, values in pages.rows():
        if rowid is None and len(values) == 6 and isinstance(values[4], bytes) and len(values[4]) < 900:
            assert isinstance(values[0], int)
            assert isinstance(values[1], int)
            found[values[0], values[1]] = page
    pages.close()
    return found


def saved(path: Path, new: Path, before: dict[tuple[str, int], Record]) -> dict[tuple[str, int], Record]:
    """Salvages, and checks that every record is what it was or a note that says that it is gone."""
    told = salvage(path, new)
    after = read(new)
    for key, record in after.items():
        if record == before.get(key):
            continue
        event = record.event
        substitute = isinstance(event, Noted) and event.topic == "damaged"
        assert substitute or record.worker == "external/doctor", f"{key} became {record}"
        assert told.lost
    (study, *_) = inspect_file(str(new)).studies
    assert study.whole
    assert not study.heads
    assert not inspect_file(str(new)).pages
    return after


def test_the_pages_hold_what_sqlite_reads(sound: Path) -> None:
    pages = Pages(sound)
    found = {tuple(v[:2]): v for _, rowid, v in pages.rows() if rowid is None and len(v) == 6}
    with closing(sqlite3.connect(sound)) as connection:
        rows = connection.execute("SELECT * FROM event").fetchall()
    assert [found[row[:2]] for row in rows] == [list(row) for row in rows]
    assert len(found) == len(rows) > 250
    assert (pages.count, pages.size, pages.unread) == (pages.wanted, PAGE, set())
    pages.close()


def test_a_sound_store_is_saved_as_it_is(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(f"{sound}-blobs", tmp_path / "s.db-blobs")
    shutil.copy(sound, tmp_path / "s.db")
    told = salvage(tmp_path / "s.db", tmp_path / "new.db")
    assert (told.lost, told.pages, told.apart) == ([], 0, [])
    assert read(tmp_path / "new.db") == read(sound)
    assert sum(told.records.values()) == len(read(sound))
    with pytest.raises(ConfigError, match="must not overwrite"):
        salvage(sound, tmp_path / "new.db")


@pytest.mark.parametrize("step", [12_345, pytest.param(997, marks=pytest.mark.slow)])
def test_a_file_that_was_cut(sound: Path, tmp_path: Path, step: int) -> None:
    """Wherever in its last 64 KiB: every record in a page before the cut is saved."""
    before, where = read(sound), places(sound)
    ids = {info.id: info.name for info in SqliteStore(sound).studies()}
    size = sound.stat().st_size
    for cut in range(size - TAIL + 7, size, step):
        path = tmp_path / f"{cut}.db"
        path.write_bytes(sound.read_bytes()[:cut])
        with pytest.raises(StoreError):
            read(path)
        after = saved(path, tmp_path / f"{cut}.new.db", before)
        kept = [(ids[study], seq) for (study, seq), page in where.items() if page * PAGE <= cut]
        assert len(kept) > 50
        for key in kept:
            assert after[key] == before[key] or "configuration" in str(after[key].event)


@pytest.mark.parametrize("count", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_pages_that_were_overwritten(sound: Path, tmp_path: Path, count: int) -> None:
    before, where = read(sound), places(sound)
    ids = {info.id: info.name for info in SqliteStore(sound).studies()}
    rng = random.Random(1)
    pages = sound.stat().st_size // PAGE
    with closing(sqlite3.connect(sound)) as connection:
        (settings,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'study'").fetchone()
    for i in range(count):
        hit = {rng.randrange(1, pages + 1) for _ in range(3)} - {settings}
        data = bytearray(sound.read_bytes())
        for page in hit:
            data[(page - 1) * PAGE : page * PAGE] = rng.randbytes(PAGE)
        path = tmp_path / f"{i}.db"
        path.write_bytes(data)
        after = saved(path, tmp_path / f"{i}.new.db", before)
        for (study, seq), page in where.items():
            key = (ids[study], seq)
            if page not in hit:
                assert after[key] == before[key] or "configuration" in str(after[key].event)


@pytest.mark.parametrize("count", [60, pytest.param(1500, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_an_error_or_nothing(sound: Path, tmp_path: Path, count: int) -> None:
    """Reading gives the very events or an error; times and names of workers are for display and have no checksum."""
    before = {key: record.event for key, record in read(sound).items()}
    names = {name for name, _ in before}
    rng = random.Random(2)
    original = sound.read_bytes()
    noticed = 0
    for i in range(count):
        data = bytearray(original)
        at = rng.randrange(len(data))
        data[at] ^= 1 << rng.randrange(8)
        path = tmp_path / f"{i}.db"
        path.write_bytes(data)
        store = None
        try:
            store = SqliteStore(path)
            for name in names:
                info = store.find(name)
                found: list[Event] = [] if info is None else [r.event for r in store.read(info.id)]
                assert found == [before[name, n + 1] for n in range(len(found))]
        except StoreError:
            noticed += 1
        finally:
            if store is not None:
                store.close()
    assert noticed > count // 4


@pytest.mark.parametrize("step", [4001, pytest.param(211, marks=pytest.mark.slow)])
def test_a_write_ahead_log_that_was_cut(tmp_path: Path, step: int) -> None:
    """A torn tail takes with it what it held and nothing that was before; the store opens by itself."""
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    study = store.create("s", {"problem": {}}).id
    for n in range(60):
        store.append(study, [Noted("n", {"n": n, "text": "x" * 200})], worker="external/a")
    before = store.read(study)
    wal = Path(f"{path}-wal").read_bytes()
    base = path.read_bytes()
    lengths = []
    for cut in range(max(0, len(wal) - TAIL), len(wal), step):
        copy = tmp_path / f"{cut}.db"
        copy.write_bytes(base)
        Path(f"{copy}-wal").write_bytes(wal[:cut])
        pages = Pages(copy)
        rows = {v[1] for _, rowid, v in pages.rows() if rowid is None and len(v) == 6}
        pages.close()
        torn = SqliteStore(copy)
        after = torn.read(study)
        assert after == before[: len(after)]
        assert rows == {r.seq for r in after}, "read without SQLite it is the same"
        torn.append(study, [Noted("on", {})], worker="external/a")
        torn.close()
        lengths.append(len(after))
    assert lengths == sorted(lengths)
    store.close()


def test_a_study_without_settings_is_kept_apart(sound: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(sound, tmp_path / "s.db"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE study SET spec = replace(spec, 'x', 'y') WHERE name = 'short'")
        connection.execute("UPDATE event SET data = x'00' WHERE study = 1 AND seq = 2")
        connection.commit()
    told = salvage(path, tmp_path / "new.db")
    assert [s.name for s in SqliteStore(tmp_path / "new.db").studies()] == ["long"]
    (apart,) = told.apart
    lines = [json.loads(line) for line in Path(apart).read_text().splitlines()]
    assert [line[0] for line in lines] == list(range(1, len(lines) + 1))
    assert [line[4] for line in lines] == [True, False, *[True] * (len(lines) - 2)]
    assert lines[0][3]["kind"] == "started"
    assert any("cannot be opened" in text for text in told.lost)


def test_nothing_to_save(tmp_path: Path) -> None:
    path = tmp_path / "noise.db"
    path.write_bytes(random.Random(3).randbytes(5 * PAGE))
    with pytest.raises(SchemaError, match="must hold a study"):
        salvage(path, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
    with pytest.raises(StoreError, match="must be readable"):
        salvage(tmp_path / "none.db", tmp_path / "new.db")
