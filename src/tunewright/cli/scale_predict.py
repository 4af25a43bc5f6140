"""``scale predict``: what the scaling laws recommend for a run, side by side."""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunewright.cli.common import debug_option, emit, json_option, table
from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from tunewright.scaling.laws.law import Law
    from tunewright.scaling.laws.recommending import Recommendations, Row


@click.command()
@click.option("--params", metavar="N", help="Parameters without embeddings, such as 1e9 or 1.3B.")
@click.option("--tokens", metavar="D", help="Training tokens, such as 1e11 or 100B.")
@click.option("--flops", metavar="C", help="Training compute; 6 N D when both are given.")
@click.option("--batch", metavar="B", help="Batch in tokens that you mean to use, to be compared.")
@click.option("--unique-tokens", metavar="U", help="Different tokens, if some are seen more than once.")
@click.option("--loss", metavar="L", help="Loss in nats per token, for laws that go by it.")
@click.option("--base-lr", metavar="LR", help="Your best rate at --base-tokens, for laws of ratios.")
@click.option("--base-tokens", metavar="D0", help="Tokens of the run that you measured.")
@click.option(
    "--base-batch", metavar="B0", help="Your best batch in tokens at --base-tokens or --base-flops."
)
@click.option("--base-flops", metavar="C0", help="Compute of the run that you measured.")
@click.option(
    "--law",
    "laws",
    multiple=True,
    metavar="NAME",
    help="Ask only this law, and show its source and conditions; may be repeated.",
)
@click.option(
    "--fit",
    "table_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV of runs of yours (params, tokens, loss; or best lr, batch): a law fitted to them joins the others.",
)
@click.option("--drop-diverged", is_flag=True, help="Leave diverged runs of --fit out.")
@click.option("--extrapolate", is_flag=True, help="Answer far outside the range of a law too.")
@json_option
@debug_option
def predict(
    laws: tuple[str, ...],
    extrapolate: bool,
    as_json: bool,
    table_file: Path | None,
    drop_diverged: bool,
    **given: Any,
) -> None:
    """Recommendations of every scaling law that applies, with intervals, limits and conflicts.

    Counts may be written as 1e9, 1.3B, 125M or 100B.
    """
    from tunewright.scaling.laws import recommend

    extra = [] if table_file is None else _fitted(table_file, drop_diverged)
    only = list(dict.fromkeys([*laws, *(law.name for law in extra)])) if laws else None
    found = recommend(only=only, extra=extra, extrapolate=extrapolate, **given)
    if as_json:
        emit(found.to_dict())
        return
    table(("quantity", "law", "value", "95 %", "unit", "box", "constants"), [_line(r) for r in found.rows])
    _remarks(found)
    if laws:
        _sources(found)


def _fitted(path: Path, drop_diverged: bool) -> list[Law]:
    """Laws fitted to a table of runs, with a remark about each."""
    from tunewright.scaling.laws.tables import KNOWN, fit_columns

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
        cut = ";" if ";" in text.partition("\n")[0] else ","
        rows = list(csv.reader(io.StringIO(text), delimiter=cut))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"A table must be a CSV file in UTF-8; got {path.name}: {error}. Export it as CSV."
        ) from None
    head = [name.strip().lower() for name in rows[0]] if rows else []
    runs = [row for row in rows[1:] if row]
    for i, row in enumerate(runs):
        if len(row) != len(head):
            raise ConfigError(
                f"Rows have a cell per column; row {i + 1} has {len(row)} for {len(head)}. Correct the table."
            )
    columns = {
        name: [_number(row[j], name, i) for i, row in enumerate(runs)]
        for j, name in enumerate(head)
        if name in KNOWN
    }
    with _options():
        fits = fit_columns(columns, drop_diverged=drop_diverged)
    for fit in fits:
        values = ", ".join(f"{k} {v:.4g}" for k, v in fit.coefficients.items())
        click.echo(f"fitted {fit.name}: {values}; explains {fit.explained:.1%} of its runs.", err=True)
        for a, b, r in fit.together():
            click.echo(
                f"fitted {fit.name}: {a} and {b} cannot be told apart (correlation {r:.2f}).", err=True
            )
        for warning in fit.warnings:
            click.echo(f"fitted {fit.name}: {warning}", err=True)
    return [fit.as_law() for fit in fits]


def _number(text: str, name: str, row: int) -> float:
    """A cell: empty, nan and inf are runs that diverged; 1.3B and the like are read."""
    from tunewright.scaling.laws.law import quantity

    cell = text.strip().lower()
    if cell in ("", "nan", "inf", "-inf", "diverged"):
        return math.nan
    try:
        return quantity(cell)
    except ConfigError as error:
        raise ConfigError(f"Row {row + 1}, column {name}: {error}") from None


def _line(row: Row) -> tuple[str, ...]:
    from tunewright.scaling.laws.law import short

    p = row.prediction
    value = "" if p is None else short(p.value)
    interval = "" if p is None or p.low is None or p.high is None else f"{short(p.low)} to {short(p.high)}"
    return (row.law.output, row.law.name, value, interval, row.law.unit, row.status, row.law.confidence)


@contextlib.contextmanager
def _options() -> Iterator[None]:
    """Says of arguments of functions which options they are here."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(_here(str(error))) from None


def _here(text: str) -> str:
    return text.replace("drop_diverged=True", "--drop-diverged").replace("extrapolate=True", "--extrapolate")


def _sources(found: Recommendations) -> None:
    """What the laws that were asked for are, and when they hold."""
    for row in found.rows:
        law = row.law
        click.echo(f"\n{law.name}: {law.formula} ({law.paper})")
        for line in (*law.conditions, *([law.note] if law.note else [])):
            click.echo(f"  {line}")


def _remarks(found: Recommendations) -> None:
    """Warnings, refusals and conflicts: below the table, on the error stream, so that the table can be piped."""
    for note in found.notes:
        click.echo(note, err=True)
    for row in found.rows:
        if row.refused:
            click.echo(f"refused: {_here(row.refused)}", err=True)
        elif row.prediction is not None:
            if row.doubt:
                click.echo(f"doubtful: {row.law.name}: {row.doubt}.", err=True)
            for warning in row.prediction.warnings:
                if not warning.endswith("could be used."):
                    click.echo(f"outside: {warning}", err=True)
    if found.conflicts:
        click.echo(
            "Where laws conflict, take the one whose conditions are yours: --law NAME shows them.", err=True
        )
    for conflict in found.conflicts:
        click.echo(f"conflict: {conflict.first} and {conflict.second}: {conflict.reason}.", err=True)
