"""Unit-scaled operations and a transformer of them: activations, weights and gradients all start at a root mean square near one.

*Use when*: numbers have few bits (with ``rounding.LowPrecision`` the effect is seen on any machine), or u-muP is to be had in full: its
factors are one each by default, and can be tuned one at a time (``independent_search``).

*Do not use when*: the model exists and is not to be rewritten; ``scaling.plan("u-mup", ...)`` then gives the same dependence on
width and depth, with gradients and activations near one only up to constants.

*Paper*: Blake et al. 2024, arXiv:2407.17465, appendix B (operations), appendix G (residual branches), section 4.5 (search); after
Blake, Orr and Luschi 2023, arXiv:2303.11257.

*Differs*: the scale of an activation function is its exact second moment under a standard normal input, where the paper fits an
interpolation; the scale of causal attention has the harmonic sum of the places, whose limit is the paper's logarithm; a bias is
added after the factor of its layer, so that its rate means the same at every width.

*Cost*: a multiplication per operation and pass; none of the factors is trained.

Example:
    >>> import torch
    >>> from tunewright.scaling import unit
    >>> model = unit.UnitTransformer(vocabulary=27, width=32, depth=2)
    >>> optimizer = torch.optim.Adam(unit.plan(model).param_groups(lr=0.25))
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tunewright.errors import ConfigError
from tunewright.scaling.plans import Entry, Plan
from tunewright.scaling.rules.base import ADAM_LIKE, Optimizer, Role

Floats = NDArray[np.float64]


class _Scaled(torch.autograd.Function):
    """Multiplies by one number forward and by another backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, forward: float, backward: float) -> Tensor:
        return x * forward

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        ctx.backward_factor = inputs[2]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0] * ctx.backward_factor, None, None


