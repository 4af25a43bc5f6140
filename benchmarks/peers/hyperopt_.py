"""Hyperopt: its tree-structured Parzen estimator, on flat columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hyperopt
import numpy as np
from hyperopt import hp

import tunewright as tw
from benchmarks.peers.flat import active, flat

VERSION = "hyperopt"


class Hyperopt:
    """A ``Trials`` object that is asked by hand.

    Args:
        space: The space.
        seed: Seed of the sampler.
        trials: Number of trials.
        objectives: Number of losses; one.
    """

    def __init__(self, space: tw.Space, seed: int, trials: int, objectives: int) -> None:
        self._space, self._flat = space, flat(space)
        self._domain = hyperopt.base.Domain(lambda c: 0.0, {n: _label(n, k, v) for n, k, v in self._flat})
        self._trials = hyperopt.Trials()
        self._rng = np.random.default_rng(seed)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """The next configuration."""
        ids = self._trials.new_trial_ids(1)
        self._trials.refresh()
        found = hyperopt.tpe.suggest(ids, self._domain, self._trials, int(self._rng.integers(2**31 - 1)))
        values = {k: v[0] for k, v in found[0]["misc"]["vals"].items()}
        out = {}
        for name, kind, spec in self._flat:
            value = values[name]
            if kind == "choice":
                out[name] = spec[int(value)]
            elif kind == "logint":
                out[name] = int(min(max(round(float(value)), spec[0]), spec[1]))
            else:
                out[name] = int(value) if kind == "int" else float(min(max(value, spec[0]), spec[1]))
        return found[0], active(self._space, out)

    def tell(self, handle: Any, losses: Sequence[float]) -> None:
        """Its loss."""
        handle["state"] = hyperopt.JOB_STATE_DONE
        handle["result"] = {"loss": losses[0], "status": hyperopt.STATUS_OK}
        self._trials.insert_trial_docs([handle])
        self._trials.refresh()


def _label(name: str, kind: str, spec: Any) -> Any:
    if kind == "choice":
        return hp.choice(name, spec)
    low, high = spec
    if kind == "float":
        return hp.uniform(name, low, high)
    if kind == "logfloat":
        return hp.loguniform(name, np.log(low), np.log(high))
    if kind == "int":
        return hp.uniformint(name, low, high)
    return hp.qloguniform(name, np.log(low), np.log(high), 1)


ADAPTERS: dict[str, tuple[Any, dict[str, Any]]] = {"hyperopt_tpe": (Hyperopt, {})}
