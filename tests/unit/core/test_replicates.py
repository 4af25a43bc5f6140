"""Seeds by number, and the results of one configuration together."""

from __future__ import annotations

import math

import pytest

import tunewright as tw
from tunewright.core.replicates import fresh_seeds, noise_of, pools_of, seed_of
from tunewright.core.snapshot import dump, load


def test_trials_that_name_a_seed_share_it_and_others_have_their_own():
    assert seed_of(7, 3, {"seed": 2}) == seed_of(7, 9, {"seed": 2})
    assert seed_of(7, 3, None) == seed_of(7, 3, {"log_ei": 1.0})
    assert (
        len({seed_of(7, n, None) for n in range(50)} | {seed_of(7, 0, {"seed": n}) for n in range(50)}) == 100
    )
    assert seed_of(7, 3, {"seed": True}) == seed_of(7, 3, None)


def test_fresh_seeds_are_the_same_every_time_and_none_that_was_used():
    seeds = fresh_seeds(1, 5)
    assert fresh_seeds(1, 3) == seeds[:3]
    assert fresh_seeds(1, 4, seeds[:1]) == seeds[1:5]
    assert fresh_seeds(2, 5) != seeds


def replicated(values, algorithm="racing", **options):
    """A study whose k-th trial gets the k-th value."""
    study = tw.Study.open(
        "r", tw.Space(x=tw.Float(0, 1)), method=algorithm, options=options, storage="memory"
    )
    for value in values:
        study.ask().tell(value)
    return study


def test_a_lucky_single_result_does_not_beat_a_mean():
    # Trials 0, 1, 2 are one configuration; the next one was measured once.
    study = replicated([1.0, 1.2, 1.4, 0.9])
    assert [t.why.get("replicate_of") for t in study.trials] == [None, 0, 0, None]
    assert study.best.number == 0
    pools = pools_of(study.trials, study.problem)
    assert [(p.trial, p.count) for p in pools] == [(0, 3), (3, 1)]
    assert pools[0].mean == pytest.approx(1.2)
    assert pools[0].error == pytest.approx(0.2 / math.sqrt(3))
    assert math.isnan(pools[1].error)
    assert noise_of(pools) == (pytest.approx(0.2), 2)


def test_a_snapshot_knows_the_same_best():
    study = replicated([1.0, 1.2, 1.4, 0.9])
    ledger = study.session.sync()
    again = load(study.session.origin, dump(ledger))
    assert again is not None
    assert again.best is not None
    assert again.best.id == study.best.number == 0


def test_noise_is_unknown_without_replicates():
    study = replicated([1.0, 2.0], "random")
    sd, df = noise_of(pools_of(study.trials, study.problem))
    assert math.isnan(sd)
    assert df == 0


def test_the_training_sees_the_shared_seed():
    seen = []
    study = tw.Study.open("r", tw.Space(x=tw.Float(0, 1)), method="racing", storage="memory")

    def train(trial):
        seen.append((trial.params["x"], trial.seed))
        return trial.params["x"] + trial.seed / 2**31

    study.run(train, trials=8, progress="none")
    first = [s for x, s in seen if x == seen[0][0]]
    assert len(set(first)) == len(first) >= 3
    others = [s for x, s in seen if x != seen[0][0]]
    assert others[0] == first[0]
    assert study.replay().verified == 8
