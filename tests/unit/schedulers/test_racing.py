"""Races: who is measured again, who is rejected, and what the sampler hears."""

from __future__ import annotations

import math

import pytest

from tunewright.core.algorithm import Start, generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.history import COMPLETED, STOPPED
from tunewright.core.problem import Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.samplers.tpe import Tpe
from tunewright.schedulers.racing import Racing

PROBLEM = Problem(Space(x=Float(0, 1)))


class Race:
    """A scheduler driven by hand: losses come from a function of the configuration's place and the seed."""

    def __init__(self, algorithm, loss, problem=PROBLEM):
        self.algorithm, self.loss = algorithm, loss
        self.state = algorithm.init(problem)
        self.begun = []
        self.places = {}

    def step(self):
        (action,) = self.algorithm.ask(self.state, 1, generator(0, len(self.begun)))
        assert isinstance(action, Start)
        trial = len(self.begun)
        original = trial if action.parent is None else action.parent[0]
        place = self.places.setdefault(original, len(self.places))
        self.begun.append((place, action.why["seed"]))
        loss = self.loss(place, action.why["seed"])
        end = Ended(trial, 1, "failed") if loss is None else Ended(trial, 1, "completed", {"loss": loss})
        self.state = self.algorithm.tell(self.state, [Started(trial, action.config, parent=action.parent)])
        self.state = self.algorithm.tell(self.state, [end])
        return place

    def run(self, count):
        for _ in range(count):
            self.step()
        return self.begun


def noise(seed):
    return (0.0, 0.2, -0.1, 0.1, -0.2, 0.15, -0.05, 0.05, -0.15, 0.1)[seed % 10]


def test_the_first_one_is_measured_three_times_to_learn_the_noise():
    race = Race(Racing(Random()), lambda place, seed: place + noise(seed) * (1 + place))
    assert race.run(4)[:4] == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_a_bad_challenger_is_rejected_early_and_the_incumbent_gets_a_seed_for_each():
    race = Race(Racing(Random()), lambda place, seed: 100.0 * place + noise(seed) * (1 + place % 3))
    begun = race.run(12)
    # Nothing but one seed each for those that are far behind.
    assert {seed for place, seed in begun if place > 0} == {0}
    assert race.state.incumbent == 0
    owed = [seed for place, seed in begun if place == 0]
    assert owed == list(range(len(owed)))
    assert len(owed) >= 1 + max(p for p, _ in begun) - 1


def test_a_better_challenger_takes_over_only_with_as_many_seeds():
    race = Race(Racing(Random()), lambda place, seed: -place * 0.01 + noise(seed) * (1 + place))
    while race.state.incumbent in (None, 0) and len(race.begun) < 100:
        race.step()
    assert race.state.incumbent is not None
    place = race.places[race.state.incumbent]
    assert sum(p == place for p, _ in race.begun) >= sum(p == 0 for p, _ in race.begun)


def test_results_that_never_differ_are_measured_three_times_and_no_more():
    race = Race(Racing(Random()), lambda place, seed: 5.0 - place)
    assert race.run(7) == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (3, 0), (4, 0)]


def test_the_moderated_test_against_a_hand_computed_value():
    # Incumbent 0, 1, 2: variance 1, so a difference has variance 2 with 2 degrees of freedom. One look of five at
    # level 0.1/5 = 0.02: Student's t with 2 df exceeds 4.849 with that probability, so 4.849 * sqrt(2) = 6.857.
    for loss, lives in ((6.80, True), (6.92, False)):
        race = Race(Racing(Random()), lambda place, seed, loss=loss: float(seed) if place == 0 else loss)
        race.run(4)
        assert (3 in race.state.racers) is lives


def test_the_sampler_hears_one_result_per_configuration():
    race = Race(Racing(Tpe()), lambda place, seed: -place + noise(seed) * (1 + place))
    race.run(30)
    history = race.state.inner.history
    heard = [i for i in range(history.n) if history.status[i] == COMPLETED]
    originals = {n for n in race.places if n < 30}
    assert set(heard) <= originals
    assert all(history.status[i] == STOPPED for i in range(30) if i not in originals)
    promoted = [n for n in heard if race.places[n] > 0]
    for n in promoted:
        place = race.places[n]
        seeds = [s for p, s in race.begun if p == place]
        # Its mean when its race was over: of some first seeds.
        means = [
            sum(-place + noise(s) * (1 + place) for s in seeds[:k]) / k for k in range(1, len(seeds) + 1)
        ]
        assert any(math.isclose(history.loss[n], m, abs_tol=1e-9) for m in means)


def test_a_failed_replicate_rejects_a_challenger_and_costs_the_incumbent_only_a_seed():
    race = Race(
        Racing(Random()),
        lambda place, seed: (
            None if (place, seed) in ((0, 1), (1, 1)) else noise(seed) * (1 + place) - 0.01 * place
        ),
    )
    race.run(40)
    assert (0, 1) in race.begun
    assert [s for p, s in race.begun if p == 0][:4] == [0, 1, 2, 3]
    assert (1, 2) not in race.begun
    # Nobody waits for a seed that gave no result.
    assert len(race.state.racers) <= 2


def test_one_that_breaks_a_limit_never_leads():
    problem = Problem(Space(x=Float(0, 1)), (Objective("loss"),), None, (Limit("size", 1.0),))
    algorithm = Racing(Random())
    state = algorithm.init(problem)
    state = algorithm.tell(
        state, [Started(0, {"x": 0.5}), Ended(0, 1, "completed", {"loss": 0.0, "size": 2.0})]
    )
    assert state.incumbent is None
    state = algorithm.tell(
        state, [Started(1, {"x": 0.6}), Ended(1, 3, "completed", {"loss": 9.0, "size": 0.5})]
    )
    assert state.incumbent == 1


def test_settings_and_problems_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="first"):
        Racing(Random(), first=1)
    with pytest.raises(ConfigError, match="error"):
        Racing(Random(), error=0.0)
    with pytest.raises(ConfigError, match="seeds"):
        Racing(Random(), seeds=2)
    two = Problem(Space(x=Float(0, 1)), (Objective("a"), Objective("b")))
    with pytest.raises(UnsupportedError, match="one objective"):
        Racing(Random()).init(two)
