"""Grid search: every point once, whatever the scale, in an order that survives interruption."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.algorithm import Start, generator
from tunewright.core.domains import Bool, Choice, Float, Int
from tunewright.core.events import Edited, Started, decode_event, encode_event
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, SpaceError
from tunewright.samplers.grid import Grid

SPACE = Space(a=Choice({"x": {"q": Int(1, 3)}, "y": None}), b=Bool(), f=Float(0.1, 3.0, log=True))


def walk(method: Grid, space: Space, seed: int = 0, slots: int = 1) -> list[dict[str, Any]]:
    """Every configuration in order; events pass through JSON as in a store."""
    state = method.init(Problem(space, seed=seed))
    tried: list[dict[str, Any]] = []
    while actions := method.ask(state, slots, generator(seed, len(tried))):
        for action in actions:
            assert isinstance(action, Start)
            state = method.tell(state, [decode_event(encode_event(Started(len(tried), action.config)))])
            tried.append(action.config)
        assert len(tried) <= 5000, "the same points again and again"
    return tried


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("slots", [1, 7])
def test_every_active_combination_comes_once(shuffle: bool, slots: int) -> None:
    tried = walk(Grid(resolution=4, shuffle=shuffle), SPACE, slots=slots)
    assert len(tried) == len({json.dumps(c) for c in tried}) == (3 + 1) * 2 * 4
    assert {c["f"] for c in tried} >= {0.1, 3.0}
    for config in tried:
        assert SPACE.check(config) == config


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-6, 1e3), st.floats(1e-3, 1e6), st.booleans(), st.integers(2, 40))
def test_points_on_any_scale_are_recognised_when_they_come_back(
    low: float, wide: float, log: bool, n: int
) -> None:
    tried = walk(Grid(resolution=n), Space(x=Float(low, low * (1 + wide), log=log)))
    assert len(tried) == n


def test_the_order_is_mixed_radix_or_shuffled_by_the_seed() -> None:
    space = Space(a=Int(0, 2), b=Int(0, 1))
    assert [tuple(c.values()) for c in walk(Grid(), space)] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
    ]
    one, again, other = (walk(Grid(shuffle=True), SPACE, seed) for seed in (1, 1, 2))
    assert one == again != other


def test_it_goes_on_where_it_was_interrupted() -> None:
    method = Grid(resolution=3)
    everything = walk(method, SPACE)
    state = method.init(Problem(SPACE))
    state = method.tell(state, [Started(i, c) for i, c in enumerate(everything[:10])])
    rest = method.ask(state, 100, generator(0, 0))
    assert [a.config for a in rest if isinstance(a, Start)] == everything[10:]


def test_points_started_by_others_are_skipped_and_strangers_ignored() -> None:
    method, space = Grid(), Space(a=Int(0, 3))
    state = method.init(Problem(space))
    state = method.tell(
        state, [Started(0, {"a": 0}), Started(1, {"a": 2}), Started(2, {"a": "?"}), Started(3, {})]
    )
    assert [a.config["a"] for a in method.ask(state, 9, generator(0, 0)) if isinstance(a, Start)] == [1, 3]


def test_an_edited_space_keeps_what_was_tried() -> None:
    method = Grid(resolution=3)
    state = method.init(Problem(Space(x=Float(0.1, 0.7), c=Choice(["a", "b"]))))
    state = method.tell(state, [Started(0, {"x": 0.1, "c": "a"}), Started(1, {"x": 0.7, "c": "b"})])
    state = method.tell(state, [Edited(Space(x=Float(0.1, 0.7), c=Choice(["b", "d"])).to_dict())])
    left = [tuple(a.config.values()) for a in method.ask(state, 9, generator(0, 0)) if isinstance(a, Start)]
    assert len(left) == 5
    assert (0.7, "b") not in left


def test_whole_numbers_are_complete_where_the_resolution_allows() -> None:
    assert [c["n"] for c in walk(Grid(resolution=10), Space(n=Int(1, 9, log=True)))] == list(range(1, 10))
    some = [c["n"] for c in walk(Grid(resolution=5), Space(n=Int(1, 5000)))]
    assert len(some) == 5
    assert (some[0], some[-1]) == (1, 5000)


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"resolution >= 2 and limit >= 1; got 1 and 100000"):
        Grid(resolution=1)
    with pytest.raises(ConfigError, match="limit >= 1"):
        Grid(limit=0)
    with pytest.raises(SpaceError, match="at most 50 points"):
        Grid(limit=50).init(Problem(Space({f"x{i}": Float(0, 1) for i in range(3)})))
