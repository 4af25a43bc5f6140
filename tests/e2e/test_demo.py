"""The demo from end to end, on two worker processes and a file."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tunewright import demo
from tunewright.analysis.winner import Estimate
from tunewright.demo import Capped, _verdict, run_demo
from tunewright.errors import MissingExtra
from tunewright.samplers.random import Random
from tunewright.study import Study

sklearn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed"
)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """One quick demo: its summary, its report, its storage."""
    place = tmp_path_factory.mktemp("demo")
    report, storage = place / "report.html", place / "studies.db"
    summary = run_demo(quick=True, report=str(report), storage=str(storage), progress="none")
    return summary, report, storage


@pytest.mark.slow
@sklearn
def test_the_summary_names_the_winner_and_the_baseline_and_is_json(played):
    summary, _, _ = played
    again = json.loads(json.dumps(summary))
    for who in ("best", "random"):
        entry = again[who]
        assert entry["params"]["model"] in ("svm", "boosting", "mlp")
        assert 0 < entry["confidence"] <= 1
        test = entry["test_error"]
        assert 0 <= test["low"] <= test["mean"] <= test["high"] < 0.5
    assert again["outcome"] in ("tuned", "random", "tie")
    assert again["method"] == "hypertune"
    assert again["best"]["test_error"]["mean"] < 0.08


@pytest.mark.slow
@sklearn
def test_random_search_got_at_least_the_same_cost(played):
    summary, _, _ = played
    costs = summary["training_seconds"]
    assert costs["random"] >= costs["tuned"]


@pytest.mark.slow
@sklearn
def test_the_report_is_written_and_says_what_came_out(played):
    summary, report, _ = played
    text = report.read_text(encoding="utf-8")
    assert "Winner and baseline" in text
    assert f"Winner: trial {summary['best']['trial']}" in text
    assert text.count("<svg") == 12


@pytest.mark.slow
@sklearn
def test_trials_paused_and_went_on_and_nothing_is_left_running(played):
    _, _, storage = played
    with Study.open("digits-quick-auto-0", storage=storage, exist="must") as study:
        assert len(study.trials) == demo.QUICK.trials
        assert set(study.counts) <= {"completed", "paused"}
        assert any(len({r.token for r in t.reports}) > 1 for t in study.trials)
        for trial in study.trials:
            steps = [r.step for r in trial.reports]
            assert steps == sorted(set(steps))


@pytest.mark.slow
@sklearn
def test_the_same_command_finds_everything_done(played, capsys):
    summary, _, storage = played
    again = run_demo(quick=True, report=None, storage=str(storage), progress="none")
    same = ("best", "random", "gap", "outcome", "trials", "training_seconds")
    assert {k: again[k] for k in same} == {k: summary[k] for k in same}
    assert capsys.readouterr().out == ""


def test_without_scikit_learn_the_demo_says_what_to_install(monkeypatch):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'pip install "tunewright\[trees\]"'):
        run_demo(quick=True, report=None)


def _costly(trial):
    for step in trial.steps():
        trial.report(step, loss=trial["x"], cost=1.0)


def test_a_capped_search_begins_nothing_once_the_cost_is_reached():
    from tunewright import Float, Space

    study = Study.open("c", Space(x=Float(0, 1)), steps=3, method=Capped(Random(), 10.0), storage="memory")
    assert study.run(_costly, progress="none").why == "finished"
    assert len(study.trials) == 4
    assert demo.cost_of(study) == 12.0


@pytest.mark.parametrize(
    ("outcome", "gap", "words"),
    [
        (
            "tuned",
            Estimate(0.01, 0.005, 0.02, 5),
            "The tuned model wins: on the same seeds the tuned model is better by 1.00",
        ),
        (
            "random",
            Estimate(-0.01, -0.02, -0.005, 5),
            "Random search won this time: on the same seeds random search is",
        ),
        (
            "tie",
            Estimate(-0.001, -0.02, 0.01, 5),
            "No clear difference: on the same seeds random search is ahead by 0.10",
        ),
    ],
)
def test_the_verdict_says_who_won(outcome, gap, words):
    assert _verdict(outcome, gap).startswith(words)


@pytest.mark.slow
@sklearn
def test_an_interrupted_demo_ends_and_the_same_command_goes_on(tmp_path):
    storage = tmp_path / "s.db"
    code = "import sys; from tunewright.demo import run_demo; print(run_demo(quick=True, report=None, storage=sys.argv[1], progress='none')['outcome'])"
    command = [sys.executable, "-c", code, str(storage)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not _trials(storage):
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    output, error = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in error
    assert output == b""
    before = _trials(storage)
    assert 0 < before <= demo.QUICK.trials
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert done.stdout.strip() in (b"tuned", b"random", b"tie")
    assert _trials(storage) == demo.QUICK.trials


def _trials(storage):
    """Number of trials of the tuned study in a file that may not be there yet."""
    if not storage.exists() or not Study.exists("digits-quick-auto-0", storage):
        return 0
    with Study.open("digits-quick-auto-0", storage=storage, exist="must") as study:
        return len(study.trials)
