"""What every scheduler owes when full trainings become longer in the middle of a study."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tunewright import catalog
from tunewright.core.events import decode_event, encode_event
from tunewright.core.problem import Fidelity, Problem
from tunewright.schedulers.pasha import Pasha

sys.path.insert(0, str(Path(__file__).parent))
from simulator import Simulator
from test_algorithms import FLAT, THINKERS, make, objective, same

SCHEDULERS = [m.name for m in catalog.METHODS.values() if m.kind == "scheduler"]


def extended(name: str, high: int, seed: int = 3) -> Simulator:
    """A study of trainings of nine steps that get more when about half of it is done."""
    problem = Problem(FLAT, fidelity=Fidelity(9), seed=seed)
    world = Simulator(make(name, problem), problem, objective, workers=2, chaos=2, failing=0.05)
    few = name in THINKERS
    world.run(12 if few else 30)
    world.extend(high)
    return world.run(40 if few else 120, events=700 if few else 2500)


@pytest.fixture(
    scope="module", params=[*((n, 27) for n in SCHEDULERS), ("asha", 20), ("hyperband", 20)], ids=str
)
def world(request: pytest.FixtureRequest) -> Simulator:
    return extended(*request.param)


def test_trainings_go_beyond_their_former_end(world: Simulator) -> None:
    if isinstance(world.algorithm, Pasha):
        pytest.skip("Pasha trains longer when rankings change, and those of this objective never do.")
    assert max(t.step for t in world.ledger.trials) > 9
    assert all(t.step <= world.problem.fidelity.high for t in world.ledger.trials if world.problem.fidelity)


def test_a_fresh_process_comes_to_the_same_state(world: Simulator) -> None:
    fresh: Any = world.algorithm.init(world.problem)
    fresh = world.algorithm.tell(fresh, [decode_event(encode_event(e)) for e in world.news])
    assert same(fresh, world.state)
