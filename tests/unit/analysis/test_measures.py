"""Importance by every measure, on functions whose answer is known."""

import math

import numpy as np
import pytest
import studies

import tunewright as tw
from tunewright.analysis.ablation import ablation
from tunewright.analysis.fanova import averages, fanova
from tunewright.analysis.importance import METHODS, SAYS, importance
from tunewright.analysis.sensitivity import by_option, sensitivity
from tunewright.analysis.surrogate import quality, surrogate
from tunewright.errors import ConfigError

CUBE = tw.Space({f"x{i}": tw.Float(0, 1) for i in range(3)})
NESTED = studies.nested(300).history()
HERE = [m for m in METHODS if m != "shapley"]


def told(loss, n=400, space=CUBE, seed=0):
    return studies.asked(space, loss, n, space, seed=seed).history()


@pytest.mark.parametrize("method", HERE)
def test_every_measure_gives_shares_within_their_intervals_and_says_what_they_are(method):
    found = importance(NESTED, method=method)
    assert {i.name for i in found} == {"model", "C", "depth", "rate"}
    assert all(0 <= i.low <= i.value <= i.high <= 1 for i in found)
    assert [i.value for i in found] == sorted((i.value for i in found), reverse=True)
    assert found == importance(NESTED, method=method)
    assert SAYS[method].endswith(".")


@pytest.mark.parametrize("method", HERE)
def test_a_parameter_of_a_branch_without_effect_gets_no_credit_for_its_branch(method):
    found = {i.name: i.value for i in importance(NESTED, method=method)}
    assert found["depth"] < 0.02


def test_a_wrong_method_and_too_few_trials_are_refused():
    with pytest.raises(ConfigError, match="ped-anova, fanova, shapley, ablation, local; got 'sobol'"):
        importance(NESTED, method="sobol")
    for method in ("fanova", "ablation", "local"):
        with pytest.raises(ConfigError, match="needs at least 20 trials"):
            importance(studies.nested(12), method=method)
    with pytest.raises(ConfigError, match="losses that differ"):
        fanova(told(lambda _: 1.0, 30))


def test_marginals_are_the_means_of_the_trees_over_the_space():
    model = surrogate(NESTED)
    across, upward, mean, _ = averages(model, 1, 3)
    rows = model.space.sample(np.random.default_rng(0), 40_000)
    rows = rows[~np.isnan(rows[:, 1])]
    seen = model.by_tree(rows).mean(axis=0)
    i, j = (np.minimum((rows[:, c] * len(a)).astype(int), len(a) - 1) for c, a in ((1, across), (3, upward)))
    for a, b in ((0, 0), (5, 20), (12, 12), (23, 3)):
        here = seen[(i == a) & (j == b)]
        assert mean[b, a] == pytest.approx(here.mean(), abs=4 * here.std() / math.sqrt(len(here)) + 0.02)


def test_parameters_that_are_never_used_together_have_no_average():
    _, _, mean, _ = averages(surrogate(NESTED), 1, 2)
    assert np.isnan(mean).all()


def test_shares_of_singles_and_pairs_sum_to_one_where_there_is_no_more():
    plane = tw.Space(x=tw.Float(0, 1), y=tw.Float(0, 1))
    found = fanova(told(lambda c: (c["x"] - 0.5) * (c["y"] - 0.5) + 0.03 * c["x"], 400, plane), pairs=2)
    assert found.pairs[0].names == ("x", "y")
    assert found.pairs[0].low > 0.4
    # What is missing varies within the cells.
    assert 0.85 < sum(i.value for i in found.single) + found.pairs[0].value <= 1


def test_a_permutation_is_one_parameter():
    space = tw.Space(order=tw.Permutation(["a", "b", "c"]), x=tw.Float(0, 1))
    found = fanova(told(lambda c: c["order"].index("a") + 0.1 * c["x"], 200, space)).single
    assert [i.name for i in found] == ["order", "x"]


def test_ablation_ends_where_the_gains_lead():
    history = told(lambda c: 4 * abs(c["x0"] - 0.9) + abs(c["x1"] - 0.1))
    found = ablation(history)
    assert found.steps[0].name == "x0"
    assert found.start - sum(s.gain for s in found.steps) == pytest.approx(found.steps[-1].loss)
    assert found.start == pytest.approx(4 * 0.4 + 0.4, abs=0.3)
    assert found.steps[0].gain == pytest.approx(1.6, abs=0.35)


def test_ablation_takes_what_it_is_given_and_guesses_as_defaults():
    space = tw.Space(x=tw.Float(0, 1, guess=0.9), y=tw.Float(0, 1))
    history = told(lambda c: c["x"] + c["y"], 200, space)
    assert [s.before for s in ablation(history).steps if s.name == "x"] == ["0.9"]
    given = ablation(history, {"x": 0.2, "y": 0.8}, {"x": 0.2, "y": 0.1})
    assert [(s.name, s.before, s.after) for s in given.steps] == [("y", "0.8", "0.1")]
    assert given.best is None


def test_ablation_shows_what_a_branch_brings_once_it_is_taken():
    steps = ablation(NESTED, {"model": "tree", "depth": 3, "rate": 0.5}).steps
    assert steps[0].name == "model"
    assert steps[0].gain > 1
    assert all(s.before != "not used" or s.after != "not used" for s in steps[:2])


def test_slopes_are_those_of_a_line():
    found = sensitivity(told(lambda c: 3 * c["x0"] - 2 * c["x1"]), {"x0": 0.5, "x1": 0.5, "x2": 0.5})
    slopes = {s.name: s for s in found.slopes}
    assert slopes["x0"].value == pytest.approx(0.3, rel=0.25)
    assert slopes["x1"].value == pytest.approx(-0.2, rel=0.25)
    assert slopes["x0"].sure
    assert slopes["x1"].sure
    assert abs(slopes["x2"].value) < 0.03
    assert found.explained > 0.85
    assert found.trial is None


def test_only_what_a_configuration_uses_has_a_slope():
    found = sensitivity(NESTED)
    assert {s.name for s in found.slopes} == {"model", "C", "rate"}
    assert found.slopes[0].name == "model"
    with pytest.raises(ConfigError, match="got 999 of 300"):
        sensitivity(NESTED, 999)


def test_touchy_options_come_first():
    space = tw.Space(kind=tw.Choice(["calm", "touchy"]), lr=tw.Float(0, 1), noise=tw.Float(0, 1))
    found = by_option(told(lambda c: c["lr"] if c["kind"] == "touchy" else 0.4, 300, space), "kind")
    assert [t.option for t in found] == ["touchy", "calm"]
    assert found[0].low > found[1].high
    assert found[0].slopes[0].name == "lr"
    with pytest.raises(ConfigError, match="name of a Choice; got 'lr'"):
        by_option(told(lambda c: c["lr"], 40, space), "lr")


def test_quality_tells_signal_from_noise():
    rng = np.random.default_rng(0)
    good, bad = quality(told(lambda c: c["x0"] + c["x1"])), quality(told(lambda _: float(rng.normal())))
    assert good.explained > 0.9
    assert good.rank > 0.95
    assert bad.explained < 0.1
    assert abs(bad.rank) < 0.3
    for found in (good, bad):
        assert 0.75 < found.covered <= 1
        assert np.all(found.low <= found.mean)


def test_a_diverged_training_does_not_swallow_all_variance():
    history = told(lambda c: 1e9 if c["x2"] > 0.99 else c["x0"])
    assert fanova(history).single[0].name == "x0"
