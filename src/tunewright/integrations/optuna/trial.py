"""The names of ``optuna.trial``: what an objective sees of its trial, and records of trials."""

from __future__ import annotations

import datetime
import enum
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tunewright.core.domains import Choice
from tunewright.core.trial import Trial as Recorded
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.integrations.optuna.distributions import (
    CategoricalDistribution,
    Distribution,
    FloatDistribution,
    IntDistribution,
)

__all__ = ["FixedTrial", "FrozenTrial", "Trial", "TrialState", "create_trial"]


class TrialState(enum.IntEnum):
    """How a trial stands."""

    RUNNING = 0
    COMPLETE = 1
    PRUNED = 2
    FAIL = 3
    WAITING = 4

    def is_finished(self) -> bool:
        """Whether it is over for good."""
        return self in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


_STATES = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
_UNFINISHED = ("running", "paused", "waiting")


@dataclass(slots=True)
class FrozenTrial:
    """A record of a trial as it was when asked for.

    Attributes:
        number: Its number, dense from 0.
        state: How it stands.
        values: One value per objective; of a pruned trial its last report; None where there is none.
        params: Its parameters by name.
        distributions: What each parameter may be, as domains of ours.
        user_attrs: What the program attached to it.
        system_attrs: Empty.
        intermediate_values: Reported values by step.
        datetime_start: When it began, in local time.
        datetime_complete: When it ended, or None.
    """

    number: int
    state: TrialState
    values: list[float] | None
    params: dict[str, Any]
    distributions: dict[str, Distribution] = field(default_factory=dict)
    user_attrs: dict[str, Any] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)
    intermediate_values: dict[int, float] = field(default_factory=dict)
    datetime_start: datetime.datetime | None = None
    datetime_complete: datetime.datetime | None = None

    @property
    def value(self) -> float | None:
        """The value of the one objective.

        Raises:
            ConfigError: If there are several.
        """
        if self.values is None:
            return None
        if len(self.values) > 1:
            raise ConfigError(
                f"value needs one objective; trial {self.number} has {len(self.values)}. Look at values."
            )
        return self.values[0]

    @property
    def last_step(self) -> int | None:
        """The last step reported, or None."""
        return max(self.intermediate_values, default=None)

    @property
    def duration(self) -> datetime.timedelta | None:
        """How long it took, once it is over."""
        if self.datetime_start is None or self.datetime_complete is None:
            return None
        return self.datetime_complete - self.datetime_start


def create_trial(
    *,
    state: TrialState = TrialState.COMPLETE,
    value: float | None = None,
    values: Sequence[float] | None = None,
    params: Mapping[str, Any] | None = None,
    distributions: Mapping[str, Distribution] | None = None,
    user_attrs: Mapping[str, Any] | None = None,
    system_attrs: Mapping[str, Any] | None = None,
    intermediate_values: Mapping[int, float] | None = None,
) -> FrozenTrial:
    """A record of a trial made elsewhere, for ``study.add_trial``.

    Raises:
        ConfigError: If a parameter has no distribution, or both ``value`` and ``values`` are given.
    """
    given, known = dict(params or {}), dict(distributions or {})
    if set(given) != set(known):
        raise ConfigError(
            f"Every parameter needs a distribution; got {sorted(given)} and {sorted(known)}. Give both."
        )
    if value is not None and values is not None:
        raise ConfigError(
            f"A trial has one value or several; got value={value} and values={values}. Give one."
        )
    results = [float(value)] if value is not None else None if values is None else [float(v) for v in values]
    now = datetime.datetime.now().astimezone().replace(tzinfo=None)
    return FrozenTrial(
        -1, state, results, given, known, dict(user_attrs or {}), dict(system_attrs or {}),
        dict(intermediate_values or {}), now, now if state.is_finished() else None,
    )  # fmt: skip


