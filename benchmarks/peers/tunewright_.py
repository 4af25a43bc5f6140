"""Tunewright through its own ask and tell: ``tw_auto``, and ``tw_<method>`` for every method that a name alone makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tunewright as tw
from tunewright.catalog import METHODS

VERSION = "tunewright"


class Ours:
    """A study in memory.

    Args:
        space: The space.
        seed: Seed of the study.
        trials: Number of trials; not told to the method.
        objectives: Number of losses.
        method: Name of the method.
    """

    def __init__(self, space: tw.Space, seed: int, trials: int, objectives: int, method: str) -> None:
        names = [f"loss{i}" for i in range(objectives)]
        self._names = names
        self._study = tw.Study.open(
            "bench",
            space,
            minimize=names[0] if objectives == 1 else names,
            storage="memory",
            method=method,
            seed=seed,
        )

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """The next configuration; raises ``StopIteration`` when the method is finished."""
        trial = self._study.ask()
        if trial is None:
            raise StopIteration
        return trial, trial.params

    def tell(self, handle: Any, losses: Sequence[float]) -> None:
        """Its losses."""
        handle.tell(**dict(zip(self._names, losses, strict=True)))


ADAPTERS: dict[str, tuple[Any, dict[str, Any]]] = {
    f"tw_{name}": (Ours, {"method": name})
    for name in ("auto", *(n for n, entry in METHODS.items() if entry.kind != "policy"))
}
MANY = tuple(ADAPTERS)
