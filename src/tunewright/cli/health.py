"""What ``doctor`` looks at: the installation, the place, the file, and each study."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.errors import CheckpointError, TunewrightError

if TYPE_CHECKING:
    from tunewright.core.trial import Ledger
    from tunewright.store.base import Lease, Store
    from tunewright.store.inspection import FileFound, StudyFound
    from tunewright.store.sqlite import SqliteStore
    from tunewright.study import Study

_LITTLE, _FEW_INODES = 500 * 2**20, 1_000
_LONG_WAL = 64 * 2**20
_SLOW = 0.5
_AHEAD = 60.0
_BLOCK = 20_000
_OLD = 3600.0
_PACKAGES = ("numpy", "scipy", "click", "rich", "msgspec")
_EXTRAS = (
    "torch", "scikit-learn", "pandas", "polars", "pyarrow", "matplotlib", "plotly", "starlette", "uvicorn", "psycopg",
    "ray", "submitit", "fsspec",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        what: What was looked at.
        ok: Whether it is as it should be.
        text: What was found.
        fix: What ``--repair`` would do about it, or empty.
    """

    what: str
    ok: bool
    text: str
    fix: str = ""


def versions() -> Check:
    """The installation."""
    from tunewright import __version__

    found, missing = [f"tunewright {__version__}", f"Python {platform.python_version()}"], []
    for name in (*_PACKAGES, *_EXTRAS):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            if name in _PACKAGES:
                missing.append(name)
    text = ", ".join(found) + (f"; missing: {', '.join(missing)}" if missing else "")
    return Check("versions", not missing and sys.version_info >= (3, 11), text)


# ---------------------------------------------------------------------- the place


def format_of(where: str | None) -> int:
    """The format of a store's file before it is opened, which brings it to the newest; 0 where there is no file."""
    from tunewright.cli.common import file_of

    path = file_of(where)
    try:
        with Path(path).open("rb") as file:
            head = file.read(100)
    except OSError:
        return 0
    return int.from_bytes(head[60:64], "big") if head.startswith(b"SQLite format 3") else 0


def place(store: Store, before: int = 0) -> list[Check]:
    """Whether the place of a store answers, and has room.

    Args:
        store: The store.
        before: Format of its file before it was opened; 0 when unknown.
    """
    from tunewright.store.redact import redacted
    from tunewright.store.sqlite import SqliteStore

    begun = time.monotonic()
    infos = store.studies()
    took = time.monotonic() - begun
    text = f"{redacted(store.url)}, {len(infos)} {'study' if len(infos) == 1 else 'studies'}"
    checks = [Check("store", True, text)]
    if isinstance(store, SqliteStore):
        checks += _file(store, before)
    else:
        checks.append(_connection(store, took))
    newest = max(
        (r.at for i in infos for r in store.read(i.id, max(0, store.last(i.id) - 1), 1)), default=0.0
    )
    ahead = newest - time.time()
    text = "the time of day is after that of every record"
    if ahead > _AHEAD:
        text = f"a record is {ahead:.0f} s ahead of this machine's time of day; the clock of one machine is wrong"
    return [*checks, Check("clock", ahead <= _AHEAD, text)]


def _connection(store: Store, took: float) -> Check:
    """How a server answers, and what it is."""
    from tunewright.store.redact import redacted

    text, ok = f"the list of studies took {1000 * took:.0f} ms", took < _SLOW
    if redacted(store.url).partition(":")[0] in ("postgresql", "postgres"):
        from tunewright.store.postgres import PostgresStore

        assert isinstance(store, PostgresStore)
        server = store.server()
        text, ok = f"{server}; {text}", ok and "standby" not in server
    return Check("connection", ok, text)


