"""Optuna's study, on our log, our methods and our stores."""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice
from tunewright.core.events import Amended, Ended, Event, Noted, Outcome, Reported, Started
from tunewright.core.limits import error_kept
from tunewright.core.recorder import grow, infer
from tunewright.core.trial import Trial as Recorded
from tunewright.core.values import split
from tunewright.errors import ConfigError, ConflictError, SpaceError
from tunewright.integrations.optuna.distributions import Distribution, adopted
from tunewright.integrations.optuna.loop import Callback, Loop, bar
from tunewright.integrations.optuna.samplers import BaseSampler
from tunewright.integrations.optuna.setup import VIOLATION, StudyDirection, ordered
from tunewright.integrations.optuna.trial import FrozenTrial, Trial, TrialState, finite, frozen
from tunewright.run.heart import Heart
from tunewright.study import Study as Core

if TYPE_CHECKING:
    import pandas

_ENQUEUED, _BEGUN, _ATTR = "optuna.enqueued", "optuna.begun", "optuna.attr"
_DRAW, _REPEAT = 1 << 20, 12
_RECENT = 100
_OUTCOMES: dict[TrialState, Outcome] = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
}


def _item(value: Any) -> Any:
    """NumPy scalars and the like as plain numbers, for what JSON is to hold."""
    return value.item()


