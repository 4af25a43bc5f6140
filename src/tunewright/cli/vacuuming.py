"""``vacuum`` and ``delete``: give the disk back what nobody needs."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from tunewright.cli.common import (
    emit,
    existing,
    open_study,
    reading,
    study_argument,
)
from tunewright.errors import ConfigError, TunewrightError

if TYPE_CHECKING:
    from tunewright.store.base import Store
    from tunewright.study import Study

# Rewriting a file of this size takes about as long as writers may have to wait without noticing.
_LARGE = 1 << 30


@click.command()
@study_argument
@click.option(
    "--keep",
    type=click.IntRange(0),
    metavar="N",
    help="Of completed trials keep the checkpoints of the best N only.",
)
@click.option(
    "--quota", metavar="SIZE", help="Give up checkpoints of completed trials, the worst first, beyond this."
)
@click.option("--logs", is_flag=True, help="Remove what finished trials printed.")
@click.option(
    "--age",
    default="1h",
    show_default=True,
    metavar="TIME",
    help="How old a checkpoint that no trial needs must be; what is young may be on its way into the log.",
)
@click.option("--now", is_flag=True, help="Rewrite a large file although trials run.")
@reading
def vacuum(
    study: str | None,
    keep: int | None,
    quota: str | None,
    logs: bool,
    age: str,
    now: bool,
    storage: str | None,
    as_json: bool,
) -> None:
    """Give space back: checkpoints that no trial needs, what deleted studies left, free pages of the file.

    For all studies, or one. Safe while studies run; writers wait for the moment that rewriting the file takes. Records
    are never removed, and neither is what a trial can be resumed from.
    """
    from tunewright.core.units import seconds, size
    from tunewright.run.session import Policy
    from tunewright.store.urls import open_store

    where = existing(storage)
    policy = Policy(keep=keep, quota=size(quota))
    old = 0.0 if age == "0" else seconds(age) or 0.0
    store = open_store(where)
    said: list[str] = []
    try:
        names = [study] if study is not None else [info.name for info in store.studies()]
        freed = {"checkpoints": 0, "logs": 0, "leftovers": 0, "file": 0}
        for name in names:
            try:
                with open_study(name, where, policy=policy) as opened:
                    freed["checkpoints"] += _tidy(opened, old, bounded=keep is not None or quota is not None)
                    freed["logs"] += _logs(opened) if logs else 0
            except TunewrightError as error:
                said.append(f"{name} was left alone: {error}")
        _compact(store, freed, said, study is None, now)
    finally:
        store.close()
    total = sum(freed.values())
    if as_json:
        emit({"freed": total, **freed, "said": said})
        return
    for what, number in freed.items():
        if number:
            click.echo(f"{number} bytes of {what}")
    for text in said:
        click.echo(text)
    click.echo(f"{total} bytes freed")


def _tidy(study: Study, age: float, *, bounded: bool) -> int:
    """Applies the policy once and removes checkpoints that no trial needs; returns their bytes."""
    from tunewright.run.retention import Retention

    retention = Retention(study.session)
    before = sum(size for _, size in retention.files())
    study.session.sync()
    if bounded:
        retention.tidy()
    retention.clean(age)
    return max(0, before - sum(size for _, size in retention.files()))


def _logs(study: Study) -> int:
    """Removes what finished trials printed; returns its bytes."""
    from tunewright.run.child import log_path

    session, freed = study.session, 0
    place = session.store.blobs(session.info.id)
    for trial in session.sync().trials:
        path = log_path(place, trial.number)
        if trial.finished:
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                path.unlink()
                freed += size
    return freed


def _compact(store: Store, freed: dict[str, int], said: list[str], everything: bool, now: bool) -> None:
    """Removes folders of deleted studies and rewrites the file, where the store is a file."""
    from tunewright.store import compacting
    from tunewright.store.sqlite import SqliteStore

    if not isinstance(store, SqliteStore):
        said.append("The database gives its own space back; only checkpoints and logs were looked at.")
        return
    if everything:
        freed["leftovers"] += sum(compacting.remove_tree(path) for path in compacting.leftovers(store))
    before = compacting.used(store.path)
    busy = any(not lease.expired for info in store.studies() for lease in store.leases(info.id))
    if busy and before > _LARGE and not now:
        said.append(
            f"The file was left as it is, for it has {before} bytes and trials run; --now rewrites it."
        )
        return
    compacting.compact(store)
    freed["file"] += max(0, before - compacting.used(store.path))


@click.command()
@click.argument("study")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Although trials of it run now.")
@reading
def delete(study: str, yes: bool, force: bool, storage: str | None, as_json: bool) -> None:
    """Delete a study: its log, its checkpoints, and what its trials printed. There is no way back."""
    from tunewright.opening import missing
    from tunewright.store.urls import open_store

    store = open_store(existing(storage))
    try:
        info = store.find(study)
        if info is None:
            raise missing(study, store)
        running = [lease.trial for lease in store.leases(info.id) if not lease.expired]
        if running and not force:
            raise ConfigError(
                f"A study is deleted when nobody runs it; trials {_few(running)} of '{study}' run now. "
                "Stop them, or pass --force."
            )
        records = store.last(info.id)
        agreed(f"Delete '{study}' with its {records} records and all its checkpoints?", yes)
        store.delete(info.id)
    finally:
        store.close()
    if as_json:
        emit({"deleted": study, "records": records})
        return
    click.echo(f"{study} is deleted; tunewright vacuum gives the space of a file back")


def agreed(question: str, yes: bool) -> None:
    """Asks, unless ``--yes`` was given.

    Raises:
        ConfigError: If there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"This needs a yes, and nobody is there to be asked: {question} Pass --yes.")
    if not click.confirm(question):
        raise click.Abort


def _few(numbers: list[int], most: int = 5) -> str:
    text = ", ".join(map(str, numbers[:most]))
    return text if len(numbers) <= most else f"{text} and {len(numbers) - most} more"
