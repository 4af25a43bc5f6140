"""Sample, see, refine: a smaller space, with reasons."""

import numpy as np
import pytest
import studies

import tunewright as tw
from tunewright.analysis.phases import refine
from tunewright.errors import ConfigError

SPACE = tw.Space(
    x=tw.Float(0, 1),
    y=tw.Float(1e-4, 1, log=True),
    c=tw.Choice(["a", "b", "c"]),
    k=tw.Int(1, 90),
    o=tw.Order([1, 2, 4]),
)


def test_what_matters_is_narrowed_and_what_does_not_is_kept():
    study = studies.asked(SPACE, lambda c: abs(c["x"] - 0.3) + (c["c"] == "a"), 300, SPACE)
    found = refine(study)
    changes = {c.name: c for c in found.changes}
    assert [c.name for c in found.changes] == ["x", "y", "c", "k", "o"]
    assert {n: c.kind for n, c in changes.items()} == {
        "x": "narrowed",
        "y": "kept",
        "c": "dropped",
        "k": "kept",
        "o": "kept",
    }
    domain = found.space.domains["x"]
    assert domain.low < 0.3 < domain.high
    assert domain.high - domain.low < 0.5
    assert found.space.domains["c"].options == ("b", "c")
    assert found.share == pytest.approx((domain.high - domain.low) * 2 / 3, rel=0.02)
    assert all(c.reason.endswith(".") for c in found.changes)
    assert all(found.space.feasible(study.trials[n].config) for n in found.best)


def test_values_at_an_end_are_pointed_out_and_not_cut():
    study = studies.asked(SPACE, lambda c: -c["x"], 200, SPACE)
    change = refine(study).changes[0]
    assert change.kind == "edge"
    assert "upper end" in change.reason


def test_noise_changes_nothing():
    rng = np.random.default_rng(0)
    found = refine(studies.asked(SPACE, lambda _: float(rng.random()), 200, SPACE))
    assert {c.kind for c in found.changes} == {"kept"}
    assert found.space == SPACE
    assert found.share == 1.0


def test_a_dropped_option_takes_its_branch_along():
    found = refine(studies.nested(200))
    kinds = {c.name: (c.kind, c.after) for c in found.changes}
    assert kinds["depth"] == ("dropped", "not used")
    assert [e.name for e in found.space.entries] == ["model", "C", "rate"]
    assert found.space.entries[1].domain.log


def test_options_that_constraints_name_stay():
    space = tw.Space(c=tw.Choice(["a", "b"]), x=tw.Float(0, 1), forbidden=[{"c": "a", "x": 0.123}])
    found = refine(studies.asked(space, lambda c: c["x"] + (c["c"] == "a"), 200, space))
    assert found.changes[0].kind == "kept"
    assert "never is among the best" in found.changes[0].reason


def test_a_guess_outside_is_left_out_and_one_inside_stays():
    space = tw.Space(x=tw.Float(0, 1, guess=0.95), y=tw.Float(0, 1, guess=0.5))
    found = refine(studies.asked(space, lambda c: abs(c["x"] - 0.3), 400, space)).space
    assert found.domains["x"].guess is None
    assert found.domains["y"].guess == 0.5


def test_steps_and_whole_numbers_stay_on_their_grid():
    space = tw.Space(k=tw.Int(0, 100, step=5), f=tw.Float(0, 1, step=0.1), p=tw.Permutation(["a", "b"]))
    study = studies.asked(space, lambda c: abs(c["k"] - 40) + 20 * abs(c["f"] - 0.5), 400, space)
    found = refine(study)
    k, f = found.space.domains["k"], found.space.domains["f"]
    assert k.low % 5 == 0
    assert k.contains(40)
    assert f.contains(0.5)
    assert found.changes[2].kind == "kept"


def test_a_few_trials_are_not_enough():
    with pytest.raises(ConfigError, match="at least 30 trials"):
        refine(studies.nested(20))