def scaled(x: Tensor, forward: float = 1.0, backward: float = 1.0) -> Tensor:
    """Multiplies values by one factor and gradients by another.

    Where the factors of all paths that meet again are equal, gradients keep their directions; scales of weights and of what
    follows the last branch are free (section 2.2 of the paper).

    Args:
        x: Any shape.
        forward: Factor on the values.
        backward: Factor on the gradients.
    """
    out: Tensor = _Scaled.apply(x, forward, backward)  # type: ignore[no-untyped-call]
    return out


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, readout: bool = False) -> Tensor:
    """Linear map of weights of variance one.

    Args:
        x: Shape ``(..., fan_in)``.
        weight: Shape ``(fan_out, fan_in)``.
        bias: Shape ``(fan_out,)``.
        readout: Whether it gives the scores: these fall as one over the width as muP asks, and their gradient goes on at one
            over the root of what comes out; nothing meets it again, so the two may differ.

    Returns:
        Shape ``(..., fan_out)``.
    """
    fan_out, fan_in = weight.shape
    rows = math.sqrt(max(1, x.numel() // fan_in))
    factor = fan_in**-0.5
    back = fan_out**-0.5 if readout else factor
    shift = None if bias is None else scaled(bias, 1.0, 1 / rows)
    out = functional.linear(scaled(x, 1.0, back), scaled(weight, 1.0, 1 / rows))
    out = scaled(out, 1 / fan_in if readout else factor)
    return out if shift is None else out + shift


def embedding(index: Tensor, weight: Tensor) -> Tensor:
    """Rows of a table of variance one.

    Args:
        index: Whole numbers, any shape.
        weight: Shape ``(entries, width)``.

    Returns:
        Shape ``(*index.shape, width)``.
    """
    return functional.embedding(index, scaled(weight, 1.0, math.sqrt(weight.shape[0] / index.numel())))


@functools.cache
def _moment(kind: Literal["gelu", "silu", "gate"], mult: float) -> float:
    """Root of the mean square of an activation of a standard normal; of a gate beside an independent one it is the same."""
    from scipy.special import ndtr

    x = np.linspace(-10.0, 10.0, 20_001)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    bent = x * (ndtr(mult * x) if kind == "gelu" else 1 / (1 + np.exp(-np.clip(mult * x, -700, 700))))
    return float(np.sqrt(np.sum(bent**2 * density) * (x[1] - x[0])))


def gelu(x: Tensor, mult: float = 1.0) -> Tensor:
    """``x`` times the normal distribution function of ``mult x``, over its root mean square.

    Args:
        x: Any shape.
        mult: How sharp the bend is: 0 is linear, infinite is ReLU.
    """
    factor = 1 / _moment("gelu", mult)
    x = scaled(x, 1.0, factor)
    bent = functional.gelu(x) if mult == 1 else x * torch.special.ndtr(x * mult)
    return scaled(bent, factor)


def silu(x: Tensor, mult: float = 1.0) -> Tensor:
    """``x`` times the logistic function of ``mult x``, over its root mean square.

    Args:
        x: Any shape.
        mult: How sharp the bend is.
    """
    factor = 1 / _moment("silu", mult)
    x = scaled(x, 1.0, factor)
    return scaled(x * torch.sigmoid(x * mult), factor)


def gated_silu(x: Tensor, gate: Tensor, mult: float = 1.0) -> Tensor:
    """``x`` times the SiLU of a gate, over their root mean square.

    Args:
        x: Any shape.
        gate: The same shape.
        mult: How sharp the gate is (the paper's ``alpha`` of the feed-forward activation).
    """
    factor = 1 / _moment("gate", mult)
    x, gate = scaled(x, 1.0, factor), scaled(gate, 1.0, factor)
    return scaled(x * gate * torch.sigmoid(gate * mult), factor)


def attention_scale(places: int, head: int, mult: float = 1.0, *, causal: bool = True) -> float:
    """Root mean square of attention over independent values of variance one.

    Between flat weights, where a mean over ``n`` places has variance ``1 / n``, and one value alone (appendix B of the paper).

    Args:
        places: Of the sequence.
        head: Size of a head.
        mult: Factor on the logits, beside one over the head's size.
        causal: Whether place ``i`` sees ``i`` places, so that the mean of ``1 / n`` is a harmonic sum over them.
    """
    flat = math.sqrt(sum(1 / i for i in range(1, places + 1)) / places if causal else 1 / places)
    share = 1 / (1 + 4 * head / mult**2)
    return math.exp((1 - share) * math.log(flat))


def attention(query: Tensor, key: Tensor, value: Tensor, mult: float = 1.0, *, causal: bool = True) -> Tensor:
    """Softmax attention whose logits are divided by the head's size.

    Args:
        query: Shape ``(..., places, head)``.
        key: The same shape.
        value: The same shape.
        mult: Factor on the logits.
        causal: Whether a place sees only itself and those before.
    """
    factor = 1 / attention_scale(value.shape[-2], value.shape[-1], mult, causal=causal)
    query, key, value = (scaled(t, 1.0, factor) for t in (query, key, value))
    out = functional.scaled_dot_product_attention(
        query, key, value, is_causal=causal, scale=mult / value.shape[-1]
    )
    return scaled(out, factor)


def layer_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Layer normalization over the last dimension.

    Args:
        x: Shape ``(..., width)``.
        weight: Gains, shape ``(width,)``.
        bias: Shape ``(width,)``.
        eps: Added to the variance.
    """
    back = math.sqrt(x.shape[-1] / x.numel())
    weight = None if weight is None else scaled(weight, 1.0, back)
    bias = None if bias is None else scaled(bias, 1.0, back)
    return functional.layer_norm(x, x.shape[-1:], weight, bias, eps)


def rms_norm(x: Tensor, weight: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Divides by the root mean square over the last dimension.

    Args:
        x: Shape ``(..., width)``.
        weight: Gains, shape ``(width,)``.
        eps: Added to the mean square.
    """
    out = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps)
    if weight is None:
        return out
    return out * scaled(weight, 1.0, math.sqrt(x.shape[-1] / x.numel()))


def residual(branch: Callable[[Tensor], Tensor], x: Tensor, tau: float) -> Tensor:
    """Adds a branch to the stream at the ratio ``tau``, keeping the variance at one forward and backward.

    Inside the branch gradients have the scale of the stream: the ratio is applied where they leave it.

    Args:
        branch: From and to the shape of ``x``.
        x: The stream.
        tau: Scale of the branch over that of the stream.
    """
    norm = math.sqrt(1 + tau * tau)
    inside = branch(scaled(x, 1.0, tau / norm))
    return scaled(inside, tau / norm) + x * (1 / norm)


def residual_ratios(layers: int, mult: float = 1.0, ratio: float = 1.0) -> list[float]:
    """The ratio of each branch of a transformer, attention and feed-forward in turn (appendix G of the paper).

    Every attention branch adds as much to the stream as any other, so does every feed-forward branch, and both kinds together add
    ``mult`` squared times two of what the stream starts with.

    Args:
        layers: Pairs of branches.
        mult: Scale of the branches over that of the embedding.
        ratio: Scale of attention over that of feed-forward branches.
    """
    forward = mult * math.sqrt(2 / (1 + ratio * ratio))
    sizes = [ratio * forward, forward] * layers
    out, before = [], float(layers)
    for size in sizes:
        out.append(size / math.sqrt(before))
        before += size * size
    return out


def cross_entropy(scores: Tensor, target: Tensor, mult: float = 1.0) -> Tensor:
    """Mean cross-entropy in nats; the gradient of each score has the scale of one, not of one over the batch.

    Args:
        scores: Shape ``(..., classes)``.
        target: Classes, shape ``(...)``.
        mult: Factor on the scores (the paper's ``alpha`` of the loss).
    """
    classes = scores.shape[-1]
    flat = scaled(scores.reshape(-1, classes), mult, classes / math.sqrt(classes - 1))
    loss = functional.cross_entropy(flat, target.reshape(-1), reduction="sum")
    return scaled(loss, 1 / flat.shape[0])


class UnitLinear(nn.Linear):
    """A linear layer of weights of variance one and no bias at the start.

    Args:
        fan_in: Inputs.
        fan_out: Outputs.
        bias: Whether it has one.
        readout: See ``linear``.
    """

    def __init__(self, fan_in: int, fan_out: int, *, bias: bool = False, readout: bool = False) -> None:
        super().__init__(fan_in, fan_out, bias=bias)
        self.readout = readout

    def reset_parameters(self) -> None:
        """Variance one, bias zero."""
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Shape ``(..., fan_out)`` from ``(..., fan_in)``."""
        return linear(input, self.weight, self.bias, readout=self.readout)


class UnitEmbedding(nn.Embedding):
    """A table of variance one, as PyTorch's, with gradients of scale one."""

    def forward(self, input: Tensor) -> Tensor:
        """Shape ``(*input.shape, width)``."""
        return embedding(input, self.weight)


class UnitAttention(nn.Module):
    """Causal self-attention.

    Args:
        width: Of the stream.
        heads: Divides the width.
        mult: Factor on the logits.
    """

    def __init__(self, width: int, heads: int, mult: float = 1.0) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"The width must be a multiple of the heads; got {width} and {heads} heads.")
        self.heads, self.mult = heads, mult
        self.query, self.key = UnitLinear(width, width), UnitLinear(width, width)
        self.value, self.out = UnitLinear(width, width), UnitLinear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``(n, t, width)``, as ``x``."""
        n, t, d = x.shape
        q, k, v = (
            part(x).view(n, t, self.heads, d // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = attention(q, k, v, self.mult)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(n, t, d))
        return out


class UnitForward(nn.Module):
    """Feed-forward branch with a gated SiLU, or with GELU.

    Args:
        width: Of the stream.
        inner: Between its two layers.
        mult: How sharp the gate or the GELU is.
        gated: Whether there is a gate.
    """

    def __init__(self, width: int, inner: int, mult: float = 1.0, *, gated: bool = True) -> None:
        super().__init__()
        self.mult = mult
        self.up = UnitLinear(width, inner)
        self.gate = UnitLinear(width, inner) if gated else None
        self.down = UnitLinear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape as ``x``."""
        up = self.up(x)
        h = gelu(up, self.mult) if self.gate is None else gated_silu(up, self.gate(x), self.mult)
        out: Tensor = self.down(h)
        return out


