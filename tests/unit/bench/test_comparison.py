import numpy as np
import pytest

from tunewright.bench.comparison import critical_difference, friedman, standings, task_ranks

# Demsar 2006, Table 6: AUC of four variants of C4.5 on fourteen sets; higher is better there.
AUC = np.array(
    [
        [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957],
        [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978],
        [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946],
        [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970],
    ]
)
NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
REGRETS = {name: 1.0 - row[:, None] for name, row in zip(NAMES, AUC, strict=True)}


def test_mean_ranks_of_the_published_example():
    # Demsar 2006, section 3.2.3: 3.143, 2.000, 2.893, 1.964.
    means = [float(task_ranks(REGRETS)[n].mean()) for n in NAMES]
    np.testing.assert_allclose(means, [3.143, 2.000, 2.893, 1.964], atol=5e-4)


def test_friedman_and_critical_difference_of_the_published_example():
    # Demsar 2006, section 3.2.3: F = 3.69, F(3, 39) at 5 % is 2.85; CD = 2.569 sqrt(4 * 5 / (6 * 14)) = 1.25.
    f, p = friedman(REGRETS)
    assert f == pytest.approx(3.69, abs=0.01)
    assert 0.01 < p < 0.05
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(11, 14) == float("inf")


def test_standings_name_the_best_and_say_how_sure():
    rng = np.random.default_rng(0)
    good, bad = rng.uniform(0.0, 0.1, (12, 5)), rng.uniform(0.2, 0.3, (12, 7))
    table = standings({"bad": bad, "good": good})
    assert [s.name for s in table] == ["good", "bad"]
    assert table[0].rank == 1.0
    assert table[0].low < table[0].regret < table[0].high
    assert table[0].p > 0.9
    assert table[1].p < 0.001


def test_ties_share_a_rank():
    ranks = task_ranks({"a": np.zeros((2, 3)), "b": np.zeros((2, 3))})
    np.testing.assert_array_equal(ranks["a"], [1.5, 1.5])
