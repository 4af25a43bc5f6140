"""Describes the weights of PyTorch modules for methods that learn from them; raises MissingExtra where it is not installed.

Example:
    In the training function, next to the loss::

        from tunewright.integrations.weights_torch import weight_features

        for epoch in trial.steps():
            train(model)
            trial.report(epoch, loss=validate(model), **weight_features(model))
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.errors import ConfigError, missing_extra
from tunewright.models import weights

try:
    from torch import Tensor, nn
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
except ImportError as error:
    raise missing_extra("torch", "torch") from error

__all__ = ["layers", "weight_features"]

Array = NDArray[np.float64]


def weight_features(module: nn.Module) -> dict[str, float]:
    """The description of a module's weights as metrics: ``w/0`` to ``w/23``; see ``tunewright.models.weights``.

    Linear and convolutional layers count, in the order in which the module holds them, with batch norms folded into the
    layer before them; other parameters do not.

    Raises:
        ConfigError: If the module has neither linear nor convolutional layers.
    """
    found = layers(module)
    if not found:
        raise ConfigError(
            f"A description of weights needs linear or convolutional layers; got {type(module).__name__} without any. "
            f"Pass its matrices to tunewright.models.weights.weight_features."
        )
    return weights.weight_features([w for w, _ in found], [b for _, b in found], outputs_first=True)


def layers(module: nn.Module) -> list[tuple[Array, Array]]:
    """Weights, outputs first, and biases of the linear and convolutional layers of a module, batch norms folded in."""
    found: list[tuple[Array, Array]] = []
    for part in module.modules():
        if isinstance(part, _BatchNorm) and found and part.num_features == len(found[-1][1]):
            found[-1] = _folded(*found[-1], part)
        elif isinstance(part, nn.Linear | _ConvNd):
            w = _numbers(part.weight)
            if isinstance(part, _ConvTransposeNd):
                w = w.swapaxes(0, 1)
            found.append((w, np.zeros(len(w)) if part.bias is None else _numbers(part.bias)))
    return found


def _folded(w: Array, b: Array, norm: Any) -> tuple[Array, Array]:
    """The layer that does in evaluation what a layer and its batch norm do."""
    gain = np.ones(len(b)) if norm.weight is None else _numbers(norm.weight)
    shift = np.zeros(len(b)) if norm.bias is None else _numbers(norm.bias)
    if norm.running_mean is not None:
        gain = gain / np.sqrt(_numbers(norm.running_var) + norm.eps)
        b = b - _numbers(norm.running_mean)
    return w * gain.reshape(-1, *(1,) * (w.ndim - 1)), b * gain + shift


def _numbers(tensor: Tensor) -> Array:
    out: Array = tensor.detach().cpu().double().numpy()
    return out
