"""LightGBM models in trials: reports, early stops, checkpoints; raises MissingExtra on import where that is not installed.

Example:
    A step is twenty trees; bad models are stopped, and go on where they were if there is room for them::

        from tunewright.integrations.lightgbm import BoosterState, ReportCallback

        def train(trial):
            state, report = BoosterState(), ReportCallback(trial, "binary_logloss", every=20)
            trial.keep(state=state)
            params = {**trial.params, "objective": "binary", "seed": trial.seed + trial.step}
            state.booster = lgb.train(
                params, data, report.rest, valid_sets=[valid], init_model=state.booster, callbacks=[report]
            )
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.errors import missing_extra
from tunewright.integrations.reporting import Reporter, Reports

try:
    import lightgbm
except ImportError as error:
    raise missing_extra("lightgbm", "boosting") from error

__all__ = ["BoosterState", "ReportCallback"]


class ReportCallback:
    """Reports a validation metric every so many trees, and ends the training when the trial should end.

    Works in ``lightgbm.train``, ``lightgbm.cv`` and ``fit`` of its estimators.

    Args:
        trial: The trial; None reports nothing.
        metric: LightGBM's name of it, such as ``"binary_logloss"``; None for the only one.
        name: Name to report it under; None for the study's objective.
        every: Trees to a step.
        data: Which data; None for the first that is not the training data.

    Raises:
        ConfigError: If ``every`` cannot be used; in training, if the metric is not there.
    """

    order = 5
    before_iteration = False

    def __init__(
        self,
        trial: Reports | None,
        metric: str | None = None,
        *,
        name: str | None = None,
        every: int = 1,
        data: str | None = None,
    ) -> None:
        self._reporter, self._data = Reporter(trial, metric, name, every), data

    @property
    def rest(self) -> int | None:
        """Trees until the segment ends; None for a training without steps."""
        return self._reporter.rest

    @property
    def stopped(self) -> bool:
        """Whether the trial was told to end."""
        return self._reporter.stopped

    def __call__(self, env: Any) -> None:
        """What LightGBM calls after each tree.

        Raises:
            EarlyStopException: When the trial should end; LightGBM takes it as the end of the training.
        """
        if not self._reporter.due():
            return
        results = [r for r in env.evaluation_result_list or () if r[0] not in ("training", "cv_agg")]
        results = results or [
            r for r in env.evaluation_result_list or () if r[0] == "cv_agg" and "train " not in r[1]
        ]
        data = self._data or (results[0][0] if results else "")
        found = {r[1].removeprefix("valid "): r[2] for r in results if r[0] == data}
        if not self._reporter.say(found):
            raise lightgbm.callback.EarlyStopException(env.iteration, env.evaluation_result_list)


class BoosterState:
    """A booster with ``state_dict`` and ``load_state_dict``, so that ``trial.keep`` can keep it.

    More trees are added to what it holds: pass it as ``init_model``. The parameters are those of the call that adds them,
    so a fork goes on with its own. Rows and columns that are drawn at random are drawn anew in every call, from the
    seed in its parameters: give each step a seed of its own, such as ``trial.seed + step``.

    Attributes:
        booster: The ``Booster``, or None before the first trees.
    """

    def __init__(self) -> None:
        self.booster: Any = None

    def state_dict(self) -> dict[str, Any]:
        """The model as text, with all digits."""
        return {"model": None if self.booster is None else self.booster.model_to_string(num_iteration=-1)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Makes the saved booster."""
        text = state["model"]
        self.booster = None if text is None else lightgbm.Booster(model_str=text)
