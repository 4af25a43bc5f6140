from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tunewright.control.buffer import Replay  # noqa: E402
from tunewright.control.dqn import Dqn  # noqa: E402
from tunewright.control.genes import Genes  # noqa: E402
from tunewright.control.searl import (  # noqa: E402
    MUTATIONS,
    Agent,
    Generation,
    Member,
    Searl,
    mutate,
    search,
    selected,
)
from tunewright.control.td3 import Td3  # noqa: E402
from tunewright.control.worlds import CartPole, Pendulum, play  # noqa: E402
from tunewright.errors import ConfigError, UnsupportedError  # noqa: E402


def agents() -> list[Any]:
    torch.manual_seed(0)
    return [Td3(Pendulum(), Genes((8, 8))), Dqn(CartPole(), Genes((8, 8)))]


def flat(agent: Agent) -> Any:
    return torch.cat([p.detach().reshape(-1) for n in agent.networks for p in n.parameters()])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_changes_what_it_says_and_leaves_the_original(which: int, mutation: Any) -> None:
    parent = agents()[which]
    child = parent.copy()
    before = flat(parent)
    for seed in range(6):
        mutate(child, mutation, np.random.default_rng(seed))
    assert torch.equal(flat(parent), before)
    changed = child.genes != parent.genes
    assert changed == (mutation in ("size", "activation", "rate"))
    same_weights = flat(child).shape == before.shape and torch.equal(flat(child), before)
    assert same_weights == (mutation not in ("size", "weights"))
    assert child.genes.hidden == child.networks[0].sizes == child.followers[0].sizes
    assert child.networks[0].activation == child.genes.activation == child.followers[0].activation
    batch = play(
        CartPole() if which else Pendulum(), lambda s: child.act(s, np.random.default_rng(0)), 1,
        np.random.default_rng(0),
    )[0]  # fmt: skip
    replay = Replay(CartPole() if which else Pendulum(), 500)
    replay.add(batch)
    for _ in range(4):
        child.learn(replay.draw(np.random.default_rng(1), 16), np.random.default_rng(2))
    assert torch.isfinite(flat(child)).all()


@pytest.mark.parametrize("which", [0, 1])
def test_growing_keeps_what_an_agent_does(which: int) -> None:
    agent = agents()[which]
    seen = np.random.default_rng(0).normal(size=(20, 4 if which else 3))
    before = agent.act(seen)
    for seed in range(8):
        mutate(agent, "size", np.random.default_rng(seed))
    assert agent.genes.hidden != (8, 8)
    assert agent.act(seen) == pytest.approx(before, abs=1e-5)


def test_rates_stay_in_bounds_and_reach_the_optimizer() -> None:
    agent = agents()[0]
    for seed in range(60):
        mutate(agent, "rate", np.random.default_rng(seed))
        assert 1e-5 <= agent.genes.rate <= 1e-2
        assert 1e-5 <= agent.genes.actor_rate <= 1e-2
    assert agent._critic_optimizer.param_groups[0]["lr"] == agent.genes.rate
    assert agent._actor_optimizer.param_groups[0]["lr"] == agent.genes.actor_rate


def test_the_fittest_survives_as_it_is_and_good_ones_have_more_children() -> None:
    agent, replay = agents()[1], Replay(CartPole(), 10)
    members = [Member(agent, replay, fitness=float(i)) for i in range(10)]
    out = selected(members, Searl(size=10), np.random.default_rng(0))
    assert (len(out), out[0] is members[9]) == (10, True)
    assert all(m.replay is replay for m in out)
    apart = selected(members, Searl(size=10, share=False), np.random.default_rng(0))
    assert all(m.replay is not replay for m in apart[1:])
    assert {m.mutation for m in out} <= set(MUTATIONS)
    assert all(m.agent is not agent for m in out[1:])


def searched(**more: Any) -> tuple[list[Generation], Agent]:
    seen: list[Generation] = []
    settings = Searl(size=3, least=30, ratio=0.2, batch=8, **more)
    best = search(
        CartPole(), lambda rng: Dqn(CartPole(), Genes((8,), "relu", float(10 ** rng.uniform(-4, -2)))),
        settings, steps=400, seed=5, watch=seen.append,
    )  # fmt: skip
    return seen, best


def test_a_search_counts_steps_and_updates_and_repeats_itself() -> None:
    torch.manual_seed(123)
    seen, best = searched()
    assert seen[-2].steps < 400 <= seen[-1].steps
    assert [g.number for g in seen] == list(range(1, len(seen) + 1))
    assert seen[0].updates == 0
    assert seen[1].updates == 3 * round(0.2 * seen[0].steps)
    torch.manual_seed(456)
    state = torch.random.get_rng_state()
    again, other = searched()
    assert seen == again
    assert torch.equal(flat(best), flat(other))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_evolution_settings_stay() -> None:
    seen, _ = searched(share=False, evolve=False)
    assert len({g.genes for g in seen}) == 1
    assert len({g.genes for g in searched()[0]}) > 1


@pytest.mark.parametrize("wrong", [{"size": 0}, {"least": 0}, {"batch": 0}, {"ratio": 0.0}, {"capacity": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Searl needs"):
        Searl(**wrong)


def test_agents_refuse_the_wrong_kind_of_action() -> None:
    with pytest.raises(UnsupportedError, match="Use Dqn"):
        Td3(CartPole(), Genes())
    with pytest.raises(UnsupportedError, match="Use Td3"):
        Dqn(Pendulum(), Genes())
