"""K-FAC against dense solves with Kronecker products, its invariance, and the laws of an optimizer."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tunewright.errors import ConfigError, Diverged
from tunewright.optim import Kfac, OptimWarning

F64 = torch.float64


def data(n: int = 32, inputs: int = 5, classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, inputs, generator=generator, dtype=F64)
    return x, torch.randint(classes, (n,), generator=generator)


def net(seed: int = 0, inputs: int = 5) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def backward(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss: torch.Tensor = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return loss.detach()


def factors(
    model: nn.Sequential, x: torch.Tensor, y: torch.Tensor, layer: int
) -> tuple[np.ndarray, np.ndarray]:
    """Means over examples of outer products, from a loss for each example alone."""
    inputs, flows = [], []
    for i in range(len(x)):
        h = x[i : i + 1]
        for j, module in enumerate(model):
            if j == layer:
                inputs.append(h.detach().numpy()[0])
                kept = module(h)
                kept.retain_grad()
                h = kept
            else:
                h = module(h)
        nn.functional.cross_entropy(h, y[i : i + 1]).backward()
        flows.append(kept.grad.numpy()[0])
    a, b = np.array(inputs), np.array(flows)
    return a.T @ a / len(x), b.T @ b / len(x)


@pytest.mark.parametrize("damping", ["trace", "martens", "relative"])
def test_first_step_against_a_dense_solve(damping: Any) -> None:
    model, (x, y) = net(), data()
    expected: list[np.ndarray] = []
    backward(model, x, y)
    gradients = {i: (model[i].weight.grad.numpy().copy(), model[i].bias.grad.numpy().copy()) for i in (0, 2)}
    root = 0.2
    for i in (0, 2):
        a, b = factors(model, x, y, i)
        for factor_a, g in zip((a, np.ones((1, 1))), gradients[i], strict=True):
            ta, tb = np.trace(factor_a), np.trace(b)
            pi = {"trace": ta / tb, "martens": (ta / len(factor_a)) / (tb / len(b)), "relative": 1.0}[
                damping
            ] ** 0.5
            to_a, to_b = (root * ta, root * tb) if damping == "relative" else (root * pi, root / pi)
            dense = np.kron(b + to_b * np.eye(len(b)), factor_a + to_a * np.eye(len(factor_a)))
            expected.append(np.linalg.solve(dense, g.reshape(-1)).reshape(g.shape))
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = Kfac(model.parameters(), model, lr=0.5, momentum=0.0, eps=root**2, damping=damping)
    backward(model, x, y)
    optimizer.step()
    for p, old, move in zip(model.parameters(), before, expected, strict=True):
        np.testing.assert_allclose((p.detach() - old).numpy(), -0.5 * move, rtol=1e-7, atol=1e-10)


def test_steps_do_not_depend_on_the_coordinates_of_the_inputs() -> None:
    """Martens and Grosse 2015, theorem 1, without damping; gradient descent has no such law."""
    x, y = data(200)
    mixing = torch.tensor(np.random.default_rng(1).standard_normal((5, 5))) + 2 * torch.eye(5, dtype=F64)

    def trained(turned: bool, kind: type[torch.optim.Optimizer]) -> torch.Tensor:
        model = net()
        seen = x @ mixing if turned else x
        if turned:
            with torch.no_grad():
                model[0].weight.copy_(model[0].weight @ torch.linalg.inv(mixing).T)
        more: dict[str, Any] = {"model": model, "eps": 1e-20, "damping": "relative"} if kind is Kfac else {}
        optimizer = kind(model.parameters(), lr=0.05, momentum=0.9, **more)  # type: ignore[call-arg]
        for _ in range(5):
            backward(model, seen, y)
            optimizer.step()
        return model(seen).detach()

    torch.testing.assert_close(trained(True, Kfac), trained(False, Kfac), rtol=0, atol=1e-4)
    descent = trained(True, torch.optim.SGD) - trained(False, torch.optim.SGD)
    assert descent.abs().max() > 0.1


def test_natural_gradient_finds_a_linear_model_in_one_step() -> None:
    x, _ = data(50)
    target = x @ torch.arange(1.0, 6.0, dtype=F64)[:, None]
    model = nn.Linear(5, 1, bias=False).double()
    optimizer = Kfac(
        model.parameters(), model, lr=1.0, momentum=0.0, eps=1e-16, damping="relative", fisher="sampled"
    )
    out = model(x)
    with optimizer.curvature():
        # Gaussian targets of variance 1 around the model have residuals of variance 1: here exactly so.
        noise = torch.where(torch.arange(50) % 2 == 0, 1.0, -1.0).double()[:, None]
        (0.5 * (out - (out.detach() + noise)).square()).mean().backward(retain_graph=True)
    optimizer.zero_grad()
    (0.5 * (out - target).square()).mean().backward()
    optimizer.step()
    np.testing.assert_allclose(model.weight.detach().numpy()[0], np.arange(1.0, 6.0), rtol=1e-6)


def test_a_convolution_over_the_whole_image_is_a_linear_layer() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(16, 2, 3, 3, generator=generator, dtype=F64)
    y = torch.randint(4, (16,), generator=generator)
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten()).double()
    line = nn.Sequential(nn.Flatten(), nn.Linear(18, 4)).double()
    with torch.no_grad():
        line[1].weight.copy_(conv[0].weight.reshape(4, 18))
        line[1].bias.copy_(conv[0].bias)
    for model in (conv, line):
        optimizer = Kfac(model.parameters(), model, lr=0.1)
        for _ in range(3):
            backward(model, x, y)
            optimizer.step()
    torch.testing.assert_close(conv[0].weight.reshape(4, 18), line[1].weight)
    torch.testing.assert_close(conv[0].bias, line[1].bias)


def test_a_convolution_of_one_pixel_is_a_linear_layer_at_every_place() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(8, 2, 3, 3, generator=generator, dtype=F64)
    torch.manual_seed(0)
    conv, line = nn.Conv2d(2, 4, 1).double(), nn.Linear(2, 4).double()
    with torch.no_grad():
        line.weight.copy_(conv.weight.reshape(4, 2))
        line.bias.copy_(conv.bias)
    places = x.flatten(2).transpose(1, 2)
    for model, seen, axes in ((conv, x, (1,)), (line, places, (2,))):
        optimizer = Kfac(model.parameters(), model, lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (model(seen).logsumexp(axes).sum() / 8).backward()
            optimizer.step()
    torch.testing.assert_close(conv.weight.reshape(4, 2), line.weight)


@pytest.mark.parametrize("damping", ["trace", "martens", "relative"])
def test_a_bias_is_the_weight_of_an_input_that_is_one(damping: Any) -> None:
    """At every place of an image: its factor of inputs is then the number of places, as in Grosse and Martens' theorem 1."""
    ones = torch.ones(8, 1, 3, 3, dtype=F64)
    marks = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(3), dtype=F64)
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 4, 1).double()
    weight, bias = conv.weight.detach().clone().flatten(), conv.bias.detach().clone()  # type: ignore[union-attr]
    optimizer = Kfac(conv.parameters(), conv, lr=0.1, damping=damping)
    for _ in range(3):
        optimizer.zero_grad()
        ((conv(ones) * marks).logsumexp(1).sum() / 8).backward()
        optimizer.step()
    torch.testing.assert_close(conv.weight.detach().flatten() - weight, conv.bias.detach() - bias)  # type: ignore[union-attr]


