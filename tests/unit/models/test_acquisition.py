import numpy as np
import pytest

from tunewright.models import acquisition
from tunewright.models import gp as model

LEVELS = np.array([0, 4, 7])
CATEGORICAL = np.array([False, True, False])


def repair(codes):
    codes = np.clip(codes, 0.0, 1.0)
    for j, k in ((1, 4), (2, 7)):
        codes[:, j] = (np.minimum((codes[:, j] * k).astype(int), k - 1) + 0.5) / k
    return codes


def losses(x):
    return (x[:, 0] - 0.62) ** 2 + 0.3 * (np.abs(x[:, 1] - 0.625) > 0.1) + (x[:, 2] - 0.5) ** 2


def fitted(n=30, seed=0):
    x = repair(np.random.default_rng(seed).random((n, 3)))
    return model.fit(x, losses(x), LEVELS, CATEGORICAL)


def test_gradient_of_log_expected_improvement():
    gp = fitted()
    x = repair(np.random.default_rng(5).random((8, 3)))
    best = float(gp.y.min())
    value, gradient = acquisition.log_expected_improvement_with_gradient(gp, x, best)
    np.testing.assert_allclose(
        value, acquisition.log_expected_improvement(*model.predict(gp, x), best), rtol=1e-6
    )
    for j in (0, 2):
        step = np.zeros(3)
        step[j] = 1e-6
        up, down = (
            acquisition.log_expected_improvement(*model.predict(gp, z), best) for z in (x + step, x - step)
        )
        np.testing.assert_allclose(gradient[:, j], (up - down) / 2e-6, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(gradient[:, 1], 0.0)


def test_confidence_bound():
    out = acquisition.lower_confidence_bound(np.array([1.0, 0.0]), np.array([1.0, 0.5]), beta=4.0)
    np.testing.assert_allclose(out, [-1.0, -1.0])


def test_mutants_change_something_and_stay_in_the_cube():
    rng = np.random.default_rng(0)
    base = np.array([[0.5, 0.125, np.nan]])
    out = acquisition.mutations(base, 500, LEVELS, CATEGORICAL, rng)
    assert np.all((out >= 0) & (out <= 1))
    changed = np.column_stack([out[:, 0] != 0.5, out[:, 1] != 0.125])
    assert 0.3 < changed.mean() < 0.9


def test_an_ordered_discrete_mutation_moves_by_at_least_a_level():
    base = np.array([[0.5, 0.125, 0.5]])
    out = acquisition.mutations(base, 500, LEVELS, CATEGORICAL, np.random.default_rng(0))
    moved = out[:, 2] != 0.5
    assert moved.any()
    assert np.all(np.abs(out[moved, 2] - 0.5) >= 1 / 7 - 1e-12)


def test_neighbours_are_one_step_away():
    row = np.array([0.3, 0.125, 0.5 / 7])
    out = acquisition.neighbours(row, LEVELS, CATEGORICAL, np.random.default_rng(0))
    # Three other choices, and one level up (the lowest level has nothing below).
    assert out.shape == (4, 3)
    assert np.all((out != row).sum(axis=1) == 1)
    assert acquisition.neighbours(row[:1], LEVELS[:1], CATEGORICAL[:1], np.random.default_rng(0)).shape == (
        0,
        1,
    )


def test_the_maximiser_beats_every_candidate_and_returns_a_legal_new_row():
    gp, rng = fitted(), np.random.default_rng(1)
    best = float(gp.y.min())
    candidates = repair(rng.random((100, 3)))
    incumbents = gp.x[np.argsort(gp.y)[:3]]
    row, value = acquisition.maximize_acquisition(
        acquisition.log_improvement(gp, best), gp.x, LEVELS, CATEGORICAL, candidates, incumbents, repair, rng
    )
    assert value >= acquisition.log_expected_improvement(*model.predict(gp, candidates), best).max()
    np.testing.assert_allclose(repair(row[None])[0], row)
    assert np.abs(gp.x - row).max(axis=1).min() > 1e-6
    fine = repair(np.random.default_rng(2).random((20_000, 3)))
    assert value >= acquisition.log_expected_improvement(*model.predict(gp, fine), best).max() - 0.05


def test_a_prior_moves_the_choice():
    gp = fitted()
    candidates = repair(np.random.default_rng(1).random((200, 3)))

    def low_first(x):
        return -1000.0 * x[:, 0]

    row, _ = acquisition.maximize_acquisition(
        acquisition.log_improvement(gp, float(gp.y.min())),
        gp.x,
        LEVELS,
        CATEGORICAL,
        candidates,
        gp.x[:0],
        repair,
        np.random.default_rng(0),
        terms=(low_first,),
    )
    assert row[0] < 0.2


@pytest.mark.parametrize("known", [3, 4])
def test_known_rows_are_avoided_while_there_are_others(known):
    levels, categorical = np.array([4]), np.array([True])
    space = (np.arange(4)[:, None] + 0.5) / 4
    gp = model.fit(space[:known], np.arange(float(known)), levels, categorical)
    row, _ = acquisition.maximize_acquisition(
        acquisition.log_improvement(gp, float(gp.y.min())),
        gp.x,
        levels,
        categorical,
        space,
        space[:1],
        lambda c: (np.floor(c * 4).clip(0, 3) + 0.5) / 4,
        np.random.default_rng(0),
    )
    assert row[0] in (space[3:] if known == 3 else space)


def test_a_few_rounds_find_the_optimum_of_a_mixed_function():
    x = repair(np.random.default_rng(3).random((8, 3)))
    for t in range(25):
        rng = np.random.default_rng(t)
        y = losses(x)
        gp = model.fit(x, y, LEVELS, CATEGORICAL)
        row, _ = acquisition.maximize_acquisition(
            acquisition.log_improvement(gp, float(gp.y.min())),
            gp.x,
            LEVELS,
            CATEGORICAL,
            repair(rng.random((200, 3))),
            x[np.argsort(y)[:5]],
            repair,
            rng,
        )
        x = np.vstack([x, row])
    assert losses(x).min() < 1e-3
