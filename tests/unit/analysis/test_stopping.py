import math

import numpy as np
import pytest

import tunewright as tw
from tunewright.analysis.stopping import regret_bound, unwarped
from tunewright.core.events import Ended, Started
from tunewright.core.history import History
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.ending import STOPPED, RegretRule, reason
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.models.warp import fit_warp

SPACE = Space(x=tw.Float(-5, 5))


def told(places, losses):
    history = History(Problem(SPACE))
    for i, (x, loss) in enumerate(zip(places, losses, strict=True)):
        history.apply(Started(i, {"x": float(x)}))
        history.apply(Ended(i, 1, "completed", {"loss": float(loss)}))
    return history


def test_the_bound_shrinks_as_the_space_is_known_and_holds():
    gaps = []
    for n in (12, 40):
        places = np.linspace(-5, 5, n)
        bound = regret_bound(told(places, (places - 1.03) ** 2), np.random.default_rng(0))
        assert bound.results == n
        gaps.append(bound.gap)
        assert bound.gap >= ((places - 1.03) ** 2).min()
    assert gaps[1] < gaps[0]
    assert gaps[1] < 0.5


def test_an_unexplored_half_keeps_it_wide():
    half, whole = np.linspace(-5, 0, 20), np.linspace(-5, 5, 20)
    narrow = regret_bound(told(whole, np.sin(whole)), np.random.default_rng(0))
    wide = regret_bound(told(half, np.sin(half)), np.random.default_rng(0))
    assert wide.gap > 3 * narrow.gap


def test_replicates_say_what_the_noise_is():
    rng = np.random.default_rng(0)
    places = np.repeat(np.linspace(-5, 5, 15), 4)
    losses = places**2 + rng.normal(0.0, 0.5, 60)
    bound = regret_bound(told(places, losses), np.random.default_rng(0))
    groups = losses.reshape(15, 4)
    assert bound.results == 15
    assert bound.noise == pytest.approx(math.sqrt(groups.var(axis=1, ddof=1).mean()))


def test_too_little_says_nothing():
    assert regret_bound(told([0.0] * 3, [1.0, 2.0, 3.0]), np.random.default_rng(0)) is None
    assert regret_bound(told(np.linspace(0, 1, 20), np.ones(20)), np.random.default_rng(0)) is None
    two = History(Problem(SPACE, (Objective("a"), Objective("b"))))
    with pytest.raises(UnsupportedError, match="one objective"):
        regret_bound(two, np.random.default_rng(0))


def test_a_bound_is_mapped_back_to_the_loss_that_it_stands_for():
    losses = np.array([0.1, 0.2, 0.5, 1.0, 2.0])
    warp = fit_warp(losses, 3.0)
    assert [unwarped(warp, float(v)) for v in warp(losses)] == pytest.approx(losses.tolist())
    assert unwarped(warp, 1e9) == warp.high


@pytest.mark.parametrize("words", ["regret", "regret<", "regret<x", "regret<-1", "regret<inf", "loss<1", ""])
def test_words_that_mean_nothing_are_refused(words):
    with pytest.raises(ConfigError, match="stop_when must be"):
        RegretRule(words)


def test_a_run_ends_with_its_reason_in_the_log_and_is_not_noted_twice():
    study = tw.Study.open("s", SPACE, method="quasirandom", storage="memory")

    def run():
        return study.run(lambda x: (x - 1) ** 2, trials=200, stop_when="regret < 0.5", progress="none")

    summary = run()
    assert summary.why == "regret"
    assert 10 <= len(study.trials) < 100
    assert reason(study.session).startswith("regret<0.5: after")
    count = len(study.trials)
    assert run().why == "regret"
    assert len(study.trials) == count
    assert sum(n.topic == STOPPED for _, n in study.session.ledger.notes) == 1
    study.run(lambda x: (x - 1) ** 2, trials=count + 1, progress="none")
    assert reason(study.session) == ""
    assert study.replay().verified == count + 1


def test_without_the_rule_it_goes_on():
    study = tw.Study.open("s", SPACE, method="quasirandom", storage="memory")
    assert study.run(lambda x: (x - 1) ** 2, trials=40, progress="none").why == "trials"
    with pytest.raises(ConfigError, match="stop_when"):
        study.run(lambda x: x, trials=41, stop_when="soon", progress="none")
