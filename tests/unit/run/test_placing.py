"""Where training happens, from a word."""

from __future__ import annotations

from typing import Any

import pytest

import tunewright as tw
from tunewright.errors import ConfigError
from tunewright.run.allowance import Limits
from tunewright.run.executor import Executor, InProcess
from tunewright.run.placing import executor_for, place_of
from tunewright.run.processes import Processes
from tunewright.run.ray import Ray


@pytest.mark.parametrize(
    ("on", "place"),
    [
        ("ray", Ray()),
        ("ray://head:10001", Ray(address="ray://head:10001")),
        ("ray?gpus=0.5&cpus=4", Ray(cpus=4.0, gpus=0.5)),
        ("ray://head:10001?patience=60", Ray(address="ray://head:10001", patience=60.0)),
        (Ray(cpus=2), Ray(cpus=2)),
    ],
)
def test_places(on: Any, place: Ray) -> None:
    assert place_of(on) == place


@pytest.mark.parametrize(
    ("on", "message"),
    [
        ("moon", "this machine, on 'ray'"),
        ("", "this machine, on 'ray'"),
        ("ray?gpu=1", "cpus, gpus, patience"),
        ("ray?gpus=one", "as numbers"),
        ("rays://head", "this machine, on 'ray'"),
    ],
)
def test_there_are_no_others(on: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        place_of(on)


class Here:
    """A place that remembers what it was asked for and runs in this process."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Limits]] = []

    def executor(self, function: Any, workers: int, limits: Limits) -> Executor:
        self.asked.append((workers, limits))
        return InProcess(function)


def test_a_place_of_ones_own() -> None:
    here = Here()
    study = tw.Study.open("s", {"x": tw.Float(0, 1)}, storage="memory")
    study.run(lambda x: x, trials=3, workers=5, memory="1GiB", progress="none", on=here)
    assert study.counts == {"completed": 3}
    assert here.asked == [(5, Limits(memory=1 << 30))]


def test_this_machine() -> None:
    assert isinstance(executor_for(lambda x: x), InProcess)
    for executor in (
        executor_for(lambda x: x, 2),
        executor_for(lambda x: x, trial_timeout=1.0),
        executor_for(lambda x: x, limits=Limits(memory=1 << 30)),
    ):
        assert isinstance(executor, Processes)
        executor.close()
