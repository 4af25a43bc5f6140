"""Counts against modules of PyTorch and its own counter of FLOPs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tunewright.bench.micro import CharTransformer
from tunewright.errors import ConfigError
from tunewright.scaling.compound import network
from tunewright.scaling.counting import ConvShape, TransformerShape, convnet, transformer


def flops(model: nn.Module, x: Any) -> int:
    """What PyTorch counts in a forward and a backward pass."""
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("width, depth, heads", [(32, 1, 2), (48, 3, 4)])
def test_transformer_as_built(width: int, depth: int, heads: int, optimizer: str) -> None:
    shape = TransformerShape(width, depth, heads, context=20, batch=5, vocabulary=27)
    model = CharTransformer(27, width, depth, heads=heads, context=20)
    counted = transformer(shape, optimizer=optimizer, attention="explicit")
    assert counted.parameters == sum(p.numel() for p in model.parameters()) == shape.parameters
    # PyTorch's counter passes over attention on processors: two products forward, four backward.
    attention = depth * 6 * 2 * 20 * 100 * width
    assert counted.flops - attention == flops(model, torch.randint(27, (5, 20)))


@pytest.mark.parametrize(
    "shape",
    [
        ConvShape(16, (8, 16), (2, 1), channels=3, classes=10, batch=4),
        ConvShape(15, (8, 16), (1, 3), channels=1, classes=10, batch=2, group=4),
    ],
)
def test_convolutions_as_built(shape: ConvShape) -> None:
    model = network(shape)
    x = torch.randn(shape.batch, shape.channels, shape.resolution, shape.resolution, requires_grad=True)
    counted = convnet(shape)
    # PyTorch's counter takes the backward pass of grouped convolutions for one without groups; a forward pass is a third.
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    assert counted.flops == 3 * counter.get_total_flops()
    assert counted.flops == flops(model, x) or shape.group is not None
    assert counted.parameters == sum(p.numel() for p in model.parameters())
    seen: list[int] = []
    for part in model:
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.register_forward_hook(lambda module, given, out: seen.append(out.numel()))
    model(x)
    assert counted.activations == sum(seen)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 64), st.integers(1, 16))
def test_attention_written_out_costs_copies(heads: int, depth: int, context: int, batch: int) -> None:
    shape = TransformerShape(8 * heads, depth, heads, context, batch, 27)
    fused, explicit = (transformer(shape, attention=a) for a in ("fused", "explicit"))
    assert explicit.copies - fused.copies == depth * 14 * batch * heads * context**2
    assert fused.flops >= explicit.flops
    assert fused.parameters == explicit.parameters


def test_copies_of_an_optimizer() -> None:
    shape = TransformerShape(32, 2, 2, 8, 2, 27)
    found = {name: transformer(shape, optimizer=name) for name in ("sgd", "momentum", "adamw")}
    assert found["adamw"].copies - found["sgd"].copies == 4 * shape.parameters
    assert found["momentum"].copies - found["sgd"].copies == 2 * shape.parameters


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: TransformerShape(30, 2, 4, 8, 2, 27), "heads must divide"),
        (lambda: TransformerShape(0, 2, 4, 8, 2, 27), "width of a transformer"),
        (lambda: TransformerShape(32, 2.5, 4, 8, 2, 27), "depth of a transformer"),  # type: ignore[arg-type]
        (lambda: transformer(TransformerShape(32, 2, 4, 8, 2, 27), optimizer="muon"), "optimizer must be"),
        (lambda: ConvShape(16, (8,), (1, 2)), "width and a depth"),
        (lambda: ConvShape(16, (10,), (2,), group=4), "divide every width"),
        (lambda: ConvShape(16, (8, 0), (1, 1)), "width of stage 2"),
    ],
)
def test_bad_shapes(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
