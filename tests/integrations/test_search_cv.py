"""``SearchCV`` is an estimator of scikit-learn, and a study behind it."""

from __future__ import annotations

import pickle
import time
import warnings
from typing import Any

import numpy as np
import pytest

import tunewright as tw
from tunewright.errors import ConfigError, SpaceError

pytest.importorskip("sklearn")
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.metrics import accuracy_score, get_scorer, make_scorer
from sklearn.model_selection import GroupKFold, KFold, RandomizedSearchCV, ShuffleSplit, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_estimator

X, Y = make_classification(150, 6, n_informative=3, random_state=0)
SPACE = {"C": tw.Float(1e-3, 1e3, log=True), "gamma": tw.Float(1e-4, 1.0, log=True)}
# scikit-learn expects these to fail for its own searches, too.
EXPECTED = {
    "check_supervised_y_2d": "DataConversionWarning not caught",
    "check_requires_y_none": "Doesn't fail gracefully",
}


def searched(**how: Any) -> Any:
    given: dict[str, Any] = {"budget": 6, "cv": 3, "random_state": 0, **how}
    return tw.SearchCV(SVC(), SPACE, **given).fit(X, Y)


CHECKED = {
    "ridge": (Ridge(), {"alpha": [0.1, 1.0]}, {}),
    "logistic": (LogisticRegression(), {"C": [0.1, 1.0]}, {}),
    "pipeline": (
        Pipeline([("scale", StandardScaler()), ("clf", LogisticRegression())]),
        {"clf__C": [0.1, 1.0]},
        {},
    ),
    "folds": (LogisticRegression(), {"C": [0.1, 1.0]}, {"fidelity": "folds"}),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in CHECKED])
