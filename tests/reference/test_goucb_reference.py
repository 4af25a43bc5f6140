"""The ball of weights against its definition, solved by NumPy in the space of weights."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models.parametric import NOISE, Network, ball


def test_centre_and_deviation_are_those_of_the_definition() -> None:
    # Liu and Wang 2023, arXiv:2211.09100, eq. 4 and 5: Sigma = ridge I + sum g g', and the centre is the ridge
    # regression on the linearised network; here by a dense solve instead of the dual.
    rng = np.random.default_rng(3)
    net = Network(2, 3)
    anchor, x, y = rng.standard_normal(net.size), rng.standard_normal((9, 2)), rng.standard_normal(9)
    found = ball(net, anchor, x, y)
    g = net.jacobian(x, anchor)
    sigma = found.ridge * np.eye(net.size) + g.T @ g
    centre = np.linalg.solve(sigma, g.T @ (y - net.values(x, anchor) + g @ anchor) + found.ridge * anchor)
    assert found.centre == pytest.approx(centre, rel=1e-7, abs=1e-9)
    at = rng.standard_normal((4, 2))
    h = net.jacobian(at, anchor)
    expected = np.sqrt(NOISE * np.einsum("ij,ij->i", h, np.linalg.solve(sigma, h.T).T))
    assert found.deviation(at) == pytest.approx(expected, rel=1e-6)
