"""What every scheduler owes once a study has all its trials: nothing new is begun, what waits goes on, and it ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunewright import catalog
from tunewright.core.algorithm import Start
from tunewright.core.closing import closed
from tunewright.core.problem import Fidelity, Problem

sys.path.insert(0, str(Path(__file__).parent))
from simulator import Simulator
from test_algorithms import FLAT, make, objective

SCHEDULERS = [m.name for m in catalog.METHODS.values() if m.kind == "scheduler"]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_full_study_comes_to_an_end(name: str) -> None:
    problem = Problem(FLAT, fidelity=Fidelity(9), seed=4)
    world = Simulator(make(name, problem), problem, objective, workers=2, chaos=5, failing=0.05).run(15)
    begun = world.ledger.begun
    world.algorithm, decided = closed(world.algorithm), len(world.decided)
    world.run(10_000, events=4000)
    starts = [a for _, _, actions in world.decided[decided:] for a in actions if isinstance(a, Start)]
    assert all(s.parent is not None and s.parent[1] > 0 for s in starts)
    assert world.ledger.begun == begun
    assert world.finished, f"it still runs after {len(world.log)} events"
    assert not world.ledger.running
