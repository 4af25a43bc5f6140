"""How a space is laid out as columns of codes, which of them are active, and how a domain reads in words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.core.constraints import Predicate, Range
from tunewright.core.domains import Bool, Choice, Codes, Domain, Float, Int, Order, plain
from tunewright.errors import SpaceError

if TYPE_CHECKING:
    from tunewright.core.space import Space


class Gate(NamedTuple):
    """A parameter is active only while column ``column`` holds one of these values."""

    column: int
    allowed: frozenset[int] | None  # levels, for a parent with options
    low: float  # codes, for a parent that is a number
    high: float

    def open(self, codes: Codes) -> NDArray[np.bool_]:
        """Which of the parent's codes, shape ``(n,)``, let the child be active."""
        if self.allowed is None:
            return (codes >= self.low) & (codes <= self.high)
        k = int(self.high)
        level = np.minimum((np.nan_to_num(codes) * k).astype(np.int64), k - 1)
        table = np.zeros(k, dtype=np.bool_)
        table[list(self.allowed)] = True
        return np.asarray(table[level])

    def open_one(self, code: float) -> bool:
        """The same for one code."""
        if self.allowed is None:
            return self.low <= code <= self.high
        k = int(self.high)
        return min(int(code * k), k - 1) in self.allowed


class Column(NamedTuple):
    """One parameter as a column of codes."""

    name: str
    path: str
    domain: Domain
    gates: tuple[Gate, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a model needs to know about the columns, as arrays of length ``d``.

    Attributes:
        levels: 0 for continuous columns, else the number of levels.
        categorical: True where values have no order.
        parent: Index of the column that switches this one, or -1.
    """

    levels: NDArray[np.int64]
    categorical: NDArray[np.bool_]
    parent: NDArray[np.int64]

    @property
    def d(self) -> int:
        """Number of columns."""
        return len(self.levels)


def checked_name(name: Any) -> str:
    """Returns a parameter name that can be stored and shown."""
    if not isinstance(name, str) or not name or len(name) > 256:
        raise SpaceError(
            f"A parameter name must be a string of 1 to 256 characters; got {name!r:.80}. Rename it."
        )
    if any(0xD800 <= ord(c) <= 0xDFFF or ord(c) < 32 for c in name):
        raise SpaceError(f"A parameter name must be printable text; got {name!r:.80}. Rename it.")
    return name


def checked_domain(name: str, domain: Any) -> Domain:
    """Returns the domain, or says what it should have been."""
    if isinstance(domain, Float | Int | Choice | Order | Bool):
        return domain
    if isinstance(domain, Mapping | list | tuple):
        raise SpaceError(
            f"'{name}' must be Float, Int, Choice, Order or Bool; got {domain!r}. Wrap it: Choice({domain!r})."
        )
    raise SpaceError(
        f"'{name}' must be Float, Int, Choice, Order or Bool; got {domain!r}. Fix it in your code instead."
    )


def meant(name: str, known: Iterable[str]) -> str:
    """A hint at the known name nearest to a mistyped one, or nothing."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean '{close[0]}'?" if close else ""


def predicate(test: Any) -> Predicate:
    """Wraps a function of the configuration as a constraint."""
    if not callable(test):
        raise SpaceError(f"A constraint must be Linear or a function of the configuration; got {test!r}.")
    return Predicate(f"{getattr(test, '__module__', '?')}:{getattr(test, '__qualname__', repr(test))}", test)


def plain_values(combination: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of a forbidden combination."""
    return {
        k: tuple(plain(x) for x in v) if isinstance(v, list | tuple | set) else plain(v)
        for k, v in combination.items()
    }


def lay_out(space: Space, prefix: str, gates: tuple[Gate, ...], columns: list[Column]) -> None:
    """Appends the columns of a space and of the spaces nested in it, parents before children."""
    known = {c.name for c in columns}
    for name in space.when:
        if name not in space.domains:
            raise SpaceError(
                f"A condition must be on a parameter of the space; got '{name}'.{meant(name, space.domains)}"
            )
    here: dict[str, int] = {}
    for name, domain in space.domains.items():
        if name in known:
            raise SpaceError(
                f"Parameter names must be distinct where both can be active; got '{name}' twice. Rename one."
            )
        own = gates + tuple(
            _gate(space, name, p, v, here, columns) for p, v in space.when.get(name, {}).items()
        )
        here[name] = index = len(columns)
        columns.append(Column(name, prefix + name, domain, own))
        if isinstance(domain, Choice):
            _lay_out_branches(domain, prefix + name, index, own, columns, set(space.domains) | known)


def _lay_out_branches(
    choice: Choice, path: str, index: int, gates: tuple[Gate, ...], columns: list[Column], taken: set[str]
) -> None:
    k = len(choice.options)
    for level, branch in enumerate(choice.branches):
        if branch is None:
            continue
        for name in branch.domains:
            if name in taken:
                raise SpaceError(
                    f"Parameter names must be distinct where both can be active; got '{name}' twice. Rename one."
                )
        gate = Gate(index, frozenset((level,)), 0.0, float(k))
        nested: list[Column] = []
        offset = len(columns)
        lay_out(branch, f"{path}={choice.options[level]}/", (), nested)
        for column in nested:
            moved = tuple(g._replace(column=g.column + offset) for g in column.gates)
            columns.append(column._replace(gates=(gate, *moved) if not moved else moved + (gate,)))


def _gate(
    space: Space, name: str, parent: str, value: Any, here: Mapping[str, int], columns: list[Column]
) -> Gate:
    if parent not in here:
        if parent in space.domains:
            raise SpaceError(
                f"A condition must name an earlier parameter; '{name}' depends on '{parent}', which comes later or is itself. "
                f"Reorder the parameters."
            )
        raise SpaceError(
            f"A condition must name a parameter of the space; '{name}' depends on '{parent}'.{meant(parent, space.domains)}"
        )
    domain = columns[here[parent]].domain
    encode, _ = domain.coder()
    if isinstance(value, Range):
        if isinstance(domain, Choice | Order | Bool):
            raise SpaceError(
                f"A Range condition needs a number; '{parent}' is {describe(domain)}. List its values instead."
            )
        low = -np.inf if value.low is None or value.low <= domain.low else encode(value.low) - 1e-12
        high = np.inf if value.high is None or value.high >= domain.high else encode(value.high) + 1e-12
        return Gate(here[parent], None, float(low), float(high))
    values = tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)
    for v in values:
        if not domain.contains(v):
            raise SpaceError(
                f"A condition must name a possible value of '{parent}', {describe(domain)}; got {v!r}."
            )
    if isinstance(domain, Float) or domain.levels == 0:
        raise SpaceError(
            f"A condition on the number '{parent}' needs a Range; got {value!r}. Write Range(low, high)."
        )
    k = domain.levels
    return Gate(here[parent], frozenset(min(int(encode(v) * k), k - 1) for v in values), 0.0, float(k))


def grid_values(domain: Domain, resolution: int) -> Codes:
    """Codes of the values that a grid tries."""
    encode, decode = domain.coder()
    if domain.levels:
        return (np.arange(domain.levels) + 0.5) / domain.levels
    codes = np.linspace(0.0, 1.0, resolution)
    values = list(dict.fromkeys(decode(float(u)) for u in codes))
    return np.array([encode(v) for v in values])


def describe(domain: Domain) -> str:
    """A domain in words, for messages and diffs."""
    if isinstance(domain, Float | Int):
        kind = "a number" if isinstance(domain, Float) else "a whole number"
        extra = ", log scale" if domain.log else ""
        if domain.step not in (None, 1) or (isinstance(domain, Float) and domain.step):
            extra += f", step {domain.step}"
        return f"{kind} in [{domain.low}, {domain.high}]{extra}"
    if isinstance(domain, Bool):
        return "True or False"
    options = [repr(o) for o in domain.options]
    shown = ", ".join(options[:8]) + (f", ... ({len(options)} in all)" if len(options) > 8 else "")
    return f"one of {shown}" + (" in this order" if isinstance(domain, Order) else "")


def condition_to_json(value: Any) -> Any:
    """The JSON form of a condition's value."""
    if isinstance(value, Range):
        return {"low": value.low, "high": value.high}
    return list(value) if isinstance(value, tuple | set | frozenset) else value


def condition_from_json(value: Any) -> Any:
    """A condition's value from its JSON form."""
    return Range(value.get("low"), value.get("high")) if isinstance(value, Mapping) else value
