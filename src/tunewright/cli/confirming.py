"""``confirm`` and ``report``: how good the best really is, and a study as one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunewright.cli.common import command_of, emit, open_study, reading, study_argument, table
from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from tunewright.analysis.confirmation import Confirmation


@click.command()
@study_argument
@click.option(
    "--top", type=click.IntRange(1), default=5, help="Configurations to measure again; 5 when not given."
)
@click.option("--seeds", type=click.IntRange(2), default=10, help="Fresh seeds for each; 10 when not given.")
@click.option("--level", type=float, default=0.95, help="Confidence wanted; 0.95 when not given.")
@click.option(
    "--workers", type=click.IntRange(1), help="Trainings at a time; as in the last run when not given."
)
@reading
def confirm(
    study: str | None,
    top: int,
    seeds: int,
    level: float,
    workers: int | None,
    storage: str | None,
    as_json: bool,
) -> None:
    """Train the best few again on seeds that the search never used, and say which is best and how sure that is.

    A study of a command or a function that was started with run; a command must use {seed} or TUNEWRIGHT_SEED. The
    same command goes on where it was interrupted.
    """
    from tunewright.cli.running import training
    from tunewright.cli.sweep import Sweep
    from tunewright.confirming import confirm as measure

    with open_study(study, storage) as opened:
        note = command_of(opened)
        if note is None:
            raise ConfigError(
                f"confirm needs a study that was started with run; '{opened.name}' was started from Python. "
                f"Call tunewright.confirm(study, train) there."
            )
        sweep = Sweep(opened.name, note.get("argv", []), note.get("function", ""), storage=storage)
        sweep.limits = dict(note.get("limits", {}))
        if workers is not None:
            sweep.limits["workers"] = workers
        train, executor = training(sweep)
        found = measure(
            opened,
            train,
            top=top,
            seeds=seeds,
            level=level,
            workers=int(sweep.limits.get("workers") or 1),
            executor=executor,
            watch=None if as_json else lambda line: click.echo(line, err=True),
        )
        if as_json:
            emit(found.to_dict())
            return
        head, rows = shown(found)
        table(head, rows)
        for sentence in found.sentences():
            click.echo(sentence)


def shown(found: Confirmation) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """The head and the rows of a confirmation's table."""
    rows = [
        (str(t), m, e, "" if t in found.among else "no")
        for t, m, e in zip(found.trials, found.means, found.errors, strict=True)
    ]
    return ("trial", f"mean {found.metric}", "standard error", "may be best"), rows


@click.command()
@study_argument
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write; STUDY.html when not given."
)
@reading
def report(study: str | None, output: Path | None, storage: str | None, as_json: bool) -> None:
    """Write a study as one HTML page that needs no network, with what confirm found."""
    from tunewright.analysis.pace import number
    from tunewright.analysis.report import Section, html
    from tunewright.cli.outcome import truth
    from tunewright.confirming import confirmed
    from tunewright.ending import reason

    with open_study(study, storage) as opened:
        why = reason(opened.session)
        path = output or Path(f"{opened.name.replace('/', '-')}.html")
        found, lines = confirmed(opened), truth(opened)
        head, rows = shown(found) if found is not None else ((), [])
        text = tuple(tuple(number(c) for c in row) for row in rows)
        sections = [Section("The winner", tuple(lines), head, text)] if lines else []
        if why:
            sections.append(Section("Why it ended", (f"Stopped by rule {why}.",)))
        try:
            path.write_text(html(opened, sections), encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"A report needs a file to write; '{path}' gave '{error}'. Pass --output."
            ) from None
        name = opened.name
    if as_json:
        emit({"study": name, "file": str(path)})
    else:
        click.echo(str(path))
