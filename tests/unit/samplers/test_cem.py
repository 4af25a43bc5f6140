"""The cross-entropy method: elites, smoothing, chances of options, and the fold."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.cem import Cem

SPACE = Space(x=Float(0, 1), c=Choice(["a", "b", "c", "d"]))


def fold(cem, rows, space=SPACE):
    state = cem.init(Problem(space))
    for i, (config, loss) in enumerate(rows):
        end = Ended(i, 0, "failed") if loss is None else Ended(i, 0, "completed", {"loss": loss})
        state = cem.tell(state, [Started(i, config), end])
    return state


def test_a_full_batch_moves_the_distribution_to_its_elites():
    cem = Cem(size=4, elite=0.5, smoothing=0.5)
    rows = [({"x": 0.1, "c": "a"}, 1.0), ({"x": 0.3, "c": "a"}, 2.0), ({"x": 0.9, "c": "b"}, 3.0)]
    assert fold(cem, rows).fits == 0
    state = fold(cem, [*rows, ({"x": 0.9, "c": "b"}, 4.0)])
    assert state.elites == [0, 1]
    # By hand: elites 0.1 and 0.3 have mean 0.2 and deviation 0.1; the first fit has weight 1/2 for both.
    assert state.mean[0] == pytest.approx(0.5 * 0.5 + 0.5 * 0.2)
    assert state.std[0] == pytest.approx(0.5 * 0.3 + 0.5 * 0.1)
    # Chances 1/4 each, halfway to (1, 0, 0, 0), then a quarter of the weight evenly.
    assert state.chances[1] == pytest.approx(np.array([0.625, 0.125, 0.125, 0.125]) * 0.75 + 1 / 16)


def test_the_deviation_follows_more_and_more_slowly():
    cem = Cem(size=2, elite=1.0, smoothing=0.8)
    rows = [({"x": 0.5, "c": "a"}, 1.0)] * 4
    state = fold(cem, rows[:2])
    assert state.std[0] == pytest.approx(0.3 * 0.2)
    state = fold(cem, rows)
    # By hand: the second weight is 0.8 - 0.8 * (1/2)^5 = 0.775.
    assert state.std[0] == pytest.approx(0.06 * (1 - 0.775))


def test_earlier_elites_stay_while_nothing_is_better():
    cem = Cem(size=4, elite=0.5)
    good = [({"x": 0.2, "c": "a"}, 0.0)] * 4
    state = fold(cem, [*good, *[({"x": 0.9, "c": "b"}, 5.0)] * 4])
    assert set(state.elites) <= {0, 1, 2, 3}


def test_failures_are_never_elites():
    cem = Cem(size=4, elite=0.5)
    state = fold(cem, [({"x": 0.2, "c": "a"}, None)] * 3 + [({"x": 0.9, "c": "b"}, 5.0)])
    assert state.elites == [3]
    assert state.fits == 0
    assert state.mean[0] == 0.5


def test_inactive_parameters_teach_nothing():
    space = Space(m=Choice({"deep": {"k": Float(0, 1)}, "flat": None}))
    state = fold(Cem(size=2, elite=1.0), [({"m": "flat"}, 1.0), ({"m": "flat"}, 2.0)], space)
    assert state.fits == 1
    assert state.mean[1] == 0.5
    assert state.std[1] == 0.3


def test_guesses_are_where_it_starts():
    space = Space(x=Float(0, 1, guess=0.8, confidence=0.5), c=Choice(["a", "b"], guess="b", confidence=0.6))
    state = Cem().init(Problem(space))
    assert state.mean[0] == pytest.approx(0.8)
    assert state.std[0] == pytest.approx(0.3 * 0.65)
    assert state.chances[1] == pytest.approx([0.2, 0.8])


def test_draws_follow_the_chances_of_the_options():
    cem = Cem()
    state = cem.init(Problem(SPACE))
    state.chances[1] = np.array([0.1, 0.6, 0.1, 0.2])
    drawn = [a.config["c"] for s in range(60) for a in cem.ask(state, 20, generator(s, 0))]
    assert drawn.count("b") / len(drawn) == pytest.approx(0.6, abs=0.05)
    assert drawn.count("d") / len(drawn) == pytest.approx(0.2, abs=0.05)


def test_elites_fitted_without_smoothing_have_the_largest_likelihood():
    """The M step: no other mean makes the elites more likely."""
    cem = Cem(size=8, elite=0.5, smoothing=1.0)
    rng = np.random.default_rng(0)
    rows = [({"x": float(x), "c": "a"}, float(i)) for i, x in enumerate(rng.random(8))]
    state = fold(cem, rows)
    x = state.population.history.codes[state.elites, 0]

    def likelihood(mean, std):
        return float((-0.5 * ((x - mean) / std) ** 2 - np.log(std)).sum())

    top = likelihood(state.mean[0], state.std[0])
    assert all(
        likelihood(state.mean[0] + a, state.std[0] * b) < top
        for a, b in ((0.01, 1), (-0.01, 1), (0, 1.05), (0, 0.95))
    )


def test_settings_are_refused():
    for bad in ({"size": 1}, {"elite": 0.0}, {"smoothing": 1.5}):
        with pytest.raises(ConfigError, match="Cem needs"):
            Cem(**bad)