@dataclass(frozen=True, slots=True)
class Factors:
    """The scale-free hyperparameters of u-muP beside the rate; one each is the default (table 3 of the paper).

    Attributes:
        activation: On the gate's (or the GELU's) input in feed-forward branches.
        attention: On the logits of attention.
        residual: Branches over the embedding.
        ratio: Attention branches over feed-forward ones.
        loss: On the scores.
    """

    activation: float = 1.0
    attention: float = 1.0
    residual: float = 1.0
    ratio: float = 1.0
    loss: float = 1.0


class UnitTransformer(nn.Module):
    """A decoder in which everything is unit-scaled: letters and places, blocks of attention and feed-forward, a readout.

    Args:
        vocabulary: Letters.
        width: Of the stream.
        depth: Blocks.
        heads: By default one for every 16 units.
        context: Most letters at once.
        factor: Width of the feed-forward branch over that of the stream.
        factors: Scale-free hyperparameters; ``Factors.loss`` is applied to the scores.
        gated: Whether feed-forward branches have a gate; without one they have GELU and two matrices instead of three.
    """

    def __init__(
        self,
        vocabulary: int = 27,
        width: int = 32,
        depth: int = 2,
        *,
        heads: int | None = None,
        context: int = 32,
        factor: int = 4,
        factors: Factors | None = None,
        gated: bool = True,
    ) -> None:
        super().__init__()
        f = factors or Factors()
        self.factors = f
        self.letters, self.places = UnitEmbedding(vocabulary, width), UnitEmbedding(context, width)
        count = heads or max(1, width // 16)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                [
                    UnitAttention(width, count, f.attention),
                    UnitForward(width, factor * width, f.activation, gated=gated),
                ]
            )
            for _ in range(depth)
        )
        self.ratios = residual_ratios(depth, f.residual, f.ratio)
        self.outlet = UnitLinear(width, vocabulary, readout=True)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape ``(n, t, vocabulary)`` for letters of shape ``(n, t)``."""
        places = torch.arange(x.shape[-1], device=x.device).expand_as(x)
        h = (self.letters(x) + self.places(places)) * 2**-0.5
        branches = [branch for block in self.blocks for branch in block]  # type: ignore[attr-defined]
        for branch, tau in zip(branches, self.ratios, strict=True):
            h = residual(lambda y, b=branch: b(rms_norm(y)), h, tau)  # type: ignore[misc]
        out: Tensor = self.outlet(rms_norm(h))
        return out

    def loss(self, scores: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy in nats with the factor on the scores."""
        return cross_entropy(scores, target, self.factors.loss)


