"""Transfer methods against numbers from outside: SciPy, closed forms, theorems, and constants of the papers."""

from __future__ import annotations

from dataclasses import fields
from itertools import combinations

import numpy as np
import pytest
from scipy import linalg, optimize, stats

from tunewright.core.domains import Float
from tunewright.core.space import Space
from tunewright.models import gp
from tunewright.models.reshape import narrowed
from tunewright.samplers.boss import Boss
from tunewright.samplers.copula import normal_scores, winsor
from tunewright.samplers.portfolio import greedy
from tunewright.samplers.prior import trust
from tunewright.samplers.rgpe import leave_one_out, ranking_losses
from tunewright.schedulers.smoothie import Smoothie


@pytest.mark.parametrize(
    ("n", "delta"),
    [
        # Salinas et al. 2020, section 4.1: 1 / (4 N^(1/4) sqrt(pi log N)), computed with a pocket calculator.
        (16, 0.0423527),
        (100, 0.0207846),
        (10_000, 0.0046476),
    ],
)
def test_winsorising_of_the_copula(n, delta):
    assert winsor(n) == pytest.approx(delta, rel=1e-4)


def test_normal_scores_are_scipys_quantiles_of_scipys_ranks():
    values = np.random.default_rng(0).integers(0, 20, 60).astype(float)
    cut = winsor(60)
    share = np.clip((stats.rankdata(values) - 0.5) / 60, cut, 1 - cut)
    assert normal_scores(values) == pytest.approx(stats.norm.ppf(share), abs=1e-9)


def test_ranking_loss_is_kendalls_tau_in_other_words():
    # tau = 1 - 2 discordant / (n (n - 1) / 2), without ties; SciPy.
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=12), rng.normal(size=12)
    tau = stats.kendalltau(a, b).statistic
    assert ranking_losses(a[None], b)[0] == pytest.approx((1 - tau) / 2 * 12 * 11)


def test_leave_one_out_is_that_of_solving_without_the_row():
    # Rasmussen and Williams 2006, section 5.4.2: conditioning a joint normal on all other values, with SciPy's solver.
    rng = np.random.default_rng(2)
    x = rng.random((10, 2))
    space = Space(a=Float(0, 1), b=Float(0, 1))
    model = gp.fit(x, np.sin(5 * x[:, 0]) + x[:, 1], space.layout.levels, space.layout.categorical)
    joint = model.factor @ model.factor.T
    mean, std = leave_one_out(model)
    for i in range(10):
        rest = np.arange(10) != i
        weights = linalg.solve(joint[np.ix_(rest, rest)], joint[rest, i])
        assert mean[i] == pytest.approx(model.mean + weights @ (model.y[rest] - model.mean), abs=1e-6)
        assert std[i] ** 2 == pytest.approx(joint[i, i] - weights @ joint[rest, i], rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_portfolios_are_near_the_best_of_all(seed):
    # Nemhauser, Wolsey and Fisher 1978: the greedy gain is at least 1 - 1/e of the best gain of as many picks.
    losses = np.random.default_rng(seed).random((6, 9))
    first = losses.max()
    gain = lambda picks: (first - losses[:, list(picks)].min(axis=1)).mean()  # noqa: E731
    best = max(gain(c) for c in combinations(range(9), 3))
    assert gain(greedy(losses, 3)) >= (1 - 1 / np.e) * best


def test_the_box_is_the_smallest_by_linear_programming():
    # Perrone et al. 2019, eq. 3 in one dimension, solved by SciPy: min u - l subject to l <= theta_t <= u.
    optima = np.array([0.31, 0.62, 0.45, 0.58])
    bounds = [(0, 1), (0, 1)]
    above = np.column_stack([np.zeros(4), -np.ones(4)])
    below = np.column_stack([np.ones(4), np.zeros(4)])
    found = optimize.linprog(
        [-1, 1], np.vstack([above, below]), np.concatenate([-optima, optima]), bounds=bounds
    )
    box = narrowed(Float(0, 1), optima.tolist(), 0.01)
    assert (box.low, box.high) == pytest.approx(tuple(found.x))


def test_trust_is_the_weighted_sum_of_scipys_densities():
    # Mallik et al. 2023, eq. 2: sums over the best trials of (rank weight) x (density).
    space = Space(x=Float(0, 1, guess=0.3, confidence=0.6))
    best = np.array([[0.5], [0.35], [0.9]])
    weights = np.array([3.0, 2.0, 1.0])
    prior = 0.4 + 0.6 * stats.norm.pdf(best[:, 0], 0.3, 0.1)
    incumbent = 0.5 + 0.5 * stats.norm.pdf(best[:, 0], 0.5, 0.25)
    expected = weights @ prior / (weights @ prior + weights @ incumbent)
    assert trust(space, best) == pytest.approx(expected)


def test_defaults_are_those_of_the_papers():
    # Lee et al. 2023, section 4.1: 32 trials of warm-up out of 128, teachers and students from the best 8.
    assert {f.name: f.default for f in fields(Boss)}["warmup"] == 32
    assert {f.name: f.default for f in fields(Boss)}["top"] == 8
    # Yedida and Menzies 2024, section 4, and their program: 30 settings, of which 5 are trained.
    assert {f.name: f.default for f in fields(Smoothie)}["batch"] == 30
    assert {f.name: f.default for f in fields(Smoothie)}["keep"] == 5
