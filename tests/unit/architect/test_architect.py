"""The language of searchable architectures: names, the space, the graph, and the way through JSON."""

from __future__ import annotations

import json
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import tunewright as tw
from tunewright.architect import (
    AnyOrder,
    Module,
    Optional,
    Or,
    Parallel,
    Repeat,
    Residual,
    Sequence,
    from_dict,
    graph,
    modules,
    next_choice,
    space,
    to_dict,
    traverse,
)
from tunewright.bench.simulate import Task, simulate
from tunewright.catalog import METHODS, build
from tunewright.core.domains import Choice, Float, Int, Order, Subset
from tunewright.core.problem import Objective, Problem
from tunewright.errors import SpaceError

CONV = Module("conv", filters=Order([8, 16]), size=3)
KINDS = st.sampled_from(["conv", "dense", "relu"])
DOMAINS = st.sampled_from(
    [Order([1, 2, 4]), Choice(["a", "b"]), Float(0, 1), Int(1, 99, log=True), Subset(["u", "v"])]
)
FIXED = st.sampled_from([3, 0.5, "same", True, None, [1, 2]])
LEAVES = st.builds(
    lambda kind, s: Module(kind, **s),
    KINDS,
    st.dictionaries(st.sampled_from(["x", "y"]), DOMAINS | FIXED, max_size=2),
)


def _combined(inner: st.SearchStrategy) -> st.SearchStrategy:
    parts = st.lists(inner, min_size=1, max_size=3)
    return (
        st.builds(lambda p: Sequence(*p), parts)
        | st.builds(lambda p: Sequence(*p, name="stage"), parts)
        | st.builds(lambda p: Or(*p), parts)
        | st.builds(lambda p: AnyOrder(*p), parts)
        | st.builds(lambda p, m: Parallel(*p, merge=m), parts, st.sampled_from(["concat", "add"]))
        | st.builds(Optional, inner)
        | st.builds(Residual, inner)
        | st.builds(
            lambda p, c, t: Repeat(p, c, tied=t),
            inner,
            st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True),
            st.booleans(),
        )
    )


SEARCHES = st.recursive(LEAVES, _combined, max_leaves=8)


@settings(max_examples=120, deadline=None)
@given(SEARCHES, st.integers(0, 10**6))
def test_a_walk_asks_for_exactly_the_parameters_that_are_active(search, seed):
    found = space(search)
    config = found.draw(np.random.default_rng(seed))
    asked = []

    def choose(name, domain):
        asked.append(name)
        return config[name]

    architecture = traverse(search, choose)
    assert asked == list(config)
    assert architecture == graph(search, config)
    assert next_choice(search, config) is None
    assert all(m.kind in ("conv", "dense", "relu") for m in modules(architecture))
    # Nothing is left to choose in what was specified.
    assert space(architecture).d == 0
    assert graph(architecture, {}) == architecture


@settings(max_examples=120, deadline=None)
@given(SEARCHES)
def test_a_search_survives_json(search):
    again = from_dict(json.loads(json.dumps(to_dict(search))))
    assert again == search
    assert to_dict(again) == to_dict(search)
    assert space(again) == space(search)


@settings(max_examples=60, deadline=None)
@given(SEARCHES, st.integers(0, 10**6))
def test_choosing_one_by_one_gives_the_same_as_the_space(search, seed):
    rng = np.random.default_rng(seed)
    config: dict = {}
    while (found := next_choice(search, config)) is not None:
        name, domain = found
        config[name] = tw.Space({name: domain}).draw(rng)[name]
    assert space(search).check(config) == config


def test_names_say_the_place():
    net = Sequence(CONV, CONV, Repeat([CONV, "relu"], [1, 2], name="depth"), Residual(CONV), Module("out", name="head", k=Order([1, 2])))  # fmt: skip
    assert space(net).names == (
        "conv.filters",
        "conv_2.filters",
        "depth",
        "depth.1.conv.filters",
        "depth.2.conv.filters",
        "residual.conv.filters",
        "head.k",
    )


def test_a_part_put_in_between_renames_no_other_kind():
    before = set(space(Sequence(CONV, Module("dense", units=Int(1, 9)))).names)
    after = set(space(Sequence(CONV, Module("pool", size=Int(1, 3)), Module("dense", units=Int(1, 9)))).names)
    assert after - before == {"pool.size"}
    assert before < after


def test_numbered_names_avoid_those_given():
    net = Sequence(Module("a", x=Int(0, 1)), Module("a", x=Int(0, 1)), Module("b", name="a_2", x=Int(0, 1)))
    assert len(set(space(net).names)) == 3
    assert "a_2.x" in space(net).names


def test_alternatives_are_nested_and_inactive_elsewhere():
    net = Or(CONV, [Module("dense", units=Order([4, 8])), "relu"], None, name="stem")
    found = space(net)
    assert found.check({"stem": "none"}) == {"stem": "none"}
    assert found.check({"stem": "conv", "stem.conv.filters": 16})
    with pytest.raises(SpaceError, match="not active"):
        found.check({"stem": "none", "stem.conv.filters": 16})
    assert found.size == 2 + 2 + 1
    assert graph(net, {"stem": "sequence", "stem.sequence.dense.units": 8}) == Sequence(
        Module("dense", units=8), "relu"
    )
    assert graph(net, {"stem": "none"}) == Sequence()


