"""How smooth the loss of a learner is under given settings: cheap numbers to report next to the loss.

*Use when* ``Smoothie`` is to choose which settings to train fully. *Do not use when* the learner is none of these
three: report any cheap number of your own, larger for what looks better.

*Paper*: Yedida and Menzies 2024, "Is hyper-parameter optimization different for software analytics?",
arXiv:2401.09622, section 3: ``beta`` of a loss whose gradient is ``beta``-Lipschitz, bounded by the last layer's inputs
over its weights for networks and for logistic regression, and the second derivative of the likelihood for naive Bayes.
Their program keeps the settings with the largest of these numbers; so does ``Smoothie``.

*Differs*: naive Bayes uses the exact second derivative by the variances of its diagonal model, in closed form, in
place of the matrix product of the authors' program.

*Cost*: one pass over the data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tunewright.errors import ConfigError

_TINY = 1e-12


def _matrix(name: str, value: ArrayLike) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    out = np.asarray(value, dtype=np.float64)
    if out.ndim != 2 or not out.size or not np.isfinite(out).all():
        raise ConfigError(
            f"`{name}` needs a matrix of finite numbers; got shape {out.shape}. Reshape it, drop what is missing."
        )
    return out


def _classes(k: int) -> int:
    if k < 2:
        raise ConfigError(f"`classes` needs at least 2; got {k}. Count the labels.")
    return k


def feed_forward(activations: ArrayLike, weights: ArrayLike, classes: int) -> float:
    """Smoothness of a network with a softmax output: ``(k - 1) / (k n) |A| / |W|``, Frobenius norms.

    Args:
        activations: Inputs of the last layer on the training data, shape ``(n, p)``.
        weights: Weights of the last layer, any shape of two dimensions.
        classes: Number of classes, ``k``.

    Returns:
        A positive number; the largest over mini-batches bounds that of the whole epoch.

    Raises:
        ConfigError: If an argument cannot be used.

    Source: Yedida and Menzies 2024, section 3.3.

    Example:
        >>> feed_forward([[3.0, 4.0]], [[2.0, 0.0], [0.0, 0.0]], 2)
        1.25
    """
    a, w = _matrix("activations", activations), _matrix("weights", weights)
    k = _classes(classes)
    return float((k - 1) / (k * len(a)) * np.linalg.norm(a) / max(float(np.linalg.norm(w)), _TINY))


def logistic_regression(x: ArrayLike, coefficients: ArrayLike, classes: int) -> float:
    """Smoothness of logistic regression: that of a network without a hidden layer.

    Args:
        x: Training data, shape ``(n, p)``.
        coefficients: Fitted coefficients, shape ``(1, p)`` or ``(k, p)``.
        classes: Number of classes, ``k``.

    Raises:
        ConfigError: If an argument cannot be used.

    Source: Yedida and Menzies 2024, section 3.2.
    """
    return feed_forward(_matrix("x", x), _matrix("coefficients", coefficients), classes)


def naive_bayes(x: ArrayLike, y: ArrayLike) -> float:
    """Smoothness of Gaussian naive Bayes: minus the norm of the second derivative of its mean negative log likelihood.

    By the variance ``v_j`` of every feature, common to the classes, at the maximum of the likelihood, that derivative is
    diagonal with ``1 / (2 v_j^2)``.

    Args:
        x: Training data, shape ``(n, p)``.
        y: Labels, shape ``(n,)``.

    Returns:
        A negative number; nearer to 0 is smoother.

    Raises:
        ConfigError: If an argument cannot be used.
    """
    data, labels = _matrix("x", x), np.asarray(y)
    if labels.shape != (len(data),):
        raise ConfigError(
            f"`y` needs one label per row; got {labels.shape} for {len(data)} rows. Flatten it."
        )
    rest = data.copy()
    for label in np.unique(labels):
        rest[labels == label] -= data[labels == label].mean(axis=0)
    variance = np.maximum((rest * rest).mean(axis=0), _TINY)
    return -float(np.linalg.norm(0.5 / variance**2))
