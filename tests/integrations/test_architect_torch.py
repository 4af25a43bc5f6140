"""Architectures as PyTorch networks: shapes, sums, merges, gradients, and what does not fit."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tunewright import architect as a  # noqa: E402
from tunewright.core.domains import Choice, Float, Int, Order  # noqa: E402
from tunewright.errors import ConfigError, MissingExtra, SpaceError  # noqa: E402
from tunewright.integrations.architect_torch import Branches, Residue, build, layers  # noqa: E402

ACT = a.Or("relu", "tanh", "gelu", "silu", "sigmoid", "identity")
CONV = a.Module("conv", filters=Order([4, 8]), size=Choice([1, 3, 5]))
NET = a.Sequence(
    a.Repeat([CONV, a.AnyOrder(ACT, "batchnorm"), a.Optional(a.Module("dropout", rate=Float(0.1, 0.5)))], [1, 2]),
    a.Residual(a.Parallel(CONV, [a.Module("conv", filters=4, size=1), "relu"])),
    a.Or("maxpool", "avgpool"),
    a.Residual([a.Module("dense", units=Int(4, 16)), "layernorm"]),
    a.Module("dense", units=10),
)  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9)])
def test_any_architecture_of_a_search_can_be_trained(shape):
    space = a.space(NET)
    rng = np.random.default_rng(0)
    for _ in range(12):
        model = build(a.graph(NET, space.draw(rng)), shape)
        out = model(torch.randn(5, *shape))
        assert out.shape == (5, 10)
        out.square().mean().backward()
        assert all(p.grad is not None for p in model.parameters())
        assert model.training


def test_a_residual_connection_adds_its_input():
    model = build(a.Residual(a.Module("dense", units=3)), (3,))
    x = torch.randn(4, 3)
    assert isinstance(model, Residue)
    assert torch.equal(model(x), model.body(x) + x)
    wider = build(a.Residual(a.Module("dense", units=5)), (3,))
    assert torch.equal(wider(x), wider.body(x) + wider.shortcut(x))


def test_parallel_parts_are_put_together_or_added():
    x = torch.randn(4, 3)
    pair = (a.Module("dense", units=2), a.Module("dense", units=2))
    both = build(a.Parallel(*pair), (3,))
    assert isinstance(both, Branches)
    assert torch.equal(both(x), torch.cat([body(x) for body in both.bodies], dim=1))
    added = build(a.Parallel(*pair, merge="add"), (3,))
    assert torch.equal(added(x), added.bodies[0](x) + added.bodies[1](x))


def test_counts_of_parameters_by_hand():
    def size(part, shape):
        return sum(p.numel() for p in build(part, shape).parameters())

    assert size(a.Module("conv", filters=8, size=3), (3, 10, 10)) == 8 * 3 * 9 + 8
    assert (
        size([a.Module("conv", filters=2, size=3, stride=2), a.Module("dense", units=4)], (1, 8, 8))
        == 20 + 132
    )
    assert size(["globalpool", a.Module("dense", units=4, bias=False)], (6, 5)) == 24
    assert size("batchnorm", (7,)) == 14
    # Copies that share their choices still learn weights of their own.
    assert size(a.graph(a.Repeat(a.Module("dense", units=3), 4, tied=True), {}), (3,)) == 48


def test_building_leaves_running_statistics_and_random_numbers_alone():
    torch.manual_seed(1)
    model = build(["batchnorm", a.Module("dropout", rate=0.3)], (4,))
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))
    assert int(model[0].num_batches_tracked) == 0


def test_networks_can_be_copied_to_other_processes():
    model = build(a.Residual(a.Parallel("relu", "tanh", merge="add")), (3,))
    x = torch.randn(2, 3)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))


def test_a_table_of_ones_own():
    table = {**layers(), "scale": lambda shape, by: torch.nn.Threshold(by, 0.0)}
    assert build(a.Module("scale", by=0.5), (2,), table)(torch.tensor([[0.4, 0.6]])).tolist() == [
        [0.0, pytest.approx(0.6)]
    ]


@pytest.mark.parametrize(
    ("part", "shape", "error", "says"),
    [
        (CONV, (1, 8, 8), SpaceError, "must be specified"),
        ("nothing", (3,), ConfigError, "entry in the table"),
        (a.Module("dense", widht=3), (3,), ConfigError, "Rename them"),
        (a.Module("conv", filters=3), (3,), ConfigError, "needs an input of channels"),
        (a.Residual("maxpool"), (2, 8, 8), ConfigError, "as large as its input"),
        (a.Parallel("maxpool", "relu"), (2, 8, 8), ConfigError, "Shapes must fit"),
        (["maxpool"] * 4, (2, 8, 8), ConfigError, "Shapes must fit"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(part, shape, error, says):
    with pytest.raises(error, match=says):
        build(part, shape)


def test_without_pytorch_the_import_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "tunewright.integrations.architect_torch")
    with pytest.raises(MissingExtra, match=r"tunewright\[torch\]"):
        __import__("tunewright.integrations.architect_torch")
