"""What a running study looks like: lines, JSON, a redrawn screen."""

from __future__ import annotations

import io
import json
import math
import time
from types import SimpleNamespace
from typing import Any

import pytest

from tunewright.analysis.live import Live, clock, spark
from tunewright.analysis.pace import Pace, duration
from tunewright.analysis.progress import Plain, display
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
        "trial 0 completed loss=1.235 *best* lr=0.1235 opt=adam (0.2s) [1/3]",
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
        "trial.failed", "trial.started", "study.finished",
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
        "2/10",
        "3 trials asked · 1 running · 1 complete · 1 failed · random",
        "loss 1.235",
        "loss ↓",
        "running",
        "ValueError: no such file",
    ):
        assert words in text


def drawn(width: int, height: int, trials: int = 30, **more: Any) -> list[str]:
    """The lines of a live display of a study in full swing."""
    problem = Problem(Space(), (Objective("val/acc", "maximize"),))
    show = Live("digits", "tpe", problem, Pace(40, None), io.StringIO(), **more)
    ledger = Ledger(problem)
    for n in range(trials):
        config = {
            "lr": 10.0 ** -(1 + n % 5),
            "width": 16 + n,
            "act": "relu",
            **{f"p{i}": i for i in range(9)},
        }
        events: list[Event] = [Started(n, config, 4)]
        token = ledger.cursor + 1
        events += [Reported(n, token, s, {"val/acc": s / 10 + n / 100}) for s in (1, 2, 3)]
        if n % 3 == 0:
            events.append(Ended(n, token, "completed", {"val/acc": 0.3 + n / 100}, 4, cost=2.0))
        elif n % 3 == 1:
            events.append(Ended(n, token, "stopped", {"val/acc": 0.2}, 3, cost=1.0))
        elif n < trials - 2:
            events.append(Ended(n, token, "out_of_memory", None, 3, error="CUDA out of memory"))
        for event in events:
            ledger.apply(Record(ledger.cursor + 1, 100.0, "w", event))
            show(event, SimpleNamespace(ledger=ledger))
    lines = [line.plain for line in show.lines(width, height)]
    show.close()
    return lines


@pytest.mark.parametrize(("width", "height"), [(120, 24), (80, 24), (60, 12), (40, 10), (200, 50), (20, 5)])
def test_a_frame_fits_its_terminal(width: int, height: int) -> None:
    lines = drawn(width, height)
    assert len(lines) < height
    assert max(map(len, lines)) <= width


def test_a_frame_shows_what_matters() -> None:
    lines = drawn(130, 24)
    assert lines[0].startswith("digits  30 trials asked · ")
    assert lines[1].startswith("━")
    assert "29/40" in lines[1]
    head, best, running = lines[3:6]
    assert head.split()[:6] == ["#", "state", "val/acc", "↑", "step", "lr"]
    assert best.split()[:4] == ["27", "best", "0.57", "4/4"]
    assert running.split()[:4] == ["29", "running", "0.59", "3/4"]
    assert best.endswith("█")
    assert any("pruned @3" in line for line in lines)
    assert any(line.rstrip().endswith("CUDA out of memory") for line in lines)
    assert "best  val/acc 0.57  trial 27 · +0.03 over previous best (trial 24) · lr=0.001" in "\n".join(lines)
    assert "resume: tunewright resume digits" in lines[-1]
    assert len([line for line in lines if " relu " in line]) <= 24 - 8
    assert "the study goes on" in drawn(130, 24, watching=True)[-1]


def test_bars_and_clocks() -> None:
    assert spark([0.0, math.nan, 1.0], 0.0, 1.0) == "▁█"
    assert spark([3.0, 3.0], 3.0, 3.0) == "▄▄"
    assert len(spark(list(range(100)), 0, 99)) == 10
    assert spark([0.0, 1.0], 0.0, 1.0, "_#") == "_#"
    assert [clock(s) for s in (0.4, 61, 3600)] == ["0:00", "1:01", "1:00:00"]


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
