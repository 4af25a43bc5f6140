"""What the claims about populations share: trainings whose weights are carried along, forked and counted, one worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tunewright.analysis.lineage import Schedule
from tunewright.core.algorithm import Algorithm, Resume, Start, generator
from tunewright.core.closing import closed
from tunewright.core.events import Ended, Event, Paused, Record, Reported, Resumed, Signalled, Started
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space
from tunewright.core.trial import Ledger, Trial

Floats = NDArray[np.float64]
Config = Mapping[str, Any]


class Training(Protocol):
    """Something that learns step by step, with settings that may change between steps."""

    @property
    def space(self) -> Space: ...
    @property
    def steps(self) -> int: ...
    def begin(self, seed: int) -> Any:
        """Weights before the first step."""
        ...

    def step(self, weights: Any, config: Config, rng: np.random.Generator) -> Any:
        """Weights after one more step; those given stay as they are."""
        ...

    def loss(self, weights: Any) -> float:
        """What is minimised."""
        ...


@dataclass(slots=True)
class Run:
    """A study that is over.

    Attributes:
        ledger: Its trials.
        weights: Weights of every completed trial.
        paid: Steps trained in all.
        best: The completed trial with the lowest loss.
    """

    ledger: Ledger
    weights: dict[int, Any]
    paid: int
    best: int


def population(
    algorithm: Algorithm[Any],
    training: Training,
    *,
    seed: int,
    trials: int,
    first: tuple[Config, ...] = (),
) -> Run:
    """Runs a study until every training is over.

    Args:
        algorithm: What decides.
        training: What is trained.
        seed: Seed of the study and of the trainings.
        trials: Trainings begun from scratch.
        first: Configurations of the first ones.
    """
    world = _World(algorithm, training, seed)
    for config in first:
        world.start(Start(dict(config), None))
    while world.decide(trials):
        pass
    best = min(world.done, key=lambda n: training.loss(world.done[n]))
    return Run(world.ledger, world.done, world.paid, best)


class _World:
    """One worker, and where it puts weights."""

    def __init__(self, algorithm: Algorithm[Any], training: Training, seed: int) -> None:
        problem = Problem(training.space, (Objective("loss"),), Fidelity(training.steps), (), seed)
        self.algorithm, self.training, self.seed = algorithm, training, seed
        self.ledger, self.state = Ledger(problem), algorithm.init(problem)
        self.weights: dict[int, Any] = {}
        self.saved: dict[tuple[int, int], Any] = {}
        self.done: dict[int, Any] = {}
        self.paid = 0

    def append(self, event: Event) -> None:
        if self.ledger.apply(Record(self.ledger.cursor + 1, 0.0, "", event)):
            self.state = self.algorithm.tell(self.state, (event,))

    def decide(self, trials: int) -> bool:
        """Takes a decision and carries it out; returns whether there was one."""
        full = self.ledger.begun >= trials
        decider = closed(self.algorithm) if full else self.algorithm
        actions = [
            a
            for a in decider.ask(self.state, 1, generator(self.seed, self.ledger.decisions))
            if not (full and isinstance(a, Start) and a.parent is None)
        ]
        for action in actions:
            if isinstance(action, Start):
                self.start(action)
            elif isinstance(action, Resume):
                trial = self.ledger.trials[action.trial]
                self.append(Resumed(trial.id, trial.step, action.until))
                self.segment(trial)
            else:
                trial = self.ledger.trials[action.trial]
                self.append(Signalled(action.trial, "stop"))
                self.append(Ended(action.trial, trial.token, "stopped", step=trial.step))
        return bool(actions)

    def start(self, action: Start) -> None:
        number = len(self.ledger.trials)
        self.append(Started(number, action.config, action.until, action.parent, why=action.why))
        fresh = action.parent is None
        self.weights[number] = self.training.begin(self.seed + number) if fresh else self.saved[action.parent]  # type: ignore[index]
        self.segment(self.ledger.trials[number])

    def segment(self, trial: Trial) -> None:
        """Trains a trial until its segment is over or it is told to pause."""
        training, number = self.training, trial.id
        rng = np.random.default_rng([self.seed, number, trial.step])
        until = trial.until or training.steps
        while trial.step < until and trial.signal is None:
            self.weights[number] = training.step(self.weights[number], trial.config, rng)
            self.paid += 1
            loss = training.loss(self.weights[number])
            good = bool(np.isfinite(loss))
            bad = None if good else {"loss": "nan"}
            self.append(Reported(number, trial.token, trial.step + 1, {"loss": loss} if good else {}, bad))
            for action in self.algorithm.ask(self.state, 0, generator(self.seed, self.ledger.decisions)):
                self.append(Signalled(action.trial, "pause"))  # type: ignore[union-attr]
        if trial.step >= training.steps:
            self.done[number] = self.weights.pop(number)
            self.append(Ended(number, trial.token, "completed", dict(trial.metrics), trial.step))
        else:
            self.saved[number, trial.step] = self.weights[number]
            self.append(Paused(number, trial.token, trial.step))


def followed(training: Training, schedule: Schedule, seed: int) -> Any:
    """Weights after one training from scratch that follows a schedule."""
    rng = np.random.default_rng([seed, 1_000_000])
    weights = training.begin(seed)
    for step in range(training.steps):
        weights = training.step(weights, schedule.at(step), rng)
    return weights


@cache
def _digits() -> tuple[tuple[Floats, NDArray[np.int64]], ...]:
    """Handwritten digits: 900 to train on, 450 to choose by, 447 to judge by; a tenth of the first labels are wrong."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    x, y = (x[order] / 16.0).astype(np.float64), y[order].astype(np.int64)
    wrong = rng.random(900) < 0.1
    y[:900][wrong] = rng.integers(10, size=int(wrong.sum()))
    return tuple((x[a:b], y[a:b]) for a, b in ((0, 900), (900, 1350), (1350, 1797)))


