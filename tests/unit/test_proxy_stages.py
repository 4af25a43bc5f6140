"""A segment in points, as trainings of one size each: what goes in, and what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.core.scale import Scale
from tunewright.errors import ConfigError
from tunewright.run.messages import Answer, Finish, FromWorker, Report, Save, Segment, pack, to_worker
from tunewright.run.worker import execute

SCALE = Scale({"width": (8, 64)}, [{"width": 8}, {"width": 16}], steps=4, shares=(0.5, 1.0), eta=2)
END, HIGH = SCALE.stages[0].end, SCALE.high


def ran(folder: Path, function: Any, answers: dict[int, str] | None = None, **more: Any) -> list[FromWorker]:
    """What an execution says, each report answered with a verdict by its point."""
    segment = Segment(
        7, 3, {"lr": 0.1}, [("loss", "minimize")], str(folder), stages=list(SCALE.stages), high=HIGH, **more
    )
    same = to_worker(pack(segment))
    assert same == segment, "stages survive the way to a worker"
    heard: list[FromWorker] = []

    def channel(message: FromWorker) -> Answer:
        heard.append(message)
        verdict: Any = (answers or {}).get(message.step, "") if isinstance(message, Report) else ""
        return Answer(verdict)

    execute(segment, function, channel, child=True)
    assert [isinstance(m, Finish) for m in heard] == [False] * (len(heard) - 1) + [True]
    return heard


def stepwise(trial: tw.Attempt) -> None:
    for step in trial.steps():
        trial.report(step, loss=100 * trial.size("width") + step)


def points(heard: list[FromWorker]) -> list[int]:
    return [m.step for m in heard if isinstance(m, Report)]


def test_a_whole_way_is_two_trainings(tmp_path: Path) -> None:
    heard = ran(tmp_path, stepwise)
    assert points(heard) == [s.point(i) for s in SCALE.stages for i in range(1, 5)]
    losses = [m.metrics["loss"] for m in heard if isinstance(m, Report)]
    assert losses == [801, 802, 803, 804, 1601, 1602, 1603, 1604]
    saved = [m for m in heard if isinstance(m, Save)]
    assert [m.step for m in saved] == [END], "the end of a size is a checkpoint"
    last = heard[-1]
    assert isinstance(last, Finish)
    assert (last.outcome, last.step, last.metrics) == ("completed", HIGH, {"loss": 1604})


@pytest.mark.parametrize("until", range(1, HIGH + 1))
def test_a_segment_may_end_anywhere(tmp_path: Path, until: int) -> None:
    heard = ran(tmp_path, stepwise, until=until)
    last = heard[-1]
    assert isinstance(last, Finish)
    assert last.outcome == ("completed" if last.step == HIGH else "paused")
    assert points(heard)[-1] == last.step >= until
    place = SCALE.place(last.step)
    assert last.step == SCALE.stage(last.step).point(place.step), "where it stands is a step of a size"


@pytest.mark.parametrize("begin", range(HIGH))
def test_a_segment_may_begin_anywhere(tmp_path: Path, begin: int) -> None:
    heard = ran(tmp_path, stepwise, step=begin)
    assert points(heard)
    assert points(heard)[0] > begin
    assert isinstance(heard[-1], Finish)
    assert heard[-1].outcome == "completed"


def test_a_segment_without_a_way_still_ends(tmp_path: Path) -> None:
    for step in (END, HIGH):
        heard = ran(tmp_path, lambda trial: 1.0, step=step, until=step)
        assert isinstance(heard[-1], Finish)


def test_a_segment_that_ends_with_a_size_pauses_with_a_mark(tmp_path: Path) -> None:
    last = ran(tmp_path, stepwise, until=END)[-1]
    assert isinstance(last, Finish)
    assert (last.outcome, last.step) == ("paused", END)
    assert last.checkpoint
    heard = ran(tmp_path, fresh, step=END, checkpoint=last.checkpoint)
    assert isinstance(heard[-1], Finish)
    assert heard[-1].outcome == "completed", heard[-1].error


def fresh(trial: tw.Attempt) -> float:
    """A larger size sees no checkpoint of a smaller one."""
    if trial.checkpoint.exists or trial.step or trial.size("width") != 16:
        raise ConfigError("not fresh")
    return 1.0


@pytest.mark.parametrize(("verdict", "outcome"), [("stop", "stopped"), ("pause", "paused")])
@pytest.mark.parametrize("at", [2, END])
def test_a_verdict_ends_it_at_once(tmp_path: Path, verdict: str, outcome: str, at: int) -> None:
    heard = ran(tmp_path, stepwise, {at: verdict})
    last = heard[-1]
    assert isinstance(last, Finish)
    assert (last.outcome, last.step) == (outcome, at)
    assert points(heard)[-1] == at


def test_a_failure_at_the_second_size_says_where(tmp_path: Path) -> None:
    def broken(trial: tw.Attempt) -> float:
        if trial.size("width") == 16:
            raise ValueError("too large")
        return 1.0

    heard = ran(tmp_path, broken)
    last = heard[-1]
    assert isinstance(last, Finish)
    assert (last.outcome, last.step) == ("failed", END)
    assert "too large" in last.error
    assert points(heard) == [END]


def test_a_loss_that_is_none_is_told_before_the_failure(tmp_path: Path) -> None:
    def diverging(trial: tw.Attempt) -> None:
        for step in trial.steps():
            trial.report(step, loss=float("nan") if step == 4 else 1.0)

    heard = ran(tmp_path, diverging)
    last = heard[-1]
    assert isinstance(last, Finish)
    assert (last.outcome, last.step) == ("failed", END)
    assert [m.bad for m in heard if isinstance(m, Report)][-1] == {"loss": "nan"}
