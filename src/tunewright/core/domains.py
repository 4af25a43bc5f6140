"""One parameter: what values it may take and how they map to a code in [0, 1].

Codes are what models see. A continuous parameter maps linearly (or in logarithm) onto [0, 1]; a discrete one
with ``k`` levels maps level ``i`` to the centre of its bin, ``(i + 0.5) / k``, so a uniform code gives uniform
levels. Integers on a log scale, and discrete parameters with more than ``MAX_LEVELS`` levels, are treated as
continuous by models (``levels == 0``) and rounded when decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.combinatorial import Permutation, Subset
from tunewright.core.limits import WHOLE, short
from tunewright.core.options import (
    MAX_OPTIONS,
    Value,
    check_belief,
    check_options,
    compact,
    key,
    plain,
)
from tunewright.errors import SpaceError

if TYPE_CHECKING:
    from tunewright.core.space import Space

__all__ = [
    "MAX_LEVELS",
    "MAX_OPTIONS",
    "Bool",
    "Choice",
    "Coder",
    "Codes",
    "Domain",
    "Float",
    "Int",
    "Order",
    "Permutation",
    "Scalar",
    "Subset",
    "Value",
    "domain_from_dict",
    "key",
    "plain",
]

Codes = NDArray[np.float64]
Coder = tuple[Callable[[Any], float], Callable[[float], Any]]
MAX_LEVELS = 4096
_EXACT = 2**50
_EXACT_LOG = 2**45


def _number(name: str, field: str, value: Any) -> float:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpaceError(f"{name} needs numbers for its bounds; got {field}={value!r:.120}. Pass a number.")
    if isinstance(value, int) and not -WHOLE <= value < WHOLE:
        raise SpaceError(f"{name} needs bounds of at most 64 bits; got {field}={short(value)}. Use log=True.")
    if not math.isfinite(value):
        raise SpaceError(
            f"{name} needs finite bounds; got {field}={value!r}. Pick the largest value you would try."
        )
    return value


def _check_range(name: str, low: float, high: float, log: Any) -> None:
    if not isinstance(log, bool):
        raise SpaceError(f"{name} needs log=True or log=False; got log={log!r:.80}. Correct it.")
    if low >= high:
        hint = "Swap the bounds" if low > high else "Fix the parameter in your code instead"
        raise SpaceError(f"{name} needs low < high; got low={low!r}, high={high!r}. {hint} or use Choice.")
    if log and low <= 0:
        raise SpaceError(
            f"{name} on a log scale needs low > 0; got low={low!r}. Did you mean {min(1e-6, high / 1e6):.0e}?"
        )
    if log and math.log(low) >= math.log(high):
        raise SpaceError(
            f"{name} needs bounds that differ in logarithm; got low={low!r}, high={high!r}. Widen them."
        )
    if not math.isfinite(high - low):
        raise SpaceError(f"{name} needs a finite width; got low={low!r}, high={high!r}. Use log=True.")


@dataclass(frozen=True, slots=True)
class Float:
    """A real number in ``[low, high]``.

    Args:
        low: Smallest value.
        high: Largest value; must be larger than ``low``.
        log: Spread values evenly in logarithm; needs ``low > 0``.
        step: Only ``low, low + step, ...`` up to ``high``.
        guess: Where you believe good values are.
        confidence: How much weight the guess gets, in ``[0, 1)``.

    Raises:
        SpaceError: If the bounds, the step or the guess cannot be used.

    Example:
        >>> Float(1e-5, 1e-1, log=True).levels
        0
    """

    low: float
    high: float
    _: KW_ONLY
    log: bool = False
    step: float | None = None
    guess: float | None = None
    confidence: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", float(_number("Float", "low", self.low)) + 0.0)
        object.__setattr__(self, "high", float(_number("Float", "high", self.high)) + 0.0)
        _check_range("Float", self.low, self.high, self.log)
        if self.step is not None:
            if self.log:
                raise SpaceError("Float needs either log or step; got both. Drop one of them.")
            step = float(_number("Float", "step", self.step))
            if not 0 < step <= self.high - self.low:
                raise SpaceError(
                    f"Float needs 0 < step <= high - low; got step={step!r}. Choose a smaller step."
                )
            object.__setattr__(self, "step", step)
        check_belief("Float", self.confidence)
        object.__setattr__(self, "guess", plain(self.guess))
        if self.guess is not None and not self.contains(self.guess):
            raise SpaceError(
                f"A guess must lie in the range; got {self.guess!r}, not in [{self.low}, {self.high}]."
            )

    @property
    def count(self) -> int:
        """Number of distinct values; 0 means uncountably many."""
        if self.step is None:
            return 0
        return math.floor((self.high - self.low) / self.step * (1 + 1e-12)) + 1

    @property
    def levels(self) -> int:
        """Number of levels that models see; 0 means continuous."""
        return self.count if self.count <= MAX_LEVELS else 0

    @property
    def categorical(self) -> bool:
        """Whether values have no order."""
        return False

    def contains(self, value: Any) -> bool:
        """Whether ``value`` is a number inside the bounds, and a whole number of steps from the lower one."""
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not self.low <= value <= self.high
        ):
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        # A value typed in decimal need not be the float that adding steps arrives at.
        slack = 1e-9 + 1e-12 * steps + 1e-15 * max(abs(self.low), abs(self.high)) / self.step
        return abs(steps - round(steps)) <= slack and round(steps) < self.count

    def coder(self) -> Coder:
        """Returns the pair ``(encode, decode)`` between values and codes in [0, 1]."""
        low, high = self.low, self.high
        if self.log:
            a, w = math.log(low), math.log(high) - math.log(low)
            exp, log = math.exp, math.log
            return (lambda v: (log(v) - a) / w), (
                lambda u: low if u <= 0.0 else high if u >= 1.0 else min(max(exp(a + u * w), low), high)
            )
        if self.step is not None:
            k, step = self.count, self.step
            return (
                lambda v: (min(max(round((v - low) / step), 0), k - 1) + 0.5) / k,
                lambda u: min(low + min(int(u * k), k - 1) * step, high),
            )
        width = high - low
        return (lambda v: (v - low) / width), (lambda u: min(low + u * width, high))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return compact("float", self, ("low", "high", "log", "step", "guess", "confidence"))


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number in ``[low, high]``, both ends included.

    Args:
        low: Smallest value.
        high: Largest value; must be larger than ``low``.
        log: Spread values evenly in logarithm; needs ``low >= 1``.
        step: Only ``low, low + step, ...`` up to ``high``.
        guess: Where you believe good values are.
        confidence: How much weight the guess gets, in ``[0, 1)``.

    Raises:
        SpaceError: If the bounds, the step or the guess cannot be used.
    """

    low: int
    high: int
    _: KW_ONLY
    log: bool = False
    step: int = 1
    guess: int | None = None
    confidence: float = 0.5

    def __post_init__(self) -> None:
        for field in ("low", "high", "step"):
            value = _number("Int", field, getattr(self, field))
            if value != int(value):
                raise SpaceError(f"Int needs whole numbers; got {field}={value!r}. Use Float for fractions.")
            if abs(value) > 2**53:
                raise SpaceError(
                    f"Int needs bounds within 2**53; got {field}={value!r}. Use a smaller range, or Float and round it."
                )
            object.__setattr__(self, field, int(value))
        _check_range("Int", self.low, self.high, self.log)
        if self.step < 1 or self.step > self.high - self.low:
            raise SpaceError(
                f"Int needs 1 <= step <= high - low; got step={self.step}. Choose a smaller step."
            )
        if self.log and self.step != 1:
            raise SpaceError("Int needs either log or step; got both. Drop one of them.")
        # A code in [0, 1] has 53 bits: with more values than this, two of them would share one.
        if self.count > _EXACT or (self.log and self.high > _EXACT_LOG):
            most = "high <= 2**45 on a log scale" if self.log else "at most 2**50 values"
            raise SpaceError(f"Int needs {most}; got [{self.low}, {self.high}]. Use Float and round it.")
        check_belief("Int", self.confidence)
        object.__setattr__(self, "guess", plain(self.guess))
        if self.guess is not None and not self.contains(self.guess):
            raise SpaceError(
                f"A guess must lie in the range; got {self.guess!r}, not in [{self.low}, {self.high}]."
            )

    @property
    def count(self) -> int:
        """Number of distinct values."""
        return (self.high - self.low) // self.step + 1

    @property
    def levels(self) -> int:
        """Number of levels that models see; 0 means continuous."""
        return 0 if self.log or self.count > MAX_LEVELS else self.count

    @property
    def categorical(self) -> bool:
        """Whether values have no order."""
        return False

    def contains(self, value: Any) -> bool:
        """Whether ``value`` is a whole number inside the bounds."""
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
            and (value - self.low) % self.step == 0
        )

    def coder(self) -> Coder:
        """Returns the pair ``(encode, decode)`` between values and codes in [0, 1]."""
        low, high, step, k = self.low, self.high, self.step, self.count
        if self.log:
            a = math.log(low - 0.5)
            w = math.log(high + 0.5) - a
            exp, log = math.exp, math.log
            return (lambda v: (log(v) - a) / w), (lambda u: min(max(round(exp(a + u * w)), low), high))
        return (lambda v: ((v - low) // step + 0.5) / k), (lambda u: low + min(int(u * k), k - 1) * step)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return compact("int", self, ("low", "high", "log", "step", "guess", "confidence"))


def _same_options(a: Any, b: Any) -> bool:
    """Whether two domains hold the same options and belief; a plain comparison takes True for 1."""
    return (
        [key(o) for o in a.options] == [key(o) for o in b.options]
        and (key(a.guess), a.confidence) == (key(b.guess), b.confidence)
    )  # fmt: skip


def _branch(option: Any, given: Any) -> Space | None:
    """The space that opens under an option; None where nothing more is to be chosen."""
    from tunewright.core.space import Space

    if given is not None and not isinstance(given, Space | Mapping):
        raise SpaceError(
            f"An option of Choice opens a Space, a mapping of parameters, or None; got {given!r:.120} under {option!r:.80}. "
            f"Write {{{option!r:.80}: {{'name': Float(0, 1)}}}}."
        )
    space = Space(given) if isinstance(given, Mapping) else given
    return space if space is not None and space.domains else None


def _option_coder(options: tuple[Value, ...]) -> Coder:
    k = len(options)
    where = {key(o): (i + 0.5) / k for i, o in enumerate(options)}
    return (lambda v: where[key(v)]), (lambda u: options[min(int(u * k), k - 1)])


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several options without an order.

    Args:
        options: The options, or a mapping from option to the nested space that opens when it is chosen
            (``None`` or an empty mapping where nothing more is to be chosen).
        guess: The option you believe in.
        confidence: How much weight the guess gets, in ``[0, 1)``.

    Raises:
        SpaceError: If there is no option, or one occurs twice.

    Example:
        >>> Choice({"svm": {"C": Float(1e-3, 1e3, log=True)}, "ridge": None}).options
        ('svm', 'ridge')
    """

    options: Sequence[Any] | Mapping[Any, Any]
    _: KW_ONLY
    guess: Any = None
    confidence: float = 0.5
    branches: tuple[Space | None, ...] = ()

    def __post_init__(self) -> None:
        given: Any = self.options
        if isinstance(given, str | bytes) or not isinstance(given, Sequence | Mapping | np.ndarray):
            raise SpaceError(f"Choice needs a list of options; got {given!r}. Write Choice(['a', 'b']).")
        options = tuple(plain(o) for o in given)
        check_options("Choice", options)
        nested = given.values() if isinstance(given, Mapping) else self.branches or (None,) * len(options)
        if len(nested) != len(options):
            raise SpaceError(
                f"Choice needs one branch per option; got {len(nested)} for {len(options)} options. Pass a mapping."
            )
        branches = tuple(_branch(o, b) for o, b in zip(options, nested, strict=True))
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "branches", branches)
        object.__setattr__(self, "guess", plain(self.guess))
        check_belief("Choice", self.confidence)
        if self.guess is not None and not self.contains(self.guess):
            raise SpaceError(
                f"A guess must be one of the options; got {self.guess!r}, not in {list(options)!r}."
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Choice) and _same_options(self, other) and self.branches == other.branches

    def __hash__(self) -> int:
        return hash((self.options, self.confidence))

    @property
    def count(self) -> int:
        """Number of options."""
        return len(self.options)

    @property
    def levels(self) -> int:
        """Number of levels that models see."""
        return len(self.options)

    @property
    def categorical(self) -> bool:
        """Whether values have no order."""
        return True

    def contains(self, value: Any) -> bool:
        """Whether ``value`` is one of the options, of the same type."""
        return any(key(value) == key(o) for o in self.options)

    def coder(self) -> Coder:
        """Returns the pair ``(encode, decode)`` between values and codes in [0, 1]."""
        return _option_coder(tuple(self.options))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        out = compact("choice", self, ("options", "guess", "confidence"))
        if any(b is not None for b in self.branches):
            out["branches"] = [b.to_dict() if b is not None else None for b in self.branches]
        return out


@dataclass(frozen=True, slots=True)
class Order:
    """One of several values that have an order but no useful distance, smallest first.

    Args:
        values: The values in order.
        guess: The value you believe in.
        confidence: How much weight the guess gets, in ``[0, 1)``.

    Raises:
        SpaceError: If there is no value, or one occurs twice.
    """

    values: Sequence[Any]
    _: KW_ONLY
    guess: Any = None
    confidence: float = 0.5

    def __post_init__(self) -> None:
        given: Any = self.values
        if isinstance(given, str | bytes) or not isinstance(given, Sequence | np.ndarray):
            raise SpaceError(f"Order needs a list of values; got {given!r}. Write Order([16, 32, 64]).")
        object.__setattr__(self, "values", tuple(plain(v) for v in given))
        object.__setattr__(self, "guess", plain(self.guess))
        check_options("Order", tuple(self.values))
        check_belief("Order", self.confidence)
        if self.guess is not None and not self.contains(self.guess):
            raise SpaceError(
                f"A guess must be one of the values; got {self.guess!r}, not in {list(self.values)!r}."
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Order) and _same_options(self, other)

    def __hash__(self) -> int:
        return hash((self.values, self.confidence))

    @property
    def options(self) -> tuple[Value, ...]:
        """The values in order."""
        return tuple(self.values)

    @property
    def count(self) -> int:
        """Number of values."""
        return len(self.values)

    @property
    def levels(self) -> int:
        """Number of levels that models see."""
        return len(self.values)

    @property
    def categorical(self) -> bool:
        """Whether values have no order."""
        return False

    def contains(self, value: Any) -> bool:
        """Whether ``value`` is one of the values, of the same type."""
        return any(key(value) == key(o) for o in self.values)

    def coder(self) -> Coder:
        """Returns the pair ``(encode, decode)`` between values and codes in [0, 1]."""
        return _option_coder(tuple(self.values))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return compact("order", self, ("values", "guess", "confidence"))


@dataclass(frozen=True, slots=True)
class Bool:
    """True or false.

    Args:
        guess: The value you believe in.
        confidence: How much weight the guess gets, in ``[0, 1)``.
    """

    _: KW_ONLY
    guess: bool | None = None
    confidence: float = 0.5

    def __post_init__(self) -> None:
        check_belief("Bool", self.confidence)
        if self.guess is not None and not isinstance(self.guess, bool):
            raise SpaceError(f"A guess for Bool must be True or False; got {self.guess!r}.")

    @property
    def options(self) -> tuple[Value, ...]:
        """Both values."""
        return (False, True)

    @property
    def count(self) -> int:
        """Number of values: two."""
        return 2

    @property
    def levels(self) -> int:
        """Number of levels that models see: two."""
        return 2

    @property
    def categorical(self) -> bool:
        """Whether values have no order."""
        return True

    def contains(self, value: Any) -> bool:
        """Whether ``value`` is True or False."""
        return isinstance(value, bool)

    def coder(self) -> Coder:
        """Returns the pair ``(encode, decode)`` between values and codes in [0, 1]."""
        return (lambda v: 0.75 if v else 0.25), (lambda u: u >= 0.5)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return compact("bool", self, ("guess", "confidence"))


Scalar = Float | Int | Choice | Order | Bool
Domain = Scalar | Permutation | Subset


def domain_from_dict(data: Mapping[str, Any]) -> Domain:
    """Rebuilds a domain from its JSON form.

    Raises:
        SpaceError: If the type is unknown or a field does not fit.
    """
    from tunewright.core.space import Space

    kinds: dict[str, Any] = {
        "float": Float,
        "int": Int,
        "choice": Choice,
        "order": Order,
        "bool": Bool,
        "permutation": Permutation,
        "subset": Subset,
    }
    fields = dict(data)
    kind = fields.pop("type", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise SpaceError(
            f"A parameter needs a type out of {', '.join(kinds)}; got {kind!r}. Correct the type."
        )
    if "branches" in fields:
        fields["branches"] = tuple(Space.from_dict(b) if b is not None else None for b in fields["branches"])
    try:
        domain: Domain = kinds[kind](**fields)
    except TypeError as error:
        raise SpaceError(f"A parameter of type {kind} does not take these fields: {error}.") from None
    return domain
