"""Descriptions of the weights of PyTorch modules."""

from __future__ import annotations

from typing import Any

import pytest

from tunewright.errors import ConfigError
from tunewright.models import weights as numbers

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from tunewright.integrations.weights_torch import layers, weight_features  # noqa: E402


def network() -> Any:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, bias=False), nn.ReLU(), nn.Flatten(),
        nn.Linear(20, 7), nn.Tanh(), nn.Linear(7, 3),
    )  # fmt: skip
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(16, 1, 6, 6))
    return net.eval()


def test_channels_and_neurons_in_another_order_are_the_same_network() -> None:
    net, moved = network(), network()
    channels, others, hidden = torch.tensor([2, 0, 3, 1]), torch.tensor([4, 1, 0, 3, 2]), torch.randperm(7)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(moved[0], name).copy_(getattr(net[0], name)[channels])
            getattr(moved[1], name).copy_(getattr(net[1], name)[channels])
            getattr(moved[6], name).copy_(getattr(net[6], name)[hidden])
        moved[1].running_mean.copy_(net[1].running_mean[channels])
        moved[1].running_var.copy_(net[1].running_var[channels])
        moved[3].weight.copy_(net[3].weight[others][:, channels])
        flat = net[6].weight.reshape(7, 5, 4)[:, others].reshape(7, 20)
        moved[6].weight.copy_(flat[hidden])
        moved[8].weight.copy_(net[8].weight[:, hidden])
        x = torch.randn(8, 1, 6, 6)
        assert torch.allclose(net(x), moved(x), atol=1e-5)
    there, here = weight_features(moved), weight_features(net)
    assert list(there.values()) == pytest.approx(list(here.values()), abs=1e-6)
    assert here.keys() == {f"w/{i}" for i in range(numbers.SIZE)}


def test_a_step_of_training_is_seen() -> None:
    net = network()
    before = weight_features(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.randn(8, 1, 6, 6)).square().sum().backward()
    optimizer.step()
    assert max(abs(v - before[k]) for k, v in weight_features(net).items()) > 1e-3


def test_a_folded_batch_norm_computes_what_the_module_does() -> None:
    net = network()
    x = torch.randn(4, 1, 6, 6)
    weight, bias = layers(net)[0]
    folded = torch.nn.functional.conv2d(x, torch.tensor(weight).float(), torch.tensor(bias).float())
    assert torch.allclose(folded, net[1](net[0](x)), atol=1e-5)
    assert len(layers(net)) == 4


def test_modules_agree_with_their_matrices() -> None:
    net: Any = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    mine = [net[0].weight.detach().numpy().T, net[2].weight.detach().numpy().T]
    biases = [net[0].bias.detach().numpy(), net[2].bias.detach().numpy()]
    assert weight_features(net) == pytest.approx(numbers.weight_features(mine, biases))


def test_transposed_convolutions_have_their_outputs_first() -> None:
    net: Any = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ConvTranspose1d(3, 4, 2, bias=False))
    assert [w.shape for w, _ in layers(net)] == [(3, 2, 3), (4, 3, 2)]


def test_a_module_without_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="linear or convolutional layers; got ReLU"):
        weight_features(nn.ReLU())
