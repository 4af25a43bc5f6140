"""Tunes LightGBM with early stopping: weak models are paused after few trees, promoted ones go on from theirs.

Run it: python examples/lightgbm_trees.py
"""

import lightgbm as lgb
from sklearn.datasets import load_digits

import tunewright as tw
from tunewright.integrations.lightgbm import BoosterState, ReportCallback

X, Y = load_digits(return_X_y=True)
TREES = 5  # to a step


def train(trial: tw.Attempt) -> None:
    """Adds trees until the segment ends."""
    data = lgb.Dataset(X[:600], Y[:600], free_raw_data=False)
    valid = lgb.Dataset(X[600:900], Y[600:900], reference=data, free_raw_data=False)
    state, report = BoosterState(), ReportCallback(trial, "multi_logloss", every=TREES)
    trial.keep(state=state)
    params = {**trial.params, "objective": "multiclass", "num_class": 10, "verbose": -1, "num_threads": 1}
    state.booster = lgb.train(
        {**params, "seed": trial.seed + trial.step},
        data,
        report.rest,
        valid_sets=[valid],
        init_model=state.booster,
        callbacks=[report],
    )


def main() -> None:
    """Opens a study, runs it, shows what stopping has saved."""
    space = {**tw.presets.lightgbm(), "num_leaves": tw.Int(4, 32, log=True)}
    study = tw.Study.open("trees", space, minimize="loss", steps=9, storage="memory", seed=0)
    study.run(train, trials=12)
    steps = sum(t.step for t in study.trials)
    print(f"{steps * TREES} trees instead of {9 * TREES * len(study.trials)}")
    print(f"best loss {study.best.metrics['loss']:.4f} with {study.best.params}")


if __name__ == "__main__":
    main()
