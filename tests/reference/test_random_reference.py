"""Independent draws against the distributions of SciPy and a rule of Bergstra and Bengio."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.samplers.random import Random

SPACE = Space(
    x=Float(-2, 3),
    r=Float(1e-4, 10.0, log=True),
    n=Int(3, 9),
    big=Int(1, 1000, log=True),
    c=Choice(list("abcd")),
)


def drawn(space: Space, n: int, seed: int = 0) -> list[dict]:
    method = Random()
    return [a.config for a in method.ask(method.init(Problem(space)), n, generator(seed, 0))]


CONFIGS = drawn(SPACE, 4000)


@pytest.mark.parametrize(
    ("name", "law"), [("x", stats.uniform(-2, 5)), ("r", stats.loguniform(1e-4, 10.0))], ids=["x", "r"]
)
def test_continuous_parameters_follow_scipys_distributions(name, law):
    # Kolmogorov and Smirnov; the mean of a log-uniform number is (b - a) / log(b / a).
    values = [c[name] for c in CONFIGS]
    assert stats.kstest(values, law.cdf).pvalue > 0.01
    error = law.std() / np.sqrt(len(values))
    assert np.mean(values) == pytest.approx(law.mean(), abs=3.5 * error)


@pytest.mark.parametrize(("name", "options"), [("n", list(range(3, 10))), ("c", list("abcd"))])
def test_levels_and_options_have_equal_chances(name, options):
    found = [sum(c[name] == o for c in CONFIGS) for o in options]
    assert sum(found) == len(CONFIGS)
    assert stats.chisquare(found).pvalue > 0.01


def test_whole_numbers_on_a_log_scale_share_it_among_them():
    # A decade of three has a third of the draws, up to the width of one level at its ends.
    values = np.array([c["big"] for c in CONFIGS])
    law = stats.loguniform(0.5, 1000.5)
    for level in (1, 2, 5, 10, 100, 400):
        # Rounding of a log-uniform number: SciPy's chance of at most level + 1/2.
        share = law.cdf(level + 0.5)
        assert (values <= level).mean() == pytest.approx(share, abs=3.5 * np.sqrt(0.25 / len(values)))


def test_parameters_are_independent():
    values = np.array([[c["x"], np.log(c["r"]), c["n"], "abcd".index(c["c"])] for c in CONFIGS])
    for i in range(4):
        for j in range(i):
            assert stats.spearmanr(values[:, i], values[:, j]).pvalue > 0.005


def test_sixty_draws_find_the_best_twentieth():
    # 1 - 0.95^60 = 0.954: the rule of thumb that follows from Bergstra and Bengio 2012; here 500 searches.
    hits = [min(c["x"] for c in drawn(Space(x=Float(0, 1)), 60, seed)) < 0.05 for seed in range(500)]
    assert stats.binomtest(sum(hits), 500, 0.954).pvalue > 0.05 / 20


def test_small_finite_spaces_are_a_permutation():
    # Without replacement, the place of the one best of 12 is uniform: 6.5 draws on average, not 12.
    space = Space(c=Choice(list(range(12))))
    places = []
    for seed in range(300):
        configs = drawn(space, 12, seed)
        places.append([c["c"] for c in configs].index(7))
    counts = np.bincount(places, minlength=12)
    assert stats.chisquare(counts).pvalue > 0.01