def _file(store: SqliteStore, before: int) -> list[Check]:
    from tunewright.store import compacting
    from tunewright.store.schema import STEPS, filesystem, remote

    path = Path(store.path)
    kind = filesystem(str(path.parent))
    text = f"; it was {before} before it was opened" if 0 < before < len(STEPS) else ""
    checks = [Check("format", True, f"{len(STEPS)}, the newest{text}"), _room("disk", path.parent)]
    blobs = Path(f"{path}-blobs")
    if blobs.is_dir() and blobs.stat().st_dev != path.parent.stat().st_dev:
        checks.append(_room("disk of checkpoints", blobs))
    text = f"{kind or 'unknown'}" + (
        ", shared over a network, where locks cannot be relied on" if remote(kind) else ""
    )
    checks.append(Check("file system", not remote(kind), text))
    closed = [
        str(p)
        for p in (path, path.parent, *([blobs] if blobs.is_dir() else []))
        if not os.access(p, os.R_OK | os.W_OK)
    ]
    text = f"{', '.join(closed)} cannot be written" if closed else "the file and its folders can be written"
    checks.append(Check("permissions", not closed, text))
    wal = Path(f"{path}-wal")
    long = wal.stat().st_size if wal.exists() else 0
    text = f"{long} bytes" + (
        "; somebody reads for long, or nobody could empty it" if long > _LONG_WAL else ""
    )
    fix = "move the write-ahead log into the file" if long > _LONG_WAL else ""
    checks.append(Check("write-ahead log", long <= _LONG_WAL, text, fix))
    left = compacting.leftovers(store)
    if left:
        fix = f"remove the checkpoint folders of {len(left)} studies that are no more"
        checks.append(Check("leftovers", True, f"{', '.join(p.name for p in left)} in {blobs}", fix))
    return checks


