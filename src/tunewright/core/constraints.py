"""What a configuration must satisfy beyond its ranges: conditions, forbidden combinations, constraints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.errors import SpaceError

Config = Mapping[str, Any]


def _number(owner: str, field: str, value: Any) -> float:
    """A finite number that JSON can hold."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise SpaceError(f"{owner} needs finite numbers; got {field}={value!r:.80}. Correct it.")
    return value


@dataclass(frozen=True, slots=True)
class Range:
    """A condition on a number: the parameter is active when its parent lies in ``[low, high]``.

    Args:
        low: Smallest value of the parent, or None for no bound.
        high: Largest value of the parent, or None for no bound.

    Raises:
        SpaceError: If a bound is not a finite number, or they are reversed.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _number("Range", name, value))
        if self.low is not None and self.high is not None and self.low > self.high:
            raise SpaceError(
                f"Range needs low <= high; got low={self.low!r}, high={self.high!r}. Swap the bounds."
            )

    def holds(self, value: float, slack: float = 0.0) -> bool:
        """Whether ``value`` lies in the range, or outside by at most ``slack``."""
        return (self.low is None or value >= self.low - slack) and (
            self.high is None or value <= self.high + slack
        )


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear constraint: the weighted sum of some numbers stays at or below a bound.

    A configuration in which one of the named parameters is inactive satisfies it.

    Args:
        weights: Weight of each named parameter.
        upper: Largest allowed sum.

    Raises:
        SpaceError: If there is no weight, or something is not a finite number.
    """

    weights: Mapping[str, float]
    upper: float

    def __post_init__(self) -> None:
        given: Any = self.weights
        if not isinstance(given, Mapping) or not given:
            raise SpaceError(
                f"Linear needs a weight per name; got {given!r:.120}. Write Linear({{'x': 1.0}}, 2.0)."
            )
        weights = {k: _number("Linear", f"weight of '{k}'", v) for k, v in given.items()}
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "upper", _number("Linear", "upper", self.upper))

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that take part."""
        return tuple(self.weights)

    def holds(self, config: Config) -> bool:
        """Whether the configuration satisfies the constraint."""
        total, size = 0.0, max(1.0, abs(self.upper))
        for name, weight in self.weights.items():
            if name not in config:
                return True
            term = weight * config[name]
            total += term
            size += abs(term)
        return total <= self.upper + 1e-12 * size

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"type": "linear", "weights": dict(self.weights), "upper": self.upper}


def _is(value: Any, bad: Any) -> bool:
    """Whether a value is the forbidden one; a selection already where it contains it."""
    if isinstance(value, list) and not isinstance(bad, list):
        return any(_is(v, bad) for v in value)
    return bool(value == bad) and isinstance(value, bool) == isinstance(bad, bool)


@dataclass(frozen=True, slots=True)
class Forbidden:
    """A combination of values that must not occur together.

    Args:
        values: For each named parameter the forbidden value, or a tuple of them. For a ``Subset`` an option stands
            for every selection that contains it, a list for exactly that selection.
    """

    values: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that take part."""
        return tuple(self.values)

    def holds(self, config: Config) -> bool:
        """Whether the configuration avoids the combination."""
        for name, bad in self.values.items():
            if name not in config:
                return True
            if not any(_is(config[name], o) for o in (bad if isinstance(bad, tuple) else (bad,))):
                return True
        return False

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "type": "forbidden",
            "values": {k: list(v) if isinstance(v, tuple) else v for k, v in self.values.items()},
        }


@dataclass(frozen=True, slots=True)
class Predicate:
    """A constraint given as a function of the configuration that returns True when it holds.

    Functions are not stored: the log keeps only ``label``, and the same function must be given again when the
    study is opened to propose configurations.

    Args:
        label: Name under which the constraint is stored and shown.
        test: The function; without it the constraint is taken to hold.
    """

    label: str
    test: Callable[[Config], bool] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that take part: unknown, so none are listed."""
        return ()

    def holds(self, config: Config) -> bool:
        """Whether the configuration satisfies the constraint.

        Raises:
            SpaceError: If the function itself fails.
        """
        if self.test is None:
            return True
        try:
            return bool(self.test(config))
        except Exception as error:
            raise SpaceError(
                f"A constraint must return True or False for every configuration; '{self.label}' raised "
                f"{type(error).__name__}: {error} for {dict(config)!r}. Handle missing (inactive) parameters in it."
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"type": "predicate", "label": self.label}


Constraint = Linear | Forbidden | Predicate


def constraint_from_dict(data: Mapping[str, Any]) -> Constraint:
    """Rebuilds a constraint from its JSON form.

    Raises:
        SpaceError: If the type is unknown.
    """
    kind = data.get("type")
    if kind == "linear":
        return Linear(dict(data["weights"]), data["upper"])
    if kind == "forbidden":
        return Forbidden({k: tuple(v) if isinstance(v, list) else v for k, v in data["values"].items()})
    if kind == "predicate":
        return Predicate(str(data["label"]))
    raise SpaceError(
        f"A constraint needs a type out of linear, forbidden, predicate; got {kind!r}. Correct the type."
    )


def check_guesses(constraints: Iterable[Constraint], guesses: Config) -> None:
    """Refuses guesses that together break a constraint on parameters that all have one.

    Raises:
        SpaceError: Naming the guesses.
    """
    for constraint in constraints:
        names = constraint.names
        if names and all(n in guesses for n in names) and not constraint.holds(guesses):
            got = {n: guesses[n] for n in names}
            raise SpaceError(
                f"Guesses must satisfy the constraints together; got {got!r:.200}, which break {constraint.to_dict()!r:.200}. "
                f"Change a guess."
            )
