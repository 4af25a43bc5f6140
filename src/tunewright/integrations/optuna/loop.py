"""The loop behind ``optimize``: objectives called in this thread, or in several, until a limit is reached."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from tunewright.integrations.optuna.exceptions import TrialPruned
from tunewright.integrations.optuna.logging import get_logger
from tunewright.integrations.optuna.trial import FrozenTrial, Trial, TrialState, finite
from tunewright.run.worker import error_text
from tunewright.study import Study as Core

Callback = Callable[[Any, FrozenTrial], None]
log = get_logger("tunewright.optuna")


class Runnable(Protocol):
    """What the loop needs of a study.

    Attributes:
        core: The study of ours.
    """

    core: Core

    @property
    def directions(self) -> Sequence[Any]:
        """The direction of each objective."""
        ...

    def _next(self, *, ends: bool) -> Trial | None: ...

    def _finish(
        self, trial: Trial | int, state: TrialState, values: list[float] | None, error: str
    ) -> FrozenTrial: ...


class Loop:
    """One call of ``optimize``.

    Args:
        study: The study.
        func: The objective.
        n_trials: Trials to run; None for no limit.
        timeout: Seconds after which none is begun.
        catch: Exceptions that do not end the run.
        callbacks: Called after each trial.
        collect: Whether to collect garbage after each trial.

    Attributes:
        stopped: Whether somebody wants it to end.
        done: Number of trials finished.
    """

    def __init__(
        self,
        study: Runnable,
        func: Callable[[Any], Any],
        n_trials: int | None,
        timeout: float | None,
        catch: tuple[type[Exception], ...],
        callbacks: tuple[Callback, ...],
        collect: bool,
    ) -> None:
        self.study = study
        self.func = func
        self.catch = catch
        self.callbacks = callbacks
        self.collect = collect
        self.stopped = False
        self.done = 0
        self._left = n_trials
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._lock = threading.Lock()

    def go(self, threads: int) -> None:
        """Runs until a limit is reached; an exception that is not caught ends all threads and is raised."""
        if threads == 1:
            self._work()
            return
        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(self._work) for _ in range(threads)]
            try:
                for future in futures:
                    future.result()
            finally:
                self.stopped = True

    def _take(self) -> bool:
        """Whether one more trial may begin; takes it off the number left."""
        with self._lock:
            late = self._deadline is not None and time.monotonic() >= self._deadline
            if self.stopped or late or self._left == 0:
                return False
            if self._left is not None:
                self._left -= 1
            return True

    def _work(self) -> None:
        try:
            while self._take():
                trial = self.study._next(ends=True)  # noqa: SLF001 - the loop is a part of the study
                if trial is None:
                    log.info("Every configuration was tried.")
                    self.stopped = True
                    return
                record = self._one(trial)
                if self.collect:
                    gc.collect()
                for callback in self.callbacks:
                    callback(self.study, record)
        except BaseException:
            self.stopped = True
            raise

    def _one(self, trial: Trial) -> FrozenTrial:
        """Runs one trial to its end, whatever the objective does."""
        study = self.study
        finish = study._finish  # noqa: SLF001
        try:
            value = self.func(trial)
        except TrialPruned:
            record = finish(trial, TrialState.PRUNED, None, "")
            log.info("Trial %d pruned.", trial.number)
        except (Exception, KeyboardInterrupt) as error:
            record = finish(trial, TrialState.FAIL, None, error_text(error))
            log.warning(
                "Trial %d failed with parameters: %s because of %r.", trial.number, trial.params, error
            )
            if not isinstance(error, self.catch):
                raise
        else:
            values, wrong = finite(value, len(study.directions))
            state = TrialState.FAIL if values is None else TrialState.COMPLETE
            record = finish(trial, state, values, wrong)
            self._say(record, wrong)
        with self._lock:
            self.done += 1
        return record

    def _say(self, record: FrozenTrial, wrong: str) -> None:
        if wrong:
            log.warning("Trial %d failed: %s.", record.number, wrong)
        elif len(self.study.directions) > 1:
            log.info(
                "Trial %d finished with values: %s and parameters: %s.",
                record.number,
                record.values,
                record.params,
            )
        else:
            best = self.study.core.session.ledger.best
            log.info(
                "Trial %d finished with value: %s and parameters: %s. Best is trial %s.",
                record.number,
                record.value,
                record.params,
                "none" if best is None else best.number,
            )


@contextlib.contextmanager
def bar(loop: Loop, total: int | None) -> Iterator[None]:
    """Draws how far a loop is, on the standard error stream, where the total is known."""
    if total is None:
        yield
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("trials", total=total)

        def tick(study: Runnable, record: FrozenTrial) -> None:
            progress.update(task, completed=loop.done)

        loop.callbacks = (*loop.callbacks, tick)
        yield
