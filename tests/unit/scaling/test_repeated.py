"""The worth of epochs as published, mixtures that route as they should, and repeated trainings that overfit and are tested in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tunewright.errors import ConfigError
from tunewright.scaling.repeated import (
    MoeFeedForward,
    balance_loss,
    best_dropout,
    effective_tokens,
    epochs_of,
    set_dropout_,
    train_repeated,
    worthwhile_epochs,
)


def test_worth_of_epochs_as_published() -> None:
    # arXiv:2305.16264: four epochs are almost as good as fresh data, and past about 40 repetition is worth next to nothing;
    # however often data are repeated, they never become worth more than 1 + R* times themselves.
    assert effective_tokens(1e9, 4) == pytest.approx(4e9, rel=0.1)
    assert effective_tokens(1e9, 1) == 1e9
    assert effective_tokens(1e9, 1e6) == pytest.approx(16.388e9, rel=1e-4)
    gain = effective_tokens(1.0, 61) - effective_tokens(1.0, 60)
    assert gain < 0.025
    assert worthwhile_epochs(1.0) == 1
    assert worthwhile_epochs(np.exp(-1)) == pytest.approx(16.388, rel=1e-4)


@given(st.floats(1, 1e12), st.floats(0.01, 500), st.floats(0.01, 500))
def test_more_epochs_are_worth_more_and_never_more_than_fresh_data(unique: float, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert effective_tokens(unique, low) <= effective_tokens(unique, high) * (1 + 1e-12)
    assert effective_tokens(unique, high) <= unique * high * (1 + 1e-12)


def test_mixture_is_the_chosen_expert_times_its_gate() -> None:
    torch.manual_seed(0)
    layer = MoeFeedForward(6, 8, 3)
    x = torch.randn(2, 5, 6)
    out = layer(x)
    for i in range(2):
        for t in range(5):
            gates = torch.softmax(layer.router.weight @ x[i, t], dim=0)
            best = int(gates.argmax())
            assert torch.allclose(out[i, t], gates[best] * layer.experts[best](x[i, t]), atol=1e-6)


def test_mixture_has_the_weights_of_a_dense_layer() -> None:
    layer = MoeFeedForward(16, 32, 4)
    matrices = sum(p.numel() for n, p in layer.named_parameters() if p.ndim == 2 and "router" not in n)
    assert matrices == 2 * 16 * 4 * 32


def test_balance_is_least_where_experts_get_equally_much() -> None:
    layer = MoeFeedForward(2, 4, 2)
    with torch.no_grad():
        layer.router.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    layer(torch.tensor([[3.0, 0.0], [0.0, 3.0]]))
    assert float(balance_loss(layer).detach()) == pytest.approx(1.0, abs=1e-6)
    layer(torch.tensor([[3.0, 0.0], [3.0, 0.0]]))
    assert float(balance_loss(layer).detach()) == pytest.approx(
        2 * float(torch.softmax(torch.tensor([3.0, 0.0]), 0)[0])
    )
    with pytest.raises(ConfigError, match="mixture of experts in the model"):
        balance_loss(nn.Linear(2, 2))


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 12))
def test_each_epoch_sees_rows_once(n: int, epochs: int, batch: int) -> None:
    batch = min(batch, n)
    seen: dict[int, list[int]] = {}
    for epoch, rows in epochs_of(n, batch, epochs, np.random.default_rng(0)):
        assert len(rows) == batch
        seen.setdefault(epoch, []).extend(rows.tolist())
    assert sorted(seen) == list(range(1, epochs + 1))
    for rows in seen.values():
        assert len(set(rows)) == len(rows) == n // batch * batch


def problem() -> tuple[nn.Module, tuple[Any, Any], Any]:
    """A network that can learn 24 random labels by heart, which helps nobody on the test."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 6, generator=generator), torch.randint(3, (24,), generator=generator)
    far, labels = torch.randn(200, 6, generator=generator), torch.randint(3, (200,), generator=generator)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Dropout(0.0), nn.Linear(64, 3))

    def test(m: nn.Module) -> float:
        return float(nn.functional.cross_entropy(m(far), labels))

    return model, (x, y), test


def trained(dropout: float | None, **settings: Any) -> Any:
    """A training of it."""
    model, data, test = problem()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return train_repeated(
        model, data, test, optimizer, **{"epochs": 40, "batch": 8, "dropout": dropout, **settings}
    )


def test_repetition_degrades_and_dropout_helps() -> None:
    without, late, with_ = trained(0.0), trained(0.5, dropout_from=20), trained(0.5)
    assert without.epochs == (1, 2, 4, 8, 16, 32, 40)
    assert without.train[-1] < 0.5 * without.train[0]
    assert without.degradation > 0.5
    assert with_.test[-1] < late.test[-1] < without.test[-1]


def test_late_dropout_begins_late() -> None:
    assert trained(0.5, dropout_from=17).test[:5] == trained(0.0).test[:5]
    assert trained(0.5, dropout_from=41) == trained(0.0) == trained(None)


def test_evaluation_is_without_dropout_and_the_same_for_a_seed() -> None:
    assert trained(0.3) == trained(0.3)
    assert trained(0.3) != trained(0.3, seed=1)
    modes: list[bool] = []
    model, data, _ = problem()

    def test(m: nn.Module) -> float:
        modes.append(m.training or torch.is_grad_enabled())
        return 0.0

    train_repeated(model, data, test, torch.optim.SGD(model.parameters(), lr=0.1), epochs=2, batch=8)
    assert modes == [False, False] and model.training


def test_best_dropout() -> None:
    p = np.array([0.0, 0.1, 0.2, 0.3])
    assert best_dropout(p, (p - 0.17) ** 2) == pytest.approx(0.17)
    assert best_dropout(p[::-1], ((p - 0.17) ** 2)[::-1]) == pytest.approx(0.17)
    assert best_dropout(p, p) == 0.0
    assert best_dropout(p, np.stack([p, 1 - 3 * p], axis=1)) == 0.3
    assert best_dropout(p, [3.0, 1.0, np.inf, 2.0]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: effective_tokens(0, 1), "unique tokens"),
        (lambda: effective_tokens(1, float("nan")), "epochs must be"),
        (lambda: worthwhile_epochs(1.5), r"in \(0, 1\]"),
        (lambda: MoeFeedForward(4, 4, 1), "2 experts"),
        (lambda: set_dropout_(nn.Linear(2, 2), 0.1), "nn.Dropout modules"),
        (lambda: set_dropout_(nn.Dropout(), 1.0), r"in \[0, 1\)"),
        (lambda: list(epochs_of(4, 5, 1, np.random.default_rng(0))), "1 to 4 rows"),
        (lambda: trained(0.1, epochs=0), "1 epoch or more"),
        (lambda: best_dropout([0.1, 0.2], [1, 2]), "three or more"),
        (lambda: best_dropout([0.1, 0.2, 0.3], [np.nan] * 3), "did not break down"),
    ],
)
def test_bad_input(call: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        call()
