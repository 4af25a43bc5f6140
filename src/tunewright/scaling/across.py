"""A model beside a base that may be another network: what the rule by graphs is asked about, and the graphs that it goes by."""

from __future__ import annotations

import math
from dataclasses import replace

from tunewright.errors import ConfigError
from tunewright.scaling.graph import Graph, checked, rate_factor
from tunewright.scaling.growth import Grown
from tunewright.scaling.rules.architecture import ArchitectureAware, kernel_side
from tunewright.scaling.rules.base import Role, Tensor
from tunewright.scaling.tensors import Shapes, Weight, default_std


def fitted(rule: ArchitectureAware, model: Shapes, base: Shapes) -> tuple[ArchitectureAware, Grown]:
    """The rule with both graphs, and every weight of the model in the role that it has in its graph.

    Args:
        rule: With graphs of its own, or without.
        model: With its graph, unless the rule has one.
        base: Likewise.

    Raises:
        ConfigError: If a graph is missing, does not fit its model or has no hidden layer, or a weight is of no layer.
    """
    graph = rule.graph or checked(model.graph)
    tuned = rule.base_graph or checked(base.graph)
    for found, shapes in ((graph, model), (tuned, base)):
        unknown = [n for n in found.in_degrees if f"{n}.weight" not in shapes.weights]
        if unknown:
            raise ConfigError(
                f"Layers of a graph must be modules of the model with a weight; {unknown[0]!r} is none. Name them as "
                "model.named_modules() does."
            )
    rate_factor(graph, tuned)
    kernels = {n: kernel_side(base.weights[f"{n}.weight"].shape) for n in tuned.in_degrees}
    growth = _width(model, graph) / _width(base, tuned)
    tensors = {n: _tensor(n, w, graph, growth) for n, w in model.weights.items()}
    notes = tuple(
        f"{n} is frozen: it keeps its values and gets no rate." for n, w in model.weights.items() if w.frozen
    )
    return replace(rule, graph=graph, base_graph=tuned, kernels=kernels), Grown(tensors, {}, {}, {}, notes)


def _width(model: Shapes, graph: Graph) -> float:
    """Inputs of the last layers, the mean."""
    return sum(model.weights[f"{n}.weight"].shape[1] for n in graph.last) / len(graph.last)


def _tensor(name: str, weight: Weight, graph: Graph, growth: float) -> Tensor:
    layer, _, kind = name.rpartition(".")
    role: Role = "vector"
    if layer in graph.in_degrees and kind == "weight":
        role = "output" if layer in graph.last else "input" if layer in graph.first else "hidden"
    elif layer in graph.last:
        role = "scalar"
    elif len(weight.shape) > 1:
        raise ConfigError(
            f"architecture-aware is for networks of linear layers and convolutions; {name} is of another kind. Take mup or depth-mup."
        )
    fans = (math.prod(weight.shape[1:]) if len(weight.shape) > 1 else 1, weight.shape[0])
    growths = (growth if role == "output" else 1.0, growth if role in ("input", "vector") else 1.0)
    known = default_std(weight, name)
    own = known if weight.constant is None and known is not None else weight.std
    uniform = role in ("vector", "scalar") and known is not None
    return Tensor(name, weight.shape, role, weight.owner, *fans, *growths, own, own, uniform=uniform)
