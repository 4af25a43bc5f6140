"""``scale transfer``: settings of the target from a study with a scale, with the evidence for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tunewright.cli.common import emit, looking_at, reading, study_argument, table
from tunewright.cli.exits import DONE, INTERNAL

if TYPE_CHECKING:
    from tunewright.scaling.proxy import Transfer


@click.command()
@study_argument
@click.option("--parameter", metavar="NAME", help="The rate that is followed from size to size, if not lr.")
@click.option(
    "--horizon",
    metavar="LAW",
    help="How to go to a longer training: shares, published, or an exponent such as 0.3; else as far as the proxies tell.",
)
@reading
def transfer(
    study: str | None, parameter: str | None, horizon: str | None, storage: str | None, as_json: bool
) -> int:
    """Settings of the target of a study with a scale, with an interval, their price and the evidence for them.

    Exit status 1 says that the proxies do not tell; the reason is printed, in JSON under "refusal".
    """
    from tunewright.scaling.proxy import horizon_of

    with looking_at(study, storage) as opened:
        found = opened.transfer(parameter, horizon_of(horizon))
    if as_json:
        emit(found.to_dict())
    else:
        _show(found)
    return INTERNAL if found.refusal else DONE


def _show(found: Transfer) -> None:
    click.echo(found.answer)
    click.echo(f"The study cost {found.cost:.3g} trainings of the target.")
    for verdict in found.to_dict()["rules"]:
        click.echo("")
        claim = "claims that the best rate stays" if verdict["claims"] else "claims nothing"
        click.echo(f"{verdict['rule']} ({claim})" + (f": {drift(verdict)}" if verdict["drift"] else ""))
        if verdict["sizes"]:
            head = (
                "size",
                "steps",
                f"best {found.parameter}",
                "90 %",
                found.objective.name,
                "trainings",
                "diverged",
            )
            table(head, [_row(size) for size in verdict["sizes"]])
        if verdict["length"]:
            click.echo(f"length   {verdict['length']['words']}")
        if verdict["refusal"]:
            click.echo(f"refused  {verdict['refusal']}")
    for warning in found.warnings:
        click.echo(f"note     {warning}", err=True)


def drift(verdict: dict[str, Any]) -> str:
    """How the best rate moves with the size."""
    at, low, high = verdict["drift"]
    at_one = ", at one length of training," if verdict["length"] else ""
    return f"it moves{at_one} by {at:+.2f} [{low:+.2f}, {high:+.2f}] doublings for each of the size"


def _row(size: dict[str, Any]) -> tuple[Any, ...]:
    interval = f"{size['low']:.3g} to {size['high']:.3g}"
    return (
        size["name"], size["steps"], f"{size['rate']:.3g}", interval, f"{size['loss']:.4g}", size["count"], size["diverged"] or None,
    )  # fmt: skip
