"""``doctor`` and ``replay``: does everything add up, and if not, what can be done?"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from tunewright.cli.common import emit, existing, file_of, open_study, reading, study_argument
from tunewright.cli.exits import DONE, INTERNAL
from tunewright.cli.vacuuming import agreed
from tunewright.errors import ConfigError, StudyMissing, TunewrightError

if TYPE_CHECKING:
    from tunewright.cli.health import Check
    from tunewright.store.inspection import FileFound
    from tunewright.store.sqlite import SqliteStore


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
@click.option(
    "--repair", "mend", is_flag=True, help="Repair what can be repaired, after listing it and asking."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--salvage", "new", metavar="NEW.db", help="Save what can be read of a damaged file into a new one."
)
@reading
def doctor(
    study: str | None, mend: bool, yes: bool, new: str | None, storage: str | None, as_json: bool
) -> int:
    """Check the installation, the store, and every study in it, or one: records, leases, checkpoints, disk, clock.

    Changes nothing without --repair, which copies the file aside first and says exactly what was lost, if anything.
    Exits with 1 when something is wrong.
    """
    from tunewright.cli.health import as_data, versions

    if new is not None:
        return _salvage(storage, new, as_json)
    seen = Seen([versions()])
    try:
        where = existing(storage)
    except StudyMissing as error:
        if mend:
            raise
        seen.add("store", True, f"none here yet: {error}")
    else:
        seen = examine(where, study, seen.checks)
        if mend:
            done = _repair(seen, where, yes, as_json)
            seen = examine(where, study, seen.checks[:1]) if done is not None else seen
            if as_json:
                emit({"ok": seen.ok, "repaired": done, "checks": as_data(seen.checks)})
                return DONE if seen.ok else INTERNAL
    if as_json:
        emit({"ok": seen.ok, "checks": as_data(seen.checks)})
    else:
        _tell(seen)
    return DONE if seen.ok else INTERNAL


@dataclass(slots=True)
class Seen:
    """What an examination found.

    Attributes:
        checks: The report.
        file: What is wrong with the file, where the store is one.
        drop: Studies whose snapshot does not fit.
        doubtful: Studies whose log contradicts itself.
    """

    checks: list[Check]
    file: FileFound | None = None
    drop: set[int] = field(default_factory=set)
    doubtful: set[int] = field(default_factory=set)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(check.ok for check in self.checks)

    def add(self, what: str, ok: bool, text: str) -> None:
        """Adds a line to the report."""
        from tunewright.cli.health import Check

        self.checks.append(Check(what, ok, text))


def examine(where: str | None, only: str | None, before: list[Check]) -> Seen:
    """Looks at a store and the studies in it.

    Args:
        where: Path or URL; None for the usual place.
        only: Name of the one study to look at.
        before: Checks to begin the report with.

    Raises:
        StudyMissing: If there is no study of that name.
    """
    from tunewright.cli import health
    from tunewright.store.sqlite import SqliteStore
    from tunewright.store.urls import open_store

    seen = Seen(list(before))
    written = health.format_of(where)
    try:
        store = open_store(where)
    except TunewrightError as error:
        seen.add("store", False, str(error))
        return seen
    names: list[str] = []
    try:
        try:
            seen.checks += health.place(store, written)
        except TunewrightError as error:
            seen.add("store", False, str(error))
        if isinstance(store, SqliteStore):
            names = _inside(store, only, seen)
        else:
            names = [info.name for info in store.studies() if only in (None, info.name)]
    except TunewrightError as error:
        seen.add("store", False, str(error))
    finally:
        store.close()
    if only is not None and seen.ok and not names:
        with open_study(only, where):
            return seen
    for name in names:
        _one(name, where, seen)
    return seen


def _inside(store: SqliteStore, only: str | None, seen: Seen) -> list[str]:
    """Looks at the tables of a file; returns the studies that can be opened."""
    from tunewright.cli import health
    from tunewright.store.inspection import inspect_file

    seen.file = inspect_file(store.path, only)
    seen.checks.append(health.pages(seen.file))
    for found in seen.file.studies:
        seen.checks += health.stored(found)
    return [s.name for s in seen.file.studies if s.whole and s.spec is not None and not s.heads]


def _one(name: str, where: str | None, seen: Seen) -> None:
    from tunewright.cli import health

    try:
        with open_study(name, where) as opened:
            log = health.folded(opened)
            if not log.ok:
                (seen.doubtful if "contradicts" in log.text else seen.drop).add(opened.session.info.id)
                seen.checks.append(log)
            else:
                seen.checks += [
                    log,
                    health.leases(opened),
                    health.checkpoints(opened),
                    health.decisions(opened),
                ]
    except TunewrightError as error:
        seen.add(name, False, str(error))
    except (AssertionError, LookupError) as error:
        if seen.file is not None:
            seen.doubtful |= {s.id for s in seen.file.studies if s.name == name}
        from tunewright.cli.health import Check

        seen.checks.append(
            Check(f"{name}: log", False, f"the log contradicts itself: {error}", f"{name}: mend the log")
        )


def _tell(seen: Seen) -> None:
    for check in seen.checks:
        click.echo(f"{'ok  ' if check.ok else 'BAD '} {check.what}: {check.text}")
    bad = sum(not check.ok for check in seen.checks)
    click.echo("all is well" if not bad else f"{bad} of {len(seen.checks)} checks failed")
    fixes = sum(bool(check.fix) for check in seen.checks)
    if fixes:
        click.echo(f"--repair can do something about {fixes} of them")


def _repair(seen: Seen, where: str | None, yes: bool, as_json: bool) -> dict[str, Any] | None:
    """Lists what would be done, asks, and does it; None when there is nothing to do."""
    from tunewright.store import compacting, repairing
    from tunewright.store.sqlite import SqliteStore
    from tunewright.store.urls import open_store

    fixes = [check.fix for check in seen.checks if check.fix]
    if not fixes:
        return None
    if not as_json:
        click.echo("\n".join(["this would be done:", *(f"  {fix}" for fix in fixes)]))
    agreed("Do this?", yes)
    told: dict[str, Any] = {"aside": None, "done": [], "lost": []}
    file = seen.file
    if file is not None and (
        file.pages
        or seen.drop
        or seen.doubtful
        or any(not s.whole or s.heads or s.snapshot for s in file.studies)
    ):
        told = dataclasses.asdict(repairing.repair(file, seen.drop, seen.doubtful))
    store = open_store(where)
    try:
        if isinstance(store, SqliteStore):
            compacting.empty_log(store)
            for path in compacting.leftovers(store):
                told["done"].append(f"{path.name}: {compacting.remove_tree(path)} bytes of leftovers removed")
        for info in store.studies():
            with contextlib.suppress(TunewrightError, AssertionError, LookupError):
                told["done"] += _tidy(info.name, where)
    finally:
        store.close()
    if not as_json:
        for text in told["done"]:
            click.echo(f"done  {text}")
        for text in told["lost"]:
            click.echo(f"lost  {text}")
        if told["aside"]:
            click.echo(f"the file as it was is {told['aside']}")
    return told


def _tidy(name: str, where: str | None) -> list[str]:
    """Takes trials back from workers that are gone, and removes checkpoints that nobody needs."""
    from tunewright.core.events import Interrupted
    from tunewright.run.retention import Retention

    done = []
    with open_study(name, where) as opened:
        session = opened.session
        gone = [x for x in session.store.leases(session.info.id) if x.expired]
        for lease in gone:
            detail = f"no sign of life from {lease.worker}"
            session.record(Interrupted(lease.trial, lease.token, "lost", detail))
        if gone:
            done.append(f"{name}: trials {[x.trial for x in gone]} were taken back")
        number, size = Retention(session).clean()
        if number:
            done.append(f"{name}: {number} checkpoint files removed, {size} bytes")
    return done


def _salvage(storage: str | None, new: str, as_json: bool) -> int:
    from tunewright.store.salvaging import salvage

    path = file_of(existing(storage))
    if "://" in path:
        raise ConfigError("Only a file can be salvaged; for a database server use its own backups.")
    told = salvage(path, new)
    if as_json:
        emit(dataclasses.asdict(told))
    else:
        for name, number in told.records.items():
            click.echo(f"{name}: {number} records saved as they were")
        if told.files:
            click.echo(f"{told.files} checkpoint files copied")
        if told.pages:
            click.echo(f"{told.pages} pages of the old file cannot be read")
        for text in told.lost:
            click.echo(f"lost  {text}")
        click.echo(f"the new store is {told.path}")
    return INTERNAL if told.lost else DONE
