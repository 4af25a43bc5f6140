"""Standard parametrization: the model's own first values and one rate for every tensor.

*Use when*: something is to be compared with what everybody does, or the model never changes its size.

*Do not use when*: a rate is to be taken from a narrow model to a wide one: with Adam the best one falls about as one over the
width.

*Paper*: the baseline of Yang et al. 2022, arXiv:2203.03466, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.scaling.rules.base import OPTIMIZERS, Scales, Setting, Tensor


@dataclass(frozen=True, slots=True)
class Standard:
    """Changes nothing."""

    name: str = "sp"
    paper: str = "Glorot and Bengio 2010, AISTATS; He et al. 2015, arXiv:1502.01852"
    optimizers: frozenset[str] = frozenset(OPTIMIZERS)
    transfers: frozenset[str] = frozenset()

    def scales(self, tensor: Tensor, setting: Setting) -> Scales:
        """The model's own."""
        return Scales(std=tensor.own_std)

    def branch(self, setting: Setting) -> float:
        """None."""
        return 1.0

    def attention(self, growth: float, setting: Setting) -> float:
        """None beside one over the root of the head's size."""
        return 1.0


STANDARD = Standard()
