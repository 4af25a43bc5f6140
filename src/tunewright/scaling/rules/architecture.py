"""Architecture-aware scaling: first values and rates from the graph of a network, so that they hold for other graphs too.

*Use when*: networks of ReLUs with different depths, connections or kernels are trained by gradient descent and each should get
the rate that suits it, as when architectures are compared; the rate is tuned on one of them, the smallest say.

*Do not use when*: layers are normalized (the paper, section 5), blocks are those of a transformer, or Adam trains.

*Paper*: Chen, Wu, Wang and Hanin 2024, arXiv:2402.17440, equations 2, 4, 8 and 9.

*Differs*: terms of sums are counted at the target of a layer (see ``scaling.graph``). Of a kernel the side counts, as in the
authors' experiments; equation 9 is for images of one dimension. The paper leaves the width alone; here rates of the first and
last layers follow muP for gradient descent, which its first values are those of. The authors' code counts depths otherwise than
equation 8, as layers of a cell and three more beside a base of three, so that its rates vary less. In this project's check
(``architecture_aware``) the best rate of chains of 4 to 10 layers fell as the depth to the power -.8, in step with the rule's -1.5;
that of cells with skips, whose sums no first values hold, did not follow the rule. Training at the rule's rates ended lower in the
mean than at the base's: take them as safe, not as best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tunewright.scaling.graph import Graph, checked, rate_factor
from tunewright.scaling.rules.base import Scales, Setting, Tensor


@dataclass(frozen=True, slots=True)
class ArchitectureAware:
    """For a layer of fan-in f, into a sum of d terms, and r being the root of the base's cubes of path depths over this one's:

    =======  ========================  ====================================================
    role     standard deviation        rate with SGD
    =======  ========================  ====================================================
    input    root of 2 / (f d)         r, times growth of the width
    hidden   root of 2 / (f d)         r, over growth of the kernel's side
    output   root of (2 / d), over f   r, over growth of the width
    vector   the model's own           r, times growth of the width
    =======  ========================  ====================================================

    The base may be any network: the one whose rate was tuned. First values do not depend on it.

    Attributes:
        graph: Of the model, where its forward cannot be followed; by default it is traced.
        base_graph: Of the base, likewise.
        kernels: The base's kernel sides by layer; filled in when a plan is made.
    """

    graph: Graph | None = None
    base_graph: Graph | None = None
    kernels: Mapping[str, float] = field(default_factory=dict)
    name: str = "architecture-aware"
    paper: str = "Chen et al. 2024, arXiv:2402.17440"
    optimizers: frozenset[str] = frozenset({"sgd"})
    transfers: frozenset[str] = frozenset({"width", "depth", "graph"})

    def scales(self, tensor: Tensor, setting: Setting) -> Scales:
        """See the table of the class."""
        graph, tuned = checked(self.graph), checked(self.base_graph)
        rate = rate_factor(graph, tuned)
        layer = tensor.name.rpartition(".")[0]
        if tensor.role in ("vector", "scalar"):
            lr = rate * tensor.out_growth
            return Scales(tensor.own_std, lr, 1 / lr)
        kernel = 1.0
        if tensor.owner == "conv":
            kernel = self._kernel(layer) / kernel_side(tensor.shape)
        lr = rate * kernel * tensor.out_growth / tensor.in_growth
        std = (2 / graph.in_degrees[layer]) ** 0.5 * setting.tuned.init
        std /= tensor.fan_in if tensor.role == "output" else tensor.fan_in**0.5
        return Scales(std, lr, 1 / lr)

    def branch(self, setting: Setting) -> float:
        """Nothing but what was tuned: sums are held by first values."""
        return setting.tuned.residual

    def attention(self, growth: float, setting: Setting) -> float:
        """Nothing but what was tuned."""
        return setting.tuned.attention

    def _kernel(self, layer: str) -> float:
        """Side of the kernel that the rate was tuned with: that of the layer of that name, or the mean over convolutions."""
        if layer in self.kernels:
            return self.kernels[layer]
        sides = [s for s in self.kernels.values() if s > 1]
        return math.exp(sum(map(math.log, sides)) / len(sides)) if sides else 1.0


def kernel_side(shape: tuple[int, ...]) -> float:
    """Of a weight's kernel, the geometric mean if its sides differ; 1 for a matrix."""
    return float(math.prod(shape[2:]) ** (1 / max(len(shape) - 2, 1)))


ARCHITECTURE_AWARE = ArchitectureAware()
