"""What Optuna's storages have in common: distributions as text, values as numbers, constraints and names as attributes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunewright.core.domains import Choice, Domain, Float, Int
from tunewright.core.problem import Goal
from tunewright.errors import SchemaError
from tunewright.integrations.importing.foreign import ForeignStudy, ForeignTrial, State, option

STATES: dict[str, State] = {
    "COMPLETE": "completed",
    "PRUNED": "stopped",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}
GOALS: dict[str, Goal] = {"MINIMIZE": "minimize", "MAXIMIZE": "maximize"}
NAMES = "study:metric_names"
_CONSTRAINT, _CONSTRAINTS = "constraints:", "constraints"
# Names that Optuna wrote before version 3.
_OLD = {
    "UniformDistribution": ("float", False),
    "LogUniformDistribution": ("float", True),
    "DiscreteUniformDistribution": ("float", False),
    "IntUniformDistribution": ("int", False),
    "IntLogUniformDistribution": ("int", True),
}


class Distributions:
    """Reads distributions, each text once: a study of ten thousand trials has a handful of them."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Domain, tuple[Any, ...] | None, bool]] = {}

    def read(self, text: str) -> Domain:
        """The domain that a text describes.

        Raises:
            SchemaError: If it describes none.
            SpaceError: If its range cannot be used.
        """
        return self._entry(text)[0]

    def value(self, text: str, number: Any) -> Any:
        """The value that is stored as a number: an option by its place, a whole number as a float."""
        _, options, whole = self._entry(text)
        if options is not None:
            return options[int(number)]
        return round(number) if whole else float(number)

    def _entry(self, text: str) -> tuple[Domain, tuple[Any, ...] | None, bool]:
        known = self._known.get(text)
        if known is None:
            try:
                known = self._known[text] = _parsed(json.loads(text))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise SchemaError(
                    f"A parameter must have a distribution of Optuna; got {text[:200]!r} ({type(error).__name__}: {error}). "
                    f"Open the storage with Optuna to see whether it is whole."
                ) from None
        return known


def _parsed(data: Any) -> tuple[Domain, tuple[Any, ...] | None, bool]:
    """A domain, its options where it has some, and whether its values are whole numbers."""
    name = str(data.get("name", data.get("type")))
    fields = data.get("attributes", data)
    if name in ("CategoricalDistribution", "categorical"):
        options = tuple(option(o) for o in fields["choices"])
        return (
            Choice([*dict.fromkeys(options)] if len({*map(repr, options)}) < len(options) else list(options)),
            options,
            False,
        )
    kind, log = _OLD.get(name, ("", bool(fields.get("log", False))))
    if not kind:
        kind = {"FloatDistribution": "float", "IntDistribution": "int", "float": "float", "int": "int"}[name]
    low, high, step = fields["low"], fields["high"], fields.get("step", fields.get("q"))
    if kind == "int":
        low, high, step = int(low), int(high), int(step or 1)
        alone = low == high or step > high - low
        return (Choice([low]) if alone else Int(low, high, log=log, step=1 if log else step)), None, True
    low, high = float(low), float(high)
    alone = low == high or (step is not None and step > high - low)
    return (Choice([low]) if alone else Float(low, high, log=log, step=step)), None, False


def goals(study: ForeignStudy, directions: list[str], system: Mapping[str, Any]) -> list[str]:
    """Gives a study its objectives, by the names that the user gave them, else ``value`` or ``value_0`` and so on.

    Returns:
        The names in Optuna's order.
    """
    given = system.get(NAMES)
    m = len(directions)
    plain = ["value"] if m == 1 else [f"value_{i}" for i in range(m)]
    fits = isinstance(given, list) and len(given) == m and len({*map(str, given)}) == m
    names = [str(n) for n in given] if fits and isinstance(given, list) else plain
    study.goals = {n: GOALS.get(d, "minimize") for n, d in zip(names, directions, strict=True)}
    return names


def constrain(study: ForeignStudy, trial: ForeignTrial, key: str, value: Any) -> None:
    """Takes in a system attribute: a constraint becomes a metric that must not be above 0; the rest is Optuna's own."""
    if key == _CONSTRAINTS and isinstance(value, list):
        found = {f"constraint_{i}": v for i, v in enumerate(value)}
    elif key.startswith(_CONSTRAINT):
        found = {key.removeprefix(_CONSTRAINT): value}
    else:
        return
    for name, excess in found.items():
        if isinstance(excess, int | float) and not isinstance(excess, bool):
            metric = f"constraint {name}" if name in study.goals else name
            trial.values[metric] = float(excess)
            study.limits[metric] = 0.0


def settle(study: ForeignStudy) -> None:
    """The last touches: steps from 1, and what was enqueued with fixed values."""
    first = min((s for t in study.trials for s, _ in t.reports), default=1)
    if first < 1:
        # Optuna's programs count steps from 0; here a step is a number of finished ones.
        for trial in study.trials:
            trial.reports = [(s + 1 - first, m) for s, m in trial.reports]
    for trial in study.trials:
        if trial.state == "stopped":
            trial.values = {}