def plan(model: nn.Module, optimizer: Optimizer = "adamw") -> Plan:
    """The rates of a model of unit-scaled modules (table 2 of the paper), as a plan; there is nothing to draw or to hang on.

    Matrices have one over the root of the fan-in, tables one over the root of the width, readouts and vectors one; what is in
    lists of blocks has one over the root of their number beside that. A step's decay is the same for all of them, rate times decay; for
    the paper's decay, which does not follow the rate that is tuned, pass ``weight_decay=decay / lr``.

    Args:
        model: Of the modules of this file, in ``nn.ModuleList`` where it is deep.
        optimizer: One like Adam.

    Raises:
        ConfigError: If the optimizer's first step depends on the size of gradients, or a matrix belongs to another module.
    """
    if optimizer not in ADAM_LIKE:
        raise ConfigError(
            f"Rates of unit-scaled models are for {', '.join(sorted(ADAM_LIKE))}; got optimizer={optimizer!r}. Use one of them."
        )
    entries: dict[str, Entry] = {}
    for name, parameter in sorted(model.named_parameters()):
        module = model.get_submodule(name.rpartition(".")[0])
        deep = _blocks(model, name) ** -0.5
        shape = tuple(parameter.shape)
        fan_in, fan_out, role, lr = _rate(name, module, shape)
        lr *= deep
        entries[name] = Entry(
            name, shape, role, fan_in, fan_out, 1.0, 1.0, 1.0, "keep", 0.0, 0.0, lr, 1 / lr, 1.0, 1.0
        )
    return Plan("u-mup", optimizer, "multipliers", entries, (), (), weakref.ref(model))


