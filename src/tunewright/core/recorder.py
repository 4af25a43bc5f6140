"""Define-by-run: a space that grows as training functions meet parameters.

A parameter that a branch of the program did not reach is left out of that trial's configuration; which earlier
choice decides about it is inferred from the trials seen so far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunewright.core.constraints import Range
from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order, Permutation, Subset, key
from tunewright.core.space import Space
from tunewright.errors import SpaceError

Trials = Sequence[tuple[Mapping[str, Any], frozenset[str]]]


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
    if merged is known:
        return space
    return Space({**space.domains, name: merged}, when=space.when, constraints=space.own)


def union(name: str, a: Domain, b: Domain) -> Domain:
    """The smallest domain that covers both; ``a`` itself where it covers ``b``. The belief of ``a`` is kept.

    Raises:
        SpaceError: If they are of different types or scales.
    """
    if isinstance(a, Float) and isinstance(b, Float) and _aligned(a, b):
        low, high = min(a.low, b.low), max(a.high, b.high)
        return a if (low, high) == (a.low, a.high) else replace(a, low=low, high=high)
    if isinstance(a, Int) and isinstance(b, Int) and a.log == b.log:
        low, high = min(a.low, b.low), max(a.high, b.high)
        step = math.gcd(a.step, b.step, a.low - b.low)
        return (
            a if (low, high, step) == (a.low, a.high, a.step) else replace(a, low=low, high=high, step=step)
        )
    if isinstance(a, Choice) and isinstance(b, Choice):
        new = [i for i, o in enumerate(b.options) if not a.contains(o)]
        if not new:
            return a
        options = (*a.options, *(b.options[i] for i in new))
        return replace(a, options=options, branches=(*a.branches, *(b.branches[i] for i in new)))
    if isinstance(a, Order) and isinstance(b, Order) and all(a.contains(v) for v in b.options):
        return a
    if isinstance(a, Bool) and isinstance(b, Bool):
        return a
    if isinstance(a, Permutation | Subset) and replace(a, guess=None) == replace(b, guess=None):
        return a
    raise SpaceError(
        f"A parameter must keep its type and scale in all trials; '{name}' was {a.to_dict()} and is now {b.to_dict()}. "
        f"Give one of them another name."
    )


def _aligned(a: Float, b: Float) -> bool:
    """Whether two ranges have one scale, and steps that fall on the same values."""
    if (a.log, a.step) != (b.log, b.step):
        return False
    steps = (b.low - a.low) / a.step if a.step is not None else 0.0
    return abs(steps - round(steps)) < 1e-9


def infer(space: Space, trials: Trials) -> Space:
    """The space with the conditions that past trials show.

    A parameter that some trials did not meet is put under the first earlier parameter with options whose values
    separate the trials that met it from those that did not; where none does, it stays unconditional. A known
    condition stays while it explains every trial.

    Args:
        space: The present version.
        trials: Configuration of each finished trial, and the names it met; O(n d) once conditions are known.

    Returns:
        A new version, or the same object when nothing changes.
    """
    when: dict[str, dict[str, Any]] = {}
    names = list(space.domains)
    seen = {name for _, met in trials for name in met}
    for index, name in enumerate(names):
        condition = space.when.get(name)
        if name in seen and not _explains(condition, name, trials):
            condition = _separator(space, names[:index], name, trials)
        if condition:
            when[name] = condition
    if {k: repr(v) for k, v in when.items()} == {k: repr(v) for k, v in space.when.items()}:
        return space
    return Space(space.domains, when=when, constraints=space.own)


def _explains(condition: Mapping[str, Any] | None, name: str, trials: Trials) -> bool:
    """Whether a known condition says of every trial whether it met the parameter; then it stays."""
    for config, met in trials:
        on = all(p in config and _fits(config[p], v) for p, v in (condition or {}).items())
        if on != (name in met):
            return False
    return True


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Range):
        return wanted.holds(value)
    return key(value) in {key(v) for v in (wanted if isinstance(wanted, list) else [wanted])}


def _separator(space: Space, earlier: Sequence[str], name: str, trials: Trials) -> dict[str, Any] | None:
    """A condition on one earlier parameter that tells the trials that met the parameter from the others."""
    if all(name in met for _, met in trials):
        return None
    for parent in earlier:
        domain = space.domains[parent]
        if not isinstance(domain, Choice | Bool | Order):
            continue
        here = {key(config[parent]) for config, met in trials if name in met and parent in met}
        away = {key(config[parent]) for config, met in trials if name not in met and parent in met}
        orphans = any(name in met and parent not in met for _, met in trials)
        if here and not orphans and not here & away:
            # A value that nobody has tried may well open the branch: it is left open until seen.
            return {parent: [o for o in domain.options if key(o) not in away]}
    return None
