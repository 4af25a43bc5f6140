"""Fronts, survivors and weights against numbers from books and papers."""

import math

import numpy as np
import pytest

from tunewright.bench.multiobjective import curve_of, front_task
from tunewright.numerics.pareto import crowding_distance, epsilon, fronts, inverted_generational_distance
from tunewright.samplers.moead import lattice

# Deb 2001, "Multi-Objective Optimization using Evolutionary Algorithms", section 6.2: the Min-Ex problem, parents 1 to 6
# and offspring a to f; the second loss is (1 + x2) / x1.
X = np.array(
    [[0.31, 0.89], [0.43, 1.92], [0.22, 0.56], [0.59, 3.63], [0.66, 1.41], [0.83, 2.51]]
    + [[0.21, 0.24], [0.79, 2.14], [0.51, 2.32], [0.27, 0.87], [0.58, 1.62], [0.24, 1.05]]
)
NAMES = np.array(list("123456abcdef"))
LOSSES = np.column_stack([X[:, 0], (1.0 + X[:, 1]) / X[:, 0]])


def test_the_fronts_and_the_crowding_of_debs_example():
    number = fronts(LOSSES)
    assert ["".join(NAMES[number == k]) for k in range(number.max() + 1)] == ["5ae", "13bd", "26cf", "4"]
    # Of the second front the ends 3 and b stay, and 1 rather than d.
    second = np.flatnonzero(number == 1)
    order = np.argsort(-crowding_distance(LOSSES[second]), kind="stable")
    assert sorted(NAMES[second[order[:2]]]) == ["3", "b"]
    assert NAMES[second[order]].tolist()[2:] == ["1", "d"]


@pytest.mark.parametrize(
    ("name", "volume"),
    # Integrals of the fronts' formulas (Zitzler et al. 2000): 121 - 1/3, 121 - 2/3; ZDT3 as documented in BoTorch.
    [("zdt1", 121 - 1 / 3), ("zdt4", 121 - 1 / 3), ("zdt2", 121 - 2 / 3), ("zdt3", 128.77811613069076)],
)
def test_hypervolumes_of_zdt(name, volume):
    assert front_task(name).volume == pytest.approx(volume, abs=2e-4)


def test_hypervolumes_of_dtlz():
    # Volume under a simplex and a sphere (Deb et al. 2005, section 6.7).
    assert front_task("dtlz1", m=3).volume == pytest.approx(0.216 - 0.125 / 6.0)
    assert front_task("dtlz2", m=3).volume == pytest.approx(1.331 - math.pi / 6.0)


@pytest.mark.parametrize(
    ("m", "wanted", "parts", "count"),
    # Zhang and Li 2007, section V-C: N = 100 with H = 99 for two objectives, N = 300 with H = 23 for three.
    [(2, 100, 99, 100), (3, 300, 23, 300)],
)
def test_the_lattice_of_weights(m, wanted, parts, count):
    weights = lattice(m, wanted)
    assert len(weights) == count
    np.testing.assert_allclose(np.unique(np.round(weights * parts, 9)), np.arange(parts + 1))


def test_indicators():
    # Ishibuchi et al. 2015, section 2: points that dominate the front are at distance 0 from it.
    front = curve_of("zdt1", 50)
    assert inverted_generational_distance(front - 0.1, front) == 0.0
    assert inverted_generational_distance(np.array([[3.0, 4.0]]), np.zeros((1, 2))) == 5.0
    assert inverted_generational_distance(np.array([[3.0, -4.0]]), np.zeros((1, 2))) == 3.0
    # Zitzler et al. 2003: additive epsilon of a front moved by 0.2 is 0.2, and of a better one is negative.
    assert epsilon(front + 0.2, front) == pytest.approx(0.2)
    assert epsilon(front - 0.2, front) < 0.0
