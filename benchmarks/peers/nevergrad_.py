"""Nevergrad: NGOpt and its one-fifth-rule evolution, on flat columns."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import nevergrad as ng

import tunewright as tw
from benchmarks.peers.flat import active, flat

VERSION = "nevergrad"
warnings.simplefilter("ignore")


class Nevergrad:
    """An optimizer of its registry.

    Args:
        space: The space.
        seed: Seed of the optimizer.
        trials: Its budget.
        objectives: Number of losses; one.
        optimizer: Name in the registry.
    """

    def __init__(self, space: tw.Space, seed: int, trials: int, objectives: int, optimizer: str) -> None:
        self._space = space
        made = ng.p.Dict(**{n: _parameter(k, v) for n, k, v in flat(space)})
        made.random_state.seed(seed)
        self._optimizer = ng.optimizers.registry[optimizer](parametrization=made, budget=trials)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """The next configuration."""
        found = self._optimizer.ask()
        return found, active(self._space, dict(found.value))

    def tell(self, handle: Any, losses: Sequence[float]) -> None:
        """Its loss."""
        self._optimizer.tell(handle, float(losses[0]))


def _parameter(kind: str, spec: Any) -> Any:
    if kind == "choice":
        return ng.p.Choice(spec)
    low, high = spec
    if kind.startswith("log"):
        made = ng.p.Log(lower=low, upper=high)
    else:
        made = ng.p.Scalar(lower=low, upper=high)
    return made.set_integer_casting() if kind.endswith("int") else made


ADAPTERS: dict[str, tuple[Any, dict[str, Any]]] = {"nevergrad_ngopt": (Nevergrad, {"optimizer": "NGOpt"})}
