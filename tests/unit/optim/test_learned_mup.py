"""The learned optimizer under the maximal update parametrization: what it is untrained, its laws of width, refusals, its training."""

from __future__ import annotations

import io
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402
from training import learned_optimizer, learned_optimizer_mup, learned_tasks  # noqa: E402

from tunewright import scaling  # noqa: E402
from tunewright.errors import ConfigError  # noqa: E402
from tunewright.optim.learned import LearnedOptimizer  # noqa: E402
from tunewright.optim.learned import rule as rules  # noqa: E402
from tunewright.optim.learned.optimizer import shipped  # noqa: E402

Tensor = Any


def net(width: int, depth: int = 2, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    sizes = [16, *[width] * depth, 4]
    layers: list[Any] = []
    for into, out in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(into, out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def batch(step: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(step % 5)
    return torch.randn(32, 16, generator=g), torch.randint(0, 4, (32,), generator=g)


def train(model: Any, optimizer: Any, steps: range) -> list[float]:
    losses = []
    for step in steps:
        x, y = batch(step)
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x.to(next(model.parameters()).dtype)).float(), y)
        loss.backward()
        optimizer.step(loss=loss)
        losses.append(loss.item())
    return losses


def weights(model: Any) -> Tensor:
    return torch.cat([p.detach().flatten().double() for p in model.parameters()])


def silent() -> Tensor:
    flat = rules.untrained(torch.Generator().manual_seed(0))
    rules.unpacked(flat[None])["second"].zero_()
    return flat


def test_a_silent_rule_without_widths_is_adam_with_the_factors_on_its_rate() -> None:
    one, two = net(8).double(), net(8).double()
    factors = {2: 0.25}
    groups = [{"params": list(one[i].parameters()), "scale": factors.get(i, 1.0)} for i in (0, 2, 4)]
    steps = 10
    train(one, LearnedOptimizer(groups, steps, rule=silent(), widthless=True), range(steps))
    moments = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in two.parameters()}
    for step in range(steps):
        x, y = batch(step)
        two.zero_grad()
        functional.cross_entropy(two(x.double()).float(), y).backward()
        for i in (0, 2, 4):
            for p in two[i].parameters():
                m, v = moments[p]
                m.mul_(0.9).add_(p.grad, alpha=0.1)
                v.mul_(0.99).add_(p.grad**2, alpha=0.01)
                unit = (0.125 if p.dim() == 2 else 0.1) * factors.get(i, 1.0)
                direction = (m / (1 - 0.9 ** (step + 1))) / (v / (1 - 0.99 ** (step + 1)) + 1e-60).sqrt()
                p.data -= 0.06 * (1 - step / steps + 0.02) * unit * direction
    assert torch.allclose(weights(one), weights(two), rtol=1e-5, atol=1e-7)


def test_multipliers_and_folded_plans_train_alike() -> None:
    """The two forms of a plan are one training (abc-symmetry), which holds for the learned rule too."""
    ends = {}
    for form in ("multipliers", "folded"):
        model = net(128).double()
        plan = scaling.plan("mup", model, net(64), optimizer="adam", form=form)
        plan.apply_(model, seed=3)
        train(model, LearnedOptimizer(plan.param_groups(1.0), 15, rule="mup"), range(15))
        with torch.no_grad():
            ends[form] = model(batch(0)[0].double())
    assert torch.allclose(ends["multipliers"], ends["folded"], rtol=1e-4, atol=1e-5)


def moved(rule: Any, width: int) -> float:
    """How far a network's outputs move in three steps, root mean square, mean over two networks."""
    total = 0.0
    for seed in range(2):
        model = net(width, 3)
        if rule == "mup":
            plan = scaling.plan("mup", model, net(64, 3), net(128, 3), optimizer="adam")
            plan.apply_(model, seed)
            made = LearnedOptimizer(plan.param_groups(1.0), 100, rule="mup")
        else:
            model = net(width, 3, seed)
            made = LearnedOptimizer(model.parameters(), 100, rule=shipped("mup")[0][0], widthless=True)
        x = batch(0)[0]
        before = model(x).detach()
        train(model, made, range(3))
        total += float((model(x).detach() - before).square().mean().sqrt()) / 2
    return total


def test_coordinate_check() -> None:
    """Under the parametrization outputs move as far at any width; without it the same rule's moves grow with width."""
    mup = [moved("mup", w) for w in (64, 512)]
    plain = [moved("sp", w) for w in (64, 512)]
    assert 0.5 < mup[1] / mup[0] < 2.0
    assert plain[1] / plain[0] > 3.0


