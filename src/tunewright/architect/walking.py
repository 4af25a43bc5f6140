"""From a search to a specified architecture, one choice after another."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

from tunewright.architect.language import (
    DOMAINS,
    AnyOrder,
    Module,
    Optional,
    Or,
    Parallel,
    Part,
    Repeat,
    Residual,
    Search,
    Sequence,
    copy_of,
    inside,
    join,
    labels_of,
    search_of,
)
from tunewright.core.combinatorial import Permutation
from tunewright.core.domains import Choice, Domain, Order
from tunewright.errors import SpaceError

Choose = Callable[[str, Domain], Any]
Walk = Generator[tuple[str, Domain], Any, Search]


def traverse(search: Part, choose: Choose) -> Search:
    """Specifies a search by one choice after another, parents before what depends on them; only what is chosen is visited.

    Args:
        search: What to specify.
        choose: From the name and the domain of a parameter to its value.

    Returns:
        The specified architecture.

    Raises:
        SpaceError: If a value is not in its domain.
    """
    walk = _walk_from(search)
    try:
        name, domain = next(walk)
        while True:
            name, domain = walk.send(_checked(name, domain, choose(name, domain)))
    except StopIteration as end:
        done: Search = end.value
        return done


def graph(search: Part, config: Mapping[str, Any]) -> Search:
    """The architecture that a configuration specifies; parameters of other parts of your space are left aside.

    Args:
        search: What was searched.
        config: Values by name, as a method proposes them for ``space(search)``.

    Raises:
        SpaceError: If a value is missing or not in its domain.
    """

    def look_up(name: str, domain: Domain) -> Any:
        if name not in config:
            raise SpaceError(
                f"A configuration needs a value for '{name}'; got {dict(config)!r:.400}. Add it."
            )
        return config[name]

    return traverse(search, look_up)


def next_choice(search: Part, config: Mapping[str, Any]) -> tuple[str, Domain] | None:
    """The first parameter that a partial configuration leaves open, with its domain; None when all is specified.

    Raises:
        SpaceError: If a value is not in its domain.
    """
    walk = _walk_from(search)
    try:
        name, domain = next(walk)
        while name in config:
            name, domain = walk.send(_checked(name, domain, config[name]))
    except StopIteration:
        return None
    walk.close()
    return name, domain


def modules(architecture: Part) -> tuple[Module, ...]:
    """The modules of a specified architecture in order; parallel parts one after another.

    Raises:
        SpaceError: If something is left to choose.
    """
    part = search_of(architecture)
    if isinstance(part, Module):
        if any(isinstance(v, DOMAINS) for v in part.settings.values()):
            raise _open(part)
        return (part,)
    if isinstance(part, Residual):
        return modules(part.part)
    if isinstance(part, Sequence | Parallel):
        return tuple(m for p in part.parts for m in modules(p))
    raise _open(part)


def _walk_from(search: Part) -> Walk:
    part = search_of(search)
    return _walk(part, inside("", part))


def _walk(part: Search, path: str) -> Walk:
    """Yields the name and domain of every parameter that counts, is sent its value, and returns what is specified."""
    match part:
        case Module():
            settings = {}
            for key, value in part.settings.items():
                settings[key] = (yield join(path, key), value) if isinstance(value, DOMAINS) else value
            return Module(part.kind, name=part.name, **settings)
        case Sequence():
            return Sequence(*(yield from _walk_all(part.parts, path)), name=part.name)
        case Parallel():
            return Parallel(*(yield from _walk_all(part.parts, path)), merge=part.merge, name=part.name)
        case Or():
            labels = labels_of(part.parts)
            label = (yield path, Choice(labels)) if len(labels) > 1 else labels[0]
            return (yield from _walk(part.parts[labels.index(label)], join(path, label)))
        case AnyOrder():
            labels = labels_of(part.parts)
            order = (yield path, Permutation(labels)) if len(labels) > 1 else labels
            made = dict(zip(labels, (yield from _walk_all(part.parts, path)), strict=True))
            return Sequence(*(made[label] for label in order))
        case Optional():
            if not (yield path, Choice([False, True])):
                return Sequence()
            return (yield from _walk(part.part, inside(path, part.part)))
        case Residual():
            return Residual((yield from _walk(part.part, inside(path, part.part))), name=part.name)
        case Repeat():
            return (yield from _walk_copies(part, path))


def _walk_all(parts: tuple[Search, ...], path: str) -> Generator[tuple[str, Domain], Any, list[Search]]:
    made = []
    for label, part in zip(labels_of(parts), parts, strict=True):
        made.append((yield from _walk(part, join(path, label))))
    return made


def _walk_copies(part: Repeat, path: str) -> Walk:
    counts = part.counts
    count = (yield path, Order(list(counts))) if len(counts) > 1 else counts[0]
    copies: list[Search] = []
    for number in range(1, count + 1):
        if part.tied and copies:
            copies.append(copies[0])
        else:
            place = inside(copy_of(part, path, number), part.part)
            copies.append((yield from _walk(part.part, place)))
    return Sequence(*copies)


def _checked(name: str, domain: Domain, value: Any) -> Any:
    if not domain.contains(value):
        raise SpaceError(
            f"'{name}' must be a value of {domain!r:.200}; got {value!r:.200}. Correct the value."
        )
    return value


def _open(part: Search) -> SpaceError:
    return SpaceError(
        f"An architecture must be specified; got {part!r:.200} with choices left. Call graph(search, config) first."
    )
