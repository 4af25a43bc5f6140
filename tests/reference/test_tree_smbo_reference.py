"""Ridge regression and its error of leaving one out, against scikit-learn; n-grams against its counting of words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float, Order
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.models import ngrams
from tunewright.samplers.tree_smbo import TreeSmbo, scores

SPACE = Space(
    {
        "depth": Order([1, 2, 3]),
        "conv_1": Choice(["a", "b", "c"]),
        "conv_2": Choice(["a", "b", "c"]),
        "conv_3": Choice(["a", "b", "c"]),
        "lr": Float(0, 1),
    },
    when={"conv_2": {"depth": [2, 3]}, "conv_3": {"depth": 3}},
)


def test_weights_and_penalty_are_those_of_scikit_learn():
    # RidgeCV of scikit-learn with its efficient leave-one-out (cv=None), on the same features.
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(4)
    rows = SPACE.sample(rng, 50)
    targets = np.nan_to_num(rows[:, 1]) + rows[:, 4] ** 2 + 0.3 * rng.standard_normal(50)
    model = ngrams.fit(ngrams.words_of(SPACE), rows, targets)
    x = ngrams.features(model.words, rows, 4, model.vocabulary)
    theirs = linear.RidgeCV(alphas=ngrams.PENALTIES).fit(x, targets)
    assert theirs.alpha_ == model.penalty
    assert model.weights == pytest.approx(theirs.coef_, abs=1e-8)
    fresh = SPACE.sample(rng, 20)
    there = theirs.predict(ngrams.features(model.words, fresh, 4, model.vocabulary))
    assert ngrams.predict(model, fresh) == pytest.approx(there, abs=1e-8)


def test_n_grams_are_those_of_scikit_learn():
    # CountVectorizer of scikit-learn on the same words as text, n-grams of 1 to 3.
    text = pytest.importorskip("sklearn.feature_extraction.text")
    rows = SPACE.sample(np.random.default_rng(5), 40)
    texts = []
    for row in rows:
        config = SPACE.decode(row)
        eighth = min(int(row[4] * 8), 7)
        words = [f"depth{config['depth']}"]
        words += [f"conv{config[k]}" for k in ("conv_1", "conv_2", "conv_3") if k in config]
        texts.append(" ".join([*words, f"lr{eighth}"]))
    theirs = text.CountVectorizer(ngram_range=(1, 3)).fit_transform(texts).toarray()
    found = ngrams.grams(ngrams.words_of(SPACE), rows, 3)[:, SPACE.d :]
    vocabulary = np.unique(found[found > 0])
    ours = ngrams.counted(found, vocabulary)
    assert ours.shape == theirs.shape
    assert sorted(map(tuple, ours.T)) == sorted(map(tuple, theirs.T))


def test_targets_are_scipys_normal_quantiles_of_scipys_ranks():
    losses = np.random.default_rng(6).integers(0, 20, 50).astype(float)
    expected = stats.norm.ppf((stats.rankdata(losses) - 0.5) / 50)
    assert scores(losses) == pytest.approx(expected, abs=1e-9)


def test_a_quarter_of_the_trials_is_random_and_the_others_the_best_predicted_of_256():
    # The chance, 1/4, is that of the experiments of Negrinho and Gordon 2017; SciPy's exact binomial test. Where the loss is
    # the parameter itself the best predicted is the least of 256 uniform numbers, whose law is Beta(1, 256).
    space = Space(x=Float(0, 1))
    method = TreeSmbo()
    state = method.init(Problem(space))
    for i in range(64):
        x = (i + 0.5) / 64
        state = method.tell(state, [Started(i, {"x": x}), Ended(i, 0, "completed", {"loss": x})])
    found = method.ask(state, 600, generator(3, 0))
    free = [a.config["x"] for a in found if "random" in a.why]
    model = [a.config["x"] for a in found if "score" in a.why]
    assert len(free) + len(model) == 600
    assert stats.binomtest(len(free), 600, 0.25).pvalue > 0.01
    assert stats.kstest(free, "uniform").pvalue > 0.01
    assert stats.kstest(model, stats.beta(1, 256).cdf).pvalue > 0.01
