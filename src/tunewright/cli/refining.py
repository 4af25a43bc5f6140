"""``space``: what a study searches, and what a next one should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunewright.cli.common import emit, open_study, reading, study_argument, table

if TYPE_CHECKING:
    from tunewright.analysis.phases import Refinement
    from tunewright.core.space import Space


@click.command()
@study_argument
@click.option(
    "--refine",
    is_flag=True,
    help="Propose a smaller space around the best tenth of the trials, with reasons.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File for the space as JSON; Space.from_dict reads it.",
)
@reading
def space(study: str | None, refine: bool, output: Path | None, storage: str | None, as_json: bool) -> None:
    """Show the space of a study, or with --refine a smaller one for the next study."""
    with open_study(study, storage) as opened:
        if refine:
            from tunewright.analysis.phases import refine as smaller

            found = smaller(opened)
            shown = found.space
        else:
            found, shown = None, opened.space
    if output is not None:
        output.write_text(json.dumps(shown.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        emit({"space": shown.to_dict()} | ({} if found is None else _changes(found)))
    elif found is None:
        _show(shown)
    else:
        head = ("parameter", "", "before", "after")
        table(head, [(c.name, c.kind, c.before, c.after) for c in found.changes])
        for change in found.changes:
            click.echo(f"{change.name}: {change.reason}", err=True)
        click.echo(f"{found.share:.1%} of the space is left.", err=True)


def _changes(found: Refinement) -> dict[str, object]:
    changes = [
        {"name": c.name, "kind": c.kind, "before": c.before, "after": c.after, "reason": c.reason}
        for c in found.changes
    ]
    return {"changes": changes, "share": found.share, "best": list(found.best)}


def _show(shown: Space) -> None:
    from tunewright.analysis.shares import parameters
    from tunewright.core.columns import describe

    rows = [(n, describe(e.domain)) for n, e in zip(parameters(shown), shown.entries, strict=True)]
    table(("parameter", "values"), rows)
