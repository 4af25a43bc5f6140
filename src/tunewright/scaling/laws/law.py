"""A scaling law as an object: what goes in and comes out with units, where it was fitted, and how sure it is.

A law is asked with ``predict``, which checks the units (seven parameters are meant to be seven billion), compares every
input with the box in which the law was fitted, warns outside of it, and refuses far outside of it. ``evaluate`` is the bare
formula on numbers or arrays, with no check.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tunewright.errors import ConfigError

Confidence = Literal["paper", "second-hand", "exponent only", "fitted here"]
_LETTERS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+[kmbt]?", re.IGNORECASE)
_WORDS = {1e9: "billions", 1e6: "millions"}
Z95 = 1.959963984540054
_BELOW = 10.0
LEARNING_RATE = "learning rate"
BATCH_SIZE = "batch size"


def quantity(value: float | str) -> float:
    """A count as a number: ``"1.3B"``, ``"125M"``, ``"20k"``, ``"1e9"``, ``"1_000"`` or a number itself.

    Letters are those of the field: k thousand, M million, B billion, T trillion.

    Raises:
        ConfigError: If it is no positive finite number.
    """
    given: Any = value
    if isinstance(given, str):
        text = given.strip().replace("_", "")
        # 1,000,000 is plain; 1,3 could be 1.3 to its writer and 13 to the reader, so it is refused below.
        text = text.replace(",", "") if _THOUSANDS.fullmatch(text) else text
        factor = _LETTERS.get(text[-1:].lower(), 1.0)
        try:
            number = float(text[:-1] if factor != 1.0 else text) * factor
        except ValueError:
            raise ConfigError(
                f"A quantity must be a number with at most one of k, M, B, T behind it; got {value!r}. Write it like 1.3B or 1e9."
            ) from None
    elif isinstance(given, bool) or not isinstance(given, numbers.Real):
        raise ConfigError(
            f"A quantity must be a number or a text such as 1.3B; got {value!r}. Write it like 1.3B or 1e9."
        )
    else:
        number = float(given)
    if not math.isfinite(number) or number <= 0:
        raise ConfigError(
            f"A quantity must be positive and finite; got {value!r}. Write it like 1.3B or 1e9."
        )
    return number


def short(value: float) -> str:
    """A number for people: 1.3B, 125M, 0.00163."""
    for letter, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e4)):
        if size <= abs(value) < 1e15:
            return f"{value / (1e3 if letter == 'k' else size):.4g}{letter}"
    return f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class Input:
    """One thing a law is asked with.

    Args:
        name: Keyword of ``predict``.
        unit: What one of it is.
        least: Anything below is taken for a wrong unit.
        most: Anything above is taken for a wrong unit.
    """

    name: str
    unit: str
    least: float = 0.0
    most: float = math.inf

    def read(self, value: float | str) -> float:
        """The value as a number.

        Raises:
            ConfigError: If it is no number, or so small or large that the unit must be wrong.
        """
        number = quantity(value)
        if number < self.least:
            guess = next((s for s in (1e9, 1e6) if self.least <= number * s <= self.most), None)
            hint = f"if {_WORDS[guess]} are meant, write {number * guess:g}" if guess else "check the unit"
            raise ConfigError(
                f"{self.name} must be counted in {self.unit}; got {value}, which is too few: {hint}."
            )
        if number > self.most:
            raise ConfigError(
                f"{self.name} must be counted in {self.unit}; got {value}, which is more than {self.most:g}. Check the unit."
            )
        return number


PARAMS = Input("params", "parameters", 1e3, 1e15)
TOKENS = Input("tokens", "tokens", 1e4, 1e18)
FLOPS = Input("flops", "floating-point operations", 1e11, 1e30)
BATCH = Input("batch", "tokens per step", 1.0, 1e12)
UNIQUE = Input("unique_tokens", "tokens", 1e4, 1e18)
LOSS = Input("loss", "nats per token", 0.0, 100.0)
BASE_TOKENS = Input("base_tokens", "tokens", 1e4, 1e18)
BASE_FLOPS = Input("base_flops", "floating-point operations", 1e11, 1e30)
BASE_LR = Input("base_lr", "learning rate", 0.0, 1e3)
BASE_BATCH = Input("base_batch", "tokens per step", 1.0, 1e12)


@dataclass(frozen=True, slots=True)
class Box:
    """Where a law was fitted.

    Args:
        ranges: Smallest and largest value by input; inputs without a range are free.
    """

    ranges: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            if not 0 < low <= high:
                raise ConfigError(
                    f"A range needs 0 < low <= high; got {low} to {high} for {name}. Swap them."
                )

    def outside(self, inputs: Mapping[str, float]) -> dict[str, float]:
        """By what factor each input lies outside; those inside are left out."""
        found: dict[str, float] = {}
        for name, (low, high) in self.ranges.items():
            if name in inputs and not low * (1 - 1e-9) <= inputs[name] <= high * (1 + 1e-9):
                found[name] = max(low / inputs[name], inputs[name] / high)
        return found

    def center(self, name: str) -> float:
        """Geometric middle of a range."""
        low, high = self.ranges[name]
        return math.sqrt(low * high)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a law says.

    Attributes:
        value: The prediction.
        low: Lower end of the 95 % interval, None where the source gives no usable uncertainty.
        high: Upper end of it.
        unit: Unit of all three.
        inside: Whether every input lies in the box of the law.
        warnings: Sentences that belong to the number.
        law: Name of the law.
        inputs: What it was asked with.
    """

    value: float
    low: float | None
    high: float | None
    unit: str
    inside: bool
    warnings: tuple[str, ...]
    law: str
    inputs: Mapping[str, float]

    def __str__(self) -> str:
        interval = (
            "" if self.low is None or self.high is None else f" ({short(self.low)} to {short(self.high)})"
        )
        return f"{short(self.value)}{interval} {self.unit}"


