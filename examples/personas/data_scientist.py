"""A data scientist with scikit-learn and LightGBM: a search in place of RandomizedSearchCV, then a function of one's own.

pip install "tunewright[sklearn,boosting]"
python data_scientist.py
"""

from __future__ import annotations

import os
from typing import Annotated

from lightgbm import LGBMClassifier
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score

import tunewright as tw

BUDGET = os.environ.get("BUDGET", "2min")
TRIALS = int(os.environ.get("TRIALS", "60"))
X, y = load_digits(return_X_y=True)
MODEL = {"verbose": -1, "n_estimators": 20, "n_jobs": 1, "random_state": 0}


@tw.objective(maximize="acc")
def train(
    lr: Annotated[float, tw.log(1e-2, 0.5)] = 0.1,
    leaves: Annotated[int, tw.log(7, 63)] = 31,
    boost: Annotated[str, tw.one_of("gbdt", "dart")] = "gbdt",
) -> float:
    """The signature is the space, and its defaults are tried first; still callable as before."""
    model = LGBMClassifier(learning_rate=lr, num_leaves=leaves, boosting_type=boost, **MODEL)
    return float(cross_val_score(model, X[:600], y[:600], cv=3).mean())


if __name__ == "__main__":
    search = tw.SearchCV(
        LGBMClassifier(**MODEL),
        {
            "learning_rate": tw.Float(1e-3, 0.5, log=True),
            "num_leaves": tw.Int(7, 63, log=True),
            "min_child_samples": tw.Int(5, 100),
        },
        budget=int(BUDGET) if BUDGET.isdigit() else BUDGET,
        cv=3,
        name="digits",
    )
    search.fit(X[:600], y[:600])
    print(f"best score {search.best_score_:.4f} with {search.best_params_}")
    print(f"better than the defaults by {search.gain_over_default_:.4f}")

    study = tw.tune(train, trials=TRIALS, name="function")
    print(f"best accuracy {study.best.metrics['acc']:.4f} with {study.best.params}")
    print("next: tunewright dashboard")
