"""COCO's functions as tasks: bbob, bbob-mixint with integers, bbob-biobj with two losses. Needs ``coco-experiment``.

Hansen et al. 2021, "COCO: a platform for comparing continuous optimizers in a black-box setting", Optim. Methods
Softw. 36(1); Tusar, Brockhoff and Hansen 2019 (GECCO) for bbob-mixint; Brockhoff, Auger, Hansen and Tusar 2022, Evol.
Comput. 30(2) for bbob-biobj.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.bench.simulate import Floats, Task
from tunewright.core.domains import Domain, Float, Int
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import MissingExtra
from tunewright.numerics.pareto import hypervolume, nondominated

BBOB = (1, 3, 8, 10, 15, 20, 22)
MIXINT = (1, 8, 15)
BIOBJ = (1, 11, 21, 35, 46, 55)
_RANDOM = 1000
_SEARCH = 4000
_FRONT = 20_000
# Lowest values seen in ten dimensions by searches of many thousand evaluations; the optimum itself is not published.
_LOWEST = {(1, 10): 79.48, (8, 10): 1.4915, (15, 10): 104.2862}


def _cocoex() -> Any:
    try:
        import cocoex
        import cocoex.bare_problem
    except ImportError:
        raise MissingExtra(
            'COCO functions need coco-experiment; got none. Run: pip install "tunewright[bench]".'
        ) from None
    return cocoex


def _usual(space: Space, loss: Any) -> tuple[float, float]:
    """Lowest and median loss of random configurations."""
    draws = space.sample(np.random.default_rng(12345), _RANDOM)
    losses = [loss(space.decode(row)) for row in draws]
    return float(np.min(losses)), float(np.median(losses))


@functools.cache
def bbob_task(function: int, d: int, instance: int = 1) -> Task:
    """A bbob function on its box, [-5, 5] in every parameter.

    Args:
        function: 1 to 24.
        d: 2, 3, 5, 10, 20 or 40.
        instance: Moves and turns the function.

    Raises:
        MissingExtra: If coco-experiment is not installed.
    """
    problem = _cocoex().bare_problem.BareProblem("bbob", function, d, instance)
    names = [f"x{i}" for i in range(d)]

    def loss(config: Mapping[str, Any]) -> float:
        return float(problem([config[n] for n in names]))

    space = Space({n: Float(-5.0, 5.0) for n in names})
    return _task(f"bbob_f{function}_d{d}", space, loss, float(problem.best_value()))


@functools.cache
def mixint_task(function: int, d: int, instance: int = 1) -> Task:
    """A bbob-mixint function: four fifths of the parameters are integers with 2 to 16 values.

    Its optimum is known to no one, so regret is against the best of a long search by mutation from a fixed seed.

    Args:
        function: 1 to 24.
        d: 5, 10, 20, 40, 80 or 160.
        instance: Moves the function.

    Raises:
        MissingExtra: If coco-experiment is not installed.
    """
    options = f"dimensions:{d} function_indices:{function} instance_indices:{instance}"
    suite = _cocoex().Suite("bbob-mixint", "", options)
    problem = suite[0]
    names = [f"x{i}" for i in range(d)]
    whole = problem.number_of_integer_variables
    domains: dict[str, Domain] = {}
    for i, (low, high) in enumerate(zip(problem.lower_bounds, problem.upper_bounds, strict=True)):
        domains[names[i]] = Int(int(low), int(high)) if i < whole else Float(float(low), float(high))
    space = Space(domains)

    def loss(config: Mapping[str, Any], _kept: Any = suite) -> float:
        # The problem is the suite's: it must live as long.
        return float(problem(np.array([config[n] for n in names], dtype=np.float64)))

    lowest = _LOWEST.get((function, d), np.inf) if instance == 1 else np.inf
    return _task(f"mixint_f{function}_d{d}", space, loss, min(lowest, _searched(space, loss)))


@dataclass(frozen=True, slots=True)
class Biobjective:
    """Two losses, scaled so that the ideal point is (0, 0) and the nadir (1, 1).

    Args:
        name: Shown in tables.
        problem: Two objectives, no fidelity.
        losses: From a configuration to its losses, shape ``(2,)``.
        volume: Largest hypervolume known below the nadir.
    """

    name: str
    problem: Problem
    losses: Callable[[Mapping[str, Any]], Floats]
    volume: float

    def regret(self, losses: Floats) -> float:
        """Share of the known hypervolume that points, shape ``(n, 2)``, lack; 1 while none is below the nadir."""
        return float(np.clip(1.0 - hypervolume(losses, np.ones(2)) / self.volume, 0.0, 1.0))


@functools.cache
def biobj_task(function: int, d: int, instance: int = 1) -> Biobjective:
    """A bbob-biobj function on [-5, 5] in every parameter, where the optima of both of its halves lie.

    COCO's own box is [-100, 100]: a few hundred evaluations from anywhere in it would measure the way to the region of
    interest only. The front is not published, so regret is against a long search by mutation from a fixed seed.

    Args:
        function: 1 to 92.
        d: 2, 3, 5, 10, 20 or 40.
        instance: Moves and turns the functions.

    Raises:
        MissingExtra: If coco-experiment is not installed.
    """
    cocoex = _cocoex()
    suite = cocoex.Suite(
        "bbob-biobj", "", f"dimensions:{d} function_indices:{function} instance_indices:{instance}"
    )
    problem = suite[0]
    halves = re.findall(r"bbob_f(\d+)_i(\d+)_d\d+", problem.name)
    ideal = np.array(
        [cocoex.bare_problem.BareProblem("bbob", int(f), d, int(i)).best_value() for f, i in halves]
    )
    span = np.asarray(problem.largest_fvalues_of_interest, dtype=np.float64) - ideal
    names = [f"x{i}" for i in range(d)]

    def losses(config: Mapping[str, Any], _kept: Any = suite) -> Floats:
        # The problem is the suite's: it must live as long.
        out: Floats = (problem([config[n] for n in names]) - ideal) / span
        return out

    space = Space({n: Float(-5.0, 5.0) for n in names})
    both = (Objective("loss0"), Objective("loss1"))
    volume = hypervolume(_front(space, losses), np.ones(2))
    return Biobjective(f"biobj_f{function}_d{d}", Problem(space, both), losses, volume)


def _front(space: Space, losses: Callable[[Mapping[str, Any]], Floats]) -> Floats:
    """Undominated losses, shape ``(n, 2)``, of a search by mutation of undominated points on every scale."""
    rng = np.random.default_rng(54321)
    rows = space.sample(rng, 20)
    found = np.array([losses(space.decode(row)) for row in rows])
    for _ in range(_FRONT):
        change = rng.random(space.d) < max(1.0 / space.d, rng.random() ** 2)
        step = change * 10.0 ** rng.uniform(-3.5, -0.3) * rng.standard_normal(space.d)
        row = np.clip(rows[rng.integers(len(rows))] + step, 0.0, 1.0)
        value = losses(space.decode(row))
        if not (found <= value).all(axis=1).any():
            kept = ~(value <= found).all(axis=1)
            rows, found = np.vstack([rows[kept], row]), np.vstack([found[kept], value])
    out: Floats = found[nondominated(found)]
    return out


def _task(name: str, space: Space, loss: Any, best: float) -> Task:
    def curve(config: Mapping[str, Any]) -> tuple[Floats, Floats]:
        return np.array([loss(config)]), np.ones(1)

    lowest, usual = _usual(space, loss)
    return Task(name, Problem(space), curve, min(best, lowest), usual)


def _searched(space: Space, loss: Any) -> float:
    """The best of a (1 + 1) search in codes with steps on every scale, restarted from four random points."""
    rng = np.random.default_rng(54321)
    best = np.inf
    for _ in range(4):
        row = space.sample(rng, 1)
        here = loss(space.decode(row[0]))
        for _ in range(_SEARCH // 4):
            change = rng.random(space.d) < max(1.0 / space.d, rng.random() ** 2)
            step = change * 10.0 ** rng.uniform(-3.5, 0.0) * rng.standard_normal(space.d)
            trial = space.snap(np.clip(row + step, 0.0, 1.0))
            value = loss(space.decode(trial[0]))
            if value <= here:
                row, here = trial, value
        best = min(best, here)
    return float(best)
