"""What the demo trains: handwritten digits by a support vector machine, boosted trees or a small neural network.

Worker processes import this module, so everything they call is at its top level. Data are split three ways: a test
part that no search ever sees, and a training and a validation part that depend on a split seed. Tuning uses split
seed 0, re-evaluation uses seeds from ``FRESH`` on.
"""

from __future__ import annotations

import importlib.util
import json
import time
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tunewright.core.domains import Choice, Float, Int
from tunewright.core.space import Space
from tunewright.run.worker import Attempt, Checkpoints

FRESH = 1001
_TEST_SEED = 20_261
TEST_SIZE, _VALID = 449, 404
_TREES_PER_STEP = 2
_BATCH = 32
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


class Split(NamedTuple):
    """Images, shape ``(n, 64)`` in [0, 1], and their digits, in three parts."""

    train: tuple[Floats, Labels]
    valid: tuple[Floats, Labels]
    test: tuple[Floats, Labels]


def space() -> Space:
    """Which of three model families, and the parameters of each: 13 columns, at most 6 of them active."""
    boosting = {
        "learning_rate": Float(0.01, 1.0, log=True),
        "leaves": Int(3, 31, log=True),
        "l2": Float(1e-6, 10.0, log=True),
    }
    mlp = {
        "lr": Float(1e-3, 1.0, log=True),
        "momentum": Float(0.0, 0.98),
        "width": Int(8, 256, log=True),
        "depth": Int(1, 3),
        "weight_decay": Float(1e-6, 1e-1, log=True),
    }
    kernel = Choice(
        {"rbf": {"gamma": Float(1e-4, 10.0, log=True)}, "poly": {"degree": Int(2, 5)}, "linear": {}}
    )
    svm = {"C": Float(1e-3, 1e3, log=True), "kernel": kernel}
    return Space(model=Choice({"svm": svm, "boosting": boosting, "mlp": mlp}))


