"""Ready search spaces for common models: dicts of domains, to be used as they are or changed like any dict.

Library defaults are guesses of confidence 0, so that they are tried first and lean nothing. Sources, by the name that the docstrings use:

- *Bischl 2023*: Bischl et al. 2023, "Hyperparameter optimization: foundations, algorithms, best practices, and open
  challenges", WIREs Data Mining and Knowledge Discovery 13(2), the default spaces of its appendix.
- *TabRepo*: Salinas and Erickson 2024, "TabRepo: a large scale repository of tabular model evaluations and its AutoML
  applications", AutoML Conference, the spaces that its random configurations are drawn from.
- *Grinsztajn 2022*: Grinsztajn, Oyallon and Varoquaux 2022, "Why do tree-based models still outperform deep learning on
  typical tabular data?", NeurIPS Datasets and Benchmarks, its appendix on search spaces.
- *own*: ranges of this package around the library's default.

Example:
    >>> sorted(svm())
    ['C', 'gamma', 'kernel']
    >>> list(logistic_regression(prefix="clf__"))
    ['clf__C']
"""

from __future__ import annotations

from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order
from tunewright.errors import ConfigError

__all__ = [
    "catboost",
    "hist_gradient_boosting",
    "lightgbm",
    "logistic_regression",
    "mlp",
    "random_forest",
    "svm",
    "torch_optimizer",
    "xgboost",
]

Preset = dict[str, Domain]


def lightgbm(*, prefix: str = "", trees: bool = False) -> Preset:
    """A space for ``LGBMClassifier`` and ``LGBMRegressor``.

    ``learning_rate``, ``num_leaves``, ``min_child_samples`` and ``colsample_bytree`` after TabRepo, each widened to at least
    twice the span on a log scale; ``reg_lambda`` and ``reg_alpha`` after Bischl 2023 (XGBoost), with the default 0 replaced
    by its lowest value, 1e-8, which does the same; own for ``n_estimators``.

    Args:
        prefix: Put before each name, such as ``"model__"`` for a step of a pipeline.
        trees: Whether the number of trees is searched too; with early stopping it need not be.
    """
    space: Preset = {
        "learning_rate": Float(5e-3, 0.5, log=True, guess=0.1, confidence=0.0),
        "num_leaves": Int(7, 255, log=True, guess=31, confidence=0.0),
        "min_child_samples": Int(2, 100, log=True, guess=20, confidence=0.0),
        "colsample_bytree": Float(0.4, 1.0, guess=1.0, confidence=0.0),
        "reg_lambda": Float(1e-8, 1e3, log=True, guess=1e-8, confidence=0.0),
        "reg_alpha": Float(1e-8, 1e3, log=True, guess=1e-8, confidence=0.0),
    }
    if trees:
        space["n_estimators"] = Int(30, 1000, log=True)
    return _named(space, prefix)


def xgboost(*, prefix: str = "", trees: bool = False) -> Preset:
    """A space for ``XGBClassifier`` and ``XGBRegressor``.

    All ranges after Bischl 2023, but the learning rate from 1e-3 up, ``max_depth`` to 12 and ``subsample`` and
    ``colsample_bytree`` from 0.3, since less of each only costs trees; ``min_child_weight`` as in Kühn et al. 2018,
    "Automatic exploration of machine learning experiments on OpenML", arXiv:1806.10961.

    Args:
        prefix: Put before each name.
        trees: Whether the number of trees is searched too.
    """
    space: Preset = {
        "learning_rate": Float(1e-3, 1.0, log=True, guess=0.3, confidence=0.0),
        "max_depth": Int(1, 12, guess=6, confidence=0.0),
        "min_child_weight": Float(1.0, 100.0, log=True, guess=1.0, confidence=0.0),
        "subsample": Float(0.3, 1.0, guess=1.0, confidence=0.0),
        "colsample_bytree": Float(0.3, 1.0, guess=1.0, confidence=0.0),
        "reg_lambda": Float(1e-3, 1e3, log=True, guess=1.0, confidence=0.0),
        "reg_alpha": Float(1e-8, 1e3, log=True, guess=1e-8, confidence=0.0),
    }
    if trees:
        space["n_estimators"] = Int(30, 1000, log=True)
    return _named(space, prefix)


def catboost(*, prefix: str = "", trees: bool = False) -> Preset:
    """A space for ``CatBoostClassifier`` and ``CatBoostRegressor``.

    After TabRepo, with ``l2_leaf_reg`` on a log scale to 30 and the learning rate to 0.3; own for ``random_strength``,
    ``bagging_temperature`` and ``iterations``, around the defaults 1, 1 and 1000.

    Args:
        prefix: Put before each name.
        trees: Whether the number of trees is searched too.
    """
    space: Preset = {
        "learning_rate": Float(5e-3, 0.3, log=True, guess=0.03, confidence=0.0),
        "depth": Int(2, 10, guess=6, confidence=0.0),
        "l2_leaf_reg": Float(1.0, 30.0, log=True, guess=3.0, confidence=0.0),
        "random_strength": Float(0.1, 10.0, log=True, guess=1.0, confidence=0.0),
        "bagging_temperature": Float(0.0, 2.0, guess=1.0, confidence=0.0),
    }
    if trees:
        space["iterations"] = Int(50, 2000, log=True)
    return _named(space, prefix)


