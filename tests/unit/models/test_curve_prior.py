"""The prior of learning curves: its bases by hand, and what is drawn from it."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models import curve_prior as prior


def one(value: float) -> np.ndarray:
    return np.array([value])


def test_the_power_law_by_hand() -> None:
    # ((9^(1/2) - 1) * 1/4 + 1)^-2 = 1.5^-2
    assert prior.power(one(0.25), one(1.0), one(9.0), one(2.0))[0] == pytest.approx(1 / 2.25)


def test_the_exponential_by_hand() -> None:
    # 16^-(1/4 / 1)^(1/2) = 16^-0.5
    assert prior.exponential(one(0.25), one(1.0), one(16.0), one(0.5))[0] == pytest.approx(0.25)


def test_the_logarithm_by_hand() -> None:
    # ln 2 / ln((2^3 - 2) / 3 * 1 + 2) = ln 2 / ln 4
    assert prior.logarithmic(one(1.0), one(3.0), one(3.0), one(2.0))[0] == pytest.approx(0.5)


def test_the_sigmoid_by_hand() -> None:
    # One over one plus a quarter of four.
    assert prior.hill(one(0.5), one(1.0), one(5.0), one(2.0))[0] == pytest.approx(0.5)


@pytest.mark.parametrize("base", prior.BASES)
def test_every_base_starts_with_all_the_way_left_and_has_its_precision_at_its_reach(base) -> None:
    reach, precision, shape = one(0.3), one(50.0), one(1.3)
    assert base(one(0.0), reach, precision, shape)[0] == pytest.approx(1.0)
    assert base(reach, reach, precision, shape)[0] == pytest.approx(1 / 50)
    x = np.linspace(0.0, 2.0, 100)
    assert np.all(np.diff(base(x, reach, precision, shape)) < 0.0)


def test_progress_turns_around_after_saturation() -> None:
    x = np.array([0.2, 0.5, 0.7, 0.9])
    np.testing.assert_allclose(prior.bent(x, one(0.5), one(-1.0)), [0.2, 0.5, 0.3, 0.1])
    np.testing.assert_allclose(prior.bent(x, one(0.5), one(0.5)), [0.2, 0.5, 0.6, 0.7])


def test_what_is_drawn_has_the_promised_shapes_and_ranges() -> None:
    drawn = prior.draw_histories(np.random.default_rng(0), 6, 12, 20, 30, 5)
    assert drawn.codes.shape == (6, 22, prior.DIMENSIONS)
    assert np.isnan(drawn.codes[..., 5:]).all()
    assert np.all((drawn.codes[..., :5] >= 0.0) & (drawn.codes[..., :5] <= 1.0))
    assert drawn.losses.shape == (6, 22, 30)
    assert np.all((drawn.losses >= 0.0) & (drawn.losses <= 1.0))
    assert np.all(drawn.seen[:, :12] >= 1)
    assert np.all(drawn.seen[:, 12:] == 0)
    assert drawn.targets.shape == (6, 20)


def test_questions_lie_beyond_what_was_seen_unless_all_was() -> None:
    drawn = prior.draw_histories(np.random.default_rng(1), 20, 8, 16, 12, 3)
    seen = np.take_along_axis(drawn.seen, drawn.rows, axis=1)
    assert np.all((drawn.steps > seen) | (seen == 12))
    assert np.all(drawn.steps <= 12)
    np.testing.assert_array_equal(
        drawn.targets[3, 5], drawn.losses[3, drawn.rows[3, 5], drawn.steps[3, 5] - 1]
    )


def test_the_same_seed_draws_the_same() -> None:
    a, b = (prior.draw_histories(np.random.default_rng(7), 3, 5, 6, 9, 2) for _ in range(2))
    np.testing.assert_array_equal(a.losses, b.losses)
    assert not np.array_equal(a.losses, prior.draw_histories(np.random.default_rng(8), 3, 5, 6, 9, 2).losses)


def test_similar_configurations_have_similar_curves() -> None:
    rng = np.random.default_rng(3)
    tasks = prior.draw_tasks(rng, 40, 2)
    x = np.repeat(rng.random((40, 1, 2)), 3, axis=1)
    x[:, 1] = np.clip(x[:, 1] + 1e-3, 0, 1)
    x[:, 2] = rng.random((40, 2))
    final = prior.curve_parameters(tasks, x)[0]
    near, far = np.abs(final[:, 1] - final[:, 0]), np.abs(final[:, 2] - final[:, 0])
    assert np.median(near) < 0.1 * np.median(far)


def test_calm_curves_mostly_improve_and_those_of_the_paper_often_turn() -> None:
    wild, calm = (
        prior.draw_histories(np.random.default_rng(5), 60, 10, 2, 20, 4, calm=c).losses for c in (False, True)
    )
    improved = [np.mean(x[..., -1] < x[..., 0]) for x in (wild, calm)]
    turned = [np.mean(x[..., -1] > x.min(axis=-1) + 0.05) for x in (wild, calm)]
    assert improved[0] < 0.7 < 0.8 < improved[1]
    assert turned[1] < 0.2 < turned[0]
