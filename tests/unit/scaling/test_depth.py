"""Depth-muP against the exponents of its paper, and against what they are for: changes that do not depend on depth or width."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tunewright import scaling
from tunewright.bench.micro import CharTransformer, Mlp, Residual, ResidualMlp
from tunewright.errors import ConfigError

NAMES = ["depth-mup", "depthwise"]


def family(**fixed: object) -> scaling.Family:
    return scaling.Family(ResidualMlp, base={"width": 16, "depth": 4}, fixed=fixed)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "lion", "sgd"])
def test_exponents_of_table_1(name: str, optimizer: str) -> None:
    plan = family().plan(name, width=16, depth=64, optimizer=optimizer)
    factors = {m.module: m.factor for m in plan.multipliers}
    assert factors == {f"blocks.{i}.branch": 0.25 for i in range(64)}
    inside = 1.0 if optimizer == "sgd" else 0.25
    for entry in plan.entries.values():
        branch = entry.name.startswith("blocks")
        assert entry.lr == pytest.approx(inside if branch else 1.0)
        # A branch's gradient has its factor: Adam's eps falls with it, and so does what plain Adam adds to it as decay.
        assert entry.eps == (0.25 if branch and optimizer in ("adam", "adamw") else 1.0)
        assert entry.lr * entry.wd == pytest.approx(0.25 if branch and optimizer == "adam" else 1.0)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_width_and_depth_multiply(optimizer: str) -> None:
    both = family().plan("depth-mup", width=64, depth=16, optimizer=optimizer).entries
    wide = family().plan("mup", width=64, depth=4, optimizer=optimizer).entries
    for name, entry in both.items():
        shallow = wide[name if not name.startswith("blocks") else "blocks.0." + name.split(".", 2)[2]]
        depth = 0.5 if name.startswith("blocks") and optimizer == "adamw" else 1.0
        assert entry.lr == pytest.approx(shallow.lr * depth)
        assert entry.std == pytest.approx(shallow.std)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_changes_at_the_base(name: str) -> None:
    plan = family().plan(name, width=16, depth=4)
    assert plan.multipliers == ()
    assert all(e.lr == e.wd == 1.0 for e in plan.entries.values())


def test_blocks_of_a_transformer_have_two_branches() -> None:
    made = scaling.Family(CharTransformer, base={"width": 16, "depth": 2})
    plan = made.plan("depth-mup", width=16, depth=8)
    assert sum(m.factor == 0.5 for m in plan.multipliers) == 16
    assert plan.entries["letters.weight"].lr == plan.entries["norm.weight"].lr == 1.0
    assert plan.entries["blocks.3.1.branch.1.bias"].lr == 0.5


def test_tuned_factor_of_branches_is_kept() -> None:
    plan = family().plan("depth-mup", width=16, depth=16, tuned=scaling.Tuned(residual=3.0))
    assert {m.factor for m in plan.multipliers} == {1.5}


def test_depth_without_branches_is_refused() -> None:
    with pytest.raises(ConfigError, match="residual branches"):
        scaling.Family(Mlp, base={"width": 16, "depth": 2}).plan("depth-mup", width=16, depth=8)


class Stream(nn.Module):
    """Blocks whose branches end in a linear layer, so that what they add has no mean: the case of both papers."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.inlet = nn.Linear(64, width)
        self.blocks = nn.ModuleList(
            Residual(nn.Sequential(nn.ReLU(), nn.Linear(width, width))) for _ in range(depth)
        )
        self.outlet = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.inlet(x)
        for block in self.blocks:
            h = block(h)
        out: torch.Tensor = self.outlet(h)
        return out


def _changes(name: str, optimizer: str, depth: int, lr: float) -> tuple[float, float]:
    """RMS of what enters the readout before, and of its change by four steps."""
    made = scaling.Family(Stream, base={"width": 32, "depth": 4})
    model, plan = made.build(name, seed=1, width=64, depth=depth, optimizer=optimizer)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, 64, generator=generator), torch.randint(10, (32,), generator=generator)
    seen: list[torch.Tensor] = []
    model.get_submodule("outlet").register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    groups = plan.param_groups(lr)
    steps: torch.optim.Optimizer = torch.optim.SGD(groups) if optimizer == "sgd" else torch.optim.Adam(groups)
    for _ in range(4):
        steps.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        steps.step()
    model(x)
    return float(seen[0].square().mean().sqrt()), float((seen[-1] - seen[0]).square().mean().sqrt())


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 0.003), ("sgd", 0.1)])
def test_stream_and_its_change_keep_their_size_with_depth(optimizer: str, lr: float) -> None:
    shallow, deep = (_changes("depth-mup", optimizer, depth, lr) for depth in (4, 64))
    assert all(abs(math.log2(b / a)) < 1 for a, b in zip(shallow, deep, strict=True))
    # The same training under muP moves several times as far: the law above would not hold by itself.
    assert not _changes("mup", optimizer, 64, lr)[1] <= 3 * deep[1]  # also where it is no number
