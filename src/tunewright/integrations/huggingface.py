"""Hugging Face ``Trainer`` in trials: reports, early stops, checkpoints, and a search in one call.

Raises MissingExtra on import where ``transformers`` is not installed.

Example:
    A function that makes the trainer for some parameters is all that a search needs::

        from tunewright.integrations.huggingface import search

        def make(params):
            args = TrainingArguments(num_train_epochs=3, eval_strategy="epoch", learning_rate=params["lr"])
            return Trainer(model=model(), args=args, train_dataset=data, eval_dataset=valid)

        study = search(make, {"lr": tw.Float(1e-6, 1e-3, log=True)}, minimize="eval_loss", trials=20)
"""

from __future__ import annotations

import functools
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunewright.errors import ConfigError, missing_extra
from tunewright.integrations.reporting import Reporter, Reports
from tunewright.run.worker import Attempt
from tunewright.study import Study

try:
    from transformers import TrainerCallback
    from transformers.trainer_utils import get_last_checkpoint
except ImportError as error:
    raise missing_extra("transformers", "huggingface") from error

__all__ = ["ReportCallback", "search"]


class ReportCallback(TrainerCallback):
    """Reports what an evaluation measured, and ends the training when the trial should end.

    A step is an evaluation. With several processes, the process that has the trial reports, and the trainer stops once
    its own steps agree; see ``torch_ddp`` to share the answer.

    Args:
        trial: The trial; None reports nothing.
        metric: Name of the metric as the trainer has it, such as ``"eval_loss"``.
        name: Name to report it under; None for the study's objective.
    """

    def __init__(self, trial: Reports | None, metric: str = "eval_loss", *, name: str | None = None) -> None:
        self._reporter = Reporter(trial, metric, name)

    @property
    def stopped(self) -> bool:
        """Whether the trial was told to end."""
        return self._reporter.stopped

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **more: Any) -> None:
        """What the trainer calls after each evaluation.

        Raises:
            ConfigError: If the metric is not there.
        """
        if not self._reporter.say(dict(metrics or {})):
            control.should_training_stop = True
            control.should_save = True


def search(
    trainer_factory: Callable[[dict[str, Any]], Any],
    space: Any,
    *,
    trials: int | None = None,
    timeout: float | str | None = None,
    minimize: str = "",
    maximize: str = "",
    steps: int | tuple[int, int] | None = None,
    method: str = "auto",
    seed: int | None = None,
    name: str | None = None,
    storage: str | os.PathLike[str] | None = None,
    **limits: Any,
) -> Study:
    """Searches settings of a training, and returns the study.

    A trial that is paused keeps the trainer's checkpoint, and goes on from it, here or on another machine.

    Args:
        trainer_factory: Makes a new trainer, with a new model, for the parameters of a trial.
        space: What to search; see ``Study.open``.
        trials: Trials to begin in all.
        timeout: Wall time, in seconds or as ``"10min"``; one of the two is needed.
        minimize: Metric to make small; ``"eval_loss"`` when neither this nor ``maximize`` is given.
        maximize: Metric to make large, such as ``"eval_accuracy"``.
        steps: Evaluations of a full training, or ``(fewest, full)``, to stop weak trials early.
        method: What chooses trials.
        seed: Root of all randomness.
        name: Name under which the study is kept and continued; None for one that ends with the process.
        storage: Where it is kept.
        **limits: Anything else that ``Study.run`` takes.

    Raises:
        ConfigError: If there is no end, two goals, or no such metric.
    """
    if trials is None and timeout is None:
        raise ConfigError(
            "A search needs an end; got neither trials nor timeout. Write search(..., trials=20)."
        )
    if minimize and maximize:
        raise ConfigError(
            "A search of a trainer has one objective; got minimize and maximize. Give one of them."
        )
    metric = maximize or minimize or "eval_loss"
    study = Study.open(
        name or "trainer",
        space,
        minimize="" if maximize else metric,
        maximize=maximize,
        steps=steps,
        method=None if name is not None and method == "auto" else method,
        seed=seed,
        storage="memory" if name is None and storage is None else storage,
    )
    train = functools.partial(_train, factory=trainer_factory, metric=metric)
    study.run(train, trials=trials, timeout=timeout, **limits)
    return study


def _train(trial: Attempt, factory: Callable[[dict[str, Any]], Any], metric: str) -> dict[str, float] | None:
    """One segment of one trial."""
    trainer = factory(dict(trial.params))
    report = ReportCallback(trial, metric)
    trainer.add_callback(report)
    with tempfile.TemporaryDirectory(dir=trial.folder) as folder:
        trainer.args.output_dir = folder
        trainer.train(resume_from_checkpoint=_unpacked(trial, Path(folder)))
        if trial.until is not None and trial.step:
            _pack(trial, folder)
        if trial.step:
            return None
        # The training evaluated nothing on its way.
        trainer.remove_callback(report)
        measured = trainer.evaluate()
    if metric not in measured:
        raise ConfigError(
            f"The metric to search by must be one of an evaluation; got {metric!r}, and there are "
            f"{', '.join(map(repr, measured))}. Correct it, or give the trainer compute_metrics."
        )
    return {metric: float(measured[metric])}


def _unpacked(trial: Attempt, folder: Path) -> str | None:
    """Puts back what the trainer had saved when the trial was paused."""
    packed = trial.checkpoint.load_file()
    if packed is None:
        return None
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return _last(str(folder))


def _pack(trial: Attempt, folder: str) -> None:
    """Keeps the newest checkpoint of the trainer as that of the trial, so that it comes along wherever that goes on."""
    last = _last(folder)
    if last is None:
        return
    with tempfile.TemporaryDirectory(dir=trial.folder) as aside:
        path = Path(aside) / "trainer.tar"
        with tarfile.open(path, "w") as archive:
            archive.add(last, Path(last).name)
        trial.checkpoint.save_file(path)


def _last(folder: str) -> str | None:
    newest: Callable[[str], str | None] = get_last_checkpoint
    return newest(folder)
