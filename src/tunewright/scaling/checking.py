"""What the checks of a parametrization share: sizes along one dimension, losses, optimizers, data made up, and slopes.

Example:
    Data for checks of a model on rows of features::

        def batches(seed):
            g = torch.Generator().manual_seed(seed)
            while True:
                rows = torch.randint(0, len(x), (64,), generator=g)
                yield x[rows], y[rows]
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tunewright.errors import ConfigError
from tunewright.scaling.plans import Plan
from tunewright.scaling.rules.base import Optimizer
from tunewright.scaling.tensors import modules_of

Floats = NDArray[np.float64]
Pair = tuple[Tensor, Tensor]
Batches = Callable[[int], Iterable[Pair]]
Loss = Callable[[Any, Tensor], Tensor]
Make = Callable[[Plan, nn.Module, float], torch.optim.Optimizer]
DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_ROWS, _LETTERS, _SIDE = 32, 16, 12


class Check(Protocol):
    """What every check gives."""

    @property
    def passed(self) -> bool:
        """Whether the rule did what it claims."""
        ...

    @property
    def why(self) -> str:
        """The verdict in a sentence."""
        ...

    def table(self) -> str:
        """The figures as text."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        ...


class Builder(Protocol):
    """What checks need of a ``Family``."""

    @property
    def base(self) -> Mapping[str, int]:
        """Sizes at which settings are tuned."""
        ...

    def build(
        self, name: str, seed: int = 0, *, optimizer: Optimizer = "adamw", **sizes: Any
    ) -> tuple[nn.Module, Plan]:
        """A model with its plan applied, and the plan."""
        ...


def ladder(family: Builder, along: str, sizes: Sequence[int], least: int = 2) -> tuple[int, ...]:
    """The sizes of a check, ascending.

    Raises:
        ConfigError: If there are too few, or the family has no such dimension.
    """
    if along not in family.base:
        raise ConfigError(f"A check goes along {' or '.join(family.base)}; got {along!r}.")
    found = tuple(sorted({int(s) for s in sizes}))
    if len(found) < least:
        raise ConfigError(
            f"A check along {along} needs {least} sizes or more; got {list(found)}. Name more of them."
        )
    return found


def scores(output: Any) -> Tensor:
    """The tensor of scores in what a model returns: itself, its ``logits``, or the first of several."""
    if isinstance(output, Tensor):
        return output
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if found is None and isinstance(output, tuple | list) and output:
        found = output[0]
    if not isinstance(found, Tensor):
        raise ConfigError(
            f"A model must return a tensor, a tuple that begins with one, or something with logits; got {type(output).__name__}."
        )
    return found


def usual_loss(output: Any, target: Tensor) -> Tensor:
    """Mean cross-entropy for targets that are classes ``(...)``, mean squared error for real ones of the scores' shape."""
    found = scores(output)
    if target.is_floating_point():
        return nn.functional.mse_loss(found.reshape(target.shape), target)
    return nn.functional.cross_entropy(found.reshape(-1, found.shape[-1]), target.reshape(-1))


def optimizer_of(plan: Plan, model: nn.Module, lr: float, make: Make | None) -> torch.optim.Optimizer:
    """The optimizer of a check, after the plan's.

    Args:
        plan: Rates by tensor.
        model: Whose tensors.
        lr: The base rate.
        make: Builds it from these three, for those that PyTorch has not and for settings other than the usual.

    Raises:
        ConfigError: If PyTorch has none of the plan's and ``make`` is not given.
    """
    if make is not None:
        return make(plan, model, lr)
    known: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "adafactor": torch.optim.Adafactor,
    }
    if plan.optimizer not in known:
        raise ConfigError(
            f"PyTorch has no optimizer {plan.optimizer!r}; take {', '.join(known)}, or pass make=, a function that builds it from plan, "
            "model and rate."
        )
    return known[plan.optimizer](plan.param_groups(lr, model=model))


def stream(batches: Batches, seed: int) -> Iterator[Pair]:
    """Batches of a seed, which must last.

    Raises:
        ConfigError: If they end, or are not pairs of tensors.
    """
    try:
        pairs: Iterator[Any] = iter(batches(seed))
    except TypeError as error:
        raise ConfigError(
            f"Batches come from a function of a seed that yields them; it gave none ({error}). Write def batches(seed), with a yield."
        ) from error
    for pair in pairs:
        parts = list(pair) if isinstance(pair, tuple | list) else []
        if len(parts) != 2 or not all(isinstance(part, Tensor) for part in parts):
            raise ConfigError("Batches must be pairs of tensors, inputs and targets; got something else.")
        yield parts[0], parts[1]
    raise ConfigError("Batches must last as long as the training; they ended before. Yield one per step.")


def loss_of(model: Callable[..., Any], loss: Loss, x: Tensor, y: Tensor) -> Tensor:
    """The loss of a batch.

    Raises:
        ConfigError: If model or loss cannot take it, or the loss is no single number.
    """
    try:
        value: Any = loss(model(x), y)
    except ConfigError:
        raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"Model and loss must take a batch of the data, inputs {list(x.shape)} and targets {list(y.shape)}; it raised {said}. Give "
            "data and a loss that fit the model."
        ) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(f"A loss must be a tensor with a single number; got {got}. Take its mean.")
    found: Tensor = value
    return found


