"""The algorithm protocol: a fold over the log, and a question about the result.

``tell`` takes in facts and returns the new state; the old value must not be used again, so arrays may be updated
in place. ``ask`` proposes actions and changes nothing. Accepted actions come back through ``tell`` as events.
Randomness is addressed, not carried: the generator of a decision is made from the study's seed and the number of
decisions before it, so any process takes the same decision at the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from tunewright.core.events import Event
from tunewright.core.problem import Problem


class Start(msgspec.Struct, frozen=True, gc=False):
    """Start a new trial.

    Attributes:
        config: Its parameters.
        until: Step at which its first segment ends; None runs it to its end.
        parent: ``(trial, step)`` whose checkpoint it starts from.
        why: Scalars that explain the decision.
    """

    config: dict[str, Any]
    until: int | None = None
    parent: tuple[int, int] | None = None
    why: dict[str, Any] | None = None


class Resume(msgspec.Struct, frozen=True, gc=False):
    """Continue a paused trial until step ``until``."""

    trial: int
    until: int | None = None
    why: dict[str, Any] | None = None


class Pause(msgspec.Struct, frozen=True, gc=False):
    """Pause a running trial at its next report."""

    trial: int
    why: dict[str, Any] | None = None


class Stop(msgspec.Struct, frozen=True, gc=False):
    """Stop a running or paused trial for good."""

    trial: int
    why: dict[str, Any] | None = None


Action = Start | Resume | Pause | Stop
S = TypeVar("S")


class Algorithm(Protocol[S]):
    """What every sampler and scheduler is: frozen hyper-hyperparameters and three functions.

    An algorithm that thinks for more than a millisecond or so sets ``deliberate = True``: its decisions are then
    taken outside the store's write lock. One that wants the last loss of every trial, however far it was trained, sets
    ``mixes_levels = True``: inside a scheduler it then has one state, not one per level.

    One whose state may follow from the problem and the number of trials alone has a method
    ``shortcut(problem, trials, edited)``, which returns that state, or None where it must hear the log after all;
    ``edited`` says that the space had other versions. Long studies then go on without their log being read.
    """

    def init(self, problem: Problem) -> S:
        """The state before the first event.

        Raises:
            UnsupportedError: If this method cannot handle the problem.
        """
        ...

    def tell(self, state: S, events: Sequence[Event]) -> S:
        """The state after more events; O(len(events)). ``state`` must not be used afterwards."""
        ...

    def ask(self, state: S, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Actions to take now: at most ``slots`` starts and resumes; ``state`` stays as it is.

        With free slots and nothing running, no action means that the method is finished.
        """
        ...


_MASK = (1 << 64) - 1


def generator(seed: int, index: int, purpose: int = 0) -> np.random.Generator:
    """The generator of one decision: a Philox counter stream, independent of every other decision's.

    Args:
        seed: Seed of the study.
        index: Number of decisions before this one.
        purpose: Tells apart streams that are needed at the same place.

    Source: Salmon et al. 2011 (SC'11), Philox-4x64-10.
    """
    return np.random.Generator(np.random.Philox(key=seed | (purpose << 64), counter=(index & _MASK) << 128))


def describe(algorithm: Any) -> str:
    """Short name of an algorithm for the log: its class, and what it wraps."""
    name = type(algorithm).__name__.lower()
    inner = getattr(algorithm, "sampler", None)
    return f"{name}({describe(inner)})" if inner is not None else name
