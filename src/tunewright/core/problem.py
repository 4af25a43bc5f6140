"""What is to be optimised: a space, objectives, a fidelity, outcome constraints, a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from tunewright.core.constraints import Predicate
from tunewright.core.domains import Choice, Domain
from tunewright.core.limits import checked_name
from tunewright.core.scale import Scale
from tunewright.core.space import Space
from tunewright.errors import ConfigError

Goal = Literal["minimize", "maximize"]


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric to be made small or large.

    Args:
        name: Name under which trials report it.
        goal: ``"minimize"`` or ``"maximize"``.
        unit: Shown next to values.
    """

    name: str
    goal: Goal = "minimize"
    unit: str = ""

    def __post_init__(self) -> None:
        if self.goal not in ("minimize", "maximize"):
            raise ConfigError(f"A goal must be 'minimize' or 'maximize'; got {self.goal!r}. Correct it.")
        checked_name("A metric name", self.name)
        if self.unit:
            checked_name("A unit", self.unit)

    @property
    def sign(self) -> float:
        """+1 when minimised, -1 when maximised."""
        return 1.0 if self.goal == "minimize" else -1.0


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How much training a trial may get, in whole steps.

    Args:
        high: Steps of a full training.
        low: Fewest steps after which a result means something.
        unit: What a step is, for instance ``"epoch"``.
    """

    high: int
    low: int = 1
    unit: str = "step"

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigError(
                    f"Fidelity needs whole steps; got {name}={value!r}. Count steps, not seconds."
                )
        if not 1 <= self.low <= self.high:
            raise ConfigError(
                f"Fidelity needs 1 <= low <= high; got low={self.low}, high={self.high}. Swap them."
            )


@dataclass(frozen=True, slots=True)
class Limit:
    """An outcome constraint: the metric must not exceed ``upper``.

    Args:
        name: Name under which trials report the metric.
        upper: Largest acceptable value, in the metric's unit.
    """

    name: str
    upper: float

    def __post_init__(self) -> None:
        checked_name("A metric name", self.name)
        upper: Any = self.upper
        if isinstance(upper, bool) or not isinstance(upper, int | float) or not math.isfinite(upper):
            raise ConfigError(
                f"A limit must be a finite number; '{self.name}' has {upper!r:.80}. Correct it."
            )
        object.__setattr__(self, "upper", float(upper))


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything a method needs to know before the first trial.

    Inside the package everything is minimised: ``losses`` is the one place where signs flip.

    Args:
        space: What may be chosen.
        objectives: What is measured; at least one.
        fidelity: Present when trials can be trained for part of their full length.
        limits: Outcome constraints.
        seed: Root of all randomness of the study.
        scale: What grows, when settings are tuned on smaller models; the fidelity then counts its points.
    """

    space: Space
    objectives: tuple[Objective, ...] = field(default=(Objective("loss"),))
    fidelity: Fidelity | None = None
    limits: tuple[Limit, ...] = ()
    seed: int = 0
    scale: Scale | None = None

    def __post_init__(self) -> None:
        names = [o.name for o in self.objectives]
        if not names:
            raise ConfigError(
                "A problem needs at least one objective; got none. Pass minimize= or maximize=."
            )
        if len(set(names)) < len(names):
            raise ConfigError(f"Objectives need distinct names; got {names}. Rename one.")
        given: Any = self.seed
        seed = given.item() if isinstance(given, np.integer) else given
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise ConfigError(
                f"A seed must be a whole number in [0, 2**63); got {self.seed!r:.80}. Choose another."
            )
        object.__setattr__(self, "seed", seed)
        if self.scale is not None:
            points = Fidelity(self.scale.high, self.scale.low, "point")
            if self.fidelity not in (None, points):
                raise ConfigError(
                    f"With a scale, its points are the steps of a study; got {self.fidelity}. Leave steps out."
                )
            object.__setattr__(self, "fidelity", points)

    @property
    def m(self) -> int:
        """Number of objectives."""
        return len(self.objectives)

    def losses(self, metrics: Mapping[str, float]) -> tuple[float, ...] | None:
        """Objective values, minimised, or None when one is missing or not finite."""
        out = []
        for objective in self.objectives:
            value = metrics.get(objective.name)
            if value is None or not math.isfinite(value):
                return None
            out.append(value if objective.goal == "minimize" else -value)
        return tuple(out)

    def violation(self, metrics: Mapping[str, float]) -> float:
        """Sum of how far the outcome constraints are exceeded; 0 when all hold, ``inf`` when one is missing."""
        total = 0.0
        for limit in self.limits:
            value = metrics.get(limit.name)
            total += math.inf if value is None or math.isnan(value) else max(0.0, value - limit.upper)
        return total

    def with_space(self, space: Space) -> Problem:
        """The same problem over another version of the space."""
        return replace(self, space=space)

    def extended(self, high: int) -> Problem:
        """The same problem with another length of a full training.

        Raises:
            ConfigError: If trials have no steps, ``high`` is below the fewest steps, or the points are those of a scale.
        """
        if self.fidelity is None:
            raise ConfigError(
                f"Only trainings that report by step can be made longer; this study has no steps, got {high}. "
                f"Open a new study with steps=..."
            )
        longer = Fidelity(high, self.fidelity.low, self.fidelity.unit)
        if self.scale is not None and longer != self.fidelity:
            raise ConfigError(
                f"A study with a scale keeps its {self.fidelity.high} points; got {high}. "
                f"Open a new study with another scale."
            )
        return replace(self, fidelity=longer)

    def revised(self, stored: Mapping[str, Any]) -> Problem:
        """The same problem over a new version of the space from its JSON form, as an ``Edited`` event holds it.

        Constraint functions cannot be stored; those of the present version are kept under their names.
        """
        return self.with_space(with_functions(Space.from_dict(stored), self.space))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        out: dict[str, Any] = {
            "space": self.space.to_dict(),
            "objectives": [{"name": o.name, "goal": o.goal, "unit": o.unit} for o in self.objectives],
            "seed": self.seed,
        }
        if self.fidelity is not None:
            out["fidelity"] = {
                "low": self.fidelity.low,
                "high": self.fidelity.high,
                "unit": self.fidelity.unit,
            }
        if self.limits:
            out["limits"] = [{"name": c.name, "upper": c.upper} for c in self.limits]
        if self.scale is not None:
            out["scale"] = self.scale.to_dict()
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Problem:
        """Rebuilds a problem from its JSON form."""
        return cls(
            Space.from_dict(data["space"]),
            tuple(Objective(**o) for o in data["objectives"]),
            Fidelity(**data["fidelity"]) if data.get("fidelity") else None,
            tuple(Limit(**c) for c in data.get("limits", ())),
            int(data.get("seed", 0)),
            Scale.from_dict(data["scale"]) if data.get("scale") else None,
        )


