"""Configurations near another one, for trainings that go on with other settings."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.domains import Choice, Float, Int, Order
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.explore import explored, settled

SPACE = Space(
    kind=Choice(
        {"net": {"lr": Float(1e-4, 1.0, log=True), "width": Int(8, 256)}, "tree": {"depth": Int(1, 9)}}
    ),
    batch=Order([16, 32, 64, 128]),
)
NET = {"kind": "net", "lr": 0.1, "width": 32, "batch": 32}


def drawn(n: int, **settings: object) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    return [SPACE.decode(explored(SPACE, NET, rng, **settings)) for _ in range(n)]  # type: ignore[arg-type]


def test_numbers_are_multiplied_and_orders_move_to_a_neighbour() -> None:
    found = drawn(50, resample=0.0)
    assert {round(float(c["lr"]), 9) for c in found} == {0.08, 0.12}  # type: ignore[arg-type]
    assert {c["width"] for c in found} == {26, 38}
    assert {c["batch"] for c in found} == {16, 64}


def test_what_decides_about_other_parameters_never_changes() -> None:
    assert {c["kind"] for c in drawn(50, resample=1.0)} == {"net"}


def test_named_parameters_stay_and_others_are_drawn_anew() -> None:
    found = drawn(50, resample=1.0, fixed=("width", "batch"))
    assert {(c["width"], c["batch"]) for c in found} == {(32, 32)}
    assert len({c["lr"] for c in found}) == 50


def test_a_name_that_is_none_of_the_space_is_refused() -> None:
    with pytest.raises(ConfigError, match="fixed must name parameters"):
        settled(SPACE, ("height",))
