"""What was enqueued for one version of the space and comes up under another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunewright.core.constraints import Linear
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.space import Space
from tunewright.errors import SpaceError
from tunewright.study import Study

SPACE = Space(x=Float(0, 1), c=Choice(["a", "b"]))


@pytest.fixture(params=["memory", "sqlite"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    where = {} if request.param == "memory" else {"storage": f"sqlite:///{tmp_path / 's.db'}"}
    with Study.open("queued", SPACE, minimize="loss", method="random", **where) as study:
        yield study


def configs(study: Study, n: int) -> list[dict[str, Any]]:
    out = []
    for _ in range(n):
        trial = study.ask()
        out.append(dict(trial.params))
        study.tell(trial, {"loss": 1.0})
    return out


def test_an_item_that_no_longer_fits_is_put_aside_and_says_why(study: Study) -> None:
    study.enqueue({"c": "b", "x": 0.9})
    study.enqueue({"x": 0.9})
    study.enqueue({"x": 0.25})
    study.enqueue({"c": "a"})
    study.edit(Space(x=Float(0, 0.5), c=Choice(["a"]), n=Int(1, 3)))
    served = configs(study, 3)
    assert (served[0]["x"], served[1]["c"]) == (0.25, "a")
    assert all(set(c) == {"x", "c", "n"} for c in served)
    first, second = study.trials[:2]
    assert (first.status, second.status) == ("invalid", "invalid")
    assert "another version of the space. 'x' must be a number in [0.0, 0.5]; got 0.9" in first.error
    assert study.replay().skipped >= 4


def test_what_breaks_a_constraint_is_refused_at_once(study: Study) -> None:
    study.edit(Space({"x": Float(0, 1), "y": Float(0, 1)}, constraints=[Linear({"x": 1, "y": 1}, 1.0)]))
    with pytest.raises(SpaceError, match="must satisfy the constraints"):
        study.enqueue({"x": 0.9, "y": 0.9})
    study.enqueue({"x": 0.9})
    (config,) = configs(study, 1)
    assert config["x"] == 0.9
    assert config["y"] <= 0.1 + 1e-9
