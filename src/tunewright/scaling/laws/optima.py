"""Where a sweep has its optimum: a log-quadratic through the good cells, whether it is convex, and how wide it is.

Sweeps of learning rate and batch size have broad bowls in logarithms (Li et al. 2025, arXiv:2503.04715, section 4). A parabola through
the cells near the best one uses all of them, so that noise of single runs and the spacing of the grid matter less than for the
best cell alone; an optimum at the edge of the sweep is said to be one. ``fit_surface`` fits one bowl to many sweeps at once, with a
centre that moves as a power law of the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.errors import ConfigError
from tunewright.scaling.laws.fit import Array, Positions, named, widening

_BAND = 0.0025
_FIT = 0.02
# Bowls are steeper towards high rates: a narrower band than for a single sweep keeps the centre where the best cells are.
_SURFACE = 0.01


@dataclass(frozen=True, slots=True)
class Optimum:
    """The optimum of one sweep.

    Attributes:
        at: Value per swept setting at the minimum of the parabola, or of the best cell where the bowl is not convex.
        loss: Fitted loss there.
        low: Smallest value per setting within the tolerance band of the best cell.
        high: Largest such value.
        convex: Whether the parabola is a bowl in every direction.
        edge: Settings whose optimum lies at an edge of the sweep: it may be beyond.
        cells: How many cells the parabola goes through.
        best: The best cell.
    """

    at: dict[str, float]
    loss: float
    low: dict[str, float]
    high: dict[str, float]
    convex: bool
    edge: tuple[str, ...]
    cells: int
    best: dict[str, float]


def optimum(
    settings: Mapping[str, Sequence[float] | Array],
    loss: Sequence[float] | Array,
    *,
    band: float = _BAND,
    fit_within: float = _FIT,
) -> Optimum:
    """The optimum of a sweep over one or two settings.

    Args:
        settings: Values per cell by name, such as ``{"lr": ..., "batch": ...}``, each of shape (n,).
        loss: Final loss per cell; not finite where a run diverged.
        band: Cells within this share of the best loss count as equally good.
        fit_within: The parabola goes through cells within this share of the best, and through the nearest ones when those are too few.

    Raises:
        ConfigError: If there are too few finite cells for a parabola.
    """
    names = tuple(settings)
    x, y = _logs(settings, names), np.asarray(loss, float)
    if y.shape != (len(x),):
        raise ConfigError(
            f"There must be one loss per cell; got {y.shape} for {len(x)} cells. Give one value per run."
        )
    finite = np.isfinite(y) & (y > 0) & np.isfinite(x).all(axis=1)
    terms = 1 + len(names) + len(names) * (len(names) + 1) // 2
    if finite.sum() < terms:
        raise ConfigError(
            f"A parabola over {' and '.join(names)} needs {terms} finished cells; got {int(finite.sum())}. Sweep more values."
        )
    x, y = x[finite], np.log(y[finite])
    top = int(np.argmin(y))
    order = np.argsort(y)
    near = order[: max(terms + 1, int((y <= y[top] + math.log1p(fit_within)).sum()))]
    center, least, convex = _parabola(x[near], y[near])
    good = y <= y[top] + math.log1p(band)
    if not convex:
        center, least = x[top], float(y[top])
    low, high = x.min(axis=0), x.max(axis=0)
    edge = tuple(n for i, n in enumerate(names) if not low[i] < center[i] < high[i])
    center = np.clip(center, low, high)
    return Optimum(
        at=_named(names, center),
        loss=math.exp(least),
        low=_named(names, x[good].min(axis=0)),
        high=_named(names, x[good].max(axis=0)),
        convex=convex,
        edge=edge,
        cells=len(near),
        best=_named(names, x[top]),
    )


def convexity(
    lr: Sequence[float] | Array,
    batch: Sequence[float] | Array,
    loss: Sequence[float] | Array,
    *,
    tolerance: float = _BAND,
    within: float = 0.2,
) -> tuple[int, int]:
    """Slices of a sweep (rates at one batch, batches at one rate) with a single valley, and all slices.

    A slice has a single valley if, walking away from its best cell, the loss never falls by more than the tolerance below the highest
    seen on the way. Cells more than ``within`` above the best of the sweep have diverged and are left out, and so are slices of
    fewer than four cells.
    """
    a, b, y = (np.asarray(v, float) for v in (lr, batch, loss))
    y = np.where(y <= np.nanmin(y) * (1 + within), y, np.nan)
    single = total = 0
    for along, fixed in ((a, b), (b, a)):
        for value in np.unique(fixed):
            at = (fixed == value) & np.isfinite(y)
            if at.sum() < 4:
                continue
            walk = np.log(y[at][np.argsort(along[at])])
            best = int(np.argmin(walk))
            total += 1
            single += all(_rises(side, tolerance) for side in (walk[best:], walk[best::-1]))
    return single, total


def _rises(walk: Array, tolerance: float) -> bool:
    return bool(np.all(walk >= np.maximum.accumulate(walk) - math.log1p(tolerance)))


@dataclass(frozen=True, slots=True)
class Surface:
    """One bowl for many sweeps, whose centre moves as a power law of the inputs.

    Attributes:
        settings: Names of the swept settings.
        inputs: Names of what the centre depends on.
        offset: Logarithm of the centre at inputs of one, per setting.
        slopes: Exponents, shape (settings, inputs).
        curvature: Second derivatives of the log loss in log settings, shape (settings, settings).
        used: How many cells were fitted.
        cloud: Offsets and slopes of refits with random weights of whole sweeps, shape (r, settings, 1 + inputs); empty without one.
        shifts: How far the centre of each sweep lies from the law, in logarithms, shape (sweeps, settings).
    """

    settings: tuple[str, ...]
    inputs: tuple[str, ...]
    offset: Array
    slopes: Array
    curvature: Array
    used: int
    cloud: Array
    shifts: Array

    def interval(self, *, level: float = 0.95, **inputs: float) -> dict[str, tuple[float, float]]:
        """Interval of the best settings that a new sweep at the given inputs would find.

        It holds the errors of the law, from refits in which whole sweeps weigh more or less, and the scatter of sweeps about it.

        Raises:
            ConfigError: If the surface was fitted without a cloud.
        """
        if not len(self.cloud):
            raise ConfigError(
                "An interval needs a cloud; got a surface without one. Pass bootstrap=200 to fit_surface."
            )
        at = self.cloud @ np.concatenate([[1.0], np.log([inputs[i] for i in self.inputs])])
        scatter = self.shifts * widening(len(self.shifts), 1 + len(self.inputs))
        new = (at[:, None] + scatter[None]).reshape(-1, len(self.settings))
        ends = np.exp(np.quantile(new, [(1 - level) / 2, (1 + level) / 2], axis=0))
        return {s: (float(low), float(high)) for s, low, high in zip(self.settings, *ends, strict=True)}

    def center(self, **inputs: float) -> dict[str, float]:
        """The best settings at the given inputs."""
        at = self.offset + self.slopes @ np.log([inputs[i] for i in self.inputs])
        return _named(self.settings, at)

    def excess(self, settings: Mapping[str, float], **inputs: float) -> float:
        """Share by which the loss at the settings lies above that at the centre."""
        off = np.log([settings[s] for s in self.settings]) - np.log(list(self.center(**inputs).values()))
        return math.expm1(0.5 * float(off @ self.curvature @ off))


def fit_surface(
    sweeps: Sequence[
        tuple[Mapping[str, float], Mapping[str, Sequence[float] | Array], Sequence[float] | Array]
    ],
    *,
    fit_within: float = _SURFACE,
    bootstrap: int = 0,
    seed: int = 0,
) -> Surface:
    """One log-quadratic bowl through the good cells of all sweeps, each with a level of its own.

    The logarithm of the loss is a quadratic form in the logarithms of settings minus a centre that is linear in the logarithms of the
    inputs; multiplied out it is linear in its coefficients, so that no start has to be guessed.

    Args:
        sweeps: Per sweep its inputs, its cells by setting and their losses.
        fit_within: Cells within this share of the best of their sweep are used.
        bootstrap: Refits for intervals, at least 2 or none.
        seed: Seed of the refits.

    Raises:
        ConfigError: If the cells are too few, the inputs do not vary separately, or the surface is no bowl.
    """
    if not sweeps:
        raise ConfigError("A surface needs sweeps; got none. Pass inputs, cells and losses of each.")
    inputs, settings = tuple(sweeps[0][0]), tuple(sweeps[0][1])
    z, f, y, group = _stacked(sweeps, inputs, settings, fit_within)
    f0, z0 = f.mean(axis=0), z.mean(axis=0)
    f, z = f - f0, z - z0
    curvature, offset, slopes = _solve(z, f, y, group, np.ones(len(y)))
    weights = np.random.default_rng(seed).exponential(size=(bootstrap, len(sweeps)))
    found = []
    for row in weights:
        try:
            _, o, m = _solve(z, f, y, group, row[group])
        except ConfigError:  # a draw whose heavy sweeps form no bowl says nothing about the optimum
            continue
        found.append(np.concatenate([(o + z0 - m @ f0)[:, None], m], axis=1))
    best = np.concatenate([(offset + z0 - slopes @ f0)[:, None], slopes], axis=1)
    spread = widening(len(sweeps), 1 + len(inputs))
    cloud = best + (np.array(found) - best) * spread if len(found) > 1 else np.empty((0, *best.shape))
    shifts = _shifts(z - offset - f @ slopes.T, y, group, curvature)
    return Surface(settings, inputs, best[:, 0], slopes, curvature, len(y), cloud, shifts)


def _stacked(
    sweeps: Sequence[
        tuple[Mapping[str, float], Mapping[str, Sequence[float] | Array], Sequence[float] | Array]
    ],
    inputs: tuple[str, ...],
    settings: tuple[str, ...],
    fit_within: float,
) -> tuple[Array, Array, Array, Positions]:
    zs, fs, ys, groups = [], [], [], []
    for i, (at, cells, loss) in enumerate(sweeps):
        x, values = _logs(cells, settings), np.asarray(loss, float)
        y = np.log(np.where(values > 0, values, np.inf))
        good = np.isfinite(y) & (y <= np.min(y) + math.log1p(fit_within))
        zs.append(x[good])
        ys.append(y[good])
        fs.append(np.repeat(np.log([[at[k] for k in inputs]]), int(good.sum()), axis=0))
        groups.append(np.full(int(good.sum()), i, dtype=np.intp))
    empty = np.array([i for i, g in enumerate(groups) if len(g) < 2], dtype=np.intp)
    if empty.size:
        raise ConfigError(
            f"Every sweep must have two good cells or more; {named(empty)} has none. Leave it out."
        )
    return np.concatenate(zs), np.concatenate(fs), np.concatenate(ys), np.concatenate(groups)


def _solve(z: Array, f: Array, y: Array, group: Positions, weights: Array) -> tuple[Array, Array, Array]:
    """Curvature, centre at mean inputs and exponents: half z'Hz minus z'H(centre + exponents f) plus a level per sweep."""
    s, k = z.shape[1], f.shape[1]
    pairs = [(i, j) for i in range(s) for j in range(i, s)]
    columns = [z[:, i] * z[:, j] * (0.5 if i == j else 1.0) for i, j in pairs]
    columns += [-z[:, i] for i in range(s)]
    columns += [-z[:, i] * f[:, j] for i in range(s) for j in range(k)]
    levels = group[:, None] == np.unique(group)
    design = np.concatenate([np.stack(columns, axis=1), levels], axis=1)
    if len(y) <= design.shape[1]:
        raise ConfigError(
            f"A surface of {len(columns)} coefficients over {levels.shape[1]} sweeps needs more than {design.shape[1]} good cells; got "
            f"{len(y)}. Raise fit_within or add sweeps."
        )
    root = np.sqrt(weights)
    solved, _, rank, _ = np.linalg.lstsq(design * root[:, None], y * root, rcond=1e-10)
    if rank < design.shape[1]:
        raise ConfigError(
            "Inputs must vary separately over the sweeps; got sweeps that do not. Add other sizes."
        )
    curvature: Array = np.empty((s, s))
    for value, (i, j) in zip(solved, pairs, strict=False):
        curvature[i, j] = curvature[j, i] = value
    center = solved[len(pairs) : len(pairs) + s]
    slopes = solved[len(pairs) + s : len(columns)].reshape(s, k)
    if np.linalg.eigvalsh(curvature).min() <= 0:
        raise ConfigError(
            "Sweeps must form a bowl around a best setting; got a surface that falls without end. Sweep wider values."
        )
    return curvature, np.linalg.solve(curvature, center), np.linalg.solve(curvature, slopes)


def _shifts(off: Array, y: Array, group: Positions, curvature: Array) -> Array:
    """Where the bowl of each sweep would rather lie, with the common curvature and a level of its own; shape (sweeps, settings)."""
    left = y - 0.5 * np.einsum("ni,ij,nj->n", off, curvature, off)
    found = []
    for i in np.unique(group):
        here = group == i
        design = np.concatenate([-off[here] @ curvature, np.ones((int(here.sum()), 1))], axis=1)
        found.append(np.linalg.lstsq(design, left[here], rcond=None)[0][:-1])
    return np.array(found)


def _parabola(x: Array, y: Array) -> tuple[Array, float, bool]:
    """Minimum, value there and convexity of the least-squares quadratic."""
    middle = x.mean(axis=0)
    z = x - middle
    s = x.shape[1]
    pairs = [(i, j) for i in range(s) for j in range(i, s)]
    design = np.concatenate(
        [np.ones((len(z), 1)), z, np.stack([z[:, i] * z[:, j] for i, j in pairs], axis=1)], axis=1
    )
    c = np.linalg.lstsq(design, y, rcond=None)[0]
    hessian = np.zeros((s, s))
    for value, (i, j) in zip(c[1 + s :], pairs, strict=True):
        hessian[i, j] += value
        hessian[j, i] += value
    if np.linalg.eigvalsh(hessian).min() <= 1e-9:
        return middle, float(c[0]), False
    at = -np.linalg.solve(hessian, c[1 : 1 + s])
    return middle + at, float(c[0] + 0.5 * c[1 : 1 + s] @ at), True


def _logs(cells: Mapping[str, Sequence[float] | Array], names: tuple[str, ...]) -> Array:
    """Logarithms of swept settings, shape (n, settings)."""
    values = np.stack([np.asarray(cells[n], float) for n in names], axis=1)
    if not (values > 0).all():
        raise ConfigError(
            f"Swept settings must be positive; got {values[~(values > 0)][0]:g}. Correct or remove it."
        )
    logs: Array = np.log(values)
    return logs


def _named(names: tuple[str, ...], logs: Array) -> dict[str, float]:
    return {n: float(math.exp(v)) for n, v in zip(names, logs, strict=True)}
