"""The facade: one study, opened by name, to run, ask, tell and look at. It adds no state of its own."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from tunewright import catalog
from tunewright.core.algorithm import Algorithm
from tunewright.core.declare import Declared
from tunewright.core.events import Ended, Event, Paused, Reported
from tunewright.core.history import History
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.core.trial import Trial
from tunewright.core.units import seconds, size, whole
from tunewright.core.values import returned, split
from tunewright.errors import ConfigError, TunewrightError
from tunewright.opening import Request, check_name, fidelity, objectives, open_study
from tunewright.run.driver import Budget, Driver, Summary, Watch, watch_all
from tunewright.run.executor import Executor
from tunewright.run.heart import Heart
from tunewright.run.placing import executor_for
from tunewright.run.replay import Replay, replay
from tunewright.run.retention import kept
from tunewright.run.session import Policy, Session
from tunewright.run.target import EntryReached, in_worker
from tunewright.store.base import Store
from tunewright.store.urls import open_store

if TYPE_CHECKING:
    import pandas
    import polars

Outcome = Literal["completed", "failed", "invalid"]
Metrics = float | Mapping[str, Any] | Sequence[float] | None


class Asked:
    """A trial handed out by ``ask``: train ``params``, then ``tell``. Its lease is renewed while this process lives.

    Attributes:
        number: Its number.
        params: Its parameters by name.
        until: Step to train to; None for a training without steps.
        token: The attempt, needed to tell from another process.
    """

    __slots__ = ("_study", "number", "params", "token", "until")

    def __init__(self, study: Study, trial: Trial) -> None:
        self._study = study
        self.number = trial.id
        self.params = dict(trial.config)
        self.until = trial.until
        self.token = trial.token

    def report(self, step: int, **metrics: Any) -> bool:
        """Reports measurements at a step; returns whether to go on."""
        return self._study.report(self, step, **metrics)

    def tell(self, value: Metrics = None, **metrics: Any) -> Trial:
        """Ends the trial with its result; see ``Study.tell``."""
        return self._study.tell(self, value, **metrics)

    def __repr__(self) -> str:
        return f"Asked({self.number}, {self.params})"


class Study:
    """A search for good hyperparameters, kept in a store and continued by whoever opens it.

    Use ``Study.open``. Works as a context manager; ``close`` is called on exit.
    """

    def __init__(self, session: Session, declared: Declared | None = None) -> None:
        self._session = session
        self._declared = declared
        self._heart: Heart | None = None
        self._owns_store = False

    @classmethod
    def open(
        cls,
        name: str = "study",
        space: Any = None,
        *,
        minimize: str | Sequence[str] = (),
        maximize: str | Sequence[str] = (),
        steps: int | tuple[int, int] | Fidelity | None = None,
        limits: Mapping[str, float] | None = None,
        method: str | Algorithm[Any] | None = None,
        options: Mapping[str, Any] | None = None,
        seed: int | None = None,
        storage: str | os.PathLike[str] | Store | None = None,
        exist: Literal["resume", "error", "must"] = "resume",
        on_change: Literal["version", "error"] = "version",
        resumable: bool = True,
        policy: Policy | None = None,
    ) -> Study:
        """Opens a study, making it when it is not there.

        Args:
            name: Its name in the store.
            space: A ``Space``, a dict of domains, a function or dataclass with annotated parameters; None for an
                existing study, or to declare parameters while trials run.
            minimize: Metric or metrics to make small; ``"loss"`` when neither this nor ``maximize`` is given.
            maximize: Metric or metrics to make large.
            steps: Steps of a full training, or ``(fewest, full)``, when trials report by step; more make trainings longer.
            limits: Largest acceptable value of other metrics.
            method: ``"auto"``, a name such as ``"tpe"`` or ``"hyperband(tpe)"``, or an algorithm of your own.
            options: Hyper-hyperparameters of the method.
            seed: Root of all randomness; 0 when not given.
            storage: ``"memory"``, a path, a URL or a store; None for ``.tunewright/studies.db`` here or above.
            exist: ``"resume"`` an existing study, or ``"error"`` when it exists, or when it ``"must"`` exist and does not.
            on_change: When space or steps are not the stored ones: a new ``"version"``, keeping trials, or an ``"error"``.
            resumable: Whether trials can save and load checkpoints; ``auto`` asks.
            policy: Leases and retries.

        Raises:
            ConfigError: If an argument cannot be used, or contradicts the existing study.
            SpaceError: If the space cannot be used; ``SpaceConflict`` if it changed and ``on_change`` forbids it.
            StudyExists, StudyMissing: If it exists and must not, or does not and must.
            StoreUnavailable: If the store cannot be opened.
        """
        if in_worker():
            raise EntryReached
        check_name(name)
        request = Request(
            name,
            space,
            objectives(minimize, maximize),
            fidelity(steps),
            dict(limits or {}),
            method,
            options,
            seed,
        )
        session, declared = open_study(open_store(storage), request, exist, on_change, resumable, policy)
        study = cls(session, declared)
        study._owns_store = storage is None or isinstance(storage, str | os.PathLike)
        return study

    @classmethod
    def exists(cls, name: str, storage: str | os.PathLike[str] | Store | None = None) -> bool:
        """Whether a study of that name is in the store."""
        return open_store(storage).find(name) is not None

    # ------------------------------------------------------------------ running

    def run(
        self,
        train: Callable[..., Any],
        *,
        trials: int | None = None,
        timeout: float | str | None = None,
        workers: int = 1,
        target: float | None = None,
        stop_when: str | None = None,
        trial_timeout: float | str | None = None,
        memory: int | str | None = None,
        devices: Sequence[str | int] = (),
        fresh: bool | None = None,
        failures: int | Literal["auto"] | None = "auto",
        grace: float | str = 10.0,
        progress: Literal["auto", "live", "plain", "jsonl", "none"] = "auto",
        executor: Executor | None = None,
        watch: Watch | None = None,
    ) -> Summary:
        """Trains trials until a limit is reached; the same call continues where an earlier one ended.

        Args:
            train: The training function. A parameter named ``trial`` gets the running trial; parameters named like
                hyperparameters get their values. Returns the objective, or a dict of metrics.
            trials: Trials to begin in all, earlier ones included; forks of partly trained ones do not count.
            timeout: Wall time of this run, in seconds or as ``"10min"``.
            workers: Worker processes; with 1 and no other limits, trials run in this process.
            target: Stop when the objective is this good.
            stop_when: Stop when little is left to gain: ``"regret<0.01"``, or ``"regret<noise"``; see ``tunewright.ending``.
            trial_timeout: Wall time of one trial's segment.
            memory: Resident memory of one trial, in bytes or as ``"2GiB"``.
            devices: GPUs to share out over the workers.
            fresh: A new process for every trial; by default when ``devices`` are given.
            failures: When to give up: ``"auto"``, a number of failures, or None for never.
            grace: Time that trials get to save and return when the run is interrupted.
            progress: How to show progress; ``"auto"`` draws in a terminal and prints lines elsewhere.
            executor: Where to run, instead of this process or worker processes.
            watch: Called with every event that this run records.

        Returns:
            What the run came to.

        Raises:
            TooManyFailures: If the failure policy gives up.
            ConfigError: If an argument cannot be used.
        """
        if in_worker():
            raise EntryReached
        budget = self._budget(trials, timeout, target, trial_timeout, failures, grace, stop_when)
        self._prepare(train)
        if executor is None:
            executor = executor_for(train, workers, budget.trial_timeout, size(memory), devices, fresh)
        display = _display(progress, self._session, budget)
        driver = Driver(self._session, executor, budget, watch_all(display, watch))
        try:
            return driver.run()
        finally:
            if display is not None:
                display.close()

    async def arun(self, train: Callable[..., Any], *, workers: int = 1, **limits: Any) -> Summary:
        """The same as ``run`` without blocking the event loop; ``train`` may be a coroutine function.

        Args:
            train: The training function; coroutines run ``workers`` at a time in this event loop.
            workers: Trials at a time.
            **limits: As for ``run``, without those that need a process of their own.
        """
        import asyncio

        from tunewright.run.coroutines import Coroutines, drive

        if not inspect.iscoroutinefunction(train):
            return await asyncio.to_thread(self.run, train, workers=workers, **limits)
        unknown = set(limits) - {
            "trials", "timeout", "target", "trial_timeout", "failures", "grace", "watch", "stop_when",
        }  # fmt: skip
        if unknown:
            raise ConfigError(
                f"Coroutines share this process, so {', '.join(sorted(unknown))} cannot be set for them. Leave it out."
            )
        whole("workers", workers)
        watch = limits.pop("watch", None)
        budget = self._budget(**limits)
        self._prepare(train)
        executor = Coroutines(train, workers, asyncio.get_running_loop())
        return await drive(Driver(self._session, executor, budget, watch))

    def _budget(
        self,
        trials: int | None = None,
        timeout: float | str | None = None,
        target: float | None = None,
        trial_timeout: float | str | None = None,
        failures: int | Literal["auto"] | None = "auto",
        grace: float | str = 10.0,
        stop_when: str | None = None,
    ) -> Budget:
        stop = None if stop_when is None else _rule(stop_when)
        loss = None if target is None else target * self._session.ledger.problem.objectives[0].sign
        return Budget(
            whole("trials", trials), seconds(timeout), loss, seconds(trial_timeout), failures, seconds(grace) or 0.0, stop
        )  # fmt: skip

    def _prepare(self, train: Callable[..., Any]) -> None:
        """Puts the defaults of the space or of the function first in the queue of a new study."""
        if not callable(train):
            raise ConfigError(f"run needs a training function; got {train!r:.80}. Pass the function itself.")
        self._need_method()
        ledger = self._session.sync()
        defaults = self._declared.defaults if self._declared is not None else {}
        if defaults and not ledger.trials and not ledger.queue:
            self._session.enqueue(defaults, key="defaults", by="defaults")

    def _need_method(self) -> None:
        """A study made with an algorithm of the user's own needs it again to take decisions."""
        if self._session.algorithm is None:
            raise ConfigError(
                f"Study '{self.name}' takes decisions by a method of its own, '{self.method}'; it was opened without. "
                f"Pass it again: Study.open(..., method=...)."
            )

    # ------------------------------------------------------------------ ask and tell

    def ask(self) -> Asked | None:
        """The next trial to train, or None when there is none now: the method waits for results, or is finished."""
        self._need_method()
        trial = self._session.ask()
        if trial is None:
            return None
        if self._session.store.durable:
            if self._heart is None:
                self._heart = Heart(self._session)
            self._heart.hold(trial.id, trial.token)
        return Asked(self, trial)

    def report(self, trial: Asked | int, step: int, /, **metrics: Any) -> bool:
        """Reports measurements of an asked trial at a step.

        Returns:
            Whether to go on; False when the method wants it stopped or paused, its segment is over, or an
            objective is not finite.

        Raises:
            LeaseLost: If the trial was taken over by another process.
        """
        number, token = self._attempt(trial)
        good, bad = split(metrics)
        self._session.record(Reported(number, token, step, good, bad))
        self._session.steer()
        found = self._session.ledger.trials[number]
        diverged = bad is not None and any(o.name in bad for o in self._session.ledger.problem.objectives)
        return not diverged and found.signal is None and (found.until is None or step < found.until)

    def tell(
        self,
        trial: Asked | int,
        value: Metrics = None,
        /,
        *,
        outcome: Outcome = "completed",
        error: str = "",
        **metrics: Any,
    ) -> Trial:
        """Ends an asked trial with its result; when this returns the result is safely in the log.

        With a method that trains in parts, a trial asked for with ``until`` below the full training pauses; it is
        handed out again by ``ask`` if it is promoted. Telling the same result again changes nothing.

        Args:
            trial: What ``ask`` returned, or its number.
            value: The objective, a dict of metrics, or one number per objective.
            outcome: ``"completed"``, ``"failed"``, or ``"invalid"`` for a configuration that makes no sense.
            error: What went wrong.
            **metrics: The same as a dict.

        Raises:
            ConfigError: If the result is not a number or lacks the objective; the trial goes on running.
            LeaseLost: If the trial was taken over by another process.
        """
        number, token = self._attempt(trial)
        problem = self._session.ledger.problem
        good: dict[str, float] | None = None
        found = self._session.ledger.trials[number]
        ended: Any = outcome
        if outcome == "completed":
            given = {**(value if isinstance(value, Mapping) else {}), **metrics}
            names = [o.name for o in problem.objectives]
            if not given and value is None and found.reports:
                given = dict(found.metrics)
            raw: Any = given or value
            good, bad = split(returned(raw, names))
            wrong = [f"{k}={v}" for k, v in (bad or {}).items() if k in names]
            if wrong:
                ended, error = "failed", f"returned {', '.join(wrong)}"
        self._session.record_all(self._ending(found, token, ended, good, error[:8000]))
        if self._heart is not None:
            self._heart.release(number)
        self._session.sync()
        return self._session.ledger.trials[number]

    def _ending(
        self, trial: Trial, token: int, outcome: Any, metrics: dict[str, float] | None, error: str
    ) -> list[Event]:
        """The end of an asked trial; one whose segment is only a part of the training pauses until it is resumed."""
        fidelity = self._session.ledger.problem.fidelity
        step = trial.until or trial.step
        if outcome != "completed" or fidelity is None or step >= fidelity.high or trial.finished:
            return [Ended(trial.id, token, outcome, metrics, step, error=error)]
        if trial.step >= step:
            return [Paused(trial.id, token, step)]
        return [Reported(trial.id, token, step, metrics or {}), Paused(trial.id, token, step)]

    def _attempt(self, trial: Asked | int) -> tuple[int, int]:
        if isinstance(trial, Asked):
            return trial.number, trial.token
        trials = self._session.sync().trials
        if isinstance(trial, bool) or not 0 <= trial < len(trials):
            raise ConfigError(
                f"tell needs a trial of this study; got {trial!r}, and it has {len(trials)}. Ask first."
            )
        return trial, trials[trial].token

    def enqueue(self, config: Mapping[str, Any], *, key: str = "") -> int:
        """Has a configuration tried next; missing parameters are drawn when it starts.

        Args:
            config: Values by name.
            key: Same key, same item: repeating the call adds nothing.

        Returns:
            Position of the request in the log.

        Raises:
            SpaceError: If the configuration does not fit the space.
        """
        return self._session.enqueue(dict(config), key=key)

    # ------------------------------------------------------------------ looking

    @property
    def name(self) -> str:
        """Its name in the store."""
        return self._session.info.name

    @property
    def session(self) -> Session:
        """This process's handle on the log, for tools built on studies."""
        return self._session

    @property
    def problem(self) -> Problem:
        """The problem, with the newest version of the space."""
        return self._session.sync().problem

    @property
    def space(self) -> Space:
        """The newest version of the space."""
        return self.problem.space

    @property
    def method(self) -> str:
        """Name of the method that decides."""
        return self._session.method

    @property
    def trials(self) -> list[Trial]:
        """All trials by number; do not change the list."""
        return self._session.sync().trials

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by status."""
        return {k: v for k, v in self._session.sync().counts.items() if v}

    @property
    def best(self) -> Trial:
        """The completed trial with the best objective that meets the limits; for several objectives see ``pareto``.

        A study whose trials only paused so far gives the best of those.

        Raises:
            ConfigError: If there are several objectives, or no trial has a result.
        """
        ledger = self._session.sync()
        if ledger.problem.m > 1:
            raise ConfigError(
                f"best needs one objective; '{self.name}' has {ledger.problem.m}. Look at study.pareto."
            )
        if ledger.best is not None:
            return ledger.best
        open_ = [
            (ledger.problem.losses(t.metrics), t.id)
            for t in ledger.trials
            if t.metrics and t.status != "failed"
        ]
        ranked = sorted((loss, n) for loss, n in open_ if loss is not None)
        if not ranked:
            raise ConfigError(f"best needs a trial with a result; '{self.name}' has none yet. Run it first.")
        return ledger.trials[ranked[0][1]]

    @property
    def pareto(self) -> list[Trial]:
        """Completed trials that no other one beats in every objective."""
        import numpy as np

        from tunewright.numerics.pareto import nondominated

        ledger = self._session.sync()
        done = [
            t for t in ledger.trials if t.status == "completed" and ledger.problem.violation(t.metrics) == 0
        ]
        losses = [(t, x) for t in done if (x := ledger.problem.losses(t.metrics)) is not None]
        if not losses:
            return []
        keep = nondominated(np.array([x for _, x in losses]))
        return [t for (t, _), k in zip(losses, keep, strict=True) if k]

    def history(self) -> History:
        """The trials as arrays, for models and plots."""
        history = History(self._session.origin)
        for record in self._session.store.read(self._session.info.id):
            history.apply(record.event)
        return history

    def checkpoint(self, trial: Trial | int, default: Any = None) -> Any:
        """What a trial has in its checkpoint, such as trained weights, or ``default`` when it has none.

        Raises:
            CheckpointError: If the file is missing or damaged, or is in a format of your own.
        """
        return kept(self._session, trial if isinstance(trial, int) else trial.id, default)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat dict per trial: number, status, parameters, metrics, step, cost, times, error."""
        from tunewright.analysis.table import rows

        return rows(self.trials)

    def to_pandas(self) -> pandas.DataFrame:
        """The trials as a pandas data frame.

        Raises:
            MissingExtra: If pandas is not installed.
        """
        from tunewright.analysis.table import to_pandas

        return to_pandas(self.trials)

    def to_polars(self) -> polars.DataFrame:
        """The trials as a polars data frame.

        Raises:
            MissingExtra: If polars is not installed.
        """
        from tunewright.analysis.table import to_polars

        return to_polars(self.trials)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Writes the trials to a Parquet file.

        Raises:
            MissingExtra: If pyarrow is not installed.
        """
        from tunewright.analysis.table import to_parquet

        to_parquet(self.trials, Path(path))

    def replay(self) -> Replay:
        """Takes every decision in the log again and compares.

        Raises:
            ReplayMismatch: At the first decision that differs.
        """
        session = self._session
        return replay(session.store, session.info.id, session.origin, self._rebuild)

    def _rebuild(self, method: str) -> Algorithm[Any] | None:
        """The method of a name in the log; None when it is one of the user's own that is not at hand."""
        if method == self._session.method:
            return self._session.algorithm
        try:
            return catalog.build(method)
        except TunewrightError:
            return None

    def edit(self, space: Space | Mapping[str, Any]) -> None:
        """Gives the study a new version of its space: ranges widened, choices added, parameters added or removed.

        Trials of earlier versions are kept and used where they fit.
        """
        self._session.edit(space if isinstance(space, Space) else Space(dict(space)))

    def note(self, text: str, trial: int | None = None) -> None:
        """Keeps a note in the log."""
        self._session.note("note", {"text": text}, trial)

    def close(self) -> None:
        """Ends the renewal of leases and closes the store, unless it was opened by the caller."""
        if self._heart is not None:
            self._heart.stop()
            self._heart = None
        self._session.close()
        if self._owns_store:
            self._session.store.close()

    def __enter__(self) -> Study:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {self.method}, {self.counts})"


def _rule(words: str) -> Callable[[Session], bool]:
    from tunewright.ending import RegretRule

    return RegretRule(words)


def _display(mode: str, session: Session, budget: Budget) -> Any:
    """Shows progress; None for none."""
    if mode == "none":
        return None
    from tunewright.analysis.progress import display

    ledger = session.ledger
    return display(
        mode,
        session.info.name,
        session.method,
        ledger.problem,
        budget.trials,
        budget.timeout,
        best=ledger.best,
    )
