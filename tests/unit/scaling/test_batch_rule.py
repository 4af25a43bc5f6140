"""The square-root batch rule: the paper's numbers, when it is exact, carrying on in the middle, and refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.errors import ConfigError
from tunewright.scaling import batch_rule


def test_the_papers_rule() -> None:
    """Grendel's program at batch size 16: rate times 4, eps a quarter, averages to the power of 16."""
    found = batch_rule.scaled(1, 16, lr=1.6e-4, betas=(0.9, 0.999), eps=1e-15)
    assert found.lr == pytest.approx(6.4e-4)
    assert found.betas == pytest.approx((0.1853020188851841, 0.9841195600349544))
    assert found.eps == pytest.approx(2.5e-16)


@given(
    st.integers(1, 4096),
    st.integers(1, 4096),
    st.integers(1, 4096),
    st.sampled_from(["sqrt", "linear", "constant"]),
)
def test_two_changes_are_one(a: int, b: int, c: int, rule: Any) -> None:
    half = batch_rule.scaled(a, b, 0.01, (0.9, 0.99), 1e-6, rule=rule)
    both = batch_rule.scaled(b, c, half.lr, half.betas, half.eps, rule=rule)
    once = batch_rule.scaled(a, c, 0.01, (0.9, 0.99), 1e-6, rule=rule)
    assert both.lr == pytest.approx(once.lr)
    assert both.eps == pytest.approx(once.eps)
    assert both.betas == pytest.approx(once.betas, abs=1e-12)


def test_comparisons_and_the_share_of_noise() -> None:
    assert batch_rule.rate_factor(16, rule="linear") == 16
    assert batch_rule.rate_factor(16, rule="constant") == 1
    assert batch_rule.rate_factor(16, noise=0.0) == 16
    assert batch_rule.rate_factor(16, noise=0.5) == pytest.approx(16 * math.sqrt(0.5 + 0.5 / 16))
    assert batch_rule.scaled(1, 8, 0.1, momentum=False).betas == (0.9, 0.999)


def test_moments_of_independent_gradients_make_the_rule_exact() -> None:
    """Over disjoint weights a batch's move is the sum of its examples' moves: no noise model is needed there.

    Example i has a gradient on weight i only. Averages of zero memory make Adam's step sign-like; a batch of four gives each weight a
    quarter of its gradient, a sixteenth of the square, and must move each by as much as its example alone did.
    """
    torch = pytest.importorskip("torch")
    gradient = torch.tensor([0.3, -2.0, 5.0, 0.01], dtype=torch.float64)

    def moved(batch: int, setting: batch_rule.AdamSetting, rounds: int) -> Any:
        weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        made = torch.optim.Adam([weights], lr=setting.lr, betas=setting.betas, eps=setting.eps)
        for _ in range(rounds):
            for at in range(0, 4, batch):
                weights.grad = torch.zeros_like(gradient)
                weights.grad[at : at + batch] = gradient[at : at + batch] / batch
                made.step()
        return weights.detach()

    base = batch_rule.AdamSetting(0.01, (0.0, 0.999), 1e-12)
    scaled = batch_rule.scaled(1, 4, base.lr, base.betas, base.eps)
    one, four = moved(1, base, 100), moved(4, scaled, 100)
    assert torch.allclose(four, one, rtol=0.03)
    for rule, factor in (("linear", 2.0), ("constant", 0.5)):
        other = moved(4, batch_rule.scaled(1, 4, base.lr, base.betas, base.eps, rule=rule), 100)
        assert torch.allclose(other / one, torch.full_like(one, factor), rtol=0.03)


def test_rescaling_an_optimizer_in_the_middle() -> None:
    torch = pytest.importorskip("torch")
    weights = torch.ones(3, requires_grad=True)
    made = torch.optim.AdamW([weights], lr=0.01, weight_decay=0.1, amsgrad=True)
    for _ in range(8):
        weights.grad = torch.tensor([1.0, -2.0, 0.5])
        made.step()
    state = made.state[weights]
    average, squares = state["exp_avg"].clone(), state["exp_avg_sq"].clone()
    first = 1 - 0.9 ** state["step"].item()
    batch_rule.rescale_(made, 2, 8)
    group = made.param_groups[0]
    assert group["lr"] == pytest.approx(0.02)
    assert group["weight_decay"] == pytest.approx(0.2)
    assert group["betas"] == pytest.approx((0.9**4, 0.999**4))
    assert torch.equal(state["exp_avg"], average)
    assert torch.allclose(state["exp_avg_sq"], squares / 4)
    assert torch.allclose(state["max_exp_avg_sq"], squares / 4)
    assert 1 - group["betas"][0] ** state["step"].item() == pytest.approx(first)
    batch_rule.rescale_(made, 8, 2)
    assert (group["lr"], group["weight_decay"], group["eps"]) == pytest.approx((0.01, 0.1, 1e-8))
    assert torch.allclose(state["exp_avg_sq"], squares)
    weights.grad = torch.ones(3)
    made.step()
    assert torch.isfinite(weights).all()


