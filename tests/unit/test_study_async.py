"""Ask and tell from an event loop: the same core, nothing blocked, and nothing left behind by a task that is cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.errors import LeaseLost

SPACE = {"x": tw.Float(0, 1)}


def open_(storage: Any = "memory", **more: Any) -> tw.Study:
    return tw.Study.open("s", SPACE, storage=storage, **{"method": "random", **more})


def until(test: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not test():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("durable", [False, True])
def test_ask_report_tell_and_enqueue(durable: bool, tmp_path: Path) -> None:
    async def main() -> None:
        async with open_(
            tmp_path / "s.db" if durable else "memory", steps=3, method="median(random)"
        ) as study:
            assert await study.aenqueue({"x": 0.25}, key="mine") == await study.aenqueue(
                {"x": 0.25}, key="mine"
            )
            first = await study.aask()
            assert first is not None
            assert first.params == {"x": 0.25}
            assert await study.areport(first, 1, loss=1.0)
            assert not await study.areport(first, 3, loss=0.5)
            assert (await study.atell(first)).metrics == {"loss": 0.5}
            several = await asyncio.gather(*(study.aask() for _ in range(5)))
            assert sorted(a.number for a in several if a is not None) == [1, 2, 3, 4, 5]
            await asyncio.gather(*(study.atell(a, 1.0, error="") for a in several if a is not None))
            assert study.counts == {"completed": 6}
            assert study.replay().verified == 5
            bad = await study.aask()
            assert bad is not None
            assert (await study.atell(bad, outcome="invalid", error="no")).status == "invalid"

    asyncio.run(main())


def test_the_loop_goes_on_while_the_store_is_busy() -> None:
    study = open_()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    async def main() -> None:
        clock = asyncio.create_task(tick())
        study.session.lock.acquire()
        waiting = asyncio.create_task(study.aask())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        study.session.lock.release()
        assert await waiting is not None
        clock.cancel()

    asyncio.run(main())
    assert ticks > 5


@pytest.mark.parametrize("late", [False, True])
def test_a_trial_that_nobody_gets_is_given_back(
    late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while the call runs in its thread, or when its answer is already on the way."""
    study = open_(tmp_path / "s.db")
    ask, began, go = study.ask, threading.Event(), threading.Event()

    def slow() -> tw.Asked | None:
        began.set()
        if not late:
            go.wait(10)
        return ask()

    monkeypatch.setattr(study, "ask", slow)

    async def main() -> None:
        task = asyncio.create_task(study.aask())
        await asyncio.sleep(0)
        while not began.is_set():
            await asyncio.sleep(0.001)
        if late:
            until(lambda: bool(study.session.store.leases(1)))
            time.sleep(0.02)  # the loop has not heard of it
        task.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    until(lambda: study.counts == {"waiting": 1})
    assert study.session.store.leases(1) == []
    again = ask()
    assert again is not None
    assert again.number == 0, "it is handed out again before any new one"
    study.close()


def test_a_result_is_recorded_although_the_task_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_()
    trial = study.ask()
    assert trial is not None
    tell, began, go = study.tell, threading.Event(), threading.Event()

    def slow(*args: Any, **more: Any) -> tw.Trial:
        began.set()
        go.wait(10)
        return tell(*args, **more)

    monkeypatch.setattr(study, "tell", slow)

    async def main() -> None:
        task = asyncio.create_task(study.atell(trial, 0.5))
        while not began.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()

    asyncio.run(main())
    until(lambda: study.counts == {"completed": 1})


def test_a_trial_is_given_back_by_hand() -> None:
    study = open_()
    trial = study.ask()
    assert trial is not None
    study.release(trial)
    assert study.counts == {"waiting": 1}
    with pytest.raises(LeaseLost):
        study.release(trial)
    again = study.ask()
    assert again is not None
    assert (again.number, again.token > trial.token) == (trial.number, True)
    study.release(again.number)
    third = study.ask()
    assert third is not None
    assert study.trials[0].attempts == 1, "giving back is no loss"


def test_a_cancelled_run_of_a_function_pauses() -> None:
    """The thread that trains is told to go, and the loop waits for it."""
    study = open_(steps=1000)
    began = threading.Event()
    before = set(threading.enumerate())

    def train(trial: tw.Attempt) -> None:
        for step in trial.steps():
            began.set()
            time.sleep(0.002)
            trial.report(step, loss=1.0)

    async def main() -> None:
        task = asyncio.create_task(study.arun(train, trials=3, progress="none"))
        while not began.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert study.counts == {"waiting": 1}

    asyncio.run(main())
    assert not {t for t in threading.enumerate() if t not in before and t.is_alive()}


def test_words_that_run_does_not_know() -> None:
    study = open_()
    with pytest.raises(TypeError, match="memry"):
        asyncio.run(study.arun(lambda x: x, trials=3, memry=5))
