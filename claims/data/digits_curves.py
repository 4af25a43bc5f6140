"""Trains every network of the search in ``claims/bohb.py`` for 27 epochs and writes how many validation images it gets wrong
after 1, 3, 9 and 27 of them.

Images, networks and optimizers are those of ``claims/data/digits_architectures.py``; only 300 images are trained on.

Run it: OMP_NUM_THREADS=1 python -m claims.data.digits_curves (about two minutes; with more threads sums are rounded
otherwise, and a few counts differ)
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from claims.architectures import NET, VALIDATION
from claims.bohb import CURVES, EPOCHS, SPACE, network
from claims.data.digits_architectures import BATCH, TRAINING, Array, Network, images, steps
from numpy.typing import NDArray

from tunewright import architect

USED = 300


def wrong(config: Mapping[str, Any], x: Array, y: NDArray[np.int64]) -> list[int]:
    """Validation images that a network gets wrong after each number of epochs."""
    rng = np.random.default_rng(1)
    network = Network(architect.modules(architect.graph(NET, config)), rng)
    memory = [[np.zeros_like(w) for w in network.weights] for _ in range(2)]
    number, out = 0, []
    for epoch in range(1, EPOCHS[-1] + 1):
        order = rng.permutation(USED)
        for start in range(0, USED, BATCH):
            rows = order[start : start + BATCH]
            scores, kept = network.forward(x[rows], training=True)
            slope = np.exp(scores - scores.max(axis=1, keepdims=True))
            slope /= slope.sum(axis=1, keepdims=True)
            slope[np.arange(len(rows)), y[rows]] -= 1
            number += 1
            gradients = network.backward(slope / len(rows), kept)
            changes = steps(gradients, memory, config["optimizer"], config["lr"], number)
            for w, change in zip(network.weights, changes, strict=True):
                w += change
        if epoch in EPOCHS:
            scores, _ = network.forward(x[TRAINING:], training=False)
            # A network that diverged has no best digit.
            sound = np.isfinite(scores).all(axis=1)
            out.append(int(np.sum(~sound | (np.nan_to_num(scores).argmax(axis=1) != y[TRAINING:]))))
    return out


def main() -> None:
    """Trains all networks and writes the table."""
    x, y = images()
    assert len(y) == TRAINING + VALIDATION
    began = time.process_time()
    counts = []
    with np.errstate(all="ignore"):
        for row in SPACE.grid(100_000):
            counts.append(wrong(network(SPACE.decode(row)), x, y))
            if len(counts) % 200 == 0:
                print(f"{len(counts)} networks, {time.process_time() - began:.0f} CPU s", file=sys.stderr)
    data = {"space": SPACE.digest, "epochs": EPOCHS, "validation": VALIDATION, "wrong": counts}
    CURVES.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