def frozen(
    trial: Recorded, names: Sequence[str], domains: Mapping[str, Any], attrs: Mapping[str, Any]
) -> FrozenTrial:
    """The record of a trial of ours.

    Args:
        trial: The trial.
        names: Metric of each objective, in the order of the study's directions.
        domains: Domains of the parameters.
        attrs: What the program attached to it.
    """
    done = trial.status not in _UNFINISHED
    state = _STATES.get(trial.status, TrialState.FAIL) if done else TrialState.RUNNING
    metrics = trial.metrics if state in (TrialState.COMPLETE, TrialState.PRUNED) else {}
    known = all(name in metrics for name in names)
    steps: dict[int, float] = {}
    for report in trial.reports:
        for name, value in {**report.metrics, **{k: float(v) for k, v in (report.bad or {}).items()}}.items():
            if name == names[0]:
                steps[report.step - 1] = value
    return FrozenTrial(
        number=trial.number,
        state=state,
        values=[metrics[name] for name in names] if known else None,
        params=dict(trial.config),
        distributions={k: domains[k] for k in trial.config if k in domains},
        user_attrs=dict(attrs),
        intermediate_values=steps,
        datetime_start=_local(trial.at),
        datetime_complete=_local(trial.ended_at) if trial.ended_at is not None else None,
    )


def _local(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).astimezone().replace(tzinfo=None)


