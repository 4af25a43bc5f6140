"""Standard parametrization with a rate for every layer: the model as it is, and Adam's rates falling with the fan-in.

*Use when*: the model's own first values and forward pass are to stay, and only rates may differ. In the paper's runs it ended
lower than muP.

*Do not use when*: Adam's eps is left as it is in a very wide model: gradients fall with the width and eps takes over (pass ``eps``
to ``Plan.param_groups``, which lets it fall as the gradients do, or take adam-atan2).

*Paper*: Everett et al. 2024, arXiv:2407.05872, section 4.2 and table 1: standard parametrization, full alignment.

*Differs*: the readout starts as the model starts it; the paper's models start it at zero or at one over the root of the width. The
logits of attention are as the model has them. ``sp-no-alignment`` takes the changes of weights to be as good as random to what
comes in: rates of hidden layers and readouts fall with the root of the fan-in only.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.scaling.rules.abc import STANDARD, Abc
from tunewright.scaling.rules.base import Setting


@dataclass(frozen=True, slots=True)
class Layerwise(Abc):
    """Rates by the exponents of ``rules.abc``; with Adam those of matrices that sum over the width are divided by its growth."""

    def attention(self, growth: float, setting: Setting) -> float:
        """Nothing but what was tuned."""
        return setting.tuned.attention


LAYERWISE = Layerwise("sp-layerwise", STANDARD, own=True)
LAYERWISE_LOOSE = Layerwise("sp-no-alignment", STANDARD, "none", own=True)
