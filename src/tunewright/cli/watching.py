"""``watch``: a study that runs elsewhere, as its own display would show it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from tunewright.cli.common import debug_option, open_study, storage_option, study_argument
from tunewright.cli.exits import DONE

if TYPE_CHECKING:
    from tunewright.study import Study

_OVER = ("running", "waiting")


@click.command()
@study_argument
@click.option("--every", metavar="TIME", default="0.5s", show_default=True, help="How often to look.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "live", "plain", "jsonl"]),
    default="auto",
    help="How to show it.",
)
@click.option("--until-done", is_flag=True, help="End when nothing runs and nothing waits any more.")
@storage_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines, one per event.")
@debug_option
def watch(
    study: str | None, every: str, progress: str, until_done: bool, storage: str | None, as_json: bool
) -> int:
    """Follow a study that runs elsewhere: the same display as that of `tunewright run`. Ctrl-C ends only the watching."""
    from tunewright.core.units import seconds

    pause = seconds(every) or 0.5
    with open_study(study, storage) as opened:
        try:
            _follow(opened, "jsonl" if as_json else progress, pause, until_done)
        except KeyboardInterrupt:
            click.echo(f"{opened.name}: no longer watched; it goes on", err=True)
    return DONE


def _follow(study: Study, progress: str, pause: float, until_done: bool) -> None:
    from tunewright.analysis.progress import display
    from tunewright.cli.common import command_of

    session = study.session
    ledger = session.sync()
    limits: dict[str, Any] = (command_of(study) or {}).get("limits", {})
    trials = str(limits.get("trials", ""))
    show = display(
        progress,
        study.name,
        study.method,
        ledger.problem,
        int(trials) if trials.isdigit() else None,
        None,
        best=ledger.best,
        watching=True,
    )
    if show is None:
        return
    seen = ledger.cursor
    try:
        show.look(session)
        while True:
            ledger = session.sync()
            if ledger.cursor > seen:
                for record in session.store.read(session.info.id, seen):
                    show(record.event, session)
                seen = ledger.cursor
            elif until_done and not any(ledger.counts.get(s) for s in _OVER) and not ledger.queue:
                return
            time.sleep(pause)
    finally:
        show.close()
