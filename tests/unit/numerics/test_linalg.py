import numpy as np
import pytest

from tunewright.numerics import linalg


def spd(n, seed=0):
    a = np.random.default_rng(seed).standard_normal((n, n))
    return a @ a.T + 0.1 * np.eye(n)


@pytest.mark.parametrize("n", [1, 2, 17])
def test_factor_inverse_and_solves_agree_with_dense_algebra(n):
    a = spd(n)
    b = np.random.default_rng(1).standard_normal((n, 3))
    factor = linalg.jittered_cholesky(a)
    np.testing.assert_allclose(factor, np.linalg.cholesky(a), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(linalg.inverse_from_cholesky(factor), np.linalg.inv(a), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(linalg.solve_cholesky(factor, b), np.linalg.solve(a, b), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(factor @ linalg.solve_lower(factor, b[:, 0]), b[:, 0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(factor.T @ linalg.solve_lower_transposed(factor, b), b, rtol=1e-10, atol=1e-12)


def test_a_singular_matrix_gets_a_factor_close_to_it():
    a = np.ones((6, 6))
    factor = linalg.jittered_cholesky(a)
    assert np.abs(factor @ factor.T - a).max() <= 1e-4


def test_the_argument_is_not_changed():
    a = spd(4)
    kept = a.copy()
    linalg.inverse_from_cholesky(linalg.jittered_cholesky(a))
    np.testing.assert_array_equal(a, kept)


@pytest.mark.parametrize("bad", [-np.eye(3), np.full((2, 2), np.nan), np.diag([1.0, np.inf])])
def test_no_factor_for_indefinite_or_non_finite_matrices(bad):
    with pytest.raises(np.linalg.LinAlgError, match="nearly positive definite"):
        linalg.jittered_cholesky(bad)


@pytest.mark.parametrize("k", [1, 3])
def test_an_extended_factor_is_the_factor_of_the_grown_matrix(k):
    a = spd(9)
    factor = linalg.jittered_cholesky(a[:-k, :-k])
    grown = linalg.extend_cholesky(factor, a[-k:, :-k], a[-k:, -k:])
    np.testing.assert_allclose(grown, np.linalg.cholesky(a), rtol=1e-10, atol=1e-12)


def test_extending_by_a_repeated_row_stays_finite():
    a = spd(5)
    grown = linalg.extend_cholesky(linalg.jittered_cholesky(a), a[2:3], a[2:3, 2:3])
    assert np.isfinite(grown).all()
    assert grown[-1, -1] > 0
