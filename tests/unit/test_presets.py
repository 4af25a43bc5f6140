"""Entries of the catalogue that are another method with other settings."""

from __future__ import annotations

from tunewright import catalog
from tunewright.core.algorithm import describe
from tunewright.samplers.blend import Blend
from tunewright.samplers.random import Random
from tunewright.samplers.tpe import Tpe
from tunewright.schedulers.hyperband import Hyperband


def test_a_preset_is_used() -> None:
    assert catalog.build("sha") == Hyperband(Tpe(), most=1)
    assert catalog.build("sha(random)") == Hyperband(Random(), most=1)


def test_options_replace_a_preset_and_add_to_it() -> None:
    assert catalog.build("sha", {"most": 2}) == Hyperband(Tpe(), most=2)
    assert catalog.build("sha", {"eta": 4}) == Hyperband(Tpe(), eta=4, most=1)


def test_bohb_is_hyperband_around_a_blend() -> None:
    bohb = catalog.build("bohb")
    assert bohb == Hyperband(Blend(Tpe()))
    assert describe(bohb) == "hyperband(blend(tpe))"
    assert catalog.build("bohb", {"share": 0.5, "eta": 2}) == Hyperband(Blend(Tpe(), 0.5), eta=2)
