"""Training only the settings whose loss is smoothest is faster than a search and, on smooth data, better.

Yedida and Menzies (2024) rank 30 settings by the smoothness of their loss after one epoch, train the best 5, and report better
predictions than a state-of-the-art optimiser in less time on data of software engineering, whose boundaries between classes
are smooth, and ties on other data.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from claims.record import Claim, Result, Verdict
from claims.study import Floats, missing, seeds_for
from tunewright.core.algorithm import Resume, Start, Stop, generator
from tunewright.core.closing import closed
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import Ended, Event, Paused, Reported, Resumed, Signalled, Started
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import MissingExtra
from tunewright.models.smoothness import feed_forward
from tunewright.numerics.statistics import wilcoxon
from tunewright.samplers.random import Random
from tunewright.samplers.tpe import Tpe
from tunewright.schedulers.smoothie import Smoothie

CLAIM = Claim(
    title="On smooth data the smoothest settings beat a search at a fraction of its cost; on other data they tie.",
    paper="Yedida and Menzies 2024, arXiv:2401.09622, section 6 (RQ1 to RQ3)",
    check=(
        "Three smooth sets (a logistic boundary in 6 and in 20 dimensions, breast cancer) and three jagged ones "
        "(checkerboards of 3 and 5 fields a side, a boundary that oscillates), feed-forward networks of 1 to 3 layers "
        "with 5 ways of scaling, 20 epochs. SMOOTHIE: 30 settings for one epoch, 5 to the end. TPE: 30 settings to the "
        "end. Counted: test accuracy of what is best on the validation rows, and epochs."
    ),
    rule=(
        "Holds at reduced scale if test accuracy is higher than that of TPE on the smooth sets with p < 0.05, not lower "
        "on the jagged ones (p >= 0.05), and epochs are fewer than half; not reproduced otherwise."
    ),
)
_EPOCHS, _TRIALS = 20, 30
_SPACE = Space(
    lr=Float(1e-3, 1.0, log=True),
    units=Int(2, 20),
    layers=Int(1, 3),
    scaling=Choice(["normalize", "standardize", "minmax", "maxabs", "robust"]),
)
Ints = NDArray[np.int64]


class Data(NamedTuple):
    """Rows and labels; the first 300 train, the next 150 choose, the others test."""

    x: Floats
    y: Ints


def data_sets(seed: int) -> tuple[list[Data], list[Data]]:
    """The smooth and the jagged sets of a seed.

    Raises:
        MissingExtra: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError:
        raise MissingExtra("Breast cancer needs scikit-learn; got none. Install tunewright[trees].") from None
    rng = np.random.default_rng(seed)
    smooth, jagged = [], []
    for d in (6, 20):
        x = rng.normal(size=(750, d)) * 10.0 ** rng.uniform(-1, 1, d)
        score = (x / x.std(axis=0)) @ rng.normal(size=d) / d**0.5
        smooth.append(Data(x, (rng.random(750) < 1.0 / (1.0 + np.exp(-3.0 * score))).astype(np.int64)))
    x, y = load_breast_cancer(return_X_y=True)
    order = rng.permutation(len(y))
    smooth.append(Data(x[order], y[order].astype(np.int64)))
    for fields in (3, 5):
        x = rng.random((750, 2))
        jagged.append(Data(x, (np.floor(x * fields).sum(axis=1) % 2).astype(np.int64)))
    x = rng.random((750, 2))
    jagged.append(Data(x, (x[:, 1] > 0.5 + 0.3 * np.sin(20.0 * x[:, 0])).astype(np.int64)))
    return smooth, jagged


def scaled(x: Floats, how: str) -> Floats:
    """The rows scaled by what the training rows say."""
    train = x[:300]
    if how == "normalize":
        unit: Floats = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        return unit
    middle, width = {
        "standardize": (train.mean(axis=0), train.std(axis=0)),
        "minmax": (train.min(axis=0), np.ptp(train, axis=0)),
        "maxabs": (np.zeros(x.shape[1]), np.abs(train).max(axis=0)),
        "robust": (np.median(train, axis=0), np.subtract(*np.percentile(train, [75, 25], axis=0))),
    }[how]
    out: Floats = (x - middle) / np.maximum(width, 1e-12)
    return out


