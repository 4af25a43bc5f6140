"""Constants of the swarm against the formula of Clerc and Kennedy."""

from __future__ import annotations

import math

import pytest

from tunewright.samplers.pso import INERTIA, PULL


def test_the_constants_are_those_of_the_constriction():
    # Clerc and Kennedy 2002, section V: chi = 2 / |2 - phi - sqrt(phi^2 - 4 phi)|, phi = 4.1 split in two equal pulls.
    phi = 4.1
    chi = 2.0 / abs(2.0 - phi - math.sqrt(phi * phi - 4.0 * phi))
    assert pytest.approx(chi, abs=5e-5) == INERTIA
    assert pytest.approx(chi * phi / 2.0, abs=5e-5) == PULL


def test_the_constants_make_a_swarm_settle():
    # Poli 2009 (IEEE TEC 13(4)), order-2 stability: phi < 24 (1 - w^2) / (7 - 5 w), for phi = 2 PULL.
    assert 2.0 * PULL < 24.0 * (1.0 - INERTIA**2) / (7.0 - 5.0 * INERTIA)
