"""Studies with a scale: sizes one after the other with every method, and settings for the target or a refusal."""

from __future__ import annotations

import asyncio
import math
import random
from pathlib import Path
from typing import Any

import pytest
from study_helpers import quiet

import tunewright as tw
from tunewright.errors import ConfigError
from tunewright.scaling import Scale

SPACE = tw.Space(lr=tw.Float(1e-4, 1.0, log=True))
SCALE = Scale({"width": (64, 1024)}, [{"width": 64}, {"width": 128}, {"width": 256}], steps=12)
METHODS = ["tpe", "asha(tpe)", "hyperband(random)", "bohb", "dehb", "median(random)", "pbt(random)", "ifbo"]


def opened(method: str = "random", path: Path | None = None, **more: Any) -> tw.Study:
    more = {"scale": SCALE, **more}
    storage = "memory" if path is None else str(path / "studies.db")
    return tw.Study.open("s", more.pop("space", SPACE), method=method, storage=storage, **more)


def loss_at(lr: float, width: int, drift: float = 0.0, seed: int = 0) -> float:
    """A valley around 2^-7, which moves by ``drift`` doublings with every doubling of the width, and a little noise."""
    z = math.log2(lr) + 7 - drift * math.log2(width / 64)
    return 1 + 0.05 * z * z + 0.01 * random.Random(f"{width} {seed}").random()


def drifting(drift: float, trial: tw.Attempt) -> float:
    return loss_at(trial["lr"], trial.size("width"), drift, trial.number)


@pytest.mark.parametrize("method", METHODS)
def test_trials_climb_through_sizes_and_begin_each_anew(method: str) -> None:
    seen: dict[int, list[int]] = {}

    def stepwise(trial: tw.Attempt) -> None:
        kept = trial.checkpoint.load()
        width = trial.size("width")
        done = 0 if kept is None else int(kept["done"])
        assert done == trial.step
        assert kept is None or kept["width"] == width, "weights of another size"
        for step in trial.steps():
            done += 1
            assert done == step
            trial.checkpoint.save({"done": done, "width": width})
            trial.report(step, loss=loss_at(trial["lr"], width) + 1 / step)
            if step == 12:
                seen.setdefault(trial.number, []).append(width)

    study = opened(method)
    study.run(stepwise, trials=16, **quiet())
    assert not [t.error for t in study.trials if t.error]
    assert study.best.step == SCALE.high
    founders = [t.id for t in study.trials if t.parent is None]
    assert all(seen.get(n, []) == [64, 128, 256][: len(seen.get(n, []))] for n in founders)
    if method == "asha(tpe)":
        steps = {t.step for t in study.trials}
        assert steps == {s.end for s in SCALE.stages}, "rungs are the ends of sizes"
    assert study.replay().skipped == 0


def test_a_function_without_steps_or_checkpoints_is_called_once_for_every_size() -> None:
    calls: list[tuple[int, int]] = []

    def plain(trial: tw.Attempt, lr: float) -> float:
        calls.append((trial.number, trial.sizes["width"]))
        return loss_at(lr, trial.size("width"))

    study = opened("asha(random)")
    study.run(plain, trials=9, **quiet())
    assert len(calls) == len(set(calls)), "no size is trained twice"
    assert sum(w == 64 for _, w in calls) == 9
    assert 3 <= sum(w == 128 for _, w in calls) <= 4
    assert study.trials[0].reports[0].step == SCALE.stages[0].end


def test_a_study_that_is_stopped_goes_on_at_the_size_that_it_had_come_to(tmp_path: Path) -> None:
    calls: list[int] = []

    def stopping(trial: tw.Attempt) -> float:
        width = trial.size("width")
        calls.append(width)
        if calls == [64, 128]:
            study.stop()
            trial.report(3, loss=9.0)
        return loss_at(trial["lr"], width)

    study = opened(path=tmp_path)
    study.run(stopping, trials=1, **quiet())
    assert calls == [64, 128]
    assert study.trials[0].status != "completed"
    study = opened(path=tmp_path, scale=None)
    study.run(stopping, trials=1, **quiet())
    assert calls == [64, 128, 128, 256]
    assert study.trials[0].status == "completed"
    assert [r.step for r in study.trials[0].reports] == [s.end for s in SCALE.stages[:2]]


