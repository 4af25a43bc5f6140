"""Maximal update parametrization (muP): every layer learns features at the same pace, however wide it is.

*Use when*: a rate, first values and multipliers tuned on a narrow model are to be used on a wide one of the same depth.

*Do not use when*: depth grows too (take ``depth-mup``), or the model is not wide enough at its base for its limit to mean
anything: below about 32 units the best rate still moves.

*Paper*: Yang et al. 2022, arXiv:2203.03466, tables 3, 8 and 9 (this is the form of table 8).

*Differs*: decay. The factor on the optimizer's decay is one over that on the rate, so that what a step decays does not depend
on the width; the paper leaves decay open and ``microsoft/mup`` does the same. For plain Adam, whose decay is part of the gradient
and is divided by its size, the factor falls with the gradient as well (``base.decay``). Adam's eps falls as gradients do, as
Everett et al. 2024 (arXiv:2407.05872, section 4.4) ask of every parametrization; ``microsoft/mup`` leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.scaling.rules.base import ADAM_LIKE, WITH_EPS, Scales, Setting, Tensor, decay


@dataclass(frozen=True, slots=True)
class Mup:
    """Hidden matrices start at one over the root of the width; the scores are divided by the width; rates as below.

    ========  ==================  ==========  ==============  ===================
    role      standard deviation  multiplier  rate with Adam  rate with SGD
    ========  ==================  ==========  ==============  ===================
    input     base                1           1               growth of fan-out
    hidden    base / root of m    1           1 / m           fan-out's / fan-in's
    output    base                1 / m       1               m
    vector    base                1           1               growth
    ========  ==================  ==========  ==============  ===================

    Here m is the growth of the fan-in. Gradients fall as one over the growth of what a tensor puts out, of the output as 1 / m; so
    does Adam's eps.
    """

    name: str = "mup"
    paper: str = "Yang et al. 2022, arXiv:2203.03466"
    optimizers: frozenset[str] = ADAM_LIKE | {"sgd"}
    transfers: frozenset[str] = frozenset({"width"})

    def scales(self, tensor: Tensor, setting: Setting) -> Scales:
        """See the table of the class."""
        tuned, m = setting.tuned, tensor.in_growth
        adam = setting.optimizer in ADAM_LIKE
        std, gradient = tensor.base_std, gradient_of(tensor)
        eps = gradient if setting.optimizer in WITH_EPS else 1.0

        def made(std: float | None, lr: float, multiplier: float = 1.0) -> Scales:
            return Scales(std, lr, decay(lr, setting.optimizer, gradient), multiplier, eps)

        if tensor.role == "hidden":
            lr = 1 / m if adam else tensor.out_growth / m
            return made(None if std is None else std * tuned.init / m**0.5, lr)
        if tensor.role == "output":
            lr = 1.0 if adam else m
            return made(std, lr, tuned.output / m)
        if tensor.role in ("input", "vector"):
            lr = 1.0 if adam else tensor.out_growth
            return made(std, lr, tuned.input if tensor.role == "input" else 1.0)
        return Scales(std)

    def branch(self, setting: Setting) -> float:
        """Nothing but what was tuned: width only."""
        return setting.tuned.residual

    def attention(self, growth: float, setting: Setting) -> float:
        """Logits over the head's size instead of its root."""
        return setting.tuned.attention * float(growth**-0.5)


def gradient_of(tensor: Tensor) -> float:
    """How the size of the entries of a tensor's gradient grows under maximal updates, the output's factor of 1 / m included.

    What flows back through the scores' factor falls as one over the width, and is multiplied by inputs that keep their size.
    """
    if tensor.role == "scalar":
        return 1.0
    return 1 / (tensor.in_growth if tensor.role == "output" else tensor.out_growth)


MUP = Mup()