class Digits:
    """A perceptron with one hidden layer on handwritten digits with wrong labels; a step is an epoch of 28 batches.

    Args:
        space: Names among ``rate``, ``momentum``, ``decay`` (of weights) and ``drop`` (of hidden units).
        steps: Epochs.
        hidden: Units.
    """

    def __init__(self, space: Space, steps: int = 40, hidden: int = 48) -> None:
        self.space, self.steps, self.hidden = space, steps, hidden

    def begin(self, seed: int) -> Any:
        """He's initial weights (He et al. 2015), and no momentum."""
        rng = np.random.default_rng([seed, 2_000_000])
        h = self.hidden
        theta = [
            rng.normal(0, (2 / 64) ** 0.5, (64, h)),
            np.zeros(h),
            rng.normal(0, (1 / h) ** 0.5, (h, 10)),
            np.zeros(10),
        ]
        return theta, [np.zeros_like(t) for t in theta]

    def step(self, weights: Any, config: Config, rng: np.random.Generator) -> Any:
        """One epoch of stochastic gradient descent with momentum."""
        theta, speed = [t.copy() for t in weights[0]], [v.copy() for v in weights[1]]
        x, y = _digits()[0]
        rate, momentum = config["rate"], config.get("momentum", 0.9)
        decay, keep = config.get("decay", 0.0), 1.0 - config.get("drop", 0.0)
        with np.errstate(all="ignore"):
            for rows in np.array_split(rng.permutation(len(x)), 28):
                z = x[rows] @ theta[0] + theta[1]
                mask = (z > 0) * (rng.random(z.shape) < keep) / keep
                a = z * mask
                g = _softmax(a @ theta[2] + theta[3])
                g[np.arange(len(rows)), y[rows]] -= 1.0
                g /= len(rows)
                back = (g @ theta[2].T) * mask
                slopes = [x[rows].T @ back, back.sum(0), a.T @ g, g.sum(0)]
                for t, v, s in zip(theta, speed, slopes, strict=True):
                    v *= momentum
                    v -= rate * (s + decay * t)
                    t += v
        return theta, speed

    def loss(self, weights: Any, part: int = 1) -> float:
        """Cross-entropy per example: 0 on those trained on, 1 on those chosen by, 2 on those judged by."""
        theta = weights[0]
        x, y = _digits()[part]
        with np.errstate(all="ignore"):
            p = _softmax(np.maximum(x @ theta[0] + theta[1], 0) @ theta[2] + theta[3])
            return float(-np.log(np.maximum(p[np.arange(len(x)), y], 1e-12)).mean())


def _softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    out: Floats = e / e.sum(axis=1, keepdims=True)
    return out