class _Suggests:
    """The ``suggest_*`` words over one way to choose a value."""

    def _choose(self, name: str, domain: Distribution) -> Any:
        raise ConfigError(f"'{name}' cannot be chosen among {domain} here.")

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A real number in ``[low, high]``.

        Raises:
            SpaceError: If the range cannot be used, or the parameter had another type or scale before.
        """
        return float(self._choose(name, FloatDistribution(low, high, log, step)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number in ``[low, high]``.

        Raises:
            SpaceError: If the range cannot be used, or the parameter had another type or scale before.
        """
        return int(self._choose(name, IntDistribution(low, high, log, step)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the options, of any type; see ``CategoricalDistribution``.

        Raises:
            SpaceError: If there is no option, or the parameter had another type before.
        """
        domain = CategoricalDistribution(choices)
        assert isinstance(domain, Choice)
        value = self._choose(name, domain)
        return next(c for c, o in zip(choices, domain.options, strict=True) if _same(o, value))

    def suggest_uniform(self, name: str, low: float, high: float) -> float:
        """An old name of ``suggest_float``."""
        return self.suggest_float(name, low, high)

    def suggest_loguniform(self, name: str, low: float, high: float) -> float:
        """An old name of ``suggest_float`` with ``log=True``."""
        return self.suggest_float(name, low, high, log=True)

    def suggest_discrete_uniform(self, name: str, low: float, high: float, q: float) -> float:
        """An old name of ``suggest_float`` with a step."""
        return self.suggest_float(name, low, high, step=q)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


class Owner(Protocol):
    """What a running trial needs of its study."""

    @property
    def directions(self) -> Sequence[Any]:
        """The direction of each objective."""
        ...

    def _draw(self, number: int, name: str, domain: Distribution) -> Any: ...

    def _grow(self, name: str, domain: Distribution) -> None: ...

    def _report(self, trial: Trial, step: int, value: float) -> None: ...

    def _doomed(self, number: int) -> bool: ...

    def _attach(self, key: str, value: Any, trial: int | None) -> None: ...

    def _attrs_of(self, trial: int | None) -> dict[str, Any]: ...


class Trial(_Suggests):
    """A trial that runs: what an objective gets, and ``study.ask`` returns.

    Attributes:
        number: Its number, dense from 0.
        study: Its study.
    """

    def __init__(self, study: Owner, trial: Recorded, fixed: Mapping[str, Any]) -> None:
        self.study = study
        self.number = trial.id
        self.token = trial.token
        self._start = _local(trial.at)
        self._fixed = dict(fixed)
        self._planned = dict(trial.config)
        self._params: dict[str, Any] = {}
        self._domains: dict[str, Distribution] = {}
        self._steps: dict[int, float] = {}

    def __repr__(self) -> str:
        return f"Trial({self.number}, {self._params})"

    def _choose(self, name: str, domain: Distribution) -> Any:
        if name in self._params:
            return self._params[name]
        value = self._planned.get(name)
        if name not in self._planned or not domain.contains(value):
            if name in self._fixed:
                warnings.warn(
                    f"An enqueued value must fit its range; '{name}' is {value!r}, which it does not. Another is drawn.",
                    UserWarning,
                    stacklevel=4,
                )
            value = self.study._draw(self.number, name, domain)  # noqa: SLF001 - two halves of one thing
        elif name in self._fixed:
            self.study._grow(name, domain)  # noqa: SLF001
        self._params[name], self._domains[name] = value, domain
        return value

    @property
    def params(self) -> dict[str, Any]:
        """Parameters asked for so far."""
        return dict(self._params)

    @property
    def distributions(self) -> dict[str, Distribution]:
        """What each of them may be, as domains of ours."""
        return dict(self._domains)

    @property
    def datetime_start(self) -> datetime.datetime:
        """When it began, in local time."""
        return self._start

    @property
    def user_attrs(self) -> dict[str, Any]:
        """What the program attached to it."""
        return self.study._attrs_of(self.number)  # noqa: SLF001

    @property
    def relative_params(self) -> dict[str, Any]:
        """What the method planned for it before it ran."""
        return dict(self._planned)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Attaches a value that JSON can hold.

        Raises:
            ConfigError: If JSON cannot hold it.
        """
        self.study._attach(key, value, self.number)  # noqa: SLF001

    def set_constraint(self, key: str, value: float) -> None:
        """Refused: constraints are declared with the study, so that its method can heed them.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(
            f"Constraints must be declared with the study; got '{key}' from a trial. "
            f"Pass constraints_func to the sampler, or limits= to tunewright's Study.open."
        )

    def report(self, value: float, step: int) -> None:
        """Reports an intermediate value; a step reported before is passed over with a warning.

        Args:
            value: The objective as it stands.
            step: Number from 0; must grow from report to report.

        Raises:
            UnsupportedError: If the study has several objectives.
            ConfigError: If the step is no number from 0, or the value is no number.
        """
        if len(self.study.directions) > 1:
            raise UnsupportedError(
                f"Reports by step need one objective; the study has {len(self.study.directions)}. Leave them out."
            )
        try:
            number, measured = int(step), float(value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"A report needs a number and a step; got value={value!r:.80}, step={step!r:.80}."
            ) from None
        if number < 0:
            raise ConfigError(f"A step must be a whole number from 0; got {step}. Count on.")
        if self._steps and number <= max(self._steps):
            warnings.warn(
                f"Steps must grow from report to report; got {number} after {max(self._steps)}. It is ignored.",
                UserWarning,
                stacklevel=2,
            )
            return
        self._steps[number] = measured
        self.study._report(self, number + 1, measured)  # noqa: SLF001

    def should_prune(self) -> bool:
        """Whether the pruner wants the trial to end; then raise ``TrialPruned``."""
        return self.study._doomed(self.number)  # noqa: SLF001


class FixedTrial(_Suggests):
    """A trial with given parameters, to call an objective without a study.

    Args:
        params: Values by name.
        number: Its number.
    """

    def __init__(self, params: Mapping[str, Any], number: int = 0) -> None:
        self.params = dict(params)
        self.number = number
        self.user_attrs: dict[str, Any] = {}
        self.datetime_start = datetime.datetime.now().astimezone().replace(tzinfo=None)

    def _choose(self, name: str, domain: Distribution) -> Any:
        if name not in self.params:
            raise ConfigError(
                f"A fixed trial needs every parameter that is asked for; got none for '{name}'. Add it."
            )
        value = self.params[name]
        if isinstance(domain, Choice) and not domain.contains(value):
            value = repr(value)
        if not domain.contains(value):
            raise ConfigError(f"A fixed parameter must fit its range; '{name}' is {value!r}. Correct it.")
        return value

    def report(self, value: float, step: int) -> None:
        """Goes nowhere; nobody compares a fixed trial with others."""

    def should_prune(self) -> bool:
        """Never."""
        return False

    def set_user_attr(self, key: str, value: Any) -> None:
        """Attaches a value."""
        self.user_attrs[key] = value


def finite(values: Any, m: int) -> tuple[list[float] | None, str]:
    """What an objective returned, as one number per objective, or what is wrong with it.

    Args:
        values: A number, or a sequence of ``m``.
        m: Number of objectives.
    """
    given = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    if len(given) != m:
        return None, f"An objective must return {m} values; got {len(given)}: {values!r:.120}"
    out = []
    for value in given:
        try:
            number = float(value)
        except (TypeError, ValueError):
            return (
                None,
                f"An objective must return numbers; got {value!r:.120} of type {type(value).__name__}",
            )
        if not math.isfinite(number):
            return None, f"An objective must return finite numbers; got {number}"
        out.append(number)
    return out, ""
