"""Cholesky factors that survive nearly singular matrices, and what is solved with them.

LAPACK is called directly: for the matrices of a few hundred rows that models use, the checks of the high-level
wrappers cost as much as the arithmetic.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_JITTERS = (0.0, 1e-10, 1e-8, 1e-6, 1e-4)


@cache
def _lapack() -> Any:
    from scipy.linalg import lapack

    return lapack


def jittered_cholesky(a: FloatArray) -> FloatArray:
    """Lower Cholesky factor of ``a``, with as little added to the diagonal as makes it exist.

    Args:
        a: Symmetric positive semi-definite matrix, shape ``(n, n)``; not changed.

    Returns:
        Lower triangular ``(n, n)`` with ``L @ L.T`` equal to ``a`` plus at most 1e-4 of the mean of its diagonal.

    Raises:
        numpy.linalg.LinAlgError: If ``a`` is not finite, or further from positive definite than that.
    """
    potrf = _lapack().dpotrf
    size = float(np.mean(np.diagonal(a))) if len(a) else 1.0
    for jitter in _JITTERS if np.isfinite(size) else ():
        shifted = a if jitter == 0.0 else a + jitter * size * np.eye(len(a))
        factor, info = potrf(shifted, lower=1, clean=1)
        # LAPACK lets NaN through without a word.
        if info == 0 and np.isfinite(factor[-1:, -1:]).all():
            out: FloatArray = factor
            return out
    raise np.linalg.LinAlgError(
        f"A Cholesky factor needs a finite, nearly positive definite matrix; got one of shape {a.shape} that is "
        f"not, even with {_JITTERS[-1]:g} of its mean diagonal ({size:g}) added. Check the inputs for NaN or inf."
    )


def inverse_from_cholesky(factor: FloatArray) -> FloatArray:
    """Inverse of ``factor @ factor.T``, symmetric, shape ``(n, n)``.

    Args:
        factor: Lower Cholesky factor, shape ``(n, n)``.
    """
    inverse, _ = _lapack().dpotri(factor, lower=1)
    lower = np.tril(inverse)
    out: FloatArray = lower + lower.T
    np.einsum("ii->i", out)[:] *= 0.5
    return out


def solve_cholesky(factor: FloatArray, b: FloatArray) -> FloatArray:
    """Solves ``(factor @ factor.T) x = b``.

    Args:
        factor: Lower Cholesky factor, shape ``(n, n)``.
        b: Right-hand side, shape ``(n,)`` or ``(n, k)``.
    """
    x: FloatArray = _lapack().dpotrs(factor, b, lower=1)[0]
    return x


def solve_lower(factor: FloatArray, b: FloatArray) -> FloatArray:
    """Solves ``factor x = b`` for a lower triangular ``factor``.

    Args:
        factor: Lower triangular, shape ``(n, n)``.
        b: Right-hand side, shape ``(n,)`` or ``(n, k)``.
    """
    x: FloatArray = _lapack().dtrtrs(factor, b, lower=1)[0]
    return x


def solve_lower_transposed(factor: FloatArray, b: FloatArray) -> FloatArray:
    """Solves ``factor.T x = b`` for a lower triangular ``factor``.

    Args:
        factor: Lower triangular, shape ``(n, n)``.
        b: Right-hand side, shape ``(n,)`` or ``(n, k)``.
    """
    x: FloatArray = _lapack().dtrtrs(factor, b, lower=1, trans=1)[0]
    return x


def extend_cholesky(factor: FloatArray, cross: FloatArray, corner: FloatArray) -> FloatArray:
    """Factor of a matrix that grew by ``k`` rows, from the factor of the old one, in O(k n^2).

    Args:
        factor: Lower Cholesky factor of the old block, shape ``(n, n)``.
        cross: New rows against old ones, shape ``(k, n)``.
        corner: New rows against each other, noise included, shape ``(k, k)``.

    Returns:
        Lower triangular, shape ``(n + k, n + k)``.

    Raises:
        numpy.linalg.LinAlgError: If the grown matrix is far from positive definite.
    """
    n, k = len(factor), len(cross)
    below = solve_lower(factor, cross.T).T
    out = np.zeros((n + k, n + k))
    out[:n, :n] = factor
    out[n:, :n] = below
    rest = corner - below @ below.T
    # A new row that repeats an old one leaves a remainder of rounding size, of either sign.
    floor = 1e-12 * np.diagonal(corner)
    np.einsum("ii->i", rest)[:] = np.maximum(np.diagonal(rest), floor)
    out[n:, n:] = jittered_cholesky(rest)
    return out
