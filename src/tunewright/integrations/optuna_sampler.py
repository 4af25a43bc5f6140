"""Tunewright's methods as a sampler of Optuna's studies.

A method of ours folds events; this sampler turns Optuna's trials into events, each once, and remembers the state. The
space it models is joint over every parameter that finished trials have met, conditional ones included: which choice
decides about a parameter is inferred as for define-by-run studies (``core.recorder``).

*Cost*: per trial O(d) for the bookkeeping, plus the ask and tell of the method; O(n d) when the space changes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunewright import catalog
from tunewright.core.algorithm import Algorithm, Start
from tunewright.core.domains import Choice, Domain, Float, Int
from tunewright.core.events import Amended, Ended, Event, Reported, Started
from tunewright.core.problem import Limit, Objective, Problem
from tunewright.core.recorder import infer, union
from tunewright.core.space import Space
from tunewright.errors import ConfigError, SpaceError, UnsupportedError, missing_extra
from tunewright.opening import method_of

try:
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.samplers import BaseSampler, RandomSampler
    from optuna.study import StudyDirection
    from optuna.trial import TrialState
except ImportError as error:
    raise missing_extra("optuna", "optuna") from error

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

Search = dict[str, BaseDistribution]

_VIOLATION = "violation"
_STUDIES, _FOLDS = 8, 4
_RECENT = 200
_SETTLED = 20
_GROWTH = 1.1


class TunewrightSampler(BaseSampler):
    """A method of Tunewright for ``optuna.create_study(sampler=...)``.

    Args:
        method: ``"auto"``, a sampler by name such as ``"tpe"``, or an algorithm of your own. Not a scheduler: in Optuna
            stopping early is the pruner's business.
        seed: Root of all randomness; None takes a different one each time.
        options: Hyper-hyperparameters of the method.
        constraints_func: From a finished trial to its constraint values, met where all are at most 0.

    Raises:
        MissingExtra: On import, if Optuna is not installed.
        ConfigError: If the method or an option is unknown, or it is a scheduler.
    """

    def __init__(
        self,
        method: str | Algorithm[Any] = "auto",
        *,
        seed: int | None = None,
        options: Mapping[str, Any] | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
    ) -> None:
        self._method = method
        self._options = dict(options or {})
        _check_method(method, self._options)
        self._constraints_func = constraints_func
        self._rng = np.random.default_rng(seed)
        self._root = int(self._rng.integers(2**62))
        self._independent = RandomSampler(seed=int(self._rng.integers(2**31)))
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._views: dict[tuple[int, int], _View] = {}
        self._supported: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the lock and what can be folded again from the study's trials."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_lock", "_views", "_supported")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __str__(self) -> str:
        name = self._method if isinstance(self._method, str) else type(self._method).__name__.lower()
        return f"TunewrightSampler({name})"

    def reseed_rng(self) -> None:
        """Makes draws differ from those of other copies; the start-up design stays a common one."""
        self._rng = np.random.default_rng()
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Search:
        """Every parameter that finished trials have met, each with the widest range that any of them gave it."""
        with self._lock:
            view = self._view(study)
            view.read(study.get_trials(deepcopy=False))
            view.read_for = trial.number
            return view.search()

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Search) -> dict[str, Any]:
        """One configuration over a search space, by the method.

        Args:
            study: The study.
            trial: The trial to begin.
            search_space: Distributions by name; usually what ``infer_relative_search_space`` returned.

        Returns:
            Values by name; conditional parameters that the choices leave inactive are left out.

        Raises:
            ValueError: If the study has several objectives and the method knows one only.
        """
        with self._lock:
            self._check_supported(study)
            if not search_space:
                return {}
            view = self._view(study)
            # Optuna asks for the space and for the proposal in one go: a storage need be read only once.
            if view.read_for != trial.number:
                view.read(study.get_trials(deepcopy=False))
            view.read_for = -1
            fold = self._fold(view, study, search_space)
            return fold.propose(trial.number, self._rng)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A draw from the prior, for a parameter that no finished trial has met or whose range moved away.

        Raises:
            ValueError: If the study has several objectives and the method knows one only.
        """
        with self._lock:
            self._check_supported(study)
            return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Keeps the constraint values of a finished trial in the study, as Optuna's own samplers do."""
        if self._constraints_func is not None:
            from optuna.samplers._base import _process_constraints_after_trial

            _process_constraints_after_trial(self._constraints_func, study, trial, state)

    def _view(self, study: Study) -> _View:
        place = (id(study._storage), study._study_id)  # noqa: SLF001 - as all samplers find their study
        if place not in self._views:
            while len(self._views) >= _STUDIES:
                del self._views[next(iter(self._views))]
            # The view holds the storage, so that its id is nobody else's as long as the view is known.
            self._views[place] = _View(study._storage)  # noqa: SLF001
        return self._views[place]

    def _fold(self, view: _View, study: Study, search: Search) -> _Fold:
        """The method's state over this search space, up to the newest trial."""
        constrained = self._constraints_func is not None or view.constrained
        fold = next((f for f in view.folds if f.fits(search, constrained)), None)
        if fold is None or fold.outdated(view):
            if fold is not None:
                view.folds.remove(fold)
            problem = _problem(study, view, search, constrained, self._root)
            fold = _Fold(search, constrained, problem, self._built(problem))
            view.folds = [*view.folds[-_FOLDS + 1 :], fold]
        fold.update(view)
        return fold

    def _built(self, problem: Problem) -> Algorithm[Any]:
        try:
            chosen = method_of(self._method, self._options, problem, False).algorithm
        except UnsupportedError as error:
            raise ValueError(str(error)) from error
        assert chosen is not None
        return chosen

    def _check_supported(self, study: Study) -> None:
        """Refuses objectives that the method cannot handle, before anything is drawn."""
        m = len(study.directions)
        if m not in self._supported:
            objectives = tuple(Objective(f"value{i}") for i in range(m))
            self._built(Problem(Space(x=Float(0.0, 1.0)), objectives, seed=self._root))
            self._supported.add(m)


