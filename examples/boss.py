"""Trials that learn from earlier trials: a small network on digits with wrong labels, in NumPy.

After eight trials alone, every trial starts from the weights of one of the best so far and is taught by another (method
``boss``; Lee et al. 2023, arXiv:2304.12666). Run it again and it continues.

    pip install tunewright scikit-learn
    python boss.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import tunewright as tw

SPACE = tw.Space(
    lr=tw.Float(1e-3, 1.0, log=True),
    momentum=tw.Float(0.0, 0.99),
    weight_decay=tw.Float(1e-6, 1e-2, log=True),
    batch=tw.Int(16, 128, log=True),
    alpha=tw.Float(0.0, 1.0),  # weight of the labels; the rest goes to the teacher
)
EPOCHS = 12


def data(seed: int = 0):
    """Digits: 400 to train with four of ten labels wrong, 400 to choose by."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    x, y = x[order] / 16.0, y[order]
    wrong = rng.random(400) < 0.4
    noisy = np.where(wrong, rng.integers(0, 10, 400), y[:400])
    return x[:400], noisy, x[400:800], y[400:800]


def logits(weights, x):
    """Hidden activations and outputs of the network."""
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0.0)
    return hidden, hidden @ weights["w2"] + weights["b2"]


def fresh(rng):
    """Untrained weights."""
    return {
        "w1": rng.normal(0.0, (2 / 64) ** 0.5, (64, 64)),
        "b1": np.zeros(64),
        "w2": rng.normal(0.0, (2 / 64) ** 0.5, (64, 10)),
        "b2": np.zeros(10),
    }


def fit(weights, teacher, x, y, rng, *, lr, momentum, weight_decay, batch, alpha):
    """Stochastic gradient descent on labels and, with a teacher, on its outputs."""
    weights = {k: v.copy() for k, v in weights.items()}
    speed = {k: np.zeros_like(v) for k, v in weights.items()}
    for _ in range(EPOCHS):
        order = rng.permutation(len(y))
        for rows in np.array_split(order, max(1, len(y) // batch)):
            hidden, out = logits(weights, x[rows])
            share = np.exp(out - out.max(axis=1, keepdims=True))
            share /= share.sum(axis=1, keepdims=True)
            pull = share - np.eye(10)[y[rows]]
            if teacher is not None:  # 0.2 is the derivative of a mean square over ten outputs
                pull = alpha * pull + (1 - alpha) * 0.2 * (out - logits(teacher, x[rows])[1])
            pull /= len(rows)
            back = (pull @ weights["w2"].T) * (hidden > 0)
            slope = {"w1": x[rows].T @ back, "b1": back.sum(0), "w2": hidden.T @ pull, "b2": pull.sum(0)}
            for k, g in slope.items():
                norm = max(1.0, float(np.linalg.norm(g)))
                speed[k] = momentum * speed[k] - lr * (g / norm + weight_decay * weights[k])
                weights[k] += speed[k]
    return weights


def train(trial):
    """One trial; the student's weights are the checkpoint that it starts from."""
    x, y, x_val, y_val = data()
    rng = np.random.default_rng(trial.seed)
    student = trial.checkpoint.load() or fresh(rng)
    weights = fit(student, trial.checkpoint.load_teacher(), x, y, rng, **trial.params)
    trial.checkpoint.save(weights)
    return {"accuracy": float((logits(weights, x_val)[1].argmax(axis=1) == y_val).mean())}


def main() -> None:
    """Runs the study."""
    storage = sys.argv[1] if len(sys.argv) > 1 else Path("boss.db")
    options = {"warmup": 8, "top": 4}
    with tw.Study.open(
        "boss on digits", SPACE, maximize="accuracy", method="boss", options=options, storage=storage
    ) as study:
        study.run(train, trials=32)
        best = study.best
        alone = max(t.metrics["accuracy"] for t in study.trials[:8])
        taught = [t for t in study.trials if t.parent is not None]
        print(
            f"best accuracy {best.metrics['accuracy']:.3f} in trial {best.number}; {alone:.3f} in the first 8"
        )
        print(f"{len(taught)} of {len(study.trials)} trials had a student and a teacher")


if __name__ == "__main__":
    main()
