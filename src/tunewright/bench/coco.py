"""COCO's functions as tasks: bbob, and bbob-mixint with integers. Needs ``coco-experiment``.

Hansen et al. 2021, "COCO: a platform for comparing continuous optimizers in a black-box setting", Optim. Methods
Softw. 36(1); Tusar, Brockhoff and Hansen 2019 (GECCO) for bbob-mixint.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from tunewright.bench.simulate import Floats, Task
from tunewright.core.domains import Domain, Float, Int
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import MissingExtra

BBOB = (1, 3, 8, 10, 15, 20, 22)
MIXINT = (1, 8, 15)
_RANDOM = 1000
_SEARCH = 4000
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
