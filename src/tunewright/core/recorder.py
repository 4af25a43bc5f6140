"""Define-by-run: a space that grows as training functions meet parameters.

A parameter that a branch of the program did not reach is left out of that trial's configuration; which earlier
choice decides about it is inferred from the trials seen so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order
from tunewright.core.space import Space
from tunewright.errors import SpaceError


def grow(space: Space, name: str, domain: Domain) -> Space:
    """The space with a parameter added, or widened to cover what a trial asked for.

    Args:
        space: The present version.
        name: The parameter that was met.
        domain: What the trial asked for.

    Returns:
        A new version, or the same object when nothing changes.

    Raises:
        SpaceError: If the parameter is known with another type or scale.
    """
    known = space.domains.get(name)
    merged = domain if known is None else union(name, known, domain)
    if merged == known:
        return space
    return Space({**space.domains, name: merged}, when=space.when, constraints=space.constraints)


def union(name: str, a: Domain, b: Domain) -> Domain:
    """The smallest domain that covers both.

    Raises:
        SpaceError: If they are of different types or scales.
    """
    if isinstance(a, Float) and isinstance(b, Float) and (a.log, a.step) == (b.log, b.step):
        return a if a.low <= b.low and b.high <= a.high else Float(
            min(a.low, b.low), max(a.high, b.high), log=a.log, step=a.step
        )  # fmt: skip
    if isinstance(a, Int) and isinstance(b, Int) and (a.log, a.step) == (b.log, b.step):
        return a if a.low <= b.low and b.high <= a.high else Int(
            min(a.low, b.low), max(a.high, b.high), log=a.log, step=a.step
        )  # fmt: skip
    if isinstance(a, Choice) and isinstance(b, Choice):
        new = [o for o in b.options if not a.contains(o)]
        return Choice([*a.options, *new]) if new else a
    if isinstance(a, Order) and isinstance(b, Order) and all(a.contains(v) for v in b.options):
        return a
    if isinstance(a, Bool) and isinstance(b, Bool):
        return a
    raise SpaceError(
        f"A parameter must keep its type and scale in all trials; '{name}' was {a.to_dict()} and is now {b.to_dict()}. "
        f"Give one of them another name."
    )


def infer(space: Space, trials: Sequence[tuple[Mapping[str, Any], frozenset[str]]]) -> Space:
    """The space with the conditions that past trials show.

    A parameter that some trials did not meet is put under the first earlier parameter with options whose values
    separate the trials that met it from those that did not; where none does, it stays unconditional.

    Args:
        space: The present version.
        trials: Configuration of each finished trial, and the names it met.

    Returns:
        A new version, or the same object when nothing changes.
    """
    when: dict[str, dict[str, Any]] = {}
    names = list(space.domains)
    for index, name in enumerate(names):
        condition = _separator(space, names[:index], name, trials)
        if condition is not None:
            when[name] = condition
    known = {k: {p: set(v) for p, v in c.items()} for k, c in space.when.items()}
    if {k: {p: set(v) for p, v in c.items()} for k, c in when.items()} == known:
        return space
    return Space(space.domains, when=when, constraints=space.constraints)


def _separator(
    space: Space,
    earlier: Sequence[str],
    name: str,
    trials: Sequence[tuple[Mapping[str, Any], frozenset[str]]],
) -> dict[str, Any] | None:
    if all(name in met for _, met in trials):
        return None
    for parent in earlier:
        domain = space.domains[parent]
        if not isinstance(domain, Choice | Bool | Order):
            continue
        here = {config[parent] for config, met in trials if name in met and parent in met}
        away = {config[parent] for config, met in trials if name not in met and parent in met}
        orphans = any(name in met and parent not in met for _, met in trials)
        if here and not orphans and not here & away:
            # A value that nobody has tried may well open the branch: it is left open until seen.
            return {parent: [o for o in domain.options if o not in away]}
    return None
