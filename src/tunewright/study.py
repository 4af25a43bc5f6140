"""The facade: one study, opened by name, to run, ask, tell and look at. It adds no state of its own."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Unpack

from tunewright.core.algorithm import Algorithm
from tunewright.core.declare import Declared
from tunewright.core.events import Ended, Event, Interrupted, Paused, Record, Reported
from tunewright.core.limits import error_kept
from tunewright.core.problem import Fidelity
from tunewright.core.scale import Scale
from tunewright.core.space import Space
from tunewright.core.trial import Ledger, Trial
from tunewright.core.units import seconds, whole
from tunewright.core.values import counted, returned, split
from tunewright.errors import ConfigError
from tunewright.opening import Request, fidelity, objectives, open_study, placed
from tunewright.run.allowance import Allowance, limits_of
from tunewright.run.driver import Budget, Driver, Summary
from tunewright.run.executor import Executor
from tunewright.run.heart import Heart
from tunewright.run.metering import Meter, Metered
from tunewright.run.placing import Place, executor_for, meter_for
from tunewright.run.session import Policy, Session
from tunewright.run.target import EntryReached, in_worker
from tunewright.run.watching import Watchers, Watching
from tunewright.steering import Steered
from tunewright.store.base import Store
from tunewright.store.urls import open_store

Outcome = Literal["completed", "failed", "invalid"]
_BUDGET = ("trials", "timeout", "target", "trial_timeout", "failures", "grace", "stop_when")
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


class Study(Steered):
    """A search for good hyperparameters, kept in a store and continued by whoever opens it.

    Use ``Study.open``. Works as a context manager; ``close`` is called on exit.
    """

    def __init__(self, session: Session, declared: Declared | None = None) -> None:
        super().__init__(session)
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
        scale: Scale | None = None,
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
            name: Its name in the store; or, on a server, ``http://host:8000/name``.
            space: A ``Space``, a dict of domains, a function or dataclass with annotated parameters; None for an
                existing study, or to declare parameters while trials run.
            minimize: Metric or metrics to make small; ``"loss"`` when neither this nor ``maximize`` is given.
            maximize: Metric or metrics to make large.
            steps: Steps of a full training, or ``(fewest, full)``, when trials report by step; more make trainings longer.
            scale: What grows between the models to tune and the one that is meant, see ``scaling.Scale``; instead of steps.
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
        storage, name = placed(storage, name)
        goals, length = objectives(minimize, maximize), fidelity(steps)
        request = Request(name, space, goals, length, dict(limits or {}), method, options, seed, scale)
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
        workers: int | None = None,
        target: float | None = None,
        stop_when: str | None = None,
        trial_timeout: float | str | None = None,
        failures: int | Literal["auto"] | None = "auto",
        grace: float | str = 10.0,
        progress: Literal["auto", "live", "plain", "jsonl", "none"] = "auto",
        on: str | Place | None = None,
        executor: Executor | None = None,
        watch: Watching = None,
        cost: Literal["seconds", "energy"] | Meter = "seconds",
        lift: bool = True,
        **allowance: Unpack[Allowance],
    ) -> Summary:
        """Trains trials until a limit is reached; the same call continues where an earlier one ended.

        Args:
            train: The training function. A parameter named ``trial`` gets the running trial; parameters named like
                hyperparameters get their values. Returns the objective, or a dict of metrics.
            trials: Trials to begin in all, earlier ones included; forks of partly trained ones do not count.
            timeout: Wall time of this run, in seconds or as ``"10min"``.
            workers: Worker processes; with 1 and no other limits, trials run in this process. When not given it is 1, or
                as many as ``per_device`` has places for.
            target: Stop when the objective is this good.
            stop_when: Stop when little is left to gain: ``"regret<0.01"``, or ``"regret<noise"``; see ``tunewright.ending``.
            trial_timeout: Wall time of one trial's segment.
            failures: When to give up: ``"auto"``, a number of failures, or None for never.
            grace: Time that trials get to save and return when the run is interrupted.
            progress: How to show progress; ``"auto"`` draws in a terminal and prints lines elsewhere.
            on: ``"ray"``, ``"ray?gpus=0.5"``, ``"ray://head:10001"`` or ``tw.Ray(...)`` to run on a cluster; None for
                this machine.
            executor: What runs trials, instead of this process or worker processes.
            watch: Called with every event that this run records, such as a logger; or several. One that raises is
                named in the log once, and harms nothing.
            cost: What trials cost that do not say so: ``"seconds"``, ``"energy"`` in joules, or what a meter counts.
            lift: Whether beginning takes back that the study was paused or stopped; a run without waits or ends.
            **allowance: What one trial may use, with everything it started: ``cpu="10min"`` of processor time,
                ``memory="2GiB"``, ``processes=8``, ``files=1000`` open at a time, ``file_size="10GiB"``, ``devices=[0, 1]``
                shared out over the workers, ``per_device=2`` trials on each or 0.5 for two devices each, ``fresh=True``
                for a new process for every trial, which is the default with ``devices``.

        Returns:
            What the run came to.

        Raises:
            TooManyFailures: If the failure policy gives up.
            ConfigError: If an argument cannot be used.
        """
        budget = self._budget(trials, timeout, target, trial_timeout, failures, grace, stop_when)
        with self._driver(
            train, budget, workers, progress, on, executor, watch, allowance, cost, lift
        ) as driver:
            return driver.run()

    @contextlib.contextmanager
    def _driver(
        self,
        train: Callable[..., Any],
        budget: Budget,
        workers: int | None,
        progress: str = "auto",
        on: str | Place | None = None,
        executor: Executor | None = None,
        watch: Watching = None,
        allowance: Mapping[str, Any] | None = None,
        cost: str | Meter = "seconds",
        lift: bool = True,
    ) -> Iterator[Driver]:
        """What runs trials, while its display is open."""
        if in_worker():
            raise EntryReached
        meter = meter_for(cost, on)
        self._prepare(train)
        if executor is None:
            executor = executor_for(train, workers, budget.trial_timeout, limits_of(allowance or {}), on)
        executor = executor if meter is None else Metered(executor, meter)
        display = _display(progress, self._session, budget)
        try:
            yield Driver(self._session, executor, budget, Watchers(watch, display), lifts=lift)
        finally:
            if display is not None:
                display.close()

    async def arun(self, train: Callable[..., Any], *, workers: int = 1, **limits: Any) -> Summary:
        """The same as ``run`` without blocking the event loop; ``train`` may be a coroutine function.

        Args:
            train: The training function; coroutines run ``workers`` at a time in this event loop.
            workers: Trials at a time.
            **limits: As for ``run``; for coroutines without those that need a process of their own.

        When the task is cancelled, or the process gets SIGTERM or SIGHUP, trials save and pause as they do in ``run``,
        and the same call continues them.
        """
        import asyncio

        from tunewright.run.coroutines import Coroutines, drive

        budget = self._budget(**{k: limits.pop(k) for k in _BUDGET if k in limits})
        if not inspect.iscoroutinefunction(train):
            rest = {k: limits.pop(k) for k in ("progress", "on", "executor", "watch") if k in limits}
            with self._driver(train, budget, workers, **rest, allowance=limits) as driver:
                return await drive(driver)
        unknown = set(limits) - {"watch"}
        if unknown:
            raise ConfigError(
                f"Coroutines share this process, so {', '.join(sorted(unknown))} cannot be set for them. Leave it out."
            )
        whole("workers", workers)
        self._prepare(train)
        executor = Coroutines(train, workers, asyncio.get_running_loop())
        return await drive(Driver(self._session, executor, budget, limits.get("watch")))

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

    async def aask(self) -> Asked | None:
        """``ask`` without blocking the event loop; a trial that comes after the task was cancelled is given back."""
        from tunewright.run.coroutines import in_thread

        def give_back(asked: Asked | None) -> None:
            if asked is not None:
                self.release(asked)

        return await in_thread(self.ask, give_back)

    async def areport(self, trial: Asked | int, step: int, /, **metrics: Any) -> bool:
        """``report`` without blocking the event loop."""
        from tunewright.run.coroutines import in_thread

        return await in_thread(lambda: self.report(trial, step, **metrics))

    async def atell(self, trial: Asked | int, value: Metrics = None, /, **more: Any) -> Trial:
        """``tell`` without blocking the event loop; a result is recorded even if the task is cancelled meanwhile."""
        from tunewright.run.coroutines import in_thread

        return await in_thread(lambda: self.tell(trial, value, **more))

    async def aenqueue(self, config: Mapping[str, Any], *, key: str = "") -> int:
        """``enqueue`` without blocking the event loop."""
        from tunewright.run.coroutines import in_thread

        return await in_thread(lambda: self.enqueue(config, key=key))

    def ask(self) -> Asked | None:
        """The next trial to train, or None when there is none now: the method waits for results, or is finished."""
        self._need_method()
        trial = self._session.ask()
        return self._held(trial) if trial is not None else None

    def ask_many(self, count: int) -> list[Asked]:
        """Up to ``count`` trials to train, in one transaction where the method is quick; fewer when there are no more.

        Raises:
            ConfigError: If ``count`` is not a whole number from 1.
        """
        self._need_method()
        whole("count", count)
        return [self._held(trial) for trial in self._session.ask_many(count)]

    def _held(self, trial: Trial) -> Asked:
        """Keeps the lease of a trial for as long as this process lives."""
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
            ConfigError: If the step or a value is not a number; the trial goes on running.
            LeaseLost: If the trial was taken over by another process.
        """
        number, token = self._attempt(trial)
        good, bad = split(metrics)
        self._session.record(Reported(number, token, counted(step), good, bad))
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
        number, events = self._told(trial, value, outcome, error, metrics)
        records = self._session.record_all(events)
        if self._heart is not None:
            self._heart.release(number)
        return self._with(records).trials[number]

    def tell_many(self, results: Sequence[tuple[Asked | int, Metrics]]) -> list[Trial]:
        """Ends several asked trials with their results, all or none, in one transaction.

        Args:
            results: Pairs of what ``ask_many`` returned, or its number, and the result as for ``tell``.

        Raises:
            ConfigError: If a result cannot be used; nothing is recorded.
            LeaseLost: If one of them was taken over by another process; nothing else is recorded.
        """
        told = [self._told(trial, value) for trial, value in results]
        records = self._session.record_all([event for _, events in told for event in events])
        if self._heart is not None:
            for number, _ in told:
                self._heart.release(number)
        trials = self._with(records).trials
        return [trials[number] for number, _ in told]

    def _with(self, records: Sequence[Record]) -> Ledger:
        """The ledger after these records; nothing was recorded where an ending was there already."""
        return self._session.reach(records[-1].seq) if records else self._session.sync()

    def _told(
        self,
        trial: Asked | int,
        value: Metrics,
        outcome: Outcome = "completed",
        error: str = "",
        metrics: Mapping[str, Any] | None = None,
    ) -> tuple[int, list[Event]]:
        """The number of a trial, and the events that its result comes to."""
        number, token = self._attempt(trial)
        problem = self._session.ledger.problem
        good: dict[str, float] | None = None
        found = self._session.ledger.trials[number]
        ended: Any = outcome
        if outcome == "completed":
            given = {**(value if isinstance(value, Mapping) else {}), **(metrics or {})}
            names = [o.name for o in problem.objectives]
            if not given and value is None and found.reports:
                given = dict(found.metrics)
            raw: Any = given or value
            good, bad = split(returned(raw, names))
            wrong = [f"{k}={v}" for k, v in (bad or {}).items() if k in names]
            if wrong:
                ended, error = "failed", f"returned {', '.join(wrong)}"
        return number, self._ending(found, token, ended, good, error_kept(error))

    def _ending(
        self, trial: Trial, token: int, outcome: Any, metrics: dict[str, float] | None, error: str
    ) -> list[Event]:
        """The end of an asked trial; one whose segment is only a part of the training pauses until it is resumed."""
        fidelity = self._session.ledger.problem.fidelity
        step = trial.until or trial.step
        short = fidelity is not None and trial.step < fidelity.high
        if outcome == "completed" and trial.signal == "stop" and short and not trial.finished:
            return [Ended(trial.id, token, "stopped", metrics, trial.step)]
        if outcome != "completed" or fidelity is None or step >= fidelity.high or trial.finished:
            return [Ended(trial.id, token, outcome, metrics, step, error=error)]
        if trial.step >= step:
            return [Paused(trial.id, token, step)]
        return [Reported(trial.id, token, step, metrics or {}), Paused(trial.id, token, step)]

    def _attempt(self, trial: Asked | int) -> tuple[int, int]:
        if isinstance(trial, Asked):
            return trial.number, trial.token
        trials = self._session.sync().trials
        if type(trial) is not int or not 0 <= trial < len(trials):
            raise ConfigError(
                f"tell needs a trial of this study; got {trial!r}, and it has {len(trials)}. Ask first."
            )
        return trial, trials[trial].token

    def release(self, trial: Asked | int) -> None:
        """Gives an asked trial back without a result; it is handed out again before any new one.

        Raises:
            LeaseLost: If the trial is over, or was taken over by another process.
        """
        number, token = self._attempt(trial)
        if self._heart is not None:
            self._heart.release(number)
        self._session.record(Interrupted(number, token, "shutdown", "given back"))

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

    # ------------------------------------------------------------------ changing

    def edit(self, space: Space | Mapping[str, Any]) -> None:
        """Gives the study a new version of its space: ranges widened, choices added, parameters added or removed.

        Trials of earlier versions are kept and used where they fit.
        """
        self._session.edit(space if isinstance(space, Space) else Space(dict(space)))

    def close(self) -> None:
        """Ends the renewal of leases and closes the store, unless it was opened by the caller."""
        if self._heart is not None:
            self._heart.stop()
            self._heart = None
        self._session.close()
        if self._owns_store:
            self._session.store.close()

    def __reduce__(self) -> tuple[Callable[..., Study], tuple[Any, ...]]:
        """A handle goes to another process as the place and name of the study, and is opened again there.

        Passwords and tokens do not travel with it: the other process takes them from its environment.

        Raises:
            ConfigError: If the study is in this process's memory.
        """
        session = self._session
        if not session.store.durable:
            raise ConfigError(
                f"A study that goes to another process must be in a store that both reach; '{self.name}' is in "
                f"{session.store.url}. Open it with storage='studies.db'."
            )
        method = session.algorithm if session.info.spec.get("custom") else None
        return _reopened, (self.name, session.store.url, method, session.policy)

    def __enter__(self) -> Study:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Study:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from tunewright.run.coroutines import in_thread

        await in_thread(self.close)

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {self.method}, {self.counts})"


def _reopened(name: str, url: str, method: Algorithm[Any] | None, policy: Policy) -> Study:
    return Study.open(name, storage=url, exist="must", method=method, policy=policy)


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