def test_reports_at_the_last_step_and_what_is_returned_are_one_result() -> None:
    def both(trial: tw.Attempt) -> dict[str, float]:
        trial.report(12, loss=5.0, speed=2.0)
        return {"loss": 1.0}

    study = opened()
    study.run(both, trials=1, **quiet())
    first, second, _ = study.trials[0].reports
    assert (first.step, first.metrics) == (SCALE.stages[0].end, {"loss": 1.0, "speed": 2.0})
    assert (second.step, second.metrics) == (SCALE.stages[1].end, {"loss": 1.0, "speed": 2.0})
    assert study.best.metrics["loss"] == 1.0


def test_workers_and_coroutines_climb_too(tmp_path: Path) -> None:
    study = opened(path=tmp_path)
    study.run(in_worker, trials=3, workers=2, **quiet())
    assert [len(t.reports) for t in study.trials] == [2, 2, 2]
    assert study.counts == {"completed": 3}

    async def slow(trial: tw.Attempt) -> float:
        await asyncio.sleep(0)
        return loss_at(trial["lr"], trial.size("width"))

    study = opened("asha(random)")
    asyncio.run(study.arun(slow, workers=3, trials=9))
    assert study.best.step == SCALE.high
    assert study.counts["paused"] == 8 or study.counts["completed"] >= 1


def in_worker(trial: tw.Attempt, lr: float) -> float:
    return loss_at(lr, trial.size("width"))


def test_a_failure_counts_at_the_size_where_it_happened() -> None:
    def fragile(trial: tw.Attempt) -> float:
        if trial.size("width") >= 128 and trial.number % 3 == 0:
            return math.nan
        return drifting(0, trial)

    study = opened()
    study.run(fragile, trials=30, failures=None, **quiet())
    small, middle, large = study.transfer().verdict.optima
    assert (small.diverged, middle.diverged, large.diverged) == (0, 10, 0)


def test_settings_come_with_an_interval_and_their_cost() -> None:
    study = opened()
    study.run(lambda trial: drifting(0.0, trial), trials=30, **quiet())
    found = study.transfer()
    assert not found.refusal
    assert found.settings["lr"] == pytest.approx(2**-7, rel=0.15)
    low, high = found.interval
    assert low < 2**-7 < high
    assert found.cost == pytest.approx(30 * (1 / 256 + 1 / 64 + 1 / 16))
    assert found.rule == "mup"
    assert found.verdict.drift is not None
    assert abs(found.verdict.drift[0]) < 0.15
    assert "width 1,024: lr=0.00" in str(found)


def test_a_rule_that_claims_transfer_is_refused_where_the_rate_moves() -> None:
    study = opened()
    study.run(lambda trial: drifting(-1.0, trial), trials=30, **quiet())
    found = study.transfer()
    assert "claims that the best rate stays" in found.refusal
    with pytest.raises(ConfigError, match="coordinate check"):
        _ = found.settings
    with pytest.raises(ConfigError, match="coordinate check"):
        _ = found.interval
    assert "No settings for width 1,024" in str(found)


@pytest.mark.parametrize("method", ["asha(random)", "hyperband(random)"])
def test_a_scheduler_that_keeps_what_was_best_on_small_models_hides_no_drift(method: str) -> None:
    study = opened(method)
    study.run(lambda trial: drifting(-1.0, trial), trials=40, **quiet())
    refusal = study.transfer().refusal
    assert "claims that the best rate stays" in refusal or "end of what was tried there" in refusal


