"""Graphs against paths that are walked one by one and closed forms, and what first values and rates by them are for."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tunewright import scaling
from tunewright.bench.micro import CharTransformer, ConvNet, Mlp, ResidualMlp
from tunewright.errors import ConfigError
from tunewright.scaling.graph import Graph, from_edges, rate_factor, trace
from tunewright.scaling.rules.architecture import ArchitectureAware

Edge = tuple[str, str, str | None]


def chain(depth: int) -> Graph:
    return from_edges([(str(i), str(i + 1), f"w{i}") for i in range(depth + 1)])


class Vertices(nn.Module):
    """Equation 1 of the paper: layers on the edges, sums and ReLUs at the vertices; records what the vertices hold."""

    def __init__(self, edges: list[tuple[int, int]], width: int, inputs: int = 64) -> None:
        super().__init__()
        self.edges, self.end = edges, max(j for _, j in edges)
        self.seen: dict[int, torch.Tensor] = {}
        self.layers = nn.ModuleDict(
            {
                f"e{i}_{j}": nn.Linear(inputs if i == 0 else width, 1 if j == self.end else width, bias=False)
                for i, j in edges
            }
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {0: x}
        for j in range(1, self.end + 1):
            terms = [self.layers[f"e{i}_{j}"](values[i]) for i, k in self.edges if k == j]
            z = terms[0]
            for term in terms[1:]:
                z = z + term
            self.seen[j] = z.detach()
            values[j] = z if j == self.end else torch.relu(z)
        return values[self.end]


def named(edges: list[tuple[int, int]]) -> list[Edge]:
    return [(str(i), str(j), f"layers.e{i}_{j}") for i, j in edges]


def test_a_chain_has_one_path_and_the_published_power_of_depth() -> None:
    for depth in (1, 4, 25):
        graph = chain(depth)
        assert graph.paths == ((depth, 1.0),)
        assert rate_factor(graph, chain(1)) == pytest.approx(depth**-1.5)
    assert chain(3).first == ("w0",)
    assert chain(3).last == ("w3",)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_paths_are_those_that_are_found_by_walking(data: st.DataObject) -> None:
    vertices = data.draw(st.integers(2, 7))
    possible = [(i, j) for j in range(1, vertices) for i in range(j)]
    chosen = data.draw(st.lists(st.sampled_from(possible), min_size=1, unique=True))
    kinds = data.draw(st.lists(st.booleans(), min_size=len(chosen), max_size=len(chosen)).filter(any))
    edges: list[Edge] = [
        (str(i), str(j), f"{i}-{j}" if layer else None) for (i, j), layer in zip(chosen, kinds, strict=True)
    ]
    starts = {s for s, _, _ in edges} - {t for _, t, _ in edges}
    found: Counter[int] = Counter()

    def walk(vertex: str, layers: int) -> None:
        onward = [e for e in edges if e[0] == vertex]
        if not onward:
            found[max(layers - 1, 0)] += 1
        for _, target, layer in onward:
            walk(target, layers + (layer is not None))

    for start in starts:
        walk(start, 0)
    graph = from_edges(edges)
    assert dict(graph.paths) == dict(found)
    assert graph.width == sum(found.values())
    into = Counter(t for _, t, _ in edges)
    assert graph.in_degrees == {layer: into[t] for _, t, layer in edges if layer}


def test_tracing_finds_what_edges_say() -> None:
    edges = [(0, 1), (1, 2), (0, 2), (2, 3), (1, 3), (3, 4), (0, 3)]
    assert trace(Vertices(edges, 8)) == from_edges(named(edges))


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_residual_networks_have_binomially_many_paths(depth: int) -> None:
    graph = trace(ResidualMlp(width=4, depth=depth))
    assert graph.paths == tuple((k + 1, float(math.comb(depth, k))) for k in range(depth + 1))
    assert graph.in_degrees["blocks.0.branch.0"] == 2
    assert graph.in_degrees["inlet"] == graph.in_degrees["outlet"] == 1
    two = trace(ResidualMlp(width=4, depth=depth, layers=2))
    assert two.in_degrees["blocks.0.branch.0"] == 1
    assert two.in_degrees["blocks.0.branch.2"] == 2


def test_long_sums_are_one_sum_and_a_sum_that_is_used_twice_is_two() -> None:
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Linear(4, 4) for _ in range(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.d((self.a(x) + self.b(x) + self.c(x)).relu())

    assert trace(Three()).in_degrees == {"a": 3, "b": 3, "c": 3, "d": 1}
    assert trace(ResidualMlp(width=4, depth=5)).in_degrees["blocks.4.branch.0"] == 2


def test_sums_have_one_variance_at_every_vertex() -> None:
    """Equation 3. With terms counted at a layer's source, as equation 4 is printed, the last vertex here has twice that."""
    edges = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (3, 4), (4, 5)]
    model = Vertices(edges, 512)
    scaling.plan("architecture-aware", model, model, optimizer="sgd").init_(model, seed=0)
    model(torch.randn(64, 64, generator=torch.Generator().manual_seed(1)))
    sizes = [float(model.seen[j].square().mean()) for j in (1, 2, 3, 4)]
    np.testing.assert_allclose(sizes, 2.0, rtol=0.12)
    assert float(model.layers["e4_5"].weight.detach().std()) == pytest.approx(2**0.5 / 512, rel=0.1)


