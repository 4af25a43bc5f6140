"""The critical batch size: the largest batch that still trains with at most a fifth more examples than the best one.

*Use when*: steps to one target loss are known for several batch sizes, each with its rate tuned, and the question is how many
devices in parallel still pay; and, over several model and data sizes, how that number grows.
*Do not use when*: rates were not tuned at every batch size (the result then measures the mistuning), or one model in the middle
of training is all there is: ``noise`` estimates the order of magnitude from gradients.
*Paper*: Zhang, Morwani, Vyas, Wu, Zou, Ghai, Foster and Kakade 2024, arXiv:2410.21676, definition of the 20 % overhead; the curve is
that of McCandlish et al. 2018, arXiv:1812.06162, equation 2.11.
*Differs*: the crossing is read off the measurements themselves, interpolated in logarithms; the curve is fitted beside it, and what
both say is returned. Intervals are bootstraps over repetitions.
*Cost*: NumPy on a handful of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.errors import ConfigError

Floats = NDArray[np.float64]
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class CriticalBatch:
    """A critical batch size and what it was read from.

    Attributes:
        size: The critical batch size, in the unit of the batch sizes given.
        low: Lower end of its interval; NaN with a single repetition.
        high: Upper end; infinite where resamples stay below the overhead at every batch size.
        best: Batch size with the fewest examples to the target.
        overhead: The share of examples allowed beyond those.
        least_steps: Steps that no batch however large undercuts, from the fitted curve.
        least_examples: Examples that no batch however small undercuts, from the fitted curve.
        curve_size: The critical batch size of the fitted curve, ``overhead * least_examples / least_steps``.
    """

    size: float
    low: float
    high: float
    best: float
    overhead: float
    least_steps: float
    least_examples: float
    curve_size: float


def critical_batch_size(
    batch_sizes: Sequence[float] | Floats,
    steps_to_target: Any,
    *,
    overhead: float = 0.2,
    level: float = 0.95,
    seed: int = 0,
) -> CriticalBatch:
    """Reads the critical batch size off the steps that each batch size takes to one target loss.

    Args:
        batch_sizes: Strictly increasing, shape ``(b,)``, at least 4.
        steps_to_target: Steps at the best rate of each batch size, shape ``(b,)`` or ``(n, b)`` for ``n`` repetitions
            (seeds); infinite or NaN where the target was not reached.
        overhead: Share of examples allowed beyond the fewest.
        level: Of the interval.
        seed: Of the bootstrap.

    Raises:
        ConfigError: If there are too few batch sizes, the target was not reached, larger batches take clearly more steps, or
            the overhead is never reached within the batch sizes tried.
    """
    sizes = np.asarray(batch_sizes, dtype=float)
    steps = np.atleast_2d(np.asarray(steps_to_target, dtype=float))
    _check(sizes, steps, overhead, level)
    mean = steps.mean(axis=0)
    size = _crossing(sizes, mean * sizes, overhead)
    if math.isinf(size):
        share = float(mean[-1] * sizes[-1] / (mean * sizes).min() - 1)
        raise ConfigError(
            f"The examples to the target must exceed the fewest by {100 * overhead:.3g} % at some batch size; the largest tried, "
            f"{sizes[-1]:g}, takes {100 * share:.3g} % more. Try larger batches: the critical size lies beyond."
        )
    low = high = math.nan
    if len(steps) > 1:
        rng = np.random.default_rng(seed)
        rows = rng.integers(0, len(steps), size=(_RESAMPLES, len(steps), len(sizes)))
        drawn = steps[rows, np.arange(len(sizes))].mean(axis=1)
        found = np.sort([_crossing(sizes, d * sizes, overhead) for d in drawn])
        tail = (1.0 - level) / 2.0
        low = float(found[math.floor(tail * _RESAMPLES)])
        high = float(found[math.ceil((1.0 - tail) * _RESAMPLES) - 1])
    least_steps, least_examples = fit_curve(sizes, mean)
    return CriticalBatch(
        size,
        low,
        high,
        float(sizes[np.argmin(mean * sizes)]),
        overhead,
        least_steps,
        least_examples,
        overhead * least_examples / least_steps if least_steps > 0 else math.inf,
    )


def _check(sizes: Floats, steps: Floats, overhead: float, level: float) -> None:
    """Refuses what no critical batch size can be read from."""
    if sizes.ndim != 1 or len(sizes) < 4:
        raise ConfigError(
            f"A critical batch size needs 4 batch sizes or more; got {sizes.size}. Add some, a factor of two apart."
        )
    if not (np.isfinite(sizes).all() and sizes[0] > 0 and (np.diff(sizes) > 0).all()):
        raise ConfigError(
            f"Batch sizes must be above 0 and strictly increasing; got {sizes.tolist()}. Sort them and drop repetitions."
        )
    if steps.ndim != 2 or steps.shape[1] != len(sizes):
        raise ConfigError(
            f"There must be one number of steps for each of the {len(sizes)} batch sizes; got shape {steps.shape}. Repetitions "
            "are rows."
        )
    if not overhead > 0 or not 0.0 < level < 1.0:
        raise ConfigError(
            f"The overhead must be above 0 and the level in (0, 1); got {overhead} and {level}. Give 0.2 and 0.95 for the paper's."
        )
    missed = ~np.isfinite(steps)
    if missed.any():
        which = sizes[missed.any(axis=0)]
        raise ConfigError(
            f"Every batch size must reach the target; those of {', '.join(f'{b:g}' for b in which)} did not (in "
            f"{int(missed.sum())} of {steps.size} runs). Train them longer, tune their rate, or raise the target loss."
        )
    if (steps <= 0).any():
        raise ConfigError(
            f"Steps must be above 0; got {steps.min():g}. A target met before training tells nothing."
        )
    mean = steps.mean(axis=0)
    ratio = mean[1:] / np.minimum.accumulate(mean)[:-1]
    if (ratio > 1.1).any():
        i = int(np.argmax(ratio > 1.1)) + 1
        raise ConfigError(
            f"A larger batch must not take more steps; {sizes[i]:g} takes {mean[i]:.4g} where a smaller one took "
            f"{mean[:i].min():.4g}. Tune the rate at that batch size."
        )


def _crossing(sizes: Floats, examples: Floats, overhead: float) -> float:
    """Batch size beyond the best one where the examples first exceed the fewest by the overhead; infinite if nowhere."""
    best = int(np.argmin(examples))
    excess = np.log(examples / examples[best]) - math.log1p(overhead)
    for i in range(best + 1, len(sizes)):
        if excess[i] >= 0:
            share = -excess[i - 1] / (excess[i] - excess[i - 1])
            return float(sizes[i - 1] * (sizes[i] / sizes[i - 1]) ** share)
    return math.inf


def fit_curve(batch_sizes: Sequence[float] | Floats, steps: Sequence[float] | Floats) -> tuple[float, float]:
    """Least steps and least examples of the curve ``steps = least_steps + least_examples / batch``.

    Both are at least 0; relative errors count (least squares on ``steps / measured - 1``).

    Args:
        batch_sizes: Shape ``(b,)``.
        steps: Shape ``(b,)``.

    Raises:
        ConfigError: If there are fewer than two points.
    """
    sizes, seen = np.asarray(batch_sizes, dtype=float), np.asarray(steps, dtype=float)
    if len(sizes) < 2 or len(sizes) != len(seen):
        raise ConfigError(
            f"A curve of two coefficients needs two batch sizes with their steps; got {len(sizes)} and {len(seen)}. Measure more."
        )
    from scipy.optimize import nnls

    found, _ = nnls(np.stack([1.0 / seen, 1.0 / (sizes * seen)], axis=1), np.ones(len(seen)))
    return float(found[0]), float(found[1])


@dataclass(frozen=True, slots=True)
class CriticalLaw:
    """How the critical batch size grows: ``scale * parameters^a * tokens^b``.

    Attributes:
        scale: Constant, in the unit of the batch sizes.
        parameters: Exponent ``a`` of the number of parameters.
        tokens: Exponent ``b`` of the number of training tokens.
        parameters_interval: Ends of the interval of ``a``.
        tokens_interval: Ends of the interval of ``b``.
        box: Least and most parameters, least and most tokens of the measurements.
        cloud: Resampled ``(log scale, a, b)``, shape ``(r, 3)``.
    """

    scale: float
    parameters: float
    tokens: float
    parameters_interval: tuple[float, float]
    tokens_interval: tuple[float, float]
    box: tuple[float, float, float, float]
    cloud: Floats = field(repr=False, compare=False)

    def predict(self, parameters: float, tokens: float, *, reach: float = 10.0) -> tuple[float, float, float]:
        """Critical batch size of a training, and the ends of its 95 % interval.

        Args:
            parameters: Of the model.
            tokens: Of the training.
            reach: How many times beyond the measurements the law is asked at most.

        Raises:
            ConfigError: If the question is further from the measurements.
        """
        for name, value, low, high in (
            ("parameters", parameters, *self.box[:2]),
            ("tokens", tokens, *self.box[2:]),
        ):
            if not low / reach <= value <= high * reach:
                raise ConfigError(
                    f"The law was fitted from {low:.3g} to {high:.3g} {name} and is asked at most {reach:g} times beyond; got "
                    f"{value:.3g}. Measure nearer, or check the unit: it is one, not thousands or millions."
                )
        at = np.array([1.0, math.log(parameters), math.log(tokens)])
        drawn = np.exp(self.cloud @ at)
        low, high = np.quantile(drawn, [0.025, 0.975])
        middle = math.exp(math.log(self.scale) + self.parameters * at[1] + self.tokens * at[2])
        return middle, float(low), float(high)


def fit_critical_law(
    parameters: Sequence[float],
    tokens: Sequence[float],
    critical: Any,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> CriticalLaw:
    """Fits both exponents at once by least squares on logarithms.

    With repetitions they are resampled; otherwise the measurements are, so long as each resample still tells both exponents.

    Args:
        parameters: Of each model, shape ``(m,)``.
        tokens: Of each training, shape ``(m,)``.
        critical: Critical batch sizes, shape ``(m,)`` or ``(n, m)`` for ``n`` repetitions.
        level: Of the intervals.
        seed: Of the bootstrap.

    Raises:
        ConfigError: If there are fewer than 4 measurements, numbers are not above 0, or parameters and tokens grow together
            so that their effects cannot be told apart.
    """
    design, sizes = _checked(parameters, tokens, critical)
    x = np.column_stack([np.ones(len(design)), np.log(design)])
    y = np.log(sizes)
    drawn = _cloud(x, y, seed)
    found = np.linalg.lstsq(x, y.mean(axis=0), rcond=None)[0]
    tail = (1.0 - level) / 2.0
    ends = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    return CriticalLaw(
        math.exp(found[0]),
        float(found[1]),
        float(found[2]),
        (float(ends[0, 1]), float(ends[1, 1])),
        (float(ends[0, 2]), float(ends[1, 2])),
        (
            float(design[:, 0].min()),
            float(design[:, 0].max()),
            float(design[:, 1].min()),
            float(design[:, 1].max()),
        ),
        drawn,
    )


def _checked(parameters: Any, tokens: Any, critical: Any) -> tuple[Floats, Floats]:
    """Inputs of shape ``(m, 2)`` and sizes of shape ``(n, m)``, refused where they do not tell three coefficients."""
    design = np.stack([np.asarray(parameters, float), np.asarray(tokens, float)], axis=1)
    sizes = np.atleast_2d(np.asarray(critical, float))
    if len(design) < 4 or sizes.shape[1] != len(design):
        raise ConfigError(
            f"Three coefficients need 4 measurements or more; got {len(design)} sizes and {sizes.shape[1]} batches. Measure more."
        )
    if not (
        (design > 0).all() and (sizes > 0).all() and np.isfinite(design).all() and np.isfinite(sizes).all()
    ):
        raise ConfigError(
            "Parameters, tokens and critical batch sizes must be finite and above 0; got some that are not. Drop those first."
        )
    if not _tells(np.column_stack([np.ones(len(design)), np.log(design)])):
        raise ConfigError(
            "Parameters and tokens must vary separately; here they grow together or one is the same throughout. Measure one model "
            "on more data, and a larger model on the same."
        )
    return design, sizes


def _cloud(x: Floats, y: Floats, seed: int) -> Floats:
    """Coefficients of resamples, shape ``(r, 3)``: of repetitions, or of measurements where there is one of each."""
    rng = np.random.default_rng(seed)
    cloud: list[Floats] = []
    while len(cloud) < _RESAMPLES:
        if len(y) > 1:
            rows = rng.integers(0, len(y), size=y.shape)
            cloud.append(np.linalg.lstsq(x, np.take_along_axis(y, rows, axis=0).mean(axis=0), rcond=None)[0])
        else:
            kept = rng.integers(0, len(x), size=len(x))
            if _tells(x[kept]):
                cloud.append(np.linalg.lstsq(x[kept], y[0, kept], rcond=None)[0])
    return np.array(cloud)


def _tells(x: Floats) -> bool:
    """Whether a design of a constant and two logarithms tells its coefficients apart."""
    centred = x[:, 1:] - x[:, 1:].mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    return bool(values[-1] > 1e-6 * max(1.0, values[0]))
