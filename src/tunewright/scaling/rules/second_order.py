"""Maximal updates for K-FAC and Shampoo: first values, rates and damping that hold for every width.

*Use when*: ``tunewright.optim.Kfac`` or ``Shampoo`` is tuned on a narrow network and used on a wide one.

*Do not use when*: the readout starts at zero and the optimizer is K-FAC: one step then fits the last layer to the random
features and those below hardly move (the paper, section 4.3); or depth grows.

*Paper*: Ishikawa and Karakida 2023, arXiv:2312.12226, proposition 4.1 and table 1. The exponents of first values and rates are
those of the authors' published code; those of the damping are derived here.

*Differs*: damping is scaled by its growth beside the base instead of by measured traces, so that one number is tuned
(``Kfac(..., damping="relative")`` does the other, and then needs no factor). Fan-in and fan-out may grow by different factors.

How they come about: in a network where every layer learns features, what flows into a layer of a growing inputs has the squared
norm a, and the gradient that flows back from its b growing outputs has 1/b (entries of 1/b each). So the squared norm of a
layer's gradient goes with a/b, and that is the unit of Shampoo's eps and of K-FAC's damping (the product of what is added to
both factors). K-FAC's step is ``u v'``, u being the outputs' gradient and v the inputs, each over its own squared norm: its
product with the inputs has entries of order 1 whatever a and b are. Shampoo's step has u and v over their norms: the product
with the inputs has entries of order root of a/b, which the rate takes back.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.scaling.rules.base import Scales, Setting, Tensor
from tunewright.scaling.rules.mup import MUP


@dataclass(frozen=True, slots=True)
class SecondOrder:
    """For inputs that grow by a (1 where they do not) and outputs that grow by b:

    =========  ==================  ===========  ============  =================
    role       standard deviation  rate, K-FAC  Shampoo       damping (``eps``)
    =========  ==================  ===========  ============  =================
    input      base                1            root of b     1 / b
    hidden     base / root of a    1            root of b/a   a / b
    output     base / a            1            1 / root a    a
    vector     base                1            root of b     1 / b
    =========  ==================  ===========  ============  =================

    Groups get their damping where ``Plan.param_groups`` is told it: ``plan.param_groups(lr, eps=1e-2)``.
    """

    name: str = "second-order"
    paper: str = "Ishikawa and Karakida 2023, arXiv:2312.12226"
    optimizers: frozenset[str] = frozenset({"kfac", "shampoo"})
    transfers: frozenset[str] = frozenset({"width"})

    def scales(self, tensor: Tensor, setting: Setting) -> Scales:
        """See the table of the class."""
        tuned, std = setting.tuned, tensor.base_std
        if tensor.role == "scalar":
            return Scales(std)
        a, b = _growth(tensor)
        lr = (b / a) ** 0.5 if setting.optimizer == "shampoo" else 1.0
        # The readout has its factor in its values: hooks would put it into K-FAC's factors as well.
        spread = {"hidden": tuned.init / a**0.5, "output": tuned.output / a, "input": tuned.input}
        start = None if std is None else std * spread.get(tensor.role, 1.0)
        return Scales(start, lr, 1 / lr, eps=a / b)

    def branch(self, setting: Setting) -> float:
        """Nothing but what was tuned: width only."""
        return setting.tuned.residual

    def attention(self, growth: float, setting: Setting) -> float:
        """As muP: logits over the head's size."""
        return MUP.attention(growth, setting)


def _growth(tensor: Tensor) -> tuple[float, float]:
    """Growth of the inputs and of the outputs that a tensor connects."""
    if tensor.role == "output":
        return tensor.in_growth, 1.0
    return (tensor.in_growth if tensor.role == "hidden" else 1.0), tensor.out_growth


SECOND_ORDER = SecondOrder()
