"""How long a training step takes, from the shape of the network alone; and the shape that learns most in a number of seconds.

*Use when*: trainings are paid by the hour, and width, depth, heads, context and batch are still open.
*Do not use when*: the machine is another than the one it was calibrated on, or steps wait for data or for other machines.
*Paper*: Inbar and Sernau 2024, "Time Matters: Scaling Laws for Any Budget", arXiv:2406.18922
*Differs*: the paper predicts from memory copies alone, on accelerators; on a processor arithmetic and the start of every kernel count
too, so the default has one coefficient for each of them beside a constant (``basis="copies"`` is the paper's model). Coefficients are
fitted to relative errors and are never negative. Predictions come with a range, and none is given far from what was measured.
*Cost*: a non-negative least-squares problem with as many rows as shapes; a prediction is a sum of four products.

The seconds of a step for a shape with counts ``c`` are ``sum_i w_i f_i(c)``, where the ``f`` are the terms of the basis.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunewright.errors import ConfigError
from tunewright.scaling.counting import Attention, Counts, TransformerShape, transformer

Floats = NDArray[np.float64]
Term = Callable[[Counts], float]

_TERMS: Mapping[str, Term] = MappingProxyType(
    {
        "one": lambda c: 1.0,
        "flops": lambda c: float(c.flops),
        "flops^1/2": lambda c: float(c.flops) ** 0.5,
        "flops^3/4": lambda c: float(c.flops) ** 0.75,
        "copies": lambda c: float(c.copies),
        "kernels": lambda c: float(c.kernels),
    }
)
BASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "full": ("flops", "copies", "kernels", "one"),
        "copies": ("copies", "one"),
        "flops": ("flops", "one"),
        "flops-curve": ("flops", "flops^1/2", "flops^3/4", "one"),
    }
)
# The counts whose range in the calibration bounds where predictions are made.
_BOX = ("flops", "copies", "kernels")


@dataclass(frozen=True, slots=True)
class Duration:
    """Predicted seconds of a step.

    Attributes:
        seconds: The prediction.
        low: Lower end of the range.
        high: Upper end of the range.
        inside: Whether the shape lies in the box of the calibration.
    """

    seconds: float
    low: float
    high: float
    inside: bool


@dataclass(frozen=True, slots=True)
class TimeModel:
    """Seconds of a step from counts, as fitted by ``calibrate``.

    Attributes:
        basis: Names of the terms.
        weights: Seconds per unit of each term.
        spread: Half-width of the range of predictions, on the scale of natural logarithms.
        level: Share of new shapes whose time lies in the range.
        box: Least and largest count of the calibration, by name.
        optimizer: Of the steps that were measured.
        attention: How attention was counted.
        error: Mean relative error on shapes left out one at a time.
    """

    basis: tuple[str, ...]
    weights: tuple[float, ...]
    spread: float
    level: float
    box: Mapping[str, tuple[float, float]]
    optimizer: str
    attention: Attention
    error: float

    def predict(
        self, shape: TransformerShape, *, slack: float = 2.0, outside: Literal["refuse", "warn"] = "refuse"
    ) -> Duration:
        """Seconds of a step.

        Args:
            shape: The network and its batch.
            slack: Factor by which a count may leave the range of the calibration.
            outside: Whether a shape beyond that is an error or gives a warning.

        Raises:
            ConfigError: If the shape is outside the box.
        """
        counts = transformer(shape, optimizer=self.optimizer, attention=self.attention)
        seconds = float(np.dot(_row(counts, self.basis), self.weights))
        strays = [
            f"{name} {getattr(counts, name):.3g}, measured {low:.3g} to {high:.3g}"
            for name, (low, high) in self.box.items()
            if not low / slack <= getattr(counts, name) <= high * slack
        ]
        if strays:
            message = (
                f"A time is predicted near shapes that were measured only; got {'; '.join(strays)}. Calibrate on shapes of "
                "that size too."
            )
            if outside == "refuse":
                raise ConfigError(message)
            warnings.warn(message, UserWarning, stacklevel=2)
        factor = math.exp(self.spread)
        return Duration(seconds, seconds / factor, seconds * factor, not strays)


def calibrate(
    shapes: Sequence[TransformerShape],
    seconds: Sequence[float],
    *,
    basis: str = "full",
    level: float = 0.9,
    optimizer: str = "adamw",
    attention: Attention = "explicit",
) -> TimeModel:
    """Fits a model of time to measured steps.

    Args:
        shapes: What was measured.
        seconds: Of a step of each, same length.
        basis: "full", "copies" (the paper's), "flops", or "flops-curve" (as many coefficients as "full", from FLOPs alone).
        level: Share of new shapes whose time shall lie in the range of a prediction; the range is conformal, from residuals of
            shapes left out one at a time.
        optimizer: Of the steps that were measured.
        attention: How to count it; on processors even a fused kernel pays for every pair of tokens, so the default is "explicit".

    Raises:
        ConfigError: If times are missing or not positive, or shapes too few or too alike for the coefficients and the level.
    """
    t = _checked(shapes, seconds, basis, level)
    names = BASES[basis]
    counts = [transformer(s, optimizer=optimizer, attention=attention) for s in shapes]
    rows = np.array([_row(c, names) for c in counts])
    if np.linalg.matrix_rank(rows / rows.max(axis=0)) < len(names):
        raise ConfigError(
            f"The shapes must differ in {', '.join(n for n in names if n != 'one')} independently; they do not. Vary width, "
            "depth and batch separately."
        )
    weights = _relative_fit(rows, t)
    left_out = _left_out(rows, t)
    rank = math.ceil((len(t) + 1) * level - 1e-9)
    spread = float(np.sort(np.abs(np.log(left_out / t)))[rank - 1])
    box = {
        name: (float(min(getattr(c, name) for c in counts)), float(max(getattr(c, name) for c in counts)))
        for name in _BOX
    }
    error = float(np.mean(np.abs(left_out / t - 1)))
    return TimeModel(
        names,
        tuple(float(w) for w in weights),
        spread,
        level,
        MappingProxyType(box),
        optimizer,
        attention,
        error,
    )


def _checked(
    shapes: Sequence[TransformerShape], seconds: Sequence[float], basis: str, level: float
) -> Floats:
    """The times as an array, if they and everything else can be used."""
    if basis not in BASES:
        raise ConfigError(f"The basis must be one of {', '.join(BASES)}; got {basis!r}.")
    if not 0 < level < 1:
        raise ConfigError(f"The level must be a share in (0, 1); got {level}.")
    t = np.asarray(seconds, dtype=np.float64)
    # Below the second number the range of a conformal prediction has no end.
    need = max(len(BASES[basis]) + 2, math.ceil(level / (1 - level) - 1e-9))
    if t.shape != (len(shapes),) or len(set(shapes)) < need:
        raise ConfigError(
            f"A time model with {len(BASES[basis])} coefficients and a range at level {level:g} needs {need} different shapes, "
            f"each with its seconds; got {len(set(shapes))} and {t.size} times."
        )
    if not (np.isfinite(t).all() and (t > 0).all()):
        raise ConfigError("Seconds of a step must be finite and above 0; leave out steps that failed.")
    return t


def _row(counts: Counts, names: tuple[str, ...]) -> Floats:
    return np.array([_TERMS[n](counts) for n in names], dtype=np.float64)


def _relative_fit(rows: Floats, t: Floats) -> Floats:
    """Non-negative coefficients with the least squared relative error."""
    from scipy.optimize import nnls

    scale = rows.max(axis=0)
    found, _ = nnls(rows / scale / t[:, None], np.ones(len(t)))
    return np.asarray(found / scale, dtype=np.float64)


def _left_out(rows: Floats, t: Floats) -> Floats:
    """Predictions for each row from all the others; the tiniest time keeps their logarithm finite."""
    keep = np.arange(len(t))
    predicted = [rows[i] @ _relative_fit(rows[keep != i], t[keep != i]) for i in keep]
    return np.maximum(np.asarray(predicted, dtype=np.float64), 1e-12)


def measure(step: Callable[[], object], *, repeats: int = 5, warm_up: int = 1, clock: Any = None) -> float:
    """Median seconds of a call.

    Args:
        step: What to time.
        repeats: Calls that count.
        warm_up: Calls before them that do not.
        clock: Seconds now; by default processor time of this thread, which other programs disturb least. On an accelerator pass a
            clock that waits for it.
    """
    now = clock or time.thread_time
    for _ in range(warm_up):
        step()
    taken = []
    for _ in range(repeats):
        begin = now()
        step()
        taken.append(now() - begin)
    return float(statistics.median(taken))


def measure_step(
    shape: TransformerShape,
    build: Callable[[TransformerShape], Any] | None = None,
    *,
    optimizer: str = "adamw",
    repeats: int = 5,
    seed: int = 0,
) -> float:
    """Median processor seconds of a training step of a transformer, on one thread.

    Args:
        shape: The network and its batch.
        build: Makes a module from tokens ``(b, t)`` to scores ``(b, t, vocabulary)``; by default one of
            ``torch.nn.TransformerEncoderLayer``.
        optimizer: "sgd", "momentum", "adam" or "adamw".
        repeats: Steps that count.
        seed: Of weights and tokens.

    Raises:
        ConfigError: If the optimizer is another.
    """
    step = training_step(shape, build, optimizer=optimizer, seed=seed)
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measure(step, repeats=repeats)
    finally:
        torch.set_num_threads(threads)


def training_step(
    shape: TransformerShape,
    build: Callable[[TransformerShape], Any] | None = None,
    *,
    optimizer: str = "adamw",
    seed: int = 0,
) -> Callable[[], None]:
    """A step on random tokens: forward, loss, backward, optimizer.

    Args:
        shape: The network and its batch.
        build: As for ``measure_step``.
        optimizer: "sgd", "momentum", "adam" or "adamw".
        seed: Of weights and tokens.

    Raises:
        ConfigError: If the optimizer is another.
    """
    import torch

    makers: dict[str, Callable[[Any], Any]] = {
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-3),
        "momentum": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
        "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3),
    }
    if optimizer not in makers:
        raise ConfigError(f"The optimizer must be one of {', '.join(makers)}; got {optimizer!r}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (build or _encoder)(shape)
        letters = torch.randint(shape.vocabulary, (shape.batch, shape.context + 1))
    made = makers[optimizer](model.parameters())

    def step() -> None:
        made.zero_grad()
        scores = model(letters[:, :-1])
        loss = torch.nn.functional.cross_entropy(
            scores.reshape(-1, shape.vocabulary), letters[:, 1:].reshape(-1)
        )
        loss.backward()  # type: ignore[no-untyped-call]
        made.step()

    return step


def _encoder(shape: TransformerShape) -> Any:
    """A causal transformer of PyTorch's own layers."""
    import torch
    from torch import nn

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.letters = nn.Embedding(shape.vocabulary, shape.width)
            self.places = nn.Embedding(shape.context, shape.width)
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(
                    shape.width,
                    shape.heads,
                    shape.factor * shape.width,
                    dropout=0.0,
                    activation="gelu",
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(shape.depth)
            )
            self.norm = nn.LayerNorm(shape.width)
            self.outlet = nn.Linear(shape.width, shape.vocabulary)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            h = self.letters(x) + self.places(torch.arange(x.shape[1]))
            for block in self.blocks:
                h = block(h, src_mask=mask, is_causal=True)
            out: torch.Tensor = self.outlet(self.norm(h))
            return out

    return Decoder()


@dataclass(frozen=True, slots=True)
class TimedLoss:
    """Loss after training, from weights and tokens: ``floor + a / parameters^alpha + b / tokens^beta``.

    Attributes:
        floor: Loss that no model goes below, in nats.
        a: Nats times weights to the power ``alpha``.
        b: Nats times tokens to the power ``beta``.
        alpha: Exponent of weights.
        beta: Exponent of tokens.
    """

    floor: float
    a: float
    b: float
    alpha: float = 0.34
    beta: float = 0.28

    def __call__(self, parameters: float, tokens: float) -> float:
        """Loss in nats of a model of so many weights after so many tokens."""
        return float(self.floor + self.a / parameters**self.alpha + self.b / tokens**self.beta)


def fit_loss(
    parameters: ArrayLike,
    tokens: ArrayLike,
    losses: ArrayLike,
    *,
    alpha: float = 0.34,
    beta: float = 0.28,
) -> TimedLoss:
    """The three coefficients for exponents that are known, by linear least squares as in the paper, none of them negative.

    Args:
        parameters: Weights of every model.
        tokens: That it was trained on.
        losses: That it ended with, in nats.
        alpha: Exponent of weights; Chinchilla's by default (Hoffmann et al. 2022, arXiv:2203.15556).
        beta: Exponent of tokens.

    Raises:
        ConfigError: If lengths differ, a run diverged, or sizes and lengths of trainings do not both vary.
    """
    n, d, y = (np.asarray(v, dtype=np.float64) for v in (parameters, tokens, losses))
    if n.ndim != 1 or not n.shape == d.shape == y.shape:
        raise ConfigError(
            f"Weights, tokens and losses must be equally many; got {n.shape}, {d.shape} and {y.shape}."
        )
    if not (np.isfinite(y).all() and (n > 0).all() and (d > 0).all()):
        raise ConfigError(
            "A loss law is fitted to finite losses of positive sizes; leave out runs that diverged."
        )
    if len(np.unique(n)) < 2 or len(np.unique(d)) < 2 or len(n) < 4:
        raise ConfigError(
            "A loss law with 3 coefficients needs 4 runs or more, of 2 sizes and 2 lengths at least; got "
            f"{len(n)} runs, {len(np.unique(n))} sizes and {len(np.unique(d))} lengths."
        )
    from scipy.optimize import nnls

    rows = np.stack([np.ones_like(n), n**-alpha, d**-beta], axis=1)
    scale = rows.max(axis=0)
    found, _ = nnls(rows / scale, y)
    floor, a, b = found / scale
    return TimedLoss(float(floor), float(a), float(b), alpha, beta)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a shape comes to in a number of seconds.

    Attributes:
        shape: The network and its batch.
        step: Predicted seconds of a step.
        steps: Steps that fit.
        tokens: Tokens that they see.
        loss: Predicted loss in nats.
        low: Its value if steps take as little as they may by the time model's range.
        high: Its value if they take as much.
    """

    shape: TransformerShape
    step: Duration
    steps: int
    tokens: int
    loss: float
    low: float
    high: float


def best_shapes(
    candidates: Sequence[TransformerShape],
    seconds: float,
    times: TimeModel,
    loss: Callable[[float, float], float],
) -> list[Offer]:
    """Shapes by the loss they are predicted to reach in a number of seconds, the best first (section 4 of the paper).

    Args:
        candidates: Shapes to choose from; those that the time model does not cover, or that get no step done, are left out.
        seconds: Budget of training.
        times: The machine.
        loss: Nats from weights and tokens, as ``TimedLoss``.

    Raises:
        ConfigError: If the budget is not positive or no candidate is left.
    """
    if not seconds > 0:
        raise ConfigError(f"A budget must be above 0 seconds; got {seconds}.")
    offers = []
    for shape in candidates:
        try:
            step = times.predict(shape)
        except ConfigError:
            continue
        steps = int(seconds / step.seconds)
        if steps < 1:
            continue
        n = shape.parameters
        values = [
            loss(n, max(1, int(seconds / s)) * shape.tokens) for s in (step.seconds, step.low, step.high)
        ]
        offers.append(Offer(shape, step, steps, steps * shape.tokens, *values))
    if not offers:
        raise ConfigError(
            f"Of {len(candidates)} shapes none is near those measured and done with a step in {seconds:g} seconds. Calibrate on "
            "such shapes, or offer smaller ones."
        )
    return sorted(offers, key=lambda o: o.loss)
