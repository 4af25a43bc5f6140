"""Hyperparameters under a sparse prior: most columns have no effect unless the data insists.

*Use when* there are dozens of columns of which a few matter. *Do not use when* all of them do: each then pays for its
length scale.

*Paper*: Eriksson and Jankowiak 2021 (SAASBO, arXiv:2103.00049), section 4.1: inverse squared length scales are
half-Cauchy of scale ``tau``, and ``tau`` half-Cauchy of scale 0.1.

*Differs*: the mode for each of two values of ``tau``, weighed by its posterior density, in place of Monte-Carlo samples:
the shrinkage stays and the cost falls a hundredfold, but the uncertainty about which columns matter is that of
two guesses. The kernel is Matern 5/2, as in the authors' program, and the density is that of the inverse squared
length scales, finite at zero, so that a column without effect is at zero.

*Cost*: at most 80 factorisations of n^3 with n at most 120, and O(d n^2) for each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tunewright.models.evidence import evidence
from tunewright.models.kernel import Columns, Hyper
from tunewright.numerics.optimize import minimize_in_box

FloatArray = NDArray[np.float64]

GLOBAL_SCALE = 0.1
TAUS = (0.3, 0.1)
_EVALUATIONS = 40
_START = 0.5


@dataclass(frozen=True, slots=True)
class Member:
    """One mode.

    Attributes:
        hyper: Its hyperparameters.
        weight: Its share of the posterior among the modes found.
        tau: The scale of the inverse squared length scales.
    """

    hyper: Hyper
    weight: float
    tau: float


def shrinkage(log_length: FloatArray, tau: float) -> tuple[float, FloatArray]:
    """Negative log half-Cauchy density of the inverse squared length scales, normalised, and its gradient.

    Args:
        log_length: Log length scales, shape ``(d,)``; the gradient is by these.
        tau: Scale of the half-Cauchy distribution, positive.

    Source: Eriksson and Jankowiak 2021, section 4.1, the third line of eq. 5.
    """
    ratio = np.exp(-4.0 * log_length) / tau**2
    value = float(np.log1p(ratio).sum()) - len(log_length) * float(np.log(2.0 / (np.pi * tau)))
    return value, -4.0 * ratio / (1.0 + ratio)


def modes(columns: Columns, x: FloatArray, y: FloatArray) -> tuple[Member, ...]:
    """The most probable hyperparameters for each ``tau``, the most probable first.

    Args:
        columns: The embedding.
        x: Rows of codes, shape ``(n, d)``.
        y: Warped losses, unitless, shape ``(n,)``.
    """
    d = columns.d
    flat = evidence(columns, x, y, None, False)
    # The half-Cauchy takes the place of the normal prior of the length scales.
    flat = replace(flat, spread=np.concatenate([np.full(d, np.inf), flat.spread[d:]]))
    low, high = flat.bounds()
    found: list[tuple[float, FloatArray, float]] = []
    v = flat.start()
    # Everything matters a little at first, and equally: what has no effect is then driven out.
    v[:d] = 0.5 * np.log(max(d, 1) / 6.0 / _START + 1.0)
    for tau in TAUS:

        def loss(point: FloatArray, scale: float = tau) -> tuple[float, FloatArray]:
            value, gradient = flat.loss(point)
            more, by_length = shrinkage(point[:d], scale)
            gradient[:d] += by_length
            return value + more, gradient

        v, value = minimize_in_box(loss, v, low, high, max_evaluations=_EVALUATIONS)
        found.append((value + float(np.log1p((tau / GLOBAL_SCALE) ** 2)), v, tau))
    return _weighed([(value, flat.hyper(v), tau) for value, v, tau in found], d)


def _weighed(found: list[tuple[float, Hyper, float]], d: int) -> tuple[Member, ...]:
    # A mode of a narrow prior is high because it is narrow: its height times its width, tau^d, is what counts.
    scores = np.array([value - d * float(np.log(tau)) for value, _, tau in found])
    weights = np.exp(-(scores - scores.min()))
    weights = weights / weights.sum()
    members = [Member(h, float(w), tau) for (_, h, tau), w in zip(found, weights, strict=True)]
    return tuple(sorted(members, key=lambda m: -m.weight))
