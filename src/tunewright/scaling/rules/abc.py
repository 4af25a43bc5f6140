"""Parametrizations by exponents of the width: NTK, mean-field and muP, with rates for SGD, Adam and Adafactor.

A tensor is multiplied by ``n**-a``, starts with a standard deviation in proportion to ``n**-b`` and learns at a rate in proportion to
``n**-c``, where ``n`` is the width. Parametrization and optimizer are chosen apart: ``a`` and ``b`` are the parametrization's, and
``c`` follows from asking that every layer's activations move by an amount that does not depend on the width.

*Use when*: a model is to keep its parametrization and its rates shall transfer; or parametrizations are to be compared.

*Do not use when*: nothing speaks for one of these: ``mup`` and ``sp-layerwise`` have the same limits and are better known. Rules
without alignment let rates of hidden layers and readouts fall with the root of the width only, which breaks down where the
changes of weights are aligned with what comes in, as ``scaling.alignment`` measures.

``ntk``, ``mean-field``, ``mup-abc`` and, in ``rules.layerwise``, ``sp-layerwise`` assume full alignment; ``sp-no-alignment`` none.

*Paper*: Everett et al. 2024, arXiv:2407.05872, table 1 (a and b), section 3 and appendix (rates by alignment), section 4.4 (eps);
NTK: Jacot et al. 2018, arXiv:1806.07572; mean-field: Mei et al. 2018, arXiv:1804.06561; muP: Yang and Hu 2021, arXiv:2011.14522.

*Differs*: exponents are of growth over the base size and are derived here rather than listed. Scores at the start are taken to
add nothing to alignment (the paper's omega is one half), as in the paper's own prescriptions. Biases and gains move like
embeddings; those of the readout keep their rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunewright.scaling.rules.base import ADAM_LIKE, WITH_EPS, Scales, Setting, Tensor, decay

Alignment = Literal["full", "none"]
Layer = Literal["embedding", "hidden", "readout"]
_SUMMED: dict[Layer, bool] = {"embedding": False, "hidden": True, "readout": True}


@dataclass(frozen=True, slots=True)
class Exponents:
    """Exponents of one over the width.

    Attributes:
        embedding: ``a`` and ``b`` of tensors whose fan-in does not grow.
        hidden: The same of those where both sides do.
        readout: The same of those whose fan-out does not.
    """

    embedding: tuple[float, float]
    hidden: tuple[float, float]
    readout: tuple[float, float]

    def of(self, layer: Layer) -> tuple[float, float]:
        """``a`` and ``b`` of a kind of layer."""
        found: tuple[float, float] = getattr(self, layer)
        return found

    @property
    def scores(self) -> float:
        """How gradients of what goes into the readout fall with the width."""
        return sum(self.readout)


STANDARD = Exponents((0, 0), (0, 0.5), (0, 0.5))
NTK = Exponents((0, 0), (0.5, 0), (0.5, 0))
MUP = Exponents((-0.5, 0.5), (0, 0.5), (0.5, 0.5))
MEAN_FIELD = Exponents((0, 0), (0.5, 0), (1, 0))


def gradient_exponents(exponents: Exponents, layer: Layer) -> tuple[float, float]:
    """How the gradient of a tensor's entries falls: by the multiplier, and by what comes back from the readout.

    The first is of the growth of the tensor's own width, the second of that of its outputs; no gradient comes back through the
    readout to the readout itself.
    """
    return exponents.of(layer)[0], 0.0 if layer == "readout" else exponents.scores


def rate_exponent(
    exponents: Exponents, layer: Layer, optimizer: str, alignment: Alignment = "full"
) -> tuple[float, float]:
    """The exponents ``c`` with which a tensor's rate falls, for growth of its own width and of its outputs.

    A step changes what comes out by ``n**-a`` times the change of a weight, times the number of terms to the power of the
    alignment: one if they all add up, one half if they add up like noise, none if there is no sum. With Adam the change of a
    weight is the rate, with SGD rate times gradient, with Adafactor rate times the weight's own size.

    Args:
        exponents: Of the parametrization.
        layer: The kind of layer.
        optimizer: ``sgd``, ``adafactor`` or one like Adam.
        alignment: Of the change of weights with what comes in.

    Returns:
        Exponents of one over the growth of the layer's own width, and of one over that of its outputs; their sum is the paper's
        ``c`` where all widths grow alike.
    """
    a, b = exponents.of(layer)
    summed = (1.0 if alignment == "full" else 0.5) if _SUMMED[layer] else 0.0
    if optimizer == "sgd":
        own, out = gradient_exponents(exponents, layer)
        return summed - a - own, -out
    if optimizer == "adafactor":
        return summed - a - b, 0.0
    return summed - a, 0.0


@dataclass(frozen=True, slots=True)
class Abc:
    """A parametrization by exponents, with the rates that follow.

    Attributes:
        name: What ``scaling.plan`` takes.
        exponents: ``a`` and ``b``.
        alignment: What the rates assume.
        own: Whether the model's own first values stay, as in the standard parametrization.
    """

    name: str
    exponents: Exponents
    alignment: Alignment = "full"
    own: bool = False
    paper: str = "Everett et al. 2024, arXiv:2407.05872"
    optimizers: frozenset[str] = ADAM_LIKE | {"sgd", "adafactor"}
    transfers: frozenset[str] = frozenset({"width"})

    def scales(self, tensor: Tensor, setting: Setting) -> Scales:
        """First values, multiplier, rate, decay and eps by the tensor's growth."""
        if tensor.role == "scalar":
            return Scales(tensor.own_std if self.own else tensor.base_std)
        layer: Layer = "embedding"
        if tensor.role in ("hidden", "output"):
            layer = "hidden" if tensor.role == "hidden" else "readout"
        width = tensor.out_growth if layer == "embedding" else tensor.in_growth
        a, b = self.exponents.of(layer)
        exponents = self.exponents
        if tensor.role == "vector":  # multiplied by nothing, whatever the embedding is
            a, b, exponents = 0.0, 0.0, Exponents((0, 0), exponents.hidden, exponents.readout)
        own, out = rate_exponent(exponents, layer, setting.optimizer, self.alignment)
        lr = width**-own * tensor.out_growth**-out
        pulled, back = gradient_exponents(exponents, layer)
        gradient = width**-pulled * tensor.out_growth**-back
        eps = gradient if setting.optimizer in WITH_EPS else 1.0
        std = tensor.own_std if self.own else tensor.base_std
        if std is not None:
            std *= (1.0 if self.own else width**-b) * (setting.tuned.init if layer == "hidden" else 1.0)
        wd = decay(lr, setting.optimizer, gradient)
        return Scales(std, lr, wd, self._tuned(tensor, setting) * width**-a, eps)

    @staticmethod
    def _tuned(tensor: Tensor, setting: Setting) -> float:
        return {"input": setting.tuned.input, "output": setting.tuned.output}.get(tensor.role, 1.0)

    def branch(self, setting: Setting) -> float:
        """Nothing but what was tuned: width only."""
        return setting.tuned.residual

    def attention(self, growth: float, setting: Setting) -> float:
        """Logits over the head's size where changes of weights are taken to be aligned, else over its root."""
        return setting.tuned.attention * (float(growth**-0.5) if self.alignment == "full" else 1.0)


NTK_RULE = Abc("ntk", NTK)
MEAN_FIELD_RULE = Abc("mean-field", MEAN_FIELD)
MUP_RULE = Abc("mup-abc", MUP)
