"""Recorded trainings as tasks: forests fitted to real tuning runs, and the learning curves of LCBench.

The data is not part of the package. ``TUNEWRIGHT_PEERBENCH`` and ``TUNEWRIGHT_DATA`` name its folders; by default
they lie beside the repository, in ``../shared/peerbench`` and ``../shared/data``.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.bench.simulate import Floats, Task
from tunewright.core.domains import Choice, Domain, Float, Int
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, MissingExtra

CURVES = ("mlp_digits", "mlp_diabetes", "mlp_breast_cancer", "hgbmf_diabetes", "hgbmf_breast_cancer")
POINTS = (
    "svm_digits",
    "svm_breast_cancer",
    "rf_diabetes",
    "rf_wine",
    "hgb_breast_cancer",
    "hgb_diabetes",
    "mlp_digits",
    "mlp_diabetes",
)
LCBENCH = Space(
    batch_size=Int(16, 512, log=True),
    learning_rate=Float(1e-4, 1e-1, log=True),
    momentum=Float(0.1, 0.99),
    weight_decay=Float(1e-5, 1e-1),
    num_layers=Int(1, 5),
    max_units=Int(64, 1024, log=True),
    max_dropout=Float(0.0, 1.0),
)


def folder(name: str) -> Path:
    """Folder of ``"peerbench"`` or ``"data"``, whether or not it exists."""
    beside = Path(__file__).resolve().parents[4] / "shared" / name
    return Path(os.environ.get(f"TUNEWRIGHT_{name.upper()}") or beside)


def _found(path: Path, variable: str) -> Path:
    if not path.exists():
        raise ConfigError(
            f"A table must be a file on this machine; got no {path.name} in {path.parent}. Set {variable} to the "
            f"folder that holds it."
        )
    return path


def read_space(entries: Sequence[Mapping[str, Any]]) -> Space:
    """A space from the list of parameters that a peerbench file carries."""
    parameters: dict[str, Domain] = {}
    when: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name = entry["name"]
        if entry["type"] == "cat":
            parameters[name] = Choice(entry["choices"])
        elif entry["type"] == "int":
            parameters[name] = Int(entry["low"], entry["high"], log=entry["log"])
        else:
            parameters[name] = Float(entry["low"], entry["high"], log=entry["log"])
        if entry["cond"]:
            parent, values = entry["cond"]
            when[name] = {parent: list(values)}
    return Space(parameters, when=when)


def write_space(space: Space) -> list[dict[str, Any]]:
    """The list of parameters that ``read_space`` reads; of whole numbers, numbers and options, with plain conditions.

    Raises:
        ConfigError: If the space has other domains, nested spaces, or conditions on several parameters.
    """
    out: list[dict[str, Any]] = []
    for name, domain in space.domains.items():
        given = space.when.get(name, {})
        flat = not isinstance(domain, Choice) or not any(domain.branches)
        if not isinstance(domain, Float | Int | Choice) or not flat or len(given) > 1:
            raise ConfigError(
                f"A plain list of parameters takes Float, Int and Choice under at most one condition; got '{name}': "
                f"{domain!r:.80}. Flatten the space."
            )
        cond = [[p, v if isinstance(v, list) else [v]] for p, v in given.items()]
        entry: dict[str, Any] = {"name": name, "type": "cat", "low": None, "high": None, "log": False}
        if isinstance(domain, Float | Int):
            entry |= {"type": "int" if isinstance(domain, Int) else "float"}
            entry |= {"low": domain.low, "high": domain.high, "log": domain.log}
        choices = list(domain.options) if isinstance(domain, Choice) else None
        out.append({**entry, "choices": choices, "cond": cond[0] if cond else None})
    return out


class Forest:
    """An ensemble of regression trees stored as arrays, over the parameters of a space.

    Args:
        path: A peerbench ``.npz`` file.

    Attributes:
        space: The parameters it was fitted on.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            self._feature: NDArray[np.int32] = arrays["feature"]
            self._threshold: Floats = arrays["threshold"]
            self._children = np.stack([arrays["right"], arrays["left"]], axis=1).astype(np.int64)
            self._value: NDArray[np.float32] = arrays["value"]
            self._roots: NDArray[np.int64] = arrays["roots"].astype(np.int64)
            self._entries: list[dict[str, Any]] = json.loads(str(arrays["space"]))
        self.space = read_space(self._entries)

    def features(self, config: Mapping[str, Any]) -> Floats:
        """What the trees split on: numbers scaled to [0, 1], -1 where inactive, and one 0/1 column per option."""
        out: list[float] = []
        for entry in self._entries:
            value = config.get(entry["name"])
            if entry["type"] == "cat":
                out += [float(value == choice) for choice in entry["choices"]]
            elif value is None:
                out.append(-1.0)
            elif entry["log"]:
                low, high = math.log(entry["low"]), math.log(entry["high"])
                out.append((math.log(value) - low) / (high - low))
            else:
                out.append((value - entry["low"]) / (entry["high"] - entry["low"]))
        return np.array(out)

    def __call__(self, config: Mapping[str, Any]) -> Floats:
        """Mean prediction of the trees, shape ``(t,)``."""
        x = self.features(config)
        node = self._roots
        while True:
            left = (x[self._feature[node]] <= self._threshold[node]).astype(np.int64)
            below: NDArray[np.int64] = self._children[node, left]
            if np.array_equal(below, node):
                out: Floats = self._value[node].mean(axis=0, dtype=np.float64)
                return out
            node = below


