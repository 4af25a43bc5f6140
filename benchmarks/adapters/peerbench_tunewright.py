"""Tunewright for the peerbench regret harness.

The harness loads this file as ``adapters.tunewright_ad`` from a copy of itself; see ``benchmarks.harness``.
"""

from __future__ import annotations

from typing import Any

import tunewright as tw
from tunewright.bench.tables import read_space
from tunewright.core.events import Ended, Event, Paused


class Single:
    """One full training per trial, through the study's ask and tell.

    Args:
        space: The harness's space.
        seed: Seed of the study.
        n_trials: Number of trials; not told to the method.
        method: Name of the method.
    """

    def __init__(self, space: Any, seed: int, n_trials: int, method: str) -> None:
        self._study = tw.Study.open(
            "peerbench",
            read_space([p.to_dict() for p in space.params]),
            storage="memory",
            method=method,
            seed=seed,
        )

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """The next configuration."""
        trial = self._study.ask()
        if trial is None:
            raise RuntimeError("the method is finished")
        return trial, trial.params

    def tell(self, trial: Any, value: float) -> None:
        """Its result."""
        trial.tell(value)


class Steps:
    """Trainings by epoch that are paused, resumed and stopped, one at a time.

    Args:
        space: The harness's space.
        seed: Seed of the study.
        max_epochs: Epochs of a full training.
        method: Name of the method.
    """

    def __init__(self, space: Any, seed: int, max_epochs: int, method: str) -> None:
        self._study = tw.Study.open(
            "peerbench",
            read_space([p.to_dict() for p in space.params]),
            storage="memory",
            method=method,
            seed=seed,
            steps=max_epochs,
        )
        self._high = max_epochs

    def ask(self) -> tuple[Any, dict[str, Any], int, int]:
        """The next segment: handle, configuration, checkpoint key, last epoch."""
        trial = self._study.ask()
        if trial is None:
            raise RuntimeError("the method is finished")
        until = self._study.session.ledger.trials[trial.number].until
        return trial, trial.params, trial.number, until or self._high

    def report(self, trial: Any, epoch: int, value: float) -> bool:
        """One epoch's loss; returns whether to go on."""
        return bool(trial.report(epoch, loss=value))

    def tell(self, trial: Any, value: float, epoch: int) -> None:
        """The end of a segment."""
        session = self._study.session
        number, token = trial.number, trial.token
        event: Event
        if session.ledger.trials[number].signal == "stop":
            event = Ended(number, token, "stopped", step=epoch)
        elif epoch >= self._high:
            event = Ended(number, token, "completed", {"loss": value}, epoch)
        else:
            event = Paused(number, token, epoch)
        session.record(event)


ADAPTERS = {
    "tw_random": (Single, {"method": "random"}),
    "tw_quasirandom": (Single, {"method": "quasirandom"}),
    "tw_tpe": (Single, {"method": "tpe"}),
    "tw_gp": (Single, {"method": "bayes"}),
    "tw_auto": (Single, {"method": "auto"}),
}
MF_ADAPTERS = {
    "mf_tw_random": (Steps, {"method": "random"}),
    "mf_tw_tpe_full": (Steps, {"method": "tpe"}),
    "mf_tw_asha": (Steps, {"method": "asha(tpe)"}),
    "mf_tw_asha_random": (Steps, {"method": "asha(random)"}),
    "mf_tw_halting": (Steps, {"method": "halting(tpe)"}),
    "mf_tw_hyperband": (Steps, {"method": "hyperband(tpe)"}),
    "mf_tw_hyperband_random": (Steps, {"method": "hyperband(random)"}),
    "mf_tw_median": (Steps, {"method": "median(tpe)"}),
    "mf_tw_auto": (Steps, {"method": "auto"}),
}
