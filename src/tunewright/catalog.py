"""Every method by name. Entries are strings, resolved when used, so that listing them imports nothing."""

from __future__ import annotations

import difflib
from dataclasses import MISSING, fields
from itertools import pairwise
from typing import Any

from tunewright.core.algorithm import Algorithm
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.roster import ENTRIES, Method
from tunewright.roster.inside import INSIDE, WHICH, Inside
from tunewright.roster.predicting import PREDICTING, WHICH_PREDICTING, Predicting
from tunewright.roster.removing import REMOVING, WHICH_REMOVING, Removing

__all__ = [
    "INSIDE",
    "METHODS",
    "PREDICTING",
    "REMOVING",
    "WHICH",
    "WHICH_PREDICTING",
    "WHICH_REMOVING",
    "Inside",
    "Method",
    "Predicting",
    "Removing",
    "build",
    "choose",
    "find",
]

METHODS: dict[str, Method] = {m.name: m for m in ENTRIES}
_HANDOVER = 300
_MANY = 30
_FRONT_HANDOVER = 100
_MOST_LOSSES = 4
_WIDEST = 200


def find(name: str) -> Method:
    """The entry of that name.

    Raises:
        ConfigError: If there is none, with the nearest name.
    """
    if name in METHODS:
        return METHODS[name]
    close = difflib.get_close_matches(name, METHODS, 1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise ConfigError(f"A method must be one of auto, {', '.join(METHODS)}; got {name!r}.{hint}")


def build(name: str, options: dict[str, Any] | None = None) -> Algorithm[Any]:
    """Builds a method from what a user writes: ``"tpe"``, ``"hyperband"``, or ``"hyperband(portfolio(tpe))"``.

    Args:
        name: The method, with the sampler that it wraps in brackets.
        options: Hyper-hyperparameters, each for every method in the name that has one of that name.

    Raises:
        ConfigError: If a name or an option is unknown.
    """
    given = dict(options or {})
    chain = _chain(name)
    if "sampler" in given:
        chain = chain[:1]
    _check_order(name, chain)
    known = [[f.name for f in fields(entry.load())] for entry in chain]
    for option in given:
        if not any(option in names for names in known):
            every = [n for names in known for n in names if n != "sampler"]
            close = difflib.get_close_matches(option, every, 1)
            hint = f" Did you mean '{close[0]}'?" if close else f" It has {', '.join(every) or 'none'}."
            raise ConfigError(f"'{name}' must know its options; got {option!r}.{hint}")
    algorithm: Algorithm[Any] | None = None
    for entry, names in zip(reversed(chain), reversed(known), strict=True):
        own = {**dict(entry.preset), **{k: v for k, v in given.items() if k in names}}
        if entry.wraps:
            own.setdefault("sampler", algorithm)
        lacking = [
            f.name
            for f in fields(entry.load())
            if f.name not in own and f.default is MISSING and f.default_factory is MISSING
        ]
        if lacking:
            raise ConfigError(
                f"'{entry.name}' needs {' and '.join(lacking)}; got none. Give options={{...}}, or pass the object as method."
            )
        algorithm = entry.load()(**own)
    assert algorithm is not None
    return algorithm


def _check_order(name: str, chain: list[Method]) -> None:
    """Refuses a scheduler inside one that would not pass on what it decides.

    Raises:
        ConfigError: If there is one.
    """
    for outer, inner in pairwise(chain):
        if inner.kind == "scheduler" and not getattr(outer.load(), "adds_stops", False):
            stops = getattr(inner.load(), "adds_stops", False)
            other = f", or write {inner.name}({outer.name})" if stops else ""
            raise ConfigError(
                f"'{outer.name}' needs a sampler inside, since it alone decides who is trained how long; got '{name}'. "
                f"Name a sampler instead of '{inner.name}'{other}."
            )


def _chain(name: str) -> list[Method]:
    """The entries that a name stands for, outermost first."""
    outer, bracket, rest = name.partition("(")
    entry = find(outer.strip())
    if bracket and (not rest.endswith(")") or not entry.wraps):
        raise ConfigError(f"A method is written name or name(sampler); got {name!r}. Correct it.")
    if not entry.wraps:
        return [entry]
    return [entry, *_chain(rest[:-1] if bracket else entry.wraps)]


def choose(problem: Problem, *, resumable: bool = True) -> tuple[Algorithm[Any], str, str]:
    """Picks a method for a problem, from the problem alone, so that every process picks the same.

    Args:
        problem: What is to be optimised.
        resumable: Whether trials can save and load checkpoints.

    Returns:
        The method, its name, and the reason in a sentence.
    """
    space = problem.space
    widest = int(space.layout.levels[space.layout.categorical].max(initial=0)) if space.d else 0
    if problem.fidelity is not None and problem.fidelity.high > problem.fidelity.low:
        name = "asha(tpe)" if resumable else "halting(tpe)"
        if resumable and problem.m == 1 and 0 < space.d <= _MANY and widest <= _WIDEST:
            name = "hypertune"
        how = "pause and resume" if resumable else "are stopped, since they cannot be resumed"
        return build(name), name, f"trials report up to {problem.fidelity.high} steps, so weak ones {how}"
    if space.d == 0:
        return build("random"), "random", "the space is declared while trials run"
    if widest > _WIDEST:
        return build("tpe"), "tpe", f"a choice among {widest} is more than a Gaussian process handles well"
    first, until, reason = "bayes", _HANDOVER, "few trials favour a Gaussian process"
    if 1 < problem.m <= _MOST_LOSSES:
        first, until = "ehvi", _FRONT_HANDOVER
        reason = f"{problem.m} objectives call for trials that widen the front"
    elif space.d > _MANY:
        first, reason = "turbo", f"{space.d} parameters call for a Gaussian process within a trust region"
    switch: Any = METHODS["switch"].load()
    method: Algorithm[Any] = switch((build(first), build("tpe")), (until,))
    why = f"{reason}; from {until} trials on, density estimation keeps asking fast"
    return method, f"{first}, then tpe", why
