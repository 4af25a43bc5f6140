"""The same space with other domains: narrower ranges, fewer options, no guesses.

*Use when* one sampler is to work in a part of the space that another method chose. *Do not use when* the study's own
space is to change: that is ``Study.edit``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order
from tunewright.core.space import Space
from tunewright.errors import SpaceError

Change = Callable[[str, Domain], Domain]


def reshaped(space: Space, change: Change) -> Space:
    """A space of the same structure whose domains, nested ones first, went through ``change(name, domain)``.

    Raises:
        SpaceError: If no configuration is left.
    """
    domains: dict[str, Domain] = {}
    for name, domain in space.domains.items():
        inner = domain
        if isinstance(domain, Choice) and any(b is not None for b in domain.branches):
            branches = tuple(None if b is None else reshaped(b, change) for b in domain.branches)
            inner = replace(domain, branches=branches)
        domains[name] = change(name, inner)
    return Space(domains, when=space.when, constraints=space.own)


def without_guesses(space: Space) -> Space:
    """The same space without what the user believes."""
    return reshaped(space, lambda name, domain: replace(domain, guess=None))


def deciders(space: Space) -> set[str]:
    """Names of the parameters that conditions look at, in the space and in those nested in it."""
    return set(_deciders(space))


def _deciders(space: Space) -> Iterator[str]:
    for condition in space.when.values():
        yield from condition
    for domain in space.domains.values():
        for branch in domain.branches if isinstance(domain, Choice) else ():
            if branch is not None:
                yield from _deciders(branch)


def narrowed(domain: Domain, values: Sequence[Any], margin: float) -> Domain:
    """The smallest domain that holds ``values``; ranges are at least ``margin`` of the full width, in codes.

    Args:
        domain: The full domain.
        values: Values that must stay possible; those outside of the domain count as the nearest bound, or not at all.
        margin: Least width of a range of numbers, in (0, 1].
    """
    if isinstance(domain, Float | Int):
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        return _range(domain, numbers, margin) if numbers else domain
    if not isinstance(domain, Choice | Order | Bool):
        return domain
    held = [i for i, option in enumerate(domain.options) if any(_same(option, v) for v in values)]
    if not held:
        return domain
    if isinstance(domain, Order):
        held = list(range(held[0], held[-1] + 1))
        kept = tuple(domain.options[i] for i in held)
        return replace(domain, values=kept, guess=_inside(domain.guess, kept))
    kept = tuple(domain.options[i] for i in held)
    if isinstance(domain, Bool):
        return domain if len(kept) == 2 else Choice(kept)
    branches = tuple(domain.branches[i] for i in held)
    return replace(domain, options=kept, branches=branches, guess=_inside(domain.guess, kept))


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _inside(guess: Any, options: Sequence[Any]) -> Any:
    return guess if any(_same(guess, o) for o in options) else None


def _range(domain: Float | Int, numbers: Sequence[float], margin: float) -> Domain:
    encode, decode = domain.coder()
    codes = [min(max(encode(min(max(v, domain.low), domain.high)), 0.0), 1.0) for v in numbers]
    low, high = min(codes), max(codes)
    short = max(0.0, margin - (high - low)) / 2.0
    low, high = low - short, high + short
    # A range that would leave the domain is moved, so that its width stays.
    low, high = low - max(0.0, high - 1.0), high - min(0.0, low)
    ends = {"low": decode(max(low, 0.0)), "high": decode(min(high, 1.0))}
    if ends["low"] == ends["high"] and isinstance(domain, Int):
        step = domain.step
        up = ends["high"] + step <= domain.high
        ends["high" if up else "low"] += step if up else -step
    guess = domain.guess
    inside = guess is not None and ends["low"] <= guess <= ends["high"]
    try:
        return replace(domain, **ends, guess=guess if inside else None)  # type: ignore[arg-type]
    except SpaceError:
        return domain
