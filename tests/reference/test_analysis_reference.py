"""Measures of importance against numbers from elsewhere."""

import math

import numpy as np
import pytest

import tunewright as tw
from tunewright.analysis.attainment import volume_by_trial
from tunewright.analysis.fanova import fanova
from tunewright.analysis.footprint import distances
from tunewright.analysis.importance import importance


def study_of(loss, space, n, seed=0):
    study = tw.Study.open("s", space, method="random", storage="memory", seed=seed)
    for _ in range(n):
        trial = study.ask()
        trial.tell(float(loss(trial.params)))
    return study.history()


def test_shares_of_an_additive_function_are_its_closed_form():
    """f = sum of a_i x_i over the cube has the shares a_i^2 / sum of a_j^2 (Hoeffding's decomposition)."""
    weights = {"a": 3.0, "b": 2.0, "c": 1.0}
    space = tw.Space({n: tw.Float(0, 1) for n in weights})
    found = fanova(study_of(lambda c: sum(w * c[n] for n, w in weights.items()), space, 1500), pairs=3)
    single = {i.name: i.value for i in found.single}
    for name, weight in weights.items():
        assert single[name] == pytest.approx(weight**2 / 14, abs=0.05)
    assert max(p.value for p in found.pairs) < 0.03


def test_shares_of_options_are_their_closed_form():
    """Three equally likely options with means 0, 1, 2 have variance 2/3; x adds 1/12."""
    space = tw.Space(c=tw.Choice(["p", "q", "r"]), x=tw.Float(0, 1))
    found = fanova(study_of(lambda c: "pqr".index(c["c"]) + c["x"], space, 600)).single
    assert found[0].name == "c"
    assert found[0].value == pytest.approx((2 / 3) / (2 / 3 + 1 / 12), abs=0.03)


def test_shares_of_ishigami_are_its_sobol_indices():
    """a = 7, b = 0.1: S1 = 0.3139, S2 = 0.4424, S3 = 0, S13 = 0.2437 (Saltelli et al. 2008, Global Sensitivity Analysis, 4.9)."""
    space = tw.Space({f"x{i}": tw.Float(-math.pi, math.pi) for i in (1, 2, 3)})

    def ishigami(c):
        return math.sin(c["x1"]) + 7 * math.sin(c["x2"]) ** 2 + 0.1 * c["x3"] ** 4 * math.sin(c["x1"])

    found = fanova(study_of(ishigami, space, 2000), pairs=3)
    single = {i.name: i.value for i in found.single}
    # A forest of 2000 points cuts x2, whose waves only show together, last, so that its share falls short.
    assert single["x1"] == pytest.approx(0.3139, abs=0.07)
    assert single["x2"] == pytest.approx(0.4424, abs=0.12)
    assert single["x3"] < 0.03
    assert found.pairs[0].names == ("x1", "x3")
    assert found.pairs[0].value == pytest.approx(0.2437, abs=0.07)


@pytest.mark.slow
def test_shapley_shares_of_a_line_are_those_of_the_linear_explainer():
    """On independent inputs the Shapley values of a line are b_j (x_j - E x_j); ``shap.LinearExplainer`` computes those."""
    shap = pytest.importorskip("shap")
    from sklearn.linear_model import LinearRegression

    weights = {"a": 3.0, "b": 2.0, "c": 1.0, "d": 0.0}
    space = tw.Space({n: tw.Float(0, 1) for n in weights})
    history = study_of(lambda c: sum(w * c[n] for n, w in weights.items()), space, 1000)
    line = LinearRegression().fit(history.codes, history.loss)
    theirs = np.abs(shap.LinearExplainer(line, history.codes).shap_values(history.codes)).mean(axis=0)
    theirs /= theirs.sum()
    ours = {i.name: i.value for i in importance(history, method="shapley")}
    for name, share in zip(weights, theirs, strict=True):
        assert ours[name] == pytest.approx(share, abs=0.05)


def test_distances_are_those_of_scipy_for_numbers():
    from scipy.spatial.distance import cdist

    space = tw.Space({f"x{i}": tw.Float(0, 1) for i in range(5)})
    rows = space.sample(np.random.default_rng(0), 20)
    assert np.allclose(distances(space, rows, rows), cdist(rows, rows, "cityblock") / 5)


def test_the_volume_of_the_front_x_plus_y_is_one_half():
    """k points on x + y = 1 dominate half of the unit square but for 1 / (2 k) (a staircase of k - 1 squares)."""
    k = 101
    x = np.linspace(0, 1, k)
    losses = np.random.default_rng(0).permutation(np.column_stack([x, 1 - x]))
    assert volume_by_trial(losses, np.array([1.0, 1.0]))[-1] == pytest.approx(0.5 - 0.5 / (k - 1))
