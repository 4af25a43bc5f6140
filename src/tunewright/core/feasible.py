"""Draws that satisfy the constraints of a space: by rejection where that is quick, else from inside a polytope.

Linear constraints on numbers that are always active make a polytope, which is sampled by a random walk whose law is the
prior restricted to it (``polytope``), however thin it is. Everything else (functions, forbidden combinations,
constraints on conditional parameters) is checked afterwards; where hardly any draw passes, a Markov chain between
allowed configurations takes over. ``Region.how`` says which of these is in use. Inside a polytope guesses for its numbers
do not lean the draws.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tunewright.core.columns import Entry
from tunewright.core.constraints import Constraint, Forbidden, Linear
from tunewright.core.domains import Bool, Choice, Codes, Float, Int, Order
from tunewright.core.polytope import Member, Polytope, Walk, culprits, inner, nearest, possible
from tunewright.errors import SpaceError

_PROBE = 4096
_ENOUGH = 4
_CHECKS = 20_000
_LISTED = 20_000
_SEEDS = 32
_THIN = 8
_LEVELS = 4096


class Drawn(Protocol):
    """A space, as far as drawing from it goes."""

    entries: tuple[Entry, ...]
    own: tuple[Constraint, ...]

    def decode(self, codes: Codes) -> dict[str, Any]:
        """The configuration at a row of codes."""
        ...

    def snap(self, codes: Codes) -> Codes:
        """The nearest representable rows."""
        ...

    def feasible(self, config: Mapping[str, Any]) -> bool:
        """Whether a configuration satisfies every constraint."""
        ...

    def prior(self, rng: np.random.Generator, n: int) -> Codes:
        """Rows from the prior, its own constraints left aside, without NaN; shape ``(n, d)``."""
        ...


class Region:
    """The allowed part of a space with constraints of its own.

    Args:
        space: The space.

    Raises:
        SpaceError: If the constraints contradict each other, or no allowed configuration is found.
    """

    __slots__ = ("_entries", "_low", "_only_linear", "_polytope", "_rows", "_seeds", "_walk", "_width", "how")

    how: str

    def __init__(self, space: Drawn) -> None:
        self._walk: Walk | None = None
        self._seeds: Codes | None = None
        self._lay_out(space)
        self.how = "rejection"
        rng = np.random.Generator(np.random.Philox(key=0))
        if self._probe(space, rng) < _ENOUGH:
            self._prove(space)
            if self._polytope is not None:
                self._walk = self._walked(rng)
                self.how = "polytope"
            if not self._only_linear and self._probe(space, rng) < _ENOUGH:
                self._seeds = self._found(space, rng)
                self.how = "chain"

    def _lay_out(self, space: Drawn) -> None:
        """Sorts the constraints into those of a polytope and the others."""
        names: dict[str, list[Entry]] = {}
        for entry in space.entries:
            names.setdefault(entry.name, []).append(entry)
        fixed = {n: e[0] for n, e in names.items() if len(e) == 1 and not e[0].gates}
        self._rows = [c for c in space.own if isinstance(c, Linear) and all(n in fixed for n in c.names)]
        self._only_linear = len(self._rows) == len(space.own)
        used = {n for c in self._rows for n in c.names}
        self._entries = [e for e in space.entries if e.name in used and fixed.get(e.name) is e]
        self._polytope: Polytope | None = None
        ranges = [_range(e) for e in self._entries]
        self._low = np.array([low for low, _ in ranges])
        self._width = np.array([high - low for low, high in ranges])
        if self._rows:
            members = tuple(
                _member(e, low, high - low) for e, (low, high) in zip(self._entries, ranges, strict=True)
            )
            weights = np.array([[c.weights.get(e.name, 0.0) for e in self._entries] for c in self._rows])
            a = weights * self._width
            size = np.maximum(np.linalg.norm(a, axis=1), 1e-300)
            b = np.array([c.upper for c in self._rows]) - weights @ self._low
            self._polytope = Polytope(a / size[:, None], b / size, members)

    def _fits(self, space: Drawn, rows: Codes) -> NDArray[np.int64]:
        """Which rows satisfy every constraint."""
        keep = np.arange(len(rows))
        if self._polytope is not None:
            x = self._values(rows)
            keep = keep[np.all(x @ self._polytope.a.T <= self._polytope.b + 1e-9, axis=1)]
        good = [i for i in keep.tolist() if space.feasible(space.decode(rows[i]))]
        return np.array(good, dtype=np.int64)

    def _probe(self, space: Drawn, rng: np.random.Generator) -> int:
        """How many of at most 4,096 draws are allowed; it stops early when that is enough."""
        found = tried = 0
        block = 64
        while found < _ENOUGH and tried < _PROBE:
            found += len(self._fits(space, self._propose(space, rng, block)))
            tried, block = tried + block, min(2 * block, _PROBE - tried) or 1
        return found

    def _propose(self, space: Drawn, rng: np.random.Generator, n: int) -> Codes:
        """Draws that satisfy the linear constraints once there is a walk."""
        rows = space.prior(rng, n)
        if self._walk is not None:
            self._put(rows, self._walk.draw(rng, n))
        return rows

    def sample(self, space: Drawn, rng: np.random.Generator, n: int) -> Codes:
        """Allowed rows, shape ``(n, d)``.

        Raises:
            SpaceError: If no more are found.
        """
        if self.how == "chain":
            return self._chained(space, rng, n)
        found: list[Codes] = []
        have = tried = 0
        block = max(16, 2 * n) if self._walk is None or not self._only_linear else n
        while have < n:
            rows = self._propose(space, rng, block)
            good = self._fits(space, rows)
            found.append(space.snap(rows[good]))
            have += len(good)
            tried += block
            if tried > 50 * _PROBE + 1000 * n:
                raise _not_found(space, have, tried)
            block = min(block * 2, _PROBE)
        return np.concatenate(found)[:n]

    def project(self, space: Drawn, row: Codes) -> Codes | None:
        """The nearest allowed row, where moving the numbers in linear constraints is enough; shape ``(d,)``."""
        if self._polytope is None:
            return None
        a, b, members = self._polytope.a, self._polytope.b, self._polytope.members
        x = self._values(row[None])[0]
        free = np.array([m.grid is None for m in members])
        wanted = nearest(x, a, b)
        for _ in range(2):
            if wanted is None:
                return None
            for j, member in enumerate(members):
                if member.grid is not None:
                    wanted[j] = member.grid[int(np.argmin(np.abs(member.grid - wanted[j])))]
            out = row[None].copy()
            self._put(out, wanted[None])
            out = space.snap(out)
            if space.feasible(space.decode(out[0])):
                first: Codes = out[0]
                return first
            # Rounding broke it: the whole numbers stay, the others make up for them.
            inside = nearest(wanted[free], a[:, free], b - a[:, ~free] @ wanted[~free])
            if inside is None:
                return None
            wanted[free] = inside
        return None

    def _values(self, rows: Codes) -> Codes:
        """Numbers of the polytope in the unit box, shape ``(n, p)``."""
        out = np.empty((len(rows), len(self._entries)))
        for j, e in enumerate(self._entries):
            codes = rows[:, e.first]
            domain = e.domain
            if isinstance(domain, Float) and not domain.log and domain.step is None:
                out[:, j] = codes
            else:
                values = np.array([e.decode(u) for u in codes.tolist()], dtype=np.float64)
                out[:, j] = (values - self._low[j]) / max(self._width[j], 1e-300)
        return out

    def _put(self, rows: Codes, x: Codes) -> None:
        """Writes numbers of the polytope into rows of codes, in place."""
        for j, e in enumerate(self._entries):
            domain = e.domain
            if isinstance(domain, Float) and not domain.log and domain.step is None:
                rows[:, e.first] = x[:, j]
                continue
            values = self._low[j] + x[:, j] * self._width[j]
            if isinstance(domain, Float):
                codes = [e.encode(min(max(v, domain.low), domain.high)) for v in values.tolist()]
            elif isinstance(domain, Int):
                codes = [e.encode(round(v)) for v in values.tolist()]
            else:
                options = sorted(_options(domain), key=float)
                grid = np.array([float(o) for o in options])
                at = [int(np.argmin(np.abs(grid - v))) for v in values.tolist()]
                codes = [e.encode(options[i]) for i in at]
            rows[:, e.first] = codes

    def _prove(self, space: Drawn) -> None:
        """Says which constraints contradict each other, where that can be proved.

        Raises:
            SpaceError: Naming them.
        """
        if self._polytope is not None and possible(self._polytope) is False:
            wrong = [self._rows[i] for i in culprits(self._polytope)]
            names = list(dict.fromkeys(n for c in wrong for n in c.names))
            raise _contradiction(names, wrong)
        closed = _all_forbidden(space)
        if closed:
            names = list(dict.fromkeys(n for c in closed for n in c.names))
            raise _contradiction(names, closed)

    def _walked(self, rng: np.random.Generator) -> Walk | None:
        """The walk, started at an inner point for whole numbers that allow one."""
        assert self._polytope is not None
        a, b, members = self._polytope.a, self._polytope.b, self._polytope.members
        relaxed = inner(a, b)
        start = possible(self._polytope)
        if relaxed is None or not isinstance(start, np.ndarray):
            return None
        free = np.array([m.grid is None for m in members])
        if free.any():
            centre = inner(a[:, free], b - a[:, ~free] @ start[~free])
            if centre is not None:
                start[free] = centre[0]
        return Walk(self._polytope, start, relaxed[1], rng)

    def _found(self, space: Drawn, rng: np.random.Generator) -> Codes:
        """Allowed rows for a chain to start from, by a search for ever fewer broken constraints.

        Raises:
            SpaceError: If none is found.
        """
        rows = self._propose(space, rng, 256)
        broken = [_violations(space, space.decode(row)) for row in rows]
        order = np.argsort(broken, kind="stable")[:_SEEDS]
        rows, broken = rows[order], [broken[i] for i in order]
        done: list[Codes] = []
        tried = 256
        while tried < _CHECKS and len(done) < _SEEDS:
            for i in range(len(rows)):
                if broken[i] == 0:
                    done.append(rows[i].copy())
                    rows[i] = self._propose(space, rng, 1)[0]
                    broken[i] = _violations(space, space.decode(rows[i]))
                    continue
                moved = self._moved(space, rows[i], rng)
                count = _violations(space, space.decode(moved))
                if count <= broken[i]:
                    rows[i], broken[i] = moved, count
            tried += len(rows)
        if not done:
            raise _not_found(space, 0, tried)
        return np.array(done)

    def _moved(self, space: Drawn, row: Codes, rng: np.random.Generator) -> Codes:
        """A row with one parameter, or the numbers of the polytope, drawn anew; half the time close by."""
        fresh = self._propose(space, rng, 1)[0]
        out: Codes = row.copy()
        entry = space.entries[int(rng.integers(len(space.entries)))]
        if self._walk is not None and any(e is entry for e in self._entries):
            for e in self._entries:
                out[e.where] = fresh[e.where]
        elif rng.random() < 0.5 and entry.width == 0 and isinstance(entry.domain, Float | Int):
            step = rng.normal(0.0, 10.0 ** rng.uniform(-3.0, -0.5))
            near = abs(out[entry.first] + step)
            out[entry.first] = min(2.0 - near if near > 1.0 else near, 1.0)
        else:
            out[entry.where] = fresh[entry.where]
        return out

    def _chained(self, space: Drawn, rng: np.random.Generator, n: int) -> Codes:
        """Rows of chains that move between allowed configurations, each started at a known one."""
        assert self._seeds is not None
        rows = self._seeds[rng.integers(len(self._seeds), size=n)]
        for i in range(n):
            for _ in range(_THIN * len(space.entries)):
                moved = self._moved(space, rows[i], rng)
                if space.feasible(space.decode(moved)):
                    rows[i] = moved
        return space.snap(rows)


def _range(entry: Entry) -> tuple[float, float]:
    domain = entry.domain
    if isinstance(domain, Float | Int):
        return float(domain.low), float(domain.high)
    values = [float(o) for o in _options(domain)]
    return min(values), max(values)


def _options(domain: Any) -> list[Any]:
    assert isinstance(domain, Choice | Order | Bool)
    return list(domain.options)


def _member(entry: Entry, low: float, width: float) -> Member:
    domain = entry.domain
    if isinstance(domain, Float) and domain.step is None:
        return Member(log=domain.high / low, start=low / width) if domain.log else Member()
    if isinstance(domain, Float | Int):
        count = domain.count
        if count > _LEVELS:
            # As good as continuous; the last digit is settled by rounding and checking.
            return Member()
        step = float(domain.step or 1.0)
        if domain.log:
            return Member(
                np.arange(count) / width, True, (domain.high + 0.5) / (domain.low - 0.5), (low - 0.5) / width
            )
        return Member(np.arange(count, dtype=np.float64) * step / width, whole=True)
    values = np.array(sorted({float(o) for o in _options(domain)}))
    return Member((values - low) / max(width, 1e-300))


def _violations(space: Drawn, config: Mapping[str, Any]) -> int:
    """How many constraints a configuration breaks; at least one when a branch's own are broken."""
    count = sum(not c.holds(config) for c in space.own)
    return count or int(not space.feasible(config))


