"""Sequential search of trees: what is ranked, what is drawn, and that it finds good architectures."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright import architect
from tunewright.core.algorithm import generator
from tunewright.core.domains import Bool, Choice, Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.tree_smbo import TreeSmbo, scores, thinned

NET = architect.Repeat(
    [architect.Module("conv", size=Choice([1, 3, 5])), architect.Optional("norm")], [1, 2, 3, 4], name="depth"
)
SPACE = architect.space(NET)


def loss_of(config):
    layers = architect.modules(architect.graph(NET, config))
    return -float(sum(m.settings.get("size") == 3 for m in layers) + sum(m.kind == "norm" for m in layers))


def study(method, trials, seed=0, space=SPACE, loss=loss_of):
    state = method.init(Problem(space, seed=seed))
    whys = []
    for i in range(trials):
        (action,) = method.ask(state, 1, generator(seed, i))
        whys.append(action.why)
        end = Ended(i, 0, "completed", {"loss": loss(action.config)})
        state = method.tell(state, [Started(i, action.config), end])
    return state, whys


def test_a_design_comes_first_and_a_quarter_is_random():
    _, whys = study(TreeSmbo(candidates=8), 110)
    assert all("design" in w for w in whys[:10])
    share = np.mean(["random" in w for w in whys[10:]])
    # Binomial with 100 draws: outside this with probability below 0.001.
    assert 0.11 < share < 0.4


@pytest.mark.parametrize(("explore", "kind"), [(0.0, "score"), (1.0, "random")])
def test_exploring_always_or_never(explore, kind):
    _, whys = study(TreeSmbo(explore=explore, candidates=8), 20)
    assert all(kind in w for w in whys[10:])


def test_it_finds_what_random_search_does_not():
    wins = 0
    for seed in range(5):
        state, _ = study(TreeSmbo(), 40, seed)
        rng = np.random.default_rng(seed)
        random = min(loss_of(SPACE.draw(rng)) for _ in range(40))
        wins += state.history.loss.min() <= random
        assert state.history.loss.min() <= -7.0
    assert wins >= 4


def test_the_proposal_is_the_best_predicted_of_what_was_not_tried():
    method = TreeSmbo(explore=0.0, initial=4)
    space = Space(b_1=Bool(), b_2=Bool(), b_3=Bool())
    state, _ = study(method, 7, space=space, loss=lambda c: float(sum(c.values())))
    tried = {tuple(c.values()) for c in state.history.configs}
    assert len(tried) == 7
    assert len(method.ask(state, 3, generator(1, 1))) == 1


def test_without_differences_it_draws():
    _, whys = study(TreeSmbo(), 15, loss=lambda c: 1.0)
    assert all("random" in w for w in whys[10:])


def test_several_objectives_are_weighed_anew_for_every_proposal():
    problem = Problem(SPACE, (Objective("loss"), Objective("size")))
    method = TreeSmbo(explore=0.0)
    state = method.init(problem)
    for i in range(14):
        (action,) = method.ask(state, 1, generator(3, i))
        metrics = {"loss": loss_of(action.config), "size": float(action.config["depth"])}
        state = method.tell(state, [Started(i, action.config), Ended(i, 0, "completed", metrics)])
    depths = {a.config["depth"] for s in range(6) for a in method.ask(state, 2, generator(s, 50))}
    assert len(depths) > 1


def test_scores_are_those_of_ranks():
    # Quantiles of 1/6, 1/2 and 5/6; ties share theirs.
    assert scores(np.array([3.0, -1e300, 5.0])) == pytest.approx([0.0, -0.967422, 0.967422], abs=1e-6)
    assert scores(np.array([1.0, 1.0])).tolist() == [0.0, 0.0]


def test_the_better_half_stays_whole():
    losses = np.arange(20.0)[::-1]
    kept = thinned(losses, 8)
    assert losses[kept].tolist() == [0, 1, 2, 3, 4, 9, 14, 19]
    assert sorted(thinned(losses, 20).tolist()) == list(range(20))


def test_mixed_spaces_and_many_awaited_trials():
    space = Space(x=Float(0, 1), n=Int(1, 2**40, log=True), c=Choice(list(range(200))))
    method = TreeSmbo()
    state, _ = study(method, 15, space=space, loss=lambda c: c["x"] * 1e300)
    for i in range(15, 65):
        (action,) = method.ask(state, 1, generator(0, i))
        state = method.tell(state, [Started(i, action.config)])
    assert len({str(c) for c in state.history.configs}) == 65


@pytest.mark.parametrize("settings", [{"initial": 0}, {"candidates": 0}, {"explore": 1.5}, {"longest": 0}, {"least": 0}])  # fmt: skip
def test_settings_are_refused(settings):
    with pytest.raises(ConfigError, match="TreeSmbo needs"):
        TreeSmbo(**settings)
