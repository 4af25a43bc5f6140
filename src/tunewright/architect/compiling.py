"""From a search to a space."""

from __future__ import annotations

from dataclasses import dataclass, field
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
from tunewright.core.space import Space
from tunewright.errors import SpaceError


def space(search: Part, /, **more: Domain) -> Space:
    """The search as a space: alternatives are nested under a ``Choice``, copies depend on their number.

    Args:
        search: What to search.
        more: Parameters besides the architecture, such as a learning rate; they come first, since methods that decide
            one parameter after another should decide early what matters most.

    Raises:
        SpaceError: If two parameters have the same name.
    """
    plan = _Plan()
    for name, domain in more.items():
        plan.add(name, domain, {})
    part = search_of(search)
    _lay_out(part, inside("", part), {}, plan)
    return plan.space()


@dataclass(slots=True)
class _Plan:
    """A space in the making: parameters and their conditions."""

    domains: dict[str, Domain] = field(default_factory=dict)
    when: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, domain: Domain, given: dict[str, Any]) -> None:
        if name in self.domains:
            raise SpaceError(
                f"Parameter names must be distinct; got '{name}' twice. Give one of the parts another name."
            )
        self.domains[name] = domain
        if given:
            self.when[name] = given

    def space(self) -> Space:
        return Space(self.domains, when=self.when)


def _lay_out(part: Search, path: str, given: dict[str, Any], plan: _Plan) -> None:
    """Adds the parameters of a part; ``given`` is the condition under which it is there."""
    match part:
        case Module():
            for key, value in part.settings.items():
                if isinstance(value, DOMAINS):
                    plan.add(join(path, key), value, given)
        case Sequence() | Parallel():
            for label, p in zip(labels_of(part.parts), part.parts, strict=True):
                _lay_out(p, join(path, label), given, plan)
        case Or():
            _lay_out_alternatives(part, path, given, plan)
        case AnyOrder():
            labels = labels_of(part.parts)
            if len(labels) > 1:
                plan.add(path, Permutation(labels), given)
            _lay_out(Parallel(*part.parts), path, given, plan)
        case Optional():
            plan.add(path, Choice({False: None, True: _branch(part.part, inside(path, part.part))}), given)
        case Residual():
            _lay_out(part.part, inside(path, part.part), given, plan)
        case Repeat():
            _lay_out_copies(part, path, given, plan)


def _lay_out_alternatives(part: Or, path: str, given: dict[str, Any], plan: _Plan) -> None:
    places = dict(zip(labels_of(part.parts), part.parts, strict=True))
    if len(places) > 1:
        plan.add(path, Choice({label: _branch(p, join(path, label)) for label, p in places.items()}), given)
    else:
        ((label, only),) = places.items()
        _lay_out(only, join(path, label), given, plan)


def _lay_out_copies(part: Repeat, path: str, given: dict[str, Any], plan: _Plan) -> None:
    if len(part.counts) > 1:
        plan.add(path, Order(list(part.counts)), given)
    for number in range(1, min(part.counts[-1], 1 if part.tied else part.counts[-1]) + 1):
        enough = [c for c in part.counts if c >= number]
        here = given if len(enough) == len(part.counts) else {path: enough}
        _lay_out(part.part, inside(copy_of(part, path, number), part.part), here, plan)


def _branch(part: Search, path: str) -> Space | None:
    """What is to be chosen within an alternative."""
    plan = _Plan()
    _lay_out(part, path, {}, plan)
    return plan.space() if plan.domains else None