@cache
def split(seed: int) -> Split:
    """The data under a split seed; the test part is the same under every seed."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x / 16.0
    order = np.random.default_rng(_TEST_SEED).permutation(len(y))
    test, rest = order[:TEST_SIZE], order[TEST_SIZE:]
    rest = rest[np.random.default_rng(seed).permutation(len(rest))]
    valid, train = rest[:_VALID], rest[_VALID:]
    return Split((x[train], y[train]), (x[valid], y[valid]), (x[test], y[test]))


class Learner(Protocol):
    """A model that can be trained further, step by step."""

    every_step: bool

    def advance(self, step: int) -> None:
        """Trains until ``step``."""
        ...

    def guess(self, x: Floats) -> Labels:
        """The digit of every image, shape ``(n,)``."""
        ...


class Svm:
    """A support vector machine; steps are a share of the training data, ``sqrt(step / full)``.

    The root keeps the families comparable: a ninth of the steps is a third of the images, as it is about where
    trees and networks have done most of their learning too.
    """

    every_step = False

    def __init__(self, params: dict[str, Any], data: Split, full: int) -> None:
        from sklearn.svm import SVC

        self._model = SVC(
            C=params["C"],
            kernel=params["kernel"],
            gamma=params.get("gamma", "scale"),
            degree=params.get("degree", 3),
        )
        self._data, self._full = data.train, full

    def advance(self, step: int) -> None:
        """Fits on the first ``sqrt(step / full)`` of the training images."""
        x, y = self._data
        n = round(len(y) * (step / self._full) ** 0.5)
        self._model.fit(x[:n], y[:n])

    def guess(self, x: Floats) -> Labels:
        """The digit of every image."""
        return np.asarray(self._model.predict(x))


class Boosting:
    """Gradient-boosted trees; a step is two more trees per digit. Resuming grows the same trees again."""

    every_step = True

    def __init__(self, params: dict[str, Any], data: Split, seed: int) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        self._model = HistGradientBoostingClassifier(
            learning_rate=params["learning_rate"],
            max_leaf_nodes=params["leaves"],
            l2_regularization=params["l2"],
            max_bins=17,
            early_stopping=False,
            warm_start=True,
            random_state=seed,
        )
        self._data = data.train

    def advance(self, step: int) -> None:
        """Grows trees until there are ``2 * step`` per digit."""
        self._model.set_params(max_iter=_TREES_PER_STEP * step)
        self._model.fit(*self._data)

    def guess(self, x: Floats) -> Labels:
        """The digit of every image."""
        return np.asarray(self._model.predict(x))


class TorchMlp:
    """A multilayer perceptron in PyTorch; a step is an epoch. ``model`` and ``optimizer`` go into checkpoints."""

    every_step = True

    def __init__(self, params: dict[str, Any], data: Split, seed: int) -> None:
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        sizes = [64, *[params["width"]] * params["depth"]]
        layers: list[torch.nn.Module] = []
        for wide, narrow in pairwise(sizes):
            layers += [torch.nn.Linear(wide, narrow), torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], 10))
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), params["lr"], params["momentum"], weight_decay=params["weight_decay"]
        )
        self._x = torch.tensor(data.train[0], dtype=torch.float32)
        self._y = torch.tensor(data.train[1])
        self._seed, self.done = seed, 0

    def restore(self, checkpoint: Checkpoints) -> None:
        """Takes over weights and momenta; a copy of another training keeps the settings of its own."""
        own = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        checkpoint.load(model=self.model, optimizer=self.optimizer)
        for group, settings in zip(self.optimizer.param_groups, own, strict=True):
            group.update(settings)

    def advance(self, step: int) -> None:
        """Trains until epoch ``step``; the order of the images depends on seed and epoch only."""
        import torch

        for epoch in range(self.done, step):
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._y))
            for start in range(0, len(order), _BATCH):
                rows = order[start : start + _BATCH]
                self.optimizer.zero_grad()
                loss: Any = torch.nn.functional.cross_entropy(self.model(self._x[rows]), self._y[rows])
                loss.backward()
                self.optimizer.step()
        self.done = step

    def guess(self, x: Floats) -> Labels:
        """The digit of every image."""
        import torch

        with torch.no_grad():
            return np.asarray(self.model(torch.tensor(x, dtype=torch.float32)).argmax(1).numpy())


class SklearnMlp:
    """The same without PyTorch; a step is an epoch. Resuming repeats the epochs already done."""

    every_step = True

    def __init__(self, params: dict[str, Any], data: Split, seed: int) -> None:
        from sklearn.neural_network import MLPClassifier

        self._model = MLPClassifier(
            (params["width"],) * params["depth"],
            solver="sgd",
            learning_rate_init=params["lr"],
            momentum=params["momentum"],
            alpha=params["weight_decay"],
            batch_size=_BATCH,
            random_state=seed,
        )
        self._data, self._done = data.train, 0

    def advance(self, step: int) -> None:
        """Trains until epoch ``step``."""
        for _ in range(self._done, step):
            self._model.partial_fit(*self._data, classes=np.arange(10))
        self._done = step

    def guess(self, x: Floats) -> Labels:
        """The digit of every image."""
        return np.asarray(self._model.predict(x))


def has_torch() -> bool:
    """Whether PyTorch is installed, found out without importing it."""
    return importlib.util.find_spec("torch") is not None


def learner(params: dict[str, Any], data: Split, seed: int, full: int) -> Learner:
    """An untrained model.

    Args:
        params: A configuration of ``space()``.
        data: What to train on.
        seed: For initial weights and the order of images.
        full: Steps of a full training.
    """
    if params["model"] == "svm":
        return Svm(params, data, full)
    if params["model"] == "boosting":
        return Boosting(params, data, seed)
    return TorchMlp(params, data, seed) if has_torch() else SklearnMlp(params, data, seed)


def error(model: Learner, part: tuple[Floats, Labels]) -> float:
    """Share of images that the model gets wrong."""
    return float(np.mean(model.guess(part[0]) != part[1]))


def rungs(full: int) -> list[int]:
    """The steps at which models that do not learn step by step are measured: powers of 3 up to ``full``."""
    found, step = [], 1
    while step < full:
        found.append(step)
        step *= 3
    return [*found, full]


def train(trial: Attempt, full: int = 27) -> dict[str, float] | None:
    """What a worker is asked to do: a trial of a search, or one re-evaluation of a candidate on a fresh seed."""
    if "candidate" in trial.params:
        return evaluate(json.loads(trial.params["candidate"]), trial.params["seed"], full)
    tune(trial, full)
    return None


def tune(trial: Attempt, full: int) -> None:
    """Trains until the trial is to pause, reporting validation error and CPU seconds by step."""
    data = split(0)
    model = learner(trial.params, data, trial.seed, full)
    if isinstance(model, TorchMlp):
        if trial.checkpoint.exists:
            model.restore(trial.checkpoint)
        model.done = trial.step
    until = trial.until or full
    steps = range(1, until + 1) if model.every_step else sorted({*rungs(full), until})
    began = time.process_time()
    for step in steps:
        if not trial.step < step <= until:
            continue
        model.advance(step)
        wrong = error(model, data.valid)
        now = time.process_time()
        if not trial.report(step, cost=now - began, error=wrong):
            break
        began = now
    if trial.step < full:
        kept = {"model": model.model, "optimizer": model.optimizer} if isinstance(model, TorchMlp) else {}
        trial.checkpoint.save(step=trial.step, **kept)


def evaluate(params: dict[str, Any], seed: int, full: int) -> dict[str, float]:
    """Trains a candidate fully on a fresh split and measures it on the validation and the test part."""
    data = split(seed)
    model = learner(params, data, seed, full)
    model.advance(full)
    return {"error": error(model, data.valid), "test": error(model, data.test)}
