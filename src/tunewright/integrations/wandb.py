"""Keeps a study in Weights & Biases: one run per trial, grouped by study; offline unless told otherwise.

*Use when* your results live in Weights & Biases. Offline runs need no account and no network; ``wandb sync`` uploads them.

*Do not use when* you have Weights & Biases sweeps and want to leave them: see the guide for coming from there.

Example:
    ::

        from tunewright.integrations.wandb import wandb_logger

        study.run(train, trials=50, watch=wandb_logger(project="mine"))
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any, Literal

from tunewright.errors import missing_extra
from tunewright.integrations.observing import Observed, TrialFacts, label


def wandb_logger(
    project: str | None = None,
    *,
    mode: Literal["offline", "online", "disabled"] = "offline",
    folder: str | os.PathLike[str] | None = None,
    patience: float = 60.0,
    **settings: Any,
) -> Observed:
    """A watcher that keeps each trial as a run of Weights & Biases.

    Args:
        project: Name of the project; None for the name of the study.
        mode: ``"offline"`` writes to disk only, ``"online"`` sends to the server that you are logged in to.
        folder: Where runs are written; the working directory when not given.
        patience: Seconds that the end of a run waits for a slow server.
        **settings: More arguments of ``wandb.init``, such as ``entity`` and ``tags``.

    Returns:
        What ``study.run(..., watch=)`` and ``observing.keep`` take.

    Raises:
        MissingExtra: If wandb is not installed.
    """
    try:
        library = importlib.import_module("wandb")
    except ImportError:
        raise missing_extra("wandb", "wandb") from None
    given = {
        "project": project,
        "mode": mode,
        "dir": None if folder is None else os.fspath(folder),
        **settings,
    }
    return Observed(Runs(library, given), "Weights & Biases", patience=patience)


class Runs:
    """An observer that makes a run per trial, beside any run that the training itself has open.

    Args:
        library: The module ``wandb``.
        given: Arguments of ``wandb.init``.
    """

    def __init__(self, library: Any, given: dict[str, Any]) -> None:
        self._library = library
        self._given = given
        self._runs: dict[int, Any] = {}

    def began(self, trial: TrialFacts) -> None:
        """Opens the run of a trial."""
        given = {"group": trial.study.name, "job_type": "trial", **self._given}
        given["project"] = given["project"] or _project(trial.study.name)
        quiet = self._library.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
        self._runs[trial.number] = self._library.init(
            name=label(trial),
            config={
                **trial.params,
                "tunewright": {"study": trial.study.name, "trial": trial.number, "by": trial.by},
            },
            reinit="create_new",
            settings=given.pop("settings", quiet),
            **given,
        )

    def reported(self, trial: TrialFacts, step: int, metrics: Mapping[str, float], at: float) -> None:
        """Logs a report."""
        self._runs[trial.number].log({**metrics, "step": step})

    def ended(self, trial: TrialFacts) -> None:
        """Logs the result and closes the run; one of a failed trial is marked so."""
        run = self._runs.pop(trial.number)
        run.config.update(dict(trial.params), allow_val_change=True)
        run.summary.update({**trial.metrics, "status": trial.status})
        if trial.error:
            run.summary["error"] = trial.error[-2_000:]
        run.finish(exit_code=0 if trial.status in ("completed", "stopped") else 1)

    def finish(self) -> None:
        """Closes what is open: trials that paused with the run."""
        while self._runs:
            self._runs.popitem()[1].finish()


def _project(name: str) -> str:
    """A study's name as a project may be called."""
    return "".join("-" if c in '/\\#?%:"' else c for c in name)[:128]
