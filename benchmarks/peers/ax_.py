"""Ax: its default generation strategy through the client, on flat columns."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

import tunewright as tw
from benchmarks.peers.flat import active, flat

VERSION = "ax-platform"
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)


class Ax:
    """A client in memory.

    Args:
        space: The space.
        seed: Seed of its initial design and of its model.
        trials: Number of trials; not told to it.
        objectives: Number of losses.
    """

    def __init__(self, space: tw.Space, seed: int, trials: int, objectives: int) -> None:
        import torch

        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self._space, self._flat = space, flat(space)
        self._losses = [f"loss{i}" for i in range(objectives)]
        self._client = Client(random_seed=seed)
        self._client.configure_experiment(
            parameters=[
                _parameter(f"p{i}", k, v) for i, (_, k, v) in enumerate(self._flat) if not _fixed(k, v)
            ]
        )
        self._client.configure_optimization(objective=", ".join(f"-{n}" for n in self._losses))
        self._client.configure_generation_strategy(
            initialization_random_seed=seed, allow_exceeding_initialization_budget=True
        )

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """The next configuration; raises ``StopIteration`` when there is none."""
        found = self._client.get_next_trials(max_trials=1)
        if not found:
            raise StopIteration
        ((number, values),) = found.items()
        out = {}
        for i, (name, kind, spec) in enumerate(self._flat):
            if kind == "choice":
                out[name] = spec[0] if _fixed(kind, spec) else spec[int(values[f"p{i}"])]
            else:
                value = spec[0] if _fixed(kind, spec) else values[f"p{i}"]
                out[name] = int(value) if kind.endswith("int") else min(max(float(value), spec[0]), spec[1])
        return number, active(self._space, out)

    def tell(self, handle: Any, losses: Sequence[float]) -> None:
        """Its losses."""
        self._client.complete_trial(handle, dict(zip(self._losses, map(float, losses), strict=True)))


def _fixed(kind: str, spec: Any) -> bool:
    return len(spec) == 1 if kind == "choice" else bool(spec[0] == spec[1])


def _parameter(name: str, kind: str, spec: Any) -> Any:
    if kind == "choice":
        values = [str(i) for i in range(len(spec))]
        return ChoiceParameterConfig(name=name, values=values, parameter_type="str", is_ordered=False)
    scaling = "log" if kind.startswith("log") else "linear"
    number = "int" if kind.endswith("int") else "float"
    return RangeParameterConfig(name=name, bounds=tuple(spec), parameter_type=number, scaling=scaling)


ADAPTERS: dict[str, tuple[Any, dict[str, Any]]] = {"ax_default": (Ax, {})}
MANY = ("ax_default",)