class _View:
    """The trials of one study as this process has seen them, each taken in once.

    Attributes:
        finished: Finished trials in the order in which they were noticed.
        running: Trials that run, by number.
        folds: States of the method, one per search space.
        constrained: Whether some trial has constraint values.
        read_for: The trial for whose search space it was read last; -1 once that was used.
    """

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self.finished: list[FrozenTrial] = []
        self.running: dict[int, FrozenTrial] = {}
        self.folds: list[_Fold] = []
        self.constrained = False
        self.read_for = -1
        self._known: set[int] = set()
        self._seen = 0
        self._ranges: dict[str, BaseDistribution] = {}
        self._met: dict[str, int] = {}
        self._odd: set[str] = set()
        self._search: Search | None = None
        self._least = 1

    def read(self, trials: Sequence[FrozenTrial]) -> None:
        """Takes in what is new: O(new and running trials), or O(n) where a pruner shows a part of the study only."""
        if trials and trials[-1].number == len(trials) - 1:
            fresh = [trials[n] for n in sorted(self.running) if n < min(self._seen, len(trials))]
            fresh += trials[self._seen :]
            self._seen = max(self._seen, len(trials))
        else:
            fresh = [t for t in trials if t.number not in self._known]
        for trial in fresh:
            if trial.state.is_finished():
                self.running.pop(trial.number, None)
                if trial.number not in self._known:
                    self._known.add(trial.number)
                    self._finish(trial)
            else:
                self.running[trial.number] = trial

    def _finish(self, trial: FrozenTrial) -> None:
        self.finished.append(trial)
        if trial.constraints:
            self.constrained = True
        if trial.state is TrialState.FAIL:
            return
        for name, distribution in trial.distributions.items():
            self._met[name] = count = self._met.get(name, 0) + 1
            if name not in self._ranges:
                self._ranges[name] = distribution
                self._search = None
            elif name not in self._odd and self._ranges[name] != distribution:
                self._widen(name, distribution)
            if count == 2:
                self._search = None

    def _widen(self, name: str, distribution: BaseDistribution) -> None:
        """Covers both ranges; a parameter that keeps neither type nor scale is left to independent draws."""
        wider = _widest(name, self._ranges[name], distribution)
        if wider is None:
            self._odd.add(name)
        elif wider == self._ranges[name]:
            return
        else:
            self._ranges[name] = wider
        self._search = None

    def search(self) -> Search:
        """The parameters to be chosen together: met by a finished trial, later by two, and free to vary."""
        least = 1 if len(self.finished) < _SETTLED else 2
        if self._search is None or least != self._least:
            self._least = least
            self._search = {
                name: d
                for name, d in self._ranges.items()
                if self._met[name] >= least and name not in self._odd and not d.single()
            }
        return self._search