def test_pieces_of_a_batch_are_a_batch() -> None:
    x, y = data()
    whole, pieces = net(), net()
    for model, size in ((whole, 32), (pieces, 8)):
        optimizer = Kfac(model.parameters(), model)
        for _ in range(2):
            optimizer.zero_grad()
            for i in range(0, 32, size):
                (nn.functional.cross_entropy(model(x[i : i + size]), y[i : i + size]) * size / 32).backward()
            optimizer.step()
    torch.testing.assert_close(whole[0].weight, pieces[0].weight)


def test_it_trains_faster_than_gradient_descent_at_any_rate() -> None:
    x, y = data(128)
    y = (x @ torch.randn(5, 3, generator=torch.Generator().manual_seed(9), dtype=F64)).argmax(1)
    x = x * torch.tensor([10.0, 3.0, 1.0, 0.3, 0.1], dtype=F64)

    def end(make: Any) -> float:
        model = net()
        optimizer = make(model)
        for _ in range(60):
            last = backward(model, x, y)
            optimizer.step()
        return float(last)

    ours = end(lambda m: Kfac(m.parameters(), m))
    rates = [0.01, 0.03, 0.1, 0.3, 1.0]
    others = [end(lambda m, r=r: torch.optim.SGD(m.parameters(), lr=r, momentum=0.9)) for r in rates]
    assert ours < min(others)


