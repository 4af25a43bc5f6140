"""Forty recorded tuning problems of ten kinds, answered from their tables.

The tables hold what third parties measured (or computed): classifiers, neural networks, GPU kernels, a database,
configurable programs, chemistry, graph networks, reinforcement learning and language models. ``TUNEWRIGHT_DATA`` names
their folder; by default it lies beside the repository, in ``../shared/data``.

A configuration is answered by its own row where there is one, else by the nearest row in codes (unequal options are
at distance 1, and so is a parameter that only one of the two has). Rows without a result are left out.

``pack`` writes a task's table as JSON; where such files lie in ``packed/`` of the data folder, neither the original
tables nor pandas are needed.
"""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.bench.simulate import Floats, Task
from tunewright.bench.tables import folder
from tunewright.core.domains import Bool, Choice, Float, Int, Order
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, MissingExtra

Recorded = Float | Int | Choice | Order | Bool

_FEW = 16
_WIDE = 100.0
_ABSENT = -1.0


@dataclass(frozen=True, slots=True)
class Table:
    """Recorded rows: what was set, and the minimised result.

    Attributes:
        parameters: Columns by name; None where a row lacks the parameter.
        losses: Result of each row, lower is better, shape ``(n,)``.
    """

    parameters: dict[str, list[Any]]
    losses: Floats


def _frame(path: str) -> Any:
    try:
        import pandas
    except ImportError:
        raise MissingExtra(
            'Recorded tasks need pandas and pyarrow; got none. Run: pip install "tunewright[frames]".'
        ) from None
    found = folder("data") / path
    if not found.exists():
        raise ConfigError(
            f"A table must be a file on this machine; got no {path}. Set TUNEWRIGHT_DATA to the folder that holds it."
        )
    return pandas.read_parquet(found)


def _table(frame: Any, columns: list[str], result: str, sign: float) -> Table:
    good = frame[np.isfinite(frame[result].to_numpy(np.float64))]
    parameters = {}
    for name in columns:
        values = good[name].astype(object).tolist()
        parameters[name] = [None if v is None or v != v else v for v in values]
    return Table(parameters, sign * good[result].to_numpy(np.float64))


def _rbv2(task: str) -> Table:
    frame = _frame(f"rbv2_tables/{task}.parquet")
    configs = _frame(f"rbv2_tables/{task}.configs.parquet")
    full = frame[frame["train_frac"] == frame["train_frac"].max()]
    return _table(full.merge(configs, on="config_id"), [c for c in configs if c != "config_id"], "acc", -1.0)


def _lcbench(task: str) -> Table:
    curves, configs = _frame("lcbench_table/curves.parquet"), _frame("lcbench_table/configs.parquet")
    rows = curves[curves["task"].astype(str) == task]
    last = rows[rows["epoch"] == rows["epoch"].max()].merge(configs, on="config_id")
    return _table(last, [c for c in configs if c != "config_id"], "val_accuracy", -1.0)


def _gpu(task: str) -> Table:
    frame = _frame(f"gpu_kernels/{task}.parquet")
    results = {"status", "time_ms", "time_ms_std", "n_obs", "compile_ms", "benchmark_ms"}
    return _table(frame, [c for c in frame if c not in results], "time_ms", 1.0)


def _db(task: str) -> Table:
    frame = _frame(f"db_knobs/{task}.parquet")
    result = str(frame.columns[-1])
    return _table(frame, [c for c in frame if c != result], result, 1.0 if result == "lat" else -1.0)


def _svm(task: str) -> Table:
    frame = _frame("svm_grid/svm.parquet")
    return _table(
        frame[frame["dataset"].astype(str) == task], ["kernel", "C", "gamma", "degree"], "accuracy", -1.0
    )


def _software(task: str) -> Table:
    frame = _frame(f"sw_config/{task}.parquet")
    return _table(frame, [c for c in frame if c != "performance"], "performance", 1.0)


def _chemistry(task: str) -> Table:
    frame = _frame(f"chem_experiments/{task}.parquet")
    result, sign = {"agnp": ("spectrum_score", -1.0), "autoam": ("shape_score", -1.0)}.get(
        task, ("yield", -1.0)
    )
    known = {"spectrum_score", "shape_score", "yield"}
    return _table(frame, [c for c in frame if c not in known], result, sign)


def _graph(task: str) -> Table:
    frame = _frame(f"nas_graph/{task}.parquet")
    return _table(frame, ["link", "op1", "op2", "op3", "op4"], "valid_perf", -1.0)


def _agents(task: str) -> Table:
    curves, configs = (
        _frame(f"rl_arlbench/{task}.curves.parquet"),
        _frame(f"rl_arlbench/{task}.configs.parquet"),
    )
    last = curves[curves["env_steps"] == curves["env_steps"].max()]
    means = last.groupby("config_id", as_index=False)["eval_return"].mean()
    return _table(
        means.merge(configs, on="config_id"), [c for c in configs if c != "config_id"], "eval_return", -1.0
    )


def _language(task: str) -> Table:
    frame = _frame(f"llm_steplaw/{task.partition('_')[0]}.parquet")
    return _table(frame[frame["task"].astype(str) == task], ["lr", "bs"], "smooth_loss", 1.0)


