"""Whatever single record is damaged or gone, the others stay as they are and no result is made up."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.core.events import Noted, Record, Resumed, Started
from tunewright.core.trial import Ledger
from tunewright.errors import SchemaError, StoreUnavailable
from tunewright.store.inspection import inspect_file, listed
from tunewright.store.repairing import repair
from tunewright.store.sqlite import SqliteStore

SPACE = {"x": tw.Float(0, 1)}


class Weights:
    def state_dict(self) -> dict[str, Any]:
        return {"w": 1.0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state == {"w": 1.0}


def train(trial: tw.Attempt) -> None:
    trial.keep(weights=Weights())
    for step in trial.steps():
        trial.report(step, loss=trial["x"] + 1 / step)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with pauses, checkpoints, a queue, a trial that waits and one that an absent person has."""
    path = tmp_path_factory.mktemp("sound") / "s.db"
    with tw.Study.open("s", SPACE, steps=3, method="asha", storage=path) as study:
        study.enqueue({"x": 0.5})
        study.run(train, trials=5, progress="none")
        study.session.act_for("external/absent")
        asked = [study.ask() for _ in range(2)]
        for trial in asked:
            assert trial is not None
        study.report(asked[0].number, 1, loss=0.75)  # type: ignore[union-attr]
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path / "s.db"))


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def records(path: Path) -> list[Record]:
    store = SqliteStore(path)
    found = store.read(1)
    store.close()
    return found


def fold(path: Path) -> Ledger:
    with tw.Study.open("s", storage=path, exist="must") as study:
        return study.session.sync()


def check(path: Path, before: list[Record], touched: set[int]) -> list[Record]:
    """After a repair: what could be read is as it was, and no result or configuration is another one."""
    told = repair(inspect_file(str(path)))
    (study,) = inspect_file(str(path)).studies
    assert study.whole
    assert not study.heads
    after = records(path)
    ledger, old = fold(path), Ledger(fold(path).problem)
    old.fold(before)
    for was, now in zip(before, after, strict=False):
        if was.seq in touched:
            continue
        if now != was:
            assert isinstance(now.event, Noted)
            assert now.event.data["event"]["kind"], "what was said is kept in the note"
            assert any(text.startswith(f"s: {was.seq}: ") for text in told.lost)
    for trial in ledger.trials:
        if trial.status == "completed":
            assert (trial.metrics, trial.config) == (
                old.trials[trial.number].metrics,
                old.trials[trial.number].config,
            )
    assert told.lost or not touched & {r.seq for r in before}
    with tw.Study.open("s", storage=path, exist="must") as opened:
        asked = opened.ask()
        if asked is not None:
            opened.tell(asked, 0.5)
        assert {x.trial for x in opened.session.store.leases(1)} == set(opened.session.sync().running)
    return after


def test_a_sound_store_needs_nothing(path: Path) -> None:
    (study,) = inspect_file(str(path)).studies
    assert (study.whole, study.heads, study.snapshot) == (True, [], "")
    before = records(path)
    told = repair(inspect_file(str(path)))
    assert (told.done, told.lost) == ([], [])
    assert records(path) == before


@pytest.mark.parametrize("how", ["damaged", "gone", "gone from both tables"])
@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_any_record_may_be_lost(sound: Path, tmp_path: Path, how: str, stride: int) -> None:
    before = records(sound)
    for seq in range(1 + len(how) % stride, len(before) + 1, stride):
        path = Path(shutil.copy(sound, tmp_path / f"{seq}.db"))
        if how == "damaged":
            change(path, f"UPDATE event SET data = CAST(replace(data, ':', '!') AS BLOB) WHERE seq = {seq}")
        else:
            change(path, f"DELETE FROM event WHERE seq = {seq}")
        if how == "gone from both tables":
            change(path, "DELETE FROM head")
        if how != "damaged" and seq == len(before):
            continue  # the last record leaves no gap
        after = check(path, before, {seq})
        was, now = before[seq - 1].event, after[seq - 1].event
        if isinstance(was, Started) and not isinstance(now, Noted):
            assert isinstance(now, Started)
            assert fold(path).trials[now.trial].status == "lost"


def test_a_log_that_was_cut_off(sound: Path, tmp_path: Path) -> None:
    """The table of attempts remembers how far it went; those positions are never given away again."""
    before = records(sound)
    for last in range(2, len(before), 12):
        path = Path(shutil.copy(sound, tmp_path / f"{last}.db"))
        change(path, f"DELETE FROM event WHERE seq > {last}")
        (study,) = inspect_file(str(path)).studies
        after = check(path, before[:last], set(range(last + 1, study.beyond + 1)))
        assert len(after) >= study.beyond
        with tw.Study.open("s", storage=path, exist="must") as opened:
            opened.run(train, trials=8, progress="none", failures=None)
            assert opened.counts.get("completed", 0)


