"""The box: what it holds, what it leaves alone, and what happens at its end."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.constraints import Linear
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import Edited, Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.sources import Source
from tunewright.samplers.bounding_box import BoundingBox
from tunewright.samplers.random import Random

SPACE = Space(x=Float(0, 10), n=Int(1, 50), m=Choice(["a", "b", "c"]))
SOURCES = (
    Source("s", ({"x": 2.0, "n": 10, "m": "a"}, {"x": 9.0, "n": 50, "m": "c"}), (0.1, 0.9)),
    Source("t", ({"x": 9.5, "n": 1, "m": "c"}, {"x": 4.0, "n": 30, "m": "b"}), (70.0, 7.0)),
)


def test_the_box_holds_the_best_of_each_source():
    box = BoundingBox(Random(), SOURCES).box(SPACE)
    assert (box.domains["x"].low, box.domains["x"].high) == (pytest.approx(2.0), pytest.approx(4.0))
    assert (box.domains["n"].low, box.domains["n"].high) == (10, 30)
    assert box.domains["m"].options == ("a", "b")


def test_two_of_each_make_it_larger():
    box = BoundingBox(Random(), SOURCES, best=2).box(SPACE)
    assert (box.domains["x"].low, box.domains["x"].high) == (pytest.approx(2.0), pytest.approx(9.5))
    assert box.domains["m"].options == ("a", "b", "c")


def test_everything_proposed_lies_in_the_box_and_in_the_space():
    algorithm = BoundingBox(Random(), SOURCES)
    state = algorithm.init(Problem(SPACE))
    for i in range(50):
        (start,) = algorithm.ask(state, 1, generator(0, i))
        assert SPACE.check(start.config) == start.config
        assert 2.0 <= start.config["x"] <= 4.0
        assert 10 <= start.config["n"] <= 30
        assert start.config["m"] in ("a", "b")


def test_trials_outside_the_box_and_edits_are_understood():
    algorithm = BoundingBox(Random(), SOURCES)
    state = algorithm.init(Problem(SPACE))
    state = algorithm.tell(
        state, [Started(0, {"x": 9.9, "n": 1, "m": "c"}), Ended(0, 0, "completed", {"loss": 1.0})]
    )
    wider = Space(x=Float(0, 100), n=Int(1, 50), m=Choice(["a", "b", "c"]), new=Float(0, 1))
    state = algorithm.tell(state, [Edited(wider.to_dict())])
    (start,) = algorithm.ask(state, 1, generator(0, 1))
    assert wider.check(start.config) == start.config
    assert start.config["x"] < 11


def test_without_sources_or_without_room_the_space_stays():
    assert BoundingBox(Random()).box(SPACE) is SPACE
    tight = Space({"x": Float(0, 10), "y": Float(0, 10)}, constraints=[Linear({"x": -1.0, "y": -1.0}, -15.0)])
    low = Source("s", ({"x": 1.0, "y": 1.0},), (0.0,))
    assert BoundingBox(Random(), (low,)).box(tight) is tight


def test_parameters_that_conditions_look_at_keep_their_options():
    space = Space({"m": Choice(["a", "b"]), "v": Float(0, 1)}, when={"v": {"m": "b"}})
    box = BoundingBox(Random(), (Source("s", ({"m": "a"},), (0.0,)),)).box(space)
    assert box == space


def test_when_the_box_is_used_up_the_rest_of_the_space_is_tried():
    space = Space(a=Int(0, 2), b=Choice(["u", "v"]))

    class Once:
        """Proposes nothing, as a sampler does that has tried everything."""

        def init(self, problem):
            return None

        def tell(self, state, events):
            return state

        def ask(self, state, slots, rng):
            return ()

    algorithm = BoundingBox(Once(), (Source("s", ({"a": 0, "b": "u"},), (0.0,)),))
    state, seen = algorithm.init(Problem(space)), set()
    for i in range(6):
        (start,) = algorithm.ask(state, 1, generator(0, i))
        seen.add(tuple(start.config.values()))
        state = algorithm.tell(state, [Started(i, start.config), Ended(i, 0, "completed", {"loss": 0.0})])
    assert len(seen) == 6
    assert algorithm.ask(state, 1, generator(0, 9)) == ()


@pytest.mark.parametrize("settings", [{"best": 0}, {"margin": 0.0}, {"margin": 1.5}, {"sources": "x"}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="BoundingBox needs"):
        BoundingBox(Random(), **settings)


def test_numpy_losses_are_fine():
    source = Source("s", ({"x": 1.0},), tuple(np.array([0.5])))
    assert source.losses == (0.5,)
