"""Small changes to a configuration that works, for methods that continue a training with other settings.

*Use when* a copy of a training goes on with parameters near those of the original. *Do not use when* children mix two
parents (``models.breeding``).

*Paper*: Jaderberg et al. 2017 (arXiv:1711.09846), section 3 and appendix A: perturb by 0.8 or 1.2, or draw anew.

*Differs*: a parameter that decides which others there are stays as it is, since a training cannot become one of another
kind; so do those that the caller names. Each other parameter is treated on the space's terms. Numbers are multiplied in
their natural unit; where the range holds zero or negative numbers a tenth of it is the least size that they are taken
to have. Whole numbers move by one step at least, and an ``Order`` moves to a neighbour. Choices, orders of items and
selections are only ever drawn anew. Where eight changes break the constraints the last is moved by ``Space.repair``.

*Cost*: O(d), and that of a repair where there are constraints.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.columns import Entry
from tunewright.core.domains import Float, Int, Order
from tunewright.core.space import Space
from tunewright.errors import ConfigError, SpaceError

FloatArray = NDArray[np.float64]

_SIZE = 0.1
_TRIES = 8


def explored(
    space: Space,
    config: Mapping[str, Any],
    rng: np.random.Generator,
    *,
    factors: tuple[float, float] = (0.8, 1.2),
    resample: float = 0.25,
    fixed: Collection[str] = (),
) -> FloatArray:
    """Codes of a configuration near another, shape ``(d,)``, allowed by the space.

    Args:
        space: The space.
        config: Where to begin; one of an earlier version of the space may do.
        rng: Source of randomness.
        factors: Numbers are multiplied by one of the two.
        resample: Probability that a parameter is drawn from the prior instead.
        fixed: Names of parameters that stay as they are; those that the space does not have are left out.
    """
    fresh = space.prior(rng, 1)[0]
    here = space.project(config)
    if here is None or not space.d:
        drawn: FloatArray = space.sample(rng, 1)[0]
        return drawn
    out = here
    stays = settled(space, {e.name for e in space.entries} & set(fixed))
    for _ in range(_TRIES):
        out = _changed(space, here, fresh, rng, factors, resample, stays)
        if not space.constraints or space.feasible(space.decode(out)):
            break
    row: FloatArray = space.repair(out[None, :], rng)[0]
    return row


def kept(space: Space, config: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The same configuration, or where the space has changed and does not allow it, one near it."""
    try:
        return space.check(config)
    except SpaceError:
        return space.decode(explored(space, config, rng, factors=(1.0, 1.0), resample=0.0))


def settled(space: Space, fixed: Collection[str] = ()) -> frozenset[int]:
    """First columns of the parameters that cannot change while a training goes on.

    Args:
        space: The space.
        fixed: Names of parameters that are among them anyway.

    Raises:
        ConfigError: If a name is none of the space's.
    """
    names = {e.name for e in space.entries}
    unknown = sorted(set(fixed) - names)
    if space.d and unknown:
        raise ConfigError(
            f"fixed must name parameters of the space, {', '.join(sorted(names))}; got {unknown[0]!r}. Correct it."
        )
    parents = {int(p) for p in space.layout.parent if p >= 0}
    return frozenset(e.first for e in space.entries if e.name in fixed or e.first in parents)


def _changed(
    space: Space,
    here: FloatArray,
    fresh: FloatArray,
    rng: np.random.Generator,
    factors: tuple[float, float],
    resample: float,
    stays: frozenset[int],
) -> FloatArray:
    """One change of every active parameter, constraints left aside; codes of inactive ones are those of ``fresh``."""
    out = np.where(np.isnan(here), fresh, here)
    for entry in space.entries:
        if np.isnan(here[entry.first]) or entry.first in stays:
            continue
        if rng.random() < resample:
            out[entry.where] = fresh[entry.where]
        else:
            out[entry.where] = nudged(entry, here[entry.where], factors[int(rng.integers(2))])
    return out


def nudged(entry: Entry, codes: FloatArray, factor: float) -> FloatArray:
    """Codes of one parameter after a step down (a factor below 1) or up; unchanged where there is no order."""
    domain = entry.domain
    if isinstance(domain, Order):
        k = len(domain.options)
        at = min(int(codes[0] * k), k - 1) + (1 if factor > 1.0 else -1)
        return np.array([(min(max(at, 0), k - 1) + 0.5) / k])
    if not isinstance(domain, Float | Int):
        return codes
    value = float(entry.decode(float(codes[0])))
    size = value if domain.low > 0 else max(abs(value), _SIZE * (domain.high - domain.low))
    moved = value + (factor - 1.0) * size
    if isinstance(domain, Int):
        least = math.copysign(domain.step, factor - 1.0)
        steps = (moved - value) / domain.step
        moved = value + (round(steps) * domain.step if abs(steps) >= 1.0 else least)
        moved = int(min(max(moved, domain.low), domain.low + (domain.count - 1) * domain.step))
    else:
        moved = min(max(moved, domain.low), domain.high)
    return np.array([min(max(entry.encode(moved), 0.0), 1.0)])
