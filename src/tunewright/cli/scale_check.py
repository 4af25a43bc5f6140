"""``scale check``: whether a parametrization does on a model what it claims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tunewright.cli.common import emit
from tunewright.cli.exits import DONE, INTERNAL, say
from tunewright.cli.scale_plan import family_of, model_options, once, whole
from tunewright.errors import ConfigError

KINDS = ("coordinates", "rates", "sharpness", "warmup")


@click.command()
@model_options
@click.option(
    "--sizes",
    multiple=True,
    metavar="NAME=N,N,...",
    help="A dimension and the sizes that it is checked at, such as width=64,128,256; may be repeated, one check each. "
    "The first size of the base times 1, 2 and 4 when not given.",
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([*KINDS, "all"]),
    help="coordinates: what a few steps change keeps its size (seconds; the default). rates: the best learning rate stays "
    "(minutes). sharpness: so does the largest eigenvalue of the Hessian. warmup: whether gradients need one. May be repeated.",
)
@click.option(
    "--data",
    metavar="MODULE:FUNCTION",
    help="A function of a seed that yields pairs of tensors, inputs and targets, for ever; made up from the model's first "
    "layers when not given.",
)
@click.option(
    "--loss",
    metavar="MODULE:FUNCTION",
    help="Of the model's output and the targets; cross-entropy for targets that are whole numbers, else squared error.",
)
@click.option("--lr", type=float, help="Base rate of the steps; 2^-7, for sgd 2^-4, when not given.")
@click.option(
    "--rates", metavar="R,R,...", help="Base rates that --kind rates compares; powers of 2 when not given."
)
@click.option("--steps", type=int, help="Steps of every training.")
@click.option("--seeds", type=int, default=3, show_default=True, help="Trainings of each kind.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw what was measured, .svg, .png, .pdf or .html.",
)
def check(
    model_fn: str,
    base: tuple[str, ...],
    rule: str,
    optimizer: Any,
    fixed: tuple[str, ...],
    roles: tuple[str, ...],
    as_json: bool,
    sizes: tuple[str, ...],
    kinds: tuple[str, ...],
    plot: Path | None,
    **given: Any,
) -> int:
    """Check that a parametrization does what it claims on a model; exit status 1 if it does not.

    \b
    tunewright scale check model.py:build --base width=64 --sizes width=64,128,256
    tunewright scale check model.py:build --base width=64 --kind rates --data model.py:batches

    The function takes sizes by name and returns a torch.nn.Module.
    """
    family = family_of(model_fn, base, fixed, roles)
    ladders = ladders_of(sizes, family.base)
    from tunewright.cli.scale_checks import Asked, run

    asked = Asked.of(family, rule, optimizer, **given)
    wanted: Sequence[str] = KINDS if "all" in kinds else tuple(dict.fromkeys(kinds)) or ("coordinates",)
    found: list[Any] = []
    for kind in wanted:
        try:
            found += run(asked, kind, ladders)
        except ConfigError as error:
            if kind != "warmup" or "all" not in kinds:
                raise
            say(f"left out: {error}")
    if plot is not None:
        from tunewright.cli.scale_charts import drawn

        try:
            drawn(found, plot)
        except OSError as error:
            raise ConfigError(
                f"A chart must go where it can be written; {plot}: {error.strerror}. Choose another path."
            ) from error
    if as_json:
        emit({"passed": all(c.passed for c in found), "checks": [c.to_dict() for c in found]})
    else:
        for c in found:
            click.echo(c.table())
            click.echo(f"{'pass' if c.passed else 'FAIL'}: {c.why}\n")
    return DONE if all(c.passed for c in found) else INTERNAL


def ladders_of(words: Sequence[str], base: Any) -> dict[str, tuple[int, ...]]:
    """Dimensions and their sizes.

    Raises:
        ConfigError: If a size is not a whole number.
    """
    if not words:
        name = next(iter(base))
        return {name: tuple(base[name] * k for k in (1, 2, 4))}
    out = {}
    for name, value in once(words).items():
        parts = str(value).split(",")
        try:
            found = [int(p) for p in parts if p.strip()]
        except ValueError:
            raise ConfigError(
                f"Sizes are whole numbers with commas between; got {name}={value}. Write it like {name}=64,128,256."
            ) from None
        out[name] = tuple(whole(name, n) for n in found)
    return out
