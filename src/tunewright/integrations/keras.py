"""Keras 3 trainings in trials: reports, early stops, checkpoints; raises MissingExtra where that is not installed.

Example:
    With ``steps`` in the study, a step is an epoch, and paused trials go on where they were::

        from tunewright.integrations.keras import ModelState, ReportCallback

        def train(trial):
            model = build(trial["units"])
            trial.keep(state=ModelState(model))
            model.fit(x, y, validation_data=valid, initial_epoch=trial.step, epochs=trial.until,
                      callbacks=[ReportCallback(trial, "val_loss")])
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tunewright.errors import CheckpointError, missing_extra
from tunewright.integrations.reporting import Reporter, Reports

try:
    import keras
except ModuleNotFoundError as error:
    if error.name != "keras":
        raise  # its backend is missing, which KERAS_BACKEND chooses
    raise missing_extra("keras", "keras") from error

__all__ = ["ModelState", "ReportCallback"]


class ReportCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports a metric after each epoch, and ends the training when the trial should end.

    Works with every backend.

    Args:
        trial: The trial; None reports nothing.
        monitor: Keras' name of the metric, such as ``"val_loss"``.
        name: Name to report it under; None for the study's objective.
    """

    def __init__(self, trial: Reports | None, monitor: str, *, name: str | None = None) -> None:
        super().__init__()
        self._reporter = Reporter(trial, monitor, name)

    @property
    def stopped(self) -> bool:
        """Whether the trial was told to end."""
        return self._reporter.stopped

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """What Keras calls after each epoch.

        Raises:
            ConfigError: If the metric is not there.
        """
        if not self._reporter.say(dict(logs or {}), epoch + 1):
            self.model.stop_training = True


class ModelState:
    """Weights and optimizer of a compiled model, with ``state_dict`` and ``load_state_dict`` for ``trial.keep``.

    The learning rate stays that of the model, so that a fork goes on with its own.

    Args:
        model: The model, compiled and built.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def _optimizer(self) -> list[Any]:
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is None:
            return []
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        return [v for v in optimizer.variables if v is not getattr(optimizer, "_learning_rate", None)]

    def state_dict(self) -> dict[str, Any]:
        """Everything as arrays."""
        weights = [np.asarray(w) for w in self.model.get_weights()]
        return {"weights": weights, "optimizer": [keras.ops.convert_to_numpy(v) for v in self._optimizer()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts everything back.

        Raises:
            CheckpointError: If the checkpoint is of another model or optimizer.
        """
        mine, saved = self.model.get_weights(), list(state["weights"])
        own = self._optimizer()
        if [w.shape for w in mine] != [np.shape(w) for w in saved] or len(own) != len(state["optimizer"]):
            raise CheckpointError(
                f"A checkpoint must hold this model; it has {len(saved)} weights of other shapes than the {len(mine)} here, "
                f"or another optimizer. Build the model that was saved."
            )
        self.model.set_weights(saved)
        for variable, value in zip(own, state["optimizer"], strict=True):
            variable.assign(value)
