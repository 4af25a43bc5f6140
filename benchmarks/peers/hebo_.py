"""HEBO: heteroscedastic evolutionary Bayesian optimisation, on flat columns."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from hebo.design_space.design_space import DesignSpace
from hebo.optimizers.hebo import HEBO

import tunewright as tw
from benchmarks.peers.flat import active, flat

VERSION = "HEBO"
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)


class Hebo:
    """An optimizer that is asked by hand.

    Args:
        space: The space.
        seed: Seed of its initial design and, through NumPy's and PyTorch's own, of the rest.
        trials: Number of trials; not told to it.
        objectives: Number of losses; one.
    """

    def __init__(self, space: tw.Space, seed: int, trials: int, objectives: int) -> None:
        np.random.seed(seed)  # noqa: NPY002 - the state it draws from
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self._space, self._flat = space, flat(space)
        parsed = DesignSpace().parse([_parameter(f"p{i}", k, v) for i, (_, k, v) in enumerate(self._flat)])
        self._optimizer = HEBO(parsed, scramble_seed=seed)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """The next configuration."""
        found: pd.DataFrame = self._optimizer.suggest(n_suggestions=1)
        row = found.iloc[0].to_dict()
        out = {}
        for i, (name, kind, spec) in enumerate(self._flat):
            value = row[f"p{i}"]
            if kind == "choice":
                out[name] = spec[int(value)]
            else:
                value = round(value) if kind.endswith("int") else float(value)
                out[name] = min(max(value, spec[0]), spec[1])
        return found, active(self._space, out)

    def tell(self, handle: Any, losses: Sequence[float]) -> None:
        """Its loss."""
        self._optimizer.observe(handle, np.array([[float(losses[0])]]))


def _parameter(name: str, kind: str, spec: Any) -> dict[str, Any]:
    if kind == "choice":
        return {"name": name, "type": "cat", "categories": [str(i) for i in range(len(spec))]}
    shape = {"float": "num", "logfloat": "pow", "int": "int", "logint": "pow_int"}[kind]
    return {"name": name, "type": shape, "lb": spec[0], "ub": spec[1]}


ADAPTERS: dict[str, tuple[Any, dict[str, Any]]] = {"hebo_default": (Hebo, {})}
