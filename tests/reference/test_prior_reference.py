"""Guesses and their decay against densities, distributions and sums by SciPy, with the constants of piBO and PriorBand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.models import gp
from tunewright.models.belief import log_belief
from tunewright.samplers.bayes import Bayes
from tunewright.samplers.prior import Prior
from tunewright.samplers.random import Random


def told(method, space, rows):
    state = method.init(Problem(space))
    for i, (config, loss) in enumerate(rows):
        state = method.tell(state, [Started(i, config), Ended(i, 0, "completed", {"loss": float(loss)})])
    return state


@pytest.mark.parametrize("confidence", [0.2, 0.9])
def test_the_density_is_scipys_normal_mixed_with_uniform(confidence):
    # Hvarfner et al. 2022, section 4: priors are normal around the guess; a share of uniform keeps every point possible.
    space = Space(
        x=Float(-1, 3, guess=1.0, confidence=confidence), c=Choice(["a", "b", "c"], guess="b", confidence=0.5)
    )
    x, c = np.linspace(-1, 3, 9), ["a", "b", "c"] * 3
    rows = np.array([space.encode({"x": float(v), "c": o}) for v, o in zip(x, c, strict=True)])
    near = 1.0 - confidence + confidence * stats.norm.pdf((x + 1) / 4, 0.5, 0.1)
    option = np.where(np.array(c) == "b", 0.5 + 0.5 * 3, 0.5)
    assert np.exp(log_belief(space)(rows)) == pytest.approx(near * option, rel=1e-6)


@pytest.mark.parametrize("n", [1, 10, 40])
def test_an_acquisition_is_weighed_by_a_power_of_the_density(n):
    # Hvarfner et al. 2022, eq. 6: the acquisition times density^(beta / n), with the paper's beta = 10; after ten results the
    # power is one, and it goes to zero, so that the ratio of two points' weights does to one.
    space = Space(x=Float(0, 1, guess=0.3, confidence=0.9))
    method = Bayes(belief=10.0)
    columns = gp.columns_of(space.layout.levels, space.layout.categorical)
    (term,) = method._terms(method.init(Problem(space)), columns, np.empty((0, 1)), n)
    x = np.array([0.1, 0.3, 0.5])
    density = 0.1 + 0.9 * stats.norm.pdf(x, 0.3, 0.1)
    assert np.exp(term(x[:, None])) == pytest.approx(density ** (10.0 / n), rel=1e-6)


def test_the_first_trial_follows_scipys_mixture():
    # Mallik et al. 2023, section 5: before there are results every trial is drawn from the prior.
    space = Space(x=Float(0, 1, guess=0.3, confidence=0.7))
    method = Prior(Random())
    draws = [a.config["x"] for a in method.ask(method.init(Problem(space)), 3000, generator(1, 0))]
    law = stats.truncnorm(-0.3 / 0.1, 0.7 / 0.1, 0.3, 0.1)
    assert stats.kstest(draws, lambda v: 0.3 * v + 0.7 * law.cdf(v)).pvalue > 0.01


@pytest.mark.parametrize("belief", [2.0, 10.0])
def test_the_guesses_lose_weight_as_results_come(belief):
    # Share belief / (belief + n) after n results. Over 60 trials that sums to belief (digamma(belief + 60) -
    # digamma(belief)), by SciPy; draws of one study are independent, with variance share (1 - share).
    space = Space(x=Float(0, 1, guess=0.3, confidence=0.7))
    shares = belief / (belief + np.arange(60))
    expected = belief * (special.digamma(belief + 60) - special.digamma(belief))
    assert shares.sum() == pytest.approx(expected)
    method, runs, own = Prior(Random(), belief=belief), 30, 0
    for seed in range(runs):
        state = method.init(Problem(space, seed=seed))
        for i in range(60):
            (start,) = method.ask(state, 1, generator(seed, i))
            own += "trust" in (start.why or {})
            end = Ended(i, 0, "completed", {"loss": abs(start.config["x"] - 0.3)})
            state = method.tell(state, [Started(i, start.config), end])
    spread = np.sqrt(runs * (shares * (1.0 - shares)).sum())
    assert own == pytest.approx(runs * expected, abs=3.5 * spread)


def test_the_incumbent_is_changed_as_in_priorband():
    # Mallik et al. 2023: every parameter moves with chance 1/2, by a normal step of standard deviation 1/4 of the range;
    # an option that moves is drawn anew, so that it differs with chance 1/2 x 2/3 of three.
    space = Space(
        x=Float(0, 1, guess=0.99, confidence=0.99),
        c=Choice(["a", "b", "c"], guess="a", confidence=0.99),
        y=Float(0, 1),
    )
    # The best trials are far from the guess, so that the incumbent is trusted.
    rows = [({"x": 0.5, "c": "b", "y": 0.5}, i) for i in range(9)]
    method = Prior(Random(), belief=1e9)
    found = method.ask(told(method, space, rows), 3000, generator(2, 0))
    beside = [a.config for a in found if "incumbent" in a.why]
    assert len(beside) > 2900
    n = len(beside)
    for name in ("x", "y"):
        steps = np.array([c[name] for c in beside]) - 0.5
        moved = steps[np.abs(steps) > 1e-9]
        assert stats.binomtest(len(moved), n, 0.5).pvalue > 0.01
        # Steps beyond a bound stop there; those within follow the normal distribution cut at it.
        inner = moved[np.abs(moved) < 0.5]
        assert stats.kstest(inner, stats.truncnorm(-2, 2, 0.0, 0.25).cdf).pvalue > 0.01
        assert stats.binomtest(len(moved) - len(inner), len(moved), 2.0 * stats.norm.sf(2.0)).pvalue > 0.01
    others = sum(c["c"] != "b" for c in beside)
    assert stats.binomtest(others, n, 1.0 / 3.0).pvalue > 0.01