class Network:
    """A feed-forward network in training."""

    def __init__(self, data: Data, config: Mapping[str, Any], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.x, self.y, self.lr = scaled(data.x, config["scaling"]), data.y, float(config["lr"])
        sizes = [self.x.shape[1], *[config["units"]] * config["layers"], 2]
        self.weights = [self.rng.normal(0.0, (2.0 / a) ** 0.5, (a, b)) for a, b in pairwise(sizes)]
        self.biases = [np.zeros(b) for b in sizes[1:]]

    def layers(self, x: Floats) -> list[Floats]:
        """Activations, the input first and the logits last."""
        found = [x]
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ w + b
            found.append(x if i == len(self.weights) - 1 else np.maximum(x, 0.0))
        return found

    def epoch(self) -> None:
        """One pass of stochastic gradient descent, 32 rows at a time."""
        for rows in np.array_split(self.rng.permutation(300), 9):
            found = self.layers(self.x[rows])
            share = np.exp(found[-1] - found[-1].max(axis=1, keepdims=True))
            pull = (share / share.sum(axis=1, keepdims=True) - np.eye(2)[self.y[rows]]) / len(rows)
            for i in range(len(self.weights) - 1, -1, -1):
                back = (pull @ self.weights[i].T) * (found[i] > 0.0)
                self.weights[i] -= self.lr * np.clip(found[i].T @ pull, -1.0, 1.0)
                self.biases[i] -= self.lr * pull.sum(axis=0)
                pull = back

    def accuracy(self, low: int, high: int | None) -> float:
        """Share of right answers on some rows."""
        return float((self.layers(self.x[low:high])[-1].argmax(axis=1) == self.y[low:high]).mean())

    def smoothness(self) -> float:
        """Smoothness of the loss on the training rows."""
        return feed_forward(self.layers(self.x[:300])[-2], self.weights[-1], 2)


def searched(algorithm: Any, data: Data, seed: int, trials: int) -> tuple[float, int]:
    """Test accuracy of what a method chooses with one worker, and the epochs that it took."""
    problem = Problem(_SPACE, (Objective("accuracy", "maximize"),), Fidelity(_EPOCHS), seed=seed)
    state, nets, done, epochs = algorithm.init(problem), list[Network](), dict[int, int](), 0
    finished: list[int] = []
    for decision in range(20 * trials):
        asked = algorithm if len(nets) < trials else closed(algorithm)
        actions = list(asked.ask(state, 1, generator(seed, decision)))
        if len(nets) >= trials:
            actions = [a for a in actions if not isinstance(a, Start)]
        if not actions:
            break
        for action in actions:
            news: list[Event] = []
            if isinstance(action, Stop):
                news = [
                    Signalled(action.trial, "stop"),
                    Ended(action.trial, 0, "stopped", step=done[action.trial]),
                ]
                state = algorithm.tell(state, news)
                continue
            if isinstance(action, Start):
                trial, until = len(nets), action.until or _EPOCHS
                nets.append(Network(data, action.config, seed * 1000 + trial))
                done[trial] = 0
                news.append(Started(trial, action.config, until))
            else:
                assert isinstance(action, Resume)
                trial, until = action.trial, action.until or _EPOCHS
                news.append(Resumed(trial, done[trial], until))
            metrics: dict[str, float] = {}
            for step in range(done[trial] + 1, until + 1):
                nets[trial].epoch()
                epochs += 1
                metrics = {"accuracy": nets[trial].accuracy(300, 450), "smoothness": nets[trial].smoothness()}
                news.append(Reported(trial, 0, step, metrics))
            done[trial] = until
            if until == _EPOCHS:
                finished.append(trial)
                news.append(Ended(trial, 0, "completed", metrics, until))
            else:
                news.append(Paused(trial, 0, until))
            state = algorithm.tell(state, news)
    best = max(finished, key=lambda t: nets[t].accuracy(300, 450))
    return nets[best].accuracy(450, None), epochs


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "TPE with 30 full trainings; 5 random settings trained fully"
    seeds = seeds_for(quick, 20)
    methods: dict[str, tuple[Any, int]] = {
        "smoothie": (Smoothie(Random()), _TRIALS),
        "tpe": (Tpe(), _TRIALS),
        "five": (Random(), 5),
    }
    found: dict[str, list[list[float]]] = {f"{m}_{k}": [] for m in methods for k in ("smooth", "jagged")}
    epochs = dict.fromkeys(methods, 0)
    try:
        for seed in seeds:
            for kind, sets in zip(("smooth", "jagged"), data_sets(seed), strict=True):
                for name, (algorithm, trials) in methods.items():
                    runs = [searched(algorithm, d, seed, trials) for d in (sets[:1] if quick else sets)]
                    found[f"{name}_{kind}"].append([accuracy for accuracy, _ in runs])
                    epochs[name] += sum(e for _, e in runs)
    except MissingExtra as error:
        return missing(error, baseline)
    scores = {k: np.array(v) for k, v in found.items()}
    better = wilcoxon(scores["smoothie_smooth"].ravel(), scores["tpe_smooth"].ravel(), "greater")
    worse = wilcoxon(scores["smoothie_jagged"].ravel(), scores["tpe_jagged"].ravel(), "less")
    share = epochs["smoothie"] / epochs["tpe"]
    good = better < 0.05 and worse >= 0.05 and share < 0.5
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    mean = {k: float(v.mean()) for k, v in scores.items()}
    return Result(
        verdict,
        f"On smooth data mean test accuracy is {mean['smoothie_smooth']:.3f}, that of TPE {mean['tpe_smooth']:.3f} "
        f"(p = {better:.2g} for higher) and of 5 random settings {mean['five_smooth']:.3f}; on jagged data "
        f"{mean['smoothie_jagged']:.3f}, {mean['tpe_jagged']:.3f} (p = {worse:.2g} for lower) and "
        f"{mean['five_jagged']:.3f}. It takes {share:.2f} of the epochs of TPE.",
        baseline,
        "Wilcoxon signed-rank on test accuracy, one-sided, pairs by data set and seed",
        seeds,
        {
            "trials": _TRIALS,
            "share_of_epochs": share,
            "better_on_smooth_p": better,
            "worse_on_jagged_p": worse,
            **mean,
        },
    )
