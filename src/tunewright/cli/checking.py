"""``doctor`` and ``replay``: does everything add up?"""

from __future__ import annotations

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunewright.cli.common import emit, existing, open_study, reading, study_argument
from tunewright.cli.exits import DONE, INTERNAL
from tunewright.errors import StudyMissing, TunewrightError

if TYPE_CHECKING:
    from tunewright.store.base import Lease, Store
    from tunewright.study import Study

_LITTLE = 500 * 2**20
_PACKAGES = ("numpy", "scipy", "click", "rich", "msgspec")
_EXTRAS = ("torch", "scikit-learn", "pandas", "polars", "pyarrow", "matplotlib", "plotly")


@click.command()
@study_argument
@reading
def replay(study: str | None, storage: str | None, as_json: bool) -> None:
    """Take every decision of a study again, from its log alone, and compare."""
    with open_study(study, storage) as opened:
        found = opened.replay()
        custom = bool(opened.session.info.spec.get("custom"))
        data = {
            "study": opened.name,
            "method": opened.method,
            "records": found.records,
            "decisions": found.decisions,
            "verified": found.verified,
            "skipped": found.skipped,
            "custom": custom,
            "same": True,
        }
    if as_json:
        emit(data)
        return
    click.echo(
        f"{data['study']}: {found.verified} of {found.decisions} decisions taken again, all the same; "
        f"{found.records} records read"
    )
    if found.skipped:
        click.echo(
            f"{found.skipped} follow from the log by rule: the queue, retries, and methods of your own"
        )
    if custom:
        click.echo(f"the method '{data['method']}' is your own; replay it from Python, with study.replay()")


@click.command()
@click.argument("study", required=False)
@reading
def doctor(study: str | None, storage: str | None, as_json: bool) -> int:
    """Check the installation, the store, and every study in it, or one: log, leases, checkpoints, disk space.

    Exits with 1 when something is wrong.
    """
    checks = [_versions()]
    try:
        where = existing(storage)
    except StudyMissing as error:
        checks.append(_check("store", True, f"none here yet: {error}"))
    else:
        checks += _store(where, study)
    bad = [c for c in checks if not c["ok"]]
    if as_json:
        emit({"ok": not bad, "checks": checks})
    else:
        for check in checks:
            click.echo(f"{'ok  ' if check['ok'] else 'BAD '} {check['what']}: {check['text']}")
        click.echo("all is well" if not bad else f"{len(bad)} of {len(checks)} checks failed")
    return INTERNAL if bad else DONE


def _check(what: str, ok: bool, text: str) -> dict[str, Any]:
    return {"what": what, "ok": ok, "text": text}


def _versions() -> dict[str, Any]:
    from tunewright import __version__

    found, missing = [f"tunewright {__version__}", f"Python {platform.python_version()}"], []
    for name in (*_PACKAGES, *_EXTRAS):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            if name in _PACKAGES:
                missing.append(name)
    text = ", ".join(found) + (f"; missing: {', '.join(missing)}" if missing else "")
    return _check("versions", not missing and sys.version_info >= (3, 11), text)


def _store(where: str | None, only: str | None) -> list[dict[str, Any]]:
    from tunewright.store.urls import open_store

    try:
        store = open_store(where)
    except TunewrightError as error:
        return [_check("store", False, str(error))]
    checks = []
    try:
        infos = store.studies()
        names = [i.name for i in infos if only in (None, i.name)]
        checks.append(
            _check("store", True, f"{store.url}, {len(infos)} {'study' if len(infos) == 1 else 'studies'}")
        )
        checks += _disk(store, infos[0].id if infos else None)
    finally:
        store.close()
    if only is not None and not names:
        with open_study(only, where):
            return checks
    for name in names:
        try:
            with open_study(name, where) as study:
                checks += _study(study)
        except TunewrightError as error:
            checks.append(_check(name, False, str(error)))
    return checks


def _disk(store: Store, study: int | None) -> list[dict[str, Any]]:
    if study is None or not store.durable:
        return []
    free = shutil.disk_usage(store.blobs(study)).free
    return [_check("disk", free > _LITTLE, f"{free / 2**30:.1f} GiB free where checkpoints are kept")]


def _study(study: Study) -> list[dict[str, Any]]:
    """Checks of one study."""
    from tunewright.core.snapshot import dump
    from tunewright.core.trial import Ledger

    session, name = study.session, study.name
    ledger = session.sync()
    again = Ledger(session.origin)
    records = session.store.read(session.info.id, 0, limit=ledger.cursor)
    dense = [r.seq for r in records] == list(range(1, ledger.cursor + 1))
    again.fold(records)
    same = dense and dump(again) == dump(ledger)
    checks = [
        _check(
            f"{name}: log",
            same,
            f"{len(records)} records fold to the state in use"
            if same
            else "the state in use is not what the log says",
        )
    ]
    leases, agree = _leases(study)
    expired = [x.trial for x in leases if x.expired]
    text = f"{len(leases)} held"
    if expired:
        text += f"; trials {expired} fell silent and are given out again when somebody runs the study"
    checks.append(_check(f"{name}: leases", agree, text))
    folder = Path(session.store.blobs(session.info.id))
    needed = [t for t in ledger.trials if t.checkpoint is not None and not t.finished]
    lost = [t.number for t in needed if not (folder / (t.checkpoint or (0, ""))[1]).exists()]
    text = (
        f"{len(needed)} needed, all there"
        if not lost
        else f"those of trials {lost} are missing; they start over"
    )
    checks.append(_check(f"{name}: checkpoints", not lost, text))
    return [*checks, _replayed(study)]


def _leases(study: Study) -> tuple[list[Lease], bool]:
    """The leases, and whether they belong to the running trials; looks again, since others may be at work."""
    session = study.session
    leases: list[Lease] = []
    for _ in range(5):
        leases = session.store.leases(session.info.id)
        if set(session.sync().running) == {x.trial for x in leases}:
            return leases, True
    return leases, False


def _replayed(study: Study) -> dict[str, Any]:
    try:
        found = study.replay()
    except TunewrightError as error:
        return _check(f"{study.name}: decisions", False, str(error))
    rule = f"; {found.skipped} follow by rule" if found.skipped else ""
    return _check(f"{study.name}: decisions", True, f"{found.verified} taken again, the same{rule}")
