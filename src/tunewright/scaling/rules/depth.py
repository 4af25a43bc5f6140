"""Depth-muP: muP for the width, and residual branches divided by the root of the depth.

*Use when*: rates are to be taken from a shallow residual network to a deep one; exact for blocks of one layer.

*Do not use when*: the network has no residual branches, or they end in a ReLU: what has a mean adds up however small its share,
so let them end in a linear layer or take the mean off. With blocks of several layers (transformers) the best rate still drifts
with depth, which the paper proves to be so for every choice of exponents; check with two depths first. (In this project's check,
``depth_mup``, with depths up to 48 and 100 steps, blocks of two layers drifted no more than those of one.)

*Paper*: ``depth-mup``: Yang et al. 2023, Tensor Programs VI, arXiv:2310.02244, table 1. ``depthwise``: Bordelon et al. 2023,
arXiv:2309.16620, table 1.

*Differs*: the two papers have the same factors, so both names are one rule. They differ in what they say about it: Bordelon et
al. show that the limit of infinite width and depth exists and report transfer for convolutional networks and vision
transformers; Yang et al. show this choice to be the best among all exponents, and only for blocks of one layer. Yang et al. also
take the mean off the output of every branch; this rule changes no modules. Biases and gains of a branch have the rate of its
matrices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tunewright.scaling.rules.base import ADAM_LIKE, WITH_EPS, Scales, Setting, Tensor, decay
from tunewright.scaling.rules.mup import MUP


@dataclass(frozen=True, slots=True)
class DepthMup:
    """What ``mup`` says, and for a depth d times that of the base:

    =========================  ===============  ==============
    what                       with Adam        with SGD
    =========================  ===============  ==============
    branches are divided by    root of d        root of d
    rates in branches by       root of d        1
    other rates by             1                1
    =========================  ===============  ==============

    SGD's steps in a branch shrink by themselves, since its gradient has the branch's factor; Adam's do not, and its eps falls as
    that gradient does.
    """

    name: str = "depth-mup"
    paper: str = "Yang et al. 2023, arXiv:2310.02244"
    optimizers: frozenset[str] = ADAM_LIKE | {"sgd"}
    transfers: frozenset[str] = frozenset({"width", "depth"})

    def scales(self, tensor: Tensor, setting: Setting) -> Scales:
        """See the table of the class."""
        found = MUP.scales(tensor, setting)
        if not tensor.in_branch or setting.optimizer not in ADAM_LIKE:
            return found
        factor = float(tensor.depth**-0.5)
        eps = found.eps * factor if setting.optimizer in WITH_EPS else found.eps
        wd = found.wd * decay(factor, setting.optimizer, factor)
        return replace(found, lr=found.lr * factor, wd=wd, eps=eps)

    def branch(self, setting: Setting) -> float:
        """One over the root of the depth's growth, times what was tuned."""
        return setting.tuned.residual * float(setting.depth**-0.5)

    def attention(self, growth: float, setting: Setting) -> float:
        """As muP."""
        return MUP.attention(growth, setting)


DEPTH_MUP = DepthMup()
DEPTHWISE = DepthMup("depthwise", "Bordelon et al. 2023, arXiv:2309.16620")
