"""Curves as the network reads them."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models import curve_tokens as read
from tunewright.models.curve_prior import DIMENSIONS, draw_histories


def test_a_curve_is_read_at_the_latest_report_by_each_place() -> None:
    losses, steps = np.array([5.0, 4.0, 3.0, 6.0]), np.array([8, 16, 32, 48])
    got = read.picked(losses, steps, 64)
    # At 1, 2, 4 and 8 of 64 steps the first report, at 16 the second, at 32 the third, at 48 and beyond the last.
    np.testing.assert_array_equal(got[:8], [5, 5, 5, 5, 4, 3, 6, 6])
    # At 1/8, 1/4, 1/2, 3/4 and 7/8 of 48: 6, 12, 24, 36, 42.
    np.testing.assert_array_equal(got[8:13], [5, 5, 4, 3, 3])
    np.testing.assert_array_equal(got[13:], [6, 3, 4, 5, 3])


def test_regular_curves_are_read_alike() -> None:
    drawn = draw_histories(np.random.default_rng(0), 4, 10, 4, 17, 3)
    many = read.picked_regular(drawn.losses, drawn.seen)
    for task in range(4):
        for row in range(10):
            n = int(drawn.seen[task, row])
            alone = read.picked(drawn.losses[task, row, :n], np.arange(1, n + 1), 17)
            np.testing.assert_array_equal(many[task, row], alone)
    assert np.isinf(many[:, 10:]).all()


def test_the_best_loss_is_one_half_and_a_unit_worse_three_quarters() -> None:
    scale = read.Scale(np.array(2.0), np.array(0.5))
    np.testing.assert_allclose(scale.squashed(np.array([2.0, 2.5, 1.5, np.inf])), [0.5, 0.75, 0.25, 1.0])


def test_squashing_can_be_undone_and_its_slope_is_the_derivative() -> None:
    scale = read.Scale(np.array(-3.0), np.array(0.2))
    losses = np.array([-3.5, -3.01, -2.9, 1.0])
    np.testing.assert_allclose(scale.losses(scale.squashed(losses)), losses)
    slope = (scale.squashed(losses + 1e-6) - scale.squashed(losses - 1e-6)) / 2e-6
    np.testing.assert_allclose(scale.log_slope(losses), np.log(slope), atol=1e-5)


def picks(lowest: list[float], last: list[float] | None = None) -> np.ndarray:
    out = np.zeros((len(lowest), read.PICKS))
    out[:, -1] = lowest
    out[:, read.LAST] = lowest if last is None else last
    return out


def test_the_unit_is_how_far_the_good_ones_lie_above_the_best() -> None:
    scale = read.scale_of(picks([3.0, 1.0, 2.0, 9.0]))
    # 30 % of the way along 1, 2, 3, 9 is 1.9.
    assert scale.best.item() == 1.0
    assert scale.unit.item() == pytest.approx(0.9)


def test_ties_at_the_best_leave_a_hundredth_of_the_range() -> None:
    scale = read.scale_of(picks([1.0] * 9 + [2.0], [1.0] * 5 + [11.0] * 5))
    assert scale.unit.item() == pytest.approx(0.1)


@pytest.mark.parametrize(
    "lowest", [[1.0], [0.0, 0.0], [np.inf, np.inf], [1e300, -1e300, 0.0], [1e-300, 1e-300], [np.inf, 2.0]]
)
def test_any_losses_have_a_scale(lowest: list[float]) -> None:
    raw = picks(lowest)
    scale = read.scale_of(raw)
    assert np.isfinite(scale.best).all()
    assert np.isfinite(scale.unit).all()
    assert (scale.unit > 0.0).all()
    y = scale.squashed(raw)
    assert np.all((y >= 0.0) & (y <= 1.0))


def test_losses_of_another_scale_give_the_same_tokens() -> None:
    rng = np.random.default_rng(2)
    raw = rng.random((6, read.PICKS))
    raw[:, -1] = raw.min(axis=1)
    a = read.scale_of(raw).squashed(raw)
    b = read.scale_of(1000.0 * raw - 7.0).squashed(1000.0 * raw - 7.0)
    np.testing.assert_allclose(a, b, atol=1e-9)


def test_a_new_configuration_has_no_curve_and_absent_codes_are_nothing() -> None:
    codes = np.full((2, DIMENSIONS), np.nan)
    codes[:, 0] = 1.0
    summary = read.summary_of(np.full((3, read.PICKS), 0.6))
    out = read.tokens(
        codes,
        np.full((2, read.PICKS), 0.9),
        np.array([0.0, 0.5]),
        np.array([0.0, 4.0]),
        summary,
        np.array([0.5, 1.0]),
    )
    assert out.shape == (2, read.TOKEN)
    assert out[0, 0] == pytest.approx(np.sqrt(3.0))
    assert not out[:, 1:DIMENSIONS].any()
    assert not out[0, DIMENSIONS : DIMENSIONS + read.PICKS].any()
    np.testing.assert_allclose(out[1, DIMENSIONS : DIMENSIONS + read.PICKS], 1.2, rtol=1e-5)
    assert not read.tokens(codes, np.full((2, read.PICKS), 0.9), np.ones(2), np.ones(2), summary)[
        :, -4:
    ].any()
