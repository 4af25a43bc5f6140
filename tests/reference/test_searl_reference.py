"""Targets of the two learners against their equations, by hand.

TD3: Fujimoto, van Hoof and Meger 2018 (arXiv:1802.09477), Algorithm 1: ``y = r + g min(Q1', Q2')``. Double DQN: van Hasselt, Guez and
Silver 2016 (arXiv:1509.06461), eq. 4: ``y = r + g Q'(s', argmax_a Q(s', a))``. Soft targets: Lillicrap et al. 2016
(arXiv:1509.02971), Algorithm 1: ``t <- tau w + (1 - tau) t``.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tunewright.control import dqn, td3  # noqa: E402
from tunewright.control.genes import Genes  # noqa: E402
from tunewright.control.worlds import Pendulum, Transitions  # noqa: E402


def test_td3_takes_the_lower_of_two_values_and_nothing_after_an_end() -> None:
    y = td3.targets(
        torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 1.0]), torch.tensor([10.0, 3.0, 8.0]),
        torch.tensor([4.0, 5.0, 9.0]),
    )  # fmt: skip
    assert y.tolist() == pytest.approx([1 + 0.99 * 4, 1 + 0.99 * 3, 1.0])


def test_double_dqn_chooses_with_one_network_and_values_with_the_other() -> None:
    y = dqn.targets(
        torch.tensor([0.0, 2.0]), torch.tensor([0.0, 1.0]), torch.tensor([[1.0, 5.0], [1.0, 5.0]]),
        torch.tensor([[7.0, 3.0], [7.0, 3.0]]), 0.5,
    )  # fmt: skip
    assert y.tolist() == pytest.approx([1.5, 2.0])


def test_targets_follow_slowly() -> None:
    a, b = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    torch.nn.init.constant_(a.weight, 1.0)
    torch.nn.init.constant_(b.weight, 3.0)
    td3.follow(a, b, 0.25)
    assert a.weight.tolist() == [[1.5, 1.5]]
    assert b.weight.tolist() == [[3.0, 3.0]]


def test_the_actor_moves_every_second_update_only() -> None:
    torch.manual_seed(0)
    agent = td3.Td3(Pendulum(), Genes((8,)))
    rng = np.random.default_rng(0)
    batch = Transitions(
        rng.normal(size=(16, 3)).astype(np.float32), rng.normal(size=(16, 1)).astype(np.float32),
        rng.normal(size=16).astype(np.float32), rng.normal(size=(16, 3)).astype(np.float32), np.zeros(16, np.float32),
    )  # fmt: skip
    before = agent.actor.last.weight.clone()
    critic = agent.networks[1].last.weight.clone()
    agent.learn(batch, rng)
    assert torch.equal(agent.actor.last.weight, before)
    assert not torch.equal(agent.networks[1].last.weight, critic)
    agent.learn(batch, rng)
    assert not torch.equal(agent.actor.last.weight, before)
