"""Spaces from code: an annotated function signature or a dataclass.

Three spellings work, alone or mixed::

    def train(lr: Annotated[float, Float(1e-4, 0.3, log=True)] = 1e-2): ...
    def train(lr=Float(1e-4, 0.3, log=True)): ...
    def train(optimizer: Literal["adam", "sgd"], nesterov: bool): ...
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args, get_origin

import numpy as np

from tunewright.core.combinatorial import plain_list
from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order, Permutation, Subset
from tunewright.core.space import Space
from tunewright.errors import SpaceError

_DOMAINS = (Float, Int, Choice, Order, Bool, Permutation, Subset)


class Declared(NamedTuple):
    """What a function or dataclass declares.

    Attributes:
        space: Its parameters.
        defaults: Default values, as a configuration to try first; may be partial.
        wants_trial: Whether the function takes the running trial as well.
    """

    space: Space
    defaults: dict[str, Any]
    wants_trial: bool


def log(low: float, high: float) -> Float | Int:
    """A number on a log scale; whole when both bounds are whole."""
    if isinstance(low, int) and isinstance(high, int):
        return Int(low, high, log=True)
    return Float(low, high, log=True)


def one_of(*options: Any) -> Choice:
    """One of several options without an order."""
    return Choice(list(options))


def space_of(target: Callable[..., Any] | type) -> Declared:
    """Builds a space from a function's signature or a dataclass.

    Args:
        target: A function, or a dataclass whose fields are annotated in the same way.

    Raises:
        SpaceError: If nothing is declared, or a default does not fit its own range.
    """
    hints, fixed = _hints(target)
    if isinstance(target, type):
        if not dataclasses.is_dataclass(target):
            raise SpaceError(
                f"A space can be read from a dataclass; got the plain class {target.__name__}. Decorate it."
            )
        entries = [
            (f.name, f.default if f.default is not dataclasses.MISSING else _NONE)
            for f in dataclasses.fields(target)
            if f.init
        ]
    else:
        entries = [
            (p.name, p.default if p.default is not p.empty else _NONE)
            for p in _signature(target).parameters.values()
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in fixed
        ]
    domains: dict[str, Domain] = {}
    defaults: dict[str, Any] = {}
    wants_trial = False
    for name, default in entries:
        domain = _domain(name, hints.get(name), default)
        if domain is None and isinstance(hints.get(name), str) and _DECLARES.search(hints[name]):
            raise SpaceError(
                f"The annotation of '{name}' must be readable; a name in {hints[name]!r:.200} is not defined at the top "
                f"level of its module. Import it there."
            )
        if domain is None:
            wants_trial = wants_trial or name == "trial"
            continue
        domains[name] = domain
        if default is not _NONE and not isinstance(default, _DOMAINS):
            defaults[name] = _checked(
                name, domain, default.value if isinstance(default, enum.Enum) else default
            )
    if not domains:
        raise SpaceError(
            f"'{getattr(target, '__name__', target)}' must declare at least one parameter; it declares none. "
            f"Write lr: Annotated[float, Float(1e-4, 0.1, log=True)], or pass a space."
        )
    return Declared(Space(domains), defaults, wants_trial)


_NONE: Any = object()


_DECLARES = re.compile(r"\b(Annotated|Literal|Float|Int|Choice|Order|Bool|Permutation|Subset|log|one_of)\b")


def _signature(target: Any) -> inspect.Signature:
    try:
        return inspect.signature(target)
    except (ValueError, TypeError):
        raise SpaceError(
            f"A function must show its parameters; {target!r:.120} does not. Wrap it in a function of your own."
        ) from None


def _hints(target: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Annotations by name, and the parameters that a partial function has fixed already.

    An annotation that names something unknown, such as a class imported for type checkers only, stays text.
    """
    fixed: set[str] = set()
    while isinstance(target, functools.partial):
        fixed |= set(target.keywords)
        target = target.func
    if not isinstance(target, type) and not hasattr(target, "__annotations__"):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target, include_extras=True), frozenset(fixed)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return {k: _hint(target, k, v) for k, v in target.__annotations__.items()}, frozenset(fixed)


def _hint(target: Any, name: str, text: Any) -> Any:
    known = vars(sys.modules.get(target.__module__, typing))
    one = types.SimpleNamespace(__annotations__={name: text})
    try:
        return typing.get_type_hints(one, known, include_extras=True)[name]
    except (NameError, TypeError, AttributeError, SyntaxError):
        return text


def _domain(name: str, hint: Any, default: Any) -> Domain | None:
    """The domain of one parameter, or None when it is not a hyperparameter."""
    if isinstance(default, _DOMAINS):
        return default
    if get_origin(hint) is typing.Annotated:
        found = [a for a in get_args(hint)[1:] if isinstance(a, _DOMAINS)]
        if len(found) > 1:
            raise SpaceError(f"'{name}' must have one domain; its annotation has {len(found)}. Keep one.")
        if found:
            return found[0]
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        return _choice(name, list(get_args(hint)))
    if hint is bool:
        return Bool()
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _choice(name, [member.value for member in hint])
    return None


def _choice(name: str, options: list[Any]) -> Choice:
    try:
        return Choice(options)
    except SpaceError as error:
        raise SpaceError(f"The annotation of '{name}' must list plain options. {error}") from None


def _checked(name: str, domain: Domain, default: Any) -> Any:
    default = default.item() if isinstance(default, np.generic) else default
    if isinstance(domain, Float) and isinstance(default, int) and not isinstance(default, bool):
        default = float(default)
    if isinstance(domain, Permutation | Subset):
        default = plain_list(default)
        default = domain.ordered(default) if isinstance(domain, Subset) else default
    if not domain.contains(default):
        raise SpaceError(
            f"The default of '{name}' must lie in its own range; got {default!r}. Change one of them."
        )
    return default


def space_from(given: Any) -> Declared:
    """A space from whatever the user passed: a ``Space``, a mapping, a function, a dataclass, or nothing.

    Raises:
        SpaceError: If it is none of these.
    """
    if given is None:
        return Declared(Space(), {}, True)
    if isinstance(given, Space):
        return Declared(given, given.defaults(), False)
    if callable(given):
        return space_of(given)
    if isinstance(given, Mapping):
        space = (
            Space.from_dict(given)
            if "parameters" in given and isinstance(given["parameters"], Sequence)
            else Space(given)
        )
        return Declared(space, space.defaults(), False)
    raise SpaceError(
        f"A space must be a Space, a dict of domains, a function or a dataclass; got {given!r:.120}."
    )
