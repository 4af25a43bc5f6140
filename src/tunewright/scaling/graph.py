"""The graph of a network: how many ways lead from input to output, how long they are, and how many terms every sum has.

*Paper*: Chen, Wu, Wang and Hanin 2024, arXiv:2402.17440, sections 3.1 to 3.3. The depth of a path is the number of its layers
with weights but the last, which is that of its ReLUs in the paper's networks.

*Differs*: the terms of a sum are counted where a layer's output goes. Equation 4 of the paper has the index of where its input
comes from; its derivation (equation 11) and its text count what flows in, and only so do all sums have one variance.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Graph:
    """What a rate needs to know of a network's graph.

    Attributes:
        paths: Pairs of a depth and of the number of paths of that depth from an input to an output, in order of depth.
        in_degrees: For every layer, by the name of its module: terms of the sum that its output goes into, 1 if it goes into none.
        first: Layers that see the input.
        last: Layers that make the output.
    """

    paths: tuple[tuple[int, float], ...]
    in_degrees: dict[str, int]
    first: tuple[str, ...]
    last: tuple[str, ...]

    @property
    def cubes(self) -> float:
        """The sum of the cubes of all paths' depths."""
        return float(sum(count * depth**3 for depth, count in self.paths))

    @property
    def width(self) -> float:
        """Paths from an input to an output."""
        return float(sum(count for _, count in self.paths))


def from_edges(edges: Iterable[tuple[str, str, str | None]]) -> Graph:
    """The graph of a network that is described by its vertices.

    Args:
        edges: Each from a vertex to a vertex, with the name of the module of the layer on it, or None if it passes on what it
            gets. What comes into a vertex is added up.

    Raises:
        ConfigError: If there are no edges, two edges have one layer's name, or the edges make a circle.

    Example:
        A hidden layer beside which another passes its input to the readout:

        >>> graph = from_edges([("x", "h", "a"), ("h", "y", "b"), ("x", "y", "c")])
        >>> graph.paths, graph.in_degrees
        (((0, 1.0), (1, 1.0)), {'a': 1, 'b': 2, 'c': 2})
    """
    listed = list(edges)
    layers = [layer for _, _, layer in listed if layer is not None]
    if not layers:
        raise ConfigError(
            "A graph needs edges with layers; got none. Pass triples of source, target and module."
        )
    if len(set(layers)) < len(layers):
        twice = next(n for n in layers if layers.count(n) > 1)
        raise ConfigError(
            f"Every layer must be on one edge; {twice!r} is on two. Name the second one differently."
        )
    before: dict[str, list[str]] = {}
    for i, (source, target, layer) in enumerate(listed):
        into = f"vertex {target}"
        node = f"edge {i}" if layer is None else f"layer {layer}"
        before.setdefault(f"vertex {source}", [])
        before[node] = [f"vertex {source}"]
        before.setdefault(into, []).append(node)
    named = {f"layer {n}": n for n in layers}
    sums = {n for n in before if n.startswith("vertex ")}
    inputs = {n for n in sums if not before[n]}
    ends = sums - {n for sources in before.values() for n in sources}
    found = _graph(_ordered(before), named, sums, inputs, ends)
    terms = Counter(target for _, target, _ in listed)
    return replace(
        found, in_degrees={layer: terms[target] for _, target, layer in listed if layer is not None}
    )


def trace(model: nn.Module) -> Graph:
    """The graph of a model, by following its ``forward`` with symbols instead of numbers (``torch.fx``).

    Args:
        model: A module whose layers are ``nn.Linear`` and convolutions, also on the meta device. Sums are ``+``, ``torch.add``
            and ``sum`` of what is listed.

    Raises:
        ConfigError: If its forward cannot be followed, because what it does depends on shapes or values.
    """
    import torch
    from torch import fx, nn

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    try:
        traced = fx.symbolic_trace(model)
    except Exception as error:
        raise ConfigError(
            f"The graph of {type(model).__name__} cannot be found by following its forward, since it depends on shapes or values "
            f"({type(error).__name__}). Describe it: tunewright.scaling.graph.from_edges([('x', 'h', 'layer'), ...])."
        ) from error
    modules = dict(traced.named_modules())
    adds = {operator.add, operator.iadd, torch.add, "add", "add_"}
    before: dict[str, list[str]] = {}
    named: dict[str, str] = {}
    sums: set[str] = set()
    inputs: set[str] = set()
    outputs: set[str] = set()
    for node in traced.graph.nodes:
        before[node.name] = [n.name for n in node.all_input_nodes]
        if node.op == "placeholder":
            inputs.add(node.name)
        elif node.op == "output":
            outputs.add(node.name)
        elif node.op == "call_module" and isinstance(modules[str(node.target)], kinds):
            named[node.name] = str(node.target)
        elif node.target in adds:
            sums.add(node.name)
    if not named:
        raise ConfigError(
            f"A graph needs layers; the forward of {type(model).__name__} calls no nn.Linear and no convolution. Describe it with "
            "tunewright.scaling.graph.from_edges."
        )
    return _graph(before, named, sums, inputs, outputs)


