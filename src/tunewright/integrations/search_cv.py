"""``SearchCV``: a search over the parameters of a scikit-learn estimator; raises MissingExtra where that is not installed.

Example:
    In place of ``RandomizedSearchCV``::

        search = tw.SearchCV(SVC(), {"C": tw.Float(0.01, 1000, log=True), "gamma": tw.Float(1e-5, 1, log=True)})
        search.fit(X, y).best_params_
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tunewright.core.algorithm import Algorithm
from tunewright.errors import ConfigError, missing_extra
from tunewright.integrations.search_folds import Folds
from tunewright.integrations.search_loop import Loop, Plan
from tunewright.integrations.search_space import SearchSpace
from tunewright.study import Study

try:
    from sklearn.base import is_classifier
    from sklearn.model_selection import check_cv
    from sklearn.model_selection._search import BaseSearchCV
    from sklearn.utils import check_random_state
except ImportError as error:
    raise missing_extra("sklearn", "sklearn") from error

if TYPE_CHECKING:
    from tunewright.store.base import Store

__all__ = ["SearchCV"]


class SearchCV(BaseSearchCV):  # type: ignore[misc]
    """Search for an estimator's parameters by cross-validation, as an estimator of scikit-learn.

    Has the attributes of ``RandomizedSearchCV`` after ``fit``: ``best_params_``, ``best_score_``, ``best_estimator_``,
    ``best_index_``, ``cv_results_``, ``scorer_``, ``n_splits_``, ``refit_time_``, ``multimetric_``. The first row of
    ``cv_results_`` is the estimator as it was given, so what the search has gained is known.

    Args:
        estimator: The estimator, or a pipeline; parameters of its steps are named ``step__parameter``.
        space: A dict from parameter to a domain (``tw.Float``), a distribution of ``scipy.stats`` or a list; or a ``Space``.
        budget: Candidates to measure in all, the estimator as given included; or a time, such as ``"2min"``, after which
            no more are begun. With ``fidelity`` it counts in whole measurements: one fold of five is a fifth.
        cv: As for ``cross_validate``: folds, a splitter, or an iterable of splits.
        scoring: A name, a scorer, several of them, or a function that returns a dict.
        method: What chooses candidates; see ``Study.open``.
        options: Settings of the method.
        fidelity: How candidates are measured in part, so that weak ones cost less: ``"folds"`` for fold by fold;
            ``"samples"`` for a part of the rows; the name of a parameter such as ``"n_estimators"``, whose value in the
            estimator is then the full one; or ``(name, lowest, full)``.
        workers: Candidates to measure at the same time; ``"auto"`` uses every processor. When not given, as many as
            keep ``n_jobs`` busy.
        n_jobs: Fits at the same time, as in scikit-learn.
        refit: Whether to fit the best on all data; with several scores the name of the one to optimise. With False or a
            function and several scores, all of them are optimised and the study has their Pareto front.
        random_state: Seed of the search. The same seed gives the same candidates where scores are the same.
        name: Name under which the study is kept and continued; None for one that ends with the process.
        storage: Where it is kept; see ``Study.open``.
        verbose: As in scikit-learn.
        pre_dispatch: As in scikit-learn.
        error_score: Score of a fit that raises; ``"raise"`` ends the search with the error.
        return_train_score: Whether ``cv_results_`` has scores on training data.

    Attributes:
        gain_over_default_: ``best_score_`` less the score of the estimator as given; None where that has none.
        default_score_: Score of the estimator as given, NaN where fitting it failed.

    Raises:
        ConfigError, SpaceError: On ``fit``, if an argument cannot be used.
    """

    def __init__(
        self,
        estimator: Any,
        space: Any,
        *,
        budget: int | float | str = 30,
        cv: Any = None,
        scoring: Any = None,
        method: str | Algorithm[Any] = "auto",
        options: Mapping[str, Any] | None = None,
        fidelity: str | tuple[str, float, float] | None = None,
        workers: int | str | None = None,
        n_jobs: int | None = None,
        refit: bool | str | Callable[..., int] = True,
        random_state: Any = None,
        name: str | None = None,
        storage: str | os.PathLike[str] | Store | None = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        error_score: float | str = np.nan,
        return_train_score: bool = False,
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.space = space
        self.budget = budget
        self.method = method
        self.options = options
        self.fidelity = fidelity
        self.workers = workers
        self.random_state = random_state
        self.name = name
        self.storage = storage

    @property
    def study(self) -> Study:
        """The study behind the last fit, with every candidate, also those measured in part.

        One in memory does not come along in a pickle.

        Raises:
            AttributeError: Before ``fit``, and after unpickling a search without a name.
        """
        found: Study | None = self.__dict__.get("_study")
        if found is None:
            raise AttributeError(
                "A search has a study once fit was called in this process. Call fit, or give it a name."
            )
        return found

    def fit(self, X: Any, y: Any = None, **params: Any) -> SearchCV:
        """Searches, and fits the best on all data.

        Interrupting it once, as by Ctrl-C, ends the search and fits the best of what was measured.

        Args:
            X: Training data of ``n`` rows.
            y: Targets of ``n`` rows.
            **params: Passed to ``fit`` of the estimator, to scorers and to the splitter, such as ``groups`` and
                ``sample_weight``; what has ``n`` rows is split with the data.

        Returns:
            This search.
        """
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        classifier = is_classifier(self.estimator)
        checked = check_cv(self.cv, y, classifier=classifier)
        folds = Folds(checked, self.fidelity == "folds", seed, classifier)
        plan = Plan.of(self.budget, self.fidelity, self.estimator, SearchSpace(self.space))
        if self.fidelity == "folds":
            folds.get_n_splits(X, y, params.get("groups"))
        names = list(self.scoring) if isinstance(self.scoring, dict | list | tuple) else ["score"]
        self._loop = Loop(plan, folds, self._open(seed), self._candidates(checked, X, y, params), names)
        n_jobs = -1 if self.workers == "auto" and self.n_jobs is None else self.n_jobs
        try:
            with self._with(cv=folds, n_jobs=n_jobs):
                super().fit(X, y, **params)
        finally:
            loop = self.__dict__.pop("_loop")
        self.n_splits_ = folds.count
        self._study = loop.study
        self._gain()
        return self

    @contextlib.contextmanager
    def _with(self, **changed: Any) -> Iterator[None]:
        """Has the base class see other settings for the time of a fit."""
        given = {k: getattr(self, k) for k in changed}
        try:
            self.__dict__.update(changed)
            yield
        finally:
            self.__dict__.update(given)

    def _candidates(self, cv: Any, X: Any, y: Any, params: Mapping[str, Any]) -> int:
        """Candidates to ask for at a time."""
        if isinstance(self.workers, bool) or not isinstance(self.workers, int | str | None):
            raise ConfigError(
                f"workers must be a whole number, 'auto' or None; got {self.workers!r:.80}. Correct it."
            )
        if isinstance(self.workers, int):
            if self.workers < 1:
                raise ConfigError(
                    f"workers must be at least 1; got {self.workers}. Use 'auto' for all processors."
                )
            return self.workers
        if self.workers not in (None, "auto"):
            raise ConfigError(
                f"workers must be a whole number, 'auto' or None; got {self.workers!r:.80}. Correct it."
            )
        jobs = _jobs(-1 if self.workers == "auto" and self.n_jobs is None else self.n_jobs)
        if jobs == 1:
            return 1
        folds = 1 if self.fidelity == "folds" else int(cv.get_n_splits(X, y, params.get("groups")))
        return max(1, -(-jobs // folds))

    def _open(self, seed: int) -> Callable[..., Study]:
        """Opens the study, once it is known what is measured."""

        def opened(space: Any, metrics: list[str], steps: Any) -> Study:
            kept = self.name is not None
            known = kept and Study.exists(str(self.name), self.storage)
            return Study.open(
                self.name or "search",
                space,
                maximize=metrics,
                steps=steps,
                method=None if known and self.method == "auto" else self.method,
                options=self.options,
                seed=None if known else seed,
                storage=self.storage if kept else "memory",
            )

        return opened

    def _run_search(self, evaluate_candidates: Callable[..., Any]) -> None:
        loop = self._loop
        loop.run(evaluate_candidates, self.refit)
        loop.results.update(self._format_results(*loop.table()))

    def _format_results(
        self, candidate_params: list[Any], n_splits: int, out: list[Any], more_results: Any = None
    ) -> dict[str, Any]:
        """The base class formats all results after every evaluation; here that happens once, at the end."""
        loop = self._loop
        if not loop.over:
            return loop.take(out)
        with warnings.catch_warnings():
            if loop.partial:
                warnings.filterwarnings("ignore", "One or more of the (test|train) scores", UserWarning)
            done: dict[str, Any] = super()._format_results(candidate_params, n_splits, out, more_results)
        return done

    def _gain(self) -> None:
        metric = self.refit if isinstance(self.refit, str) and self.multimetric_ else "score"
        means = self.cv_results_.get(f"mean_test_{metric}")
        self.default_score_ = float("nan") if means is None else float(means[0])
        best = getattr(self, "best_index_", None)
        known = means is not None and best is not None and np.isfinite(self.default_score_)
        self.gain_over_default_ = float(means[best] - self.default_score_) if known else None

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_loop", None)  # worker processes get the search along with every fit
        study = state.get("_study")
        if study is not None and not study.session.store.durable:
            del state["_study"]
        return state


def _jobs(asked: int | None) -> int:
    """Fits at the same time; below 0 it counts back from the number of processors, as scikit-learn does."""
    if asked is None or asked >= 0:
        return asked or 1
    return max(1, (os.cpu_count() or 1) + 1 + asked)