def test_plain_adam_keeps_its_decay_and_a_tensor_rate_stays_one() -> None:
    torch = pytest.importorskip("torch")
    rate = torch.tensor(0.01)
    made = torch.optim.Adam([torch.ones(2, requires_grad=True)], lr=rate, weight_decay=0.1)
    batch_rule.rescale_(made, 1, 4)
    assert made.param_groups[0]["weight_decay"] == 0.1
    assert made.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(0.02)


def test_noise_share_of_known_gradients() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((4000, 3))
    assert batch_rule.noise_share(noise) == pytest.approx(1.0, abs=0.01)
    assert batch_rule.noise_share(noise + 1.0) == pytest.approx(0.5, abs=0.03)
    assert batch_rule.noise_share(np.ones((5, 2))) == 0.0


def test_similarity_of_known_paths() -> None:
    a = np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
    b = np.array([[1.0, 1.0], [1.0, 3.0], [4.0, 1.0]])
    found = batch_rule.similarity(a, b)
    assert found.cosine == pytest.approx([0.0, 1.0])
    assert found.length == pytest.approx([2.0, 1.5])
    assert np.isnan(batch_rule.similarity(a, np.ones((3, 2))).cosine).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: batch_rule.scaled(0, 4, 0.1), "batch size"),
        (lambda: batch_rule.scaled(1, 2.5, 0.1), "batch size"),  # type: ignore[arg-type]
        (lambda: batch_rule.scaled(True, 2, 0.1), "batch size"),
        (lambda: batch_rule.scaled(1, 2, -0.1), "lr must"),
        (lambda: batch_rule.scaled(1, 2, math.nan), "lr must"),
        (lambda: batch_rule.scaled(1, 2, 0.1, (0.9, 1.0)), "betas"),
        (lambda: batch_rule.scaled(1, 2, 0.1, (0.9,)), "betas"),  # type: ignore[arg-type]
        (lambda: batch_rule.scaled(1, 2, 0.1, eps=-1.0), "eps"),
        (lambda: batch_rule.scaled(1, 2, 0.1, rule="cube"), "rule must"),  # type: ignore[arg-type]
        (lambda: batch_rule.scaled(1, 2, 0.1, noise=1.5), "share"),
        (lambda: batch_rule.scaled(1, 2, 0.1, rule="linear", noise=0.5), "goes with"),
        (lambda: batch_rule.rate_factor(0.0), "ratio"),
        (lambda: batch_rule.noise_share(np.ones(3)), "shape"),
        (lambda: batch_rule.noise_share(np.zeros((2, 3))), "zero"),
        (lambda: batch_rule.noise_share([[1.0], [math.nan]]), "finite"),
        (lambda: batch_rule.similarity(np.ones((2, 3)), np.ones((2, 2))), "one shape"),
        (lambda: batch_rule.similarity(np.ones((2, 3)), np.zeros((2, 3))), "start at the same"),
    ],
)
def test_refusals(call: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        call()


def test_other_optimizers_are_refused_and_left_alone() -> None:
    torch = pytest.importorskip("torch")
    made = torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1)
    with pytest.raises(ConfigError, match="AdamW; got SGD"):
        batch_rule.rescale_(made, 1, 4)  # type: ignore[arg-type]
    adam = torch.optim.Adam([torch.ones(2, requires_grad=True)], lr=0.1)
    with pytest.raises(ConfigError, match="batch size"):
        batch_rule.rescale_(adam, 1, 0)
    assert made.param_groups[0]["lr"] == adam.param_groups[0]["lr"] == 0.1


def test_eps_shrinks_with_the_root_of_the_squares_for_any_share_of_noise() -> None:
    for noise in (0.0, 0.3, 1.0):
        found = batch_rule.scaled(4, 64, 1e-3, eps=1e-6, noise=noise)
        assert found.eps == pytest.approx(1e-6 * (1 - noise + noise / 16) ** 0.5)
        # The rate grows by the ratio times that same root: the path of an example stays, with eps or without.
        assert found.eps / 1e-6 == pytest.approx(found.lr / 1e-3 / 16)
