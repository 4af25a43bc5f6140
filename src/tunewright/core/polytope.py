"""Numbers under linear constraints: an inner point, a proof that there is none, projection, and uniform draws.

*Source*: hit-and-run sampling of Smith 1984 (Operations Research 32(6)); least distance programming by non-negative
least squares of Lawson and Hanson 1974, chapter 23; inner points by one linear programme as in Freund, Roundy and
Todd 1985. Everything is in values scaled to the unit box, shape ``(n, p)`` for ``n`` points and ``p`` numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_TIGHT = 1e-9
_SECONDS = 5.0
_POOL, _WARM_UP, _STEPS = 512, 400, 120
_TRIED = 256


@dataclass(frozen=True, slots=True)
class Member:
    """One number of a polytope.

    Attributes:
        grid: Its possible values in the unit box, ascending; None for a continuous one.
        whole: Whether the grid is even, so that a solver may treat it as a whole number.
        log: For a number spread in logarithm, the ratio of its bounds, those of its outermost bins if it is whole; else 0.
        start: For a number spread in logarithm, the lower of these bounds over its width; else 0.
    """

    grid: Floats | None = None
    whole: bool = False
    log: float = 0.0
    start: float = 0.0


@dataclass(frozen=True, slots=True)
class Polytope:
    """``a x <= b`` for ``x`` in the unit box.

    Attributes:
        a: Shape ``(r, p)``; rows of length 1.
        b: Shape ``(r,)``.
        members: The numbers.
    """

    a: Floats
    b: Floats
    members: tuple[Member, ...]

    @property
    def smooth(self) -> NDArray[np.int64]:
        """Which numbers are continuous on a linear scale."""
        return np.array(
            [j for j, m in enumerate(self.members) if m.grid is None and not m.log], dtype=np.int64
        )

    @property
    def rough(self) -> list[int]:
        """The other numbers."""
        return [j for j, m in enumerate(self.members) if m.grid is not None or m.log]


def possible(polytope: Polytope, rows: Sequence[int] | None = None) -> Floats | bool | None:
    """A point that satisfies the rows; False when none does, which is then proved; None when time ran out."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    chosen = list(range(len(polytope.b))) if rows is None else list(rows)
    a, b, p = polytope.a[chosen], polytope.b[chosen], len(polytope.members)
    # Values with a grid are tied to whole numbers: one where the grid is even, else one per value.
    lines: list[Floats] = []
    right: list[float] = []
    high = [1.0] * p
    counts = [0 if m.grid is None else 1 if m.whole else len(m.grid) for m in polytope.members]
    width = p + sum(counts)
    for j, member in enumerate(polytope.members):
        if member.grid is None:
            continue
        where = slice(len(high), len(high) + counts[j])
        line = np.zeros(width)
        line[j] = 1.0
        steps = len(member.grid) - 1
        if member.whole:
            line[where] = -(member.grid[-1] - member.grid[0]) / max(steps, 1)
            high.append(float(steps))
        else:
            line[where] = -member.grid
            one = np.zeros(width)
            one[where] = 1.0
            lines.append(one)
            right.append(1.0)
            high += [1.0] * counts[j]
        lines.append(line)
        right.append(float(member.grid[0]) if member.whole else 0.0)
    whole = np.arange(width) >= p
    limits: list[Any] = [LinearConstraint(np.hstack([a, np.zeros((len(a), width - p))]), -np.inf, b)]
    if lines:
        limits.append(LinearConstraint(np.array(lines), np.array(right), np.array(right)))
    found = milp(
        np.zeros(width), integrality=whole, bounds=Bounds(np.zeros(width), np.array(high)), constraints=limits,
        options={"time_limit": _SECONDS},
    )  # fmt: skip
    if found.x is None:
        return False if found.status == 2 else None
    point: Floats = np.clip(found.x[:p], 0.0, 1.0)
    for j, member in enumerate(polytope.members):
        if member.grid is not None:
            point[j] = member.grid[int(np.argmin(np.abs(member.grid - point[j])))]
    return point


