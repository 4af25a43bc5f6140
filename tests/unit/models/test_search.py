"""Searching rows without gradients, and hyperparameters over a growing study."""

from __future__ import annotations

import numpy as np

from tunewright.core.domains import Choice, Float, Int
from tunewright.core.space import Space
from tunewright.models import gp
from tunewright.models.refit import hyper_of, tuning_size
from tunewright.models.search import best_rows

SPACE = Space(x=Float(0, 1), n=Int(1, 9), m=Choice({"a": {"z": Float(0, 1)}, "b": None}))


def score(rows):
    return -np.nan_to_num((rows[:, 0] - 0.3) ** 2 + (rows[:, 1] - 0.5) ** 2, nan=9.0)


def test_rows_are_legal_and_come_best_first():
    rows, values = best_rows(score, SPACE, np.empty((0, SPACE.d)), np.random.default_rng(0))
    assert (np.diff(values) <= 0).all()
    assert np.allclose(values, score(rows))
    for row in rows[::50]:
        config = SPACE.decode(row)
        assert SPACE.check(config) == config


def test_local_changes_get_nearer_than_draws():
    start = SPACE.encode({"x": 0.31, "n": 5, "m": "b"})[None]
    near = best_rows(score, SPACE, start, np.random.default_rng(1), candidates=50)[1][0]
    drawn = score(SPACE.sample(np.random.default_rng(1), 50)).max()
    assert near > drawn
    assert near > -1e-4


def test_hyperparameters_are_found_anew_at_a_growing_interval():
    rng = np.random.default_rng(0)
    x = SPACE.sample(rng, 60)
    y = score(x)
    columns = gp.columns_of(SPACE.layout.levels, SPACE.layout.categorical)
    memo = {}
    assert [tuning_size(n) for n in (0, 5, 29, 30, 32, 33, 36, 37)] == [0, 5, 29, 30, 30, 33, 33, 37]
    assert all(tuning_size(tuning_size(n)) == tuning_size(n) for n in range(300))
    first = hyper_of(memo, columns, x[:33], y[:33])
    assert hyper_of(memo, columns, x[:36], y[:36]) is first
    assert hyper_of(memo, columns, x[:60], y[:60]) is not first
    assert len(memo) == 1
