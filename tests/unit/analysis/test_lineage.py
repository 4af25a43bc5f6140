from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunewright.analysis.lineage import Piece, Schedule, ancestors, lineage, render
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Event, Paused, Record, Reported, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.core.trial import Ledger, Trial
from tunewright.errors import ConfigError


def family() -> list[Trial]:
    """Trial 0 is copied at step 4, its copy 2 at step 6, and that one's copy 3 at once; 1 is a stranger."""
    ledger = Ledger(Problem(Space(lr=Float(0, 1)), fidelity=Fidelity(10)))
    events: list[Event] = [
        Started(0, {"lr": 0.5}, 4),
        Reported(0, 1, 4, {"loss": 4.0}),
        Paused(0, 1, 4),
        Started(1, {"lr": 0.9}, 4),
        Reported(1, 4, 3, {"loss": 9.0}),
        Ended(1, 4, "stopped", step=3),
        Started(2, {"lr": 0.4}, 6, (0, 4)),
        Reported(2, 7, 6, {"loss": 3.0}),
        Paused(2, 7, 6),
        Started(3, {"lr": 0.3}, 8, (2, 6)),
        Started(4, {"lr": 0.2}, 8, (3, 6)),
        Reported(4, 11, 8, {"loss": 2.0}),
        Ended(4, 11, "completed", {"loss": 2.0}, 8),
        Started(5, {"lr": 0.2}, None, (4, 0), why={"replicate_of": 4, "seed": 1}),
    ]
    for seq, event in enumerate(events, 1):
        ledger.apply(Record(seq, 0.0, "", event))
    return ledger.trials


def test_a_lineage_goes_back_to_the_first_ancestor() -> None:
    trials = family()
    assert [t.number for t in ancestors(trials, 4)] == [0, 2, 3, 4]
    assert [t.number for t in ancestors(trials, 1)] == [1]
    assert [t.number for t in ancestors(trials, 5)] == [5]
    with pytest.raises(ConfigError, match="a trial of the study; got 6"):
        ancestors(trials, 6)


def test_the_schedule_has_a_piece_for_each_ancestor_that_was_trained() -> None:
    schedule = lineage(family(), 4)
    # Trial 3 was copied at the step it began at: nothing was trained with its 0.3.
    assert schedule.pieces == (
        Piece(0, {"lr": 0.5}, 0),
        Piece(4, {"lr": 0.4}, 2),
        Piece(6, {"lr": 0.2}, 4),
    )
    assert schedule.steps == 8
    assert [schedule.at(s)["lr"] for s in (0, 3, 4, 5, 6, 7, 99)] == [0.5, 0.5, 0.4, 0.4, 0.2, 0.2, 0.2]
    assert schedule.values("lr") == [(0, 0.5), (4, 0.4), (6, 0.2)]
    assert schedule.values("none") == []
    assert lineage(family(), 1).steps == 3


def test_a_schedule_survives_a_file(tmp_path: Path) -> None:
    schedule = lineage(family(), 4)
    schedule.save(tmp_path / "schedule.json")
    assert Schedule.load(tmp_path / "schedule.json") == schedule
    assert Schedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule
    assert [p.name for p in tmp_path.iterdir()] == ["schedule.json"]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"format": "tunewright.schedule/2", "steps": 3, "pieces": [{"start": 0, "config": {}}]},
        {"format": "tunewright.schedule/1", "steps": 3, "pieces": []},
        {"format": "tunewright.schedule/1", "steps": 3, "pieces": [{"start": 1, "config": {}}]},
        {"format": "tunewright.schedule/1", "steps": 3, "pieces": [{"start": 0}]},
        {"format": "tunewright.schedule/1", "steps": "3", "pieces": [{"start": 0, "config": {}}]},
    ],
)
def test_what_is_no_schedule_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Schedule.from_dict(data)


def test_files_and_steps_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    (tmp_path / "torn").write_bytes(b'{"format"')
    for name in ("torn", "absent"):
        with pytest.raises(ConfigError, match="read from the file"):
            Schedule.load(tmp_path / name)
    with pytest.raises(ConfigError, match="from 0; got -1"):
        lineage(family(), 1).at(-1)
    with pytest.raises(ConfigError, match="follow on each other"):
        Schedule((Piece(0, {}), Piece(4, {}), Piece(4, {})), 9)


def test_the_family_tree_shows_steps_changes_and_results() -> None:
    assert render(family(), best=4).splitlines() == [
        "*0  to step 4  lr=0.5  loss=4 (paused)",
        "└─ *2  from step 4 to 6  lr=0.4  loss=3 (paused)",
        "   └─ *3  from step 6 to 6  lr=0.3   (running)",
        "      └─ *4  from step 6 to 8  lr=0.2  loss=2",
        " 1  to step 3  lr=0.9  loss=9 (stopped)",
        " 5  to step 0  lr=0.2   (running)",
    ]
    assert render(family(), describe=lambda t: "", most=2).splitlines()[-1] == "... and 4 more"
