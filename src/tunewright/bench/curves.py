"""Trainings by step as tasks: 56 recorded or fitted ones in six suites, the same for every tool.

Five forests of peerbench (``curves``), LCBench (``lcbench``), agents whose returns are noisy and may diverge
(``arlbench``), classifiers by share of the training set (``rbv2``, ``xgb``) and the baseline runs of AlgoPerf
(``algoperf``, five configurations each: a check, no search). The data is not part of the package; see ``bench.tables``.

A configuration has the curve of the nearest recorded one: Euclidean distance between numbers scaled to [0, 1] (on a log
scale where the recorded values are more even there), -1 for a parameter that is switched off, unequal options at
distance 1; of several, the first recorded. Where several runs of a configuration were recorded, one of them is what a
tool sees, and their mean is what it is judged by (``Task.truth``). Metrics that were measured at some steps only keep
the value of the last measurement before the first and until the next.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.bench import tables
from tunewright.bench.simulate import Floats, Task
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.errors import ConfigError, MissingExtra

_SHARES = 20
_SIZES = 50
_EVEN_RATIO = 3.0
_MOST_OPTIONS = 6
_AGENTS = (
    "atari_battle_zone_dqn",
    "atari_phoenix_dqn",
    "atari_qbert_dqn",
    "box2d_bipedal_walker_sac",
    "box2d_lunar_lander_dqn",
    "brax_ant_sac",
    "brax_hopper_sac",
    "cc_cartpole_dqn",
    "cc_cartpole_ppo",
    "cc_mountain_car_dqn",
    "cc_mountain_car_ppo",
    "cc_pendulum_sac",
    "minigrid_door_key_dqn",
    "minigrid_door_key_ppo",
    "minigrid_empty_random_dqn",
    "minigrid_empty_random_ppo",
)
_LCBENCH = (
    "146212", "167104", "167161", "167168", "167184", "167190", "167200", "167201", "168329", "168331", "168335",
    "168868", "189862", "189866", "189905", "189906", "34539",
)  # fmt: skip
_RBV2 = (
    *(f"aknn__{n}" for n in (1220, 40927, 41163, 4134, 4154)),
    *(f"glmnet__{n}" for n in (1220, 41163, 4134, 4154)),
    *(f"svm__{n}" for n in (1220, 40966, 41157, 4134)),
)
_WORKLOADS = ("criteo1tb", "imagenet_resnet", "ogbg", "wmt")
SUITES: dict[str, tuple[str, ...]] = {
    "curves": tables.CURVES,
    "lcbench": _LCBENCH,
    "arlbench": _AGENTS,
    "rbv2": _RBV2,
    "xgb": ("mnist",),
    "algoperf": _WORKLOADS,
}


@dataclass(frozen=True, slots=True)
class Curves:
    """Recorded trainings.

    Attributes:
        parameters: Columns by name, ``n`` values each; None where a row lacks the parameter.
        seen: Metric after each step as a tool sees it, NaN where the training diverged, shape ``(n, t)``.
        truth: Mean of the metric over repetitions, shape ``(n, t)``.
        seconds: Run time of each step, shape ``(n, t)``.
    """

    parameters: dict[str, list[Any]]
    seen: Floats
    truth: Floats
    seconds: Floats


def entries_of(parameters: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The parameters of a space that fits recorded columns, in the form that ``tables.read_space`` takes.

    Text and truth values become options; whole numbers stay whole. A number has a log scale if its recorded values are
    more even there. A parameter that is absent from some rows depends on the first column of few options whose option
    alone says where it is there.

    Raises:
        ConfigError: If no column says why a value is absent.
    """
    out: list[dict[str, Any]] = []
    texts = {name: _options(values) for name, values in parameters.items()}
    for name, values in parameters.items():
        there = [v for v in values if v is not None]
        entry: dict[str, Any] = {
            "name": name,
            "type": "cat",
            "low": None,
            "high": None,
            "log": False,
            "choices": None,
        }
        entry["cond"] = None if len(there) == len(values) else _condition(name, parameters, texts)
        options = texts[name]
        if options is not None:
            entry["choices"] = sorted(set(options) - {None})
        else:
            whole = all(float(v).is_integer() for v in there)
            plain = [int(v) if whole else float(v) for v in there]
            entry |= {"type": "int" if whole else "float", "low": min(plain), "high": max(plain)}
            entry["log"] = _logarithmic(np.array(plain, dtype=np.float64))
        out.append(entry)
    # A parameter comes after the one that it depends on.
    return sorted(out, key=lambda e: e["cond"] is not None)


def _options(values: Sequence[Any]) -> list[str | None] | None:
    """The values as text if they are options, else None; a single number is an option too."""
    there = [v for v in values if v is not None]
    number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in there)
    if number and len(set(there)) > 1:
        return None
    return [None if v is None else str(v) for v in values]