def random_forest(*, prefix: str = "") -> Preset:
    """A space for ``RandomForestClassifier`` and ``RandomForestRegressor``, and their ``ExtraTrees`` kin.

    ``max_features`` as a share of all features, after Bischl 2023, from 0.05; ``min_samples_leaf`` after TabRepo;
    ``min_samples_split`` after Bischl 2023 (tree). The number of trees is not searched: more are never worse, see Probst
    and Boulesteix 2018, "To tune or not to tune the number of trees in random forest", JMLR 18.

    Args:
        prefix: Put before each name.
    """
    return _named(
        {
            "max_features": Float(0.05, 1.0),
            "min_samples_leaf": Int(1, 80, log=True, guess=1, confidence=0.0),
            "min_samples_split": Int(2, 128, log=True, guess=2, confidence=0.0),
        },
        prefix,
    )


def hist_gradient_boosting(*, prefix: str = "") -> Preset:
    """A space for ``HistGradientBoostingClassifier`` and ``HistGradientBoostingRegressor``.

    As ``lightgbm``, whose algorithm it is; ``l2_regularization`` includes the default 0.

    Args:
        prefix: Put before each name.
    """
    return _named(
        {
            "learning_rate": Float(5e-3, 0.5, log=True, guess=0.1, confidence=0.0),
            "max_leaf_nodes": Int(7, 255, log=True, guess=31, confidence=0.0),
            "min_samples_leaf": Int(2, 100, log=True, guess=20, confidence=0.0),
            "l2_regularization": Order(
                [0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0], guess=0.0, confidence=0.0
            ),
        },
        prefix,
    )


def svm(*, prefix: str = "") -> Preset:
    """A space for ``SVC`` and ``SVR`` on standardised features.

    ``C`` and the kernels after Bischl 2023; ``gamma`` from 1e-6, since the best is near one over the number of features.
    The default ``gamma="scale"`` depends on the data and is in no range; a search measures it besides.

    Args:
        prefix: Put before each name.
    """
    return _named(
        {
            "C": Float(1e-4, 1e4, log=True, guess=1.0, confidence=0.0),
            "gamma": Float(1e-6, 1e2, log=True),
            "kernel": Choice(["rbf", "poly", "sigmoid"], guess="rbf", confidence=0.0),
        },
        prefix,
    )


def logistic_regression(*, prefix: str = "") -> Preset:
    """A space for ``LogisticRegression``.

    ``C`` is one over the strength of regularisation, which Bischl 2023 (elastic net) gives as 1e-4 to 1e4.

    Args:
        prefix: Put before each name.
    """
    return _named({"C": Float(1e-4, 1e4, log=True, guess=1.0, confidence=0.0)}, prefix)


def mlp(*, prefix: str = "") -> Preset:
    """A space for ``MLPClassifier`` and ``MLPRegressor`` with one hidden layer.

    ``learning_rate_init`` and the width after Grinsztajn 2022, the rate to 0.1; ``alpha`` (weight decay) own, from 1e-7 to
    0.1; ``batch_size`` own, and small, since the default for tables of up to 200 rows is all of them.

    Args:
        prefix: Put before each name.
    """
    return _named(
        {
            "learning_rate_init": Float(1e-5, 0.1, log=True, guess=1e-3, confidence=0.0),
            "hidden_layer_sizes": Int(16, 1024, log=True, guess=100, confidence=0.0),
            "alpha": Float(1e-7, 0.1, log=True, guess=1e-4, confidence=0.0),
            "activation": Choice(["relu", "tanh"], guess="relu", confidence=0.0),
            "batch_size": Order([16, 32, 64, 128, 256, 512]),
            "early_stopping": Bool(guess=False, confidence=0.0),
        },
        prefix,
    )


def torch_optimizer(name: str = "adamw", *, prefix: str = "") -> Preset:
    """A space for an optimizer of ``torch.optim``, with the names of its arguments.

    The learning rate of Adam after Grinsztajn 2022, a tenfold wider; one less a momentum, as ``beta1_gap`` and
    ``momentum_gap``, on a log scale, since that is what matters: Choi et al. 2019, "On empirical comparisons of optimizers for
    deep learning", arXiv:1910.05446, section 4. Own for the rest, around the defaults.

    Args:
        name: ``"adam"``, ``"adamw"``, ``"sgd"`` or ``"rmsprop"``.
        prefix: Put before each name.

    Raises:
        ConfigError: If there is none for that optimizer.

    Example:
        Make the optimizer from it::

            betas = 1 - trial["beta1_gap"], 0.999
            torch.optim.AdamW(model.parameters(), lr=trial["lr"], betas=betas, weight_decay=trial["weight_decay"])
    """
    gap = Float(1e-2, 0.5, log=True, guess=0.1, confidence=0.0)
    spaces: dict[str, Preset] = {
        "adam": {"lr": Float(1e-6, 0.1, log=True, guess=1e-3, confidence=0.0), "beta1_gap": gap},
        "adamw": {
            "lr": Float(1e-6, 0.1, log=True, guess=1e-3, confidence=0.0),
            "beta1_gap": gap,
            "weight_decay": Float(1e-5, 1.0, log=True, guess=1e-2, confidence=0.0),
        },
        "sgd": {
            "lr": Float(1e-4, 10.0, log=True, guess=0.1, confidence=0.0),
            "momentum_gap": Float(1e-3, 1.0, log=True, guess=0.1, confidence=0.0),
            "weight_decay": Float(1e-7, 1e-2, log=True, guess=1e-4, confidence=0.0),
            "nesterov": Bool(),
        },
        "rmsprop": {
            "lr": Float(1e-6, 0.1, log=True, guess=1e-2, confidence=0.0),
            "alpha_gap": Float(1e-3, 0.5, log=True, guess=1e-2, confidence=0.0),
        },
    }
    if name not in spaces:
        raise ConfigError(f"A preset is there for {', '.join(spaces)}; got {name!r:.80}. Choose one of them.")
    return _named(spaces[name], prefix)


def _named(space: Preset, prefix: str) -> Preset:
    return {f"{prefix}{name}": domain for name, domain in space.items()}
