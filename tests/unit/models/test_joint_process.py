"""The joint process of configuration and length of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tunewright.core.domains import Choice, Float
from tunewright.core.space import Space
from tunewright.models import joint
from tunewright.models.kernel import Columns, columns_of

SPACE = Space(x=Float(0, 1), y=Float(0, 1), c=Choice(["a", "b", "c"]))
LEVELS = np.log([1.0, 3.0, 9.0, 27.0]) / np.log(27.0)


def columns() -> Columns:
    return columns_of(SPACE.layout.levels, SPACE.layout.categorical)


def some_rows(seed: int = 0, t: int = 12) -> joint.Rows:
    rng = np.random.default_rng(seed)
    codes = SPACE.sample(rng, t)
    trial = np.repeat(np.arange(t), rng.integers(1, 5, size=t))
    level = np.concatenate([np.arange(n) for n in np.bincount(trial)])
    y = (codes[trial, 0] - 0.4) ** 2 * 4 - LEVELS[level] + 0.05 * rng.standard_normal(len(trial))
    return joint.Rows(codes, trial, level, y, LEVELS)


@pytest.mark.parametrize("shape", ["matern", "decay"])
def test_the_gradient_of_the_evidence_is_that_of_differences(
    shape: joint.Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, Any]] = []

    def watched(function: Any, start: np.ndarray, *rest: object, **more: object) -> tuple[np.ndarray, float]:
        seen.append((function, start))
        return start, 0.0

    monkeypatch.setattr(joint, "minimize_in_box", watched)
    joint.learn(columns(), some_rows(), shape)
    function, start = seen[0]
    v = start + 0.2 * np.random.default_rng(1).standard_normal(len(start))
    steps = 1e-5 * np.eye(len(v))
    numeric = [(function(v + e)[0] - function(v - e)[0]) / 2e-5 for e in steps]
    np.testing.assert_allclose(function(v)[1], numeric, rtol=1e-4, atol=1e-4)


def test_what_is_learned_explains_the_data_better_than_the_start() -> None:
    rows = some_rows()
    v = joint.learn(columns(), rows)
    fitted = joint.condition(columns(), v, rows)
    start = joint.condition(columns(), joint.learn(columns(), rows, evaluations=1), rows)

    def evidence(p: joint.Joint) -> float:
        return float(-0.5 * rows.y @ p.alpha - np.log(np.diagonal(p.factor)).sum())

    assert evidence(fitted) > evidence(start)


def test_a_slice_predicts_what_the_dense_formula_predicts() -> None:
    rows = some_rows()
    process = joint.condition(columns(), joint.learn(columns(), rows, "decay"), rows, "decay")
    x = SPACE.sample(np.random.default_rng(5), 7)
    part = joint.at_level(process, 3)
    mean, std = part.predict(x)
    from tunewright.models.kernel import covariance

    points = columns().embed(x)
    shared = covariance(columns(), process.hyper, points, process.points) + 1.0
    cross = shared[:, rows.trial] * process.along[3, rows.level]
    full = process.between[rows.trial[:, None], rows.trial] * process.along[rows.level[:, None], rows.level]
    full += process.noise * np.eye(len(full))
    prior = (np.exp(process.hyper.scale) + 1.0) * process.along[3, 3]
    np.testing.assert_allclose(mean, cross @ np.linalg.solve(full, rows.y), rtol=1e-6, atol=1e-9)
    variance = prior - np.einsum("ij,ji->i", cross, np.linalg.solve(full, cross.T))
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=1e-5)


def test_the_slope_of_the_improvement_is_that_of_differences() -> None:
    rows = some_rows()
    process = joint.condition(columns(), joint.learn(columns(), rows, "decay"), rows, "decay")
    acquisition = joint.at_level(process, 3).improvement(-1.0)
    assert acquisition.slope is not None
    x = SPACE.sample(np.random.default_rng(6), 5)
    value, slope = acquisition.slope(x)
    np.testing.assert_allclose(value, acquisition.value(x), rtol=1e-9)
    for j in (0, 1):
        e = np.zeros(3)
        e[j] = 1e-6
        numeric = (acquisition.value(x + e) - acquisition.value(x - e)) / 2e-6
        np.testing.assert_allclose(slope[:, j], numeric, rtol=1e-3, atol=1e-5)


def test_early_losses_tell_which_configuration_will_be_best() -> None:
    rng = np.random.default_rng(3)
    codes = SPACE.sample(rng, 40)
    trial = np.concatenate([np.arange(40), np.arange(5)])
    level = np.concatenate([np.zeros(40, np.int64), np.full(5, 3)])
    order = np.argsort(trial, kind="stable")
    trial, level = trial[order], level[order]
    y = 3.0 * (codes[trial, 0] - 0.3) ** 2 - LEVELS[level]
    rows = joint.Rows(codes, trial, level, y, LEVELS)
    part = joint.at_level(joint.condition(columns(), joint.learn(columns(), rows, "decay"), rows, "decay"), 3)
    x = SPACE.sample(rng, 200)
    assert abs(x[int(np.argmin(part.predict(x)[0])), 0] - 0.3) < 0.1


def test_awaited_results_lower_the_deviation_there_and_leave_the_mean() -> None:
    rows = some_rows()
    v = joint.learn(columns(), rows, "decay")
    process = joint.condition(columns(), v, rows, "decay")
    x = SPACE.sample(np.random.default_rng(8), 1)
    believed = joint.believe(process, v, x, np.array([0]), "decay")
    before, after = (joint.at_level(p, 0).predict(x) for p in (process, believed))
    assert after[1][0] < before[1][0]
    np.testing.assert_allclose(after[0], before[0], atol=1e-6)
    assert joint.believe(process, v, x, np.array([4]), "decay") is process


def test_trials_are_known_better_than_new_configurations() -> None:
    rows = some_rows()
    process = joint.condition(columns(), joint.learn(columns(), rows, "decay"), rows, "decay")
    done = rows.trial[rows.level == 3]
    _, std = joint.predict_trials(process, 3)
    _, new = joint.at_level(process, 3).predict(SPACE.sample(np.random.default_rng(2), 20))
    assert std[done].max() < np.median(new)
