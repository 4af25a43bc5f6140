"""What a search came to, in words: how much the best trial gains over the defaults, and where a range may be too narrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunewright.analysis.pace import number
from tunewright.core.domains import Float, Int
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.core.trial import Ledger, Trial

if TYPE_CHECKING:
    from tunewright.analysis.importance import Importance

_NEAR = 0.02
_IDLE, _DOUBT = 0.05, 0.2
_FEW_LEVELS = range(1, 6)


def defaults_of(ledger: Ledger) -> Trial | None:
    """The trial that tried the defaults, when it completed."""
    position = ledger.keys.get("defaults")
    if position is None or position in ledger.queue:
        return None
    trial = next((t for t in ledger.trials if t.start.queue == position), None)
    return trial if trial is not None and trial.status == "completed" else None


def baseline(ledger: Ledger) -> tuple[Trial, str] | None:
    """The trial to compare with, and what to call it: that of the defaults, else the first completed one."""
    found = defaults_of(ledger)
    if found is not None:
        return found, "your defaults"
    name = ledger.problem.objectives[0].name
    done = next((t for t in ledger.trials if t.status == "completed" and name in t.metrics), None)
    return None if done is None else (done, f"trial {done.number}")


def gain(problem: Problem, trial: Trial, other: Trial, name: str) -> str:
    """How a trial compares with another one; empty when there is nothing to compare.

    Args:
        problem: The problem.
        trial: The trial.
        other: The one to compare with.
        name: What to call that one.
    """
    objective = problem.objectives[0]
    if other is trial or objective.name not in other.metrics or objective.name not in trial.metrics:
        return ""
    before, after = other.metrics[objective.name], trial.metrics[objective.name]
    change = objective.sign * (before - after)
    share = f" ({change / abs(before):.1%})" if before else ""
    return f"{number(abs(change))}{share} {'better' if change >= 0 else 'worse'} than {name}, which got {number(before)}"


@dataclass(frozen=True, slots=True)
class Edge:
    """A parameter that is best near the end of its range.

    Attributes:
        name: The parameter.
        side: ``"lower"`` or ``"upper"``.
        value: Its value in the best trial.
        bound: The bound.
        wider: A bound further out; None where the range ends by nature, such as a share at 0 or 1.
    """

    name: str
    side: str
    value: float
    bound: float
    wider: float | None

    def __str__(self) -> str:
        return (
            f"{self.name}={number(self.value)} is best near its {self.side} bound {number(self.bound)}: "
            f"widen it if that makes sense, and run the same command again"
        )


def at_edge(space: Space, trial: Trial) -> Iterable[Edge]:
    """The parameters that are best near the end of their range, where a wider one may hold something better."""
    for column in space.columns:
        domain, value = column.domain, trial.params.get(column.name)
        if not isinstance(domain, Float | Int) or value is None or domain.count in _FEW_LEVELS:
            continue
        code = domain.coder()[0](value) if domain.contains(value) else 0.5
        if code < _NEAR:
            yield Edge(column.name, "lower", value, domain.low, _further(domain, upper=False))
        elif 1 - code < _NEAR:
            yield Edge(column.name, "upper", value, domain.high, _further(domain, upper=True))


def _further(domain: Float | Int, *, upper: bool) -> float | None:
    """A bound five times as far on a log scale, half the range further on a plain one."""
    low, high = domain.low, domain.high
    bound = high if upper else low
    if domain.log:
        far = bound * 5 if upper else bound / 5
    elif bound == 0 or (upper and low == 0 and high == 1):
        return None
    else:
        far = bound + (high - low) / 2 * (1 if upper else -1)
        far = max(0.0, far) if low >= 0 else far
    if isinstance(domain, Int):
        step = 1 if domain.log else domain.step
        far = low + round((far - low) / step) * step
        far = max(far, 1) if domain.log else far
    far = float(f"{far:.3g}") if isinstance(domain, Float) else int(far)
    return far if far != bound else None


def edges(space: Space, trial: Trial) -> Iterable[str]:
    """The same in sentences."""
    return map(str, at_edge(space, trial))


def idle(found: Sequence[Importance]) -> list[Importance]:
    """The parameters that hardly matter: under a twentieth, and even the upper end of their interval is below a fifth."""
    return [i for i in found if i.value < _IDLE and i.high < _DOUBT] if len(found) > 1 else []
