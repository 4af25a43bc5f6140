"""``ask``, ``tell`` and ``enqueue``: trials handed out to whoever trains them, and their results taken back."""

from __future__ import annotations

import uuid
from typing import Any, cast

import click

from tunewright.cli.common import as_dict, assignments, emit, open_study, reading
from tunewright.errors import ConfigError


@click.command()
@click.argument("study")
@click.option(
    "--lease", default="1h", metavar="TIME", help="How long the result may take before others get the trial."
)
@reading
def ask(study: str, lease: str, storage: str | None, as_json: bool) -> int:
    """Get the next trial, to train it yourself; give its number and token back with tell.

    Exits with 3 when there is no trial now: the method waits for results, or is finished.
    """
    from tunewright.cli.exits import NONE_SUCCEEDED, say
    from tunewright.core.units import seconds
    from tunewright.run.session import Policy
    from tunewright.store.clock import EXTERNAL

    with open_study(study, storage, policy=Policy(lease=seconds(lease) or 3600.0)) as opened:
        # This process is gone in a moment; a lease in its name would be over at once.
        opened.session.act_for(f"{EXTERNAL}/{uuid.uuid4()}")
        trial = opened.session.ask()
        if trial is None:
            say("no trial now: the method waits for results of running trials, or is finished")
            if as_json:
                emit(None)
            return NONE_SUCCEEDED
        checkpoint = trial.checkpoint[0] if trial.checkpoint else 0
        data = {
            "study": opened.name,
            "trial": trial.number,
            "token": trial.token,
            "params": trial.params,
            "step": checkpoint,
            "until": trial.until,
        }
    if as_json:
        emit(data)
    else:
        click.echo(f"trial {trial.number} token {trial.token}")
        for name, value in trial.params.items():
            click.echo(f"{name}={value}")
    return 0


@click.command()
@click.argument("study")
@click.argument("number", type=int)
@click.argument("values", nargs=-1, metavar="METRIC=VALUE...")
@click.option("--token", type=int, help="The attempt, as ask printed it; the newest when not given.")
@click.option(
    "--step", type=click.IntRange(1), help="Report these values at a step instead of ending the trial."
)
@click.option(
    "--outcome",
    type=click.Choice(["completed", "failed", "invalid"]),
    default="completed",
    help="How it ended; invalid for a configuration that makes no sense.",
)
@click.option("--error", default="", help="What went wrong.")
@reading
def tell(
    study: str,
    number: int,
    values: tuple[str, ...],
    token: int | None,
    step: int | None,
    outcome: str,
    error: str,
    storage: str | None,
    as_json: bool,
) -> None:
    """Give back the result of a trial, such as: tunewright tell mine 3 --token 17 loss=0.25

    Telling the same result again changes nothing.
    """
    from tunewright.cli.looking import trial_of
    from tunewright.study import Asked

    metrics = assignments(values)
    if outcome == "completed" and step is not None and not metrics:
        raise ConfigError("A report needs values; got none. Write them like loss=0.25.")
    with open_study(study, storage) as opened:
        asked = Asked(opened, trial_of(opened, number))
        if token is not None:
            asked.token = token
        if step is not None:
            go_on = opened.report(asked, step, **metrics)
            if as_json:
                emit({"trial": number, "step": step, "continue": go_on})
            else:
                click.echo("continue" if go_on else "stop")
            return
        trial = opened.tell(asked, metrics or None, outcome=cast(Any, outcome), error=error)
        if as_json:
            emit(as_dict(trial))
        else:
            click.echo(f"trial {number} {trial.status}")


@click.command()
@click.argument("study")
@click.argument("values", nargs=-1, required=True, metavar="NAME=VALUE...")
@click.option("--key", default="", help="Same key, same item: repeating the command adds nothing.")
@reading
def enqueue(study: str, values: tuple[str, ...], key: str, storage: str | None, as_json: bool) -> None:
    """Have a configuration tried next; parameters that are left out are chosen when it starts."""
    config = assignments(values)
    with open_study(study, storage) as opened:
        position = opened.enqueue(config, key=key)
        waiting = len(opened.session.ledger.queue)
    if as_json:
        emit({"study": study, "position": position, "queued": waiting, "params": config})
    else:
        click.echo(f"queued; {waiting} waiting")