def _rate(name: str, module: nn.Module, shape: tuple[int, ...]) -> tuple[int, int, Role, float]:
    """Fan-in, fan-out, role and factor on the rate."""
    if len(shape) < 2:
        return 1, math.prod(shape), "vector", 1.0
    if isinstance(module, UnitEmbedding):
        return 1, shape[1], "input", shape[1] ** -0.5
    if not isinstance(module, UnitLinear):
        raise ConfigError(
            f"Every matrix must be one of a UnitLinear or a UnitEmbedding; {name} belongs to a {type(module).__name__}. Use these, or "
            "scaling.plan('u-mup', ...) for a plain model."
        )
    if module.readout:
        return shape[1], shape[0], "output", 1.0
    return shape[1], shape[0], "hidden", shape[1] ** -0.5


def _blocks(model: nn.Module, name: str) -> int:
    """Blocks of the outermost list that a parameter is in."""
    parts = name.split(".")
    for i in range(1, len(parts)):
        found = model.get_submodule(".".join(parts[:i]))
        if isinstance(found, nn.ModuleList):
            return len(found)
    return 1


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search one factor at a time came to.

    Attributes:
        best: Every hyperparameter at the value that was best on its own line.
        loss: Loss there; infinite if that was not asked for.
        lines: Losses along each line, by name, in the order of its values.
        evaluations: Trainings that were run.
        trail: Lowest loss of any training so far, one number per training.
    """

    best: dict[str, float]
    loss: float
    lines: dict[str, tuple[float, ...]]
    evaluations: int
    trail: tuple[float, ...] = field(default=())


def independent_search(
    evaluate: Callable[[Mapping[str, float]], float],
    grid: Mapping[str, Sequence[float]],
    *,
    first: str = "lr",
    default: float = 1.0,
) -> Searched:
    """Searches the rate with all factors at one, then each factor on its own at that rate, and puts the best of each together.

    The lines of the second step are independent of one another and may be run side by side. It works where hyperparameters hardly
    interact, which is what u-muP is built for (section 4.5 of the paper).

    Args:
        evaluate: Loss of a training at values by name; not finite where it broke down.
        grid: Values of each hyperparameter, in ascending order.
        first: The one that is searched first.
        default: What the others are at until theirs are known; needs not be on their lines.

    Raises:
        ConfigError: If the first is not in the grid, or a line is empty.
    """
    if first not in grid or not all(len(values) for values in grid.values()):
        raise ConfigError(
            f"The grid must have a line of values for every hyperparameter and one for {first!r}; got {', '.join(grid) or 'none'}."
        )
    trail: list[float] = []

    def run(values: Mapping[str, float]) -> float:
        loss = float(evaluate(dict(values)))
        loss = loss if math.isfinite(loss) else math.inf
        trail.append(min([loss, *trail[-1:]]))
        return loss

    at = dict.fromkeys(grid, default)
    best: dict[str, float] = {}
    lines: dict[str, tuple[float, ...]] = {}
    for name in (first, *(n for n in grid if n != first)):
        centre = {**at, first: best.get(first, at[first])}
        lines[name] = tuple(run({**centre, name: value}) for value in grid[name])
        best[name] = float(grid[name][int(np.argmin(lines[name]))])
    loss = run(best)
    return Searched({n: best[n] for n in grid}, loss, lines, len(trail), tuple(trail))
