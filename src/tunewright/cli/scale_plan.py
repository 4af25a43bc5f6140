"""``scale plan``, and how the other commands of ``scale`` read a model and its sizes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tunewright.cli.common import assignments, debug_option, emit, json_option
from tunewright.cli.exits import say
from tunewright.errors import ConfigError, missing_extra

if TYPE_CHECKING:
    from tunewright.scaling.families import Family

F = TypeVar("F", bound=Callable[..., Any])


def model_options(function: F) -> F:
    """The options of every command about a model: the function that builds it, its sizes, its rule."""
    options = (
        click.argument("model_fn", metavar="MODULE:FUNCTION"),
        click.option(
            "--base",
            "base",
            multiple=True,
            required=True,
            metavar="NAME=SIZE",
            help="A size that may grow, at the value where settings are tuned, such as width=64; may be repeated.",
        ),
        click.option(
            "--rule",
            default="mup",
            show_default=True,
            help="The parametrization, such as mup, sp-layerwise, u-mup or depth-mup; a wrong one lists them all.",
        ),
        click.option(
            "--optimizer",
            default="adamw",
            show_default=True,
            help="What the model is trained with: sgd, adam, adamw, adam-atan2, adafactor, lion, kfac or shampoo.",
        ),
        click.option(
            "--set",
            "fixed",
            multiple=True,
            metavar="NAME=VALUE",
            help="Another argument of the function; may be repeated.",
        ),
        click.option(
            "--role",
            "roles",
            multiple=True,
            metavar="TENSOR=ROLE",
            help="Role (input, hidden, output, vector, scalar) of a tensor that cannot be told, by its name or a pattern.",
        ),
        json_option,
        debug_option,
    )
    return functools.reduce(lambda f, option: option(f), reversed(options), function)


def family_of(model_fn: str, base: Sequence[str], fixed: Sequence[str], roles: Sequence[str]) -> Family:
    """The model of any size that a command line names.

    Raises:
        ConfigError: If there is no such function, or a size is not a whole number.
        MissingExtra: Without PyTorch.
    """
    try:
        from tunewright.scaling.families import Family
    except ImportError as error:
        raise missing_extra("torch", "torch") from error
    from tunewright.cli.sweep import load_function

    if not all(model_fn.rpartition(":")[::2]):
        raise ConfigError(
            f"The model is named by its function, as module:function or file.py:function; got {model_fn!r}. Name both."
        )
    return Family(load_function(model_fn), whole_sizes(base), once(fixed), dict(_pairs(roles)) or None)


def once(words: Sequence[str]) -> dict[str, Any]:
    """Values by name, each given once.

    Raises:
        ConfigError: If a name is there twice.
    """
    names = [word.partition("=")[0].strip() for word in words]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(
            f"A name is given once; got {twice[0]} {names.count(twice[0])} times. Leave one of them."
        )
    return assignments(words)


def whole_sizes(words: Sequence[str]) -> dict[str, int]:
    """Sizes by name.

    Raises:
        ConfigError: If a name is there twice, or a size is no whole number of at least 1.
    """
    return {name: whole(name, value) for name, value in once(words).items()}


def whole(name: str, value: Any) -> int:
    """A size.

    Raises:
        ConfigError: If it is no whole number of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"{name} must be a whole number of at least 1; got {value!r}. Write it like {name}=64."
        )
    return value


def _pairs(words: Sequence[str]) -> list[tuple[str, Any]]:
    out = []
    for word in words:
        name, equals, role = word.rpartition("=")
        if not equals or not name:
            raise ConfigError(
                f"Roles are given as tensor=role; got {word!r}. Write it like 'table.weight=input'."
            )
        out.append((name, role))
    return out


@click.command()
@model_options
@click.option(
    "--to",
    "target",
    multiple=True,
    required=True,
    metavar="NAME=SIZE",
    help="The size to train at, such as width=512; may be repeated. Others stay at the base.",
)
@click.option(
    "--lr", type=float, help="Best base rate at the base size: the table then has every tensor's own."
)
@click.option("--weight-decay", type=float, help="Best weight decay at the base size; with --lr.")
@click.option(
    "--folded", is_flag=True, help="Without multipliers in the forward pass: other first values and rates."
)
def plan(
    model_fn: str,
    base: tuple[str, ...],
    rule: str,
    optimizer: Any,
    fixed: tuple[str, ...],
    roles: tuple[str, ...],
    as_json: bool,
    target: tuple[str, ...],
    lr: float | None,
    weight_decay: float | None,
    folded: bool,
) -> None:
    """Show what a parametrization gives every tensor of a model at a size: first values, rate, decay, multiplier.

    \b
    tunewright scale plan model.py:build --base width=64 --to width=512 --lr 0.01

    The function takes sizes by name and returns a torch.nn.Module.
    """
    _check_rates(lr, weight_decay)
    family = family_of(model_fn, base, fixed, roles)
    sizes: dict[str, Any] = whole_sizes(target)
    form: Any = "folded" if folded else "multipliers"
    found = family.plan(rule, optimizer=optimizer, form=form, **sizes)
    if weight_decay and optimizer == "adam":
        say(
            "Adam adds its decay to the gradient and normalises both, so it follows the size only roughly: take --optimizer adamw."
        )
    if as_json:
        import msgspec

        data = msgspec.json.decode(found.to_json())
        if lr is not None:
            data["rates"] = found.rates(lr)
            data["decays"] = {
                n: (weight_decay or 0.0) * e.wd for n, e in found.entries.items() if not e.frozen
            }
        emit(data)
        return
    click.echo(found.table())
    if lr is not None:
        _rates(found, lr, weight_decay or 0.0)


def _check_rates(lr: float | None, weight_decay: float | None) -> None:
    if lr is not None and not 0 < lr < math.inf:
        raise ConfigError(f"A rate must be positive; got --lr {lr:g}. Give the best one of the base size.")
    if weight_decay is not None and not 0 <= weight_decay < math.inf:
        raise ConfigError(
            f"A decay must be 0 or more; got --weight-decay {weight_decay:g}. Give the best one of the base size."
        )
    if weight_decay is not None and lr is None:
        raise ConfigError("A decay is shown beside the rate; got --weight-decay without --lr. Give both.")


def _rates(found: Any, lr: float, weight_decay: float) -> None:
    """The groups that an optimizer gets, and how many tensors each has."""
    groups: dict[tuple[float, float], list[str]] = {}
    for name, entry in found.entries.items():
        if not entry.frozen:
            groups.setdefault((lr * entry.lr, weight_decay * entry.wd), []).append(name)
    for (rate, decay), names in sorted(groups.items(), reverse=True):
        extra = f", weight decay {decay:.4g}" if weight_decay else ""
        click.echo(f"rate {rate:.4g}{extra}: {', '.join(names)}")
