"""Lightning trainings in trials: reports, early stops, checkpoints; raises MissingExtra where that is not installed.

Example:
    With ``steps`` in the study, a step is an epoch, and paused trials go on where they were::

        from tunewright.integrations.lightning import ReportCallback

        def train(trial):
            report = ReportCallback(trial, "val_loss")
            trainer = Trainer(max_epochs=trial.until, callbacks=[report])
            trainer.fit(Model(lr=trial["lr"]), data, ckpt_path=report.resume_from)
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tunewright.errors import ConfigError, missing_extra
from tunewright.integrations.reporting import Reporter, Reports

try:
    from lightning.pytorch.callbacks import Callback
except ImportError as error:
    raise missing_extra("lightning", "lightning") from error

__all__ = ["ReportCallback"]


class ReportCallback(Callback):
    """Reports a logged metric after each epoch, ends the training when the trial should end, keeps a checkpoint.

    With several processes, rank 0 reports and all stop together; the trial is needed there only.

    Args:
        trial: The trial; None reports nothing.
        monitor: What the module logs, such as ``"val_loss"``.
        name: Name to report it under; None for the study's objective.
        keep: Whether a trial that ends its segment keeps the trainer's checkpoint, to go on from it later.
    """

    def __init__(
        self, trial: Reports | None, monitor: str, *, name: str | None = None, keep: bool = True
    ) -> None:
        super().__init__()
        self._reporter, self._monitor = Reporter(trial, monitor, name), monitor
        self._checkpoint = getattr(trial, "checkpoint", None) if keep else None

    @property
    def resume_from(self) -> str | None:
        """The checkpoint that an earlier segment left, for ``trainer.fit(..., ckpt_path=...)``."""
        path = None if self._checkpoint is None else self._checkpoint.load_file()
        return None if path is None else str(path)

    @property
    def stopped(self) -> bool:
        """Whether the trial was told to end."""
        return self._reporter.stopped

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """What Lightning calls after each epoch and its validation.

        Raises:
            ConfigError: If the metric was not logged.
        """
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if v.numel() == 1}
        if self._monitor not in metrics:
            raise ConfigError(
                f"The metric to report must be logged; got monitor={self._monitor!r}, and there are "
                f"{', '.join(map(repr, metrics)) or 'none'}. Call self.log({self._monitor!r}, ...) in validation_step."
            )
        goes_on = self._reporter.say(metrics, trainer.current_epoch + 1) if trainer.is_global_zero else True
        # One rank that wants to stop is enough.
        if trainer.strategy.reduce_boolean_decision(not goes_on, all=False):
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """What Lightning calls at the end; the checkpoint is saved once the epoch is wholly over."""
        if self._checkpoint is None and trainer.world_size == 1:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trainer.ckpt"
            trainer.save_checkpoint(path)
            if self._checkpoint is not None and path.is_file():
                self._checkpoint.save_file(path)
