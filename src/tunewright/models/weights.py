"""A few numbers that describe a network's weights and do not change when its hidden neurons are permuted.

*Use when* a training function can hand out its weights and a method learns from them (``Fms``). *Do not use when* the
model has no layers of neurons.

*Paper*: Lim, Maron, Law, Lorraine and Lucas 2024 (ICLR, arXiv:2312.04501), section 2: neurons are nodes, weights are edges,
messages are passed along both, and averages over the nodes are invariant. Statistics of layers: Unterthiner, Keysers,
Gelly, Bousquet and Tolstikhin 2020, arXiv:2002.11448, section 3. Use in a search: Mehta et al. 2024, arXiv:2406.18630.

*Differs*: the message passing is drawn once from a fixed generator and never learned, so that it runs beside the training,
on the raw weights, and what is reported is a few numbers; what they mean for the loss is learned by who reads them. Two
passes, one from the inputs to the outputs and one back; a neuron hears its neighbours' numbers times weights, and their
magnitudes times magnitudes. Twelve of the numbers are plain statistics. Inputs and outputs have fixed places and are told
apart. A layer that does not fit on the one before it begins a new chain, whose inputs and outputs are not told apart.

*Cost*: eight products of every weight matrix with ``WIDTH`` columns, and a median of its entries.

Example:
    In the training function, next to the loss, for weights of shape ``(inputs, outputs)`` as in scikit-learn::

        from tunewright.models.weights import weight_features

        for epoch in trial.steps():
            model.partial_fit(X, y, classes=classes)
            trial.report(epoch, loss=loss(model), **weight_features(model.coefs_, model.intercepts_))

    For PyTorch, ``tunewright.integrations.weights_torch.weight_features(module)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunewright.errors import ConfigError

FloatArray = NDArray[np.float64]

SIZE = 24
WIDTH = 12
PREFIX = "w/"
_EACH = SIZE // 6
_MOST, _LEAST = 1e30, 1e-9
_MIX, _TILT, _PLACE, _INPUT, _OUTPUT, _SUMMARY = range(6)


class Layer(NamedTuple):
    """One layer of a network.

    Attributes:
        weight: Shape ``(p, a, b)`` for ``p`` positions of a kernel, ``a`` neurons or channels below, ``b`` above.
        bias: Shape ``(b,)``.
    """

    weight: FloatArray
    bias: FloatArray


def weight_features(
    weights: Sequence[ArrayLike], biases: Sequence[ArrayLike | None] = (), *, outputs_first: bool = False
) -> dict[str, float]:
    """The description of a network's weights as metrics: ``w/0`` to ``w/23``.

    Args:
        weights: Matrices and kernels in the order of the layers; ``(inputs, outputs)`` and ``(..., inputs, outputs)``, as in
            NumPy code, scikit-learn, JAX and Keras.
        biases: One per layer or None; all of them may be left out.
        outputs_first: Weights are ``(outputs, inputs)`` and ``(outputs, inputs, ...)``, as in PyTorch.

    Raises:
        ConfigError: If there is no weight, or an array has no inputs and outputs, or a bias does not fit.
    """
    found = embed(weights, biases, outputs_first=outputs_first)
    return {f"{PREFIX}{i}": float(v) for i, v in enumerate(found)}


def embed(
    weights: Sequence[ArrayLike], biases: Sequence[ArrayLike | None] = (), *, outputs_first: bool = False
) -> FloatArray:
    """As ``weight_features``, shape ``(SIZE,)``; finite also where weights are not."""
    chains = _chains(weights, biases, outputs_first)
    statistics = np.array([_statistics(layer) for chain in chains for layer in chain])
    heard = np.mean([_summary(_passed(chain, alone=len(chains) == 1)) for chain in chains], axis=0)
    return np.concatenate([statistics[0], statistics.mean(axis=0), statistics[-1], heard])


def _drawn(key: int, shape: tuple[int, ...]) -> FloatArray:
    """Normal numbers that depend on the key only; more rows begin with the same rows."""
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape)


def _array(value: Any) -> FloatArray:
    out = np.nan_to_num(np.asarray(value, dtype=np.float64), nan=_MOST, posinf=_MOST, neginf=-_MOST)
    return np.clip(out, -_MOST, _MOST)


def _chains(
    weights: Sequence[ArrayLike], biases: Sequence[ArrayLike | None], outputs_first: bool
) -> list[list[Layer]]:
    """Layers in one form, split where one does not fit on the one before."""
    if not len(weights) or (len(biases) and len(biases) != len(weights)):
        raise ConfigError(
            f"A description of weights needs at least one layer, and a bias or None for each or no biases; got "
            f"{len(weights)} weights and {len(biases)} biases. Pass the layers in order."
        )
    chains: list[list[Layer]] = []
    for i, raw in enumerate(weights):
        below = chains[-1][-1].weight.shape[2] if chains else 0
        layer = _layer(i, raw, biases[i] if len(biases) else None, outputs_first, below)
        if layer.weight.shape[1] == below:
            chains[-1].append(layer)
        else:
            chains.append([layer])
    return chains


def _layer(number: int, raw: ArrayLike, given: ArrayLike | None, outputs_first: bool, below: int) -> Layer:
    """One layer in the common form; a matrix on flattened channels has their positions as ``p``."""
    w = _array(raw)
    if w.ndim < 2 or not w.size:
        raise ConfigError(
            f"The weights of a layer need inputs and outputs; layer {number} has the shape {w.shape}. Leave it out, or "
            f"pass it as a bias."
        )
    flattened = w.ndim == 2 and below > 0 and w.shape[1 if outputs_first else 0] % below == 0
    if outputs_first:
        channels = below if flattened else w.shape[1]
        w = np.ascontiguousarray(w.reshape(w.shape[0], channels, -1).transpose(2, 1, 0))
    else:
        channels = below if flattened else w.shape[-2]
        w = w.reshape(-1, channels, w.shape[-1])
    bias = np.zeros(w.shape[2]) if given is None else _array(given).reshape(-1)
    if len(bias) != w.shape[2]:
        raise ConfigError(
            f"A bias needs one number per output; layer {number} has {w.shape[2]} outputs and {len(bias)} numbers. Set "
            f"outputs_first for weights of PyTorch."
        )
    return Layer(w, bias)


def _statistics(layer: Layer) -> FloatArray:
    """Logarithms of a layer's size, of its biases', of the part that the inputs of a neuron share, and of its tail."""
    p, a, _ = layer.weight.shape
    size = float((layer.weight**2).mean())
    shared = float((layer.weight.mean(axis=(0, 1)) ** 2).mean())
    usual, large = np.percentile(np.abs(layer.weight), (50.0, 95.0))
    return np.log(
        [
            (p * a * size) ** 0.5 + _LEAST,
            float((layer.bias**2).mean()) + _LEAST,
            1.0 + p * a * shared / (size + _LEAST**2),
            (large + _LEAST) / (usual + _LEAST),
        ]
    )


def _summary(nodes: list[FloatArray]) -> FloatArray:
    """Mean squares over the neurons of the inputs, the hidden layers and the outputs, each mixed to a few numbers."""
    squares = [np.log1p((h * h).mean(axis=0)) for h in nodes]
    hidden = np.mean(squares[1:-1], axis=0) if len(nodes) > 2 else np.zeros(WIDTH)
    mixing = _drawn(_SUMMARY, (3, _EACH, WIDTH)) / WIDTH**0.5
    out: FloatArray = np.einsum("gkw,gw->gk", mixing, np.array([squares[0], hidden, squares[-1]])).ravel()
    return out


def _passed(chain: list[Layer], alone: bool) -> list[FloatArray]:
    """Numbers of every neuron, layer by layer, shape ``(neurons, WIDTH)`` each, after a pass up and a pass back."""
    mix = _drawn(_MIX, (5, WIDTH, WIDTH)) / WIDTH**0.5
    tilt = _drawn(_TILT, (3, WIDTH))
    inputs, outputs = chain[0].weight.shape[1], chain[-1].weight.shape[2]
    nodes = [_drawn(_INPUT, (inputs, WIDTH)) if alone else np.tile(tilt[2], (inputs, 1))]
    for layer in chain:
        signed, sized = _up(layer, nodes[-1])
        biased = layer.bias[:, None] * tilt[0] + np.abs(layer.bias)[:, None] * tilt[1]
        nodes.append(np.arcsinh(signed @ mix[0] + sized @ mix[1] + biased))
    if alone:
        nodes[-1] = nodes[-1] + _drawn(_OUTPUT, (outputs, WIDTH))
    for i in range(len(chain) - 1, -1, -1):
        signed, sized = _down(chain[i], nodes[i + 1])
        nodes[i] = np.arcsinh(nodes[i] @ mix[2] + signed @ mix[3] + sized @ mix[4])
    return nodes


def _places(p: int) -> FloatArray:
    """What tells the positions of a kernel apart, shape ``(p, 1, WIDTH)``."""
    return np.ones((1, 1, WIDTH)) if p == 1 else _drawn(_PLACE, (p, WIDTH))[:, None, :]


def _up(layer: Layer, below: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What the neurons above hear: numbers times weights, and magnitudes times magnitudes."""
    p, a, b = layer.weight.shape
    flat = layer.weight.reshape(p * a, b).T
    heard = (_places(p) * below).reshape(p * a, WIDTH)
    return flat @ heard, np.abs(flat) @ np.abs(heard) / (p * a) ** 0.5


def _down(layer: Layer, above: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same for the neurons below."""
    p, a, b = layer.weight.shape
    flat, places = layer.weight.reshape(p * a, b), _places(p)
    signed = ((flat @ above).reshape(p, a, WIDTH) * places).sum(axis=0)
    sized = ((np.abs(flat) @ np.abs(above)).reshape(p, a, WIDTH) * np.abs(places)).sum(axis=0)
    return signed, sized / (p * b) ** 0.5
