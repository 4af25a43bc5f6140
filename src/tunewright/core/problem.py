"""What is to be optimised: a space, objectives, a fidelity, outcome constraints, a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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
        if not 0 < len(str(self.name)) <= 256:
            raise ConfigError(
                f"A metric name must be a string of 1 to 256 characters; got {self.name!r:.80}."
            )

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
    """

    space: Space
    objectives: tuple[Objective, ...] = field(default=(Objective("loss"),))
    fidelity: Fidelity | None = None
    limits: tuple[Limit, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        names = [o.name for o in self.objectives]
        if not names:
            raise ConfigError(
                "A problem needs at least one objective; got none. Pass minimize= or maximize=."
            )
        if len(set(names)) < len(names):
            raise ConfigError(f"Objectives need distinct names; got {names}. Rename one.")
        if isinstance(self.seed, bool) or not 0 <= self.seed < 2**63 or int(self.seed) != self.seed:
            raise ConfigError(
                f"A seed must be a whole number in [0, 2**63); got {self.seed!r}. Choose another."
            )

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
        return Problem(space, self.objectives, self.fidelity, self.limits, self.seed)

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
        )
