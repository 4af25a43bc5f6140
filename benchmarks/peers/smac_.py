"""SMAC3: its hyperparameter facade (random forest), with conditions as ConfigSpace knows them left flat."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ConfigSpace as cs  # noqa: N813 - as its documentation does
import smac
from smac.runhistory.dataclasses import TrialValue

import tunewright as tw
from benchmarks.peers.flat import active, flat

VERSION = "smac"
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)


class Smac:
    """A facade that is asked by hand.

    Args:
        space: The space.
        seed: Seed of the scenario.
        trials: Its budget.
        objectives: Number of losses; one.
    """

    def __init__(self, space: tw.Space, seed: int, trials: int, objectives: int) -> None:
        self._space = space
        self._names = {f"p{i}": n for i, (n, _, _) in enumerate(flat(space))}
        self._options: dict[str, list[Any]] = {}
        made = cs.ConfigurationSpace(seed=seed)
        for i, (_, kind, spec) in enumerate(flat(space)):
            key, log = f"p{i}", kind.startswith("log")
            if kind == "choice":
                self._options[key] = spec
                made.add(cs.CategoricalHyperparameter(key, list(range(len(spec)))))
            elif kind.endswith("int"):
                made.add(cs.UniformIntegerHyperparameter(key, *spec, log=log))
            else:
                made.add(cs.UniformFloatHyperparameter(key, *spec, log=log))
        scenario = smac.Scenario(
            made,
            n_trials=trials,
            seed=seed,
            deterministic=True,
            output_directory=Path(tempfile.mkdtemp()),
        )
        self._facade = smac.HyperparameterOptimizationFacade(
            scenario, lambda config, seed=0: 0.0, overwrite=True, logging_level=False
        )

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """The next configuration."""
        info = self._facade.ask()
        values = dict(info.config)
        out = {
            self._names[k]: self._options[k][int(v)]
            if k in self._options
            else getattr(v, "item", lambda v=v: v)()
            for k, v in values.items()
        }
        return info, active(self._space, out)

    def tell(self, handle: Any, losses: Sequence[float]) -> None:
        """Its loss."""
        self._facade.tell(handle, TrialValue(cost=float(losses[0])))


ADAPTERS: dict[str, tuple[Any, dict[str, Any]]] = {"smac_hpo": (Smac, {})}
