"""How callbacks of training libraries speak to a trial: which metric, under which name, at which step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from tunewright.core.units import whole
from tunewright.errors import ConfigError

__all__ = ["Reporter", "Reports", "pick"]


class Reports(Protocol):
    """What callbacks need of a trial: ``Attempt`` in a training function, or ``Asked`` in a loop of one's own."""

    def report(self, step: int, /, **metrics: Any) -> bool:
        """Reports measurements at a step; returns whether to go on."""
        ...


class Reporter:
    """Reports to a trial every so many rounds, from where an earlier segment ended.

    Args:
        trial: The trial, or None outside of one, where nothing is reported and training goes on.
        metric: Name that the library has for the metric; None for the study's objective.
        name: Name to report it under; None for the study's objective, or the library's name.
        every: Rounds to a step.

    Attributes:
        step: Steps reported, those of earlier segments included.
        stopped: Whether the trial was told to end.

    Raises:
        ConfigError: If ``every`` is not a whole number from 1.
    """

    def __init__(self, trial: Reports | None, metric: str | None, name: str | None, every: int = 1) -> None:
        whole("every", every)
        objectives = list(getattr(trial, "objectives", ()))
        self.trial, self.metric, self.every = trial, metric, every
        self.name = name or (objectives[0] if objectives else metric)
        self.step = int(getattr(trial, "step", 0))
        self.stopped = False
        self._rounds = 0

    def due(self) -> bool:
        """Counts a round; whether a step is complete with it."""
        self._rounds += 1
        return self._rounds % self.every == 0

    def say(self, metrics: Mapping[str, Any], step: int | None = None) -> bool:
        """Reports one step with every finite number in the metrics, the chosen one under its name.

        Returns:
            Whether to go on.

        Raises:
            ConfigError: If the metric is not among them.
        """
        self.step = self.step + 1 if step is None else step
        if self.trial is None:
            return True
        chosen = pick(metrics, self.metric or (self.name if self.name in metrics else None))
        others = {_key(k): v for k, v in metrics.items() if k != chosen and _finite(v)}
        told = {**others, self.name or chosen: float(metrics[chosen])}
        self.stopped = not self.trial.report(self.step, **told)
        return not self.stopped

    @property
    def rest(self) -> int | None:
        """Rounds until the segment ends; None for a training without steps."""
        until = getattr(self.trial, "until", None)
        return None if until is None else max(0, (until - self.step) * self.every)


def pick(metrics: Mapping[str, Any], wanted: str | None) -> str:
    """The wanted metric, or the only one.

    Raises:
        ConfigError: If it is not there, or none is wanted and there are several.
    """
    if wanted is None and len(metrics) == 1:
        return next(iter(metrics))
    if wanted in metrics:
        assert wanted is not None
        return wanted
    there = ", ".join(map(repr, metrics)) or "none"
    if wanted is None:
        raise ConfigError(
            f"A callback needs to know which metric to report; there are {there}. Give metric=..."
        )
    raise ConfigError(
        f"The metric to report must be there; got {wanted!r}, and there are {there}. Correct metric=..."
    )


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _key(name: str) -> str:
    """A metric's name without what would clash with an argument of ``report``."""
    return f"{name}_" if name in ("cost", "variance") else name
