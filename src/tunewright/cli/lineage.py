"""``lineage``."""

from __future__ import annotations

import click

from tunewright.cli.common import emit, open_study, reading, study_argument
from tunewright.cli.looking import trial_of


@click.command()
@study_argument
@click.option(
    "--trial", type=click.IntRange(0), help="Whose ancestors to follow; by default those of the best."
)
@click.option(
    "--save", type=click.Path(dir_okay=False), help="Write the schedule that led to it to a JSON file."
)
@reading
def lineage(
    study: str | None, trial: int | None, save: str | None, storage: str | None, as_json: bool
) -> None:
    """Show which trials are copies of which, and the schedule of parameters that led to the best."""
    from tunewright.analysis.lineage import lineage as schedule_of
    from tunewright.analysis.lineage import render

    with open_study(study, storage) as opened:
        trials = opened.trials
        number = trial if trial is not None else opened.best.number
        schedule = schedule_of(trials, trial_of(opened, number).number)
        if save is not None:
            schedule.save(save)
        if as_json:
            parents = {t.number: t.parent for t in trials if t.parent is not None}
            emit({"trial": number, "schedule": schedule.to_dict(), "parents": parents})
            return
        click.echo(render(trials, best=number))
        if len(schedule.pieces) > 1:
            click.echo(f"\nSchedule that led to trial {number}:")
            for piece in schedule.pieces:
                settings = ", ".join(
                    f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in piece.config.items()
                )
                click.echo(f"  from step {piece.start}: {settings}")
        if save is not None:
            click.echo(f"Saved to {save}; follow it with tunewright.Schedule.load({save!r}).at(step).")