def _ordered(before: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The same with every node after those that it comes from."""
    out: dict[str, list[str]] = {}
    left = dict(before)
    while left:
        ready = [n for n, sources in left.items() if all(s in out for s in sources)]
        if not ready:
            raise ConfigError(
                "A graph must lead from input to output without circles; these edges make one. Remove an edge of it."
            )
        for n in ready:
            out[n] = left.pop(n)
    return out


def _graph(
    before: Mapping[str, list[str]],
    named: Mapping[str, str],
    sums: set[str],
    inputs: set[str],
    outputs: set[str],
) -> Graph:
    """Counts paths by the layers on them, node by node.

    Args:
        before: For every node, in order: those that it comes from.
        named: The nodes that are layers.
        sums: The nodes that add up what comes in.
        inputs: The nodes that paths begin at.
        outputs: The nodes that they end at.
    """
    after: dict[str, list[str]] = {n: [] for n in before}
    for n, sources in before.items():
        for s in sources:
            after[s].append(n)
    counts: dict[str, dict[int, float]] = {}
    for n, sources in before.items():
        mine: dict[int, float] = {0: 1.0} if n in inputs else {}
        for s in sources:
            for layers, count in counts[s].items():
                now = layers + (n in named)
                mine[now] = mine.get(now, 0.0) + count
        counts[n] = mine
    paths: dict[int, float] = {}
    for n in outputs:
        for layers, count in counts[n].items():
            depth = max(layers - 1, 0)
            paths[depth] = paths.get(depth, 0.0) + count
    # Whether a node leads to an output, and whether it does so through a layer.
    leads: dict[str, bool] = {}
    beyond: dict[str, bool] = {}
    for n in reversed(list(before)):
        leads[n] = n in outputs or any(leads[m] for m in after[n])
        beyond[n] = any((m in named and leads[m]) or beyond[m] for m in after[n])
    degrees = {name: _terms(n, before, after, named, sums) for n, name in named.items()}
    first = {named[n] for n in named if 1 in counts[n]}
    last = {named[n] for n in named if leads[n] and not beyond[n]}
    return Graph(tuple(sorted(paths.items())), degrees, tuple(sorted(first)), tuple(sorted(last)))


def _terms(
    node: str,
    before: Mapping[str, list[str]],
    after: Mapping[str, list[str]],
    named: Mapping[str, str],
    sums: set[str],
) -> int:
    """Terms of the first sum that a layer's output reaches, before it is used twice or by another layer."""
    while node not in sums or len(before[node]) < 2:
        if len(after[node]) != 1 or after[node][0] in named:
            return 1
        node = after[node][0]
    # a + b + c is two nodes; a sum that is used elsewhere too is a vertex of its own.
    while len(after[node]) == 1 and after[node][0] in sums:
        node = after[node][0]
    return _leaves(node, before, after, sums)


def _leaves(
    node: str, before: Mapping[str, list[str]], after: Mapping[str, list[str]], sums: set[str]
) -> int:
    return sum(
        _leaves(s, before, after, sums) if s in sums and before[s] and len(after[s]) == 1 else 1
        for s in before[node]
    )


def rate_factor(target: Graph, tuned: Graph) -> float:
    """What the rate that was tuned on one graph is multiplied by for another (equation 8): the root of the cubes' ratio.

    Raises:
        ConfigError: If a graph has no path through a hidden layer.
    """
    for graph in (target, tuned):
        if not graph.cubes:
            raise ConfigError(
                "A graph must have a path through a hidden layer, or there is no depth to go by; got paths of depth 0 only. Take "
                "another rule for a linear model."
            )
    return float((tuned.cubes / target.cubes) ** 0.5)


def checked(found: Any) -> Graph:
    """A graph that must be there.

    Raises:
        ConfigError: If it is not.
    """
    if isinstance(found, Graph):
        return found
    raise ConfigError(
        "architecture-aware needs the graph of both models; saved shapes have it only from scaling.shapes(model, graph=True). Save "
        "them so, or pass the models."
    )
