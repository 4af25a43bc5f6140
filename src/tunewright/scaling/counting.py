"""What a training step of a network has to do: weights, arithmetic, memory copies, activations and kernels, counted and not measured.

*Use when*: shapes of a network shall be compared before any of them is built.
*Do not use when*: the network is not one of the plain families here; then count with ``torch.utils.flop_counter``.
*Paper*: memory copies: Inbar and Sernau 2024, arXiv:2406.18922; activations: Dollar, Singh and Girshick 2021, arXiv:2103.06877
*Differs*: memory copies are numbers read and written by every kernel of the forward and the backward pass and of the optimizer,
where the paper counts the forward pass and leaves the rest to its coefficient.
*Cost*: arithmetic on a handful of integers.

FLOPs count a multiplication and an addition as two, matrix products and convolutions only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tunewright.errors import ConfigError

Attention = Literal["fused", "explicit"]
# Numbers that a step of the optimizer reads and writes per weight, with its gradient, and clearing the gradient.
_PASSES = {"sgd": 3, "momentum": 5, "adam": 7, "adamw": 7}


@dataclass(frozen=True, slots=True)
class Counts:
    """What a training step has to do, or a part of it.

    Args:
        parameters: Trained weights.
        flops: Additions and multiplications in matrix products and convolutions.
        weight_copies: Numbers read and written that belong to weights, their gradients and the state of the optimizer.
        activation_copies: Numbers read and written that belong to examples.
        activations: Numbers that layers with weights put out in a forward pass, over the whole batch.
        kernels: Operations started one after the other.
    """

    parameters: int = 0
    flops: int = 0
    weight_copies: int = 0
    activation_copies: int = 0
    activations: int = 0
    kernels: int = 0

    @property
    def copies(self) -> int:
        """Numbers read and written."""
        return self.weight_copies + self.activation_copies

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.parameters + other.parameters,
            self.flops + other.flops,
            self.weight_copies + other.weight_copies,
            self.activation_copies + other.activation_copies,
            self.activations + other.activations,
            self.kernels + other.kernels,
        )

    def times(self, n: int) -> Counts:
        """The same ``n`` times over."""
        return Counts(**{k: n * v for k, v in asdict(self).items()})


@dataclass(frozen=True, slots=True)
class TransformerShape:
    """A decoder with learned places, normalization before every branch and a readout of its own, and its batch.

    Args:
        width: Of the residual stream.
        depth: Blocks of an attention and a feed-forward branch.
        heads: Attention heads; divides the width.
        context: Tokens of a sequence.
        batch: Sequences of a step.
        vocabulary: Tokens there are.
        factor: Width of the feed-forward branch over that of the stream.

    Raises:
        ConfigError: If a number is not a positive integer, or the heads do not divide the width.
    """

    width: int
    depth: int
    heads: int
    context: int
    batch: int
    vocabulary: int
    factor: int = 4

    def __post_init__(self) -> None:
        positive(asdict(self), "a transformer")
        if self.width % self.heads:
            raise ConfigError(
                f"The heads must divide the width; got {self.heads} heads and a width of {self.width}."
            )

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.batch * self.context

    @property
    def parameters(self) -> int:
        """Trained weights."""
        return transformer(self).parameters


def positive(numbers: dict[str, Any], of: str) -> None:
    """Refuses anything but positive integers.

    Raises:
        ConfigError: Naming the first that is not.
    """
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"The {name} of {of} must be an integer of at least 1; got {value!r}.")


def transformer(
    shape: TransformerShape, *, optimizer: str = "adamw", attention: Attention = "fused"
) -> Counts:
    """What a training step of a transformer has to do.

    Args:
        shape: The network and its batch.
        optimizer: "sgd", "momentum", "adam" or "adamw".
        attention: "explicit" if the scores of all pairs of tokens are written out, "fused" if they stay in the processor.

    Raises:
        ConfigError: If the optimizer is another.
    """
    n, d, v = shape.tokens, shape.width, shape.vocabulary
    block = _sum(
        [
            norm(n, d),
            linear(n, d, d).times(3),
            _attention(shape, attention),
            linear(n, d, d),
            pointwise(n * d, inputs=2),
            norm(n, d),
            linear(n, d, shape.factor * d),
            pointwise(n * shape.factor * d),
            linear(n, shape.factor * d, d),
            pointwise(n * d, inputs=2),
        ]
    )
    ends = _sum(
        [
            _table(n, d, v),
            _table(shape.context, d, shape.context),
            pointwise(n * d, inputs=2),
            norm(n, d),
            linear(n, d, v),
            pointwise(n * v).times(2),
        ]
    )
    # Two tensors per norm and linear layer, nine pairs of them in a block.
    return with_optimizer(block.times(shape.depth) + ends, optimizer, tensors=16 * shape.depth + 6)


def with_optimizer(counts: Counts, optimizer: str, tensors: int) -> Counts:
    """Adds the step of the optimizer to a forward and backward pass over so many tensors of weights.

    Raises:
        ConfigError: If it is not one of "sgd", "momentum", "adam" and "adamw".
    """
    if optimizer not in _PASSES:
        raise ConfigError(f"The optimizer must be one of {', '.join(_PASSES)}; got {optimizer!r}.")
    return counts + Counts(weight_copies=_PASSES[optimizer] * counts.parameters, kernels=tensors)


def linear(rows: int, inputs: int, outputs: int, *, bias: bool = True) -> Counts:
    """A linear layer on so many rows, forward and backward."""
    weights = inputs * outputs + (outputs if bias else 0)
    return Counts(
        parameters=weights,
        flops=6 * rows * inputs * outputs,
        # Read forward, read for the gradient of the inputs, and the gradient of the weights written.
        weight_copies=3 * weights,
        activation_copies=3 * rows * (inputs + outputs),
        activations=rows * outputs,
        kernels=3,
    )


def convolution(
    images: int, side: int, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, groups: int = 1
) -> Counts:
    """A convolution without biases on square images of ``side`` after padding "same", forward and backward.

    Raises:
        ConfigError: If the groups do not divide both numbers of channels.
    """
    if inputs % groups or outputs % groups:
        raise ConfigError(f"The groups must divide the channels; got {groups} of {inputs} and {outputs}.")
    out = -(-side // stride)
    weights = kernel**2 * inputs * outputs // groups
    read, written = images * inputs * side**2, images * outputs * out**2
    return Counts(
        parameters=weights,
        flops=6 * images * out**2 * weights,
        weight_copies=3 * weights,
        activation_copies=3 * (read + written),
        activations=written,
        kernels=3,
    )


def norm(rows: int, width: int) -> Counts:
    """A normalization with gains and biases: two passes forward, and in the backward pass two over inputs and gradients."""
    return Counts(
        parameters=2 * width,
        weight_copies=3 * 2 * width,
        activation_copies=8 * rows * width,
        kernels=2,
    )


def pointwise(numbers: int, inputs: int = 1) -> Counts:
    """A function of each number, or of pairs of numbers; a sum passes its gradient on, unchanged and unmoved."""
    return Counts(activation_copies=(5 if inputs == 1 else 3) * numbers, kernels=2 if inputs == 1 else 1)


def _table(rows: int, width: int, entries: int) -> Counts:
    """An embedding, whose gradient is written in full."""
    return Counts(
        parameters=entries * width,
        weight_copies=entries * width,
        activation_copies=4 * rows * width,
        activations=rows * width,
        kernels=2,
    )


def _attention(shape: TransformerShape, attention: Attention) -> Counts:
    """Softmax attention between projections: two products forward and four backward, five where the scores are made anew."""
    pairs = shape.batch * shape.heads * shape.context**2
    stream = shape.tokens * shape.width
    products = 2 * shape.context * stream
    if attention == "fused":
        return Counts(flops=7 * products, activation_copies=(4 + 8) * stream, kernels=8)
    # Scores, mask and softmax are each written and read; so are the gradients of softmax and scores.
    return Counts(
        flops=6 * products,
        activation_copies=(4 + 8) * stream + 14 * pairs,
        kernels=14,
    )


def _sum(parts: Iterable[Counts]) -> Counts:
    return sum(parts, Counts())


@dataclass(frozen=True, slots=True)
class ConvShape:
    """A plain convolutional network in stages, each of which begins by halving the images and ends before the next.

    Args:
        resolution: Side of the square images.
        widths: Channels of every stage.
        depths: Convolutions of every stage.
        channels: Of the images.
        classes: Outputs.
        batch: Images of a step.
        kernel: Side of the kernels.
        group: Channels of a group; None for convolutions without groups. A width below it is one group.

    Raises:
        ConfigError: If a number is not a positive integer, the stages have no width or depth each, or a group does not divide a width.
    """

    resolution: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    channels: int = 3
    classes: int = 1000
    batch: int = 1
    kernel: int = 3
    group: int | None = None

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.depths) or not self.widths:
            raise ConfigError(
                f"Every stage needs a width and a depth; got {len(self.widths)} widths and {len(self.depths)} depths."
            )
        numbers = {
            "resolution": self.resolution,
            "channels": self.channels,
            "classes": self.classes,
            "batch": self.batch,
            "kernel": self.kernel,
            "group": 1 if self.group is None else self.group,
        }
        numbers |= {f"width of stage {i + 1}": w for i, w in enumerate(self.widths)}
        numbers |= {f"depth of stage {i + 1}": d for i, d in enumerate(self.depths)}
        positive(numbers, "a convolutional network")
        for width in self.widths:
            if self.group is not None and width > self.group and width % self.group:
                raise ConfigError(f"Groups of {self.group} channels must divide every width; got {width}.")

    def layers(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Side of the inputs, inputs, outputs, stride and groups of every convolution."""
        side, before = self.resolution, self.channels
        for width, depth in zip(self.widths, self.depths, strict=True):
            for i in range(depth):
                stride = 2 if i == 0 else 1
                grouped = self.group is not None and before == width
                groups = max(1, width // self.group) if grouped and self.group is not None else 1
                yield side, before, width, stride, groups
                side, before = -(-side // stride), width


def convnet(shape: ConvShape, *, optimizer: str = "momentum") -> Counts:
    """What a training step of a plain convolutional network has to do: convolutions with normalization and ReLU, the mean, a readout.

    Args:
        shape: The network and its batch.
        optimizer: "sgd", "momentum", "adam" or "adamw".

    Raises:
        ConfigError: If the optimizer is another.
    """
    total, tensors = Counts(), 2
    for side, inputs, outputs, stride, groups in shape.layers():
        rows = shape.batch * (-(-side // stride)) ** 2
        total += convolution(
            shape.batch, side, inputs, outputs, kernel=shape.kernel, stride=stride, groups=groups
        )
        total += norm(rows, outputs) + pointwise(rows * outputs)
        tensors += 3
    total += linear(shape.batch, shape.widths[-1], shape.classes)
    return with_optimizer(total, optimizer, tensors)
