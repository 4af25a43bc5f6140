"""What every reader of another tool's studies gives: a study and its trials as plain data, before they become a log."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any, Literal

from tunewright.core.domains import Choice, Domain, Float, Int, plain
from tunewright.core.problem import Goal
from tunewright.core.recorder import union
from tunewright.errors import SpaceError

State = Literal["completed", "stopped", "failed", "running", "waiting"]


@dataclass(slots=True)
class ForeignTrial:
    """A trial as another tool kept it.

    Attributes:
        number: Its number there.
        state: How it stood when it was read.
        params: Its parameters by name.
        values: Its results by metric; not necessarily finite.
        reports: ``(step, metrics)`` of what it reported on the way, in order of step; of ``times`` where it has them.
        times: Seconds since 1970 of each report, or empty where the tool does not keep them.
        attrs: What the user attached to it, as JSON data.
        began: Seconds since 1970, or None where unknown.
        ended: Seconds since 1970, or None where unknown.
        cost: What it cost, in seconds unless the user said otherwise; None for the time between both.
        error: What went wrong.
    """

    number: int
    state: State = "completed"
    params: dict[str, Any] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    reports: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    attrs: dict[str, Any] = field(default_factory=dict)
    began: float | None = None
    ended: float | None = None
    cost: float | None = None
    error: str = ""


@dataclass(slots=True)
class ForeignStudy:
    """A study as another tool kept it.

    Attributes:
        name: Its name there.
        kind: Which tool, such as ``"optuna"``.
        goals: Goal of each objective, by metric.
        domains: What each parameter may be.
        trials: Its trials.
        attrs: What the user attached to the study.
        limits: Largest acceptable value of other metrics.
        at: Seconds since 1970, for trials of which no time is known.
        told: Sentences about what could not be kept as it was.
    """

    name: str
    kind: str
    goals: dict[str, Goal] = field(default_factory=dict)
    domains: dict[str, Domain] = field(default_factory=dict)
    trials: list[ForeignTrial] = field(default_factory=list)
    attrs: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    at: float = 0.0
    told: list[str] = field(default_factory=list)

    def tell(self, sentence: str) -> None:
        """Keeps a sentence about what could not be kept as it was, once."""
        if sentence not in self.told:
            self.told.append(sentence)

    def meet(self, name: str, domain: Domain) -> None:
        """Takes in the range with which a trial met a parameter: ranges grow to cover every trial."""
        known = self.domains.get(name)
        if known is None:
            self.domains[name] = domain
        elif known is not domain:
            self.domains[name] = self._widened(name, known, domain)

    def _widened(self, name: str, known: Domain, domain: Domain) -> Domain:
        try:
            return union(name, known, domain)
        except SpaceError:
            pass
        if isinstance(known, Float | Int) and isinstance(domain, Float | Int):
            self.tell(f"'{name}' changed its scale or step between trials; it became one range without steps")
            low, high = min(known.low, domain.low), max(known.high, domain.high)
            return Float(float(low), float(high), log=known.log and domain.log)
        self.tell(f"'{name}' changed its type between trials; it became a choice of every value that was met")
        return Choice([*dict.fromkeys([*_options(known), *_options(domain)])])


def _options(domain: Domain) -> list[Any]:
    return list(getattr(domain, "options", None) or (domain.low, domain.high))  # type: ignore[union-attr]


def option(value: Any) -> Any:
    """An option as a store keeps it: plain values as they are, others by their printed form."""
    try:
        return plain(value)
    except SpaceError:
        return repr(value)


def seconds_of(text: Any, zone: datetime.tzinfo | None = None) -> float | None:
    """Seconds since 1970 of an ISO time, a number or a datetime; None where it is none of these.

    Args:
        text: The time.
        zone: What a time without an offset is meant in; this machine's zone where it is not given.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        # Milliseconds are what browsers and MLflow write; as seconds they would be after the year 5000.
        return text / 1000 if text > 1e11 else float(text)
    if isinstance(text, str):
        try:
            text = datetime.datetime.fromisoformat(text.strip())
        except ValueError:
            return None
    if not isinstance(text, datetime.datetime):
        return None
    if text.tzinfo is None and zone is not None:
        text = text.replace(tzinfo=zone)
    try:
        return float(text.timestamp())
    except (OverflowError, OSError, ValueError):
        return None
