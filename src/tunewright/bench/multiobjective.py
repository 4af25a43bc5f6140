"""Test problems with several losses whose Pareto fronts are known, and a loop that runs a method on them.

Sources of the definitions: Zitzler, Deb and Thiele 2000, Evol. Comput. 8(2), definitions 4 to 9 (ZDT); Deb, Thiele,
Laumanns and Zitzler 2005, "Scalable Test Problems for Evolutionary Multiobjective Optimization", section 6.7 (DTLZ).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Algorithm, Start, generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Outcome, Started
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.numerics.pareto import hypervolume

Floats = NDArray[np.float64]
Measure = Callable[[Mapping[str, Any]], tuple[Mapping[str, float], float]]

_RESOLUTION = 2000


@dataclass(frozen=True, slots=True)
class Front:
    """A problem with several losses and a known front.

    Attributes:
        name: Name and dimension.
        problem: ``d`` numbers in [0, 1], losses ``f1`` to ``fm``.
        losses: From a point, shape ``(d,)``, to its losses, shape ``(m,)``.
        reference: Worst corner of hypervolumes, shape ``(m,)``.
        volume: Hypervolume of the whole front.
    """

    name: str
    problem: Problem
    losses: Callable[[Floats], Floats]
    reference: Floats
    volume: float

    def measure(self, config: Mapping[str, Any]) -> tuple[dict[str, float], float]:
        """Metrics of a configuration, and its cost: a second."""
        values = self.losses(np.array([config[n] for n in self.problem.space.names]))
        return {f"f{k + 1}": float(v) for k, v in enumerate(values)}, 1.0

    def share(self, losses: Floats) -> float:
        """Hypervolume of some losses, shape ``(n, m)``, in units of that of the front."""
        return hypervolume(losses, self.reference) / self.volume


def _zdt(shape: Callable[[float, float], float]) -> Callable[[Floats], Floats]:
    def losses(x: Floats) -> Floats:
        g = 1.0 + 9.0 * float(x[1:].mean())
        return np.array([x[0], g * shape(float(x[0]), g)])

    return losses


def _zdt3(f: float, g: float) -> float:
    return 1.0 - math.sqrt(f / g) - f / g * math.sin(10.0 * math.pi * f)


def _zdt4(x: Floats) -> Floats:
    y = 10.0 * x[1:] - 5.0
    g = 1.0 + 10.0 * len(y) + float(np.sum(y * y - 10.0 * np.cos(4.0 * np.pi * y)))
    return np.array([x[0], g * (1.0 - math.sqrt(x[0] / g))])


def _zdt6(x: Floats) -> Floats:
    f = 1.0 - math.exp(-4.0 * x[0]) * math.sin(6.0 * math.pi * x[0]) ** 6
    g = 1.0 + 9.0 * float(x[1:].mean()) ** 0.25
    return np.array([f, g * (1.0 - (f / g) ** 2)])


def _dtlz1(m: int) -> Callable[[Floats], Floats]:
    def losses(x: Floats) -> Floats:
        y = x[m - 1 :] - 0.5
        g = 100.0 * (len(y) + float(np.sum(y * y - np.cos(20.0 * np.pi * y))))
        before = np.concatenate([np.cumprod(x[: m - 1])[::-1], [1.0]])
        last = np.concatenate([[1.0], 1.0 - x[: m - 1][::-1]])
        return np.asarray(0.5 * (1.0 + g) * before * last)

    return losses


def _dtlz2(m: int) -> Callable[[Floats], Floats]:
    def losses(x: Floats) -> Floats:
        angle = 0.5 * np.pi * x[: m - 1]
        g = float(np.sum((x[m - 1 :] - 0.5) ** 2))
        before = np.concatenate([np.cumprod(np.cos(angle))[::-1], [1.0]])
        last = np.concatenate([[1.0], np.sin(angle)[::-1]])
        return np.asarray((1.0 + g) * before * last)

    return losses


def curve_of(name: str, resolution: int = _RESOLUTION) -> Floats:
    """Points of the front of a ZDT problem, shape ``(k, 2)``, dominated ones of ``zdt3`` included.

    Args:
        name: ``zdt1`` to ``zdt4`` or ``zdt6``.
        resolution: Number of points.
    """
    f = np.linspace(0.2807753191 if name == "zdt6" else 0.0, 1.0, resolution)
    if name == "zdt3":
        second = 1.0 - np.sqrt(f) - f * np.sin(10.0 * np.pi * f)
    else:
        second = 1.0 - (f * f if name in ("zdt2", "zdt6") else np.sqrt(f))
    return np.column_stack([f, second])


def front_task(name: str, d: int = 0, m: int = 2) -> Front:
    """A problem by name.

    Args:
        name: ``zdt1`` to ``zdt4``, ``zdt6``, ``dtlz1`` or ``dtlz2``.
        d: Dimension; by default 30 or 10 for ZDT, and ``m + 4`` or ``m + 9`` for DTLZ, as published.
        m: Number of losses; ZDT has two.

    Raises:
        ConfigError: If the name, the dimension or the number of losses is not possible.
    """
    sources: dict[str, tuple[int, Callable[[Floats], Floats]]] = {
        "zdt1": (30, _zdt(lambda f, g: 1.0 - math.sqrt(f / g))),
        "zdt2": (30, _zdt(lambda f, g: 1.0 - (f / g) ** 2)),
        "zdt3": (30, _zdt(_zdt3)),
        "zdt4": (10, _zdt4),
        "zdt6": (10, _zdt6),
        "dtlz1": (m + 4, _dtlz1(m)),
        "dtlz2": (m + 9, _dtlz2(m)),
    }
    if name not in sources or m < 2 or (name.startswith("zdt") and m != 2) or 0 < d < m:
        raise ConfigError(
            f"A front must be one of {', '.join(sources)} with d >= m >= 2, and m = 2 for ZDT; got {name}, d={d}, "
            f"m={m}. Correct them."
        )
    usual, losses = sources[name]
    d = d or usual
    if name == "dtlz1":
        reference = np.full(m, 0.6)
        volume = 0.6**m - 0.5**m / math.factorial(m)
    elif name == "dtlz2":
        reference = np.full(m, 1.1)
        volume = 1.1**m - math.pi ** (m / 2.0) / math.gamma(m / 2.0 + 1.0) / 2.0**m
    else:
        # Wide enough for the first random points to count.
        reference = np.full(2, 11.0)
        volume = hypervolume(curve_of(name, 200_000), reference)
    objectives = tuple(Objective(f"f{k + 1}") for k in range(m))
    problem = Problem(Space({f"x{i}": Float(0.0, 1.0) for i in range(d)}), objectives)
    return Front(f"{name}_{d}d_{m}", problem, losses, reference, volume)


def run_trials(
    algorithm: Algorithm[Any],
    problem: Problem,
    measure: Measure,
    *,
    seed: int,
    trials: int,
    budget: float = math.inf,
) -> tuple[list[dict[str, Any]], Floats, Floats]:
    """One trial after another, each completed at once.

    Args:
        algorithm: What decides.
        problem: What is to be minimised.
        measure: From a configuration to its metrics and its cost in seconds.
        seed: Seed of the study.
        trials: Most trials.
        budget: Seconds after which no trial begins.

    Returns:
        Configurations, minimised losses ``(n, m)`` and costs in seconds ``(n,)``, in order; a trial without usable
        metrics has NaN losses.
    """
    problem = replace(problem, seed=seed)
    state = algorithm.init(problem)
    configs: list[dict[str, Any]] = []
    losses: list[tuple[float, ...]] = []
    costs: list[float] = []
    while len(configs) < trials and math.fsum(costs) < budget:
        number = len(configs)
        actions = algorithm.ask(state, 1, generator(seed, number))
        if not actions:
            break
        action = actions[0]
        assert isinstance(action, Start)
        metrics, cost = measure(action.config)
        values = problem.losses(metrics)
        outcome: Outcome = "failed" if values is None else "completed"
        state = algorithm.tell(
            state,
            [
                Started(number, action.config, why=action.why),
                Ended(number, 0, outcome, dict(metrics), cost=cost),
            ],
        )
        configs.append(action.config)
        losses.append(values if values is not None else (math.nan,) * problem.m)
        costs.append(cost)
    return configs, np.array(losses, dtype=np.float64).reshape(-1, problem.m), np.array(costs)
