"""Runs coroutine functions as trials in the caller's event loop, through the same session as everything else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tunewright.core.events import Ended, Interrupted
from tunewright.core.trial import Trial
from tunewright.core.values import returned, split
from tunewright.errors import ConfigError, InvalidTrial, LeaseLost
from tunewright.run.driver import Summary
from tunewright.run.heart import Heart
from tunewright.run.session import Session
from tunewright.run.worker import error_text


class _Pool:
    """A fixed number of tasks that ask, await and record."""

    def __init__(
        self,
        session: Session,
        train: Callable[..., Awaitable[Any]],
        trials: int | None,
        deadline: float,
        heart: Heart,
    ) -> None:
        self.session = session
        self.train = train
        self.trials = trials
        self.deadline = deadline
        self.heart = heart
        self.active = 0
        self.summary = Summary("finished")

    async def work(self) -> None:
        """One task's life."""
        while time.monotonic() < self.deadline:
            trial = await asyncio.to_thread(self.session.ask, limit=self.trials)
            if trial is None:
                if not self.active:
                    return
                await asyncio.sleep(0.01)
                continue
            self.active += 1
            self.heart.hold(trial.id, trial.token)
            try:
                await self._one(trial)
            finally:
                self.active -= 1
                self.heart.release(trial.id)
        self.summary.why = "timeout"

    async def _one(self, trial: Trial) -> None:
        began = time.monotonic()
        left = self.deadline - began
        try:
            event = await asyncio.wait_for(self._train(trial), left if left < 1e9 else None)
        except (asyncio.CancelledError, TimeoutError):
            await asyncio.to_thread(self.session.record, Interrupted(trial.id, trial.token, "shutdown"))
            if time.monotonic() < self.deadline:
                raise
            return
        self.summary.ended += 1
        self.summary.failed += event.outcome == "failed"
        try:
            await asyncio.to_thread(self.session.record, event)
        except LeaseLost:
            return

    async def _train(self, trial: Trial) -> Ended:
        names = [o.name for o in self.session.ledger.problem.objectives]
        began = time.monotonic()
        try:
            metrics, bad = split(returned(await self.train(**trial.config), names))
        except InvalidTrial as error:
            return Ended(trial.id, trial.token, "invalid", error=str(error))
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever user code raises belongs to the trial
            return Ended(trial.id, trial.token, "failed", error=error_text(error)[-8000:])
        wrong = [f"{k}={v}" for k, v in (bad or {}).items() if k in names]
        cost = round(time.monotonic() - began, 6)
        if wrong:
            return Ended(trial.id, trial.token, "failed", cost=cost, error=f"returned {', '.join(wrong)}")
        return Ended(trial.id, trial.token, "completed", metrics, cost=cost)


async def run_coroutines(
    session: Session,
    train: Callable[..., Awaitable[Any]],
    workers: int,
    trials: int | None,
    timeout: float | None,
) -> Summary:
    """Runs a coroutine function until the study has ``trials`` trials or ``timeout`` seconds are over.

    Args:
        session: The study.
        train: Called with the parameters by name; returns the objective or a dict of metrics.
        workers: Trials at a time.
        trials: Trials that the study is to have in all.
        timeout: Wall time in seconds.
    """
    began = time.monotonic()
    deadline = began + timeout if timeout is not None else float("inf")
    with Heart(session) as heart:
        pool = _Pool(session, train, trials, deadline, heart)
        tasks = [asyncio.create_task(pool.work()) for _ in range(workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    pool.summary.seconds = time.monotonic() - began
    return pool.summary