def test_copies_have_their_own_choices_unless_tied():
    loose, tied = Repeat(CONV, [0, 1, 2]), Repeat(CONV, [0, 1, 2], tied=True)
    # By hand: 1 + 2 + 4 without ties, 1 + 2 + 2 with.
    assert (space(loose).size, space(tied).size) == (7, 5)
    assert (
        modules(graph(tied, {"repeat": 2, "repeat.conv.filters": 8}))
        == (Module("conv", filters=8, size=3),) * 2
    )
    assert modules(graph(loose, {"repeat": 0})) == ()


def test_what_is_always_there_has_no_parameter():
    assert space(Sequence(Repeat("conv", 3), Or("relu"), AnyOrder("pool"))).d == 0
    assert len(modules(graph(Sequence(Repeat("conv", [3]), Or("relu")), {}))) == 4
    first = space(Repeat(CONV, [2, 3]))
    assert [len(c.gates) for c in first.columns] == [0, 0, 0, 1]


def test_any_order_is_a_permutation():
    net = AnyOrder("relu", Module("norm", eps=Float(0, 1)))
    got = graph(net, {"order": ["norm", "relu"], "norm.eps": 0.5, "order.norm.eps": 0.5})
    assert got == Sequence(Module("norm", eps=0.5), "relu")


def test_more_parameters_come_first_and_graph_leaves_them_aside():
    found = space(CONV, lr=Float(1e-4, 1, log=True))
    assert found.names == ("lr", "conv.filters")
    assert graph(CONV, {"conv.filters": 8, "lr": 0.1}) == Module("conv", filters=8, size=3)


def test_a_walk_visits_only_what_is_chosen():
    huge = Or("small", Repeat(CONV, range(1, 100_000)))
    assert traverse(huge, lambda name, domain: "small") == Module("small")


def test_the_search_can_be_tuned_by_any_method():
    net = Repeat([CONV, Optional("relu")], [1, 2, 3])
    study = tw.Study.open("net", space(net), minimize="loss", storage="memory", method="tpe")
    study.run(lambda **config: {"loss": -len(modules(graph(net, config)))}, trials=25, progress="none")
    assert len(modules(graph(net, study.best.params))) >= 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [m.name for m in METHODS.values() if m.kind == "sampler" and m.name != "grid"]
)
def test_every_sampler_takes_a_search(name):
    conv = Module("conv", filters=Order([8, 16]), ops=Subset(["u", "v"], least=1))
    block = Sequence(conv, AnyOrder("relu", "norm", "drop"), Optional(Module("dropout", rate=Float(0, 1))))
    net = Sequence(Repeat(Repeat(block, [1, 2]), [0, 1, 2], name="depth"), Residual(Or(block, None)))
    task = Task(
        "net",
        Problem(space(net, lr=Float(1e-4, 1, log=True)), (Objective("loss"),)),
        lambda config: (np.array([float(len(modules(graph(net, config))))]), np.ones(1)),
        0.0,
        1.0,
    )
    assert len(simulate(build(name), task, workers=2, trials=16).losses) == 16


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Module(""), "kind as text"),
        (lambda: Module("a", x=object()), "plain|parameter value"),
        (lambda: Module("a", x=Choice({"p": {"q": Int(0, 1)}, "r": None})), "Use Or"),
        (lambda: Module("a", name=3), "name of a part"),
        (lambda: Or(), "at least one part"),
        (lambda: Parallel("a", merge="mean"), "'concat' or 'add'"),
        (lambda: Sequence(3), "A part must be"),
        (lambda: Repeat("a", []), "whole counts"),
        (lambda: Repeat("a", [1, 1]), "whole counts"),
        (lambda: Repeat("a", [-1]), "whole counts"),
        (lambda: Repeat("a", "12"), "whole counts"),
        (lambda: graph(CONV, {}), "needs a value for 'conv.filters'"),
        (lambda: graph(CONV, {"conv.filters": 9}), "must be a value of"),
        (lambda: next_choice(CONV, {"conv.filters": 9}), "must be a value of"),
        (lambda: modules(CONV), "must be specified"),
        (lambda: modules(Or("a", "b")), "must be specified"),
        (lambda: space(Sequence(Or("x", "y", name="a.b"), Module("a", b=Int(0, 1)))), "distinct"),
        (lambda: from_dict({}), "names its parts"),
        (lambda: from_dict({"module": "a", "units": 3}), "Remove them"),
        (lambda: from_dict({"repeat": {"module": "a"}}), "names its parts"),
        (lambda: from_dict([]), "names its parts"),
        (lambda: from_dict({"or": []}), "at least one part"),
    ],
)  # fmt: skip
def test_mistakes_are_refused_in_words(make, says):
    with pytest.raises(SpaceError, match=says):
        make()


def test_it_is_a_public_name_that_is_loaded_late():
    assert tw.architect is sys.modules["tunewright.architect"]
    assert set(tw.architect.__all__) <= set(dir(tw.architect))
