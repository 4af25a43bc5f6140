"""What is said at the end of a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import tunewright as tw
from tunewright.cli import outcome
from tunewright.cli.common import RUN_NOTE
from tunewright.run.driver import Summary


def studied(measure: Callable[[float], float], xs: list[float], **how: Any) -> tw.Study:
    space = tw.Space(x=tw.Float(0.0, 1.0, guess=0.5, confidence=0.0), o=tw.Choice(["a b"]))
    study = tw.Study.open("my study", space, method="random", storage="memory", **how)
    study.session.enqueue({"x": 0.5}, key="defaults", by="defaults")
    for x in xs:
        study.enqueue({"x": x})
    for _ in range(len(xs) + 1):
        trial = study.ask()
        assert trial is not None
        study.tell(trial, measure(trial.params["x"]))
    return study


def test_the_best_is_compared_with_the_defaults() -> None:
    study = studied(lambda x: 2 * x, [0.3, 0.25])
    assert outcome.gain(study, study.best) == "0.5 (50.0%) better than your defaults, which got 1"
    assert outcome.gain(study, study.trials[0]) == ""
    study = studied(lambda x: 2 * x, [0.3], maximize="acc")
    assert outcome.best_of(study) is study.trials[0]
    assert "worse than your defaults" in outcome.gain(study, study.trials[1])


def test_how_to_use_the_best() -> None:
    study = studied(lambda x: x, [0.25])
    assert outcome.usage(study, study.best) == "train(x=0.25, o='a b')"
    study.session.note(RUN_NOTE, {"argv": ["python", "t.py", "--x={x}", "{o}"], "function": "", "limits": {}})
    assert outcome.usage(study, study.best) == "python t.py --x=0.25 'a b'"


def test_the_next_step() -> None:
    near = studied(lambda x: x, [0.001])
    assert outcome.advice(near, near.best, "") == "tunewright show 'my study'", "0 is where a share ends"
    inside = studied(lambda x: abs(x - 0.4), [0.4])
    assert outcome.advice(inside, inside.best, "") == "tunewright show 'my study'"
    many = studied(lambda x: abs(x - 0.4), [0.4] * 10)
    assert (
        outcome.advice(many, many.best, " --storage a.db")
        == "tunewright importance 'my study' --storage a.db"
    )
    assert "--status failed" in outcome.advice(many, None, "")


def searched(domain: tw.Float | tw.Int, best: float) -> tw.Study:
    """A study of two parameters whose best has ``a=best``, near an end; ``b`` does not matter."""
    space = tw.Space(a=domain, b=tw.Float(0.0, 1.0))
    study = tw.Study.open("s", space, method="random", storage="memory")
    study.enqueue({"a": best})
    for _ in range(120):
        trial = study.ask()
        assert trial is not None
        low, high = domain.coder()[0](best), domain.coder()[0](trial.params["a"])
        study.tell(trial, abs(low - high))
    return study


@pytest.mark.parametrize(
    ("domain", "best", "words"),
    [
        (tw.Float(1e-5, 0.1, log=True), 0.1, "a is best near its upper bound 0.1, so widen it: tunewright resume s --set a.high=0.5"),
        (tw.Float(1e-5, 0.1, log=True), 1e-5, "lower bound 1e-05, so widen it: tunewright resume s --set a.low=2e-06"),
        (tw.Float(2.0, 6.0), 6.0, "--set a.high=8"),
        (tw.Float(1.0, 6.0), 1.0, "--set a.low=0"),
        (tw.Int(16, 512, log=True), 512, "--set a.high=2560"),
        (tw.Int(10, 300), 10, "--set a.low=0"),
    ],
)  # fmt: skip
def test_a_range_that_may_be_too_narrow(domain: Any, best: float, words: str) -> None:
    study = searched(domain, best)
    assert "run the same command again" in outcome.advice(study, study.best, ""), (
        "from Python there is no command"
    )
    study.session.note(RUN_NOTE, {"argv": ["t", "{a}", "{b}"], "function": "", "limits": {}})
    said = outcome.advice(study, study.best, " --storage x.db")
    assert words in said
    assert said.endswith(" --trials +20 --storage x.db")
    assert re.match(r"b \(\d.\d%\) hardly matters; a is best", said)


def test_conclusion(capsys: pytest.CaptureFixture[str]) -> None:
    study = studied(lambda x: x, [0.25])
    outcome.conclude(study, Summary("trials", 2, 0, 1.0), "")
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "my study: all trials are done; 2 trials ended in 1.0s",
        "best    trial 1: loss=0.25",
        "        0.25 (50.0%) better than your defaults, which got 0.5",
        "use     train(x=0.25, o='a b')",
        "next    tunewright show 'my study'",
    ]
    study.session.note(RUN_NOTE, {"argv": ["python", "t.py", "{x}"], "function": "", "limits": {}})
    assert study.ask() is not None
    outcome.conclude(study, Summary("interrupted", 2, 0, 1.0), " --storage a.db")
    assert capsys.readouterr().out.splitlines()[-1] == "next    tunewright resume 'my study' --storage a.db"
    study = studied(lambda x: x, [0.25])
    data = outcome.as_json(study, Summary("trials", 2), 0)
    assert (data["best"]["number"], data["defaults"]["number"], data["use"]) == (
        1,
        0,
        "train(x=0.25, o='a b')",
    )


def test_several_objectives() -> None:
    study = tw.Study.open(
        "m", tw.Space(x=tw.Float(0, 1)), minimize=["a", "b"], method="random", storage="memory"
    )
    assert outcome.best_of(study) is None
    for _ in range(3):
        trial = study.ask()
        assert trial is not None
        study.tell(trial, a=trial.params["x"], b=1 - trial.params["x"])
    assert outcome.best_of(study) in study.pareto


def test_one_trial_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    outcome.conclude(studied(lambda x: x, [0.25]), Summary("trials", 1, 0, 1.0), "")
    assert "; 1 trial ended in" in capsys.readouterr().out
