"""What a study's proxies say of the target: settings with an interval, the evidence for each rule, or a refusal.

*Use when* reading what ``Study.transfer`` returns.

*Do not use when* there is no study: ``drift`` and ``horizon`` have the laws themselves.

*Paper*: see ``proxy``.

*Differs*: see ``proxy``.

*Cost*: nothing is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tunewright.core.problem import Objective
from tunewright.core.scale import Scale, Sizes, named
from tunewright.errors import ConfigError
from tunewright.scaling.drift import Optimum, Prediction, Z
from tunewright.scaling.horizon import Length


class Training(NamedTuple):
    """A proxy as a trial trained it.

    Attributes:
        trial: Number of the trial.
        sizes: Of the proxy.
        steps: How long it was trained.
        rate: Its rate.
        loss: What came out, minimised; infinite where it diverged.
    """

    trial: int
    sizes: Sizes
    steps: int
    rate: float
    loss: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the proxies say of one parametrization.

    Attributes:
        rule: Its name.
        claims: Whether it says that the best rate stays where it is as these sizes grow.
        optima: One per proxy that has enough trainings, smallest first.
        drift: Doublings of the best rate per doubling of the size, with its interval of 90 percent; None for one size.
        predicted: The best rate at the target; None if refused.
        expected: Loss at the largest proxy that all rules have results for, and what the uncertainty about the target's rate adds to
            it; infinite if refused.
        noise: Standard deviation of that loss over resampled trainings.
        refusal: Why nothing is predicted; empty if something is.
        length: How best rates were brought to the length of the target's training; None where they were not.
        trainings: What all of this is read from.
    """

    rule: str
    claims: bool
    optima: tuple[Optimum, ...] = ()
    drift: tuple[float, float, float] | None = None
    predicted: Prediction | None = None
    expected: float = math.inf
    noise: float = 0.0
    refusal: str = ""
    length: Length | None = None
    trainings: tuple[Training, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Transfer:
    """Settings for the target, or the reason why there are none.

    Attributes:
        scale: What grows.
        objective: What is measured.
        parameter: Name of the rate.
        rule: The parametrization that was chosen; empty if all were refused.
        verdicts: What the proxies say of each parametrization.
        cost: What all trainings of the study cost, in trainings of the target.
        warnings: What the proxies cannot show.
        refusal: Why there are no settings; empty if there are.
    """

    scale: Scale
    objective: Objective
    parameter: str
    rule: str
    verdicts: tuple[Verdict, ...]
    cost: float
    warnings: tuple[str, ...] = ()
    refusal: str = ""
    _settings: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def settings(self) -> dict[str, Any]:
        """Parameters for the target, with the chosen ``rule`` where there were several.

        Raises:
            ConfigError: If the law does not hold; the sentence says where.
        """
        if self.refusal:
            raise ConfigError(self.refusal)
        return dict(self._settings)

    @property
    def verdict(self) -> Verdict:
        """That of the chosen rule.

        Raises:
            ConfigError: If all were refused.
        """
        if self.refusal:
            raise ConfigError(self.refusal)
        return next(v for v in self.verdicts if v.rule == self.rule)

    @property
    def interval(self) -> tuple[float, float]:
        """The rate's interval of 90 percent at the target.

        Raises:
            ConfigError: If there is none.
        """
        found = self.verdict.predicted
        assert found is not None
        return found.low, found.high

    @property
    def why(self) -> str:
        """Why that rule was chosen among several, in a sentence; empty if there was no choice."""
        able = sorted((v for v in self.verdicts if v.predicted is not None), key=lambda v: v.expected)
        if len(self.verdicts) < 2 or not able:
            return ""
        first, sign = able[0], self.objective.sign
        said = f"{first.rule} was chosen: {self.objective.name} {sign * first.expected:.4g} is expected"
        if len(able) < 2:
            return f"{said}, and the other rules were refused."
        second = able[1]
        if not math.isfinite(second.expected):
            return f"{said}, and no other rule has results for the same sizes."
        gap, noise = second.expected - first.expected, math.hypot(first.noise, second.noise)
        apart = f"the next, {second.rule}, has {sign * second.expected:.4g}"
        if gap < Z * noise:
            return f"{said}; {apart}, a difference within the noise of {noise:.2g}."
        return f"{said}; {apart}."

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data; losses in the user's sign, None for what is not known."""
        return {
            "target": {
                "name": named(self.scale.target),
                "sizes": self.scale.target,
                "steps": self.scale.target_steps,
            },
            "objective": self.objective.name,
            "parameter": self.parameter,
            "rule": self.rule,
            "settings": None if self.refusal else self.settings,
            "interval": None if self.refusal else list(self.interval),
            "refusal": self.refusal,
            "why": self.why,
            "cost": self.cost,
            "warnings": list(self.warnings),
            "rules": [self._rule(v) for v in self.verdicts],
        }

    def _rule(self, found: Verdict) -> dict[str, Any]:
        sign = self.objective.sign
        stages = {self.scale.growth(s.sizes): s for s in self.scale.stages}
        return {
            "rule": found.rule,
            "claims": found.claims,
            "refusal": found.refusal,
            "drift": None if found.drift is None else list(found.drift),
            "length": None
            if found.length is None
            else {**found.length._asdict(), "words": str(found.length)},
            "predicted": None if found.predicted is None else found.predicted._asdict(),
            "expected": sign * found.expected if math.isfinite(found.expected) else None,
            "sizes": [
                {
                    "name": stages[o.growth].name,
                    "sizes": stages[o.growth].sizes,
                    "steps": stages[o.growth].steps,
                    "rate": o.rate,
                    "low": o.low,
                    "high": o.high,
                    "loss": sign * o.loss,
                    "count": o.count,
                    "diverged": o.diverged,
                    "edge": o.edge,
                }
                for o in found.optima
            ],
        }

    @property
    def answer(self) -> str:
        """The settings with their interval, or why there are none, in a few sentences."""
        target = named(self.scale.target)
        if self.refusal:
            return f"No settings for {target}: {self.refusal}"
        low, high = self.interval
        settings = ", ".join(f"{k}={_short(v)}" for k, v in self.settings.items() if k != "rule")
        sure = f"{self.parameter} within {low:.3g} to {high:.3g} (90 %)"
        return f"{target}: {settings}, under {self.rule}; {sure}" + (f". {self.why}" if self.why else ".")

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(found: Transfer) -> Iterable[str]:
    yield found.answer
    yield f"  cost of the study: {found.cost:.3g} trainings of the target"
    for v in found.verdicts:
        where = ", ".join(f"{o.rate:.3g} [{o.low:.3g}, {o.high:.3g}]" for o in v.optima)
        drift = "" if v.drift is None else f"; drift {v.drift[0]:+.2f} [{v.drift[1]:+.2f}, {v.drift[2]:+.2f}]"
        yield f"  {v.rule}: best {found.parameter} by size {where or 'unknown'}{drift}" + (
            f"; refused: {v.refusal}" if v.refusal else ""
        )
        if v.length is not None:
            yield f"    length: {v.length}"
    for warning in found.warnings:
        yield f"  note: {warning}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
