"""Unit-scaled maximal update parametrization (u-muP): muP without a base size, with weights of variance one.

*Use when*: no base width is to be chosen, a few scale-free factors are to be tuned beside the rate, one at a time, or numbers are
of low precision (``scaling.unit`` has the operations whose gradients start at variance one as well).

*Do not use when*: a model is to stay as it is at some size: here every tensor starts otherwise than the model would start it.
Where nothing normalises what a branch gets, scales are those of ``scaling.unit`` only up to a constant.

*Paper*: Blake et al. 2024, arXiv:2407.17465, table 2 and appendix G (residual branches).

*Differs*: a rule multiplies tensors, so the constants of activations and attention are left out; they do not depend on the width.
A stack of ``L`` branches, in place of the paper's ratios ``tau`` between branch and stream, has every branch multiplied by
``sqrt(2 / L)``: the same function up to the stream's scale (the product of the paper's factors telescopes), which the
normalization before every branch removes. Values are drawn from a uniform distribution where PyTorch does so. The logits of attention are divided by the head's growth, not by its size. Rates with
SGD are not in the paper; they are those of muP (Yang et al. 2022, arXiv:2203.03466, table 3) for these multipliers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunewright.scaling.rules.base import ADAM_LIKE, WITH_EPS, Scales, Setting, Tensor, decay
from tunewright.scaling.rules.mup import gradient_of


@dataclass(frozen=True, slots=True)
class UnitMup:
    """All matrices start at variance one, biases at zero, and the forward pass carries the scale.

    ==============  =============  ==============  =============
    tensor          multiplier     rate with Adam  rate with SGD
    ==============  =============  ==============  =============
    embedding       1              1 / root of d   d
    other matrices  1 / root of n  1 / root of n   d
    output          1 / n          1               n
    vectors         1              1               d
    ==============  =============  ==============  =============

    Here n is the fan-in and d the fan-out. With Adam rates in residual branches fall as one over the root of the depth too. Its
    eps is that at the base and falls as gradients do, which here are not scaled to one as those of ``scaling.unit`` are.
    """

    name: str = "u-mup"
    paper: str = "Blake et al. 2024, arXiv:2407.17465"
    optimizers: frozenset[str] = ADAM_LIKE | {"sgd"}
    transfers: frozenset[str] = frozenset({"width", "depth"})

    def scales(self, tensor: Tensor, setting: Setting) -> Scales:
        """See the table of the class."""
        tuned, adam = setting.tuned, setting.optimizer in ADAM_LIKE
        deep = _deep(tensor.blocks) if adam and tensor.in_branch else 1.0
        into, out = _fans(tensor)
        gradient = gradient_of(tensor) * (tensor.depth**-0.5 if tensor.in_branch else 1.0)
        if tensor.role == "hidden":  # of the matrix before its multiplier
            gradient *= tensor.in_growth**-0.5
        eps = gradient if setting.optimizer in WITH_EPS else 1.0

        def made(std: float, lr: float, multiplier: float = 1.0) -> Scales:
            return Scales(std, lr, decay(lr, setting.optimizer, gradient), multiplier, eps)

        if len(tensor.shape) < 2 or tensor.owner == "norm":
            lr = deep if adam or tensor.role == "scalar" else deep * out
            return made(0.0, lr)
        if tensor.owner == "embedding":
            lr = deep * (out**-0.5 if adam else out)
            return made(1.0, lr, tuned.input)
        if tensor.role == "output":
            lr = deep * (1.0 if adam else into)
            return made(1.0, lr, tuned.output / into)
        lr = deep * (into**-0.5 if adam else out)
        factor = tuned.input if tensor.role == "input" else 1.0
        std = tuned.init if tensor.role == "hidden" else 1.0
        return made(std, lr, factor * into**-0.5)

    def branch(self, setting: Setting) -> float:
        """Branches of each of two kinds, attention and feed-forward, together add the variance that the stream starts with."""
        return setting.tuned.residual * _deep(setting.blocks)

    def attention(self, growth: float, setting: Setting) -> float:
        """Logits fall with the head's size instead of its root."""
        return setting.tuned.attention / math.sqrt(growth)


def _deep(branches: int) -> float:
    return math.sqrt(2 / max(branches, 2))


def _fans(tensor: Tensor) -> tuple[int, int]:
    """Terms of the sums that a tensor is in, and its outputs; also where nothing grows and so nothing is said of them."""
    shape = tensor.shape
    if len(shape) < 2:
        return 1, shape[0] if shape else 1
    if tensor.owner == "embedding":
        return 1, shape[1]
    into, out = (0, 1) if tensor.owner == "transposed" else (1, 0)
    return shape[into] * math.prod(shape[2:]), shape[out]


UNIT_MUP = UnitMup()