def _condition(
    name: str, parameters: Mapping[str, Sequence[Any]], texts: Mapping[str, list[str | None] | None]
) -> list[Any]:
    there = [v is not None for v in parameters[name]]
    for parent, options in texts.items():
        if options is None or parent == name or not 1 < len(set(options)) <= _MOST_OPTIONS or None in options:
            continue
        on = {o for o, is_there in zip(options, there, strict=True) if is_there}
        if all((o in on) == is_there for o, is_there in zip(options, there, strict=True)):
            return [parent, sorted(o for o in on if o is not None)]
    raise ConfigError(f"An absent value must follow from an option of another column; got none for '{name}'.")


def _logarithmic(values: Floats) -> bool:
    low, high = float(values.min()), float(values.max())
    if low <= 0 or high < _EVEN_RATIO * low:
        return False
    middle = float(np.median(values))
    plain = (middle - low) / (high - low)
    return abs(math.log(middle / low) / math.log(high / low) - 0.5) < abs(plain - 0.5)


class _Points:
    """Configurations as points whose distances are those of the module's docstring."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._entries = entries

    def of(self, config: Mapping[str, Any]) -> list[float]:
        out: list[float] = []
        for entry in self._entries:
            value = config.get(entry["name"])
            if entry["type"] == "cat":
                out += [0.5**0.5 if value == choice else 0.0 for choice in entry["choices"]]
            elif value is None:
                out.append(-1.0)
            elif entry["log"]:
                span = math.log(entry["high"] / entry["low"])
                out.append(math.log(value / entry["low"]) / span)
            else:
                out.append((value - entry["low"]) / (entry["high"] - entry["low"]))
        return out


def task_of(name: str, curves: Curves, objective: Objective, unit: str) -> Task:
    """A task from recorded trainings; ``unit`` is what a step is."""
    entries = entries_of(curves.parameters)
    points = _Points(entries)
    text = {e["name"] for e in entries if e["type"] == "cat"}
    rows = []
    for i in range(len(curves.seen)):
        row = {n: v[i] for n, v in curves.parameters.items() if v[i] is not None}
        rows.append(points.of({n: str(v) if n in text else v for n, v in row.items()}))
    known = np.array(rows)

    def nearest(config: Mapping[str, Any]) -> int:
        return int(((known - points.of(config)) ** 2).sum(axis=1).argmin())

    def curve(config: Mapping[str, Any]) -> tuple[Floats, Floats]:
        row = nearest(config)
        return curves.seen[row], curves.seconds[row]

    def truth(config: Mapping[str, Any]) -> Floats:
        out: Floats = curves.truth[nearest(config)]
        return out

    problem = Problem(tables.read_space(entries), (objective,), Fidelity(curves.seen.shape[1], unit=unit))
    losses = objective.sign * curves.truth
    last = losses[:, -1]
    usual = float(np.median(np.where(np.isfinite(last), last, np.inf)))
    if not math.isfinite(usual) or usual <= np.nanmin(losses):
        usual = float(np.nanmax(losses))
    return Task(name, problem, curve, float(np.nanmin(losses)), usual, truth)


def _read(path: str) -> Any:
    try:
        import pandas
    except ImportError:
        raise MissingExtra(
            'Recorded tasks need pandas and pyarrow; got none. Run: pip install "tunewright[frames]".'
        ) from None
    found = tables.folder("data") / path
    if not found.exists():
        raise ConfigError(
            f"A table must be a file on this machine; got no {path}. Set TUNEWRIGHT_DATA to the folder that holds it."
        )
    return pandas.read_parquet(found)


def _columns(configs: Any, ids: NDArray[Any]) -> dict[str, list[Any]]:
    """Columns of the configurations of the given ids; plain values, None where absent."""
    out: dict[str, list[Any]] = {}
    chosen = configs.set_index("config_id").loc[ids]
    for name in chosen:
        values = [v.item() if isinstance(v, np.generic) else v for v in chosen[name].astype(object)]
        out[str(name)] = [None if v is None or v != v else v for v in values]
    return out


def _last_known(at: Floats, values: Floats, asked: Floats) -> Floats:
    """The value of the last measurement at or before each asked place; of the first, before it."""
    out: Floats = values[np.maximum(np.searchsorted(at, asked + 1e-9, side="right") - 1, 0)]
    return out


def _agents(name: str) -> Task:
    frame = _read(f"rl_arlbench/{name}.curves.parquet").sort_values(["config_id", "seed", "env_steps"])
    ids = frame["config_id"].unique()
    runs = frame["eval_return"].to_numpy(np.float64).reshape(len(ids), frame["seed"].nunique(), -1)
    n, repeats, steps = runs.shape
    seen = runs[np.arange(n), np.arange(n) % repeats]
    finite = np.isfinite(runs)
    count = finite.sum(axis=1)
    mean = np.where(finite, runs, 0.0).sum(axis=1) / np.maximum(count, 1)
    truth = np.where(2 * count >= repeats, mean, np.nan)
    columns = _columns(_read(f"rl_arlbench/{name}.configs.parquet"), ids)
    return task_of(
        name,
        Curves(columns, seen, truth, np.ones((n, steps))),
        Objective("return", "maximize"),
        "tenth of training",
    )


def _classifiers(name: str) -> Task:
    frame = _read(f"rbv2_tables/rbv2_{name}.parquet").sort_values(["config_id", "train_frac"])
    ids = frame["config_id"].unique()
    shares = np.sort(frame["train_frac"].unique()).astype(np.float64)
    values = frame["acc"].to_numpy(np.float64).reshape(len(ids), -1)
    asked = np.arange(1, _SHARES + 1) / _SHARES
    seen = np.array([_last_known(shares, row, asked) for row in values])
    columns = _columns(_read(f"rbv2_tables/rbv2_{name}.configs.parquet"), ids)
    return task_of(
        name,
        Curves(columns, seen, seen, np.ones(seen.shape)),
        Objective("accuracy", "maximize"),
        "twentieth of the data",
    )


def _digits(name: str) -> Task:
    frame = _read("xgb_mnist/evals.parquet").sort_values(["config_id", "train_size"])
    ids = frame["config_id"].unique()
    sizes = np.sort(frame["train_size"].unique()).astype(np.float64)
    errors, clock = (frame[c].to_numpy(np.float64).reshape(len(ids), -1) for c in ("test_error", "time_s"))
    asked = sizes[-1] * np.arange(1, _SIZES + 1) / _SIZES
    seen = np.array([_last_known(sizes, row, asked) for row in errors])
    took = np.array([np.interp(asked, sizes, np.maximum.accumulate(row)) for row in clock])
    seconds = np.maximum(np.diff(took, axis=1, prepend=0.0), 1e-6)
    columns = _columns(_read("xgb_mnist/configs.parquet"), ids)
    return task_of(
        name, Curves(columns, seen, seen, seconds), Objective("errors"), "fiftieth of the training set"
    )


def _workload(name: str) -> Task:
    evals, points = _read("lc_algoperf/evals.parquet"), _read("lc_algoperf/hparams.parquet")
    mine = evals[(evals["ruleset"] == "external_tuning") & (evals["workload"] == name)]
    settings = points[(points["ruleset"] == "external_tuning") & (points["workload"] == name)]
    settings = settings[settings["study"] == settings["study"].min()].rename(columns={"trial": "config_id"})
    ids = np.sort(mine["trial"].unique())
    studies = sorted(mine["study"].unique())
    last = float(mine.groupby(["study", "trial"])["step"].max().min())
    asked = last * np.arange(1, _SHARES + 1) / _SHARES
    losses, clock = np.empty((2, len(ids), len(studies), _SHARES))
    for i, trial in enumerate(ids):
        for j, study in enumerate(studies):
            run = mine[(mine["trial"] == trial) & (mine["study"] == study)].sort_values("step")
            at, took = (run[c].to_numpy(np.float64) for c in ("step", "score"))
            losses[i, j] = _last_known(at, run["validation_loss"].to_numpy(np.float64), asked)
            clock[i, j] = np.interp(asked, at, np.maximum.accumulate(took))
    seconds = np.maximum(np.diff(clock[:, 0], axis=1, prepend=0.0), 1e-6)
    columns = _columns(settings.drop(columns=["ruleset", "study", "workload"]), ids)
    known = {n: v for n, v in columns.items() if None not in v}
    return task_of(
        name,
        Curves(known, losses[:, 0], losses.mean(axis=1), seconds),
        Objective("loss"),
        "twentieth of training",
    )


_MADE: dict[str, Callable[[str], Task]] = {
    "curves": tables.curve_task,
    "lcbench": tables.lcbench_task,
    "arlbench": _agents,
    "rbv2": _classifiers,
    "xgb": _digits,
    "algoperf": _workload,
}


@functools.cache
def suite_task(suite: str, name: str) -> Task:
    """A task of ``SUITES``.

    Raises:
        ConfigError: If the suite or the task is unknown, or its file is not there.
        MissingExtra: If pandas is not installed and the suite is read from tables.
    """
    if name not in SUITES.get(suite, ()):
        raise ConfigError(
            f"A task must be one of {', '.join(f'{s}:{n}' for s, names in SUITES.items() for n in names)}; "
            f"got {suite}:{name}."
        )
    return _MADE[suite](name)


def recorded_times(suite: str) -> bool:
    """Whether the steps of a suite's tasks have recorded run times; else each takes a second."""
    return suite in ("lcbench", "xgb", "algoperf")
