"""FLAML: CFO and BlendSearch, on flat columns, without low-cost starting points or costs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from flaml import CFO, BlendSearch, tune

import tunewright as tw
from benchmarks.peers.flat import active, flat

VERSION = "flaml"
_PATIENCE = 100
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)


class Flaml:
    """A searcher that is asked by hand.

    Args:
        space: The space.
        seed: Seed of the searcher.
        trials: Its number of samples.
        objectives: Number of losses; one.
        searcher: Its class.
    """

    def __init__(self, space: tw.Space, seed: int, trials: int, objectives: int, searcher: Any) -> None:
        self._space, self._flat, self._asked = space, flat(space), 0
        self._searcher = searcher(
            metric="loss",
            mode="min",
            space={f"p{i}": _domain(k, v) for i, (_, k, v) in enumerate(self._flat)},
            num_samples=trials,
            seed=seed,
        )
        # Its global search takes no seed of the constructor's, but NumPy's.
        np.random.seed(seed)  # noqa: NPY002 - the state it draws from

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """The next configuration; raises ``StopIteration`` if it has none, which may pass while others are pending."""
        for _ in range(_PATIENCE):
            name = f"t{self._asked}"
            self._asked += 1
            found = self._searcher.suggest(name)
            if found is not None:
                return (name, found), active(self._space, self._values(found))
        raise StopIteration

    def _values(self, found: dict[str, Any]) -> dict[str, Any]:
        out = {}
        for i, (name, kind, spec) in enumerate(self._flat):
            value = found[f"p{i}"]
            if kind == "choice":
                out[name] = spec[int(value)]
            else:
                value = round(value) if kind.endswith("int") else float(value)
                out[name] = min(max(value, spec[0]), spec[1])
        return out

    def tell(self, handle: Any, losses: Sequence[float]) -> None:
        """Its loss."""
        name, config = handle
        result = {"loss": float(losses[0]), "config": config, "time_total_s": 1.0}
        self._searcher.on_trial_complete(name, result)


def _domain(kind: str, spec: Any) -> Any:
    if kind == "choice":
        return tune.choice(list(range(len(spec))))
    low, high = spec
    made = {
        "float": tune.uniform,
        "logfloat": tune.loguniform,
        "int": tune.randint,
        "logint": tune.lograndint,
    }[kind]
    return made(low, high + 1 if kind.endswith("int") else high)


ADAPTERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "flaml_blend": (Flaml, {"searcher": BlendSearch}),
    "flaml_cfo": (Flaml, {"searcher": CFO}),
}
