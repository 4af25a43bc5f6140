"""``scale predict``: what the scaling laws recommend for a run, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tunewright.cli.common import debug_option, emit, json_option, table

if TYPE_CHECKING:
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
@click.option("--law", "laws", multiple=True, metavar="NAME", help="Ask only this law; may be repeated.")
@click.option("--extrapolate", is_flag=True, help="Answer far outside the range of a law too.")
@json_option
@debug_option
def predict(laws: tuple[str, ...], extrapolate: bool, as_json: bool, **given: Any) -> None:
    """Recommendations of every scaling law that applies, with intervals, limits and conflicts.

    Counts may be written as 1e9, 1.3B, 125M or 100B.
    """
    from tunewright.scaling.laws import recommend

    found = recommend(only=laws or None, extrapolate=extrapolate, **given)
    if as_json:
        emit(found.to_dict())
        return
    table(("quantity", "law", "value", "95 %", "unit", "box", "constants"), [_line(r) for r in found.rows])
    _remarks(found)


def _line(row: Row) -> tuple[str, ...]:
    from tunewright.scaling.laws.law import short

    p = row.prediction
    value = "" if p is None else short(p.value)
    interval = "" if p is None or p.low is None or p.high is None else f"{short(p.low)} to {short(p.high)}"
    return (row.law.output, row.law.name, value, interval, row.law.unit, row.status, row.law.confidence)


def _remarks(found: Recommendations) -> None:
    """Warnings, refusals and conflicts: below the table, on the error stream, so that the table can be piped."""
    for note in found.notes:
        click.echo(note, err=True)
    for row in found.rows:
        if row.refused:
            click.echo(f"refused: {row.refused}", err=True)
        elif row.prediction is not None:
            if row.doubt:
                click.echo(f"doubtful: {row.law.name}: {row.doubt}.", err=True)
            for warning in row.prediction.warnings:
                if not warning.endswith("could be used."):
                    click.echo(f"outside: {warning}", err=True)
    for conflict in found.conflicts:
        click.echo(f"conflict: {conflict.first} and {conflict.second}: {conflict.reason}.", err=True)
