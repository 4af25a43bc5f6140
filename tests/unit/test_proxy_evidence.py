"""What counts as evidence of a rate, what it costs, and what is said where it is too little or contradicts itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
from study_helpers import quiet

import tunewright as tw
from tunewright import catalog
from tunewright.core.events import Ended
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError, InvalidTrial
from tunewright.scaling import Scale
from tunewright.scaling.proxy import spent

SPACE = tw.Space(lr=tw.Float(1e-4, 1.0, log=True))
PROXIES = [{"width": 64}, {"width": 128}, {"width": 256}]
SCALE = Scale({"width": (64, 1024)}, PROXIES, steps=8)
COSTS = [1 / 256, 1 / 64, 1 / 16]


def opened(scale: Scale = SCALE, method: str = "random", **more: Any) -> tw.Study:
    return tw.Study.open("s", SPACE, scale=scale, method=method, storage="memory", **more)


def over(study: tw.Study, asked: Any, outcome: Any) -> None:
    """Ends an asked trial as a worker would that is lost or killed."""
    study.session.record(
        Ended(asked.number, asked.token, outcome, None, study.trials[asked.number].step, error="gone")
    )


def valley(trial: tw.Attempt, drift: float = 0.0, noise: float = 0.0) -> float:
    """Lowest at 2^-7 where the width is 64, and moving by ``drift`` doublings with each of the width."""
    z = math.log2(trial["lr"]) + 7 - drift * math.log2(trial.size("width") / 64)
    return 1 + 0.05 * z * z + noise * (trial.number % 7)


@pytest.mark.parametrize("error", [MemoryError("full"), InvalidTrial("no such model"), TimeoutError])
def test_only_a_training_that_failed_speaks_against_its_rate(error: Any) -> None:
    def fragile(trial: tw.Attempt) -> float:
        if trial.size("width") == 128 and trial.number % 3 == 0:
            raise error
        return valley(trial)

    study = opened()
    study.run(fragile, trials=30, failures=None, **quiet())
    counted = study.transfer().verdict.optima[1].diverged
    assert counted == (10 if error is TimeoutError else 0)


def test_a_lost_worker_says_nothing_of_the_rate() -> None:
    study = opened()
    for i in range(20):
        asked = study.ask()
        assert asked is not None
        asked.report(SCALE.stages[0].end, loss=valley_at(asked.params["lr"]))
        over(study, asked, "lost" if i % 2 else "failed")
    found = study.transfer()
    assert found.verdicts[0].trainings[0].loss < math.inf
    assert len([t for t in found.verdicts[0].trainings if math.isinf(t.loss)]) == 10
    assert {t.sizes["width"] for t in found.verdicts[0].trainings if math.isinf(t.loss)} == {128}


def valley_at(lr: float) -> float:
    return 1 + 0.05 * (math.log2(lr) + 7) ** 2


def test_few_trainings_that_diverged_at_a_large_size_refuse_nothing() -> None:
    study = opened()
    for i in range(20):
        asked = study.ask()
        assert asked is not None
        for stage in SCALE.stages[:2]:
            asked.report(stage.end, loss=valley_at(asked.params["lr"]))
        over(study, asked, "failed" if i < 4 else "killed")
    found = study.transfer()
    assert [t.trial for t in found.verdicts[0].trainings if t.sizes["width"] == 256] == [0, 1, 2, 3]
    assert found.settings["lr"] == pytest.approx(2**-7, rel=0.1)


def test_costs_are_exact() -> None:
    def stepwise(trial: tw.Attempt) -> None:
        for step in trial.steps():
            if trial.number == 1 and trial.size("width") == 128 and step == 3:
                raise ValueError("diverged after 2 steps")
            bad = trial.number == 3 and trial.size("width") == 256 and step == 5
            trial.report(step, loss=math.nan if bad else valley(trial))

    study = opened()
    study.run(stepwise, trials=4, failures=None, **quiet())
    whole = sum(COSTS)
    ways = [whole, COSTS[0] + COSTS[1] * 2 / 8, whole, COSTS[0] + COSTS[1] + COSTS[2] * 5 / 8]
    assert study.transfer().cost == pytest.approx(math.fsum(ways), rel=1e-12)
    assert spent(SCALE, study.trials[:1]) == pytest.approx(whole, rel=1e-15)


def test_a_training_that_failed_without_a_word_cost_all_of_it() -> None:
    def silent(trial: tw.Attempt) -> float:
        return math.nan if trial.size("width") == 128 else valley(trial)

    study = opened()
    study.run(silent, trials=3, failures=None, **quiet())
    assert study.transfer().cost == pytest.approx(3 * (COSTS[0] + COSTS[1]), rel=1e-12)


def test_forks_pay_for_what_they_trained_and_mixed_trainings_are_no_evidence() -> None:
    scale = Scale({"width": (64, 1024)}, PROXIES[:2], steps=8, shares=(0.5, 1.0))

    def stepwise(trial: tw.Attempt) -> None:
        for step in trial.steps():
            trial.checkpoint.save({"step": step})
            trial.report(step, loss=valley(trial))

    study = tw.Study.open(
        "s",
        SPACE,
        scale=scale,
        method="pbt(random)",
        storage="memory",
        options={"size": 6, "interval": scale.low},
    )
    study.run(stepwise, trials=30, **quiet())
    forks = {t.number: t.parent[1] for t in study.trials if t.parent is not None}
    assert forks
    cost = math.fsum(scale.cost_of(t.step, forks.get(t.number, 0)) for t in study.trials)
    found = study.transfer()
    assert found.cost == pytest.approx(cost, rel=1e-12)
    inside = {n for n, at in forks.items() if 0 < at < scale.stages[0].end}
    assert inside
    small = {t.trial for t in found.verdicts[0].trainings if t.sizes["width"] == 64}
    assert not small & set(forks)


def test_one_proxy_size_tells_for_rules_that_claim_and_for_no_others() -> None:
    one = Scale({"width": (64, 1024)}, [{"width": 64}], steps=8)
    study = opened(one)
    study.run(valley, trials=20, **quiet())
    assert study.transfer().settings
    assert "with one proxy size nobody can see" in " ".join(study.transfer().warnings)
    study = opened(Scale({"width": (64, 1024)}, [{"width": 64}], steps=8, rule="sp"))
    study.run(valley, trials=20, **quiet())
    assert "one proxy size does not show how it moves; open a study with two" in study.transfer().refusal


def test_a_proxy_may_be_as_large_as_the_target_and_never_larger() -> None:
    study = opened(Scale({"width": (64, 128)}, steps=8))
    study.run(valley, trials=20, **quiet())
    assert study.transfer().settings["lr"] == pytest.approx(2**-7, rel=0.1)
    with pytest.raises(ConfigError, match="no larger than the target"):
        Scale({"width": (64, 128)}, [{"width": 256}])
    with pytest.raises(ConfigError, match=r"Swap them"):
        Scale({"width": (128, 64)})
    with pytest.raises(ConfigError, match=r"Write \{'width': \(64, 512\)\}"):
        Scale({"width": 64})


def test_rules_that_the_evidence_cannot_tell_apart_are_said_to_be_so() -> None:
    study = opened(Scale({"width": (64, 1024)}, PROXIES, steps=8, rule=("mup", "sp-layerwise")))
    study.run(lambda trial: valley(trial, noise=0.01), trials=60, **quiet())
    found = study.transfer()
    assert "within the noise" in found.why
    assert found.why in str(found)
    assert found.to_dict()["why"] == found.why
    clear = opened(Scale({"width": (64, 1024)}, PROXIES, steps=8, rule=("mup", "sp-layerwise")))
    clear.run(lambda trial: valley(trial) + (trial.rule == "mup"), trials=60, **quiet())
    assert clear.transfer().rule == "sp-layerwise"
    assert clear.transfer().why.endswith("the next, mup, has 2.")
    mixed = opened(Scale({"width": (64, 1024)}, PROXIES, steps=8, rule=("mup", "sp-layerwise")))
    mixed.run(lambda trial: valley(trial, -2.0 * (trial.rule == "mup")), trials=60, **quiet())
    assert mixed.transfer().why.endswith("and the other rules were refused.")


def test_rules_that_all_contradict_their_proxies_are_all_refused() -> None:
    study = opened(Scale({"width": (64, 1024)}, PROXIES, steps=8, rule=("mup", "sp-layerwise")))
    study.run(lambda trial: valley(trial, -2.0), trials=60, **quiet())
    refusal = study.transfer().refusal
    assert refusal.count("claims that the best rate stays, but it moved") == 2
    assert study.transfer().why == ""


def test_a_study_without_a_scale_is_stored_and_read_as_before() -> None:
    study = tw.Study.open("s", SPACE, steps=8, method="random", storage="memory")
    stored = study.problem.to_dict()
    assert "scale" not in stored
    assert Problem.from_dict(stored).scale is None
    study.run(lambda trial: float(trial["lr"]), trials=2, **quiet())
    row = next(iter(study.rows()))
    assert not [name for name in row if name.startswith("size.")]


def test_an_answer_is_plain_data_with_nothing_that_json_has_not() -> None:
    import json

    for study in (opened(), opened(Scale({"width": (64, 1024)}, PROXIES, steps=8, rule="auto"))):
        assert json.loads(json.dumps(study.transfer().to_dict(), allow_nan=False))["settings"] is None
        study.run(valley, trials=60, **quiet())
        found = study.transfer()
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == found.to_dict()


_OF_THEIR_OWN = {"switch"}  # needs options
_SLOW = {"fms", "dyhpo", "ifbo", "joint"}  # fit networks, or models of every point
_SCHEDULERS = {name for name, method in catalog.METHODS.items() if method.kind == "scheduler"} - {"fms"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(catalog.METHODS) - _OF_THEIR_OWN))
def test_every_method_of_the_catalogue_takes_sizes_for_its_fidelity(name: str) -> None:
    def stepwise(trial: tw.Attempt) -> None:
        kept, width = trial.checkpoint.load(), trial.size("width")
        done = 0 if kept is None else int(kept["done"])
        assert done == trial.step
        assert kept is None or kept["width"] == width, "weights of another size"
        for step in trial.steps():
            done += 1
            assert done == step
            trial.checkpoint.save({"done": done, "width": width})
            trial.report(step, loss=math.nan if trial["lr"] > 0.5 else valley(trial) + 1 / step)

    scale = Scale({"width": (64, 1024)}, PROXIES, steps=6, shares=(0.5, 1.0), eta=2)
    study = opened(scale, f"{name}(random)" if name in _SCHEDULERS else name, seed=3)
    study.run(stepwise, trials=3 if name in _SLOW else 7, failures=None, **quiet())
    assert {t.error for t in study.trials if "nan" not in t.error} <= {""}
    assert study.replay().skipped == 0
    found = study.transfer()
    assert 0 < found.cost <= len(study.trials) * scale.cost_of(scale.high) * (1 + 1e-12)
    assert all(t.status != "completed" or t.step == scale.high for t in study.trials)
