"""Bayesian optimisation whose trials distil from each other beats optimisation and self-distillation alone.

Lee et al. (2023) report higher test accuracy for BOSS than for Bayesian optimisation, for self-distillation with fixed
settings and for the baseline, on image classification, noisy labels, semi-supervised learning and medical images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from claims.record import Claim, Result, Verdict
from claims.study import Floats, corrected, missing, seeds_for
from tunewright.core.algorithm import Algorithm, Start, generator
from tunewright.core.domains import Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import MissingExtra
from tunewright.numerics.statistics import wilcoxon
from tunewright.samplers.bayes import Bayes
from tunewright.samplers.boss import Boss
from tunewright.samplers.random import Random

CLAIM = Claim(
    title="Trials that distil from each other reach a higher accuracy than optimisation or distillation alone.",
    paper="Lee et al. 2023, ICCV, arXiv:2304.12666, section 4.2 (noisy labels)",
    check=(
        "Digits (400 to train with 40 % random labels, 400 clean to choose by, the other 997 to test), a perceptron of 64 "
        "hidden units, 12 epochs, 24 trials each. BOSS: 8 trials of warm-up, top 4, a Gaussian process; Bayesian "
        "optimisation: the same without distillation; self-distillation: fixed settings, each trial taught by and "
        "started from the one before; random search. Counted: test accuracy of the trial that is best on the 400."
    ),
    rule=(
        "Holds at reduced scale if the mean test accuracy of BOSS is higher than that of each of the other three, all "
        "with p < 0.05 after Holm; not reproduced otherwise."
    ),
)
_TRIALS, _EPOCHS, _WARMUP, _TOP = 24, 12, 8, 4
_FIXED = {"lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "batch": 64, "alpha": 0.5}
_PARAMETERS: dict[str, Any] = {
    "lr": Float(1e-3, 1.0, log=True),
    "momentum": Float(0.0, 0.99),
    "weight_decay": Float(1e-6, 1e-2, log=True),
    "batch": Int(16, 128, log=True),
}
Ints = NDArray[np.int64]
Net = dict[str, Floats]


class Digits:
    """One split of the digits, with wrong labels."""

    def __init__(self, seed: int) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise MissingExtra("The digits need scikit-learn; got none. Install tunewright[trees].") from None
        x, y = load_digits(return_X_y=True)
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(y))
        x, y = x[order] / 16.0, y[order]
        wrong = rng.random(400) < 0.4
        self.x: Floats = x
        self.y: Ints = y
        self.noisy: Ints = np.where(wrong, rng.integers(0, 10, 400), y[:400])

    def accuracy(self, net: Net, low: int, high: int | None) -> float:
        """Share of right answers on some rows."""
        found = outputs(net, self.x[low:high])[1].argmax(axis=1)
        return float((found == self.y[low:high]).mean())


def outputs(net: Net, x: Floats) -> tuple[Floats, Floats]:
    """Hidden activations and logits."""
    hidden = np.maximum(x @ net["w1"] + net["b1"], 0.0)
    return hidden, hidden @ net["w2"] + net["b2"]


def fresh(rng: np.random.Generator) -> Net:
    """Untrained weights."""
    w1, w2 = rng.normal(0.0, 0.18, (64, 64)), rng.normal(0.0, 0.18, (64, 10))
    return {"w1": w1, "b1": np.zeros(64), "w2": w2, "b2": np.zeros(10)}


def fit(
    student: Net, teacher: Net | None, digits: Digits, config: Mapping[str, Any], rng: np.random.Generator
) -> Net:
    """Twelve epochs of stochastic gradient descent on labels and, with a teacher, on its logits (eq. 5)."""
    net = {k: v.copy() for k, v in student.items()}
    speed = {k: np.zeros_like(v) for k, v in net.items()}
    x, y = digits.x[:400], np.eye(10)[digits.noisy]
    taught = outputs(teacher, x)[1] if teacher is not None else None
    alpha = config.get("alpha", 1.0)
    for _ in range(_EPOCHS):
        for rows in np.array_split(rng.permutation(400), max(1, 400 // config["batch"])):
            hidden, out = outputs(net, x[rows])
            share = np.exp(out - out.max(axis=1, keepdims=True))
            pull = share / share.sum(axis=1, keepdims=True) - y[rows]
            if taught is not None:
                # The derivative of the mean square over ten logits.
                pull = alpha * pull + (1.0 - alpha) * 0.2 * (out - taught[rows])
            pull = pull / len(rows)
            back = (pull @ net["w2"].T) * (hidden > 0.0)
            slopes = {
                "w1": x[rows].T @ back,
                "b1": back.sum(axis=0),
                "w2": hidden.T @ pull,
                "b2": pull.sum(axis=0),
            }
            for k, g in slopes.items():
                clipped = g / max(1.0, float(np.linalg.norm(g)))
                speed[k] = config["momentum"] * speed[k] - config["lr"] * (
                    clipped + config["weight_decay"] * net[k]
                )
                net[k] += speed[k]
    return net


def searched(algorithm: Algorithm[Any], space: Space, digits: Digits, seed: int) -> float:
    """Test accuracy of what a search chooses."""
    problem = Problem(space, (Objective("accuracy", "maximize"),), seed=seed)
    state, nets, scores = algorithm.init(problem), list[Net](), list[float]()
    for i in range(_TRIALS):
        (start,) = algorithm.ask(state, 1, generator(seed, i))
        assert isinstance(start, Start)
        rng = np.random.default_rng([seed, i])
        student, teacher = fresh(rng), None
        if start.parent is not None and start.why is not None:
            student, teacher = nets[start.parent[0]], nets[int(start.why["teacher"])]
        nets.append(fit(student, teacher, digits, start.config, rng))
        scores.append(digits.accuracy(nets[-1], 400, 800))
        ended = Ended(i, 0, "completed", {"accuracy": scores[-1]})
        state = algorithm.tell(state, [Started(i, start.config, parent=start.parent), ended])
    return digits.accuracy(nets[int(np.argmax(scores))], 800, None)


def distilled(digits: Digits, seed: int) -> float:
    """Test accuracy of self-distillation with fixed settings, generation after generation."""
    nets: list[Net] = []
    scores: list[float] = []
    for i in range(_TRIALS):
        rng = np.random.default_rng([seed, i])
        last = nets[-1] if nets else None
        nets.append(fit(last or fresh(rng), last, digits, _FIXED, rng))
        scores.append(digits.accuracy(nets[-1], 400, 800))
    return digits.accuracy(nets[int(np.argmax(scores))], 800, None)


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = (
        "Bayesian optimisation; self-distillation with fixed settings; random search; as many trials each"
    )
    seeds = seeds_for(quick, 20)
    plain, taught = Space(_PARAMETERS), Space({**_PARAMETERS, "alpha": Float(0.0, 1.0)})
    try:
        splits = [Digits(s) for s in seeds]
    except MissingExtra as error:
        return missing(error, baseline)
    pairs = list(zip(splits, seeds, strict=True))
    found = {
        "boss": np.array([searched(Boss(Bayes(), _WARMUP, _TOP), taught, d, s) for d, s in pairs]),
        "bo": np.array([searched(Bayes(), plain, d, s) for d, s in pairs]),
        "sd": np.array([distilled(d, s) for d, s in pairs]),
        "random": np.array([searched(Random(), plain, d, s) for d, s in pairs]),
    }
    others = {k: {"p": wilcoxon(found["boss"], v, "greater")} for k, v in found.items() if k != "boss"}
    corrected(*others.values())
    means = {k: float(v.mean()) for k, v in found.items()}
    good = all(means["boss"] > means[k] and c["p"] < 0.05 for k, c in others.items())
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"Mean test accuracy of BOSS is {means['boss']:.3f}, of Bayesian optimisation {means['bo']:.3f} "
        f"(p = {others['bo']['p']:.2g}), of self-distillation {means['sd']:.3f} (p = {others['sd']['p']:.2g}), of random "
        f"search {means['random']:.3f} (p = {others['random']['p']:.2g}).",
        baseline,
        "Wilcoxon signed-rank on test accuracy, one-sided, pairs by seed, Holm over the three comparisons",
        seeds,
        {
            "trials": _TRIALS,
            **{f"{k}_accuracy": v for k, v in means.items()},
            **{f"over_{k}_p": c["p"] for k, c in others.items()},
        },
    )
