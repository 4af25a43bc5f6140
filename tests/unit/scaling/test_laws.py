"""Published laws: units, boxes, refusals, and every law side by side."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.errors import ConfigError
from tunewright.scaling import laws
from tunewright.scaling.laws.law import Box, power_law


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.3B", 1.3e9),
        ("125M", 125e6),
        ("100b", 1e11),
        ("1e9", 1e9),
        ("20k", 2e4),
        ("2T", 2e12),
        ("1_000", 1e3),
        ("1,300,000", 1.3e6),
        (7, 7),
    ],
)
def test_quantities_are_read_as_people_write_them(text, value):
    assert laws.quantity(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "B", "1.3 billion", "nan", "-1B", 0, "inf", "1BB", "1,3B", True, None])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ConfigError, match="A quantity must be"):
        laws.quantity(text)


def test_millions_taken_for_ones_are_refused_with_what_was_meant():
    with pytest.raises(ConfigError, match=r"params must be counted in parameters; got 7, .* write 7e\+09"):
        laws.get("step-law-lr").predict(params=7, tokens="100B")
    with pytest.raises(ConfigError, match=r"tokens must be counted in tokens; got 100, .* write 1e\+11"):
        laws.get("step-law-batch").predict(tokens=100)


def test_outside_the_box_it_warns_with_the_factor_and_far_outside_it_refuses():
    law = laws.get("step-law-lr")
    said = law.predict(params="2.16B", tokens="50B")
    assert not said.inside
    assert "2 times outside" in said.warnings[0]
    with pytest.raises(ConfigError, match="answers up to a factor of 10"):
        law.predict(params="70B", tokens="50B")
    assert law.predict(params="70B", tokens="50B", extrapolate=True).value == law.evaluate(
        params=70e9, tokens=50e9
    )


def test_an_interval_widens_away_from_the_middle_of_the_box():
    law = laws.get("step-law-lr")
    middle = law.predict(params=law.box.center("params"), tokens=law.box.center("tokens"))
    edge = law.predict(params="1.08B", tokens="100B")
    assert middle.high is not None
    assert edge.high is not None
    assert middle.high / middle.value < edge.high / edge.value


def test_laws_without_uncertainty_give_no_interval_and_say_so():
    said = laws.get("porian-lr").predict(params="100M")
    assert said.low is said.high is None
    assert "without an uncertainty" in said.warnings[-1]


def test_missing_and_unknown_inputs_are_named():
    with pytest.raises(ConfigError, match=r"needs tokens \(tokens\)"):
        laws.get("step-law-lr").predict(params=1e9)
    with pytest.raises(ConfigError, match="takes tokens; got"):
        laws.get("step-law-batch").predict(tokens=1e10, params=1e9)
    with pytest.raises(ConfigError, match="Did you mean step-law-lr"):
        laws.get("step-law-rl")


def test_every_law_names_its_paper_its_units_and_a_known_opponent():
    for name, law in laws.PUBLISHED.items():
        assert law.name == name
        assert "arXiv:" in law.paper
        assert law.unit
        assert law.conditions
        assert set(law.contradicts) <= set(laws.PUBLISHED)
        assert set(law.box.ranges) <= set(law.needs)
        json.dumps(law.describe())


@given(st.sampled_from(laws.names()), st.floats(0.0, 1.0))
def test_every_law_is_finite_positive_and_in_its_interval_anywhere_in_its_box(name, where):
    law = laws.get(name)
    defaults = {"base_lr": 3e-3, "base_batch": 5e5, "base_tokens": 5e10, "base_flops": 1e20}
    inputs = {}
    for need in law.needs:
        low, high = law.box.ranges.get(need, (defaults.get(need, 1.0),) * 2)
        inputs[need] = min(max(low * (high / low) ** where, low), high)
    said = law.predict(**inputs)
    assert said.inside
    assert math.isfinite(said.value)
    assert said.value > 0
    if said.low is not None:
        assert said.low <= said.value <= said.high


def test_formulas_take_arrays():
    sizes = np.array([3e8, 6e8])
    got = laws.get("chinchilla-loss").evaluate(params=sizes, tokens=np.array([1e10, 2e10]))
    assert got.shape == (2,)
    assert got[1] < got[0]


def test_a_box_needs_its_ends_in_order():
    with pytest.raises(ConfigError, match="low <= high"):
        Box({"params": (2.0, 1.0)})


def test_recommendations_show_boxes_conflicts_and_what_was_not_asked():
    found = laws.recommend(params="1B", tokens="100B", base_lr=3e-3, base_tokens="30B")
    assert found["step-law-lr"].value == pytest.approx(1.63e-3, rel=5e-3)
    assert found.inputs["flops"] == pytest.approx(6e20)
    pairs = {(c.first, c.second) for c in found.conflicts}
    assert ("step-law-lr", "token-horizon") in pairs
    assert "batch-fixed-compute" in found.unasked
    assert {r.law.name: r.status for r in found.rows}["critical-batch-chinchilla"] == "doubtful"
    assert found.rows[0].law.output == "learning rate"
    json.dumps(found.to_dict())
    assert "conflict, learning rate" in found.table()


def test_recommendations_keep_a_refusing_law_in_the_list():
    found = laws.recommend(params="70B", tokens="1.4T")
    status = {r.law.name: r.status for r in found.rows}
    assert status["step-law-lr"] == "refused"
    with pytest.raises(ConfigError, match="answers up to"):
        found["step-law-lr"]


def test_a_batch_is_compared_with_every_recommended_one():
    found = laws.recommend(tokens="20B", batch="1M", only=["step-law-batch", "critical-batch-data"])
    assert len(found.notes) == 2
    assert all("times the" in n for n in found.notes)


def test_recommend_refuses_nothing_and_unknown_names():
    with pytest.raises(ConfigError, match="got nothing"):
        laws.recommend()
    with pytest.raises(ConfigError, match="Inputs must be among"):
        laws.recommend(widths=3)
    with pytest.raises(ConfigError, match="A law must be one of"):
        laws.recommend(params=1e9, only=["kaplan"])
    with pytest.raises(ConfigError, match="was asked"):
        laws.recommend(params=1e9)["step-law-lr"]


def test_laws_of_my_own_stand_beside_the_published():
    mine = power_law(
        name="mine",
        paper="",
        output="learning rate",
        unit="peak learning rate",
        formula="1 / N",
        inputs=laws.get("porian-lr").inputs,
        coefficient=1.0,
        exponents={"params": -1.0},
        box=Box({"params": (1e6, 1e9)}),
        scatter=0.1,
    )
    found = laws.recommend(params="100M", extra=[mine], only=["mine", "porian-lr"])
    assert found["mine"].value == pytest.approx(1e-8)
    assert "a factor of" in found.conflicts[0].reason


def test_a_law_that_cannot_be_asked_but_contradicts_is_mentioned():
    found = laws.recommend(params="1B", tokens="100B")
    assert any(
        n.startswith("token-horizon was not asked (it needs base_lr and base_tokens)") for n in found.notes
    )


def test_an_own_law_needs_a_name_of_its_own():
    with pytest.raises(ConfigError, match="name of its own"):
        laws.recommend(params=1e9, extra=[laws.get("porian-lr")])


def test_intervals_of_the_refitted_chinchilla_law_are_those_of_a_bootstrap():
    inside = laws.get("chinchilla-loss").predict(params="1B", tokens="20B")
    far = laws.get("chinchilla-loss").predict(params="70B", tokens="1.4T")
    # The scatter of single runs alone is 0.75 %; further out the errors of the coefficients are added.
    assert 1.01 < inside.high / inside.value < 1.03
    assert far.high / far.value > inside.high / inside.value
    optimal = laws.get("chinchilla-params")
    near, gopher = (optimal.predict(flops=c) for c in (1e20, 5.76e23))
    assert near.high / near.value < gopher.high / gopher.value
    # Hoffmann et al. chose 70 billion parameters for this compute by the first two of their approaches.
    assert gopher.low < 70e9 < gopher.high


def test_a_margin_reaches_further_up_than_down():
    """The authors of a law may have used it far above its box; below it nobody did."""
    law = laws.get("deepseek-lr")
    assert not law.predict(flops=1e24).inside
    assert not law.predict(flops=2e16).inside
    with pytest.raises(ConfigError, match="up to a factor of 10 outside"):
        law.predict(flops=9e15)
    assert law.predict(flops=9e15, extrapolate=True).value > 0


def test_too_little_for_any_law_says_what_is_missing():
    with pytest.raises(ConfigError, match="token-horizon needs base_tokens and tokens"):
        laws.recommend(base_lr=0.002)
    with pytest.raises(ConfigError, match="step-law-lr needs tokens"):
        laws.recommend(params="1B", only=["step-law-lr"])
    some = laws.recommend(params="1B", only=["step-law-lr", "porian-lr"])
    assert "step-law-lr was not asked: it needs tokens." in some.notes


def test_a_name_that_is_nearly_a_laws_is_corrected():
    with pytest.raises(ConfigError, match="Did you mean step-law-batch or step-law-lr"):
        laws.recommend(params="1B", tokens="20B", only=["step-law"])
    with pytest.raises(ConfigError, match="Did you mean porian-lr"):
        laws.recommend(params="1B", only=["porian_lr"])


@pytest.mark.parametrize(("flops", "noted"), [(1.2e20, False), (1e20, False), (1e18, True), (1e22, True)])
def test_compute_that_does_not_fit_parameters_and_tokens_is_noted(flops, noted):
    found = laws.recommend(params="1B", tokens="20B", flops=flops)
    assert any("leave one of the three out" in n for n in found.notes) == noted


def test_a_batch_in_sequences_is_noted():
    found = laws.recommend(params="1B", tokens="20B", batch=512, base_batch=256, base_tokens="1B")
    notes = [n for n in found.notes if "if sequences are meant" in n]
    assert [n.split()[0] for n in notes] == ["base_batch", "batch"]
    assert not any("if sequences" in n for n in laws.recommend(params="1B", batch="1M").notes)
