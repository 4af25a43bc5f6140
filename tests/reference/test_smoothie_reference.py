"""Smoothness against derivatives by SciPy's distributions and models by scikit-learn; who goes on, by the standard library."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from scipy import optimize, special, stats

from tunewright.core.algorithm import Resume, Stop, generator
from tunewright.core.domains import Float
from tunewright.core.events import Paused, Reported, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.models.smoothness import feed_forward, logistic_regression, naive_bayes
from tunewright.samplers.random import Random
from tunewright.schedulers.smoothie import Smoothie


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_network_has_the_slope_of_scipys_softmax_over_its_weights(classes):
    # Yedida and Menzies 2024, section 3.3: where all classes are as likely, the cross-entropy falls along the weights of the
    # true class by (k - 1) / k times the inputs. Derivative by SciPy's finite differences of its log-softmax, one row.
    rng = np.random.default_rng(classes)
    inputs, weights = rng.normal(size=4), rng.normal(size=(4, classes))

    def loss(true):
        logits = np.column_stack([true, np.zeros((4, classes - 1))]).T @ inputs
        return -special.log_softmax(logits)[0]

    slope = optimize.approx_fprime(np.zeros(4), loss, 1e-7)
    found = feed_forward(inputs[None], weights, classes)
    assert found * np.sqrt((weights**2).sum()) == pytest.approx(np.linalg.norm(slope), rel=1e-5)


def test_logistic_regression_of_scikit_learn_is_smoother_with_more_penalty():
    # The number falls as the weights grow, and scikit-learn's C, an inverse penalty, lets them grow.
    data = pytest.importorskip("sklearn.datasets").load_iris()
    linear = pytest.importorskip("sklearn.linear_model")
    found = []
    for c in (0.01, 1.0, 100.0):
        model = linear.LogisticRegression(C=c, max_iter=10_000).fit(data.data, data.target)
        found.append(logistic_regression(data.data, model.coef_, 3))
        # (k - 1) / (k n) |X| / |W| with 150 flowers; the sum of squares of Fisher's measurements is 9539.29.
        weights = np.sqrt((model.coef_**2).sum())
        assert found[-1] == pytest.approx(2 / 3 / 150 * np.sqrt(9539.29) / weights, rel=1e-9)
    assert found[0] > 2.0 * found[1] > 4.0 * found[2]


def test_naive_bayes_is_the_second_derivative_of_scipys_likelihood():
    # Section 3.1: second derivative of the mean negative log likelihood by the variances, at scikit-learn's pooled ones.
    data = pytest.importorskip("sklearn.datasets").load_iris()
    discriminant = pytest.importorskip("sklearn.discriminant_analysis")
    pooled = discriminant.LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True)
    pooled.fit(data.data, data.target)
    rest = data.data - pooled.means_[data.target]
    second = []
    for j, variance in enumerate(np.diag(pooled.covariance_)):

        def loss(v, j=j):
            return -stats.norm.logpdf(rest[:, j], 0.0, np.sqrt(v)).mean()

        step = 1e-3 * variance
        second.append((loss(variance + step) - 2.0 * loss(variance) + loss(variance - step)) / step**2)
    assert naive_bayes(data.data, data.target) == pytest.approx(-np.linalg.norm(second), rel=1e-4)


def test_five_of_thirty_go_on():
    # Algorithm 1 with the paper's N = 30 and n = 5; the largest five by heapq of the standard library.
    method = Smoothie(Random())
    state = method.init(Problem(Space(x=Float(0, 1)), fidelity=Fidelity(9)))
    numbers = np.random.default_rng(5).random(30)
    for i, number in enumerate(numbers):
        metrics = {"loss": float(i), "smoothness": float(number)}
        state = method.tell(state, [Started(i, {"x": 0.5}, 1), Reported(i, 0, 1, metrics), Paused(i, 0, 1)])
    actions = method.ask(state, 30, generator(0, 0))
    best = [i for _, i in heapq.nlargest(5, [(x, i) for i, x in enumerate(numbers)])]
    assert [a.trial for a in actions if isinstance(a, Resume)] == best
    assert len([a for a in actions if isinstance(a, Stop)]) == 25
