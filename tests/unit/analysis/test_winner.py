import numpy as np
import pytest
import studies

import tunewright as tw
from tunewright.analysis.winner import candidates, estimate, judge, paired, reevaluate
from tunewright.errors import ConfigError


def test_candidates_are_the_best_different_configurations():
    study = studies.nested()
    found = candidates(study, 3)
    losses = sorted({t.metrics["loss"] for t in study.trials})
    assert [t.metrics["loss"] for t in found] == losses[:3]


def test_a_configuration_tried_twice_is_one_candidate():
    space = tw.Space(x=tw.Choice([1, 2, 3]))
    study = tw.Study.open("twice", space, method="random", storage="memory")
    for value in (1, 1, 2):
        study.enqueue({"x": value})
    for _ in range(3):
        trial = study.ask()
        trial.tell(float(trial.params["x"]))
    assert [t.config["x"] for t in candidates(study, 3)] == [1, 2]


def test_candidates_come_from_full_trainings_first():
    study = studies.stepped("asha(random)")
    done = [t for t in study.trials if t.status == "completed"]
    found = candidates(study, len(done) + 1)
    assert [t.status == "completed" for t in found] == [True] * len(done) + [False]


def test_candidates_need_a_result_and_one_objective():
    with pytest.raises(ConfigError, match="needs a trial with a result"):
        candidates(studies.nested(0))
    space = tw.Space(x=tw.Float(0, 1))
    with pytest.raises(ConfigError, match="one objective"):
        candidates(studies.asked(space, lambda c: [1, 2], 3, space, minimize=["a", "b"]))


def test_a_clear_winner_is_named_with_confidence_and_the_curse_is_stated():
    verdict = judge(
        [0.08, 0.05], [[0.10, 0.11, 0.09, 0.10], [0.30, 0.31, 0.29, 0.30]], [[0.2] * 4, [0.4] * 4]
    )
    assert verdict.index == 0
    assert verdict.confidence == 1.0
    assert verdict.optimism == pytest.approx(0.02)
    assert verdict.test is not None
    assert verdict.test.mean == pytest.approx(0.2)
    assert "looks better than it is" in verdict.sentence()
    assert "100%" in verdict.sentence()


def test_equal_candidates_share_the_confidence():
    assert judge([0, 0], [[1.0, 2.0], [1.0, 2.0]]).confidence == pytest.approx(0.5)


def test_one_candidate_needs_no_correction():
    verdict = judge([1.0], [[1.0, 2.0, 3.0]])
    assert verdict.corrected == pytest.approx(2.0)
    assert verdict.confidence == 1.0


def test_picking_among_equals_is_corrected_upwards():
    rng = np.random.default_rng(1)
    picked, corrected = [], []
    for _ in range(60):
        verdict = judge([0.0] * 8, rng.normal(0, 1, (8, 5)))
        picked.append(verdict.loss[verdict.index].mean)
        corrected.append(verdict.corrected)
    # All eight are equal, so the truth is 0; the mean of the picked minimum of 8 normals over 5 seeds is -1.42/sqrt(5).
    assert np.mean(picked) == pytest.approx(-0.64, abs=0.15)
    assert abs(np.mean(corrected)) < abs(np.mean(picked)) * 0.6


@pytest.mark.parametrize("fresh", [[[1.0]], [[np.nan], [1.0]], [[], []]])
def test_losses_that_do_not_fit_are_refused(fresh):
    with pytest.raises(ConfigError, match="finite losses"):
        judge([0.0, 0.0], fresh)


def test_reevaluation_uses_fresh_seeds_and_may_dethrone():
    study = studies.nested()
    first, second = candidates(study, 2)
    seen = []

    def evaluate(config, seed):
        seen.append(seed)
        return 9.0 if config == first.config else 1.0 + seed / 1e5

    winner, verdict = reevaluate(study, evaluate, top=2, seeds=[7, 8])
    assert winner is second
    assert seen == [7, 8, 7, 8]
    assert verdict.confidence == 1.0


def test_reevaluation_of_a_maximised_objective_turns_the_sign():
    study = studies.asked(studies.NESTED, lambda c: c["rate"], 20, maximize="score")
    winner, verdict = reevaluate(study, lambda config, seed: config["rate"], top=3)
    assert winner.number == study.best.number
    assert verdict.loss[verdict.index].mean == pytest.approx(-study.best.metrics["score"])


def test_a_paired_gap_is_positive_when_ours_is_better_and_tighter_than_unpaired():
    rng = np.random.default_rng(0)
    seeds = rng.normal(0, 1, 8)
    ours, theirs = seeds + rng.normal(0, 0.01, 8), seeds + 0.1
    gap = paired(ours, theirs)
    assert gap.low > 0
    assert gap.high - gap.low < 0.1 * (estimate(ours).high - estimate(ours).low)
