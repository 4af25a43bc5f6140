"""``pause``, ``stop``, ``note`` and ``tag``: what people tell a study, also while other processes run it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from tunewright.cli.common import emit, open_study, reading, study_argument, table
from tunewright.cli.exits import say
from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from tunewright.study import Study


def lifted(study: Study, command: bool, told: bool) -> bool:
    """Takes back ``pause`` and ``stop`` for ``resume``; returns whether that was all there is to do.

    Args:
        study: The study.
        command: Whether it was started from the command line, so that ``resume`` can run it.
        told: Whether ``resume`` was given limits, so that it should.
    """
    before = study.control
    if before is None or not study.resume() or (command and (told or before == "stop")):
        return False
    say(f"{study.name} goes on: runs and workers that wait for it take it up within a second")
    if command:
        say(f"to run it here as well: tunewright resume {shlex.quote(study.name)}")
    return True


@click.command()
@study_argument
@reading
def pause(study: str | None, storage: str | None, as_json: bool) -> None:
    """Begin no more trials, in any process, until tunewright resume; running ones go on to their end."""
    with open_study(study, storage) as opened:
        changed, name, running = opened.pause(), opened.name, len(opened.session.ledger.running)
    if as_json:
        emit({"study": name, "control": "pause", "changed": changed, "running": running})
        return
    rest = (
        f"; {running} running {'trial goes' if running == 1 else 'trials go'} on to the end"
        if running
        else ""
    )
    click.echo(
        f"{name} {'is paused' if changed else 'was paused already'}{rest}. tunewright resume takes it back."
    )


@click.command()
@study_argument
@reading
def stop(study: str | None, storage: str | None, as_json: bool) -> None:
    """End every run of a study as Ctrl-C does: running trials save and pause; run and resume continue them."""
    with open_study(study, storage) as opened:
        changed, name, running = opened.stop(), opened.name, len(opened.session.ledger.running)
    if as_json:
        emit({"study": name, "control": "stop", "changed": changed, "running": running})
        return
    rest = (
        f"; {running} running {'trial saves' if running == 1 else 'trials save'} and pause" if running else ""
    )
    click.echo(
        f"{name} {'is told to stop' if changed else 'was told to stop already'}{rest}. tunewright resume goes on."
    )


@click.command()
@click.argument("study")
@click.argument("text", required=False)
@click.option("--trial", type=click.IntRange(0), metavar="N", help="About this trial instead of the study.")
@reading
def note(study: str, text: str | None, trial: int | None, storage: str | None, as_json: bool) -> None:
    """Keep a note about a study or a trial; without TEXT, show the notes and tags. An empty TEXT takes it back."""
    with open_study(study, storage) as opened:
        if text is not None:
            opened.note(text, trial)
        elif trial is not None:
            raise ConfigError("A note about a trial needs a text; got none. Write it after the study's name.")
        found = opened.notes
    if as_json:
        emit(
            {
                "study": {"note": found.study.note, "tags": found.study.tags},
                "trials": {n: {"note": r.note, "tags": r.tags} for n, r in found.trials.items()},
            }
        )
        return
    if text is not None:
        click.echo("noted" if text else "taken back")
        return
    rows = [("study", found.study.note, ", ".join(found.study.tags))]
    rows += [(f"trial {n}", r.note, ", ".join(r.tags)) for n, r in found.trials.items()]
    table(("about", "note", "tags"), rows)


@click.command()
@click.argument("study")
@click.argument("tags", nargs=-1, metavar="TAG...")
@click.option("--remove", multiple=True, metavar="TAG", help="Take this tag off; may be repeated.")
@click.option("--trial", type=click.IntRange(0), metavar="N", help="Of this trial instead of the study.")
@reading
def tag(
    study: str,
    tags: tuple[str, ...],
    remove: tuple[str, ...],
    trial: int | None,
    storage: str | None,
    as_json: bool,
) -> None:
    """Put tags on a study or a trial, and take tags off; prints those that it has."""
    with open_study(study, storage) as opened:
        opened.tag(*tags, remove=remove, trial=trial)
        has = opened.session.ledger.tags.get(trial, ())
    if as_json:
        emit({"study": study, "trial": trial, "tags": has})
    else:
        click.echo(", ".join(has) or "no tags")