def culprits(polytope: Polytope) -> list[int]:
    """Rows that contradict each other, such that without any one of them they would not."""
    kept = list(range(len(polytope.b)))
    for row in list(kept):
        without = [r for r in kept if r != row]
        if without and possible(polytope, without) is False:
            kept = without
    return kept


def inner(a: Floats, b: Floats) -> tuple[Floats, NDArray[np.bool_]] | None:
    """A point of the unit box far from every row that has room, and which rows have none; None when there is none.

    One linear programme in ``(u, s, t)``: maximise the sum of ``s`` in [0, 1] with ``a u + s <= t b`` and ``t >= 1``;
    rows whose ``s`` stays 0 hold with equality everywhere (Freund, Roundy and Todd 1985).
    """
    from scipy.optimize import linprog

    p = a.shape[1]
    eye = np.eye(p)
    rows = np.vstack([a, eye, -eye])
    right = np.concatenate([b, np.ones(p), np.zeros(p)])
    r = len(right)
    left = np.hstack([rows, np.eye(r), -right[:, None]])
    bounds = [(None, None)] * p + [(0.0, 1.0)] * r + [(1.0, None)]
    cost = np.concatenate([np.zeros(p), -np.ones(r), [0.0]])
    found = linprog(cost, A_ub=left, b_ub=np.zeros(r), bounds=bounds, method="highs")
    if found.x is None:
        return None
    point: Floats = found.x[:p] / found.x[-1]
    tight = found.x[p : p + len(b)] < 0.5
    return polished(point[None], a[tight], b[tight])[0], tight


def polished(points: Floats, e: Floats, right: Floats) -> Floats:
    """Points moved onto ``e x = right`` exactly, the shortest way; shape as given."""
    if not len(e):
        return points
    inverse = np.linalg.pinv(e)
    for _ in range(2):
        points = points - (points @ e.T - right) @ inverse.T
    return points


def nearest(point: Floats, a: Floats, b: Floats) -> Floats | None:
    """The point of the unit box with ``a x <= b`` nearest to ``point``; None when there is none.

    Least distance programming: one non-negative least squares problem (Lawson and Hanson 1974, chapter 23).
    """
    from scipy.optimize import nnls

    p = len(point)
    g = np.vstack([-a, np.eye(p), -np.eye(p)])
    h = np.concatenate([-b, np.zeros(p), -np.ones(p)]) - g @ point
    if np.all(h <= 0.0):
        return point
    scale = max(float(h.max()), 1e-300)
    e = np.vstack([g.T, h / scale])
    f = np.zeros(p + 1)
    f[-1] = 1.0
    weights, _ = nnls(e, f)
    residual = e @ weights - f
    if abs(residual[-1]) < 1e-12:
        return None
    moved: Floats = point - scale * residual[:-1] / residual[-1]
    return np.clip(moved, 0.0, 1.0)


def _span(slack: Floats, slope: Floats) -> tuple[Floats, Floats]:
    """Interval of ``t`` with ``t slope <= slack`` in every row; shapes ``(n, r)`` to ``(n,)`` twice."""
    slack = np.maximum(slack, 0.0)
    flat = np.abs(slope) < _TIGHT * 1e-3
    ratio = slack / np.where(flat, 1.0, slope)
    high = np.where(~flat & (slope > 0), ratio, np.inf).min(axis=1, initial=np.inf)
    low = np.where(~flat & (slope < 0), ratio, -np.inf).max(axis=1, initial=-np.inf)
    return low, high


