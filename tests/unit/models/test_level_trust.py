"""How far results at each level of training can be trusted."""

from __future__ import annotations

import numpy as np

from tunewright.core.domains import Float
from tunewright.core.events import Reported, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.models.ensemble import learn_levels, leave_one_out, misranked, processes, trust
from tunewright.models.gp import GP
from tunewright.models.kernel import columns_of
from tunewright.models.staged import Staged

SPACE = Space(x=Float(0, 1), y=Float(0, 1))


def study(early_tells: bool, top: int = 12) -> tuple[dict[int, GP], np.ndarray, np.ndarray]:
    staged = Staged(Problem(SPACE, fidelity=Fidelity(9)), (1, 3, 9), 200)
    rng = np.random.default_rng(0)
    for i in range(40):
        x, y = rng.random(2)
        staged.apply(Started(i, {"x": x, "y": y}, 9))
        late = (x - 0.3) ** 2 + 0.3 * y
        early = late if early_tells else (y - 0.9) ** 2 - 0.3 * x
        staged.apply(Reported(i, 1, 1, {"loss": 5.0 + early}))
        if i < top:
            staged.apply(Reported(i, 1, 9, {"loss": late}))
    losses = staged.scalar(rng)
    columns = columns_of(SPACE.layout.levels, SPACE.layout.categorical)
    staged.apply(Started(40, {"x": 0.5, "y": 0.5}, 9))
    found = processes(columns, learn_levels(staged, columns), staged.history.codes[:40], losses)
    return found, staged.history.codes[:40], losses


def test_pairs_in_the_wrong_order_are_counted() -> None:
    truth = np.array([1.0, 2.0, 3.0])
    draws = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 1.0, 3.0]])
    assert misranked(draws, truth).tolist() == [0.0, 3.0, 1.0]


def test_a_level_that_ranks_well_is_trusted_and_one_that_misleads_is_not() -> None:
    good = trust(*study(early_tells=True), np.random.default_rng(0))
    bad = trust(*study(early_tells=False), np.random.default_rng(0))
    assert good[0] > 0.5 > 0.1 > bad[0]
    assert abs(good.sum() - 1.0) < 1e-9


def test_levels_count_the_same_while_there_is_nothing_to_judge_by() -> None:
    found, codes, losses = study(early_tells=True, top=0)
    losses[:, 1:] = np.nan
    losses[3:, 0] = np.nan
    assert trust(found, codes, losses, np.random.default_rng(0)).tolist() == [1.0, 0.0, 0.0]
    assert trust({}, codes, losses, np.random.default_rng(0)).tolist() == [0.0, 0.0, 0.0]


def test_leave_one_out_is_what_a_process_without_the_row_predicts() -> None:
    found, *_ = study(early_tells=True)
    gp = found[2]
    mean, std = leave_one_out(gp)
    full = gp.factor @ gp.factor.T
    rest = np.arange(1, len(gp.y))
    weights = np.linalg.solve(full[np.ix_(rest, rest)], full[rest, 0])
    assert np.isclose(mean[0], gp.mean + weights @ (gp.y[rest] - gp.mean), atol=1e-6)
    assert np.isclose(std[0] ** 2, full[0, 0] - weights @ full[rest, 0], rtol=1e-4)
