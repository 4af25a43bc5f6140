"""Hands over from one method to the next as trials accumulate.

Use when      one method is best while trials are few and another once there are many.
Do not use    to compare methods; run a study each.
Paper         none; a plain schedule of methods.
Differs       the first trial after a handover says in its ``why`` who hands over to whom.
Cost          ask: that of the method in charge. tell: the sum over all methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Start, describe
from tunewright.core.events import Event, Started
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError


@dataclass(slots=True)
class SwitchState:
    """State of every method, and how many trials were started."""

    states: list[Any]
    started: int


@dataclass(frozen=True, slots=True)
class Switch:
    """Methods in order, each in charge until so many trials were started; the last one has no end.

    Args:
        methods: The methods.
        until: Number of trials at which each but the last hands over, ascending.

    Raises:
        ConfigError: If the numbers do not fit the methods.
    """

    methods: tuple[Algorithm[Any], ...]
    until: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.methods) != len(self.until) + 1 or list(self.until) != sorted(set(self.until)):
            raise ConfigError(
                f"Switch needs one ascending number fewer than methods; got {len(self.methods)} methods and {self.until}."
            )

    @property
    def deliberate(self) -> bool:
        """Whether a method thinks for more than a millisecond or so."""
        return any(getattr(m, "deliberate", False) for m in self.methods)

    def init(self, problem: Problem) -> SwitchState:
        """The state before the first event."""
        return SwitchState([m.init(problem) for m in self.methods], 0)

    def tell(self, state: SwitchState, events: Sequence[Event]) -> SwitchState:
        """Every method learns from every trial, whoever proposed it."""
        state.states = [m.tell(s, events) for m, s in zip(self.methods, state.states, strict=True)]
        state.started += sum(isinstance(e, Started) for e in events)
        return state

    def ask(self, state: SwitchState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Actions of the method in charge."""
        index = sum(state.started >= n for n in self.until)
        actions = self.methods[index].ask(state.states[index], slots, rng)
        if state.started not in self.until:
            return actions
        # The first decision of a method says so in the log.
        note = {"switch": f"{describe(self.methods[index - 1])} -> {describe(self.methods[index])}"}
        return tuple(
            msgspec.structs.replace(a, why={**(a.why or {}), **note}) if isinstance(a, Start) else a
            for a in actions
        )
