"""Analytic functions as tasks: known optimum, any dimension, moved so that no method profits from the centre.

Sources of the definitions: Branin and Hartmann as in Dixon and Szego 1978; the others as in Jamil and Yang 2013,
"A literature survey of benchmark functions for global optimisation problems" (arXiv:1308.4008).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.bench.simulate import Floats, Task
from tunewright.core.domains import Choice, Domain, Float, Int
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError

_RANDOM = 2000
_WHOLE = 11
_OPTIONS = 5


@dataclass(frozen=True, slots=True)
class Function:
    """A function of ``d`` numbers.

    Attributes:
        value: From a point, shape ``(d,)``, to its value; lower is better.
        low: Lower bound of every number.
        high: Upper bound of every number.
        at: Where its minimum lies in a dimension, shape ``(d,)``.
        least: Its minimum in a dimension.
        d: The dimension it is defined for, or 0 for any.
    """

    value: Callable[[Floats], float]
    low: float
    high: float
    at: Callable[[int], Floats]
    least: Callable[[int], float] = lambda d: 0.0
    d: int = 0


def _sphere(x: Floats) -> float:
    return float(x @ x)


def _ellipsoid(x: Floats) -> float:
    scale = 10.0 ** (3.0 * np.arange(len(x)) / max(1, len(x) - 1))
    return float(scale @ (x * x))


def _rosenbrock(x: Floats) -> float:
    return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))


def _rastrigin(x: Floats) -> float:
    return float(10.0 * len(x) + np.sum(x * x - 10.0 * np.cos(2.0 * np.pi * x)))


def _ackley(x: Floats) -> float:
    waves = np.exp(np.cos(2.0 * np.pi * x).mean())
    return float(-20.0 * np.exp(-0.2 * np.sqrt(np.mean(x * x))) - waves + 20.0 + np.e)


def _levy(x: Floats) -> float:
    w = 1.0 + (x - 1.0) / 4.0
    middle = np.sum((w[:-1] - 1.0) ** 2 * (1.0 + 10.0 * np.sin(np.pi * w[:-1] + 1.0) ** 2))
    last = (w[-1] - 1.0) ** 2 * (1.0 + np.sin(2.0 * np.pi * w[-1]) ** 2)
    return float(np.sin(np.pi * w[0]) ** 2 + middle + last)


def _griewank(x: Floats) -> float:
    return float(1.0 + x @ x / 4000.0 - np.prod(np.cos(x / np.sqrt(np.arange(1.0, len(x) + 1.0)))))


def _styblinski_tang(x: Floats) -> float:
    return float(np.sum(x**4 - 16.0 * x**2 + 5.0 * x) / 2.0)


def _branin(x: Floats) -> float:
    # Rescaled from [-5, 10] x [0, 15] to the unit square.
    a, b = 15.0 * x[0] - 5.0, 15.0 * x[1]
    bend = b - 5.1 / (4.0 * np.pi**2) * a**2 + 5.0 / np.pi * a - 6.0
    return float(bend**2 + 10.0 * (1.0 - 1.0 / (8.0 * np.pi)) * np.cos(a) + 10.0)


_HARTMANN_A = np.array(
    [
        [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
        [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
        [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
        [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
    ]
)
_HARTMANN_P = 1e-4 * np.array(
    [
        [1312.0, 1696.0, 5569.0, 124.0, 8283.0, 5886.0],
        [2329.0, 4135.0, 8307.0, 3736.0, 1004.0, 9991.0],
        [2348.0, 1451.0, 3522.0, 2883.0, 3047.0, 6650.0],
        [4047.0, 8828.0, 8732.0, 5743.0, 1091.0, 381.0],
    ]
)
_HARTMANN_AT = np.array([0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730054])


def _hartmann(x: Floats) -> float:
    inner = np.sum(_HARTMANN_A * (x - _HARTMANN_P) ** 2, axis=1)
    return float(-np.array([1.0, 1.2, 3.0, 3.2]) @ np.exp(-inner))


FUNCTIONS: dict[str, Function] = {
    "sphere": Function(_sphere, -5.0, 5.0, np.zeros),
    "ellipsoid": Function(_ellipsoid, -5.0, 5.0, np.zeros),
    "rosenbrock": Function(_rosenbrock, -2.0, 2.0, np.ones),
    "rastrigin": Function(_rastrigin, -5.12, 5.12, np.zeros),
    "ackley": Function(_ackley, -32.768, 32.768, np.zeros),
    "levy": Function(_levy, -10.0, 10.0, np.ones),
    "griewank": Function(_griewank, -600.0, 600.0, np.zeros),
    "styblinski_tang": Function(
        _styblinski_tang, -5.0, 5.0, lambda d: np.full(d, -2.903534), lambda d: -39.16616570377142 * d
    ),
    "branin": Function(
        _branin, 0.0, 1.0, lambda d: np.array([(np.pi + 5) / 15, 2.275 / 15]), lambda d: 0.397887357729, d=2
    ),
    "hartmann6": Function(_hartmann, 0.0, 1.0, lambda d: _HARTMANN_AT, lambda d: -3.322368011, d=6),
}


def function_task(name: str, d: int = 0, *, idle: int = 0, moved: int | None = 0) -> Task:
    """An analytic function as a task without epochs; parameters are ``x0`` to ``x{d + idle - 1}``.

    Args:
        name: One of ``FUNCTIONS``.
        d: Dimension; may be left out where the function has only one.
        idle: Further parameters without effect.
        moved: Seed of a random move of the optimum by up to a fifth of the range, and of the order of the parameters;
            None leaves the function as published. Functions of one dimension only are never moved.

    Raises:
        ConfigError: If the name or the dimension is not possible.
    """
    if (
        name not in FUNCTIONS
        or (FUNCTIONS[name].d or d) < 1
        or (FUNCTIONS[name].d and d not in (0, FUNCTIONS[name].d))
    ):
        raise ConfigError(
            f"A function must be one of {', '.join(FUNCTIONS)} in a dimension it has; got {name}, d={d}."
        )
    function = FUNCTIONS[name]
    d = function.d or d
    rng = np.random.default_rng(0 if moved is None else moved)
    shift, order = np.zeros(d), np.arange(d + idle)
    if moved is not None and not function.d:
        shift = rng.uniform(-0.2, 0.2, d) * (function.high - function.low)
        order = rng.permutation(d + idle)
    names = [f"x{i}" for i in order[:d]]

    def loss(config: Mapping[str, Any]) -> float:
        return function.value(np.array([config[n] for n in names]) - shift)

    space = Space({f"x{i}": Float(function.low, function.high) for i in range(d + idle)})
    label = f"{name}_{d}d" + (f"+{idle}" if idle else "")
    return _task(label, space, loss, function.least(d))


def mixed_task(name: str, floats: int = 20, whole: int = 20, choices: int = 20, *, moved: int = 0) -> Task:
    """An analytic function of numbers, whole numbers and unordered options, all of which matter; a task without epochs.

    A whole number steps through its range in eleven levels, an option stands for one of five levels in shuffled order;
    one level is where the minimum lies, so that the best value is that of the function. Which coordinate is of which
    kind is drawn. Parameters are ``x0`` ... (numbers), ``n0`` ... (whole numbers) and ``c0`` ... (options).

    Args:
        name: One of ``FUNCTIONS`` that has any dimension.
        floats: Parameters that are numbers.
        whole: Parameters that are whole numbers.
        choices: Parameters that are unordered options.
        moved: Seed of the places of the minimum, the kinds of the coordinates and the order of the options.

    Raises:
        ConfigError: If the function has one dimension only, a number is negative, or there is no parameter.
    """
    d = floats + whole + choices
    if name not in FUNCTIONS or FUNCTIONS[name].d or min(floats, whole, choices) < 0 or d < 1:
        names = ", ".join(n for n, f in FUNCTIONS.items() if not f.d)
        raise ConfigError(
            f"A mixed task needs one of {names} and at least one parameter; got {name} and {floats}, {whole}, {choices}."
        )
    function = FUNCTIONS[name]
    span = function.high - function.low
    rng = np.random.default_rng(moved)
    at = function.at(d)[(order := rng.permutation(d))]
    levels = np.repeat([_WHOLE, _OPTIONS], [whole, choices])
    least = rng.integers(levels)
    shift = rng.uniform(-0.2, 0.2, floats) * span
    places = [rng.permutation(_OPTIONS) for _ in range(choices)]
    keys = [
        *(f"x{i}" for i in range(floats)),
        *(f"n{i}" for i in range(whole)),
        *(f"c{i}" for i in range(choices)),
    ]

    def loss(config: Mapping[str, Any]) -> float:
        values = [config[k] for k in keys]
        steps = np.array([*values[floats : floats + whole], *map(_place, places, values[floats + whole :])])
        z = np.empty(d)
        z[order[:floats]] = np.array(values[:floats], dtype=np.float64) - shift
        z[order[floats:]] = at[floats:] + (steps - least) * span / levels
        return function.value(z)

    domains: list[Domain] = [Float(function.low, function.high)] * floats
    domains += [Int(0, _WHOLE - 1)] * whole
    domains += [Choice([f"o{j}" for j in range(_OPTIONS)])] * choices
    return _task(f"{name}_mixed_{d}d", Space(dict(zip(keys, domains, strict=True))), loss, function.least(d))


def _place(places: NDArray[np.int64], option: str) -> int:
    return int(places[int(option[1:])])


def _task(label: str, space: Space, loss: Callable[[Mapping[str, Any]], float], least: float) -> Task:
    def curve(config: Mapping[str, Any]) -> tuple[Floats, Floats]:
        return np.array([loss(config)]), np.ones(1)

    draws = space.sample(np.random.default_rng(12345), _RANDOM)
    usual = float(np.median([loss(space.decode(row)) for row in draws]))
    return Task(label, Problem(space, (Objective("loss"),)), curve, least, usual)
