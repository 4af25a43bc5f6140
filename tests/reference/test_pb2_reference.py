"""The model of population-based bandits against its formulas, computed the plain way.

Parker-Holder, Nguyen and Roberts 2020 (arXiv:2002.02518), section 4: eq. 5 for the kernel, eq. 6 for the posterior; Desautels,
Krause and Burdick 2014 (JMLR 15), section 4, for the deviation given awaited results.
"""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models.drift import Hyper, awaiting, condition, predict, scaled

RNG = np.random.default_rng(3)
X, T, Y = RNG.random((12, 2)), np.arange(12.0), RNG.standard_normal(12)
HYPER = Hyper(0.5, 0.2, 0.1)


def kernel(a: np.ndarray, s: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    out = np.empty((len(a), len(b)))
    for i in range(len(a)):
        for j in range(len(b)):
            square = sum((a[i][c] - b[j][c]) ** 2 for c in range(2))
            out[i, j] = np.exp(-square / (2 * 0.5**2)) * (1 - 0.1) ** (abs(s[i] - t[j]) / 2)
    return out


def plain(x: np.ndarray, t: np.ndarray, q: np.ndarray, at: float) -> np.ndarray:
    gram = kernel(x, t, x, t) + 0.2 * np.eye(len(x))
    weights: np.ndarray = kernel(q, np.full(len(q), at), x, t) @ np.linalg.inv(gram)
    return weights


def test_the_posterior_is_that_of_equation_6() -> None:
    q = RNG.random((5, 2))
    weights = plain(X, T, q, 12.5)
    mean, deviation = predict(condition(HYPER, X, T, Y), q, 12.5)
    cross = kernel(q, np.full(5, 12.5), X, T)
    assert mean == pytest.approx(weights @ scaled(Y), rel=1e-9)
    assert deviation**2 == pytest.approx(1 - np.einsum("ij,ij->i", weights, cross), rel=1e-9)


def test_awaited_results_count_as_in_a_batch() -> None:
    q, more, when = RNG.random((5, 2)), RNG.random((3, 2)), np.array([12.0, 12.0, 13.0])
    drift = awaiting(condition(HYPER, X, T, Y), more, when)
    x, t = np.vstack([X, more]), np.concatenate([T, when])
    cross = kernel(q, np.full(5, 13.0), x, t)
    mean, deviation = predict(drift, q, 13.0)
    assert deviation**2 == pytest.approx(1 - np.einsum("ij,ij->i", plain(x, t, q, 13.0), cross), rel=1e-9)
    assert mean == pytest.approx(plain(X, T, q, 13.0) @ scaled(Y), rel=1e-9)
