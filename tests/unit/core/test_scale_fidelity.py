"""The points of a scale: one whole number for every size and step, in the order of training."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.core.problem import Fidelity, Problem
from tunewright.core.rungs import levels
from tunewright.core.scale import Scale
from tunewright.core.space import Space
from tunewright.errors import ConfigError


@st.composite
def scales(draw: st.DrawFn) -> Scale:
    base = draw(st.integers(1, 64))
    growths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True).map(sorted))
    target = base * draw(st.integers(5, 9))
    shares = [*draw(st.lists(st.sampled_from([0.1, 0.25, 0.5]), max_size=2, unique=True).map(sorted)), 1.0]
    return Scale(
        {"width": (base, target), "depth": (2, 2)},
        [{"width": base * g} for g in growths],
        draw(st.lists(st.integers(1, 400), min_size=len(growths) + 1, max_size=len(growths) + 1)),
        shares=shares,
        eta=draw(st.integers(2, 4)),
    )


@given(scales())
def test_every_step_of_every_size_has_a_point_of_its_own_and_finds_back(scale: Scale) -> None:
    last = 0
    for stage in scale.stages:
        assert stage.begin == last
        points = [stage.point(s) for s in range(stage.steps + 1)]
        assert points[0] == stage.begin
        assert points[-1] == stage.end
        assert all(a < b for a, b in itertools.pairwise(points))
        assert [stage.step(p) for p in points] == list(range(stage.steps + 1))
        assert [stage.done(p) for p in points] == list(range(stage.steps + 1))
        last = stage.end
    assert last == scale.high


@given(scales(), st.data())
def test_between_two_steps_the_first_is_done_and_the_second_is_to_do(
    scale: Scale, data: st.DataObject
) -> None:
    stage = data.draw(st.sampled_from(scale.stages))
    point = data.draw(st.integers(stage.begin, stage.end))
    assert stage.point(stage.done(point)) <= point <= stage.point(stage.step(point))
    assert stage.step(point) - stage.done(point) == (stage.point(stage.done(point)) != point)


@given(scales(), st.data())
def test_a_way_in_parts_trains_the_same_steps_as_in_one(scale: Scale, data: st.DataObject) -> None:
    whole = {leg.stage.begin: leg.last - leg.first for leg in scale.legs(0, scale.high)}
    assert list(whole.values()) == [s.steps for s in scale.stages]
    cut = data.draw(st.integers(1, scale.high))
    stage = scale.stage(cut)
    reached = stage.point(stage.step(cut))  # a trial stands where its last step is
    both: dict[int, int] = {}
    for leg in [*scale.legs(0, reached), *scale.legs(reached, scale.high)]:
        both[leg.stage.begin] = both.get(leg.stage.begin, 0) + leg.last - leg.first
    assert both == whole
    parts = scale.cost_of(reached) + scale.cost_of(scale.high, reached)
    assert parts == pytest.approx(scale.cost_of(scale.high))


@given(scales())
def test_rungs_of_a_scheduler_with_the_same_eta_are_the_ends_of_levels(scale: Scale) -> None:
    ends = tuple(p for s in scale.stages for p in s.points)
    assert levels(scale.low, scale.high, scale.eta) == ends


@given(scales())
def test_a_problem_with_a_scale_comes_back_from_its_json_form(scale: Scale) -> None:
    problem = Problem(Space({}), scale=scale)
    assert problem.fidelity == Fidelity(scale.high, scale.low, "point")
    again = Problem.from_dict(problem.to_dict())
    assert again == problem
    assert again.scale == scale
    assert hash(again) == hash(problem)
    assert again.with_space(Space({})).scale == scale


def test_a_problem_without_one_is_stored_as_before() -> None:
    stored = Problem(Space({}), fidelity=Fidelity(9)).to_dict()
    assert set(stored) == {"space", "objectives", "seed", "fidelity"}
    assert Problem.from_dict(stored).scale is None


def test_costs_are_trainings_of_the_target() -> None:
    scale = Scale({"width": (64, 512)}, steps=(100, 200, 1000))
    # 6 N D with N as the square of the width: (1/8)^2 * 0.1, then (1/4)^2 * 0.2
    assert scale.cost_of(scale.high) == pytest.approx(0.1 / 64 + 0.2 / 16)
    deep = Scale({"width": (64, 128), "depth": (2, 8)}, [{"width": 64}, {"depth": 4}])
    assert deep.cost_of(deep.high) == pytest.approx(1 / 16 + 1 / 8)
    own = Scale({"width": (64, 512)}, cost=lambda sizes: sizes["width"] + 64)
    assert own.cost_of(own.high) == pytest.approx((128 + 192) / 576)
    assert Scale({"width": (64, 512)}, cost={"width": 1}).cost == (0.125, 0.25, 1.0)


def test_proxies_are_the_base_and_twice_the_base_when_none_are_named() -> None:
    assert [s.sizes for s in Scale({"width": (64, 512), "depth": (4, 6)}).stages] == [
        {"width": 64, "depth": 4},
        {"width": 128, "depth": 6},
    ]


def test_auto_rules_know_depths() -> None:
    assert Scale({"width": (64, 512)}, rule="auto").rules == ("mup", "sp-layerwise", "sp")
    assert Scale({"n_layers": (2, 8)}, rule="auto").rules == ("depth-mup", "mup", "sp")
    assert Scale({"width": (64, 512), "n_layers": (2, 2)}, rule="auto").rules[0] == "mup"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sizes": {}}, "sizes that grow"),
        ({"sizes": {"width": 64}}, "base and its target"),
        ({"sizes": {"width": (64.0, 512)}}, "base and its target"),
        ({"sizes": {"width": (512, 64)}}, "smaller than its base"),
        ({"sizes": {"width": (64, 64)}}, "must grow"),
        ({"proxies": [{"depth": 2}]}, "sizes of the scale"),
        ({"proxies": [{"width": 1024}]}, "no larger than the target"),
        ({"proxies": [{"width": 128}, {"width": 64}]}, "grow from one to the next"),
        ({"proxies": [{"width": 64}, {"width": 64}]}, "grow from one to the next"),
        ({"steps": (10, 20)}, "whole steps"),
        ({"steps": 0}, "whole steps"),
        ({"cost": {"depth": 1}}, "sizes of the scale"),
        ({"cost": lambda sizes: -1}, "positive numbers"),
        ({"cost": (1.0, 2.0)}, "positive numbers"),
        ({"rule": ()}, "name of a rule"),
        ({"rule": ("mup", "mup")}, "name of a rule"),
        ({"shares": (0.5,)}, "ascend to 1"),
        ({"shares": (0.5, 0.25, 1.0)}, "ascend to 1"),
        ({"eta": 1}, "eta"),
        ({"eta": 2.5}, "eta"),
    ],
)
def test_what_cannot_be_used_is_said(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Scale(**{"sizes": {"width": (64, 512)}, **arguments})


def test_a_scale_is_all_there_is_to_say_about_steps() -> None:
    scale = Scale({"width": (64, 512)}, steps=10)
    with pytest.raises(ConfigError, match="Leave steps out"):
        Problem(Space({}), fidelity=Fidelity(5), scale=scale)
    with pytest.raises(ConfigError, match="keeps its 30 points"):
        Problem(Space({}), scale=scale).extended(60)
