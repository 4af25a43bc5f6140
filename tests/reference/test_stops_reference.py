"""The stopping rules against Optuna's pruners, NumPy's percentiles, and SciPy's signed-rank test and correlations."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tunewright.core.algorithm import generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Reported, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.numerics.concordance import kendall
from tunewright.samplers.random import Random
from tunewright.schedulers.percentile import Percentile
from tunewright.schedulers.threshold import Threshold
from tunewright.schedulers.wilcoxon import Wilcoxon, _bar, _worse

STEPS = 12
PROBLEM = Problem(Space(x=Float(0, 1)), fidelity=Fidelity(STEPS))


def stopped_at(method: Any, done: np.ndarray, curve: np.ndarray) -> int | None:
    """The step at which a trial with this curve is stopped after others have completed."""
    state = method.init(PROBLEM)
    for i, losses in enumerate(done):
        events: list[Any] = [Started(i, {"x": 0.5})]
        events += [Reported(i, 0, s + 1, {"loss": float(y)}) for s, y in enumerate(losses)]
        state = method.tell(state, [*events, Ended(i, 0, "completed", {"loss": float(losses.mean())}, STEPS)])
    state = method.tell(state, [Started(len(done), {"x": 0.5})])
    for step in range(1, STEPS):
        state = method.tell(state, [Reported(len(done), 0, step, {"loss": float(curve[step - 1])})])
        if method.ask(state, 0, generator(0, step)):
            return step
    return None


def optuna_stops_at(pruner: Any, done: np.ndarray, curve: np.ndarray) -> int | None:
    """The same with Optuna's pruner and trials."""
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(pruner=pruner, sampler=optuna.samplers.RandomSampler(0))
    for losses in done:
        trial = study.ask()
        for step, y in enumerate(losses, 1):
            trial.report(float(y), step)
        study.tell(trial, float(losses.mean()))
    trial = study.ask()
    for step in range(1, STEPS):
        trial.report(float(curve[step - 1]), step)
        if trial.should_prune():
            return step
    return None


@pytest.mark.parametrize(("percentile", "warmup", "interval"), [(25.0, 1, 1), (60.0, 4, 1), (40.0, 3, 3)])
def test_percentile_stops_when_optunas_pruner_does(percentile: float, warmup: int, interval: int) -> None:
    optuna = pytest.importorskip("optuna")
    rng = np.random.default_rng(int(percentile))
    seen = set()
    for _ in range(12):
        done, curve = rng.normal(size=(7, STEPS)), rng.normal(0.5, 1.0, STEPS)
        ours = stopped_at(Percentile(Random(), percentile, 5, warmup, interval), done, curve)
        pruner = optuna.pruners.PercentilePruner(percentile, 5, warmup, interval)
        assert ours == optuna_stops_at(pruner, done, curve)
        seen.add(ours)
    assert len(seen) > 1


def test_percentile_agrees_with_numpy() -> None:
    rng = np.random.default_rng(1)
    for q in (5.0, 33.3, 50.0, 95.0):
        done = rng.normal(size=(9, STEPS))
        bar = float(np.percentile(done[:, 0], q))
        for loss, stops in ((bar - 1e-9, False), (bar + 1e-9, True)):
            assert (stopped_at(Percentile(Random(), q), done, np.full(STEPS, loss)) == 1) == stops


def test_threshold_stops_when_optunas_pruner_does() -> None:
    optuna = pytest.importorskip("optuna")
    rng = np.random.default_rng(2)
    for _ in range(12):
        curve = rng.normal(size=STEPS)
        pruner = optuna.pruners.ThresholdPruner(lower=-1.5, upper=1.2, n_warmup_steps=4)
        ours = stopped_at(Threshold(Random(), 1.2, -1.5, after=3), np.empty((0, STEPS)), curve)
        assert ours == optuna_stops_at(pruner, np.empty((0, STEPS)), curve)


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.8])
def test_wilcoxon_stops_when_optunas_pruner_does(shift: float) -> None:
    # Trials that are worse on average throughout, so that the two safety rules (Optuna compares the mean of some
    # instances with the best trial's mean of all) agree; no ties.
    optuna = pytest.importorskip("optuna")
    rng = np.random.default_rng(int(10 * shift))
    compared = 0
    for _ in range(40):
        done = rng.normal(size=(3, STEPS))
        best = done[done.mean(axis=1).argmin()]
        curve = rng.normal(shift, 1.0, STEPS)
        means = np.cumsum(curve) / np.arange(1, STEPS + 1)
        if (means <= best.mean()).any() or (means <= np.cumsum(best) / np.arange(1, STEPS + 1)).any():
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = optuna_stops_at(optuna.pruners.WilcoxonPruner(n_startup_steps=2), done, curve)
        assert stopped_at(Wilcoxon(Random()), done, curve) == theirs
        compared += 1
    assert compared >= 3


@pytest.mark.parametrize("level", [0.01, 0.05, 0.1, 0.3])
def test_the_tabled_bar_is_scipys_exact_test(level: float) -> None:
    rng = np.random.default_rng(3)
    for n in (1, 2, 3, 5, 8, 13, 25, 50):
        for _ in range(20):
            gaps = rng.normal(0.3, 1.0, n)
            p = stats.wilcoxon(gaps, alternative="greater", method="exact").pvalue
            assert _worse(gaps, level) == (p < level)


def test_bars_of_the_published_table() -> None:
    # Wilcoxon and Wilcox 1964, Some Rapid Approximate Statistical Procedures: lower one-sided critical values at
    # 0.05 for n = 5..12 are 0, 2, 3, 5, 8, 10, 13, 17; the upper ones mirror them.
    for n, lower in zip(range(5, 13), [0, 2, 3, 5, 8, 10, 13, 17], strict=True):
        assert _bar(n, 0.05) == n * (n + 1) // 2 - lower


def test_rank_correlation_is_scipys() -> None:
    rng = np.random.default_rng(1)
    for n in (2, 5, 40):
        x, y = rng.normal(size=n), rng.normal(size=n)
        assert kendall(x, y + x) == pytest.approx(stats.kendalltau(x, y + x).statistic)
    tied = rng.integers(0, 4, 40)
    assert kendall(tied, y) == pytest.approx(stats.somersd(tied, y).statistic)
