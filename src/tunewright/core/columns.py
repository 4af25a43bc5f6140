"""How a space is laid out as columns of codes, which of them are active, and how a domain reads in words."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.core.combinatorial import plain_list
from tunewright.core.constraints import Constraint, Forbidden, Linear, Predicate, Range
from tunewright.core.domains import (
    Bool,
    Choice,
    Codes,
    Domain,
    Float,
    Int,
    Order,
    Permutation,
    Scalar,
    Subset,
    key,
    plain,
)
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


class Owner(NamedTuple):
    """The parameter that a column belongs to together with others."""

    name: str
    path: str
    domain: Permutation | Subset
    part: int  # number of the column within the parameter


class Column(NamedTuple):
    """One column of codes: a parameter, or a part of one that spans several."""

    name: str
    path: str
    domain: Scalar
    gates: tuple[Gate, ...]
    owner: Owner | None = None


class Entry(NamedTuple):
    """One parameter, and the columns that hold it."""

    name: str
    path: str
    domain: Domain
    gates: tuple[Gate, ...]
    first: int
    width: int  # 0 for a parameter of a single code, else the number of codes
    encode: Callable[[Any], Any]  # to a code, or a list of ``width`` codes
    decode: Callable[[Any], Any]

    @property
    def where(self) -> slice:
        """Its columns."""
        return slice(self.first, self.first + max(self.width, 1))


@dataclass(frozen=True, slots=True)
class Layout:
    """What a model needs to know about the columns, as arrays of length ``d``.

    Attributes:
        levels: 0 for continuous columns, else the number of levels.
        categorical: True where values have no order.
        parent: Index of the column that switches this one, or -1.
        group: Number of the parameter that the column belongs to.
    """

    levels: NDArray[np.int64]
    categorical: NDArray[np.bool_]
    parent: NDArray[np.int64]
    group: NDArray[np.int64]

    @property
    def d(self) -> int:
        """Number of columns."""
        return len(self.levels)


def entries_of(columns: Iterable[Column]) -> tuple[Entry, ...]:
    """The parameters behind some columns."""
    out: list[Entry] = []
    for j, c in enumerate(columns):
        if c.owner is None:
            out.append(Entry(c.name, c.path, c.domain, c.gates, j, 0, *c.domain.coder()))
        elif c.owner.part == 0:
            name, path, domain, _ = c.owner
            encode = functools.partial(_encode_whole, domain)
            out.append(Entry(name, path, domain, c.gates, j, domain.width, encode, domain.decode))
    return tuple(out)


def _encode_whole(domain: Permutation | Subset, value: Any) -> list[float]:
    if not domain.contains(value):
        raise ValueError(value)
    return domain.encode(value)


def layout_of(columns: Iterable[Column], entries: Iterable[Entry]) -> Layout:
    """The columns as arrays.

    Positions in an order count as continuous: a method then moves an item past several others in one step, and two
    items never end up on one level.
    """
    columns = tuple(columns)
    group = [i for i, e in enumerate(entries) for _ in range(max(e.width, 1))]
    positions = [c.owner is not None and isinstance(c.owner.domain, Permutation) for c in columns]
    levels = [0 if p else c.domain.levels for p, c in zip(positions, columns, strict=True)]
    return Layout(
        np.array(levels, dtype=np.int64),
        np.array([c.domain.categorical for c in columns], dtype=np.bool_),
        np.array([c.gates[0].column if c.gates else -1 for c in columns], dtype=np.int64),
        np.array(group, dtype=np.int64),
    )


def checked_domain(name: str, domain: Any) -> Domain:
    """Returns the domain, or says what it should have been."""
    if isinstance(domain, Float | Int | Choice | Order | Bool | Permutation | Subset):
        return domain
    if isinstance(domain, Mapping | list | tuple):
        raise SpaceError(
            f"'{name}' must be Float, Int, Choice, Order, Bool, Permutation or Subset; got {domain!r}. Wrap it: Choice({domain!r})."
        )
    raise SpaceError(
        f"'{name}' must be Float, Int, Choice, Order, Bool, Permutation or Subset; got {domain!r}. Fix it in your code instead."
    )


def advice(name: str, known: Iterable[str]) -> str:
    """The known name nearest to a mistyped one, or else all known names."""
    names = list(known)
    return meant(name, names) or f" Use one of {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."


def meant(name: str, known: Iterable[str]) -> str:
    """A hint at the known name nearest to a mistyped one, or nothing."""
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f" Did you mean '{close[0]}'?" if close else ""


def checked_constraints(forbidden: Any, constraints: Any) -> tuple[Constraint, ...]:
    """The constraints of a space from what the user gave; functions of the same name get a number each.

    Raises:
        SpaceError: If one of them is something else.
    """
    made: list[Constraint] = []
    for combination in forbidden:
        if not isinstance(combination, Mapping) or not combination:
            raise SpaceError(
                f"A forbidden combination must map names to values; got {combination!r:.120}. Write {{'name': value}}."
            )
        made.append(Forbidden({k: _plain_values(v) for k, v in combination.items()}))
    labels: dict[str, int] = {}
    for given in constraints:
        constraint = given if isinstance(given, Linear | Forbidden | Predicate) else _predicate(given)
        if isinstance(constraint, Predicate):
            count = labels[constraint.label] = labels.get(constraint.label, 0) + 1
            if count > 1:
                constraint = Predicate(f"{constraint.label}#{count}", constraint.test)
        made.append(constraint)
    return tuple(made)


def _predicate(test: Any) -> Predicate:
    """Wraps a function of the configuration as a constraint."""
    if not callable(test):
        raise SpaceError(f"A constraint must be Linear or a function of the configuration; got {test!r}.")
    return Predicate(f"{getattr(test, '__module__', '?')}:{getattr(test, '__qualname__', repr(test))}", test)


def _plain_values(value: Any) -> Any:
    """A plain value, or a tuple of them in an order that does not depend on the process."""
    if isinstance(value, set | frozenset):
        return tuple(sorted(map(plain, value), key=lambda o: (type(o).__name__, str(o))))
    if isinstance(value, list | tuple):
        return tuple(plain_list(x) if isinstance(x, list | tuple) else plain(x) for x in value)
    return plain(value)


def check_names(constraint: Constraint, entries: Iterable[Entry]) -> None:
    """Refuses a constraint on parameters that do not exist or that cannot have the values it speaks of.

    Raises:
        SpaceError: Naming the parameter.
    """
    known: dict[str, list[Domain]] = {}
    for entry in entries:
        known.setdefault(entry.name, []).append(entry.domain)
    for name in constraint.names:
        if name not in known:
            raise SpaceError(
                f"A constraint must name parameters of the space; got '{name}'.{advice(name, known)}"
            )
        if isinstance(constraint, Linear):
            for domain in known[name]:
                if isinstance(domain, Permutation | Subset) or not all(
                    isinstance(v, int | float) for v in getattr(domain, "options", ())
                ):
                    raise SpaceError(
                        f"A Linear constraint needs numbers; '{name}' is {describe(domain)}. Use forbidden or a function."
                    )
        elif isinstance(constraint, Forbidden):
            value = constraint.values[name]
            for v in value if isinstance(value, tuple) else (value,):
                if not any(_may_be(domain, v) for domain in known[name]):
                    raise SpaceError(
                        f"A forbidden combination must name possible values; '{name}' is {describe(known[name][0])}; got {v!r}. Name one of them, or leave the rule out."
                    )


def _may_be(domain: Domain, value: Any) -> bool:
    """Whether a parameter can have this value; a range may have been narrowed since the rule was made."""
    if isinstance(domain, Float | Int):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(domain, Permutation):
        return domain.contains(value)
    if isinstance(value, list):
        return isinstance(domain, Subset) and domain.contains(value)
    return any(value == o and isinstance(value, bool) == isinstance(o, bool) for o in domain.options)


def checked_conditions(when: Any) -> dict[str, dict[str, Any]]:
    """Conditions with plain values; several values become a list.

    Raises:
        SpaceError: If they are not a mapping from name to mapping.
    """
    if when is not None and not isinstance(when, Mapping):
        raise SpaceError(
            f"when must map names to conditions; got {when!r:.120}. Write {{'child': {{'parent': value}}}}."
        )
    out: dict[str, dict[str, Any]] = {}
    for name, conditions in (when or {}).items():
        if not isinstance(conditions, Mapping):
            raise SpaceError(
                f"A condition must map an earlier parameter to its values; '{name}' has {conditions!r:.120}. "
                f"Write {{'{name}': {{'parent': value}}}}."
            )
        if conditions:
            out[name] = {p: v if isinstance(v, Range) else _plain_condition(v) for p, v in conditions.items()}
    return out


def _plain_condition(value: Any) -> Any:
    values = _plain_values(value)
    return list(values) if isinstance(values, tuple) else values


def lay_out(space: Space, prefix: str, columns: list[Column], taken: Set[str] = frozenset()) -> set[str]:
    """Appends the columns of a space and of the spaces nested in it, parents before children.

    Args:
        space: The space.
        prefix: Path of the branch it lies in.
        columns: Where to append.
        taken: Names that can be active together with this space.

    Returns:
        The names of all its columns.

    Raises:
        SpaceError: If two parameters that can be active together share a name, or a condition cannot be used.
    """
    for name in space.domains:
        _check_free(name, taken)
    for name in space.when:
        if name not in space.domains:
            raise SpaceError(
                f"A condition must be on a parameter of the space; got '{name}'.{meant(name, space.domains)}"
            )
    here: dict[str, int] = {}
    busy = set(taken) | set(space.domains)
    mine = set(space.domains)
    for name, domain in space.domains.items():
        gates = tuple(_gate(space, name, p, v, here, columns) for p, v in space.when.get(name, {}).items())
        here[name] = len(columns)
        if isinstance(domain, Permutation | Subset):
            columns.extend(_parts(name, prefix + name, domain, gates))
        else:
            columns.append(Column(name, prefix + name, domain, gates))
        if isinstance(domain, Choice):
            nested = _lay_out_branches(domain, prefix + name, columns, busy)
            busy |= nested
            mine |= nested
    return mine


def _parts(name: str, path: str, domain: Permutation | Subset, gates: tuple[Gate, ...]) -> Iterable[Column]:
    """The columns of a parameter that spans several: positions of items, or options that are in or out."""
    inside: list[Any] = domain.guess if isinstance(domain.guess, list) else []
    known = {key(v): i + 1 for i, v in enumerate(inside)}
    items = domain.items if isinstance(domain, Permutation) else domain.options
    for part, (item, label) in enumerate(zip(items, domain.labels, strict=True)):
        scalar: Scalar
        trust: dict[str, Any] = {} if domain.guess is None else {"confidence": domain.confidence}
        if isinstance(domain, Subset):
            scalar = Bool(guess=None if domain.guess is None else key(item) in known, **trust)
        elif domain.width == 1:
            scalar = Order([1], guess=known.get(key(item)), **trust)
        else:
            scalar = Int(1, domain.width, guess=known.get(key(item)), **trust)
        owner = Owner(name, path, domain, part)
        yield Column(f"{name}[{label}]", f"{path}[{label}]", scalar, gates, owner)


def _check_free(name: str, taken: Set[str]) -> None:
    if name in taken:
        raise SpaceError(
            f"Parameter names must be distinct where both can be active; got '{name}' twice. Rename one."
        )


def _lay_out_branches(choice: Choice, path: str, columns: list[Column], taken: Set[str]) -> set[str]:
    """The branches of the choice in the last column; only one of them is active, so they may share names."""
    index, k = len(columns) - 1, len(choice.options)
    names: set[str] = set()
    for level, branch in enumerate(choice.branches):
        if branch is None:
            continue
        gate = Gate(index, frozenset((level,)), 0.0, float(k))
        nested: list[Column] = []
        offset = len(columns)
        names |= lay_out(branch, f"{path}={choice.options[level]}/", nested, taken)
        for column in nested:
            moved = tuple(g._replace(column=g.column + offset) for g in column.gates)
            columns.append(column._replace(gates=(*moved, gate)))
    return names


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
            f"A condition must name a parameter of the space; '{name}' depends on '{parent}'.{advice(parent, space.domains)}"
        )
    owner = columns[here[parent]].owner
    if owner is not None:
        return _member_gate(here[parent], parent, owner.domain, value)
    domain = columns[here[parent]].domain
    if isinstance(value, Range):
        if isinstance(domain, Choice | Order | Bool):
            raise SpaceError(
                f"A Range condition needs a number; '{parent}' is {describe(domain)}. List its values instead."
            )
        gate = _range_gate(here[parent], domain, value)
    else:
        gate = _values_gate(here[parent], parent, domain, value if isinstance(value, list) else [value])
    if gate.allowed == frozenset() or gate.high < 0 or gate.low > 1 or gate.low >= gate.high:
        raise SpaceError(
            f"A condition must be possible; '{name}' depends on {value!r}, which '{parent}', {describe(domain)}, never is. "
            f"Correct the condition."
        )
    return gate


def _member_gate(first: int, parent: str, domain: Permutation | Subset, value: Any) -> Gate:
    """The gate that opens while a selection contains an option."""
    options = [key(o) for o in domain.options] if isinstance(domain, Subset) else []
    if isinstance(value, Range | list) or key(value) not in options:
        raise SpaceError(
            f"A condition on '{parent}', {domain.describe()}, must name one option of a Subset; got {value!r:.120}. "
            f"Put the parameter under another one."
        )
    return Gate(first + options.index(key(value)), frozenset((1,)), 0.0, 2.0)


def _values_gate(column: int, parent: str, domain: Scalar, values: list[Any]) -> Gate:
    for v in values:
        if not domain.contains(v):
            raise SpaceError(
                f"A condition must name a possible value of '{parent}', {describe(domain)}; got {v!r}."
            )
    if isinstance(domain, Float) or domain.levels == 0:
        raise SpaceError(
            f"A condition on the number '{parent}' needs a Range; got {values!r}. Write Range(low, high)."
        )
    encode, _ = domain.coder()
    k = domain.levels
    return Gate(column, frozenset(min(int(encode(v) * k), k - 1) for v in values), 0.0, float(k))


def _range_gate(column: int, domain: Float | Int, wanted: Range) -> Gate:
    """The gate of a range of numbers; it agrees with the decoded value for every code, not only for bin centres."""
    encode, decode = domain.coder()
    k = domain.levels
    if k:
        values = [decode((i + 0.5) / k) for i in range(k)]
        # A bound typed in decimal need not be the float that adding steps arrives at.
        slack = 0.0 if isinstance(domain, Int) else 1e-9 * (domain.step or 0.0)
        fits = frozenset(i for i, v in enumerate(values) if wanted.holds(v, slack))
        return Gate(column, fits, 0.0, float(k))
    low, high = wanted.low, wanted.high
    above = -np.inf if low is None or low <= domain.low else _edge(domain, encode, low, upper=False)
    below = np.inf if high is None or high >= domain.high else _edge(domain, encode, high, upper=True)
    return Gate(column, None, float(above), float(below))


def _edge(domain: Float | Int, encode: Callable[[Any], float], bound: float, *, upper: bool) -> float:
    """Code at which a number with too many values to list, or a continuous one, crosses a bound."""
    sign = 1.0 if upper else -1.0
    if not domain.low <= bound <= domain.high:
        return -np.inf if upper else np.inf
    if isinstance(domain, Float) and domain.step is None:
        return encode(bound) + sign * 1e-12
    if isinstance(domain, Int) and domain.log:
        whole = math.floor(bound) if upper else math.ceil(bound)
        return encode(whole + sign * 0.5)
    steps = (bound - domain.low) / (domain.step or 1)
    k = domain.count
    # Bins are closed below and open above.
    return (math.floor(steps + 1e-9) + 1) / k - min(1e-12, 0.25 / k) if upper else math.ceil(steps - 1e-9) / k


def grid_values(domain: Scalar, resolution: int) -> Codes:
    """Codes of the values that a grid tries."""
    encode, decode = domain.coder()
    if domain.levels:
        return (np.arange(domain.levels) + 0.5) / domain.levels
    if isinstance(domain, Int) and domain.count <= resolution:
        return np.array([encode(v) for v in range(domain.low, domain.high + 1, domain.step)])
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
    if isinstance(domain, Permutation | Subset):
        return domain.describe()
    if isinstance(domain, Bool):
        return "True or False"
    options = [repr(o) for o in domain.options]
    shown = ", ".join(options[:8]) + (f", ... ({len(options)} in all)" if len(options) > 8 else "")
    return f"one of {shown}" + (" in this order" if isinstance(domain, Order) else "")


def changes(path: str, was: Domain, now: Domain) -> list[str]:
    """Says in plain lines what changes from one domain to another, branches left aside; empty when nothing does."""
    old, new = describe(was), describe(now)
    if old != new:
        return [f"~ {path}: {old} -> {new}"]
    if isinstance(was, Choice | Order) and isinstance(now, Choice | Order):
        a, b = [repr(o) for o in was.options], [repr(o) for o in now.options]
        if a != b:
            gone, added = [o for o in a if o not in b], [o for o in b if o not in a]
            if not gone and not added:
                return [f"~ {path}: order of the options changed"]
            parts = [f"without {', '.join(gone[:8])}"] if gone else []
            parts += [f"with {', '.join(added[:8])}"] if added else []
            return [f"~ {path}: {' and '.join(parts)}"]
    if repr((was.guess, was.confidence)) != repr((now.guess, now.confidence)):
        return [f"~ {path}: another guess"]
    return []


def condition_to_json(value: Any) -> Any:
    """The JSON form of a condition's value."""
    return {"low": value.low, "high": value.high} if isinstance(value, Range) else value


def condition_from_json(value: Any) -> Any:
    """A condition's value from its JSON form."""
    return Range(value.get("low"), value.get("high")) if isinstance(value, Mapping) else value