class Walk:
    """Random walks inside a polytope whose law is uniform in codes: hit-and-run, one number, two numbers.

    Args:
        polytope: What to stay in.
        start: A point of it, shape ``(p,)``.
        tight: Rows that hold with equality everywhere, shape ``(r,)``.
        rng: For the warm-up.
    """

    __slots__ = ("_basis", "_lines", "_smooth", "polytope", "pool", "tight")

    def __init__(
        self, polytope: Polytope, start: Floats, tight: NDArray[np.bool_], rng: np.random.Generator
    ) -> None:
        self.polytope = polytope
        self.tight = tight
        self._smooth = polytope.smooth
        e = polytope.a[np.ix_(tight, self._smooth)]
        self._basis = _null(e, len(self._smooth))
        self._lines = list(_compensations(polytope, tight))
        self.pool = np.repeat(start[None], _POOL, axis=0)
        for _ in range(min(60 + 20 * len(polytope.members), _WARM_UP)):
            self._round(self.pool, rng)
        self.pool = self._exact(self.pool)

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """Points, shape ``(n, p)``: walks from points of the pool."""
        points = self.pool[rng.integers(len(self.pool), size=n)]
        for _ in range(min(15 + 5 * len(self.polytope.members), _STEPS)):
            self._round(points, rng)
        return self._exact(points)

    def _exact(self, points: Floats) -> Floats:
        """Removes what rounding added: equalities hold again to the last digit."""
        a, b = self.polytope.a[self.tight], self.polytope.b[self.tight]
        fixed = np.setdiff1d(np.arange(points.shape[1]), self._smooth)
        right = b - points[:, fixed] @ a[:, fixed].T
        if len(self._smooth) and len(a):
            inverse = np.linalg.pinv(a[:, self._smooth])
            gap = points[:, self._smooth] @ a[:, self._smooth].T - right
            points[:, self._smooth] -= gap @ inverse.T
        return np.clip(points, 0.0, 1.0)

    def _round(self, points: Floats, rng: np.random.Generator) -> None:
        """Moves every point, in place."""
        if self._basis.shape[1]:
            self._hit(points, rng)
        if self.polytope.rough:
            self._single(points, int(rng.choice(self.polytope.rough)), rng)
        if self._lines:
            self._line(points, *self._lines[int(rng.integers(len(self._lines)))], rng)

    def _hit(self, points: Floats, rng: np.random.Generator) -> None:
        """Hit-and-run along a random direction, or along the difference of two points of the pool."""
        n, k = len(points), self._basis.shape[1]
        smooth = self._smooth
        way = rng.standard_normal((n, k))
        one, other = rng.integers(len(self.pool), size=(2, n))
        apart = (self.pool[one] - self.pool[other])[:, smooth]
        if k < len(smooth):
            way, apart = way @ self._basis.T, apart @ self._basis @ self._basis.T
        size = np.linalg.norm(apart, axis=1)
        along = (rng.random(n) < 0.5) & (size > 0.0)
        way = np.where(along[:, None], apart, way)
        way /= np.maximum(np.linalg.norm(way, axis=1), 1e-300)[:, None]
        loose = ~self.tight
        a, b = self.polytope.a[loose], self.polytope.b[loose]
        here = points[:, smooth]
        slack = np.hstack([b - points @ a.T, 1.0 - here, here])
        low, high = _span(slack, np.hstack([way @ a[:, smooth].T, way, -way]))
        t = np.where(np.isfinite(low) & np.isfinite(high), low + rng.random(n) * (high - low), 0.0)
        points[:, smooth] = np.clip(here + t[:, None] * way, 0.0, 1.0)

    def _single(self, points: Floats, j: int, rng: np.random.Generator) -> None:
        """One number drawn anew from what the others leave to it."""
        member, a = self.polytope.members[j], self.polytope.a
        slack = self.polytope.b - points @ a.T
        low, high = _span(slack, np.repeat(a[:, j][None], len(points), axis=0))
        low, high = np.maximum(points[:, j] + low, 0.0), np.minimum(points[:, j] + high, 1.0)
        share = rng.random(len(points))
        if member.grid is None:
            points[:, j] = _unlogged(member, _logged(member, low), _logged(member, high), share)
            return
        first = np.searchsorted(member.grid, low - _TIGHT)
        last = np.searchsorted(member.grid, high + _TIGHT, side="right") - 1
        ok = last >= first
        top = len(member.grid) - 1
        if member.log:
            # Bins are as wide as they are in codes.
            half = 0.5 / max(top, 1)
            ends = (member.grid[np.clip(first, 0, top)], member.grid[np.clip(last, 0, top)] + 2 * half)
            x = (
                _unlogged(
                    member, _logged(member, ends[0]), _logged(member, ends[1]), share, top=1.0 + 2 * half
                )
                - half
            )
            index = np.rint(x * top).astype(np.int64)
        else:
            index = first + np.floor(share * (last - first + 1)).astype(np.int64)
        points[ok, j] = member.grid[np.clip(index, first, last)[ok]]

    def _line(self, points: Floats, i: int, way: Floats, rng: np.random.Generator) -> None:
        """Number ``i`` drawn anew while others make up for it, so that equalities stay."""
        members = self.polytope.members
        grid = members[i].grid
        if grid is None:
            share = rng.random((len(points), 1))
            tried = _unlogged(members[i], np.zeros((len(points), 1)), np.ones((len(points), 1)), share)
        else:
            few = rng.permutation(len(grid))[:_TRIED]
            tried = np.repeat(grid[few][None], len(points), axis=0)
        move = tried - points[:, [i]]
        rate = self.polytope.a @ way
        total = (points @ self.polytope.a.T)[:, None, :] + move[:, :, None] * rate
        fits = np.all(total <= self.polytope.b + _TIGHT, axis=2)
        moved: dict[int, Floats] = {}
        for j in np.flatnonzero(way).tolist():
            other = points[:, [j]] + way[j] * move
            fits &= (other >= -_TIGHT) & (other <= 1.0 + _TIGHT)
            partner = members[j].grid
            if j == i:
                other = tried
            elif partner is not None:
                near = partner[np.clip(np.searchsorted(partner, other - 10 * _TIGHT), 0, len(partner) - 1)]
                fits &= np.abs(near - other) < 100 * _TIGHT
                other = near
            elif members[j].log:
                at = members[j].start
                fits &= rng.random(fits.shape) < (points[:, [j]] + at) / np.maximum(other + at, 1e-300)
            moved[j] = other
        chosen = np.argmax(np.where(fits, rng.random(fits.shape), -1.0), axis=1)
        ok = np.flatnonzero(fits.any(axis=1))
        for j, other in moved.items():
            points[ok, j] = np.clip(other[ok, chosen[ok]], 0.0, 1.0)