def _moved(depth: int, factor: float | None) -> float:
    """Mean squared change of the last hidden layer by one step on one example, mean over draws."""
    edges = list(pairwise(range(depth + 2)))
    found = []
    for seed in range(8):
        model = Vertices(edges, 64)
        plan = scaling.plan("architecture-aware", model, Vertices([(0, 1), (1, 2)], 64), optimizer="sgd")
        plan.init_(model, seed)
        generator = torch.Generator().manual_seed(100 + seed)
        x = torch.randn(1, 64, generator=generator)
        y = torch.randn(1, 1, generator=generator)
        groups = plan.param_groups(0.1)
        for group in groups:
            group["lr"] = group["lr"] if factor is None else 0.1 * factor
        optimizer = torch.optim.SGD(groups)
        (0.5 * (model(x) - y).square()).sum().backward()
        before = model.seen[depth]
        optimizer.step()
        model(x)
        found.append(float((model.seen[depth] - before).square().mean()))
    return float(np.mean(found))


def test_one_step_moves_deep_chains_as_far_as_shallow_ones() -> None:
    """Equation 7, the condition that equation 8 solves."""
    ours = _moved(4, None), _moved(16, None)
    assert abs(math.log2(ours[1] / ours[0])) < 1.5
    # At one rate for both the change grows as the cube of the depth.
    assert _moved(16, 4**-1.5) > 15 * ours[0]


def test_kernels_and_widths() -> None:
    base = ConvNet(width=16, depth=2, kernel=3)
    plan = scaling.plan("architecture-aware", ConvNet(width=64, depth=4, kernel=5), base, optimizer="sgd")
    rate = (2 / 4) ** 1.5
    entries = plan.entries
    assert entries["convolutions.1.weight"].lr == pytest.approx(rate * 3 / 5)
    assert entries["convolutions.1.weight"].std == pytest.approx((2 / (64 * 25)) ** 0.5)
    assert entries["first.weight"].lr == pytest.approx(rate * 3 / 5 * 4)
    assert entries["outlet.weight"].lr == pytest.approx(rate / 4)
    assert entries["outlet.weight"].std == pytest.approx(2**0.5 / 64)
    assert entries["convolutions.0.bias"].lr == pytest.approx(rate * 4)
    assert all(e.lr * e.wd == pytest.approx(1.0) for e in entries.values())


def test_a_graph_of_one_s_own_where_none_can_be_traced() -> None:
    class Branching(Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.sum() > 0 else super().forward(-x)

    model, base = Branching(width=32, depth=3), Branching(width=16, depth=1)
    with pytest.raises(ConfigError, match="cannot be found by following"):
        scaling.plan("architecture-aware", model, base, optimizer="sgd")
    edges: list[Edge] = [
        ("x", "a", "inlet"),
        ("a", "b", "hidden.0"),
        ("b", "c", "hidden.1"),
        ("c", "y", "outlet"),
    ]
    rule = ArchitectureAware(from_edges(edges), from_edges([("x", "a", "inlet"), ("a", "y", "outlet")]))
    own = scaling.plan(rule, model, base, optimizer="sgd")
    traced = scaling.plan(
        "architecture-aware", Mlp(width=32, depth=3), Mlp(width=16, depth=1), optimizer="sgd"
    )
    assert {n: e.lr for n, e in own.entries.items()} == {n: e.lr for n, e in traced.entries.items()}
    assert own.rule == "architecture-aware"


def test_saved_shapes_keep_their_graph() -> None:
    model, base = Mlp(width=32, depth=3), Mlp(width=16, depth=1)
    saved = scaling.shapes(base, graph=True).to_dict()
    expected = scaling.plan("architecture-aware", model, base, optimizer="sgd")
    assert scaling.plan("architecture-aware", model, saved, optimizer="sgd") == expected
    with pytest.raises(ConfigError, match="graph=True"):
        scaling.plan("architecture-aware", model, scaling.shapes(base), optimizer="sgd")


def test_bad_graphs_are_named() -> None:
    with pytest.raises(ConfigError, match="circle"):
        from_edges([("a", "b", "x"), ("b", "a", "y")])
    with pytest.raises(ConfigError, match="two"):
        from_edges([("a", "b", "x"), ("b", "c", "x")])
    with pytest.raises(ConfigError, match="none"):
        from_edges([("a", "b", None)])
    with pytest.raises(ConfigError, match="hidden layer"):
        rate_factor(from_edges([("a", "b", "x")]), chain(1))
    with pytest.raises(ConfigError, match="no nn.Linear"):
        trace(nn.ReLU())


def test_bad_models_are_named() -> None:
    mlp = Mlp(width=16)
    with pytest.raises(ConfigError, match="sgd"):
        scaling.plan("architecture-aware", mlp, mlp, optimizer="adamw")
    with pytest.raises(ConfigError, match="is of another kind"):
        scaling.plan("architecture-aware", CharTransformer(), CharTransformer(), optimizer="sgd")
    with pytest.raises(ConfigError, match=r"0\.weight is of another kind"):
        looked_up = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        scaling.plan("architecture-aware", looked_up, looked_up, optimizer="sgd")
    rule = ArchitectureAware(chain(1), chain(1))
    with pytest.raises(ConfigError, match="'w0' is none"):
        scaling.plan(rule, mlp, mlp, optimizer="sgd")
