"""Trains every network of the hub in ``claims/fms.py`` and writes its curve and the description of its weights by epoch.

Images of 8 by 8 pixels (scikit-learn's digits): 1,000 to train on, 797 to validate; 27 epochs of stochastic gradient
descent in batches of 25, in NumPy; networks of the same shape are trained side by side.

Run it: OMP_NUM_THREADS=1 python -m claims.data.digits_hub (about four minutes)
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import Any, NamedTuple

import numpy as np
from claims.hub import EPOCHS, SPACE, TABLE, WORST, packed
from numpy.typing import NDArray

from tunewright.models.weights import SIZE, embed

Array = NDArray[np.float32]
Floats = NDArray[np.float64]
TRAINING, BATCH = 1000, 25


class Data(NamedTuple):
    """Rows and labels; the first ``TRAINING`` train, the others validate."""

    x: Array
    y: NDArray[np.int64]


def images() -> Data:
    """All images as rows in [0, 1] and their labels, in an order fixed here."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return Data((x[order] / 16.0).astype(np.float32), y[order].astype(np.int64))


class Stack:
    """Networks of one shape in training, the first axis of every array.

    Args:
        configs: Their parameters; ``units`` and ``depth`` are the same in all.
        data: What they learn.
        seed: Of weights and batches.
    """

    def __init__(self, configs: list[dict[str, Any]], data: Data, seed: int) -> None:
        self.data, self.rng = data, np.random.default_rng(seed)
        sizes = [data.x.shape[1], *[configs[0]["units"]] * configs[0]["depth"], int(data.y.max()) + 1]
        scale = np.array([c["init"] for c in configs])[:, None, None]
        self.w = [
            (scale * (2.0 / a) ** 0.5 * self.rng.standard_normal((len(configs), a, b))).astype(np.float32)
            for a, b in itertools.pairwise(sizes)
        ]
        self.b = [np.zeros((len(configs), 1, b), dtype=np.float32) for b in sizes[1:]]
        self.speed = [np.zeros_like(v) for v in (*self.w, *self.b)]
        self.lr, self.momentum, self.decay = (
            np.array([c[name] for c in configs], dtype=np.float32)[:, None, None]
            for name in ("lr", "momentum", "decay")
        )

    def forward(self, x: Array) -> list[Array]:
        """Activations of every layer, the logits last."""
        found = [np.broadcast_to(x, (len(self.lr), *x.shape))]
        for i, (w, b) in enumerate(zip(self.w, self.b, strict=True)):
            z = found[-1] @ w + b
            found.append(z if i == len(self.w) - 1 else np.maximum(z, 0))
        return found

    def epoch(self) -> None:
        """One pass over the training rows; the learning rate is that of the configuration throughout."""
        for rows in np.array_split(self.rng.permutation(TRAINING), TRAINING // BATCH):
            found = self.forward(self.data.x[rows])
            pull = softmax(found[-1])
            pull[:, np.arange(len(rows)), self.data.y[rows]] -= 1
            pull /= len(rows)
            by_weight: list[Array] = []
            by_bias: list[Array] = []
            for i in range(len(self.w) - 1, -1, -1):
                by_weight.insert(0, found[i].transpose(0, 2, 1) @ pull + self.decay * self.w[i])
                by_bias.insert(0, pull.sum(axis=1, keepdims=True))
                pull = (pull @ self.w[i].transpose(0, 2, 1)) * (found[i] > 0)
            for speed, value, slope in zip(
                self.speed, (*self.w, *self.b), (*by_weight, *by_bias), strict=True
            ):
                speed *= self.momentum
                speed -= self.lr * slope
                value += speed

    def loss(self) -> Floats:
        """Mean cross-entropy of the validation rows, at most ``WORST``, also where a network diverged."""
        share = softmax(self.forward(self.data.x[TRAINING:])[-1])
        right = share[:, np.arange(len(share[0])), self.data.y[TRAINING:]].astype(np.float64)
        loss = -np.log(np.maximum(right, 1e-30)).mean(axis=1)
        out: Floats = np.minimum(np.nan_to_num(loss, nan=WORST), WORST)
        return out

    def described(self) -> Floats:
        """Description of the weights of each network, shape ``(networks, SIZE)``."""
        rows = range(len(self.lr))
        return np.array([embed([w[i] for w in self.w], [b[i, 0] for b in self.b]) for i in rows])


def softmax(z: Array) -> Array:
    """Shares of the last axis."""
    out: Array = np.exp(z - z.max(axis=-1, keepdims=True))
    out /= out.sum(axis=-1, keepdims=True)
    return out


def trained(data: Data, configs: list[dict[str, Any]]) -> tuple[Floats, Floats]:
    """Loss ``(n, epochs)`` and description of the weights ``(n, epochs, SIZE)`` of every configuration."""
    losses, described = np.zeros((len(configs), EPOCHS)), np.zeros((len(configs), EPOCHS, SIZE))
    shapes = sorted({(c["units"], c["depth"]) for c in configs})
    for number, shape in enumerate(shapes):
        rows = [i for i, c in enumerate(configs) if (c["units"], c["depth"]) == shape]
        stack = Stack([configs[i] for i in rows], data, number)
        for epoch in range(EPOCHS):
            stack.epoch()
            losses[rows, epoch], described[rows, epoch] = stack.loss(), stack.described()
        print(f"shape {number + 1} of {len(shapes)}, {time.process_time():.0f} CPU s", file=sys.stderr)
    return losses, described


def main() -> None:
    """Trains all networks and writes the table."""
    with np.errstate(all="ignore"):
        losses, described = trained(images(), [SPACE.decode(row) for row in SPACE.grid(100_000)])
    np.savez_compressed(TABLE, **packed(losses, described))


if __name__ == "__main__":
    main()
