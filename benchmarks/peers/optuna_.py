"""Optuna: TPE (which counts pending trials as bad by default), multivariate TPE, its Gaussian process, CMA-ES, NSGA-II."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import optuna

import tunewright as tw

VERSION = "optuna"
optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.simplefilter("ignore")


class Optuna:
    """A study in memory, define by run, so that conditions are known to it.

    Args:
        space: The space.
        seed: Seed of the sampler.
        trials: Number of trials.
        objectives: Number of losses.
        sampler: Name of the sampler's class.
        settings: Its settings.
    """

    def __init__(
        self, space: tw.Space, seed: int, trials: int, objectives: int, sampler: str, **settings: Any
    ) -> None:
        self._space = space
        made = getattr(optuna.samplers, sampler)(seed=seed, **settings)
        self._study = optuna.create_study(directions=["minimize"] * objectives, sampler=made)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """The next configuration."""
        trial = self._study.ask()
        config: dict[str, Any] = {}
        codes: list[float] = []
        for column in self._space.columns:
            on = all(codes[g.column] == codes[g.column] and g.open_one(codes[g.column]) for g in column.gates)
            if on:
                config[column.name] = _suggest(trial, column.name, column.domain)
            codes.append(column.domain.coder()[0](config[column.name]) if on else float("nan"))
        return trial, config

    def tell(self, handle: Any, losses: Sequence[float]) -> None:
        """Its losses."""
        self._study.tell(handle, list(losses))


def _suggest(trial: Any, name: str, domain: Any) -> Any:
    if isinstance(domain, tw.Float):
        return trial.suggest_float(name, domain.low, domain.high, log=domain.log, step=domain.step)
    if isinstance(domain, tw.Int):
        step = 1 if domain.log else domain.step
        return trial.suggest_int(name, domain.low, domain.high, log=domain.log, step=step)
    if isinstance(domain, tw.Order):
        return domain.options[trial.suggest_int(name, 0, len(domain.options) - 1)]
    options = [False, True] if isinstance(domain, tw.Bool) else list(domain.options)
    return trial.suggest_categorical(name, options)


ADAPTERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "optuna_tpe": (Optuna, {"sampler": "TPESampler"}),
    "optuna_tpe_mv": (Optuna, {"sampler": "TPESampler", "multivariate": True, "group": True}),
    "optuna_gp": (Optuna, {"sampler": "GPSampler"}),
    "optuna_cma": (Optuna, {"sampler": "CmaEsSampler"}),
    "optuna_nsga2": (Optuna, {"sampler": "NSGAIISampler"}),
}
MANY = ("optuna_tpe", "optuna_gp", "optuna_nsga2")