def test_rules_are_compared_at_a_size_that_all_have_results_for() -> None:
    def late(trial: tw.Attempt) -> float:
        if trial.rule == "mup" and trial.size("width") == 256:
            raise ValueError("no memory")
        # Larger models are better, and mup a little.
        return drifting(0.0, trial) - 0.1 * math.log2(trial.size("width")) - 0.05 * (trial.rule == "mup")

    study = opened(scale=Scale({"width": (64, 1024)}, SCALE.proxies, rule=("mup", "sp-layerwise")))
    study.run(late, trials=40, failures=None, **quiet())
    assert study.transfer().rule == "sp-layerwise", "all trainings of the other diverged at one size"

    def fewer(trial: tw.Attempt) -> float:
        if trial.rule == "mup" and trial.size("width") == 256 and trial.number % 8:
            raise ValueError("no memory")
        return drifting(0.0, trial) - 0.1 * math.log2(trial.size("width")) - 0.05 * (trial.rule == "mup")

    study = opened(scale=Scale({"width": (64, 1024)}, SCALE.proxies, rule=("mup", "sp-layerwise")))
    study.run(fewer, trials=40, failures=None, **quiet())
    found = study.transfer()
    assert [len(v.optima) for v in found.verdicts] == [2, 3]
    assert found.rule == "mup"


def test_standard_parametrization_is_extrapolated_by_its_power_law() -> None:
    study = opened(scale=Scale({"width": (64, 1024)}, SCALE.proxies, rule="sp"))
    study.run(lambda trial: drifting(-1.0, trial), trials=40, **quiet())
    found = study.transfer()
    assert math.log2(found.settings["lr"]) == pytest.approx(-11, abs=0.5)
    low, high = found.interval
    assert low < 2**-11 < high


def test_among_rules_the_evidence_decides() -> None:
    def ruled(trial: tw.Attempt) -> float:
        return drifting(-1.0 if trial.rule == "sp" else 0.0, trial)

    study = opened(scale=Scale({"width": (64, 1024)}, SCALE.proxies, rule=("sp", "mup")))
    study.run(ruled, trials=60, **quiet())
    found = study.transfer()
    assert found.rule == "mup"
    assert found.settings["rule"] == "mup"
    assert found.settings["lr"] == pytest.approx(2**-7, rel=0.3)
    assert {v.rule: v.claims for v in found.verdicts} == {"sp": False, "mup": True}
    drift = next(v.drift for v in found.verdicts if v.rule == "sp")
    assert drift is not None
    assert drift[0] == pytest.approx(-1.0, abs=0.3)


def test_a_wrong_claim_loses_to_a_law_that_holds() -> None:
    study = opened(scale=Scale({"width": (64, 1024)}, SCALE.proxies, rule=("sp", "mup")))
    study.run(lambda trial: drifting(-1.0, trial), trials=60, **quiet())
    found = study.transfer()
    assert found.rule == "sp"
    assert math.log2(found.settings["lr"]) == pytest.approx(-11, abs=1.0)


def test_a_growing_depth_is_more_than_mup_claims() -> None:
    scale = Scale(
        {"depth": (2, 32)}, [{"depth": 2}, {"depth": 4}, {"depth": 8}], rule=("mup", "depth-mup", "mine")
    )
    study = opened(scale=scale)
    study.run(lambda trial: loss_at(trial["lr"], 64, 0, trial.number), trials=60, **quiet())
    claims = {v.rule: v.claims for v in study.transfer().verdicts}
    assert claims == {"mup": False, "depth-mup": True, "mine": True}


def test_a_maximised_objective_gives_the_same_settings() -> None:
    small, large = opened(), opened(maximize="gain")
    small.run(lambda trial: drifting(0.0, trial), trials=20, **quiet())
    large.run(lambda trial: {"gain": -drifting(0.0, trial)}, trials=20, **quiet())
    assert small.transfer().settings == large.transfer().settings


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (
            lambda trial: loss_at(trial["lr"] / 2**9, 64, 0, trial.number),
            "upper end of what was searched, 1;",
        ),
        (
            lambda trial: loss_at(trial["lr"] * 2**9, 64, 0, trial.number),
            "lower end of what was searched, 0.0001;",
        ),
        (lambda trial: math.nan, "diverged; lower the range"),
    ],
)
def test_an_optimum_outside_and_no_optimum_are_refused(train: Any, words: str) -> None:
    study = opened()
    study.run(train, trials=20, failures=None, **quiet())
    assert words in study.transfer().refusal


def test_too_few_trials_are_refused() -> None:
    study = opened()
    assert "known at 0 of 3 proxy sizes" in study.transfer().refusal
    study.run(lambda trial: drifting(0.0, trial), trials=3, **quiet())
    assert "run more trials" in study.transfer().refusal