class _Fold:
    """A method and its state over one search space: Optuna's trials, told as events.

    Attributes:
        search: The search space.
        constrained: Whether trials are judged by constraints.
    """

    def __init__(
        self, search: Search, constrained: bool, problem: Problem, algorithm: Algorithm[Any]
    ) -> None:
        self.search = dict(search)
        self.constrained = constrained
        self._problem = problem
        self._coded = {name: self.search[name] for name in problem.space.domains}
        self._algorithm = algorithm
        self._state = algorithm.init(problem)
        self._told = 0
        self._ids: dict[int, int] = {}
        self._configs: dict[int, dict[str, Any]] = {}
        self._misfits = 0
        self._patience = 0.0

    def fits(self, search: Search, constrained: bool) -> bool:
        """Whether it is about this search space."""
        return self.constrained == constrained and self.search == search

    def outdated(self, view: _View) -> bool:
        """Whether trials that do not fit the inferred conditions have led to others; looked at ever more rarely."""
        n = len(view.finished)
        if not self._misfits or n < self._patience:
            return False
        self._misfits, self._patience = 0, n * _GROWTH + 1
        return _space(self.search, view) != self._problem.space

    def update(self, view: _View) -> None:
        """Tells the method what has finished or begun since the last time."""
        events: list[Event] = []
        for trial in view.finished[self._told :]:
            self._finish(trial, events)
        self._told = len(view.finished)
        for number, trial in view.running.items():
            if number not in self._ids and trial.params:
                config = _config(self._coded, trial)
                if self._fits_space(config):
                    self._start(number, config, events)
        if events:
            self._state = self._algorithm.tell(self._state, events)

    def propose(self, number: int, rng: np.random.Generator) -> dict[str, Any]:
        """The next configuration, as Optuna's values; drawn from the prior once all of a finite space was tried."""
        if not self._problem.space.d:
            return {}
        wishes = self._algorithm.ask(self._state, 1, rng)
        starts = [w.config for w in wishes if isinstance(w, Start)]
        config = starts[0] if starts else self._problem.space.draw(rng)
        events: list[Event] = []
        self._start(number, config, events)
        self._state = self._algorithm.tell(self._state, events)
        out = {}
        for name, value in config.items():
            given = self._coded[name]
            out[name] = given.choices[value] if isinstance(given, CategoricalDistribution) else value
        return out

    def _start(self, number: int, config: dict[str, Any], events: list[Event]) -> None:
        if number in self._ids:
            if config != self._configs.get(number):
                events.append(Amended(self._ids[number], config))
        else:
            self._ids[number] = len(self._ids)
            events.append(Started(self._ids[number], config))
        self._configs[number] = config

    def _finish(self, trial: FrozenTrial, events: list[Event]) -> None:
        config = _config(self._coded, trial)
        if not config and trial.number not in self._ids:
            return
        if trial.state is TrialState.COMPLETE and not self._fits_space(config):
            self._misfits += 1
        # A proposal that failed before the objective asked for its values keeps them.
        if config or trial.state is not TrialState.FAIL:
            self._start(trial.number, config, events)
        number = self._ids[trial.number]
        self._configs.pop(trial.number, None)
        metrics = _metrics(trial, self._problem)
        if trial.state is TrialState.COMPLETE and metrics is not None:
            events.append(Ended(number, 0, "completed", metrics))
        elif trial.state is TrialState.PRUNED:
            if metrics is not None:
                events.append(Reported(number, 0, (trial.last_step or 0) + 1, metrics))
            events.append(Ended(number, 0, "stopped"))
        else:
            events.append(Ended(number, 0, "failed"))

    def _fits_space(self, config: dict[str, Any]) -> bool:
        try:
            self._problem.space.check(config)
        except SpaceError:
            return False
        return True


def _check_method(method: str | Algorithm[Any], options: dict[str, Any]) -> None:
    """Refuses, when the sampler is made, what could never work."""
    if not isinstance(method, str):
        return
    if method == "auto":
        if options:
            raise ConfigError(
                f"auto takes no options; got {sorted(options)}. Name the method that they belong to."
            )
        return
    entry = catalog.find(method.partition("(")[0].strip())
    if entry.kind == "scheduler":
        raise ConfigError(
            f"A sampler of Optuna only proposes; got {method!r}, which also stops trials. "
            f"Pass method={entry.wraps or 'tpe'!r}, and a pruner to create_study."
        )
    catalog.build(method, options)


