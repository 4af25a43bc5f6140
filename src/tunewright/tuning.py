"""A training function whose signature is the space: ``objective`` says what it returns, ``tune`` searches."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from tunewright.core.declare import space_of
from tunewright.errors import ConfigError
from tunewright.study import Study

if TYPE_CHECKING:
    from tunewright.core.algorithm import Algorithm
    from tunewright.store.base import Store

__all__ = ["ObjectiveFunction", "objective", "tune"]

P = ParamSpec("P")
R = TypeVar("R")


class ObjectiveFunction(Generic[P, R]):
    """A training function that knows what it is tuned for; calling it trains, as before.

    Attributes:
        function: The function.
        minimize: Metrics to make small.
        maximize: Metrics to make large.
        steps: Steps of a full training, or ``(fewest, full)``; None without.
    """

    def __init__(
        self,
        function: Callable[P, R],
        minimize: str | Sequence[str],
        maximize: str | Sequence[str],
        steps: int | tuple[int, int] | None,
    ) -> None:
        functools.update_wrapper(self, function)
        # Worker processes find a function by name, and the name means this object.
        self.__qualname__ = getattr(function, "__qualname__", type(function).__name__)
        self.function, self.minimize, self.maximize, self.steps = function, minimize, maximize, steps

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<objective {self.__qualname__}>"


def objective(
    *,
    minimize: str | Sequence[str] = (),
    maximize: str | Sequence[str] = (),
    steps: int | tuple[int, int] | None = None,
) -> Callable[[Callable[P, R]], ObjectiveFunction[P, R]]:
    """Marks a function as something to tune: its signature is the space, its defaults are trial 0.

    Args:
        minimize: Metric or metrics to make small; ``"loss"`` when neither this nor ``maximize`` is given.
        maximize: Metric or metrics to make large.
        steps: Steps of a full training, or ``(fewest, full)``, when trials report by step.

    Raises:
        SpaceError: If the function declares no parameter, or a default does not fit its own range.

    Example:
        >>> from typing import Annotated
        >>> from tunewright import log, tune
        >>> @objective(minimize="loss")
        ... def train(lr: Annotated[float, log(1e-4, 0.3)] = 0.1) -> float:
        ...     return abs(lr - 0.01)
        >>> train(0.05)
        0.04
        >>> tune(train, trials=5, progress="none").trials[0].params
        {'lr': 0.1}
    """

    def mark(function: Callable[P, R]) -> ObjectiveFunction[P, R]:
        space_of(function)
        return ObjectiveFunction(function, minimize, maximize, steps)

    return mark


def tune(
    train: Callable[..., Any],
    *,
    trials: int | None = None,
    timeout: float | str | None = None,
    minimize: str | Sequence[str] = (),
    maximize: str | Sequence[str] = (),
    steps: int | tuple[int, int] | None = None,
    method: str | Algorithm[Any] = "auto",
    seed: int | None = None,
    name: str | None = None,
    storage: str | os.PathLike[str] | Store | None = None,
    **limits: Any,
) -> Study:
    """Tunes a function whose signature is the space, and returns the study; its defaults are tried first.

    Args:
        train: A function marked with ``objective``, or one with annotated parameters.
        trials: Trials to begin in all.
        timeout: Wall time, in seconds or as ``"10min"``; one of the two is needed.
        minimize: Metric or metrics to make small, for a function without a mark.
        maximize: Metric or metrics to make large, for a function without a mark.
        steps: Steps of a full training, for a function without a mark.
        method: What chooses trials; see ``Study.open``.
        seed: Root of all randomness.
        name: Name under which the study is kept and continued; None for one that ends with the process.
        storage: Where it is kept; see ``Study.open``.
        **limits: Anything else that ``Study.run`` takes, such as ``workers=4`` and ``progress="none"``.

    Raises:
        ConfigError: If neither ``trials`` nor ``timeout`` is given, or an argument cannot be used.
        SpaceError: If the function declares no parameter.
        TooManyFailures: If the failure policy gives up.
    """
    if trials is None and timeout is None and "target" not in limits and "stop_when" not in limits:
        raise ConfigError("tune needs an end; got neither trials nor timeout. Write tune(train, trials=60).")
    if isinstance(train, ObjectiveFunction):
        minimize, maximize = (
            minimize or (() if maximize else train.minimize),
            maximize or (() if minimize else train.maximize),
        )
        steps = steps if steps is not None else train.steps
    study = Study.open(
        name or str(getattr(train, "__name__", "study")),
        train,
        minimize=minimize,
        maximize=maximize,
        steps=steps,
        method=method if name is None or method != "auto" else None,
        seed=seed,
        storage="memory" if name is None and storage is None else storage,
        resumable="trial" in inspect.signature(train).parameters,
    )
    study.run(train, trials=trials, timeout=timeout, **limits)
    return study
