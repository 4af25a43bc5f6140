"""The gradient noise scale: refusals, invariances, and agreement of its estimators."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from tunewright.errors import ConfigError  # noqa: E402
from tunewright.scaling.noise import NoiseScale, gradient_noise_scale, noise_scale, two_batch_estimate  # noqa: E402

nn = torch.nn
loss = nn.functional.mse_loss


def _model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 2)).double()


def _batches(count=6, rows=16, seed=1):
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(rows, 4, generator=g).double(), 3 + torch.randn(rows, 2, generator=g).double())
        for _ in range(count)
    ]


@settings(max_examples=50, deadline=None)
@given(
    st.floats(0, 1e6), st.floats(1e-6, 1e6), st.integers(1, 100), st.integers(1, 100)
)  # fmt: skip
def test_the_two_unknowns_come_back_from_exact_norms(trace, squared, small, more):
    big = small + more
    found = two_batch_estimate(squared + trace / small, small, squared + trace / big, big)
    assert math.isclose(found[0], trace, rel_tol=1e-6, abs_tol=1e-6 * (trace + squared))
    assert math.isclose(found[1], squared, rel_tol=1e-6, abs_tol=1e-6 * (trace + squared))


def test_per_example_gradients_give_the_sample_covariance_of_single_backward_passes():
    model, batches = _model(), _batches(1)
    x, y = batches[0]
    model.eval()
    rows = []
    for i in range(len(x)):
        model.zero_grad()
        loss(model(x[i : i + 1]), y[i : i + 1]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    rows = torch.stack(rows)
    trace = float(rows.var(dim=0, correction=1).sum())
    squared = float(rows.mean(dim=0).square().sum()) - trace / len(x)
    found = gradient_noise_scale(model, loss, batches)
    assert math.isclose(found.trace, trace, rel_tol=1e-9)
    assert math.isclose(found.squared, squared, rel_tol=1e-9)
    assert math.isclose(found.size, trace / squared, rel_tol=1e-9)


def test_parts_of_batches_agree_with_examples():
    model, batches = _model(), _batches(60)
    fine, coarse = (
        gradient_noise_scale(model, loss, batches),
        gradient_noise_scale(model, loss, batches, parts=4),
    )
    assert coarse.low < fine.size < coarse.high
    assert fine.high / fine.low < coarse.high / coarse.low, "one gradient per example is the less noisy"


def test_the_model_is_left_alone():
    model = _model().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    gradient_noise_scale(model, loss, _batches(2))
    assert all(m.training for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_scale_of_the_loss_does_not_matter():
    model, batches = _model(), _batches(3)
    one = gradient_noise_scale(model, loss, batches)
    other = gradient_noise_scale(model, lambda a, b: 100 * loss(a, b), batches)
    assert math.isclose(one.size, other.size, rel_tol=1e-9)
    assert math.isclose(10000 * one.trace, other.trace, rel_tol=1e-9)


def test_frozen_weights_do_not_count():
    model, batches = _model(), _batches(2)
    every = gradient_noise_scale(model, loss, batches)
    model[0].weight.requires_grad_(False)
    assert gradient_noise_scale(model, loss, batches).trace < every.trace


def test_logged_norms_give_what_the_gradients_give():
    model, batches = _model(), _batches(5)
    small, big = [], []
    model.eval()
    for x, y in batches:
        squares = []
        for part in (slice(0, 8), slice(8, 16), slice(0, 16)):
            g = torch.autograd.grad(loss(model(x[part]), y[part]), list(model.parameters()))
            squares.append(sum(float(v.square().sum()) for v in g))
        small.append((squares[0] + squares[1]) / 2)
        big.append(squares[2])
    ours, theirs = noise_scale(small, 8, big, 16), gradient_noise_scale(model, loss, batches, parts=2)
    assert math.isclose(ours.size, theirs.size, rel_tol=1e-9)
    assert math.isclose(ours.low, theirs.low, rel_tol=1e-9)


def test_speed_and_overhead_follow_the_paper():
    found = NoiseScale(50.0, 1.0, 50.0, 40.0, 60.0, 3)
    assert found.speed(50) == 0.5
    assert found.overhead(10) == 0.2
    for broken in (0, -1, math.nan):
        with pytest.raises(ConfigError, match="above 0"):
            found.speed(broken)
        with pytest.raises(ConfigError, match="above 0"):
            found.overhead(broken)


def test_an_interval_with_resamples_without_signal_is_open():
    # Signals of 1 and -0.9: their mean is positive, a resample of the second alone is not
    found = noise_scale([2.0, 0.3], 1, [1.5, -0.3], 2)
    assert found.size > 0
    assert found.high == math.inf


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"small": 8, "big": 8}, "ordered|the second the larger"),
        ({"small": 16, "big": 8}, "the second the larger"),
        ({"small_squared": [1.0]}, "one squared norm"),
        ({"big_squared": [1.0, math.nan]}, "finite"),
        ({"big_squared": [0.1, 0.1]}, "stand out"),
        ({"small_squared": [], "big_squared": []}, "at least one"),
        ({"level": 1.0}, "level"),
    ],
)
def test_bad_norms_are_refused(change, says):
    given_ = {"small_squared": [2.0, 2.1], "small": 4, "big_squared": [1.0, 1.1], "big": 8} | change
    with pytest.raises(ConfigError, match=says):
        noise_scale(**given_)


def test_bad_batches_are_refused():
    model = _model()
    with pytest.raises(ConfigError, match="at least one batch"):
        gradient_noise_scale(model, loss, [])
    with pytest.raises(ConfigError, match="equal parts"):
        gradient_noise_scale(model, loss, _batches(1, rows=16), parts=3)
    with pytest.raises(ConfigError, match="equal parts"):
        gradient_noise_scale(model, loss, _batches(1, rows=1))
    with pytest.raises(ConfigError, match="finite"):
        gradient_noise_scale(model, lambda a, b: loss(a, b) * math.inf, _batches(1))
    for p in model.parameters():
        p.requires_grad_(False)
    with pytest.raises(ConfigError, match="trained weights"):
        gradient_noise_scale(model, loss, _batches(1))
