"""CatBoost models in trials: reports, early stops, checkpoints; raises MissingExtra where that is not installed.

Example:
    A step is twenty trees; bad models are stopped, and go on where they were if there is room for them::

        from tunewright.integrations.catboost import ModelState, ReportCallback

        def train(trial):
            state, report = ModelState(), ReportCallback(trial, "Logloss", every=20)
            trial.keep(state=state)
            model = CatBoostClassifier(iterations=report.rest, **trial.params)
            state.model = model.fit(x, y, eval_set=(x_valid, y_valid), init_model=state.model, callbacks=[report])
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.errors import missing_extra
from tunewright.integrations.reporting import Reporter, Reports

try:
    import catboost
except ImportError as error:
    raise missing_extra("catboost", "boosting") from error

__all__ = ["ModelState", "ReportCallback"]


class ReportCallback:
    """Reports a validation metric every so many trees, and ends the training when the trial should end.

    CatBoost calls callbacks on CPUs only.

    Args:
        trial: The trial; None reports nothing.
        metric: CatBoost's name of it, such as ``"Logloss"``; None for the only one.
        name: Name to report it under; None for the study's objective.
        every: Trees to a step.
        data: Which data; ``"validation"`` is the first set in ``eval_set``.

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
        data: str = "validation",
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

    def after_iteration(self, info: Any) -> bool:
        """What CatBoost calls after each tree; whether to go on."""
        if not self._reporter.due():
            return True
        measured = info.metrics.get(self._data) or {}
        return self._reporter.say({k: v[-1] for k, v in measured.items()})


class ModelState:
    """A model with ``state_dict`` and ``load_state_dict``, so that ``trial.keep`` can keep it.

    More trees are added to what it holds: pass it as ``init_model``. The parameters are those of the call that adds them.

    Attributes:
        model: The model, or None before the first trees.
    """

    def __init__(self) -> None:
        self.model: Any = None

    def state_dict(self) -> dict[str, Any]:
        """The model in CatBoost's binary format."""
        if self.model is None:
            return {"model": None}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.cbm"
            self.model.save_model(str(path))
            return {"model": path.read_bytes()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Makes the saved model."""
        data = state["model"]
        self.model = None if data is None else catboost.CatBoost().load_model(blob=bytes(data))