def test_passes_the_estimator_checks(name: str) -> None:
    """Made as scikit-learn makes ``RandomizedSearchCV`` for its own checks."""
    estimator, space, how = CHECKED[name]
    search = tw.SearchCV(estimator, space, budget=2, cv=2, error_score="raise", random_state=0, **how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(search, on_skip=None, on_fail=None, expected_failed_checks=EXPECTED)
    failed = [(r["check_name"], r["exception"]) for r in results if r["status"] == "failed"]
    assert not failed
    assert sum(r["status"] == "passed" for r in results) > 40


def test_has_what_a_randomized_search_has() -> None:
    search = searched()
    other = RandomizedSearchCV(SVC(), {"C": [0.1, 1.0]}, n_iter=2, cv=3).fit(X, Y)
    public = {k for k in vars(other) if k.endswith("_") and not k.startswith("_")}
    assert public <= set(vars(search))
    shared = {k for k in other.cv_results_ if not k.startswith("param_")}
    assert shared <= set(search.cv_results_)
    rows = search.cv_results_
    assert len(rows["params"]) == 6 == len(rows["mean_test_score"])
    assert search.best_score_ == max(rows["mean_test_score"])
    assert search.best_params_ == rows["params"][search.best_index_]
    assert search.n_splits_ == 3
    assert list(search.classes_) == [0, 1] and search.n_features_in_ == 6
    assert search.score(X, Y) == search.best_estimator_.score(X, Y)
    assert search.predict(X).shape == (150,)


def test_scores_are_those_of_cross_validation() -> None:
    search = searched()
    for params, mean in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        assert cross_val_score(SVC(**params), X, Y, cv=3).mean() == pytest.approx(mean, abs=1e-12)


def test_the_first_row_is_the_estimator_as_given() -> None:
    search = tw.SearchCV(SVC(C=30.0, gamma=0.01), SPACE, budget=3, cv=3, random_state=0).fit(X, Y)
    assert search.cv_results_["params"][0] == {"C": 30.0, "gamma": 0.01}
    assert search.study.trials[0].params == {"C": 30.0, "gamma": 0.01}
    assert search.study.trials[0].metrics["score"] == search.default_score_
    assert search.gain_over_default_ == search.best_score_ - search.default_score_ >= 0
    assert len(search.study.trials) == 3


def test_defaults_that_are_in_no_range_are_measured_besides() -> None:
    search = searched()
    assert search.cv_results_["params"][0] == {"C": 1.0, "gamma": "scale"}
    assert search.cv_results_["trial"].tolist() == [-1, 0, 1, 2, 3, 4]
    assert cross_val_score(SVC(), X, Y, cv=3).mean() == pytest.approx(search.default_score_)


def test_the_same_seed_gives_the_same_search() -> None:
    assert searched().cv_results_["params"] == searched().cv_results_["params"]
    assert searched(random_state=1).cv_results_["params"][1:] != searched().cv_results_["params"][1:]
    state = np.random.RandomState(4)
    assert searched(random_state=state).best_params_ != searched(random_state=state).best_params_


def test_cloning_and_pickling() -> None:
    search = searched()
    other = clone(search)
    assert other.get_params()["space"] == SPACE and not hasattr(other, "best_params_")
    back = pickle.loads(pickle.dumps(search))
    assert back.best_params_ == search.best_params_ and (back.predict(X) == search.predict(X)).all()
    with pytest.raises(AttributeError, match="has a study once"):
        _ = back.study
    assert not hasattr(other, "study")


def test_lists_distributions_and_objects() -> None:
    from scipy.stats import expon, loguniform, norm, randint, uniform

    space = {
        "n_estimators": randint(3, 9),
        "max_features": uniform(0.2, 0.5),
        "min_impurity_decrease": loguniform(1e-6, 1e-2),
        "criterion": ["gini", "entropy"],
        "max_depth": [2, 4, 8],
        "class_weight": [None, {0: 1, 1: 2}],
        "ccp_alpha": expon(scale=0.01),
    }
    search = tw.SearchCV(RandomForestClassifier(random_state=0), space, budget=4, cv=2, random_state=0).fit(
        X, Y
    )
    found = search.study.space.domains
    assert found["n_estimators"] == tw.Int(3, 8)
    assert found["max_features"] == tw.Float(0.2, 0.7)
    assert found["min_impurity_decrease"] == tw.Float(1e-6, 1e-2, log=True)
    assert found["criterion"] == tw.Choice(["gini", "entropy"])
    assert found["max_depth"] == tw.Order([2, 4, 8])
    assert isinstance(found["class_weight"], tw.Choice)
    weights = [p["class_weight"] for p in search.cv_results_["params"]]
    assert all(w is None or w == {0: 1, 1: 2} for w in weights) and {0: 1, 1: 2} in weights
    low, high = found["ccp_alpha"].low, found["ccp_alpha"].high
    assert found["ccp_alpha"].log and 0 < low < 1e-4 and 0.05 < high < 0.1
    from tunewright.integrations.search_space import SearchSpace

    bell = SearchSpace({"x": norm(5, 1)}).space.domains["x"]
    assert (
        not bell.log
        and bell.low == pytest.approx(1.91, abs=0.01)
        and bell.high == pytest.approx(8.09, abs=0.01)
    )


def test_steps_of_a_pipeline_can_be_chosen() -> None:
    pipe = Pipeline([("scale", StandardScaler()), ("clf", LogisticRegression())])
    space = {
        "scale": [StandardScaler(), MinMaxScaler(), "passthrough"],
        "clf__C": tw.Float(0.01, 100, log=True),
    }
    search = tw.SearchCV(pipe, space, budget=5, cv=2, random_state=0).fit(X, Y)
    assert search.study.trials[0].params["scale"] == "StandardScaler()"
    assert {type(p["scale"]).__name__ for p in search.cv_results_["params"]} <= {
        "StandardScaler",
        "MinMaxScaler",
        "str",
    }
    assert isinstance(search.best_estimator_.named_steps["clf"], LogisticRegression)


def test_a_conditional_space_sets_only_what_is_active() -> None:
    space = tw.Space(kernel=tw.Choice({"rbf": {"gamma": tw.Float(1e-3, 1, log=True)}, "linear": None}))
    search = tw.SearchCV(SVC(), space, budget=8, cv=2, random_state=0).fit(X, Y)
    rows = search.cv_results_["params"][1:]
    assert {p["kernel"] for p in rows} == {"rbf", "linear"}
    assert all(("gamma" in p) == (p["kernel"] == "rbf") for p in rows)


def test_several_scores_with_one_to_optimise() -> None:
    search = searched(scoring=["accuracy", "neg_log_loss"][:1] + ["f1"], refit="f1")
    assert search.multimetric_
    rows = search.cv_results_
    assert search.best_score_ == max(rows["mean_test_f1"]) and "mean_test_accuracy" in rows
    assert [o.name for o in search.study.problem.objectives] == ["f1"]
    assert set(search.scorer_) == {"accuracy", "f1"}


def test_several_scores_without_one_give_a_front() -> None:
    search = searched(scoring={"a": "accuracy", "r": "recall"}, refit=False)
    assert not hasattr(search, "best_params_") and not hasattr(search, "best_estimator_")
    assert [o.name for o in search.study.problem.objectives] == ["a", "r"]
    assert search.study.pareto and search.gain_over_default_ is None


def test_a_scoring_function_that_returns_a_dict() -> None:
    def score(estimator: Any, x: Any, y: Any) -> dict[str, float]:
        return {"acc": accuracy_score(y, estimator.predict(x)), "one": 1.0}

    search = searched(scoring=score, refit="acc", budget=3)
    assert search.best_score_ == max(search.cv_results_["mean_test_acc"])


def test_refit_may_choose_by_itself() -> None:
    search = searched(refit=lambda rows: int(np.argmin(rows["mean_test_score"])))
    assert search.best_index_ == np.argmin(search.cv_results_["mean_test_score"])


def test_folds_are_drawn_once() -> None:
    """A splitter that shuffles anew in every call would compare candidates on different data."""
    search = searched(cv=ShuffleSplit(2, random_state=np.random.RandomState(0)), budget=8)
    rows = search.cv_results_["params"]
    again = searched(cv=ShuffleSplit(2, random_state=np.random.RandomState(0)), budget=8)
    assert rows == again.cv_results_["params"]
    splits = list(KFold(3).split(X))
    assert searched(cv=iter(splits), budget=2).n_splits_ == 3


def test_groups_and_weights_reach_where_they_belong() -> None:
    class Weighing(ClassifierMixin, BaseEstimator):
        def __init__(self, k: int = 1) -> None:
            self.k = k

        def fit(self, x: Any, y: Any, sample_weight: Any = None) -> Weighing:
            assert sample_weight is not None and len(sample_weight) == len(x)
            self.classes_ = np.unique(y)
            return self

        def predict(self, x: Any) -> Any:
            return np.full(len(x), self.k % 2)

    groups = np.arange(150) // 30
    search = tw.SearchCV(Weighing(), {"k": [0, 1, 2]}, cv=GroupKFold(5), budget=3, random_state=0)
    search.fit(X, Y, groups=groups, sample_weight=np.ones(150))
    assert search.n_splits_ == 5
    racing = tw.SearchCV(
        Weighing(), {"k": [0, 1, 2]}, cv=GroupKFold(5), budget=2, random_state=0, fidelity="folds"
    )
    racing.fit(X, Y, groups=groups, sample_weight=np.ones(150))
    assert racing.n_splits_ == 5


def test_metadata_routing() -> None:
    weights, groups = np.linspace(1, 2, 150), np.arange(150) // 50
    with config_context(enable_metadata_routing=True):
        estimator = SGDClassifier(random_state=0).set_fit_request(sample_weight=True)
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        for fidelity in (None, "folds"):
            search = tw.SearchCV(
                estimator, {"alpha": tw.Float(1e-5, 1e-2, log=True)}, cv=GroupKFold(3), scoring=scorer, budget=3,
                random_state=0, fidelity=fidelity,
            )  # fmt: skip
            search.fit(X, Y, sample_weight=weights, groups=groups)
            fitted = search.cv_results_
            other = RandomizedSearchCV(
                estimator,
                {"alpha": [fitted["params"][0]["alpha"]]},
                n_iter=1,
                cv=GroupKFold(3),
                scoring=scorer,
            ).fit(X, Y, sample_weight=weights, groups=groups)
            assert fitted["mean_test_score"][0] == other.cv_results_["mean_test_score"][0]
            assert search.get_metadata_routing() is not None


class Picky(ClassifierMixin, BaseEstimator):
    """Cannot be fitted with some settings."""

    def __init__(self, k: float = 0.0) -> None:
        self.k = k

    def fit(self, x: Any, y: Any) -> Picky:
        if self.k > 0.5:
            raise RuntimeError("k is too large")
        self.classes_ = np.unique(y)
        return self

    def predict(self, x: Any) -> Any:
        return np.zeros(len(x), dtype=int)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores")
def test_a_candidate_that_cannot_be_fitted_does_not_end_the_search() -> None:
    space = {"k": tw.Float(0, 1)}
    search = tw.SearchCV(Picky(), space, budget=8, cv=2, random_state=0, method="random").fit(X, Y)
    failed = [t for t in search.study.trials if t.status == "failed"]
    assert failed and all(t.params["k"] > 0.5 for t in failed) and "k is too large" in failed[0].error
    assert len(search.cv_results_["params"]) == 8 and np.isfinite(search.best_score_)
    assert np.isnan(search.cv_results_["mean_test_score"]).sum() == len(failed)


def test_errors_end_the_search_when_asked() -> None:
    with pytest.raises(RuntimeError, match="too large"):
        tw.SearchCV(Picky(0.9), {"k": tw.Float(0, 1)}, budget=4, cv=2, error_score="raise").fit(X, Y)


def test_nothing_fits_at_all() -> None:
    with pytest.raises(ValueError, match="All the 2 fits failed"):
        tw.SearchCV(Picky(0.9), {"k": tw.Float(0.6, 1)}, budget=40, cv=2, random_state=0).fit(X, Y)


def test_defaults_that_cannot_be_fitted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = tw.SearchCV(Picky(0.9), {"k": tw.Float(0, 0.5)}, budget=4, cv=2, random_state=0).fit(X, Y)
    assert search.gain_over_default_ is None and np.isnan(search.default_score_)
    assert np.isfinite(search.best_score_) and search.best_index_ > 0


DEAR = [pytest.param(f, marks=pytest.mark.slow) for f in ("samples", ("n_estimators", 3, 27))]


@pytest.mark.parametrize("fidelity", ["folds", "n_estimators", *DEAR])
def test_weak_candidates_cost_less(fidelity: Any) -> None:
    estimator = GradientBoostingClassifier(n_estimators=18, random_state=0)
    space = {"learning_rate": tw.Float(1e-4, 1, log=True), "max_depth": tw.Int(1, 4)}
    search = tw.SearchCV(estimator, space, budget=6, cv=3, random_state=0, fidelity=fidelity).fit(X, Y)
    rows = search.cv_results_
    assert len(rows["params"]) > 6, "more candidates than whole measurements"
    assert 4.5 <= rows["share"].sum() <= 7, (
        "what a candidate got; a promoted one that began anew has paid more"
    )
    whole = np.isfinite(rows["mean_test_score"])
    assert whole[0] and not whole.all()
    assert (rows["share"][whole] == pytest.approx(1.0)) or fidelity != "folds"
    assert search.best_score_ == np.nanmax(rows["mean_test_score"])
    for i in np.flatnonzero(whole)[:3]:
        given = clone(estimator).set_params(**rows["params"][i])
        assert cross_val_score(given, X, Y, cv=3).mean() == pytest.approx(rows["mean_test_score"][i])
    if isinstance(fidelity, tuple) and search.best_index_:
        assert search.best_params_["n_estimators"] == 27


def test_a_kept_search_goes_on(tmp_path: Any) -> None:
    where = {"name": "kept", "storage": tmp_path / "s.db"}
    first = searched(**where)
    again = searched(**where)
    assert again.cv_results_["params"][1:] == first.cv_results_["params"][1:]
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], first.cv_results_["mean_test_score"])
    assert len(again.study.trials) == 5, "nothing was left to do"
    more = searched(**where, budget=8)
    assert len(more.study.trials) == 7 and len(more.cv_results_["params"]) == 8
    back = pickle.loads(pickle.dumps(more))
    assert len(back.study.trials) == 7
    for search in (first, again, more, back):
        search.study.close()


