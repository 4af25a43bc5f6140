"""Those who watch a run are told everything and can harm nothing."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import tunewright as tw
from tunewright.core.events import Ended, Event, Reported, Started


def _study(**more: Any) -> tw.Study:
    return tw.Study.open("s", {"x": tw.Float(0, 1)}, storage="memory", method="random", **more)


class Broken:
    """Raises always, and counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, event: Event, session: Any) -> None:
        self.calls += 1
        raise RuntimeError("the server is gone")

    def finish(self, session: Any) -> None:
        self.calls += 100


class Seen:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.finished = 0

    def __call__(self, event: Event, session: Any) -> None:
        self.events.append(event)

    def finish(self, session: Any) -> None:
        self.finished += 1


def _train(trial: Any) -> float:
    trial.report(1, loss=trial["x"])
    return float(trial["x"])


def test_every_watcher_hears_every_event_and_the_end() -> None:
    one, two = Seen(), Seen()
    study = _study()
    study.run(_train, trials=3, watch=[one, two], progress="none")
    kinds = [type(e) for e in one.events]
    assert kinds.count(Started) == kinds.count(Reported) == kinds.count(Ended) == 3
    assert two.events == one.events
    assert (one.finished, two.finished) == (1, 1)


def test_one_that_raises_harms_nothing_and_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    broken, seen, study = Broken(), Seen(), _study()
    with caplog.at_level(logging.WARNING):
        summary = study.run(_train, trials=5, watch=[broken, seen], progress="none")
    assert summary.ended == 5 and study.counts == {"completed": 5}
    assert [r.message for r in caplog.records].count(caplog.records[0].message) == 1
    assert "Broken" in caplog.text and "the server is gone" in caplog.text
    assert broken.calls == 3, "after three failures in a row it is left alone"
    assert len(seen.events) == 15


def test_one_that_recovers_is_called_on() -> None:
    calls: list[int] = []

    def flaky(event: Event, session: Any) -> None:
        calls.append(1)
        if len(calls) % 3:
            raise OSError("busy")

    _study().run(_train, trials=4, watch=flaky, progress="none")
    assert len(calls) == 12


async def _arun(study: tw.Study, seen: Seen) -> None:
    async def train(x: float) -> float:
        return x

    await study.arun(train, trials=2, watch=seen)


def test_coroutines_have_watchers_too() -> None:
    import asyncio

    seen, study = Seen(), _study()
    asyncio.run(_arun(study, seen))
    assert sum(isinstance(e, Ended) for e in seen.events) == 2
    assert seen.finished == 1