def test_at_the_base_both_parametrizations_are_one_training() -> None:
    for seed in range(2):
        scores = []
        for mup in (True, False):
            g = torch.Generator().manual_seed(seed)
            trainings, scales = learned_tasks.widened(g, 2, 31, mup, width=learned_tasks.BASE, depth=2)
            flat = rules.untrained(torch.Generator().manual_seed(0)).expand(4, -1)
            scores.append(learned_optimizer.played(flat, trainings, g, scales))
        assert torch.equal(*scores)


def test_trainings_follow_the_plan_of_the_package() -> None:
    """Factors and the multiplier of the tasks it was trained on, against ``scaling.plan`` at twice the base width."""
    width = 2 * learned_tasks.BASE
    _, scales = learned_tasks.widened(torch.Generator().manual_seed(0), 2, 40, True, width=width, depth=2)
    plan = scaling.plan("mup", net(width), net(learned_tasks.BASE), optimizer="adam")
    order = [plan.entries[n].lr for n in ("0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias")]
    assert scales == order
    assert [m.factor for m in plan.multipliers] == [0.5]


def test_a_resumed_run_is_the_uninterrupted_one() -> None:
    def made(seed: int, steps: int) -> tuple[Any, Any]:
        model = net(128, seed=seed)
        plan = scaling.plan("mup", model, net(64), optimizer="adam")
        plan.apply_(model, seed)
        return model, LearnedOptimizer(plan.param_groups(1.0), steps, rule="mup")

    whole, optimizer = made(0, 16)
    losses = train(whole, optimizer, range(6))
    stored = io.BytesIO()
    torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, stored)
    losses += train(whole, optimizer, range(6, 16))
    stored.seek(0)
    state = torch.load(stored, weights_only=True)
    resumed, again = made(5, 1)
    resumed.load_state_dict(state["model"])
    again.load_state_dict(state["optimizer"])
    assert train(resumed, again, range(6, 16)) == losses[6:]
    assert torch.equal(weights(whole), weights(resumed))


def test_a_rate_is_a_factor_where_there_is_no_scale() -> None:
    one, two = net(8), net(8)
    by_rate = LearnedOptimizer([{"params": one.parameters(), "lr": 0.5}], 6, rule="mup")
    by_scale = LearnedOptimizer([{"params": two.parameters(), "scale": 0.5, "lr": 7.0}], 6, rule="mup")
    train(one, by_rate, range(6))
    train(two, by_scale, range(6))
    assert torch.equal(weights(one), weights(two))


def test_refusals() -> None:
    def tensors() -> list[Tensor]:
        return [torch.nn.Parameter(torch.ones(2, 2))]

    with pytest.raises(ConfigError, match="no weight decay"):
        LearnedOptimizer([{"params": tensors(), "weight_decay": 0.1}], 5, rule="mup")
    for factor in (0.0, -1.0, math.nan):
        with pytest.raises(ConfigError, match="above 0"):
            LearnedOptimizer([{"params": tensors(), "scale": factor}], 5, rule="mup")
    with pytest.raises(ConfigError, match="takes no factors"):
        LearnedOptimizer([{"params": tensors(), "scale": 0.5}], 5)
    with pytest.raises(ConfigError, match="'standard', 'mup'"):
        LearnedOptimizer(tensors(), 5, rule="ntk")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="widthless"):
        LearnedOptimizer(tensors(), 5, rule="mup", widthless=True)


def test_the_shipped_rule_knows_where_it_comes_from() -> None:
    flat, facts = shipped("mup")
    told = json.loads(facts)
    assert flat.shape == (1, rules.SIZE)
    assert (told["parametrization"], told["base"]) == ("mup", learned_tasks.BASE)
    assert told["held_out"] < 0.0
    assert not torch.equal(flat, shipped()[0])


def test_training_it_starts_from_a_stored_rule_and_writes_a_new_one(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(learned_optimizer_mup, "checked", lambda center, *, mup: [float(mup)])
    words = ["--steps", "1", "--pairs", "2", "--longest", "31", "--out"]
    before, after = tmp_path / "a.npz", tmp_path / "b.npz"
    threads = torch.get_num_threads()
    try:
        learned_optimizer_mup.main([*words, str(before)])
        learned_optimizer_mup.main(
            [*words, str(after), "--start", str(before), "--parametrization", "sp", "--seed", "1"]
        )
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
    one, two = (json.loads(str(np.load(p, allow_pickle=False)["facts"])) for p in (before, after))
    assert (one["parametrization"], one["held_out"], one["steps"]) == ("mup", 1.0, 1)
    assert (two["parametrization"], two["held_out"], two["before"]["seed"]) == ("sp", 0.0, 0)
