"""What ``tunewright methods --inside``, ``--removing`` and ``--predicting`` show: methods that are not samplers or schedulers, and which to take."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import Literal

import click

from tunewright import catalog
from tunewright.cli.common import emit, lines
from tunewright.errors import ConfigError

Kind = Literal["inside", "removing", "predicting"]
_CALLED: dict[str, str] = {
    "inside": "A method inside a run",
    "removing": "A method that removes a choice",
    "predicting": "A method that predicts a choice",
}
Listed = catalog.Inside | catalog.Removing | catalog.Predicting


def show(kind: Kind, name: str | None, as_json: bool) -> None:
    """Prints all of them with advice, or one in full.

    Raises:
        ConfigError: If there is none of that name.
        MissingExtra: If PyTorch, which a full description is read from, is not installed.
    """
    listed: dict[str, Listed]
    if kind == "inside":
        listed, advice = {**catalog.INSIDE}, catalog.WHICH
    elif kind == "removing":
        listed, advice = {**catalog.REMOVING}, catalog.WHICH_REMOVING
    else:
        listed, advice = {**catalog.PREDICTING}, catalog.WHICH_PREDICTING
    if name and name not in listed:
        raise ConfigError(f"{_CALLED[kind]} must be one of {', '.join(listed)}; got {name!r}.")
    found = [listed[name]] if name else list(listed.values())
    if as_json:
        emit([dataclasses.asdict(m) for m in found])
    elif name:
        _one(found[0])
    else:
        for family in dict.fromkeys(m.family for m in found):
            click.echo(f"{family}:")
            for m in (m for m in found if m.family == family):
                pad = f"\n  {''.ljust(18)} "
                gives = "".join(f"{pad}{verb} {what}" for verb, what in _gives(m).items())
                click.echo(
                    f"  {m.name.ljust(18)} {m.summary}{gives}{pad}for {m.when}{pad}costs {m.cost}{pad}{m.paper}"
                )
        click.echo("\nwhich to take:")
        for question, answer in advice:
            click.echo(f"  {question}\n    -> {answer}")
        click.echo(f"tunewright methods --{kind} NAME describes one.")


def _gives(method: Listed) -> dict[str, str]:
    if isinstance(method, catalog.Removing):
        return {"removes": method.removes}
    return {"predicts": method.predicts} if isinstance(method, catalog.Predicting) else {}


def _one(method: Listed) -> None:
    module, _, attribute = method.path.partition(":")
    told = {"method": method.name, "family": method.family, "paper": method.paper, "cost": method.cost}
    lines({**told, **_gives(method)})
    click.echo(f"\n{inspect.getdoc(importlib.import_module(module)) or ''}\n")
    click.echo(f"from {module} import {attribute}")
