"""Sources: plain data, projected into another space."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tunewright.core.domains import Choice, Float, Int
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.sources import Source, complete, fitted, sources_of, table, tables, thinned

SPACE = Space(x=Float(0, 1), n=Int(1, 4), m=Choice({"a": {"z": Float(0, 1)}, "b": None}))
ROWS = (
    {"x": 0.5, "n": 2, "m": "a", "z": 0.25},
    {"x": 3.0, "n": 9, "m": "b"},
    {"x": 0.1, "n": 1, "m": "gone"},
)


def test_json_round_trip():
    source = Source("s", ROWS, (1, 2, 3))
    again = sources_of("Method", json.loads(json.dumps([source.to_dict()])))
    assert again == (source,)
    assert sources_of("Method", [source]) == (source,)


@pytest.mark.parametrize("losses", [(1.0, 2.0), (1.0, float("nan"), 2.0), (1.0, 2.0, float("inf"))])
def test_losses_that_do_not_fit_are_refused(losses):
    with pytest.raises(ConfigError, match="one finite loss per configuration"):
        Source("s", ROWS, losses)


@pytest.mark.parametrize(
    "given",
    ["studies.db", {"name": "s"}, 3, [{"name": "s"}], [3], [{"name": "s", "configs": 1, "losses": 2}]],
)
def test_other_things_are_no_sources(given):
    with pytest.raises(ConfigError, match="needs sources with a name"):
        sources_of("Method", given)


def test_configurations_go_to_the_nearest_of_the_new_space():
    x, y = table(Source("s", ROWS, (1, 2, 3)), SPACE)
    assert y.tolist() == [1, 2]
    assert SPACE.decode(x[0]) == ROWS[0]
    assert SPACE.decode(x[1]) == {"x": 1.0, "n": 4, "m": "b"}


def test_missing_parameters_stay_unknown_and_are_completed():
    x, _ = table(Source("s", ({"x": 0.5}, {"x": 0.6}), (1, 2)), SPACE)
    assert x.shape == (2, 4)
    assert np.isnan(x[:, 1:]).all()
    full = complete(x, SPACE, np.random.default_rng(0))
    for row, value in zip(full, (0.5, 0.6), strict=True):
        config = SPACE.decode(row)
        assert SPACE.check(config) == config
        assert config["x"] == pytest.approx(value)


def test_strangers_are_left_out():
    few = Source("s", ({"x": 0.5},), (1.0,))
    alien = Source("t", ({"q": 1}, {"q": 2}), (1.0, 2.0))
    assert tables([few, alien, Source("u", ROWS, (1, 2, 3))], SPACE)[0][1].tolist() == [1, 2]
    assert len(tables([few, alien], SPACE)) == 0


def test_thinning_keeps_the_best_and_a_spread():
    x = np.arange(1000.0)[:, None]
    kept, losses = thinned(x, x[:, 0][::-1].copy(), 10)
    assert sorted(losses.tolist())[:5] == [0, 1, 2, 3, 4]
    assert losses.max() > 700
    assert kept[:, 0].tolist() == [999 - v for v in losses]


def test_a_source_is_fitted_once():
    rng = np.random.default_rng(0)
    x = SPACE.sample(rng, 20)
    y = np.nan_to_num(x).sum(axis=1)
    assert fitted(x, y, SPACE) is fitted(x.copy(), y.copy(), SPACE)
