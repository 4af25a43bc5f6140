"""Standard parametrization with a rate for every layer: the model as it is, and Adam's rates falling with the fan-in.

*Use when*: the model's own first values and forward pass are to stay, and only rates may differ. In the paper's runs it ended
lower than muP.

*Do not use when*: the optimizer is SGD, or Adam's eps is left as it is in a very wide model: gradients fall with the width
and eps takes over (take adam-atan2).

*Paper*: Everett et al. 2024, arXiv:2407.05872, section 4.2 and table 1: standard parametrization, Adam, full alignment.

*Differs*: the readout starts as the model starts it; the paper's models start it at zero or at one over the root of the width.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.scaling.rules.base import ADAM_LIKE, Scales, Setting, Tensor


@dataclass(frozen=True, slots=True)
class Layerwise:
    """Rates of hidden matrices and of the readout are divided by the growth of the fan-in, others stay."""

    name: str = "sp-layerwise"
    paper: str = "Everett et al. 2024, arXiv:2407.05872"
    optimizers: frozenset[str] = ADAM_LIKE
    transfers: frozenset[str] = frozenset({"width"})

    def scales(self, tensor: Tensor, setting: Setting) -> Scales:
        """The model's own first values; the rate by the fan-in."""
        if tensor.role in ("hidden", "output"):
            return Scales(tensor.own_std, 1 / tensor.in_growth, tensor.in_growth)
        return Scales(tensor.own_std)

    def branch(self, setting: Setting) -> float:
        """Nothing but what was tuned: width only."""
        return setting.tuned.residual

    def attention(self, growth: float, setting: Setting) -> float:
        """Nothing but what was tuned."""
        return setting.tuned.attention


LAYERWISE = Layerwise()