def test_many_records_at_once(path: Path) -> None:
    before = records(path)
    change(path, "UPDATE event SET data = x'00' WHERE seq % 3 = 1", "DELETE FROM event WHERE seq % 7 = 2")
    touched = {s for s in range(1, len(before) + 1) if s % 3 == 1 or s % 7 == 2}
    check(path, before, touched)


def test_the_table_of_attempts_is_made_from_the_log(path: Path) -> None:
    before = records(path)
    change(
        path,
        "UPDATE head SET token = token + 1 WHERE trial = 0",
        "UPDATE head SET state = 0, ended = 0 WHERE trial = 1",
        "DELETE FROM head WHERE trial = 2",
        "INSERT INTO head SELECT study, 99, token, state, worker, place, expires, wall, ended FROM head WHERE trial = 3",
    )
    (study,) = inspect_file(str(path)).studies
    assert len(study.heads) == 4
    assert study.heads[2].startswith("trial 2: the table says nothing, the log attempt ")
    study.beyond = study.last
    check(path, before, set())


def test_leases_that_are_right_are_kept(path: Path) -> None:
    change(path, "UPDATE head SET token = 1 WHERE trial = 0")
    kept = "SELECT trial, token, expires FROM head WHERE state = 0 ORDER BY trial"
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute(kept).fetchall()
        assert before
        repair(inspect_file(str(path)))
        assert connection.execute(kept).fetchall() == before


def test_a_log_is_not_mended_under_those_who_work_on_it(path: Path) -> None:
    with tw.Study.open("s", storage=path, exist="must") as study:
        trial = study.ask()
        assert trial is not None
        change(path, "UPDATE event SET data = x'00' WHERE seq = 2")
        with pytest.raises(StoreUnavailable, match="worked on by"):
            repair(inspect_file(str(path)))


def test_a_snapshot_that_is_damaged_goes(path: Path) -> None:
    store = SqliteStore(path)
    store.save_snapshot(1, 3, b"{}")
    store.close()
    change(path, "UPDATE snapshot SET data = x'00'")
    (study,) = inspect_file(str(path)).studies
    assert study.snapshot == "its checksum differs"
    assert "the snapshot was dropped" in repair(inspect_file(str(path))).done[0]
    store = SqliteStore(path)
    store.save_snapshot(1, 3, b"{}")
    assert repair(inspect_file(str(path)), frozenset({1})).done
    assert store.load_snapshot(1) is None
    store.close()


def test_settings_that_are_damaged_cannot_be_mended(path: Path) -> None:
    change(path, "UPDATE study SET spec = replace(spec, 'x', 'y')", "DELETE FROM event WHERE seq = 2")
    (study,) = inspect_file(str(path)).studies
    assert study.spec is None
    before = path.read_bytes()
    told = repair(inspect_file(str(path)))
    assert told.done == []
    assert told.lost[0].startswith("s: its settings are damaged")
    assert path.read_bytes() == before


def test_pages_that_are_damaged_are_not_repaired_in_place(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'running'").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096 + 8)
        file.write(b"\xff" * 64)
    before = records(path)
    assert inspect_file(str(path)).pages
    assert repair(inspect_file(str(path))).done == ["indexes were built again"], (
        "an index holds nothing of its own"
    )
    assert not inspect_file(str(path)).pages
    assert records(path) == before
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'event'").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096 + 8)
        file.write(b"\xff" * 64)
    found = inspect_file(str(path))
    assert found.pages
    damaged = path.read_bytes()
    with pytest.raises(SchemaError, match="salvage"):
        repair(found)
    assert path.read_bytes() == damaged


def test_positions_in_words() -> None:
    assert listed([(3, 3), (1, 1), (7, 8), (9, 9)]) == "1, 3, 7 to 9"
    assert listed([(n, n) for n in range(0, 100, 2)], 2) == "0, 2 and 48 more places"


def test_a_position_that_cannot_be_true_is_not_believed(path: Path) -> None:
    """Millions of notes would not bring back what one flipped bit of a key has moved away."""
    before = records(path)
    change(path, "UPDATE head SET token = token + 1000000000 WHERE trial = 1")
    (study,) = inspect_file(str(path)).studies
    assert study.beyond == study.last
    check(path, before, set())
    change(path, "UPDATE event SET seq = seq + 1000000000, crc = NULL WHERE seq = 4")
    told = repair(inspect_file(str(path)))
    assert told.done == []
    assert "cannot lack" in told.lost[0]


def test_what_is_said_of_a_trial_that_is_begun_again(path: Path) -> None:
    before = records(path)
    (seq, was), *_ = [(r.seq, r.event) for r in before if isinstance(r.event, Resumed)]
    change(path, f"DELETE FROM event WHERE seq = {seq}")
    event = check(path, before, {seq})[seq - 1].event
    assert isinstance(event, Resumed)
    assert (event.trial, event.step, event.by) == (was.trial, was.step, "repair")
