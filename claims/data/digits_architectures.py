"""Trains every network of the search in ``claims/architectures.py`` and writes how many validation images each gets wrong.

Images of 8 by 8 pixels (scikit-learn's digits): 1,000 to train on, 797 to validate; six epochs in batches of 50, in NumPy.

Run it: OMP_NUM_THREADS=1 python -m claims.data.digits_architectures (about two minutes; with more threads sums are rounded
otherwise, and a few counts differ)
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from claims.architectures import NET, SPACE, TABLE, VALIDATION
from numpy.typing import NDArray

from tunewright import architect

Array = NDArray[np.float32]
TRAINING, EPOCHS, BATCH = 1000, 6, 50
MOMENTUM, BETAS, EPSILON = 0.9, (0.9, 0.999), 1e-8


def images() -> tuple[Array, NDArray[np.int64]]:
    """All images as rows in [0, 1] and their labels, in an order fixed here."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return (x[order] / 16.0).astype(np.float32), y[order].astype(np.int64)


def patches(x: Array) -> Array:
    """The 36 squares of 3 by 3 pixels of every image, shape (n, 36, 9)."""
    windows = np.lib.stride_tricks.sliding_window_view(x.reshape(-1, 8, 8), (3, 3), axis=(1, 2))
    return np.ascontiguousarray(windows).reshape(len(x), 36, 9)


class Network:
    """A specified architecture with a linear layer on top, trained by backpropagation.

    Args:
        layers: Its modules, in order.
        rng: Draws weights and dropped units.
    """

    def __init__(self, layers: tuple[architect.Module, ...], rng: np.random.Generator) -> None:
        self.rng = rng
        self.layers: list[tuple[str, Any]] = []
        self.weights: list[Array] = []
        size = 64
        for layer in layers:
            if layer.kind == "conv":
                self._add("conv", 9, layer.settings["filters"])
                size = 36 * layer.settings["filters"]
            elif layer.kind == "dense":
                self._add("dense", size, layer.settings["units"])
                size = layer.settings["units"]
            else:
                self.layers.append((layer.kind, layer.settings.get("rate")))
        self._add("dense", size, 10)

    def _add(self, kind: str, inputs: int, outputs: int) -> None:
        self.layers.append((kind, len(self.weights)))
        scale = np.sqrt(2.0 / inputs)
        self.weights.append((scale * self.rng.standard_normal((inputs, outputs))).astype(np.float32))
        self.weights.append(np.zeros(outputs, dtype=np.float32))

    def forward(self, x: Array, training: bool) -> tuple[Array, list[Array]]:
        """Scores of the ten digits, and what the way back needs."""
        kept = []
        for kind, what in self.layers:
            kept.append(x)
            if kind in ("conv", "dense"):
                if kind == "conv":
                    x = kept[-1] = patches(x)
                x = x @ self.weights[what] + self.weights[what + 1]
                x = x.reshape(len(x), -1)
            elif kind == "dropout":
                if training:
                    mask = (self.rng.random(x.shape, dtype=np.float32) >= what) / np.float32(1.0 - what)
                    kept[-1] = mask
                    x = x * mask
            else:
                x = ACTIVATIONS[kind](x)
                kept[-1] = x
        return x, kept

    def backward(self, slope: Array, kept: list[Array]) -> list[Array]:
        """Gradients of the weights, given the gradient of the scores."""
        gradients: list[Array] = [np.empty(0, dtype=np.float32)] * len(self.weights)
        for (kind, what), saved in zip(reversed(self.layers), reversed(kept), strict=True):
            if kind in ("conv", "dense"):
                inputs, outputs = self.weights[what].shape
                flat = slope.reshape(-1, outputs)
                gradients[what] = saved.reshape(-1, inputs).T @ flat
                gradients[what + 1] = flat.sum(axis=0)
                if kind == "dense":
                    slope = slope @ self.weights[what].T
            elif kind == "dropout":
                slope = slope * saved
            else:
                slope = slope * SLOPES[kind](saved)
        return gradients


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-np.clip(x, -30, 30))),
}
SLOPES = {
    "relu": lambda out: (out > 0).astype(np.float32),
    "tanh": lambda out: 1 - out * out,
    "sigmoid": lambda out: out * (1 - out),
}


def steps(
    gradients: list[Array], memory: list[list[Array]], optimizer: str, rate: float, number: int
) -> list[Array]:
    """Changes of the weights: gradient descent with momentum, or Adam."""
    first, second = memory
    out = []
    for i, g in enumerate(gradients):
        if optimizer == "sgd":
            first[i] = MOMENTUM * first[i] + g
            out.append(-rate * first[i])
            continue
        first[i] = BETAS[0] * first[i] + (1 - BETAS[0]) * g
        second[i] = BETAS[1] * second[i] + (1 - BETAS[1]) * g * g
        mean, square = first[i] / (1 - BETAS[0] ** number), second[i] / (1 - BETAS[1] ** number)
        out.append(-rate * mean / (np.sqrt(square) + EPSILON))
    return out


def wrong(config: Mapping[str, Any], x: Array, y: NDArray[np.int64]) -> int:
    """Validation images that a network gets wrong after training."""
    rng = np.random.default_rng(1)
    network = Network(architect.modules(architect.graph(NET, config)), rng)
    memory = [[np.zeros_like(w) for w in network.weights] for _ in range(2)]
    number = 0
    for _ in range(EPOCHS):
        order = rng.permutation(TRAINING)
        for start in range(0, TRAINING, BATCH):
            rows = order[start : start + BATCH]
            scores, kept = network.forward(x[rows], training=True)
            slope = np.exp(scores - scores.max(axis=1, keepdims=True))
            slope /= slope.sum(axis=1, keepdims=True)
            slope[np.arange(len(rows)), y[rows]] -= 1
            number += 1
            gradients = network.backward(slope / len(rows), kept)
            for w, step in zip(
                network.weights,
                steps(gradients, memory, config["optimizer"], config["lr"], number),
                strict=True,
            ):
                w += step
    scores, _ = network.forward(x[TRAINING:], training=False)
    # A network that diverged has no best digit.
    sound = np.isfinite(scores).all(axis=1)
    return int(np.sum(~sound | (np.nan_to_num(scores).argmax(axis=1) != y[TRAINING:])))


def main() -> None:
    """Trains all networks and writes the table."""
    x, y = images()
    assert len(y) == TRAINING + VALIDATION
    began = time.process_time()
    counts = []
    with np.errstate(all="ignore"):
        for row in SPACE.grid(100_000):
            counts.append(wrong(SPACE.decode(row), x, y))
            if len(counts) % 500 == 0:
                print(f"{len(counts)} networks, {time.process_time() - began:.0f} CPU s", file=sys.stderr)
    data = {"space": SPACE.digest, "validation": VALIDATION, "wrong": counts}
    TABLE.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