def _logged(member: Member, x: Floats) -> Floats:
    """Code of a value in the unit box."""
    if not member.log:
        return x
    out: Floats = np.log(np.maximum(x + member.start, 1e-300) / member.start) / np.log(member.log)
    return np.clip(out, 0.0, 1.0)


def _unlogged(member: Member, low: Floats, high: Floats, share: Floats, top: float = 1.0) -> Floats:
    """The value at a share of the way between two codes."""
    code = low + share * np.maximum(high - low, 0.0)
    if not member.log:
        return code
    out: Floats = np.clip(member.start * np.expm1(code * np.log(member.log)), 0.0, top)
    return out


def _compensations(polytope: Polytope, tight: NDArray[np.bool_]) -> Iterator[tuple[int, Floats]]:
    """For each number that is not smooth, directions with slope 1 in it along which equalities stay.

    One other number makes up for it, or all continuous ones share.
    """
    p = len(polytope.members)
    lines = polytope.a[tight]
    smooth = [j for j, m in enumerate(polytope.members) if m.grid is None]
    for i in polytope.rough:
        mine = lines[np.abs(lines[:, i]) > _TIGHT]
        shared = [j for j in smooth if j != i]
        if len(mine) and shared:
            way = np.zeros(p)
            way[shared] = -np.linalg.pinv(lines[:, shared]) @ lines[:, i]
            way[i] = 1.0
            if np.allclose(lines @ way, 0.0, atol=_TIGHT):
                yield i, way
        for j in np.flatnonzero(np.abs(mine).max(axis=0, initial=0.0) > _TIGHT).tolist():
            if j != i and abs(mine[0, j]) > _TIGHT:
                way = np.zeros(p)
                way[i], way[j] = 1.0, -mine[0, i] / mine[0, j]
                if np.allclose(lines @ way, 0.0, atol=_TIGHT):
                    yield i, way


def _null(e: Floats, p: int) -> Floats:
    """Orthonormal directions along which ``e x`` does not change, shape ``(p, k)``."""
    if not len(e) or not p:
        return np.eye(p)
    _, s, vt = np.linalg.svd(e)
    rank = int((s > 1e-10 * max(1.0, float(s.max(initial=0.0)))).sum())
    basis: Floats = vt[rank:].T
    return basis
