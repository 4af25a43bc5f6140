import math
import random

import numpy as np
import pytest

import tunewright as tw
from tunewright.analysis.confirmation import (
    Confirmation,
    best_of_several,
    confirmation,
    expectation,
    worth,
)
from tunewright.core.replicates import fresh_seeds, seed_of
from tunewright.errors import ConfigError


def measured(x, seed):
    return (x - 1) ** 2 + random.Random(f"{x}-{seed}").gauss(0, 0.3)


def searched(method="random", trials=20, **goal):
    study = tw.Study.open("s", {"x": tw.Float(-5, 5)}, method=method, storage="memory", **goal)
    sign = -1 if goal.get("maximize") else 1
    study.run(lambda trial: sign * measured(trial["x"], trial.seed), trials=trials, progress="none")
    return study


def test_a_clear_best_is_named_and_a_close_one_is_not():
    losses = np.array([[1.0, 1.1, 0.9, 1.0], [1.05, 1.0, 1.1, 0.95], [9.0, 9.1, 8.9, 9.05]])
    index, confidence, among = best_of_several(losses)
    assert (index, among) == (0, [0, 1])
    assert confidence < 0.5
    index, confidence, among = best_of_several(losses[1:])
    assert (index, among) == (0, [0])
    assert confidence > 0.99


def test_equal_candidates_are_told_apart_by_nothing():
    index, confidence, among = best_of_several([[1.0, 2.0], [1.0, 2.0]])
    assert (index, confidence, among) == (0, 0.5, [0, 1])
    assert best_of_several([[1.0, 2.0]]) == (0, 1.0, [0])


def test_a_constant_difference_is_certain():
    assert best_of_several([[1.0, 2.0], [1.5, 2.5]])[1:] == (1.0, [0])


def test_few_candidates_give_the_mean_with_students_interval():
    # Mean 2, deviation 1, 3 seeds: 4.302653 is the 97.5 % point of t with 2 degrees of freedom.
    mean, margin = expectation(np.array([[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]]), 0)
    assert mean == 2.0
    assert margin == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_many_alike_are_pulled_together():
    losses = np.random.default_rng(0).normal(0.0, 1.0, (8, 5))
    index = int(np.argmin(losses.mean(axis=1)))
    mean, margin = expectation(losses, index)
    assert losses[index].mean() < mean <= losses.mean()
    assert 0.0 < margin < 2.0


def test_the_whole_outcome_is_in_the_users_sign_and_in_the_log():
    study = searched(maximize="score")
    found = tw.confirm(study, lambda trial: -measured(trial["x"], trial.seed), top=4, seeds=5)
    assert found.metric == "score"
    assert found.size == 20
    assert found.means[0] == max(found.means)
    assert found.naive == study.best.metrics["score"]
    assert found.corrected[1] < found.corrected[0] < found.naive
    assert tw.confirmed(study) == found
    assert Confirmation.from_dict(found.to_dict()) == found
    assert len(study.trials) == 20
    assert study.replay().verified == 20
    text = " ".join(found.sentences())
    assert f"Trial {found.winner}" in text
    assert "95 %" in text or "best of these" in text
    assert "best of 20" in text


def test_fresh_seeds_are_none_that_tuning_used():
    study = searched()
    seen = []

    def train(trial):
        seen.append(trial.seed)
        return 1.0 + trial["x"]

    tw.confirm(study, train, top=2, seeds=3)
    assert len(set(seen)) == 3
    assert len(seen) == 6
    used = {seed_of(0, t.id, t.why) for t in study.trials}
    assert not used & set(seen)
    assert set(seen) == set(fresh_seeds(0, 3))


def test_an_interrupted_one_goes_on_where_it_was():
    study, calls = searched(), []

    def train(trial):
        calls.append(trial.seed)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measured(trial["x"], trial.seed)

    with pytest.raises(KeyboardInterrupt):
        tw.confirm(study, train, top=2, seeds=3)
    assert tw.confirmed(study) is None
    found = tw.confirm(study, train, top=2, seeds=3)
    assert len(calls) == 4 + 3
    more = tw.confirm(study, train, top=2, seeds=5)
    assert len(calls) == 7 + 4
    assert (found.seeds, more.seeds) == (3, 5)


def test_candidates_that_fail_are_left_out_and_said_to_be():
    study = searched()
    worst = study.best.number

    def train(trial):
        if trial["x"] == study.trials[worst].params["x"]:
            raise RuntimeError("boom")
        return measured(trial["x"], trial.seed)

    found = tw.confirm(study, train, top=3, seeds=2)
    assert found.failed == (worst,)
    assert len(found.trials) == 2
    assert str(worst) in found.sentences()[-1]

    def broken(trial):
        raise RuntimeError("boom")

    with pytest.raises(ConfigError, match="all of them failed"):
        tw.confirm(searched(), broken, top=2, seeds=2)


def test_what_a_result_is_worth_needs_to_know_the_noise():
    study = searched()
    assert worth(study) is None
    lowest, value, count = worth(study, 0.3)
    assert lowest == study.best.metrics["loss"]
    assert value.mean > lowest
    assert count == 20
    assert worth(searched("racing", 40)) is not None


def test_bad_arguments_are_refused():
    study = searched()
    for bad in ({"seeds": 1}, {"top": 0}, {"level": 1.0}):
        with pytest.raises(ConfigError, match="confirm needs"):
            tw.confirm(study, lambda trial: 1.0, **bad)
    with pytest.raises(ConfigError, match="training function"):
        tw.confirm(study)
    with pytest.raises(ConfigError, match="finite losses"):
        confirmation(study, [0, 1], [[1.0, 2.0], [1.0, math.nan]])


@pytest.mark.stat
def test_a_wrong_best_is_named_in_at_most_one_of_twenty():
    """Five equal candidates, ten seeds, 400 draws: more than 34 wrong has probability 0.001 if the rate is 5 %."""
    rng = np.random.default_rng(5)
    wrong = sum(best_of_several(rng.normal(0.0, 1.0, (5, 10)) + [[0.0], [1e-9], [1e-9], [1e-9], [1e-9]])[1] >= 0.95
                for _ in range(400))  # fmt: skip
    assert wrong <= 34