def test_what_proxies_cannot_show_is_said() -> None:
    scale = Scale({"width": (64, 4096)}, [{"width": 64}], steps=(100, 1000))
    study = opened(scale=scale)
    study.run(lambda trial: drifting(0.0, trial), trials=20, **quiet())
    found = study.transfer()
    assert found.settings
    text = " ".join(found.warnings)
    assert "10 times as long as the largest proxy" in text
    assert "64 times the largest proxy" in text
    assert "one proxy size" in text


def test_a_size_that_no_proxy_grows_in_is_named() -> None:
    scale = Scale({"width": (64, 512), "depth": (2, 8)}, [{"width": 64}, {"width": 128}], rule="depth-mup")
    study = opened(scale=scale)
    study.run(lambda trial: drifting(0.0, trial), trials=20, **quiet())
    assert "grows in depth, and no proxy does" in " ".join(study.transfer().warnings)


def test_confirming_trains_every_size_again() -> None:
    study = opened()
    study.run(lambda trial: drifting(0.0, trial), trials=6, **quiet())
    calls: list[int] = []

    def again(trial: tw.Attempt) -> float:
        calls.append(trial.size("width"))
        return drifting(0.0, trial)

    tw.confirm(study, again, top=2, seeds=3)
    assert calls == [64, 128, 256] * 6


def test_which_parameter_is_the_rate_must_be_clear() -> None:
    two = tw.Space(a=tw.Float(1e-4, 1.0, log=True), b=tw.Float(1e-4, 1.0, log=True), c=tw.Float(0, 1))
    study = opened(space=two)
    study.run(lambda trial: loss_at(trial["b"], 64), trials=20, **quiet())
    with pytest.raises(ConfigError, match="follows one parameter on a log scale"):
        study.transfer()
    with pytest.raises(ConfigError, match="follows one parameter on a log scale"):
        study.transfer("c")
    assert study.transfer("b").settings["b"] == pytest.approx(2**-7, rel=0.3)
    with pytest.raises(ConfigError, match="needs a study with a scale"):
        tw.Study.open("plain", SPACE, storage="memory").transfer()


def test_a_study_keeps_its_scale(tmp_path: Path) -> None:
    scale = Scale({"width": (64, 1024)}, steps=5, rule="auto")
    with opened(path=tmp_path, scale=scale) as study:
        assert study.space.names == ("lr", "rule")
    with opened(path=tmp_path, scale=None) as again:
        assert again.problem.scale == scale
        assert again.space.names == ("lr", "rule"), "the space is not a new version"
    with opened(path=tmp_path, scale=scale) as again:
        assert again.problem.scale == scale
    with pytest.raises(ConfigError, match="keeps its scale"):
        opened(path=tmp_path)
    with pytest.raises(ConfigError, match=r"must be a tunewright\.scaling\.Scale"):
        opened(scale={"width": (1, 2)})
    with pytest.raises(ConfigError, match="Leave steps out"):
        opened(steps=7)
    with pytest.raises(ConfigError, match="Rename it"):
        opened(scale=scale, space=tw.Space(rule=tw.Choice(["a", "b"])))


def test_sizes_are_for_studies_with_a_scale() -> None:
    def sizes(trial: tw.Attempt) -> float:
        assert trial.sizes == {}
        assert trial.rule == ""
        with pytest.raises(ConfigError, match="needs a size of the study's scale"):
            trial.size("width")
        return 1.0

    study = tw.Study.open("plain", SPACE, storage="memory", method="random")
    study.run(sizes, trials=1, **quiet())
    assert study.counts == {"completed": 1}


def test_asked_trials_find_their_sizes_in_the_scale() -> None:
    study = opened("asha(random)")
    for _ in range(12):
        asked = study.ask()
        assert asked is not None
        begin = study.trials[asked.number].step
        for leg in SCALE.legs(begin, asked.until or SCALE.high):
            loss = loss_at(asked.params["lr"], leg.stage.sizes["width"])
            asked.report(leg.stage.point(leg.last), loss=loss)
        asked.tell()
    widths = [SCALE.place(t.step).sizes["width"] for t in study.trials]
    assert widths.count(128) >= 2