def with_functions(space: Space, earlier: Space) -> Space:
    """Gives a stored version of a space the constraint functions that another version knows by name and branch."""
    known = dict(_functions(earlier, ""))
    return _bound(space, known, "") if known else space


def _functions(space: Space, path: str) -> Iterator[tuple[tuple[str, str], Predicate]]:
    for constraint in space.own:
        if isinstance(constraint, Predicate) and constraint.test is not None:
            yield (path, constraint.label), constraint
    for name, option, branch in _branches(space):
        yield from _functions(branch, f"{path}{name}={option!r}/")


def _branches(space: Space) -> Iterator[tuple[str, Any, Space]]:
    for name, domain in space.domains.items():
        if isinstance(domain, Choice):
            for option, branch in zip(domain.options, domain.branches, strict=True):
                if branch is not None and branch.constraints:
                    yield name, option, branch


def _bound(space: Space, known: Mapping[tuple[str, str], Predicate], path: str) -> Space:
    own = [known.get((path, c.label), c) if isinstance(c, Predicate) else c for c in space.own]
    domains: dict[str, Domain] = dict(space.domains)
    for name, option, branch in _branches(space):
        domain = domains[name]
        assert isinstance(domain, Choice)
        made = _bound(branch, known, f"{path}{name}={option!r}/")
        domains[name] = replace(domain, branches=tuple(made if b is branch else b for b in domain.branches))
    return Space(domains, when=space.when, constraints=own) if space.constraints else space
