"""``import``: studies of other tools, brought into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tunewright.cli.common import debug_option, emit, json_option, lines, storage_option
from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from tunewright.integrations.importing import Imported


@click.command("import")
@click.argument("source")
@click.option("--study", metavar="NAME", help="Which study, where the source has several.")
@click.option("--all", "every", is_flag=True, help="Import every study of an Optuna storage.")
@click.option("--as", "name", metavar="NAME", help="What to call it here; the same name when not given.")
@click.option(
    "--minimize",
    multiple=True,
    metavar="METRIC",
    help="What to make small, where the source does not say it.",
)
@click.option("--maximize", multiple=True, metavar="METRIC", help="What to make large.")
@click.option(
    "--params", metavar="A,B", help="Columns of a table that are parameters; by their names when not given."
)
@click.option(
    "--space",
    metavar="SPACE",
    help="What the parameters may be: a file, or 'lr=log 1e-5..1e-1; opt=adam|sgd'.",
)
@click.option("--method", default="auto", help="What goes on with the study.")
@click.option(
    "--steps", type=click.IntRange(1), help="Steps of a full training, to go on with early stopping."
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Root of the randomness from here on.")
@click.option("--dry-run", is_flag=True, help="Read everything, say what it would become, write nothing.")
@storage_option
@json_option
@debug_option
def import_(
    source: str,
    study: str | None,
    every: bool,
    name: str | None,
    minimize: tuple[str, ...],
    maximize: tuple[str, ...],
    params: str | None,
    space: str | None,
    method: str,
    steps: int | None,
    seed: int,
    dry_run: bool,
    storage: str | None,
    as_json: bool,
) -> None:
    """Bring a study of another tool into the store, to look at it and to go on with it.

    SOURCE is an Optuna SQLite file or journal, optuna://URL of an Optuna database, a folder with runs of Weights &
    Biases, or a .csv, .jsonl or .parquet file with one trial a row.
    """
    from tunewright.cli.sweep import read_space
    from tunewright.integrations.importing import import_study, studies_in

    if every and (study is not None or name is not None):
        raise ConfigError(
            "--all imports every study under its own name; got a name as well. Leave one of them out."
        )
    known = studies_in(source) if every or (dry_run and study is None) else []
    if every and not known:
        raise ConfigError(f"--all needs an Optuna storage with studies; '{source}' is none. Leave it out.")
    wanted: list[str | None] = [*known] or [study]
    done = [
        import_study(
            source,
            study=one,
            name=name,
            storage=storage,
            minimize=minimize,
            maximize=maximize,
            params=None if params is None else [p.strip() for p in params.split(",") if p.strip()],
            space=None if space is None else read_space(space),
            method=method,
            steps=steps,
            seed=seed,
            dry_run=dry_run,
        )
        for one in wanted
    ]
    if as_json:
        emit([one._asdict() for one in done])
        return
    for one in done:
        _tell(one, dry_run)


def _tell(done: Imported, dry_run: bool) -> None:
    from tunewright.core.columns import describe
    from tunewright.core.domains import domain_from_dict

    total = sum(done.trials.values())
    counts = ", ".join(f"{n} {s}" for s, n in done.trials.items())
    click.echo(
        f"{done.name}: {total} trials from {done.kind}" + (" would be imported" if dry_run else " imported")
    )
    lines(
        {
            "  goal": ", ".join(f"{g} {n}" for n, g in done.objectives.items()),
            "  trials": counts,
            "  queued": done.queued or None,
            **{f"  {n}": describe(domain_from_dict(dict(d))) for n, d in done.parameters.items()},
        }
    )
    for sentence in done.told:
        click.echo(f"  {sentence}")
    if not dry_run:
        click.echo(f"Look at it: tunewright status '{done.name}'")