def test_a_resumed_run_is_the_same_bit_for_bit() -> None:
    x, y = data()
    model = net()
    optimizer = Kfac(model.parameters(), model, every=2)
    for _ in range(3):
        backward(model, x, y)
        optimizer.step()
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    other = net(7)
    again = Kfac(other.parameters(), other, every=2)
    other.load_state_dict(weights)
    again.load_state_dict(state)
    for m, o in ((model, optimizer), (other, again)):
        for _ in range(4):
            backward(m, x, y)
            o.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_only_training_counts_and_only_the_model_itself() -> None:
    x, y = data()
    model = net()
    optimizer = Kfac(model.parameters(), model)
    twin = copy.deepcopy(model)
    backward(twin, 100 * x, y)
    model.eval()
    backward(model, 100 * x, y)
    with pytest.raises(ConfigError, match="training mode"):
        optimizer.step()
    optimizer.close()
    model.train()
    backward(model, x, y)
    with pytest.raises(ConfigError, match="backward pass"):
        optimizer.step()


def test_layers_without_gradients_are_left_alone() -> None:
    x, y = data()
    model = net()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    optimizer = Kfac(model.parameters(), model)
    for _ in range(2):
        backward(model, x, y)
        optimizer.step()
    assert torch.equal(model[0].weight, before)
    assert torch.isfinite(model[2].weight).all()


def test_gradients_of_zero_and_no_numbers() -> None:
    x, _ = data()
    model = net()
    optimizer = Kfac(model.parameters(), model)
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(3):
        optimizer.zero_grad()
        (model(x).sum() * 0).backward()
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    model[0].weight.grad = torch.full_like(model[0].weight, float("inf"))
    with pytest.warns(OptimWarning, match="not finite"):
        optimizer.step()
    assert optimizer.skipped == 1
    with pytest.raises(Diverged):
        strict = Kfac(model.parameters(), model, nonfinite="raise")
        strict.step()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "of a torch.nn.Linear"),
        (Tied(), "of its own"),
        (nn.Conv2d(4, 4, 3, groups=2), "groups=2"),
        (nn.Conv2d(4, 4, 3, padding="same"), "same"),
    ],
)
def test_models_that_it_is_not_made_for(model: nn.Module, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Kfac(model.parameters(), model)


def test_other_parameters_can_have_another_optimizer() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 3)).double()
    x, y = data()
    ours = Kfac([*model[0].parameters(), *model[2].parameters()], model)
    start = float(backward(model, x, y))
    for _ in range(20):
        backward(model, x, y)
        ours.step()
    assert float(backward(model, x, y)) < 0.8 * start


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -1),
        ("momentum", 1),
        ("eps", 0),
        ("weight_decay", -1),
        ("beta", 1),
        ("every", 0),
        ("damping", "x"),
        ("fisher", "x"),
        ("nonfinite", "x"),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: object) -> None:
    model = net()
    with pytest.raises(ConfigError, match=name):
        Kfac(model.parameters(), model, **{name: value})  # type: ignore[arg-type]
