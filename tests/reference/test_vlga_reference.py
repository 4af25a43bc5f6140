"""Selection, inheritance and mutation of the variable-length genetic algorithm against closed forms, by chi-squared of SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunewright.core.algorithm import generator
from tunewright.core.constraints import Range
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.samplers.vlga import Vlga

MEMBERS = 6
GENES = 7
# Every member carries its own option in every gene, so that a child shows whose genes it has.
MARKED = Space({**{f"g{j}": Choice(list(range(MEMBERS))) for j in range(GENES)}, "x": Float(0, 1)})


def told(vlga, space, configs, losses):
    state = vlga.init(Problem(space))
    for i, (config, loss) in enumerate(zip(configs, losses, strict=True)):
        state = vlga.tell(state, [Started(i, config), Ended(i, 0, "completed", {"loss": float(loss)})])
    return state


def children(vlga, state, n, seed=0):
    return [a.config for a in vlga.ask(state, n, generator(seed, 0))]


def marked_children(n):
    vlga = Vlga(size=MEMBERS, phases=1)
    configs = [{**{f"g{j}": i for j in range(GENES)}, "x": 0.5} for i in range(MEMBERS)]
    found = children(vlga, told(vlga, MARKED, configs, range(MEMBERS)), n)
    return np.array([[c[f"g{j}"] for j in range(GENES)] for c in found])


def test_parents_win_binary_tournaments():
    # Goldberg and Deb 1991: the member of rank i of n wins a tournament of two with chance (2 (n - i) + 1) / n^2. A gene is
    # then mutated with chance 1 / d (Xiao et al. 2020, section III, mutation), to any other option alike.
    genes = marked_children(6000)
    rank = np.arange(1, MEMBERS + 1)
    wins = (2.0 * (MEMBERS - rank) + 1.0) / MEMBERS**2
    assert wins.sum() == pytest.approx(1.0)
    rate = 1.0 / (GENES + 1)
    chance = (1.0 - rate) * wins + rate * (1.0 - wins) / (MEMBERS - 1)
    # Genes of one child depend on each other: one gene each.
    for gene in (0, GENES - 1):
        counts = np.bincount(genes[:, gene], minlength=MEMBERS)
        assert stats.chisquare(counts, chance * len(genes)).pvalue > 0.01


def test_a_child_is_crossed_nine_times_in_ten():
    # Two genes come from the same parent unless crossover (chance 0.9, Deb et al. 2002, section V) swaps one of them alone
    # (chance 1/2), and both parents differ; neither may be mutated. In closed form, without mutations that agree by accident.
    genes = marked_children(6000)
    rank = np.arange(1, MEMBERS + 1)
    wins = (2.0 * (MEMBERS - rank) + 1.0) / MEMBERS**2
    same = float((wins**2).sum())
    rate = 1.0 / (GENES + 1)
    alike = same + (1.0 - same) * (0.1 + 0.9 * 0.5)
    chance = (1.0 - rate) ** 2 * alike
    # One of two mutated: it agrees if it differed before and is drawn, one of n - 1. Both: as often from either state.
    n = MEMBERS
    chance += 2.0 * rate * (1.0 - rate) * (1.0 - alike) / (n - 1)
    chance += rate**2 * (alike / (n - 1) + (1.0 - alike) * (n - 2) / (n - 1) ** 2)
    found = int((genes[:, 0] == genes[:, 1]).sum())
    assert stats.binomtest(found, len(genes), chance).pvalue > 0.01


def test_genes_of_a_longer_child_come_from_the_longer_parent():
    # Xiao et al. 2020, section III, crossover: parents of unequal lengths exchange the genes that both have. The rest of a child as long as
    # its longer parent is that parent's; a mutation changes a gene in one of ten (d = 10), so 9 of 10 are kept.
    space = Space(
        {"layers": Int(1, 8), **{f"w{i}": Choice(["a", "b", "c"]) for i in range(1, 9)}, "x": Float(0, 1)},
        when={f"w{i}": {"layers": Range(i, None)} for i in range(2, 9)},
    )
    vlga = Vlga(size=2, phases=1)
    long = {"layers": 8, **{f"w{i}": "b" for i in range(1, 9)}, "x": 0.5}
    short = {"layers": 2, "w1": "c", "w2": "c", "x": 0.5}
    state = told(vlga, space, [long, short], [0.0, 1.0])
    found = [c for c in children(vlga, state, 3000) if c["layers"] == 8]
    tail = [c["w8"] == "b" for c in found]
    assert stats.binomtest(sum(tail), len(tail), 0.9).pvalue > 0.01
