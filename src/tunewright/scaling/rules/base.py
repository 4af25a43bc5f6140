"""What a parametrization is: for every tensor of a model its first values, its rate, its decay and a factor in the forward pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

Role = Literal["input", "hidden", "output", "vector", "scalar"]
Optimizer = Literal["sgd", "adam", "adamw", "adam-atan2", "adafactor", "lion", "kfac", "shampoo"]
OPTIMIZERS: tuple[Optimizer, ...] = (
    "sgd",
    "adam",
    "adamw",
    "adam-atan2",
    "adafactor",
    "lion",
    "kfac",
    "shampoo",
)
ADAM_LIKE = frozenset({"adam", "adamw", "adam-atan2", "lion"})
"""Optimizers whose first step has the size of the rate in every weight, whatever the gradient's size."""
WITH_EPS = frozenset({"adam", "adamw"})
"""Those of them that add an eps to a gradient's size."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """Scale-free hyperparameters beside the learning rate: what a proxy is tuned by and a target takes over.

    Attributes:
        init: Factor on the standard deviation of the first values of hidden matrices.
        input: Factor on what the input tensors put out.
        output: Factor on the scores.
        attention: Factor on the logits of attention.
        residual: Factor on every residual branch.
    """

    init: float = 1.0
    input: float = 1.0
    output: float = 1.0
    attention: float = 1.0
    residual: float = 1.0


@dataclass(frozen=True, slots=True)
class Tensor:
    """One weight as a rule sees it.

    Attributes:
        name: Of the parameter, dots between modules.
        shape: As the module has it.
        role: ``hidden`` if what it sums over and what it puts out both grow, ``input`` if only the latter, ``output`` if only
            the former, ``vector`` for a growing vector, ``scalar`` if nothing grows.
        owner: Kind of the module: linear, conv, embedding, norm, attention, recurrent, other.
        fan_in: Terms of the sums that it is in; 1 for embeddings and vectors.
        fan_out: Its outputs.
        in_growth: Fan-in over that of the base.
        out_growth: Fan-out over that of the base.
        base_std: Standard deviation of its first values at the base size, None if unknown.
        own_std: The same at this size, by the model's own initialisation.
        in_branch: Whether it is part of a residual branch.
        depth: Blocks over those of the base, for tensors of blocks; else 1.
        blocks: Blocks at this size, for tensors of blocks; else 1.
        uniform: Whether its first values are uniform, as PyTorch's own of linear layers are.
        constant: Their value where they are all the same.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    owner: str
    fan_in: int
    fan_out: int
    in_growth: float
    out_growth: float
    base_std: float | None
    own_std: float | None
    in_branch: bool = False
    depth: float = 1.0
    blocks: int = 1
    uniform: bool = False
    constant: float = 0.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What a rule knows beside the tensor.

    Attributes:
        optimizer: What the model is trained with.
        depth: Blocks of the deepest stack over those of the base.
        blocks: Blocks of the deepest stack.
        tuned: Scale-free hyperparameters.
    """

    optimizer: Optimizer
    depth: float = 1.0
    blocks: int = 1
    tuned: Tuned = field(default_factory=Tuned)


@dataclass(frozen=True, slots=True)
class Scales:
    """What a rule says of a tensor.

    Attributes:
        std: Standard deviation of its first values; None leaves the model's own.
        lr: Factor on the learning rate.
        wd: Factor on the weight decay that the optimizer is given; see ``decay``.
        multiplier: Factor on what the tensor contributes in the forward pass.
        eps: Factor on the optimizer's eps.
    """

    std: float | None = None
    lr: float = 1.0
    wd: float = 1.0
    multiplier: float = 1.0
    eps: float = 1.0


def decay(lr: float, optimizer: str, gradient: float = 1.0) -> float:
    """Factor on the decay with which a step takes the same share of a tensor at every size.

    Decay apart from the gradient takes rate times decay; so does that of SGD, which is added to it. What plain Adam adds to the
    gradient is then divided by its size, so the decay has to fall as the gradient does.

    Args:
        lr: The tensor's factor on the rate.
        optimizer: What steps.
        gradient: How the size of the gradient's entries grows; for plain Adam.
    """
    return gradient / lr if optimizer == "adam" else 1 / lr


class Rule(Protocol):
    """A parametrization."""

    @property
    def name(self) -> str:
        """What ``scaling.plan`` takes."""
        ...

    @property
    def paper(self) -> str:
        """Authors, year, where."""
        ...

    @property
    def optimizers(self) -> frozenset[str]:
        """Those that it has rates for."""
        ...

    @property
    def transfers(self) -> frozenset[str]:
        """What may grow without the best rate moving: ``width``, ``depth``."""
        ...

    def scales(self, tensor: Tensor, setting: Setting) -> Scales:
        """What this tensor gets."""
        ...

    def branch(self, setting: Setting) -> float:
        """Factor on every residual branch."""
        ...

    def attention(self, growth: float, setting: Setting) -> float:
        """Factor on the logits of attention beside one over the root of the head's size, which is ``growth`` times the base's."""
        ...