def test_a_budget_of_time() -> None:
    began = time.monotonic()
    search = searched(budget="0.3s")
    assert time.monotonic() - began < 10
    assert len(search.cv_results_["params"]) >= 2


def test_several_candidates_at_a_time() -> None:
    search = searched(workers=3, budget=7)
    assert len(search.cv_results_["params"]) == 7
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.slow
def test_several_processes() -> None:
    one, two = searched(workers=2), searched(n_jobs=2, workers=2)
    assert one.cv_results_["params"] == two.cv_results_["params"]
    np.testing.assert_allclose(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])


def test_an_interrupt_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []

    def counted(self: Any, x: Any, y: Any) -> Any:
        fits.append(1)
        if len(fits) == 8:
            raise KeyboardInterrupt
        return GaussianNB.partial_fit(self, x, y, np.unique(y))

    monkeypatch.setattr(GaussianNB, "fit", counted)
    search = tw.SearchCV(
        GaussianNB(), {"var_smoothing": tw.Float(1e-12, 1, log=True)}, budget=50, cv=2, random_state=0
    )
    with pytest.warns(UserWarning, match="interrupted after 3 candidates"):
        search.fit(X, Y)
    assert len(search.study.trials) == 4 and np.isfinite(search.best_score_)
    assert search.study.counts.get("running", 0) == 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"space": {}}, "at least one parameter"),
        ({"space": {"Q": [1, 2]}}, "SVC has no 'Q'"),
        ({"space": {"C": 3}}, r"Write \[3\]"),
        ({"space": [1]}, "needs a dict"),
        ({"budget": 0}, "number of candidates"),
        ({"budget": "soon"}, "time must be"),
        ({"workers": 0}, "at least 1"),
        ({"workers": "all"}, "'auto' or None"),
        ({"fidelity": "rows"}, "'folds', 'samples' or a parameter"),
        ({"fidelity": ("samples", 0.5, 2)}, "from above 0 to 1"),
        ({"fidelity": "kernel"}, "whole number from 2"),
        ({"fidelity": ("C", 1, 10)}, "Take it out of the space"),
    ],
)
def test_mistakes_are_named(how: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"space": SPACE, **how}
    with pytest.raises((ConfigError, SpaceError), match=message):
        tw.SearchCV(SVC(), **given).fit(X, Y)


def test_a_search_in_a_cross_validation() -> None:
    search = tw.SearchCV(
        make_pipeline(StandardScaler(), SVC()), {"svc__C": tw.Float(0.1, 10)}, budget=2, cv=2
    )
    assert cross_val_score(search, X, Y, cv=2, scoring=get_scorer("accuracy")).shape == (2,)


def test_it_draws_itself_as_scikit_learn_does() -> None:
    assert "SearchCV" in searched(budget=2)._repr_html_()
