"""What a running study looks like: lines, JSON, a redrawn screen."""

from __future__ import annotations

import io
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from tunewright.analysis.progress import Live, Pace, Plain, display, duration
from tunewright.core.events import Ended, Event, Record, Reported, Started
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.core.trial import Ledger
from tunewright.errors import ConfigError

PROBLEM = Problem(Space(), (Objective("loss"),))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def watched(mode: str, events: list[Event], out: io.StringIO, **limits: Any) -> Ledger:
    show = display(mode, "s", "random", PROBLEM, limits.get("trials"), limits.get("timeout"), out)
    assert show is not None
    ledger = Ledger(PROBLEM)
    for event in events:
        ledger.apply(Record(ledger.cursor + 1, 0.0, "w", event))
        show(event, SimpleNamespace(ledger=ledger))
    show.close()
    return ledger


EVENTS: list[Event] = [
    Started(0, {"lr": 0.123456, "opt": "adam"}),
    Reported(0, 1, 1, {"loss": 2.0}),
    Ended(0, 1, "completed", {"loss": 1.23456}, 1, cost=0.25),
    Started(1, {"lr": 0.5, "opt": "sgd"}),
    Ended(1, 4, "failed", None, 0, error="Traceback ...\nValueError: no  such\tfile"),
    Started(2, {"lr": 0.5, "opt": "x" * 200}),
]


def test_plain_lines() -> None:
    out = io.StringIO()
    watched("auto", [*EVENTS, Ended(2, 6, "completed", {"loss": 2.0}, cost=75.0)], out, trials=3)
    lines = out.getvalue().splitlines()
    assert [line[9:] for line in lines[:2]] == [
        "trial 0 completed loss=1.235 best lr=0.1235 opt=adam (0.2s) [1/3]",
        "trial 1 failed ValueError: no such file lr=0.5 opt=sgd [2/3]",
    ]
    assert lines[2].endswith("... (1m15s) [3/3]")
    assert "best" not in lines[2]
    assert max(map(len, lines)) == 120
    assert "\x1b" not in out.getvalue()


def test_plain_summary_comes_every_thirty_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    out = io.StringIO()
    show = Plain(PROBLEM, Pace(10, None), out)
    ledger = Ledger(PROBLEM)
    for event in EVENTS[:3]:
        ledger.apply(Record(ledger.cursor + 1, 0.0, "w", event))
        show(event, SimpleNamespace(ledger=ledger))
    assert out.getvalue().count(" -- ") == 0
    for _ in range(10):
        clock.now += 7.0
        show(Reported(0, 1, 2, {}), SimpleNamespace(ledger=ledger))
    summaries = [line[9:] for line in out.getvalue().splitlines() if " -- " in line]
    assert len(summaries) == 2
    assert summaries[0] == "-- 1 done, 0 running, 1.714 a minute, 5m15s left, best trial 0: loss=1.235"


def test_a_later_run_knows_the_best_of_earlier_ones() -> None:
    ledger = Ledger(PROBLEM)
    for event in EVENTS[:3]:
        ledger.apply(Record(ledger.cursor + 1, 0.0, "w", event))
    out = io.StringIO()
    show = display("plain", "s", "random", PROBLEM, None, None, out, best=ledger.best)
    assert show is not None
    for event in [Started(1, {"lr": 0.5}), Ended(1, 4, "completed", {"loss": 9.0}, 1)]:
        ledger.apply(Record(ledger.cursor + 1, 0.0, "w", event))
        show(event, SimpleNamespace(ledger=ledger))
    assert "best" not in out.getvalue()


def test_json_lines() -> None:
    out = io.StringIO()
    ledger = watched("jsonl", EVENTS, out)
    again = io.StringIO()
    show = display("jsonl", "s", "random", PROBLEM, None, None, again)
    assert show is not None
    for _ in range(2):
        show(ledger.trials[0].start, SimpleNamespace(ledger=ledger))
    kinds = [json.loads(line)["event"] for line in again.getvalue().splitlines()]
    assert [k for k in kinds if k.startswith("trial")] == ["trial.started", "trial.resumed"]
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [f["event"] for f in found] == [
        "study.started", "trial.started", "trial.reported", "trial.finished", "best.improved", "trial.started",
        "trial.finished", "trial.started", "study.finished",
    ]  # fmt: skip
    assert {f["study"] for f in found} == {"s"}
    assert found[3]["metrics"] == {"loss": 1.23456}


def test_live_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    out = Terminal()
    watched("auto", EVENTS, out, trials=10, timeout=600.0)
    text = out.getvalue()
    for words in (
        "s · random",
        "[2/10]",
        "1 completed",
        "best  trial 0  loss=1.235",
        "run   trial 2",
        "ValueError",
    ):
        assert words in text


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("NO_COLOR", "1"), ("TERM", "dumb")])
def test_auto_is_plain_where_drawing_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert isinstance(display("auto", "s", "m", PROBLEM, None, None, Terminal()), Plain)


def test_modes() -> None:
    assert display("none", "s", "m", PROBLEM, None, None) is None
    with pytest.raises(ConfigError, match="progress must be one of"):
        display("loud", "s", "m", PROBLEM, None, None)
    live = display("live", "s", "m", PROBLEM, None, None, io.StringIO())
    assert isinstance(live, Live)
    live.close()


@pytest.mark.parametrize("mode", ["plain", "live"])
def test_an_event_that_draws_nothing_costs_next_to_nothing(mode: str) -> None:
    show = display(mode, "s", "m", PROBLEM, None, None, io.StringIO())
    assert show is not None
    ledger = Ledger(PROBLEM)
    session, event = SimpleNamespace(ledger=ledger), Reported(0, 1, 1, {"loss": 1.0})
    began = time.thread_time()
    for _ in range(5000):
        show(event, session)
    spent = (time.thread_time() - began) / 5000
    show.close()
    assert spent < 20e-6


def test_remaining_time_is_the_sooner_of_both_limits() -> None:
    pace = Pace(100, 1000.0)
    pace.began -= 10.0
    assert pace.left(0) == pytest.approx(990.0, abs=1)
    pace.ended = 20
    assert pace.left(20) == pytest.approx(40.0, abs=1)
    assert Pace(None, None).left(3) is None
    assert duration(3600) == "1h00m"
