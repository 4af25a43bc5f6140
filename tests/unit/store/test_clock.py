"""Names of workers, and who is alive."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tunewright.store import clock

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads the process table of Linux")


def test_clock_goes_forward_at_the_right_speed() -> None:
    begun, wall = clock.now(), time.monotonic()
    time.sleep(0.02)
    assert clock.now() - begun == pytest.approx(time.monotonic() - wall, abs=0.01)


def test_clock_is_shared_between_processes() -> None:
    code = "from tunewright.store import clock; print(clock.now())"
    before = clock.now()
    there = float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert before < there < clock.now()


def test_name_of_this_process() -> None:
    name = clock.worker_id("a/b")
    host, boot, pid, start, tag = name.split("/", 4)
    assert f"{host}/{boot}" == clock.place()
    assert int(pid) == os.getpid()
    assert int(start) >= 0
    assert tag == "a/b"
    assert clock.worker_alive(name) is True


@linux
def test_dead_process_is_known_to_be_dead() -> None:
    code = "from tunewright.store import clock; print(clock.worker_id('x'), flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    assert clock.worker_alive(name) is True
    child.kill()
    end = time.monotonic() + 5
    while clock.worker_alive(name) and time.monotonic() < end:
        time.sleep(0.001)
    assert clock.worker_alive(name) is False, "a process that nobody has reaped yet is dead"
    child.communicate()
    assert clock.worker_alive(name) is False


@linux
def test_reused_number_is_another_process() -> None:
    host, boot, pid, start, tag = clock.worker_id("x").split("/", 4)
    assert clock.worker_alive(f"{host}/{boot}/{pid}/{int(start) - 1}/{tag}") is False


def test_last_boot_is_over_and_elsewhere_is_unknown() -> None:
    host, boot = clock.place().split("/")
    number, _, space = boot.partition(".")
    tail = f"{os.getpid()}/0/x"
    assert clock.worker_alive(f"{host}/0{number}.{space}/{tail}") is False
    assert clock.worker_alive(f"{host}/{number}.other/{tail}") is None, "another container"
    assert clock.worker_alive(f"other/{boot}/{tail}") is None
    assert clock.rebooted(f"{host}/0{number}.{space}")
    assert not clock.rebooted(f"other/0{number}.{space}")
    assert not clock.rebooted(clock.place())


@pytest.mark.parametrize("name", ["", "me", "external/a", "external/a/b/c/d", "a/b/c/d/e", "/////"])
def test_other_names_are_unknown(name: str) -> None:
    assert clock.worker_alive(name) is None


def test_pulse_asks_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers: dict[str, bool | None] = {"a": True, "b": False, "c": None}

    def alive(name: str) -> bool | None:
        asked.append(name)
        return answers[name]

    monkeypatch.setattr(clock, "worker_alive", alive)
    pulse = clock.Pulse(every=60)
    for _ in range(3):
        assert [pulse.alive(name) for name in "abc"] == [True, False, None]
    assert asked == ["a", "b", "c"]
    pulse = clock.Pulse(every=0)
    for _ in range(3):
        assert [pulse.alive(name) for name in "abc"] == [True, False, None]
    assert asked == ["a", "b", "c"] + ["a", "b", "c"] + ["a", "c"] * 2, "the dead stay dead"
