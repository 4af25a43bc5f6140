import numpy as np
import pytest
import studies

import tunewright as tw
from tunewright.analysis.effects import effects
from tunewright.analysis.importance import importance
from tunewright.errors import ConfigError


def by_name(study):
    return {i.name: i for i in importance(study)}


def test_what_decides_is_found_and_what_does_not_is_near_zero():
    found = by_name(studies.nested(300))
    assert found["model"].value > 0.2
    assert found["C"].value > 0.3
    assert found["rate"].value < 0.1
    assert found["depth"].value == 0


def test_shares_sum_to_one_and_lie_in_their_intervals():
    found = importance(studies.nested())
    assert sum(i.value for i in found) == pytest.approx(1)
    assert all(0 <= i.low <= i.value <= i.high <= 1 for i in found)
    assert [i.value for i in found] == sorted((i.value for i in found), reverse=True)


def test_more_trials_narrow_the_intervals():
    narrow, wide = by_name(studies.nested(600))["C"], by_name(studies.nested(40))["C"]
    assert narrow.high - narrow.low < wide.high - wide.low


def test_the_same_seed_gives_the_same_and_maximising_the_negative_changes_nothing():
    low = studies.nested(minimize="loss")
    high = studies.asked(studies.NESTED, lambda c: -studies.nested_loss(c), 60, maximize="loss")
    assert importance(low) == importance(low) == importance(high) == importance(low.history())


def test_pure_noise_gives_no_parameter_an_interval_away_from_zero():
    rng = np.random.default_rng(0)
    space = tw.Space({f"x{i}": tw.Float(0, 1) for i in range(4)})
    found = importance(studies.asked(space, lambda c: float(rng.random()), 200, space))
    assert sum(i.low > 0.05 for i in found) <= 1


def test_trials_trained_longer_count_as_better():
    study = studies.stepped("asha(random)")
    assert importance(study)[0].name == "x"


def test_a_name_that_occurs_in_two_branches_is_told_apart():
    space = tw.Space(m=tw.Choice({"a": {"lr": tw.Float(0, 1)}, "b": {"lr": tw.Float(0, 1)}}))
    names = {i.name for i in importance(studies.asked(space, lambda c: c["lr"], 30, space))}
    assert names == {"m", "m=a/lr", "m=b/lr"}


def test_too_few_trials_are_refused():
    with pytest.raises(ConfigError, match="at least 8 trials"):
        importance(studies.nested(7))
    with pytest.raises(ConfigError, match="at least 6 trials"):
        effects(studies.nested(5))


def test_effects_find_the_valley_and_cover_the_truth():
    found = {e.name: e for e in effects(studies.nested(200))}
    valley = found["C"]
    assert 0.35 < valley.codes[np.argmin(valley.mean)] < 0.65
    assert np.all(valley.low <= valley.mean + 1e-9)
    assert np.all(valley.mean <= valley.high + 1e-9)
    assert found["model"].mean == pytest.approx([0.5, 2.0], abs=0.1)
    assert found["model"].n == 200


def test_effects_compare_only_trials_trained_alike():
    study = studies.stepped("random")
    (effect,) = effects(study)
    assert effect.n == 12
    # Kernel regression flattens a line towards its ends, so only the middle half must follow it.
    assert effect.mean[10:30] == pytest.approx(effect.codes[10:30] + 1 / 9, abs=0.12)


def test_a_parameter_that_the_sampler_has_settled_still_matters():
    rng = np.random.default_rng(3)
    space = tw.Space(x=tw.Float(0, 1), z=tw.Float(0, 1))
    study = tw.Study.open("settled", space, method="random", storage="memory")
    for i in range(150):
        near = float(np.clip(rng.normal(0.3, 0.03), 0, 1))
        study.enqueue({"x": near if i > 20 else float(rng.random()), "z": float(rng.random())})
        trial = study.ask()
        trial.tell(abs(trial.params["x"] - 0.3))
    found = by_name(study)
    assert found["x"].value > 0.8
    assert found["z"].low == 0
