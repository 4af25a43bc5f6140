"""What a search over an estimator may try: domains, SciPy distributions and lists, as one space and back.

Values that a study cannot keep, such as tuples, functions and estimators, are kept here; the study knows them by a name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order, Permutation, Subset, plain
from tunewright.core.space import Space
from tunewright.errors import SpaceError

__all__ = ["SearchSpace"]

_DOMAINS = (Float, Int, Choice, Order, Bool, Permutation, Subset)
_TAIL = 0.001
_NOTHING = 1e-6
_WIDE = 100.0
_LABEL = 60


class SearchSpace:
    """A space for the parameters of an estimator.

    Args:
        given: A ``Space``, or a mapping from parameter to a domain, a frozen distribution of ``scipy.stats`` or a list of
            values. Of a distribution the support is taken, or what holds 99.8 % where that is unbounded, on a log scale
            where it is positive and spans more than a factor of 100.

    Attributes:
        space: The space of the study.

    Raises:
        SpaceError: If an entry is none of these.
    """

    def __init__(self, given: Any) -> None:
        self._objects: dict[str, dict[str, Any]] = {}
        if isinstance(given, Space):
            self.space = given
        elif isinstance(given, Mapping):
            self.space = Space({name: self._domain(str(name), value) for name, value in given.items()})
        else:
            raise SpaceError(
                f"A search needs a dict of parameters or a Space; got {given!r:.120}. Write {{'C': tw.Float(0.01, 100, log=True)}}."
            )
        if not self.space.d:
            raise SpaceError("A search needs at least one parameter; got none. Name one.")

    def _domain(self, name: str, value: Any) -> Domain:
        if isinstance(value, _DOMAINS):
            return value
        if hasattr(value, "rvs") and hasattr(value, "ppf"):
            return _from_distribution(name, value)
        if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
            raise SpaceError(
                f"'{name}' needs a domain, a list or a distribution of scipy.stats; got {value!r:.120}. Write [{value!r:.40}]."
            )
        return self._from_list(name, list(value))

    def _from_list(self, name: str, values: list[Any]) -> Domain:
        """Numbers have an order; anything else is a choice, by name where it is no plain value."""
        try:
            options = [plain(v) for v in values]
        except SpaceError:
            labels = [" ".join(repr(v).split())[:_LABEL] for v in values]
            if len(set(labels)) < len(labels):
                labels = [f"{i}: {label}" for i, label in enumerate(labels)]
            self._objects[name] = dict(zip(labels, values, strict=True))
            return Choice(labels)
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in options)
        if numbers and len(set(options)) == len(options) > 2:
            return Order(sorted(options, key=lambda v: float(v or 0)))
        return Choice(options)

    def parameters(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What to set on the estimator for a configuration of the study; inactive parameters are left out."""
        objects = self._objects
        return {k: objects[k][v] if k in objects else v for k, v in config.items()}

    def config(self, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """The configuration of the study that sets these parameters; None where the space has none."""
        found: dict[str, Any] = {}
        for name in self.space.names:
            if name not in parameters:
                continue
            value = parameters[name]
            if name in self._objects:
                found[name] = next((k for k, v in self._objects[name].items() if _same(v, value)), None)
            else:
                found[name] = value
        try:
            return self.space.check(_active(self.space, found))
        except (SpaceError, KeyError, TypeError, ValueError):
            return None


def _same(a: Any, b: Any) -> bool:
    """Whether two values are one; an estimator is recognised by its class and parameters, which its text shows."""
    return a is b or (type(a) is type(b) and repr(a) == repr(b))


def _active(space: Space, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without parameters that its own choices leave inactive.

    Where a library says None, or nothing, for its default, the domain's guess is that; 0 is the lowest value of a range
    on a log scale that begins that low.
    """
    fitted = dict(config)
    for entry in space.entries:
        name, domain = entry.name, entry.domain
        value = fitted.get(name)
        if value is None and domain.guess is not None and not domain.contains(None):
            fitted[name] = domain.guess
        elif isinstance(domain, Float) and domain.log and domain.low <= _NOTHING and value in (0, 0.0):
            fitted[name] = domain.low
    codes = space.project(fitted)
    if codes is None:
        return fitted
    shown = space.decode(np.where(np.isnan(codes), 0.5, codes))
    return {k: v for k, v in fitted.items() if k in shown}


def _from_distribution(name: str, frozen: Any) -> Domain:
    """The range of a frozen distribution, on the scale that it suggests."""
    kind = getattr(getattr(frozen, "dist", None), "name", "")
    low, high = (float(b) for b in frozen.support())
    whole = hasattr(frozen, "pmf")
    # The support of a distribution over whole numbers includes both ends.
    low = low if math.isfinite(low) else float(frozen.ppf(_TAIL))
    high = high if math.isfinite(high) else float(frozen.ppf(1 - _TAIL))
    if whole:
        if low == high:
            return Choice([int(low)])
        return Int(int(low), int(high), log=kind != "randint" and low >= 1 and high > _WIDE * low)
    if not high > low:
        raise SpaceError(
            f"'{name}' needs a distribution with more than one value; got [{low}, {high}]. Widen it."
        )
    log = kind in ("loguniform", "reciprocal", "lognorm")
    if kind not in ("uniform", "loguniform", "reciprocal") and low >= 0 and high > 0:
        low = float(frozen.ppf(_TAIL))
        log = log or (low > 0 and high > _WIDE * low and kind not in ("beta", "triang"))
    return Float(low, high, log=log)
