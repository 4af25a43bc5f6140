"""What the demo trains: the same result in one go and in pieces, and test images that no search sees."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from tunewright import demo_tasks
from tunewright.demo_tasks import SklearnMlp, Svm, error, learner, rungs, space, split, tune
from tunewright.run.checkpoint import pack_tree, unpack_tree
from tunewright.study import Study

MLP = {"model": "mlp", "lr": 0.1, "momentum": 0.5, "width": 16, "depth": 1, "weight_decay": 1e-4}
BOOSTING = {"model": "boosting", "learning_rate": 0.3, "leaves": 8, "l2": 0.1}


def rows(part):
    return {x.tobytes() for x in part[0]}


def test_the_test_part_is_the_same_under_every_seed_and_shared_with_no_other_part():
    first, second = split(0), split(demo_tasks.FRESH)
    assert np.array_equal(first.test[0], second.test[0])
    assert not np.array_equal(first.valid[0], second.valid[0])
    assert not rows(first.test) & (rows(first.train) | rows(first.valid))
    assert len(first.test[1]) == demo_tasks.TEST_SIZE
    assert sum(len(p[1]) for p in first) == 1797


def test_every_configuration_of_the_space_can_be_trained():
    where = space()
    rng = np.random.default_rng(0)
    for _ in range(12):
        model = learner(where.draw(rng), split(0), 0, 9)
        model.advance(1)
        assert 0 <= error(model, split(0).valid) <= 1


@pytest.mark.parametrize("params", [MLP, BOOSTING], ids=["mlp", "boosting"])
def test_training_in_pieces_is_training_in_one_go(params):
    whole, pieces = learner(params, split(0), 5, 9), learner(params, split(0), 5, 9)
    whole.advance(4)
    for step in (1, 3, 4):
        pieces.advance(step)
    x = split(0).valid[0]
    assert np.array_equal(whole.guess(x), pieces.guess(x))


def test_a_network_goes_on_from_its_checkpoint():
    pytest.importorskip("torch")
    whole, first, second = (learner(MLP, split(0), 5, 9) for _ in range(3))
    whole.advance(3)
    first.advance(2)
    kept = unpack_tree(pack_tree({"model": first.model, "optimizer": first.optimizer}))
    second.model.load_state_dict(kept["model"])
    second.optimizer.load_state_dict(kept["optimizer"])
    second.done = 2
    second.advance(3)
    for name, weights in whole.model.state_dict().items():
        assert bool((weights == second.model.state_dict()[name]).all()), name


def test_without_pytorch_the_network_is_scikit_learns(monkeypatch):
    monkeypatch.setattr(demo_tasks, "has_torch", lambda: False)
    model = learner(MLP, split(0), 0, 9)
    assert isinstance(model, SklearnMlp)
    model.advance(6)
    assert error(model, split(0).valid) < 0.2


def test_a_support_vector_machine_learns_from_more_images_with_more_steps():
    model = Svm({"C": 10.0, "kernel": "rbf", "gamma": 0.05}, split(0), 9)
    errors = []
    for step in (1, 9):
        model.advance(step)
        errors.append(error(model, split(0).valid))
    assert errors[1] < errors[0] < 0.2


@pytest.mark.parametrize(
    ("full", "steps"), [(1, [1]), (9, [1, 3, 9]), (10, [1, 3, 9, 10]), (27, [1, 3, 9, 27])]
)
def test_rungs_are_powers_of_three_and_the_end(full, steps):
    assert rungs(full) == steps


def _tune(trial):
    tune(trial, 9)


def test_a_paused_trial_reports_every_step_once():
    study = Study.open("t", space(), minimize="error", steps=9, method="asha(random)", storage="memory")
    for _ in range(9):
        study.enqueue(BOOSTING)
    study.run(_tune, trials=9, progress="none")
    done = [t for t in study.trials if t.status == "completed"]
    assert done
    assert all([r.step for r in t.reports] == list(range(1, 10)) for t in done)
    assert len({tuple(r.metrics["error"] for r in t.reports) for t in done}) == 1
