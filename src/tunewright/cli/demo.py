"""``demo``."""

from __future__ import annotations

from typing import Any, cast

import click

from tunewright.cli.common import debug_option, emit, storage_option


@click.command()
@click.option("--quick", is_flag=True, help="A smaller demo, under half a minute.")
@click.option("--method", default="auto", help="See tunewright methods.")
@click.option(
    "--report",
    default="demo-report.html",
    show_default=True,
    help="Where to write the HTML report.",
)
@click.option(
    "--progress",
    type=click.Choice(["auto", "live", "plain", "jsonl", "none"]),
    default="auto",
    help="How to show progress.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@storage_option
@debug_option
def demo(quick: bool, method: str, report: str, progress: str, as_json: bool, storage: str | None) -> None:
    """Tune a real model on this machine: conditional space, early stopping, two workers, and a report."""
    from tunewright.demo import run_demo

    shown = "none" if as_json and progress == "auto" else progress
    result: dict[str, Any] = run_demo(
        quick=quick, method=method, storage=storage, report=report, progress=cast(Any, shown)
    )
    emit(result)
