from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tunewright.control.morphism import ACTIVATIONS, Perceptron, deepen, widen  # noqa: E402
from tunewright.errors import ConfigError  # noqa: E402


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("squash", [0.0, 2.0])
def test_growing_does_not_change_the_output(activation: str, squash: float) -> None:
    torch.manual_seed(0)
    network = Perceptron(3, (8, 6), 2, activation, squash)
    x = torch.randn(50, 3)
    before = network(x)
    for index, more in ((0, 5), (1, 16)):
        widen(network, index, more)
        assert torch.allclose(network(x), before, atol=1e-6)
    for index in (1, 0, 3):
        deepen(network, index)
        assert torch.allclose(network(x), before, atol=1e-6)
    widen(network, 2, 3)
    assert torch.allclose(network(x), before, atol=1e-6)
    assert network.sizes == (13, 13, 25, 22, 22)
    assert sum(p.numel() for p in network.parameters()) > 500


@pytest.mark.parametrize("grow", ["widen", "deepen"])
def test_what_was_added_learns(grow: str) -> None:
    torch.manual_seed(1)
    network = Perceptron(2, (4,), 1, "tanh")
    if grow == "widen":
        widen(network, 0, 3)
    else:
        deepen(network, 0)
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    x = torch.randn(64, 2)
    for _ in range(5):
        optimizer.zero_grad()
        loss: Any = (network(x)[:, 0] - torch.sin(3 * x[:, 0])).square().mean()
        loss.backward()
        optimizer.step()
    after = network.state_dict()
    if grow == "widen":
        assert (after["last.weight"][:, 4:] != 0).all()
        assert (after["hidden.0.linear.weight"][4:] != before["hidden.0.linear.weight"][4:]).any()
    else:
        assert after["hidden.1.mix"] != 0


def test_wrong_places_are_refused() -> None:
    network = Perceptron(2, (4,), 1)
    for call in (lambda: widen(network, 1, 3), lambda: widen(network, 0, 0), lambda: deepen(network, -1)):
        with pytest.raises(ConfigError, match="needs a hidden layer below 1"):
            call()
    with pytest.raises(ConfigError, match="needs a hidden layer and an activation"):
        Perceptron(2, (), 1)
    with pytest.raises(ConfigError, match="'gelu'"):
        Perceptron(2, (3,), 1, "gelu")