def without_chance(model: nn.Module) -> nn.Module:
    """The model in training mode without dropout, so that two passes over the same batch differ by its weights only."""
    model.train()
    for module in model.modules():
        if isinstance(module, DROPOUT):
            module.eval()
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


def slope(sizes: Sequence[float], values: Floats) -> Floats:
    """Slopes of ``log2`` values against ``log2`` sizes by least squares.

    Args:
        sizes: Shape ``(s,)``.
        values: Positive, shape ``(s, ...)``.

    Returns:
        Shape ``(...)``; infinite where a value is, NaN where one is 0.
    """
    x = np.log2(np.asarray(sizes, dtype=np.float64))
    x -= x.mean()
    shape = values.shape[1:]
    flat = values.reshape(len(values), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.log2(flat)
        found = x @ (y - y.mean(axis=0)) / (x @ x)
    found = np.where((flat == 0).any(axis=0), math.nan, found)
    found = np.where(~np.isfinite(flat).all(axis=0), math.inf, found)
    return np.asarray(found.reshape(shape))


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns."""
    widths = [max(len(r[i]) for r in (head, *rows)) for i in range(len(head))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in (head, *rows)
    )


# ---------------------------------------------------------------------- data made up


def made_up(model: nn.Module, *, rows: int = _ROWS) -> Batches:
    """Data that a model takes, made up from its first layers, with targets that can be learned from them.

    Rows of features get the classes of a random linear teacher; letters are followed, four times of five, by one that the letter
    before decides. Enough to see activations, gradients and instabilities; for the best rate of a real task take its own data.

    Args:
        model: At any size; its inputs and outputs must not grow.
        rows: Examples in a batch.

    Returns:
        Batches from a seed.

    Raises:
        ConfigError: If no input can be guessed from its layers.
    """
    empty = [name for name, p in model.named_parameters() if p.device.type == "meta"]
    if empty:
        raise ConfigError(
            f"A check trains the model, so it must have values; {empty[0]} is on the meta device. Build it on a real device."
        )
    tried = []
    for draw in _inputs(model, rows):
        x = draw(torch.Generator().manual_seed(0))
        try:
            with torch.no_grad():
                shape = scores(model(x)).shape
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            tried.append(f"{list(x.shape)} of {x.dtype}: {error}".splitlines()[0])
            continue
        return _Taught(draw, x, shape[-1], per_place=len(shape) > 2)
    seen = f" Tried {tried[0]}." if tried else ""
    raise ConfigError(
        "The checks need a batch, and none could be made up from the model's first layers; pass your own (--data module:batches, a "
        f"function of a seed that yields inputs and targets).{seen}"
    )


Draw = Callable[[torch.Generator], Tensor]


def _inputs(model: nn.Module, rows: int) -> Iterator[Draw]:
    """Inputs that a model may take, by its layers."""
    tables = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    for letters in dict.fromkeys((*tables[:1], *((max(tables), min(tables)) if tables else ()))):
        yield _letters(letters, rows, min(_LETTERS, *tables))
        yield _letters(letters, rows)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            yield _reals(rows, module.in_channels, _SIDE, _SIDE)
            yield _reals(rows, module.in_channels, 32, 32)
        elif isinstance(module, nn.Conv1d):
            yield _reals(rows, module.in_channels, 32)
        elif isinstance(module, nn.Linear):
            yield _reals(rows, module.in_features)
            yield _reals(rows, _LETTERS, module.in_features)


def _reals(*shape: int) -> Draw:
    return lambda g: torch.randn(shape, generator=g)


def _letters(count: int, *shape: int) -> Draw:
    return lambda g: torch.randint(0, count, shape, generator=g)


class _Taught:
    """Batches whose targets follow from their inputs."""

    def __init__(self, draw: Draw, example: Tensor, classes: int, *, per_place: bool) -> None:
        self.draw, self.classes, self.per_place = draw, classes, per_place
        g = torch.Generator().manual_seed(1)
        if example.is_floating_point():
            inputs = example.shape[-1] if per_place else math.prod(example.shape[1:])
            self.teacher = torch.randn(inputs, max(2, classes), generator=g)
        else:
            self.teacher = torch.randint(0, max(2, classes), (int(1e5),), generator=g)

    def __call__(self, seed: int) -> Iterator[Pair]:
        """Endless batches."""
        g = torch.Generator().manual_seed(seed)
        while True:
            x = self.draw(g)
            yield x, self._target(x, g)

    def _target(self, x: Tensor, g: torch.Generator) -> Tensor:
        if not x.is_floating_point():
            first = x if self.per_place or x.dim() == 1 else x[:, 0]
            told = self.teacher[first] % max(1, self.classes)
            stray = torch.randint(0, max(1, self.classes), told.shape, generator=g)
            return torch.where(torch.rand(told.shape, generator=g) < 0.8, told, stray)
        rows = x if self.per_place else x.flatten(1)
        said: Tensor = rows @ self.teacher / rows.shape[-1] ** 0.5
        return said[..., :1] if self.classes == 1 else said.argmax(dim=-1)


def names_of(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by their first names, without what compilers and wrappers put into them; the model itself is ``output``."""
    found: dict[int, tuple[str, nn.Module]] = {}
    for name, module in modules_of(model).items():
        found.setdefault(id(module), (name or "output", module))
    return dict(found.values())


def take(pairs: Iterable[Pair], count: int) -> list[Pair]:
    """The first of a stream."""
    return list(itertools.islice(pairs, count))
