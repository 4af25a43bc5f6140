import math

import numpy as np
import pytest

from tunewright.bench import coco
from tunewright.core.domains import Float, Int
from tunewright.errors import MissingExtra

cocoex = pytest.importorskip("cocoex")


@pytest.mark.parametrize("function", coco.BBOB)
def test_bbob_is_answered_above_its_published_optimum(function: int) -> None:
    task = coco.bbob_task(function, 5)
    optimum = cocoex.bare_problem.BareProblem("bbob", function, 5, 1).best_value()
    assert task.best == pytest.approx(float(optimum))
    for row in task.problem.space.sample(np.random.default_rng(0), 20):
        config = task.problem.space.decode(row)
        loss = task.curve(config)[0][0]
        assert loss >= task.best
        assert task.curve(config)[0][0] == loss


def test_mixint_has_integers_in_four_fifths() -> None:
    task = coco.mixint_task(1, 5)
    domains = [c.domain for c in task.problem.space.columns]
    assert [type(d) for d in domains] == [Int] * 4 + [Float]
    assert task.best < task.usual


def test_the_ideal_of_two_spheres_and_their_volume() -> None:
    task = coco.biobj_task(1, 5)
    # Between two spheres the front is sqrt(f1) + sqrt(f2) = 1 when scaled, so the volume below (1, 1) is
    # 1 - integral of (1 - sqrt(u))^2 = 5/6.
    assert task.volume == pytest.approx(5.0 / 6.0, abs=5e-3)
    assert task.volume < 5.0 / 6.0
    assert task.regret(np.array([[1.0, 1.0]])) == 1.0
    assert task.regret(np.array([[2.0, -0.1]])) == 1.0
    u = np.linspace(0.0, 1.0, 3000)
    assert task.regret(np.column_stack([u, (1.0 - np.sqrt(u)) ** 2])) == 0.0
    few = np.array([[0.25, 0.25]])
    assert task.regret(few) == pytest.approx(1.0 - 0.75**2 / task.volume)


def test_two_losses_are_finite_and_repeat() -> None:
    task = coco.biobj_task(1, 5)
    for row in task.problem.space.sample(np.random.default_rng(0), 20):
        config = task.problem.space.decode(row)
        losses = task.losses(config)
        assert losses.shape == (2,)
        assert all(math.isfinite(x) and x >= 0.0 for x in losses)
        np.testing.assert_array_equal(task.losses(config), losses)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cocoex", None)
    with pytest.raises(MissingExtra, match="coco-experiment"):
        coco.bbob_task(2, 3)
