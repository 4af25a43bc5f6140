"""``copy`` and ``backup``: studies in a second place, proved to be the same."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import click

from tunewright.cli.common import emit, existing, newest, reading, study_argument
from tunewright.cli.exits import say
from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from tunewright.store.base import Store
    from tunewright.store.copying import Copied

_EVERY = 2.0


@click.command()
@study_argument
@click.option("--to", "target", required=True, metavar="WHERE", help="A path or URL of the store to copy to.")
@click.option("--as", "name", metavar="NAME", help="Name of the copy; the same name when not given.")
@click.option("--all", "every", is_flag=True, help="Copy every study of the store.")
@click.option("--no-checkpoints", is_flag=True, help="Leave checkpoint files out.")
@reading
def copy(
    study: str | None,
    target: str,
    name: str | None,
    every: bool,
    no_checkpoints: bool,
    storage: str | None,
    as_json: bool,
) -> None:
    """Copy a study to another store, and prove by digest that the copy is the same.

    Between any two kinds of stores, also while the study runs. The same command continues a copy that was cut short.
    Trials that run now are not running in the copy; they begin again there from their newest checkpoint.
    """
    from tunewright.opening import missing
    from tunewright.store.copying import copy_study
    from tunewright.store.urls import open_store

    if every and (study is not None or name is not None):
        raise ConfigError(
            "--all copies every study under its own name; got a name as well. Leave one of them out."
        )
    where = existing(storage)
    source = open_store(where)
    try:
        names = [info.name for info in source.studies()] if every else [study or newest(where)]
        if study is not None and source.find(study) is None:
            raise missing(study, source)
        other = open_store(target)
        try:
            done = [
                copy_study(
                    source, each, other, name, blobs=not no_checkpoints, progress=_Steps(each, as_json)
                )
                for each in names
            ]
            if as_json:
                emit([dataclasses.asdict(d) for d in done])
            else:
                for d in done:
                    _tell(d, other)
        finally:
            other.close()
    finally:
        source.close()


def _tell(done: Copied, target: Store) -> None:
    click.echo(
        f"{done.name}: {done.records} records in {_shown(target)}, the same as the source ({done.digest[:16]})"
    )
    for number, text in (
        (done.found, "records were there from an earlier copy"),
        (done.late, "records came in while it was copied"),
        (done.files, f"checkpoint files copied, {done.bytes} bytes"),
        (
            len(done.damaged),
            f"checkpoint files are damaged in the source and were left out: {', '.join(done.damaged)}",
        ),
        (
            done.unknown,
            "records are of a kind that a newer version added and became notes; upgrade, then copy again",
        ),
        (
            done.running,
            "trials run in the source; in the copy they begin again from their newest checkpoints",
        ),
    ):
        if number:
            click.echo(f"  {number} {text}")


@click.command()
@click.option(
    "--to", "path", metavar="FILE", help="The file to write; a name with the time of day when not given."
)
@click.option("--force", is_flag=True, help="Replace a file of that name.")
@click.option("--no-checkpoints", is_flag=True, help="Leave checkpoint files out.")
@reading
def backup(path: str | None, force: bool, no_checkpoints: bool, storage: str | None, as_json: bool) -> None:
    """Copy a whole store into one SQLite file, checkpoints beside it, while everybody goes on.

    The backup is checked before it takes its name: every page, and the digest of every study. It is a store like any
    other: open it with --storage FILE, or bring studies back with tunewright copy --storage FILE --to WHERE.
    """
    from tunewright.store.backup import back_up
    from tunewright.store.urls import open_store

    store = open_store(existing(storage))
    try:
        to = path or time.strftime("tunewright-backup-%Y%m%d-%H%M%S.db")
        made = back_up(
            store, to, force=force, checkpoints=not no_checkpoints, progress=_Steps("backup", as_json)
        )
    finally:
        store.close()
    if as_json:
        emit(dataclasses.asdict(made))
        return
    studies = len(made.digests)
    click.echo(
        f"{made.path}: {studies} {'study' if studies == 1 else 'studies'}, {made.records} records, {made.bytes} bytes; "
        "every page and every digest checked"
    )
    if made.files:
        click.echo(f"{made.files} checkpoint files copied to {made.path}-blobs, {made.file_bytes} bytes")
    if made.damaged:
        click.echo(f"damaged in the source and left out: {', '.join(made.damaged)}")


class _Steps:
    """Says every other second how far a long copy is."""

    def __init__(self, what: str, quiet: bool) -> None:
        self._what, self._quiet, self._said = what, quiet, time.monotonic()

    def __call__(self, done: int, total: int) -> Any:
        if not self._quiet and time.monotonic() - self._said > _EVERY:
            self._said = time.monotonic()
            say(f"{self._what}: {done} of {total}")


def _shown(store: Store) -> str:
    from tunewright.store.redact import redacted

    return redacted(store.url)
