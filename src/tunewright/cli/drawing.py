"""``importance``, ``plot`` and ``export``: what leaves a study for people and for other programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from tunewright.cli.common import (
    as_dict,
    assignments,
    emit,
    open_study,
    reading,
    study_argument,
    table,
)
from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from tunewright.study import Study

FORMATS = ("csv", "json", "jsonl", "parquet", "html", "log")


@click.command()
@study_argument
@click.option(
    "--method",
    default="ped-anova",
    show_default=True,
    help="What is asked: ped-anova (what decides about being among the best), fanova (what moves the objective over the whole "
    "space), shapley (what moved it in these trials), ablation (from the default to the best), local (around the best).",
)
@reading
def importance(study: str | None, method: str, storage: str | None, as_json: bool) -> None:
    """Rank the parameters by how much they matter, with 90 % intervals."""
    from tunewright.analysis.importance import importance as measure

    with open_study(study, storage) as opened:
        found = measure(opened, method=method)
    if as_json:
        emit([{"name": i.name, "importance": i.value, "low": i.low, "high": i.high} for i in found])
    else:
        table(
            ("parameter", "importance", "from", "to"),
            [(i.name, f"{i.value:.1%}", f"{i.low:.1%}", f"{i.high:.1%}") for i in found],
        )


@click.command()
@click.argument("study")
@click.argument("kind", default="history")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File to write, .svg, .png, .pdf or .html; STUDY-KIND.svg when not given.",
)
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the chart, such as method=fanova.",
)
@reading
def plot(
    study: str, kind: str, output: Path | None, given: tuple[str, ...], storage: str | None, as_json: bool
) -> None:
    """Draw a chart of a study into a file.

    KIND is history, importance, slice, contour (--set x=NAME --set y=NAME), interactions, parallel, ablation, sensitivity
    (--set trial=NUMBER), curves, cost (--set against=time), regret, edf, stopping (--set more=50), timeline, pareto,
    hypervolume, attainment, surrogate, footprint, lineage, inside or chosen.
    """
    from tunewright.analysis.plots import figure, write

    with open_study(study, storage) as opened:
        path = output or Path(f"{opened.name.replace('/', '-')}-{kind}.svg")
        drawn = figure(opened, kind, **assignments(given))
    write(drawn, path)
    if as_json:
        emit({"study": study, "kind": kind, "file": str(path), "says": drawn.insight})
    else:
        click.echo(str(path))
        click.echo(drawn.insight, err=True)


@click.command()
@study_argument
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write; standard output when not given."
)
@click.option("--format", "form", type=click.Choice(FORMATS), help="By the ending of the file, else csv.")
@reading
def export(
    study: str | None, output: Path | None, form: str | None, storage: str | None, as_json: bool
) -> None:
    """Write the trials as csv, json, jsonl (one trial a line) or parquet, the raw log (log, JSON lines), or all pages of
    the dashboard as one html file that needs no server.
    """
    ending = output.suffix.removeprefix(".") if output is not None else "csv"
    form = form or ("json" if as_json else ending)
    if form not in FORMATS:
        raise ConfigError(f"export writes {', '.join(FORMATS)}; got the ending '.{ending}'. Pass --format.")
    with open_study(study, storage) as opened:
        if form == "parquet":
            if output is None:
                raise ConfigError("Parquet needs a file; got none. Pass --output.")
            opened.to_parquet(output)
        elif form == "html":
            _pages(opened, output)
        elif output is None:
            _write(opened, form, sys.stdout)
        else:
            with output.open("w", encoding="utf-8", newline="") as stream:
                _write(opened, form, stream)
        count = len(opened.trials)
    if output is not None:
        click.echo(f"{count} trials in {output}", err=True)


def _pages(study: Study, output: Path | None) -> None:
    from tunewright.web.export import page

    if output is None:
        raise ConfigError("A page needs a file; got none. Pass --output.")
    output.write_bytes(page(study.session.store, study.name))


def _write(study: Study, form: str, stream: TextIO) -> None:
    from functools import partial

    from tunewright.analysis.table import full, write_csv, write_jsonl

    scale = study.problem.scale
    plain = partial(as_dict, scale=scale)
    if form == "csv":
        write_csv(study.trials, stream, scale)
    elif form == "json":
        stream.write(json.dumps([full(t, plain) for t in study.trials], ensure_ascii=False) + "\n")
    elif form == "jsonl":
        write_jsonl(study.trials, stream, plain)
    else:
        import msgspec

        session = study.session
        for record in session.store.read(session.info.id):
            line = {
                "seq": record.seq,
                "at": record.at,
                "worker": record.worker,
                **msgspec.to_builtins(record.event),
            }
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