def _problem(study: Study, view: _View, search: Search, constrained: bool, seed: int) -> Problem:
    """The study as a problem of ours."""
    objectives = tuple(
        Objective(f"value{i}", "maximize" if d == StudyDirection.MAXIMIZE else "minimize")
        for i, d in enumerate(study.directions)
    )
    limits = (Limit(_VIOLATION, 0.0),) if constrained else ()
    return Problem(_space(search, view), objectives, None, limits, seed)


def _space(search: Search, view: _View) -> Space:
    """The search space with the conditions that completed trials show."""
    domains = {name: d for name, given in search.items() if (d := _domain(given)) is not None}
    space = Space(domains)
    coded = {name: search[name] for name in domains}
    completed = (t for t in reversed(view.finished) if t.state is TrialState.COMPLETE)
    recent = [_config(coded, t) for t, _ in zip(completed, range(_RECENT), strict=False)]
    recent = [c for c in reversed(recent) if c]
    if len({frozenset(c) for c in recent}) > 1:
        space = infer(space, [(c, frozenset(c)) for c in recent])
    return space


def _domain(given: BaseDistribution) -> Domain | None:
    """One distribution as a domain, options by their index; None where it has no width or is too wide for us."""
    try:
        if isinstance(given, FloatDistribution):
            return Float(given.low, given.high, log=given.log, step=given.step)
        if isinstance(given, IntDistribution):
            return Int(given.low, given.high, log=given.log, step=given.step)
        if isinstance(given, CategoricalDistribution):
            return Choice(range(len(given.choices)))
    except SpaceError:
        return None
    return None


def _widest(name: str, a: BaseDistribution, b: BaseDistribution) -> BaseDistribution | None:
    """The smallest distribution that covers both, or None if they differ in more than their ranges."""
    one, two = _domain(a), _domain(b)
    if a.single() or b.single():
        return _around_single(a, b)
    if one is None or two is None or isinstance(a, CategoricalDistribution):
        return None
    try:
        both = union(name, one, two)
    except SpaceError:
        return None
    if isinstance(both, Float):
        return FloatDistribution(both.low, both.high, log=both.log, step=both.step)
    if isinstance(both, Int):
        return IntDistribution(both.low, both.high, log=both.log, step=both.step)
    return None


def _around_single(a: BaseDistribution, b: BaseDistribution) -> BaseDistribution | None:
    """The wider of two when the other is a single value inside it, as where a range depends on another parameter."""
    if type(a) is not type(b) or isinstance(a, CategoricalDistribution):
        return None
    point, wide = (a, b) if a.single() else (b, a)
    assert isinstance(point, FloatDistribution | IntDistribution)
    assert isinstance(wide, FloatDistribution | IntDistribution)
    return wide if point.log == wide.log and wide._contains(float(point.low)) else None  # noqa: SLF001


def _config(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    """What a trial chose, restricted to a search space, with options by their index."""
    out: dict[str, Any] = {}
    for name, value in trial.params.items():
        distribution = search.get(name)
        if isinstance(distribution, CategoricalDistribution):
            try:
                out[name] = int(distribution.to_internal_repr(value))
            except ValueError:
                continue
        elif isinstance(distribution, FloatDistribution):
            out[name] = float(value)
        elif isinstance(distribution, IntDistribution):
            out[name] = int(value)
    return out


def _metrics(trial: FrozenTrial, problem: Problem) -> dict[str, float] | None:
    """What a trial came to; of a pruned one its last report. None where that is no finite number."""
    values = trial.values
    if trial.state is TrialState.PRUNED and trial.last_step is not None:
        values = [trial.intermediate_values[trial.last_step]]
    if trial.state is TrialState.FAIL or not values or len(values) != problem.m:
        return None
    if not all(math.isfinite(v) for v in values):
        return None
    out = {o.name: float(v) for o, v in zip(problem.objectives, values, strict=True)}
    if problem.limits:
        out[_VIOLATION] = float(sum(max(0.0, c) for c in trial.constraints.values()))
    return out
