"""The ratio that TPE maximises against SciPy's truncated normals, and its share of good trials against documented numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunewright.core.algorithm import generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.samplers.tpe import Tpe

# Optuna's documentation of TPESampler: gamma is the function min(ceil(0.1 n), 25) by default.
GOOD = ((10, 1), (11, 2), (100, 10), (101, 11), (250, 25), (1000, 25))


def told(xs, losses):
    method = Tpe()
    state = method.init(Problem(Space(x=Float(0, 1))))
    for i, (x, loss) in enumerate(zip(xs, losses, strict=True)):
        end = Ended(i, 0, "completed", {"loss": float(loss)})
        state = method.tell(state, [Started(i, {"x": float(x)}), end])
    return method, state


@pytest.mark.parametrize(("n", "count"), GOOD)
def test_how_many_trials_are_good(n, count):
    losses = np.random.default_rng(n).permutation(n)
    method, state = told(np.linspace(0, 1, n), losses)
    assert method._good(state) == np.argsort(losses)[:count].tolist()


def density(centres, weights, at):
    """Truncated normals by SciPy, and a uniform part with the weight of one trial (Bergstra et al. 2011, section 4.1)."""
    # Scott 1992: 0.8 min(std, IQR / 1.34) k^(-1/5) of the centres and the middle, SciPy's IQR; at least hyperopt's magic clip.
    spread = np.append(centres, 0.5)
    wide = 0.8 * min(spread.std(), stats.iqr(spread) / 1.34) * len(spread) ** -0.2
    width = max(wide, 1.0 / min(100, len(centres) + 2))
    parts = [stats.truncnorm((0 - c) / width, (1 - c) / width, c, width).pdf(at) for c in centres]
    return (np.array(weights) @ np.array(parts) + 1.0) / (np.sum(weights) + 1.0)


@pytest.mark.parametrize("n", [40, 120])
def test_what_is_proposed_has_the_ratio_of_scipys_densities(n):
    # Bergstra et al. 2011, eq. 4: the ratio of the density of good trials to that of the others. Good ones weigh
    # log((k + 1) / rank), as in recombination of Hansen and Kern 2004, Table 1; together k.
    xs = np.random.default_rng(n).random(n)
    losses = np.abs(xs - 0.3)
    method, state = told(xs, losses)
    order = np.argsort(losses)
    k = n // 10
    weights = np.log((k + 1) / np.arange(1, k + 1))
    weights *= k / weights.sum()
    for seed in range(10):
        (action,) = method.ask(state, 1, generator(seed, n))
        at = action.config["x"]
        good, others = density(xs[order[:k]], weights, at), density(xs[order[k:]], np.ones(n - k), at)
        assert action.why["log_ratio"] == pytest.approx(np.log(good / others), abs=6e-4)


def test_draws_come_from_the_good_density():
    # Bergstra et al. 2011, section 4.2: candidates are drawn from the good density; with one candidate, so are proposals.
    xs = np.random.default_rng(1).random(60)
    losses = np.abs(xs - 0.3)
    _, state = told(xs, losses)
    draws = [a.config["x"] for a in Tpe(candidates=1).ask(state, 1500, generator(0, 0))]
    k = 6
    weights = np.log((k + 1) / np.arange(1, k + 1))
    weights *= k / weights.sum()
    grid = (np.arange(2000) + 0.5) / 2000
    law = np.cumsum(density(xs[np.argsort(losses)[:k]], weights, grid)) / 2000
    assert stats.kstest(draws, lambda v: np.interp(v, grid + 0.5 / 2000, law)).pvalue > 0.01