@functools.cache
def _forest(path: Path) -> Forest:
    return Forest(_found(path, "TUNEWRIGHT_PEERBENCH"))


@functools.cache
def _references() -> dict[str, dict[str, float]]:
    path = _found(folder("peerbench") / "tables" / "refs.json", "TUNEWRIGHT_PEERBENCH")
    data: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
    return data


def curve_task(name: str, low: int = 1) -> Task:
    """A forest that predicts the validation loss after each of 81 epochs; an epoch takes one second.

    Args:
        name: One of ``CURVES``.
        low: Fewest epochs after which a result means something.

    Raises:
        ConfigError: If the file is not there.
    """
    forest = _forest(folder("peerbench") / "tables" / f"{name}_curve.npz")
    reference = _references()[f"mf:{name}"]
    ones = np.ones(81)
    problem = Problem(forest.space, fidelity=Fidelity(81, low, "epoch"))
    return Task(name, problem, lambda c: (forest(c), ones), reference["best"], reference["median"])


def point_task(name: str) -> Task:
    """A forest that predicts the validation loss of a full training, which takes one second.

    Args:
        name: One of ``POINTS``.

    Raises:
        ConfigError: If the file is not there.
    """
    forest = _forest(folder("peerbench") / "tables" / f"{name}.npz")
    reference = _references()[name]
    one = np.ones(1)
    problem = Problem(forest.space)
    return Task(name, problem, lambda c: (forest(c), one), reference["best"], reference["median"])


@functools.cache
def _lcbench() -> tuple[Any, Any]:
    try:
        import pandas
    except ImportError:
        raise MissingExtra(
            "LCBench tables need pandas and pyarrow; got none. Install tunewright[frames]."
        ) from None
    home = folder("data") / "lcbench_table"
    curves = pandas.read_parquet(_found(home / "curves.parquet", "TUNEWRIGHT_DATA"))
    return pandas.read_parquet(home / "configs.parquet").set_index("config_id"), curves


def lcbench_names() -> tuple[str, ...]:
    """Names of the LCBench tasks at hand.

    Raises:
        ConfigError: If the files are not there.
        MissingExtra: If pandas is not installed.
    """
    return tuple(sorted(map(str, _lcbench()[1]["task"].unique())))


@functools.cache
def lcbench_task(name: str) -> Task:
    """Validation error in percent over 50 epochs, with the seconds that each epoch took.

    A configuration has the curve of the nearest of the 500 recorded ones, by Euclidean distance of codes.

    Args:
        name: One of ``lcbench_names()``.

    Raises:
        ConfigError: If the files are not there.
        MissingExtra: If pandas is not installed.
    """
    configs, curves = _lcbench()
    rows = curves[curves["task"].astype(str) == name].sort_values(["config_id", "epoch"])
    if not len(rows):
        raise ConfigError(f"An LCBench task must be one of {', '.join(lcbench_names())}; got {name!r}.")
    ids = rows["config_id"].unique()
    shape = (len(ids), -1)
    errors = 100.0 - rows["val_accuracy"].to_numpy(np.float64).reshape(shape)
    clock = rows["time"].to_numpy(np.float64).reshape(shape)
    seconds = np.maximum(np.diff(clock, axis=1, prepend=0.0), 1e-6)
    known = np.array([LCBENCH.encode(c) for c in configs.loc[ids].astype(object).to_dict("records")])

    def curve(config: Mapping[str, Any]) -> tuple[Floats, Floats]:
        nearest = int(((known - LCBENCH.encode(config)) ** 2).sum(axis=1).argmin())
        return errors[nearest], seconds[nearest]

    problem = Problem(LCBENCH, (Objective("loss", unit="%"),), Fidelity(errors.shape[1], unit="epoch"))
    return Task(name, problem, curve, float(errors.min()), float(np.median(errors[:, -1])))