_FAMILIES: dict[str, tuple[Callable[[str], Table], tuple[str, ...]]] = {
    "rbv2": (
        _rbv2,
        (
            "rbv2_aknn__1220",
            "rbv2_aknn__40927",
            "rbv2_glmnet__4154",
            "rbv2_svm__1220",
            "rbv2_svm__40966",
            "rbv2_svm__4134",
        ),
    ),
    "lcbench": (_lcbench, ("146212", "167104", "167168", "167190", "34539")),
    "gpu": (
        _gpu,
        (
            "convolution__RTX_3090",
            "convolution_milo__A100",
            "convolution_milo__MI250X",
            "dedispersion_milo__A100",
            "gemm__RTX_3090",
            "pnpoly__RTX_3090",
        ),
    ),
    "db": (_db, ("JOB_5knob", "SYSBENCH_20knob")),
    "svm": (_svm, ("abalone", "bands", "ecoli", "phoneme", "splice")),
    "software": (_software, ("BDBC", "Dune", "LLVM", "x264")),
    "chemistry": (_chemistry, ("agnp", "autoam", "buchwald_a", "buchwald_c")),
    "graph": (_graph, ("arxiv", "cora", "photo")),
    "agents": (_agents, ("box2d_lunar_lander_dqn", "cc_cartpole_dqn", "cc_pendulum_sac")),
    "language": (_language, ("dense_N215M_D4.0B_h960_l7", "moe_1in89_D4B")),
}
REAL = tuple(f"{family}:{task}" for family, (_, tasks) in _FAMILIES.items() for task in tasks)


def domain_of(values: list[Any]) -> Recorded:
    """A domain that fits recorded values: levels where there are few, else a range, on a log scale if it is wide."""
    plain = [v.item() if isinstance(v, np.generic) else v for v in values if v is not None]
    if all(isinstance(v, bool) for v in plain):
        return Bool() if len(set(plain)) == 2 else Choice(sorted(set(plain)))
    if not all(isinstance(v, int | float) for v in plain):
        return Choice(sorted({str(v) for v in plain}))
    whole = all(float(v).is_integer() for v in plain)
    levels = sorted({int(v) if whole else float(v) for v in plain})
    low, high = levels[0], levels[-1]
    if len(levels) == 1:
        return Choice(levels)
    if len(levels) <= _FEW:
        return Int(int(low), int(high)) if whole and high - low + 1 == len(levels) else Order(levels)
    log = low > 0 and high / low >= _WIDE
    return Int(int(low), int(high), log=log) if whole else Float(float(low), float(high), log=log)


def _plain(domain: Recorded, value: Any) -> Any:
    """A recorded value as the domain writes it."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(domain, Float | Int):
        return float(value) if isinstance(domain, Float) else int(value)
    if isinstance(domain, Bool):
        return bool(value)
    return next(o for o in domain.options if o == value or o == str(value))


def _packed(name: str, home: Path) -> Path:
    return home / "packed" / f"{name.replace(':', '__')}.json.gz"


def pack(name: str, home: Path) -> Path:
    """Writes one of ``REAL`` to ``home/packed``; returns the file.

    Raises:
        ConfigError: If the file of the task is not there.
        MissingExtra: If pandas is not installed.
    """
    table = _read(name)
    parameters = {
        n: [v.item() if isinstance(v, np.generic) else v for v in values]
        for n, values in table.parameters.items()
    }
    path = _packed(name, home)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"parameters": parameters, "losses": table.losses.tolist()})
    path.write_bytes(gzip.compress(content.encode(), mtime=0))
    return path


def _read(name: str) -> Table:
    path = _packed(name, folder("data"))
    if path.exists():
        found = json.loads(gzip.decompress(path.read_bytes()))
        return Table(found["parameters"], np.array(found["losses"], dtype=np.float64))
    family, _, task = name.partition(":")
    return _FAMILIES[family][0](task)


@functools.cache
def real_task(name: str) -> Task:
    """One of ``REAL`` as a task without epochs; a trial takes one second.

    Raises:
        ConfigError: If the name is unknown or the file is not there.
        MissingExtra: If pandas is not installed.
    """
    if name not in REAL:
        raise ConfigError(f"A recorded task must be one of {', '.join(REAL)}; got {name!r}.")
    table = _read(name)
    domains = {n: domain_of(v) for n, v in table.parameters.items()}
    space = Space(domains)
    coders = {n: d.coder()[0] for n, d in domains.items()}
    features = _Features(domains)
    rows = np.array(
        [
            features.of(
                {
                    n: None if v[i] is None else coders[n](_plain(domains[n], v[i]))
                    for n, v in table.parameters.items()
                }
            )
            for i in range(len(table.losses))
        ]
    )
    from scipy.spatial import cKDTree

    tree = cKDTree(rows)
    # A tree is slow among many options. Rows that share a point are left to it, so that both give the same answer.
    exact = {row.tobytes(): i for i, row in enumerate(rows)}
    if len(exact) < len(rows):
        exact = {}

    def curve(config: Mapping[str, Any]) -> tuple[Floats, Floats]:
        point = features.of({n: coders[n](config[n]) for n in domains})
        row = exact.get(point.tobytes())
        return table.losses[[int(tree.query(point)[1]) if row is None else row]], np.ones(1)

    best, usual = float(table.losses.min()), float(np.median(table.losses))
    return Task(name, Problem(space, (Objective("loss"),)), curve, best, usual)


class _Features:
    """Codes as points whose distances are those of the module's docstring."""

    def __init__(self, domains: Mapping[str, Recorded]) -> None:
        self._domains = dict(domains)

    def of(self, codes: Mapping[str, float | None]) -> Floats:
        """A point from the codes by name, None where a row lacks the parameter."""
        out: list[float] = []
        for name, domain in self._domains.items():
            code = codes[name]
            if domain.categorical:
                corner = [0.0] * domain.levels
                if code is not None:
                    corner[min(int(code * domain.levels), domain.levels - 1)] = 0.5**0.5
                out += corner
            else:
                out.append(_ABSENT if code is None else code)
        return np.array(out)
