"""The search space: named parameters, nested choices, conditions, constraints, and their coding in [0, 1]."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.columns import (
    Column,
    Entry,
    Layout,
    changes,
    check_names,
    checked_conditions,
    checked_constraints,
    checked_domain,
    condition_from_json,
    condition_to_json,
    describe,
    entries_of,
    lay_out,
    layout_of,
)
from tunewright.core.constraints import Constraint, check_guesses, constraint_from_dict
from tunewright.core.domains import (
    Choice,
    Codes,
    Domain,
    Float,
    Int,
    Permutation,
    Subset,
    domain_from_dict,
)
from tunewright.core.entries import checked_value, is_open, projected, stranger
from tunewright.core.feasible import Region
from tunewright.core.lattice import lattice
from tunewright.core.limits import PARAMETERS, checked_name
from tunewright.errors import SpaceError

_QUICK = ("free", "rejection")
_LISTED = 100_000
_LUCK = 32
_HUGE = 1e300
_NAN = float("nan")


class Space:
    """An ordered set of named parameters; immutable.

    A constraint of a nested space counts only while its branch is chosen.

    Args:
        parameters: Mapping from name to domain; keyword arguments work too.
        when: Conditions: for a parameter, the values of earlier parameters under which it is active. A value may
            be a scalar, a list of scalars, or a ``Range``.
        forbidden: Combinations that must not occur, each a mapping from name to value or tuple of values.
        constraints: ``Linear`` constraints, or functions of the configuration that return True when it is allowed.

    Raises:
        SpaceError: If names repeat, a condition names an unknown or later parameter, or no configuration at all
            satisfies the constraints.

    Example:
        >>> space = Space(
        ...     lr=Float(1e-5, 1e-1, log=True),
        ...     model=Choice({"svm": {"C": Float(1e-3, 1e3, log=True)}, "tree": {"depth": Int(1, 12)}}),
        ... )
        >>> space.d
        4
        >>> sorted(space.decode(space.encode({"lr": 1e-3, "model": "tree", "depth": 3})))
        ['depth', 'lr', 'model']
    """

    __slots__ = (
        "_believed",
        "_codecs",
        "_digest",
        "_flat",
        "_groups",
        "_nests",
        "_region",
        "_rounded",
        "_simple",
        "_smooth",
        "columns",
        "constraints",
        "domains",
        "entries",
        "layout",
        "own",
        "when",
    )

    columns: tuple[Column, ...]
    constraints: tuple[Constraint, ...]
    domains: dict[str, Domain]
    entries: tuple[Entry, ...]
    layout: Layout
    own: tuple[Constraint, ...]
    when: dict[str, dict[str, Any]]

    def __init__(
        self,
        parameters: Mapping[str, Domain] | None = None,
        /,
        *,
        when: Mapping[str, Mapping[str, Any]] | None = None,
        forbidden: Iterable[Mapping[str, Any]] = (),
        constraints: Iterable[Constraint | Callable[..., bool]] = (),
        **more: Domain,
    ) -> None:
        try:
            given = dict(parameters or {})
        except (TypeError, ValueError):
            raise SpaceError(
                f"A space must be given as a mapping from name to domain; got {parameters!r:.120}. Write {{'x': Float(0, 1)}}."
            ) from None
        for name in more:
            if name in given:
                raise SpaceError(f"Parameter names must be distinct; got '{name}' twice. Rename one of them.")
        given.update(more)
        self.domains = {}
        for name, domain in given.items():
            self.domains[checked_name("A parameter name", name, SpaceError)] = checked_domain(name, domain)
        self.when = checked_conditions(when)
        columns: list[Column] = []
        lay_out(self, "", columns)
        if len(columns) > PARAMETERS:
            raise SpaceError(
                f"A space takes at most {PARAMETERS} parameters; got {len(columns)}. Group some of them."
            )
        self.columns = tuple(columns)
        self.entries = entries_of(columns)
        self._codecs = tuple((e.name, e.encode, e.decode, e.gates, e.width) for e in self.entries)
        self.own = checked_constraints(forbidden, constraints)
        self.constraints = (*self.own, *(c for b in self._nested() for c in b.constraints))
        self._digest = ""
        self._believed = tuple(
            e for e in self.entries if e.domain.guess is not None and e.domain.confidence > 0.0
        )
        self._groups = tuple(e for e in self.entries if isinstance(e.domain, Permutation | Subset))
        self._flat = not any(c.gates for c in columns)
        self._simple = self._flat and not self._groups
        self._smooth = self._simple and all(c.domain.count == 0 for c in columns)
        self._rounded = tuple(
            e for e in self.entries
            if isinstance(e.domain, Float | Int) and e.domain.levels == 0 and e.domain.count
        )  # fmt: skip
        self.layout = layout_of(columns, self.entries)
        self._check_constraints()

    def _nested(self) -> Iterable[Space]:
        for domain in self.domains.values():
            if isinstance(domain, Choice):
                yield from (b for b in domain.branches if b is not None)

    def _check_constraints(self) -> None:
        for constraint in self.own:
            check_names(constraint, self.entries)
        check_guesses(self.own, self.defaults() if self.own else {})
        nests = [(first, b) for first, b in self._branches() if b.constraints]
        self._nests = tuple(nests)
        self._region = Region(self) if self.own else None

    def _branches(self) -> Iterable[tuple[int, Space]]:
        """The spaces nested in this one, each with its first column."""
        at = 0
        for domain in self.domains.values():
            at += domain.width if isinstance(domain, Permutation | Subset) else 1
            for branch in domain.branches if isinstance(domain, Choice) else ():
                if branch is not None:
                    yield at, branch
                    at += branch.d

    @property
    def sampling(self) -> str:
        """How draws satisfy the constraints of this space itself: ``free`` where it has none, ``rejection``,
        ``polytope`` (from inside the linear constraints) or ``chain`` (moves between known allowed configurations,
        whose law is only roughly the prior)."""
        return "free" if self._region is None else self._region.how

    @property
    def d(self) -> int:
        """Number of columns: one per parameter of the flattened tree, several for orders and selections."""
        return len(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each column; the same name may occur in several branches of one choice."""
        return tuple(c.name for c in self.columns)

    @property
    def grouped(self) -> bool:
        """Whether some parameter spans several columns, which then depend on each other."""
        return bool(self._groups)

    @property
    def conditional(self) -> bool:
        """Whether some parameter is active only sometimes."""
        return not self._flat

    @property
    def size(self) -> float:
        """Number of configurations before constraints, ``inf`` if some parameter is continuous.

        An upper bound in a space with conditions (other than nesting) and more than a hundred thousand of them.
        """
        total = _combinations(self)
        if total <= _LISTED and any(c.gates for c in self.columns):
            return float(len(lattice(self.entries, self.d, _LISTED, _LISTED)))
        return total

    def __eq__(self, other: object) -> bool:
        # By digest: as Python values, the options True and 1 are equal.
        return self is other or (isinstance(other, Space) and self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __deepcopy__(self, memo: dict[int, Any]) -> Space:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.domains, self.when, self.own)

    def __repr__(self) -> str:
        return (
            f"Space({', '.join(self.domains)})" if len(self.domains) <= 8 else f"Space({self.d} parameters)"
        )

    def decode(self, codes: Codes) -> dict[str, Any]:
        """Turns a row of codes, shape ``(d,)``, into a configuration.

        Codes of parameters that are inactive are ignored; they need not be NaN.
        """
        row = codes.tolist()
        if self._simple:
            return {name: decode(u) for (name, _, decode, _, _), u in zip(self._codecs, row, strict=True)}
        out: dict[str, Any] = {}
        active: list[bool] = []
        for name, _, decode, gates, width in self._codecs:
            on = all(active[g.column] and g.open_one(row[g.column]) for g in gates)
            at = len(active)
            if on:
                out[name] = decode(row[at : at + width] if width else row[at])
            active.extend([on] * (width or 1))
        return out

    def encode(self, config: Mapping[str, Any]) -> Codes:
        """Turns a configuration into a row of codes, shape ``(d,)``, NaN where inactive.

        Raises:
            SpaceError: If the configuration does not fit the space.
        """
        try:
            if self._simple:
                row = [encode(config[name]) for name, encode, _, _, _ in self._codecs]
                for u in row:
                    if not 0.0 <= u <= 1.0:
                        raise ValueError(u)
                return np.array(row, dtype=np.float64)
            row = []
            for name, encode, _, gates, width in self._codecs:
                on = is_open(row, gates)
                if width:
                    row.extend(encode(config[name]) if on else [_NAN] * width)
                    continue
                row.append(encode(config[name]) if on else _NAN)
                if on and not 0.0 <= row[-1] <= 1.0:
                    raise ValueError(row[-1])
            return np.array(row, dtype=np.float64)
        except (KeyError, TypeError, ValueError, OverflowError):
            self.check(config)
            raise

    def merge(self, codes: Codes, config: Mapping[str, Any]) -> dict[str, Any]:
        """Decodes a row of codes, shape ``(d,)`` without NaN, except for the parameters that ``config`` gives."""
        out: dict[str, Any] = {}
        row: list[float] = []
        given = codes.tolist()
        for name, encode, decode, gates, width in self._codecs:
            at = len(row)
            if not is_open(row, gates):
                row.extend([_NAN] * (width or 1))
                continue
            out[name] = (
                config[name] if name in config else decode(given[at : at + width] if width else given[at])
            )
            row.extend(encode(out[name]) if width else [encode(out[name])])
        return out

    def project(self, config: Mapping[str, Any]) -> Codes | None:
        """Codes of a configuration from another version of the space, shape ``(d,)``.

        Numbers outside the ranges go to the nearest bound and parameters that did not exist count as inactive;
        None when an option no longer exists.
        """
        row: list[float] = []
        for entry in self.entries:
            value, width = config.get(entry.name), entry.width
            if entry.name not in config or not is_open(row, entry.gates):
                row.extend([_NAN] * (width or 1))
                continue
            codes = projected(entry, value)
            if codes is None:
                return None
            row.extend(codes)
        return np.array(row, dtype=np.float64)

    def active(self, codes: Codes) -> NDArray[np.bool_]:
        """Which parameters are active in each row of ``codes``, shape ``(n, d)``."""
        mask = np.ones(codes.shape, dtype=np.bool_)
        if not self._flat:
            for j, column in enumerate(self.columns):
                for gate in column.gates:
                    mask[:, j] &= mask[:, gate.column] & gate.open(codes[:, gate.column])
        return mask

    def snap(self, codes: Codes) -> Codes:
        """Moves codes, shape ``(n, d)``, onto the nearest representable ones and marks inactive ones NaN."""
        out = np.clip(np.where(np.isnan(codes), 0.5, codes), 0.0, 1.0)
        for entry in self._groups:
            out[:, entry.where] = entry.domain.snap(out[:, entry.where])  # type: ignore[union-attr]
        levels = self.layout.levels
        some = np.flatnonzero(levels)
        if len(some):
            k = levels[some]
            out[:, some] = (np.minimum(np.floor(out[:, some] * k), k - 1) + 0.5) / k
        for entry in self._rounded:
            encode, decode = entry.encode, entry.decode
            out[:, entry.first] = [encode(decode(u)) for u in out[:, entry.first].tolist()]
        if not self._flat:
            out[~self.active(out)] = np.nan
        return out

    def feasible(self, config: Mapping[str, Any]) -> bool:
        """Whether a configuration satisfies every constraint."""
        return self.broken(config) is None

    def broken(self, config: Mapping[str, Any]) -> Constraint | None:
        """The first constraint that a configuration breaks; those of branches not chosen do not count."""
        for constraint in self.own:
            if not constraint.holds(config):
                return constraint
        if len(self.constraints) > len(self.own):
            for name, domain in self.domains.items():
                if isinstance(domain, Choice) and name in config:
                    branch = _branch(domain, config[name])
                    broken = branch.broken(config) if branch is not None else None
                    if broken is not None:
                        return broken
        return None

    def sample(self, rng: np.random.Generator, n: int = 1) -> Codes:
        """Draws codes, shape ``(n, d)``, from the prior: uniform, or around the guesses where they are given.

        Raises:
            SpaceError: If no configuration that satisfies the constraints is found.
        """
        if self._region is not None:
            return self._region.sample(self, rng, n)
        codes = self.prior(rng, n)
        return codes if self._smooth else self.snap(codes)

    def prior(self, rng: np.random.Generator, n: int) -> Codes:
        """Draws from the prior, shape ``(n, d)``, before they are snapped, and with codes for inactive parameters too.

        Constraints of nested spaces hold; those of this space itself are left aside.
        """
        u = rng.random((n, len(self.columns)))
        for entry in self._groups:
            if isinstance(entry.domain, Subset):
                u[:, entry.where] = entry.domain.draw(rng, n)
        for entry in self._believed:
            domain = entry.domain
            believed = rng.random((n, 1)) < domain.confidence
            if isinstance(domain, Permutation | Subset):
                near = domain.near(rng, n)
            elif domain.categorical:
                near = np.full((n, 1), entry.encode(domain.guess))
            else:
                near = np.abs(rng.normal(entry.encode(domain.guess), 0.1, (n, 1)))
                near = np.clip(np.where(near > 1, 2 - near, near), 0.0, 1.0)
            u[:, entry.where] = np.where(believed, near, u[:, entry.where])
        for first, branch in self._nests:
            inside = branch.sample(rng, n)
            place = slice(first, first + branch.d)
            u[:, place] = np.where(np.isnan(inside), u[:, place], inside)
        codes: Codes = u
        return codes

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draws one configuration from the prior; faster than ``decode(sample(rng))``.

        Raises:
            SpaceError: If no configuration that satisfies the constraints is found.
        """
        if not self._believed and not self._groups and not self._nests and self.sampling in _QUICK:
            for _ in range(_LUCK):
                config = self.decode(rng.random(len(self.columns)))
                if not self.constraints or self.broken(config) is None:
                    return config
        return self.decode(self.sample(rng, 1)[0])

    def repair(self, codes: Codes, rng: np.random.Generator) -> Codes:
        """Snaps codes, shape ``(n, d)``, and moves rows that break a constraint.

        Where only linear constraints are broken, a row goes to the nearest allowed one; else some of the way towards a
        fresh draw, or all of it.
        """
        out = self.snap(codes)
        if not self.constraints:
            return out
        bad = [i for i in range(len(out)) if not self.feasible(self.decode(out[i]))]
        if not bad:
            return out
        fresh = self.sample(rng, len(bad))
        for row, i in enumerate(bad):
            near = self._region.project(self, out[i]) if self._region is not None else None
            out[i] = self._towards(out[i], fresh[row]) if near is None else near
        return out

    def _towards(self, wanted: Codes, allowed: Codes) -> Codes:
        """The point nearest to ``wanted`` on the way to ``allowed`` that satisfies the constraints."""
        start = np.where(np.isnan(wanted), allowed, wanted)
        end = np.where(np.isnan(allowed), start, allowed)
        for share in (0.1, 0.25, 0.5, 0.75):
            mixed = start + share * (end - start)
            row: Codes = self.snap(np.where(self.layout.categorical, start, mixed)[None, :])[0]
            if self.feasible(self.decode(row)):
                return row
        return allowed

    def grid(self, resolution: int = 10, limit: int = 100_000) -> Codes:
        """Lists a full factorial grid, shape ``(n, d)``; parameters that models see as continuous get ``resolution``
        values, or all of them when there are no more. Points that break a constraint are left out.

        Raises:
            SpaceError: If the grid has more than ``limit`` points.
        """
        rows = lattice(self.entries, self.d, resolution, limit)
        if not self.constraints:
            return rows
        return rows[[i for i in range(len(rows)) if self.feasible(self.decode(rows[i]))]]

    def check(self, config: Mapping[str, Any], *, partial: bool = False) -> dict[str, Any]:
        """Returns the configuration with plain values in the order of the space.

        Args:
            config: Values by name.
            partial: Accept missing parameters.

        Raises:
            SpaceError: Naming the parameter, what it must be and what was got.
        """
        if not isinstance(config, Mapping):
            raise SpaceError(
                f"A configuration must be a mapping from name to value; got {type(config).__name__}."
            )
        given = {str(k): v for k, v in config.items()}
        out: dict[str, Any] = {}
        row: list[float] = []
        for entry in self.entries:
            on = is_open(row, entry.gates)
            if not on or (entry.name not in given and partial):
                row.extend([_NAN] * (entry.width or 1))
                continue
            if entry.name not in given:
                raise SpaceError(
                    f"A configuration needs a value for '{entry.path}'; got {dict(config)!r}. Add it."
                )
            value = out[entry.name] = checked_value(entry, given[entry.name])
            row.extend(entry.encode(value) if entry.width else [entry.encode(value)])
        for name in given:
            if name not in out:
                raise SpaceError(stranger(name, config, self.columns, self.entries))
        broken = None if partial else self.broken(out)
        if broken is not None:
            raise SpaceError(
                f"A configuration must satisfy the constraints of the space; got {out!r}, which breaks {broken.to_dict()}. "
                f"Change it."
            )
        return out

    def defaults(self) -> dict[str, Any]:
        """The guesses that can be active together, as a partial configuration; empty where none is given."""
        out: dict[str, Any] = {}
        row: list[float] = []
        for entry in self.entries:
            guess = entry.domain.guess if is_open(row, entry.gates) else None
            if guess is None:
                row.extend([_NAN] * (entry.width or 1))
                continue
            out[entry.name] = checked_value(entry, guess)
            row.extend(entry.encode(guess) if entry.width else [entry.encode(guess)])
        return out

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        out: dict[str, Any] = {"parameters": [{"name": n, **d.to_dict()} for n, d in self.domains.items()]}
        if self.when:
            out["when"] = {k: {p: condition_to_json(v) for p, v in c.items()} for k, c in self.when.items()}
        if self.own:
            out["constraints"] = [c.to_dict() for c in self.own]
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Space:
        """Rebuilds a space from its JSON form; functions among the constraints come back by name only.

        Raises:
            SpaceError: If the data does not describe a space.
        """
        try:
            domains = {}
            for entry in data["parameters"]:
                fields = dict(entry)
                name = fields.pop("name")
                if name in domains:
                    raise SpaceError(
                        f"Parameter names must be distinct; got '{name}' twice. Rename one of them."
                    )
                domains[name] = domain_from_dict(fields)
            when = {
                k: {p: condition_from_json(v) for p, v in c.items()} for k, c in data.get("when", {}).items()
            }
            constraints = [constraint_from_dict(c) for c in data.get("constraints", ())]
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise SpaceError(
                f"A stored space must list its parameters; reading it failed at {error!r}."
            ) from None
        return cls(domains, when=when, constraints=constraints)

    @property
    def digest(self) -> str:
        """A SHA-256 of the JSON form; equal for equal spaces."""
        if not self._digest:
            text = json.dumps(self.to_dict(), separators=(",", ":"), ensure_ascii=True)
            self._digest = hashlib.sha256(text.encode()).hexdigest()
        return self._digest

    def diff(self, other: Space) -> list[str]:
        """Says in plain lines what changes from this space to ``other``; empty when they are equal."""
        mine, theirs = dict(self._entries()), dict(other._entries())
        lines = [f"- {path}: {describe(mine[path])}" for path in mine if path not in theirs]
        lines += [f"+ {path}: {describe(theirs[path])}" for path in theirs if path not in mine]
        for path, domain in mine.items():
            if path in theirs:
                lines += changes(path, domain, theirs[path])
        a, b = self.to_dict(), other.to_dict()
        lines += [
            f"~ {part} changed" for part in ("when", "constraints") if repr(a.get(part)) != repr(b.get(part))
        ]
        if not lines and self != other:
            same = list(mine) == list(theirs)
            lines.append(
                f"~ {'conditions or constraints of a branch' if same else 'order of the parameters'} changed"
            )
        return lines

    def _entries(self) -> Iterable[tuple[str, Domain]]:
        return ((e.path, e.domain) for e in self.entries)


def _combinations(space: Space) -> float:
    """Number of configurations, conditions left aside; a tree of choices is counted branch by branch."""
    total = 1.0
    for domain in space.domains.values():
        if isinstance(domain, Choice):
            total *= math.fsum(1.0 if b is None else _combinations(b) for b in domain.branches)
        else:
            total *= float(domain.count) if 0 < domain.count < _HUGE else math.inf
    return total


def _rebuilt(domains: dict[str, Domain], when: dict[str, Any], own: tuple[Constraint, ...]) -> Space:
    return Space(domains, when=when, constraints=own)


def _branch(choice: Choice, option: Any) -> Space | None:
    """The space that opens under an option; True and 1 are different options."""
    for known, branch in zip(choice.options, choice.branches, strict=True):
        if type(known) is type(option) and known == option:
            return branch
    return None