class Study:
    """A study of ours with Optuna's words; use ``create_study`` or ``load_study``.

    Attributes:
        core: The study that it stands for, with everything that Tunewright has and Optuna does not.
        sampler: What proposes.
    """

    def __init__(self, core: Core, sampler: BaseSampler) -> None:
        self.core = core
        self.sampler = sampler
        self._session = core.session
        self._objectives = ordered(core)
        self._names = [o.name for o in self._objectives]
        self._heart = Heart(core.session)
        self._lock = threading.RLock()
        self._noted = 0
        self._waiting: dict[int, dict[str, Any]] = {}
        self._asked: list[dict[str, Any]] = []
        self._attrs: dict[int | None, dict[str, Any]] = {}
        self._frozen: dict[int, FrozenTrial] = {}
        self._run: Loop | None = None

    def __repr__(self) -> str:
        return f"Study({self.study_name!r}, {self._session.method})"

    # ------------------------------------------------------------------ looking

    @property
    def study_name(self) -> str:
        """Its name in the store."""
        return self.core.name

    @property
    def directions(self) -> list[StudyDirection]:
        """The direction of each objective."""
        return [
            StudyDirection.MINIMIZE if o.goal == "minimize" else StudyDirection.MAXIMIZE
            for o in self._objectives
        ]

    @property
    def direction(self) -> StudyDirection:
        """The direction of the one objective."""
        self._one_objective("direction", "directions")
        return self.directions[0]

    @property
    def trials(self) -> list[FrozenTrial]:
        """Records of all trials that have begun, by number."""
        return self.get_trials()

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Records of the trials in some states; shared ones, so do not change them, whatever ``deepcopy`` says."""
        out = [self._record(t) for t in self._session.sync().trials]
        return out if states is None else [t for t in out if t.state in states]

    @property
    def best_trial(self) -> FrozenTrial:
        """The completed trial with the best value.

        Raises:
            ConfigError: If there are several objectives, or no trial is completed and meets the constraints.
        """
        self._one_objective("best_trial", "best_trials")
        ledger = self._session.sync()
        if ledger.best is None or ledger.problem.violation(ledger.best.metrics) > 0:
            raise ConfigError(
                f"best_trial needs a completed trial; '{self.study_name}' has none yet. Run it first."
            )
        return self._record(ledger.best)

    @property
    def best_params(self) -> dict[str, Any]:
        """Parameters of the best trial."""
        return self.best_trial.params

    @property
    def best_value(self) -> float:
        """Value of the best trial."""
        value = self.best_trial.value
        assert value is not None
        return value

    @property
    def best_trials(self) -> list[FrozenTrial]:
        """Completed trials that no other beats in every objective."""
        return [self._record(t) for t in self.core.pareto]

    @property
    def user_attrs(self) -> dict[str, Any]:
        """What the program attached to the study."""
        return self._attrs_of(None)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Attaches a value that JSON can hold.

        Raises:
            ConfigError: If JSON cannot hold it.
        """
        self._attach(key, value, None)

    def trials_dataframe(
        self,
        attrs: Sequence[str] = (
            "number", "value", "datetime_start", "datetime_complete", "duration", "params", "user_attrs", "state",
        ),
        multi_index: bool = False,
    ) -> pandas.DataFrame:  # fmt: skip
        """The trials as a pandas data frame with Optuna's columns.

        Raises:
            MissingExtra: If pandas is not installed.
            ConfigError: If ``multi_index`` is asked for.
        """
        from tunewright.integrations.optuna.frames import trials_dataframe

        if multi_index:
            raise ConfigError("Columns have one level; got multi_index=True. Leave it out.")
        return trials_dataframe(self.trials, attrs, self._names)

    def _one_objective(self, wanted: str, instead: str) -> None:
        if len(self._names) > 1:
            raise ConfigError(
                f"{wanted} needs one objective; '{self.study_name}' has {len(self._names)}. Look at {instead}."
            )

    def _record(self, trial: Recorded) -> FrozenTrial:
        known = self._frozen.get(trial.number)
        if known is None:
            domains = self._session.ledger.problem.space.domains
            known = frozen(trial, self._names, domains, self._attrs_of(trial.number))
            if trial.finished:
                self._frozen[trial.number] = known
        return known

    # ------------------------------------------------------------------ notes: attributes and the queue

    def _read_notes(self) -> None:
        """Takes in what was attached or enqueued since the last time, by whatever process."""
        with self._lock:
            notes = self._session.sync().notes
            for seq, note in notes[self._noted :]:
                if note.topic == _ATTR:
                    self._attrs.setdefault(note.trial, {})[note.data["key"]] = note.data["value"]
                    self._frozen.pop(-1 if note.trial is None else note.trial, None)
                elif note.topic == _ENQUEUED:
                    self._waiting[seq] = note.data
                    self._asked.append(note.data["params"])
                elif note.topic == _BEGUN:
                    self._waiting.pop(note.data["of"], None)
            self._noted = len(notes)

    def _attrs_of(self, trial: int | None) -> dict[str, Any]:
        self._read_notes()
        return dict(self._attrs.get(trial, {}))

    def _attach(self, key: str, value: Any, trial: int | None) -> None:
        try:
            plain = msgspec.to_builtins(value, enc_hook=_item)
            msgspec.json.encode(plain)
        except (TypeError, ValueError, OverflowError, AttributeError):
            raise ConfigError(
                f"An attribute must be what JSON holds; '{key}' is of type {type(value).__name__}. Keep its path or text."
            ) from None
        self._session.note(_ATTR, {"key": str(key), "value": plain}, trial)

    def enqueue_trial(
        self,
        params: Mapping[str, Any],
        user_attrs: Mapping[str, Any] | None = None,
        skip_if_exists: bool = False,
    ) -> None:
        """Has parameters tried next; those left out are drawn when the objective asks for them."""
        self._read_notes()
        given = dict(params)
        known = given in self._asked or any(given == t.config for t in self._session.ledger.trials)
        if skip_if_exists and known:
            return
        data = {"params": msgspec.to_builtins(given, enc_hook=_item), "user_attrs": dict(user_attrs or {})}
        self._session.note(_ENQUEUED, data)

    # ------------------------------------------------------------------ ask and tell

    def ask(self, fixed_distributions: Mapping[str, Distribution] | None = None) -> Trial:
        """The next trial.

        Args:
            fixed_distributions: Parameters to choose at once.
        """
        trial = self._next(ends=False)
        assert trial is not None
        for name, domain in (fixed_distributions or {}).items():
            trial._choose(name, domain)  # noqa: SLF001 - two halves of one thing
        return trial

    def tell(
        self,
        trial: Trial | int,
        values: float | Sequence[float] | None = None,
        state: TrialState | None = None,
        skip_if_finished: bool = False,
    ) -> FrozenTrial:
        """Ends a trial.

        Args:
            trial: What ``ask`` returned, or its number.
            values: One value per objective.
            state: ``COMPLETE``, ``PRUNED`` or ``FAIL``; by the values where it is not given.
            skip_if_finished: Whether a trial that is over is left as it is.

        Raises:
            ConfigError: If the trial is over, or the values do not fit the state.
        """
        number = trial if isinstance(trial, int) else trial.number
        trials = self._session.sync().trials
        if not 0 <= number < len(trials):
            raise ConfigError(
                f"tell needs a trial of this study; got {number}, and it has {len(trials)}. Ask first."
            )
        if trials[number].finished:
            if skip_if_finished:
                return self._record(trials[number])
            raise ConfigError(
                f"A trial ends once; trial {number} is {trials[number].status} already. Ask for another."
            )
        if state in (TrialState.PRUNED, TrialState.FAIL) and values is not None:
            raise ConfigError(
                f"Only a completed trial has values; got {values!r} with {state!r}. Leave one out."
            )
        results, error = (
            (None, "") if state in (TrialState.PRUNED, TrialState.FAIL) else finite(values, len(self._names))
        )
        if state is TrialState.COMPLETE and results is None:
            raise ConfigError(f"{error}. Tell numbers, or state=TrialState.FAIL.")
        if state is None:
            state = TrialState.FAIL if results is None else TrialState.COMPLETE
        return self._finish(trial, state, results, error)

    def add_trial(self, trial: FrozenTrial) -> None:
        """Adds a trial made elsewhere: by ``create_trial``, in another study, or in one of Optuna itself.

        Raises:
            ConfigError: If it is not over, or its values do not fit.
            SpaceError: If a parameter was of another type or scale before.
        """
        state = TrialState(int(trial.state))
        if not state.is_finished():
            raise ConfigError(f"Only a finished trial can be added; got {state!r}. Use enqueue_trial.")
        completed = state is TrialState.COMPLETE
        results, error = finite(trial.values, len(self._names)) if completed else (None, "")
        if error:
            raise ConfigError(f"{error}. Correct the trial.")
        config = dict(trial.params)
        for name, given in trial.distributions.items():
            domain = adopted(given)
            self._grow(name, domain)
            if isinstance(domain, Choice) and not domain.contains(config[name]):
                config[name] = repr(config[name])
        outcome = _OUTCOMES[state]

        def more(number: int, token: int) -> list[Event]:
            events: list[Event] = [
                Reported(number, token, step + 1, *split({self._names[0]: value}))
                for step, value in sorted(trial.intermediate_values.items())
            ]
            metrics = None if results is None else dict(zip(self._names, results, strict=True))
            last = (trial.last_step or 0) + 1 if trial.intermediate_values else 0
            return [*events, Ended(number, token, outcome, metrics, last)]

        added = self._begin(config, "user", more)
        for key, value in trial.user_attrs.items():
            self._attach(key, value, added.number)

    def add_trials(self, trials: Iterable[FrozenTrial]) -> None:
        """Adds several trials; see ``add_trial``."""
        for trial in trials:
            self.add_trial(trial)

    def _next(self, *, ends: bool) -> Trial | None:
        """The next trial: enqueued ones first; None only where the method is finished and that ends the study."""
        session = self._session
        while True:
            self._read_notes()
            if self._waiting:
                trial = self._serve_queue()
                if trial is None:
                    continue
                return trial
            if not session.ledger.problem.space.d and not session.ledger.waiting:
                # Before the first parameter is met there is nothing for a method to decide.
                found: Recorded | None = self._begin({}, "define-by-run")
            else:
                found = session.ask()
            if found is None:
                if ends and session.exhausted and "grid" in session.method:
                    return None
                # Optuna's studies go on where ours end: when every configuration of a finite space was tried.
                ledger = session.ledger
                rng = generator(ledger.problem.seed, len(ledger.trials), _REPEAT)
                found = self._begin(ledger.problem.space.draw(rng), "repeat")
            self._heart.hold(found.id, found.token)
            return Trial(self, found, {})

    def _serve_queue(self) -> Trial | None:
        """Begins the oldest enqueued item; None when another process was faster."""
        session = self._session
        with self._lock, session.lock:
            self._read_notes()
            if not self._waiting:
                return None
            seq, item = next(iter(self._waiting.items()))
            ledger = session.ledger
            params = item["params"]
            number = len(ledger.trials)
            events: list[Event] = [
                Started(number, params, basis=ledger.cursor, by="queue"),
                Noted(_BEGUN, {"of": seq}, number),
            ]
            try:
                session.store.append(
                    session.info.id, events, worker=session.worker, expected=ledger.cursor,
                    lease=session.policy.lease,
                )  # fmt: skip
            except ConflictError:
                return None
            found = session.sync().trials[number]
        self._heart.hold(found.id, found.token)
        for key, value in item["user_attrs"].items():
            self._attach(key, value, number)
        return Trial(self, found, params)

    def _begin(
        self, config: dict[str, Any], by: str, more: Callable[[int, int], list[Event]] | None = None
    ) -> Recorded:
        """Starts a trial that no method asked for, and what is known of it."""
        session = self._session
        while True:
            with session.lock:
                ledger = session.sync()
                number, cursor = len(ledger.trials), ledger.cursor
                events: list[Event] = [Started(number, config, basis=cursor, by=by)]
                events += more(number, cursor + 1) if more is not None else []
                try:
                    session.store.append(
                        session.info.id, events, worker=session.worker, expected=cursor,
                        lease=session.policy.lease,
                    )  # fmt: skip
                except ConflictError:
                    continue
                return session.sync().trials[number]

    def _grow(self, name: str, domain: Distribution) -> None:
        """Adds a parameter to the space; a single value is no choice and stays out of it."""
        if domain.count == 1:
            return
        session = self._session
        with session.lock:
            session.sync()
            session.edit(grow(session.ledger.problem.space, name, domain), by="define-by-run")

    def _draw(self, number: int, name: str, domain: Distribution) -> Any:
        """A value for a parameter that the trial's plan does not hold."""
        session = self._session
        with session.lock:
            self._grow(name, domain)
            trial = session.ledger.trials[number]
            rng = generator(session.ledger.problem.seed, number, _DRAW + zlib.crc32(name.encode()))
            value = domain.coder()[1](float(rng.random()))
            session.amend(trial, {**trial.config, name: value})
        return value

    def _report(self, trial: Trial, step: int, value: float) -> None:
        good, bad = split({self._names[0]: value})
        self._session.record(Reported(trial.number, trial.token, step, good, bad))
        if self._session.ledger.problem.fidelity is not None:
            self._session.steer()

    def _doomed(self, number: int) -> bool:
        return self._session.ledger.trials[number].signal is not None

    def _finish(
        self, trial: Trial | int, state: TrialState, values: list[float] | None, error: str
    ) -> FrozenTrial:
        session = self._session
        number = trial if isinstance(trial, int) else trial.number
        found = session.ledger.trials[number]
        token = found.token if isinstance(trial, int) else trial.token
        events: list[Event] = []
        if not isinstance(trial, int) and set(trial.params) != set(found.config):
            events.append(Amended(number, trial.params))
        metrics = None if values is None else dict(zip(self._names, values, strict=True))
        if metrics is not None and self.sampler.constraints_func is not None:
            metrics[VIOLATION] = self._violation(found, values)
        cost = round(time.time() - found.at, 6)
        events.append(
            Ended(
                number,
                token,
                _OUTCOMES[state],
                metrics,
                found.step,
                cost=max(0.0, cost),
                error=error_kept(error),
            )
        )
        session.record_all(events)
        self._heart.release(number)
        ledger = session.sync()
        if state is TrialState.COMPLETE:
            self._learn(ledger.trials[number])
        return self._record(ledger.trials[number])

    def _violation(self, trial: Recorded, values: list[float] | None) -> float:
        assert self.sampler.constraints_func is not None
        record = frozen(trial, self._names, {}, self._attrs_of(trial.number))
        record.values, record.state = values, TrialState.COMPLETE
        return float(sum(max(0.0, float(c)) for c in self.sampler.constraints_func(record)))

    def _learn(self, trial: Recorded) -> None:
        """Infers conditions anew when a trial did not meet just what the space said it would."""
        session = self._session
        with session.lock:
            space = session.ledger.problem.space
            try:
                space.check({k: v for k, v in trial.config.items() if k in space.domains})
            except SpaceError:
                recent = [t.config for t in session.ledger.trials[-_RECENT:] if t.status == "completed"]
                session.edit(infer(space, [(c, frozenset(c)) for c in recent]), by="define-by-run")

    # ------------------------------------------------------------------ running

    def optimize(
        self,
        func: Callable[[Any], Any],
        n_trials: int | None = None,
        timeout: float | None = None,
        n_jobs: int = 1,
        catch: Iterable[type[Exception]] | type[Exception] = (),
        callbacks: Iterable[Callback] | None = None,
        gc_after_trial: bool = False,
        show_progress_bar: bool = False,
    ) -> None:
        """Runs an objective.

        Args:
            func: Gets a trial, returns its value, or one value per objective.
            n_trials: How many trials to run now; None for no limit.
            timeout: Seconds after which no trial is begun.
            n_jobs: Threads; -1 for one per processor.
            catch: Exceptions that fail a trial without ending the run.
            callbacks: Called with the study and the record of each finished trial.
            gc_after_trial: Whether to collect garbage after each trial.
            show_progress_bar: Whether to draw a bar.

        Raises:
            ConfigError: If an argument cannot be used, or the study is being run already.
        """
        if self._run is not None:
            raise ConfigError("A study is run once at a time; optimize was called while it runs. Use n_jobs.")
        if n_jobs == 0 or n_jobs < -1:
            raise ConfigError(f"n_jobs must be a number from 1, or -1; got {n_jobs}. Correct it.")
        caught = (catch,) if isinstance(catch, type) else tuple(catch)
        self._run = Loop(self, func, n_trials, timeout, caught, tuple(callbacks or ()), gc_after_trial)
        try:
            with bar(self._run, n_trials if show_progress_bar else None):
                self._run.go((os.cpu_count() or 1) if n_jobs == -1 else n_jobs)
        finally:
            self._run = None
            self._heart.stop()
            self._heart = Heart(self._session)

    def stop(self) -> None:
        """Ends ``optimize`` when the trials under way are over.

        Raises:
            ConfigError: If it does not run.
        """
        if self._run is None:
            raise ConfigError(
                "stop is for a study that runs; it does not. Call it in an objective or a callback."
            )
        self._run.stopped = True
