"""The bound against a textbook's example, and bisection against its closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunewright.core.domains import Order
from tunewright.core.space import Space
from tunewright.models.decisions import decide, spots_of
from tunewright.samplers.mcts import uct


@pytest.mark.parametrize(("constant", "winner"), [(1.4, (60, 79)), (1.5, (2, 11))])
def test_which_child_has_the_largest_bound(constant, winner):
    # Russell and Norvig 2020, Artificial Intelligence, 4th edition, section 5.4, figure 5.10: children with 60 wins of
    # 79, 1 of 10 and 2 of 11 under a root of 100; UCB1 = U / N + C sqrt(log N(parent) / N).
    children = [(60, 79), (1, 10), (2, 11)]
    bounds = [uct(u / n, n, 100, constant / math.sqrt(2.0)) for u, n in children]
    assert children[int(np.argmax(bounds))] == winner


@pytest.mark.parametrize("k", [1, 2, 3, 5, 8, 32, 100])
def test_the_depth_of_bisection(k):
    # Knuth, The Art of Computer Programming 3, section 6.2.1, theorem B: between floor and ceiling of log2 k decisions, and
    # in all k (floor(lg k) + 2) - 2^(floor(lg k) + 1) of them, the least external path length of a binary tree.
    spots = spots_of(Space(o=Order(list(range(k)))), 32, True)
    depths = []
    for i in range(k):
        walk = decide(spots, np.array([(i + 0.5) / k]))
        step, depth = next(walk, None), 0
        while step is not None:
            depth += 1
            try:
                step = walk.send(step[1])
            except StopIteration:
                step = None
        depths.append(depth)
    level = int(math.log2(k))
    assert sum(depths) == k * (level + 2) - 2 ** (level + 1)
    assert max(depths) == math.ceil(math.log2(k))