@dataclass(frozen=True, slots=True)
class Law:
    """A scaling law with its units, its constants and the box in which it was fitted.

    Args:
        name: Its name here.
        paper: Authors, year, arXiv number and place.
        output: The quantity that it predicts; laws of the same quantity are compared with each other.
        unit: Unit of the output.
        formula: The law in a line.
        inputs: What it is asked with.
        constants: Its numbers by name.
        function: ``function(constants, inputs)``; works on arrays.
        box: Where it was fitted.
        conditions: What else has to be as in the source.
        confidence: Where the constants are from: ``"paper"``, printed there and confirmed by its released data or code or by several
            independent quotations; ``"second-hand"``, read in a single other use of the paper; ``"exponent only"``, a law of ratios, to
            be anchored by a run of your own; ``"fitted here"``.
        spread: Standard deviations of constants, where known.
        log_sd: ``log_sd(inputs)``, standard deviation of the logarithm of the prediction; None where unknown.
        contradicts: Laws that must not be combined with it, and why.
        margin: Up to this factor above the box it answers with a warning, beyond it refuses; below the box up to ten, or the margin
            if that is less.
        note: What a reader should know of the constants.
        doubt: ``doubt(known)``, from everything known of a run the reason why the law does not apply to it, or None.
    """

    name: str
    paper: str
    output: str
    unit: str
    formula: str
    inputs: tuple[Input, ...]
    constants: Mapping[str, float]
    function: Callable[[Mapping[str, float], Mapping[str, Any]], Any]
    box: Box
    conditions: tuple[str, ...] = ()
    confidence: Confidence = "paper"
    spread: Mapping[str, float] = field(default_factory=dict)
    log_sd: Callable[[Mapping[str, float]], float] | None = None
    contradicts: Mapping[str, str] = field(default_factory=dict)
    margin: float = 10.0
    note: str = ""
    doubt: Callable[[Mapping[str, float]], str | None] | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of its inputs."""
        return tuple(i.name for i in self.inputs)

    def evaluate(self, **inputs: Any) -> Any:
        """The bare formula, on numbers or arrays, with no check of units or box."""
        return self.function(self.constants, inputs)

    def predict(self, *, extrapolate: bool = False, **inputs: float | str) -> Prediction:
        """The prediction with its interval and its warnings.

        Args:
            extrapolate: Answer far outside the box too, with a warning instead of a refusal.
            inputs: One per input of the law; counts may be texts as in ``quantity``.

        Raises:
            ConfigError: If inputs are missing or unknown, have the wrong unit, or lie further outside the box than ``margin``.
        """
        read = self._read(inputs)
        outside = self.box.outside(read)
        warnings = [self._outside(name, read[name], factor) for name, factor in outside.items()]
        for name, factor in outside.items():
            limit = self.margin if read[name] > self.box.ranges[name][1] else min(self.margin, _BELOW)
            if factor > limit and not extrapolate:
                raise ConfigError(
                    f"{self.name} answers up to a factor of {limit:g} outside the range it was fitted in; "
                    f"{' '.join(warnings)} Pass extrapolate=True to have the number nonetheless."
                )
        value = float(self.evaluate(**read))
        if not math.isfinite(value):
            raise ConfigError(f"{self.name} gives no finite number for {dict(read)}. Check the inputs.")
        low = high = None
        if self.log_sd is not None:
            reach = math.exp(Z95 * self.log_sd(read))
            low, high = value / reach, value * reach
        else:
            warnings.append(f"{self.name} is published without an uncertainty that could be used.")
        return Prediction(value, low, high, self.unit, not outside, tuple(warnings), self.name, read)

    def _read(self, inputs: Mapping[str, float | str]) -> dict[str, float]:
        missing = [i for i in self.inputs if inputs.get(i.name) is None]
        if missing:
            wanted = ", ".join(f"{i.name} ({i.unit})" for i in missing)
            raise ConfigError(
                f"{self.name} needs {wanted}; got {sorted(inputs) or 'nothing'}. Pass what is missing."
            )
        unknown = sorted(set(inputs) - set(self.needs))
        if unknown:
            raise ConfigError(f"{self.name} takes {', '.join(self.needs)}; got {unknown}. Leave them out.")
        return {i.name: i.read(inputs[i.name]) for i in self.inputs}

    def _outside(self, name: str, value: float, factor: float) -> str:
        low, high = self.box.ranges[name]
        return f"{name} {short(value)} is {factor:.3g} times outside the {short(low)} to {short(high)} in which {self.name} was fitted."

    def describe(self) -> dict[str, Any]:
        """The law as plain data."""
        return {
            "name": self.name,
            "paper": self.paper,
            "output": self.output,
            "unit": self.unit,
            "formula": self.formula,
            "inputs": {i.name: i.unit for i in self.inputs},
            "constants": dict(self.constants),
            "spread": dict(self.spread),
            "box": {k: list(v) for k, v in self.box.ranges.items()},
            "conditions": list(self.conditions),
            "confidence": self.confidence,
            "contradicts": dict(self.contradicts),
            "margin": self.margin,
            "note": self.note,
        }


def power_law(
    *,
    coefficient: float,
    exponents: Mapping[str, float],
    box: Box,
    exponent_sds: Mapping[str, float] | None = None,
    scatter: float | None = None,
    **fields: Any,
) -> Law:
    """A law ``coefficient * product of input ** exponent``.

    Its interval is that of a regression line in logarithms: at the middle of the box only ``scatter`` counts, away from it the
    errors of the exponents times the distance in logarithms, which are independent of it there.

    Args:
        coefficient: The factor in front.
        exponents: By input.
        box: Where it was fitted.
        exponent_sds: Standard deviations of the exponents.
        scatter: Standard deviation of measured logarithms about the law; with None there is no interval.
        fields: The other fields of ``Law``.
    """
    sds = dict(exponent_sds or {})
    constants = {"coefficient": coefficient, **{f"exponent_{k}": v for k, v in exponents.items()}}

    def function(numbers: Mapping[str, float], inputs: Mapping[str, Any]) -> Any:
        out: Any = numbers["coefficient"]
        for name in exponents:
            out = out * inputs[name] ** numbers[f"exponent_{name}"]
        return out

    def log_sd(inputs: Mapping[str, float]) -> float:
        assert scatter is not None
        slopes = (sd * math.log(inputs[name] / box.center(name)) for name, sd in sds.items())
        return math.sqrt(scatter**2 + sum(s * s for s in slopes))

    return Law(
        constants=constants,
        function=function,
        box=box,
        spread={f"exponent_{k}": v for k, v in sds.items()},
        log_sd=None if scatter is None else log_sd,
        **fields,
    )
