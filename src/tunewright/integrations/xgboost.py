"""XGBoost models in trials: reports, early stops, checkpoints; raises MissingExtra on import where that is not installed.

Example:
    A step is twenty trees; bad models are stopped, and go on where they were if there is room for them::

        from tunewright.integrations.xgboost import BoosterState, ReportCallback

        def train(trial):
            state, report = BoosterState(), ReportCallback(trial, "logloss", every=20)
            trial.keep(state=state)
            params = {**trial.params, "objective": "binary:logistic", "seed": trial.seed + trial.step}
            state.booster = xgb.train(
                params, data, report.rest, evals=[(valid, "valid")], xgb_model=state.booster, callbacks=[report]
            )
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.errors import missing_extra
from tunewright.integrations.reporting import Reporter, Reports

try:
    import xgboost
    from xgboost.callback import TrainingCallback
except ImportError as error:
    raise missing_extra("xgboost", "boosting") from error

__all__ = ["BoosterState", "ReportCallback"]


class ReportCallback(TrainingCallback):
    """Reports a validation metric every so many trees, and ends the training when the trial should end.

    Works in ``xgboost.train``, ``xgboost.cv`` and ``fit`` of its estimators.

    Args:
        trial: The trial; None reports nothing.
        metric: XGBoost's name of it, such as ``"logloss"``; None for the only one.
        name: Name to report it under; None for the study's objective.
        every: Trees to a step.
        data: Which of the ``evals``; None for the last, which is the one that XGBoost itself stops by.

    Raises:
        ConfigError: If ``every`` cannot be used; in training, if the metric is not there.
    """

    def __init__(
        self,
        trial: Reports | None,
        metric: str | None = None,
        *,
        name: str | None = None,
        every: int = 1,
        data: str | None = None,
    ) -> None:
        super().__init__()
        self._reporter, self._data = Reporter(trial, metric, name, every), data

    @property
    def rest(self) -> int | None:
        """Trees until the segment ends; None for a training without steps."""
        return self._reporter.rest

    @property
    def stopped(self) -> bool:
        """Whether the trial was told to end."""
        return self._reporter.stopped

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        """What XGBoost calls after each tree; whether to stop."""
        if not self._reporter.due():
            return False
        data = self._data or (list(evals_log)[-1] if evals_log else "")
        stop = not self._reporter.say({k: _last(v) for k, v in evals_log.get(data, {}).items()})
        if stop and not isinstance(model, xgboost.Booster):
            model.set_attr(best_iteration=str(epoch))  # cross-validation cuts its table there
        return stop


def _last(values: Any) -> float:
    """The newest value of a metric; in cross-validation each is a mean with a deviation."""
    newest = values[-1]
    return float(newest[0] if isinstance(newest, tuple) else newest)


class BoosterState:
    """A booster with ``state_dict`` and ``load_state_dict``, so that ``trial.keep`` can keep it.

    More trees are added to what it holds: pass it as ``xgb_model``. The parameters are those of the call that adds them,
    so a fork goes on with its own. Rows and columns that are drawn at random are drawn anew in every call, from the
    seed in its parameters: give each step a seed of its own, such as ``trial.seed + step``.

    Attributes:
        booster: The ``Booster``, or None before the first trees.
    """

    def __init__(self) -> None:
        self.booster: Any = None

    def state_dict(self) -> dict[str, Any]:
        """The model as bytes, in universal binary JSON."""
        return {"model": None if self.booster is None else bytes(self.booster.save_raw("ubj"))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Makes the saved booster."""
        data = state["model"]
        self.booster = None if data is None else xgboost.Booster(model_file=bytearray(data))