def _room(what: str, folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    ok, text = free > _LITTLE, f"{free / 2**30:.1f} GiB free"
    with contextlib.suppress(AttributeError, OSError):
        state = os.statvfs(folder)
        if state.f_files:
            ok = ok and state.f_favail > _FEW_INODES
            text += f", room for {state.f_favail} files"
    return Check(what, ok, f"{text} in {folder}")


# ---------------------------------------------------------------------- the file


def pages(found: FileFound) -> Check:
    """The pages of an SQLite file, and its indexes."""
    text = "; ".join(found.pages[:3]) or "every page and every index is well"
    fix = (
        "build the indexes again; where that is not enough, the file has to be salvaged"
        if found.pages
        else ""
    )
    return Check("pages", not found.pages, text, fix)


def stored(found: StudyFound) -> list[Check]:
    """The records of a study as they are in the file, and the tables that are made from them."""
    from tunewright.store.inspection import listed

    name, faults, fix = found.name, [], ""
    if found.spec is None:
        faults.append("the settings of the study are damaged")
    if found.bad:
        faults.append(f"damaged: {listed((seq, seq) for seq, _ in found.bad)} ({found.bad[0][1]})")
    if found.missing:
        faults.append(f"gone: {listed(found.missing)}")
    if found.beyond > found.last:
        faults.append(f"gone from the end: {listed([(found.last + 1, found.beyond)])}")
    if not found.whole:
        fix = f"{name}: put notes in the place of records that are damaged or gone"
    checks = [
        Check(
            f"{name}: records", not faults, "; ".join(faults) or f"{found.last}, all there and readable", fix
        )
    ]
    text = "as the log has it" if not found.heads else f"{len(found.heads)} differ; {found.heads[0]}"
    # A log with gaps says something else than the table; what is right is known when it is mended.
    fix = f"{name}: build the table of attempts again from the log" if found.heads else ""
    checks.append(Check(f"{name}: attempts", not found.heads, text, fix))
    if found.snapshot:
        fix = f"{name}: drop the snapshot; the next one is made from the log"
        checks.append(Check(f"{name}: snapshot", False, found.snapshot, fix))
    return checks


# ---------------------------------------------------------------------- a study


def folded(opened: Study) -> Check:
    """Whether the state in use, which may come from a snapshot, is what the log folds to."""
    from tunewright.core.snapshot import dump
    from tunewright.core.trial import Ledger

    session, what = opened.session, f"{opened.name}: log"
    ledger, again = session.sync(), Ledger(session.origin)
    try:
        while again.cursor < ledger.cursor:
            again.fold(
                session.store.read(session.info.id, again.cursor, min(_BLOCK, ledger.cursor - again.cursor))
            )
    except (AssertionError, LookupError) as error:
        return Check(what, False, f"the log contradicts itself: {error}", f"{opened.name}: mend the log")
    if dump(again) == dump(ledger):
        return Check(what, True, f"{ledger.cursor} records fold to the state in use")
    fix = f"{opened.name}: drop the snapshot; the next one is made from the log"
    return Check(what, False, "the state in use is not what the log says", fix)


def leases(opened: Study) -> Check:
    """Whether the leases belong to the running trials; looks again, since others may be at work."""
    session = opened.session
    held: list[Lease] = []
    agree = False
    for _ in range(5):
        held = session.store.leases(session.info.id)
        agree = set(session.sync().running) == {x.trial for x in held}
        if agree:
            break
    expired = [x.trial for x in held if x.expired]
    text, fix = f"{len(held)} held", ""
    if not agree:
        text += "; they are not those of the running trials"
    if expired:
        text += f"; trials {expired} fell silent and are given out again when somebody runs the study"
        fix = f"{opened.name}: take trials {expired} back from workers that are gone"
    return Check(f"{opened.name}: leases", agree, text, fix)


def checkpoints(opened: Study) -> Check:
    """Whether the checkpoints that trials go on from are there and undamaged, and what nobody needs."""
    from tunewright.store import blobs
    from tunewright.store.depots import local

    session = opened.session
    ledger, where = session.sync(), session.store.blobs(session.info.id)
    there = {entry.name: entry for entry in blobs.listing(where)}
    needed = _needed(ledger)
    lost = [trial for trial, name in needed if name not in there]
    bad = []
    for trial, name in needed if local(where) is not None else []:
        if name in there:
            try:
                blobs.get_file(where, name)
            except (CheckpointError, TunewrightError):
                bad.append(trial)
    faults = [f"those of trials {lost} are missing; they start over"] if lost else []
    faults += [f"those of trials {bad} are damaged; they start over"] if bad else []
    text = "; ".join(faults) or f"{len(needed)} needed, all there"
    old = [e for e in there.values() if e.name not in ledger.held and time.time() - e.mtime > _OLD]
    fix = ""
    if old:
        size = sum(e.size for e in old)
        text += f"; {len(old)} files, {size} bytes, are needed by no trial"
        fix = f"{opened.name}: remove {len(old)} checkpoint files that no trial needs, {size} bytes"
    return Check(f"{opened.name}: checkpoints", not faults, text, fix)


def _needed(ledger: Ledger) -> list[tuple[int, str]]:
    return [(t.number, t.checkpoint[1]) for t in ledger.trials if t.checkpoint is not None and not t.finished]


def decisions(opened: Study) -> Check:
    """Whether the method takes every decision of the log again."""
    what = f"{opened.name}: decisions"
    try:
        found = opened.replay()
    except TunewrightError as error:
        return Check(what, False, str(error))
    rule = f"; {found.skipped} follow by rule" if found.skipped else ""
    if any(n.topic == "damaged" for _, n in opened.session.sync().notes):
        rule = f"; {found.skipped} follow by rule or rest on records that were lost"
    return Check(what, True, f"{found.verified} taken again, the same{rule}")


def as_data(checks: list[Check]) -> list[dict[str, Any]]:
    """Checks as plain data; ``fix`` only where there is one."""
    return [{"what": c.what, "ok": c.ok, "text": c.text, **({"fix": c.fix} if c.fix else {})} for c in checks]
