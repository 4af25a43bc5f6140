"""Syne Tune 0.13, the last with MOBSTER, Hyper-Tune and DyHPO: by promotion, on flat columns, for ``benchmarks.race``."""

from __future__ import annotations

import datetime
import logging
import warnings
from typing import Any

import numpy as np
from syne_tune import config_space
from syne_tune.backend.trial_status import Trial
from syne_tune.optimizer import baselines

from benchmarks.peers.flat import active, flat
from tunewright.bench.simulate import Task

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)


class Promoting:
    """A scheduler that pauses and resumes trials, one worker.

    Args:
        task: The training.
        seed: Seed of the scheduler.
        name: Its class in Syne Tune.
    """

    def __init__(self, task: Task, seed: int, name: str) -> None:
        assert task.problem.fidelity is not None
        self._space = task.problem.space
        self._high = task.problem.fidelity.high
        np.random.seed(seed)  # noqa: NPY002 - the state it draws from
        how = {} if name == "DyHPO" else {"type": "promotion", "reduction_factor": 3}
        self._scheduler = getattr(baselines, name)(
            self._columns(),
            metric="loss",
            mode="min",
            resource_attr="epoch",
            max_t=self._high,
            grace_period=1,
            random_seed=seed,
            search_options={"debug_log": False},
            **how,
        )
        self._trials: dict[int, Trial] = {}
        self._verdict = "CONTINUE"

    def _columns(self) -> dict[str, Any]:
        made = {
            "float": config_space.uniform,
            "logfloat": config_space.loguniform,
            "int": config_space.randint,
            "logint": config_space.lograndint,
        }
        return {
            key: config_space.choice(given) if kind == "choice" else made[kind](*given)
            for key, kind, given in flat(self._space)
        }

    def ask(self) -> tuple[Trial, dict[str, Any], int, int]:
        """A new trial, or a paused one to go on."""
        number = len(self._trials)
        wish = self._scheduler.suggest(number)
        if wish is None:
            raise RuntimeError("the scheduler is finished")
        if wish.spawn_new_trial_id:
            trial = Trial(
                trial_id=number, config=wish.config, creation_time=datetime.datetime.now(datetime.UTC)
            )
            self._trials[number] = trial
            self._scheduler.on_trial_add(trial)
        else:
            trial = self._trials[wish.checkpoint_trial_id]
        values = {key: trial.config[key] for key, *_ in flat(self._space)}
        return trial, active(self._space, values), trial.trial_id, self._high

    def report(self, trial: Trial, epoch: int, value: float) -> bool:
        """One epoch's loss; returns whether to go on."""
        self._verdict = self._scheduler.on_trial_result(trial, {"loss": value, "epoch": epoch})
        return self._verdict == "CONTINUE"

    def tell(self, trial: Trial, value: float, epoch: int) -> None:
        """The end of a segment."""
        if epoch >= self._high:
            self._scheduler.on_trial_complete(trial, {"loss": value, "epoch": epoch})
        else:
            self._scheduler.on_trial_remove(trial)
