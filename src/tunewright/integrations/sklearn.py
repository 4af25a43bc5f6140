"""Checkpoints of scikit-learn estimators that learn in parts; raises MissingExtra on import where that is not installed.

For estimators with ``partial_fit``, or with ``warm_start``, which are given more iterations or trees in every step.
Written by skops, without pickle: reading runs no code but that of scikit-learn, NumPy and SciPy.

Example:
    A step is one pass over the data::

        from tunewright.integrations.sklearn import EstimatorState

        def train(trial):
            model = SGDClassifier(alpha=trial["alpha"], random_state=trial.seed)
            trial.keep(state=EstimatorState(model))
            for step in trial.steps():
                model.partial_fit(x, y, classes=classes)
                trial.report(step, accuracy=model.score(x_valid, y_valid))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tunewright.errors import CheckpointError, ConfigError, missing_extra

try:
    import sklearn.base
    import skops.io
except ImportError as error:
    raise missing_extra("skops", "sklearn") from error

__all__ = ["EstimatorState"]


class EstimatorState:
    """An estimator with ``state_dict`` and ``load_state_dict``, so that ``trial.keep`` can keep it.

    Training goes on exactly when the estimator has a ``random_state``. Loading changes the estimator in place. One that
    is given other parameters than the one in the checkpoint was given keeps its own: a fork learns on with its
    donor's weights and its own step size.

    Args:
        estimator: The estimator, before its first fit.
        trusted: Full names of classes outside scikit-learn, NumPy and SciPy that it may consist of, such as
            ``"mypackage.transforms.Shift"``.

    Raises:
        ConfigError: If it is no estimator.
    """

    def __init__(self, estimator: Any, *, trusted: Sequence[str] = ()) -> None:
        if not isinstance(estimator, sklearn.base.BaseEstimator):
            raise ConfigError(
                f"EstimatorState needs a scikit-learn estimator; got a {type(estimator).__name__}. "
                f"Pass one with fit or partial_fit."
            )
        self.estimator = estimator
        self._trusted = frozenset(trusted)
        self._given = {
            k: v
            for k, v in estimator.get_params().items()
            if v is None or isinstance(v, bool | int | float | str)
        }

    def state_dict(self) -> dict[str, Any]:
        """The estimator as bytes, and the parameters that it was given."""
        layout = {n: _rows_apart(v) for n, v in vars(self.estimator).items() if isinstance(v, np.ndarray)}
        apart = {n: rows for n, rows in layout.items() if rows}
        return {"estimator": skops.io.dumps(self.estimator), "given": self._given, "layout": apart}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Turns the estimator into the saved one, but for parameters that were given other values.

        Raises:
            CheckpointError: If the checkpoint holds another kind of estimator, or classes that are not trusted.
        """
        data = state["estimator"]
        foreign = [
            name
            for name in skops.io.get_untrusted_types(data=data)
            if name.partition(".")[0] != "sklearn" and name not in self._trusted
        ]
        if foreign:
            raise CheckpointError(
                f"An estimator's checkpoint may hold scikit-learn's own classes; this one has {sorted(foreign)}. "
                f"Name those you trust with EstimatorState(..., trusted=[...])."
            )
        saved = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
        if type(saved) is not type(self.estimator):
            raise CheckpointError(
                f"A checkpoint must hold a {type(self.estimator).__name__}; it has a {type(saved).__name__}. "
                f"Make the estimator that was saved."
            )
        vars(self.estimator).clear()
        vars(self.estimator).update(vars(saved))
        for name, rows in state.get("layout", {}).items():
            setattr(self.estimator, name, _laid_out(getattr(saved, name), rows))
        before = state["given"]
        changed = {k: v for k, v in self._given.items() if k in before and before[k] != v}
        if changed:
            self.estimator.set_params(**changed)
            self._repace(before, changed)

    def _repace(self, before: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
        """A multi-layer perceptron hands its step size to an optimizer that it makes only once."""
        optimizer = getattr(self.estimator, "_optimizer", None)
        if optimizer is not None and "learning_rate_init" in changed:
            new, old = changed["learning_rate_init"], before["learning_rate_init"]
            optimizer.learning_rate_init = new
            optimizer.learning_rate = float(optimizer.learning_rate * (new / old))


def _rows_apart(array: np.ndarray[Any, Any]) -> int:
    """Rows of the matrix that it is the upper part of, column by column in memory; 0 if it is no such part.

    Saved, it comes back row by row. Products with it then round otherwise, and training would not go on exactly.
    """
    if array.ndim != 2 or array.flags.forc or array.strides[0] != array.itemsize:
        return 0
    return max(0, array.strides[1] // array.itemsize)


def _laid_out(array: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
    """The same numbers as the upper part of a matrix of so many rows, column by column in memory."""
    whole = np.zeros((rows, array.shape[1]), dtype=array.dtype, order="F")
    whole[: len(array)] = array
    return whole[: len(array)]