def _all_forbidden(space: Drawn) -> list[Constraint]:
    """Forbidden combinations that together leave nothing of their parameters; none where that is not so."""
    always = {e.name: e for e in space.entries if not e.gates and e.domain.count and not e.width}
    bans = [c for c in space.own if isinstance(c, Forbidden) and all(n in always for n in c.names)]
    names = list(dict.fromkeys(n for c in bans for n in c.names))
    if not bans or math.prod(always[n].domain.count for n in names) > _LISTED:
        return []
    for values in itertools.product(*(list(_values(always[n])) for n in names)):
        config = dict(zip(names, values, strict=True))
        if all(c.holds(config) for c in bans):
            return []
    return list(bans)


def _values(entry: Entry) -> Iterator[Any]:
    """Every value of a parameter that has finitely many."""
    domain = entry.domain
    if isinstance(domain, Choice | Order | Bool):
        yield from domain.options
    else:
        k = domain.count
        yield from (entry.decode((i + 0.5) / k) for i in range(k))


def _contradiction(names: Sequence[str], wrong: Sequence[Constraint]) -> SpaceError:
    labels = "; ".join(str(c.to_dict()) for c in wrong[:5])
    which = ", ".join(f"'{n}'" for n in names[:10])
    return SpaceError(
        f"A space needs configurations that satisfy its constraints; got constraints on {which} that no value of them "
        f"satisfies together: {labels}. Loosen one of them or widen the ranges."
    )


def _not_found(space: Drawn, have: int, tried: int) -> SpaceError:
    labels = "; ".join(str(c.to_dict()) for c in space.own)
    return SpaceError(
        f"A space needs configurations that satisfy its constraints; got {have} out of {tried} random "
        f"ones. Loosen the constraints or narrow the ranges: {labels}."
    )
