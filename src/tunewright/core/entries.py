"""One parameter of a configuration: whether it is active, whether a value fits it, what it was in another version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from tunewright.core.columns import Column, Entry, Gate, describe, meant
from tunewright.core.combinatorial import Permutation, Subset, plain_list
from tunewright.core.domains import Float, Int, plain
from tunewright.errors import SpaceError


def is_open(row: list[float], gates: tuple[Gate, ...]) -> bool:
    """Whether a parameter is active, given the codes of those before it, NaN where inactive."""
    return all(row[g.column] == row[g.column] and g.open_one(row[g.column]) for g in gates)


def checked_value(entry: Entry, value: Any) -> Any:
    """The plain form of a value.

    Raises:
        SpaceError: If the parameter cannot have it.
    """
    domain = entry.domain
    if entry.width:
        value = plain_list(value)
        value = domain.ordered(value) if isinstance(domain, Subset) else value
    else:
        value = plain(value)
        value = float(value) if isinstance(domain, Float) and _number(value) else value
    if not domain.contains(value):
        raise SpaceError(f"'{entry.path}' must be {describe(domain)}; got {value!r:.400}. Correct the value.")
    return value


def projected(entry: Entry, value: Any) -> list[float] | None:
    """Codes of a value from another version of the space; None where it no longer exists."""
    domain = entry.domain
    if isinstance(domain, Permutation | Subset):
        return domain.known(value)
    if domain.contains(value):
        return [entry.encode(value)]
    if isinstance(domain, Float | Int) and _number(value):
        nearest = min(max(value, domain.low), domain.high)
        return [min(max(entry.encode(nearest), 0.0), 1.0)]
    return None


def stranger(
    name: str, config: Mapping[str, Any], columns: tuple[Column, ...], entries: tuple[Entry, ...]
) -> str:
    """Why a configuration must not have a value for this parameter."""
    gates = [columns[g.column] for e in entries if e.name == name for g in e.gates]
    deciders = {c.owner.name if c.owner is not None else c.name for c in gates}
    if deciders:
        which = " and ".join(f"'{d}'" for d in sorted(deciders))
        return f"'{name}' is not active here, which {which} decides; got {dict(config)!r}. Leave it out, or set {which} to fit."
    hint = meant(name, (e.name for e in entries)) or " Leave it out."
    return f"'{name}' is not a parameter of the space; got {dict(config)!r}.{hint}"


def _number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a number that fits a float; True is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e308
