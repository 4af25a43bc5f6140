"""The names of ``optuna.distributions``, each of which gives a domain of ours."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from tunewright.core.domains import Choice, Float, Int, plain
from tunewright.errors import SpaceError

__all__ = ["CategoricalDistribution", "Distribution", "FloatDistribution", "IntDistribution"]

Distribution = Float | Int | Choice


def FloatDistribution(  # noqa: N802 - Optuna's name
    low: float, high: float, log: bool = False, step: float | None = None
) -> Distribution:
    """A real number in ``[low, high]``; a range of one value is a choice of one.

    Raises:
        SpaceError: If the range cannot be used.
    """
    if low == high:
        return Choice([float(low)])
    if step is not None and step > high - low:
        return Choice([float(low)])
    return Float(float(low), float(high), log=log, step=step)


def IntDistribution(low: int, high: int, log: bool = False, step: int = 1) -> Distribution:  # noqa: N802
    """A whole number in ``[low, high]``; a range of one value is a choice of one.

    Raises:
        SpaceError: If the range cannot be used.
    """
    if low == high or (step > high - low > 0):
        return Choice([int(low)])
    return Int(low, high, log=log, step=step)


def CategoricalDistribution(choices: Sequence[Any]) -> Distribution:  # noqa: N802
    """One of several options; those that a store cannot hold go by their printed form.

    Raises:
        SpaceError: If there is none, or two look the same.
    """
    return Choice(labels(choices))


def adopted(given: Any) -> Distribution:
    """A domain of ours from one, or from a distribution object of Optuna itself.

    Raises:
        SpaceError: If it is neither, or its range cannot be used.
    """
    if isinstance(given, Float | Int | Choice):
        return given
    if hasattr(given, "choices"):
        return CategoricalDistribution(given.choices)
    if not hasattr(given, "low"):
        raise SpaceError(f"A distribution must have a range or choices; got {given!r:.80}. Make one anew.")
    if isinstance(given.low, int):
        return IntDistribution(given.low, given.high, given.log, given.step)
    return FloatDistribution(given.low, given.high, given.log, given.step)


def labels(choices: Sequence[Any]) -> list[Any]:
    """The options as a store keeps them: values as they are, other objects by their printed form."""
    out = []
    for option in choices:
        try:
            out.append(plain(option))
        except SpaceError:
            warnings.warn(
                f"An option that is no bool, number, string or None is kept by its printed form; got {option!r:.80}.",
                UserWarning,
                stacklevel=4,
            )
            out.append(repr(option))
    return out
