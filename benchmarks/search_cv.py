"""What ``SearchCV`` finds and costs beside ``RandomizedSearchCV``, at equal fits, on the digits of scikit-learn.

``python -m benchmarks.search_cv [--quick]``: for each estimator and seed both searches get the same space, folds and number
of fits. The score is the mean over the folds of the best candidate, and the accuracy of the refitted best on data that
neither saw. The overhead is CPU time per fit over ``RandomizedSearchCV``, whose own is in both, with a classifier that
learns nothing. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tunewright as tw

RESULTS = Path(__file__).resolve().parent / "results" / "search_cv.json"
FOLDS = 3
ROWS = 600


def estimators() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Name -> (estimator, space)."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    ready = tw.presets
    mlp = {k: v for k, v in ready.mlp().items() if k not in ("early_stopping", "activation")}
    mlp["hidden_layer_sizes"] = tw.Int(8, 64, log=True)
    return {
        "support vectors": (make_pipeline(StandardScaler(), SVC()), ready.svm(prefix="svc__")),
        "random forest": (RandomForestClassifier(25, random_state=0), ready.random_forest()),
        "logistic regression": (
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=60)),
            ready.logistic_regression(prefix="logisticregression__"),
        ),
        "perceptron": (MLPClassifier(max_iter=15, random_state=0), mlp),
    }


class Drawn:
    """A domain as a distribution of scikit-learn's kind, so that both searches draw from the same ranges."""

    def __init__(self, domain: Any) -> None:
        self.domain = domain
        self.decode = domain.coder()[1]

    def rvs(self, random_state: Any = None) -> Any:
        """One value."""
        return self.decode(float(random_state.uniform()))


def data(seed: int) -> tuple[Any, Any, Any, Any]:
    """Digits to search on, and digits to test on."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    return tuple(train_test_split(x, y, train_size=ROWS, random_state=seed, stratify=y))  # type: ignore[return-value]


def searched(
    kind: str, estimator: Any, space: Mapping[str, Any], candidates: int, seed: int
) -> dict[str, float]:
    """One search of one kind."""
    from sklearn.model_selection import RandomizedSearchCV, StratifiedKFold

    cv = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    x, x_test, y, y_test = data(seed)
    search: Any
    if kind == "random":
        drawn = {k: Drawn(v) for k, v in space.items()}
        search = RandomizedSearchCV(estimator, drawn, n_iter=candidates, cv=cv, random_state=seed)
    else:
        fidelity = "folds" if kind == "ours, by folds" else None
        search = tw.SearchCV(estimator, space, budget=candidates, cv=cv, random_state=seed, fidelity=fidelity)
    began = time.process_time()
    search.fit(x, y)
    return {
        "score": float(search.best_score_),
        "test": float(search.score(x_test, y_test)),
        "seconds": time.process_time() - began,
    }


def overhead(candidates: int, folds: int, times: int) -> dict[str, float]:
    """CPU milliseconds per fit with an estimator that takes no time, for spaces of several sizes; median of some runs."""
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.model_selection import RandomizedSearchCV

    class Nothing(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def __init__(self, a: float = 0.5, b: float = 0.5, c: int = 3, d: str = "x") -> None:
            self.a, self.b, self.c, self.d = a, b, c, d

        def fit(self, x: Any, y: Any) -> Any:
            self.classes_ = np.unique(y)
            return self

        def predict(self, x: Any) -> Any:
            return np.zeros(len(x), dtype=int)

        def score(self, x: Any, y: Any) -> float:
            return float(1 - (self.a - 0.3) ** 2 - (self.b - 0.7) ** 2 - abs(self.c - 5) / 20)

    space = {"a": tw.Float(0, 1), "b": tw.Float(0, 1), "c": tw.Int(1, 10), "d": tw.Choice(["x", "y"])}
    drawn = {k: Drawn(v) for k, v in space.items()}
    x, y = np.zeros((30, 2)), np.arange(30) % 2
    found: dict[str, list[float]] = {}
    for run in range(times):
        searches = {
            "RandomizedSearchCV": RandomizedSearchCV(
                Nothing(), drawn, n_iter=candidates, cv=folds, random_state=run
            ),
            "SearchCV": tw.SearchCV(Nothing(), space, budget=candidates, cv=folds, random_state=run),
            "SearchCV, method tpe": tw.SearchCV(
                Nothing(), space, budget=candidates, cv=folds, random_state=run, method="tpe"
            ),
            "SearchCV, by folds": tw.SearchCV(
                Nothing(), space, budget=candidates, cv=folds, random_state=run, fidelity="folds"
            ),
        }
        for name, search in searches.items():
            began = time.process_time()
            search.fit(x, y)
            found.setdefault(name, []).append((time.process_time() - began) / (candidates * folds) * 1e3)
    return {name: round(float(np.median(values)), 3) for name, values in found.items()}


def compared(candidates: int, seeds: int) -> dict[str, Any]:
    """Scores of every kind of search for every estimator: means, and how often ours is better, equal or worse."""
    rows: dict[str, Any] = {}
    for name, (estimator, space) in estimators().items():
        runs: dict[str, list[dict[str, float]]] = {}
        for seed in range(seeds):
            for kind in ("random", "ours", "ours, by folds"):
                runs.setdefault(kind, []).append(searched(kind, estimator, space, candidates, seed))
            print(f"{name}, seed {seed}:", {k: round(v[-1]["score"], 4) for k, v in runs.items()}, flush=True)
        rows[name] = {kind: _summary(found, runs["random"]) for kind, found in runs.items()}
    return rows


def _summary(found: list[dict[str, float]], random: list[dict[str, float]]) -> dict[str, Any]:
    gains = np.array([a["score"] - b["score"] for a, b in zip(found, random, strict=True)])
    tests = np.array([a["test"] - b["test"] for a, b in zip(found, random, strict=True)])
    return {
        "score": round(float(np.mean([f["score"] for f in found])), 5),
        "test": round(float(np.mean([f["test"] for f in found])), 5),
        "seconds": round(float(np.mean([f["seconds"] for f in found])), 2),
        "gain": round(float(gains.mean()), 5),
        "gain_error": round(float(gains.std(ddof=1) / np.sqrt(len(gains))), 5) if len(gains) > 1 else None,
        "gain_test": round(float(tests.mean()), 5),
        "better_equal_worse": [int((gains > 0).sum()), int((gains == 0).sum()), int((gains < 0).sum())],
    }


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few candidates and seeds; nothing is written")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    candidates, seeds = (6, 2) if quick else (30, 8)
    results = {
        "versions": {p: importlib.metadata.version(p) for p in ("scikit-learn", "numpy")},
        "python": platform.python_version(),
        "candidates": candidates,
        "folds": FOLDS,
        "seeds": seeds,
        "rows": ROWS,
        "overhead_ms_per_fit": overhead(8 if quick else 50, 5, 1 if quick else 5),
        "estimators": compared(candidates, seeds),
    }
    print(json.dumps(results, indent=2))
    if not quick:
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
