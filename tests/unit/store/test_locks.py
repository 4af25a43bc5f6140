"""Turns and advisory locks."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tunewright.store.locks import FileLocks


def soon() -> float:
    return time.monotonic() + 5


def past() -> float:
    return time.monotonic() - 1


def test_one_turn_at_a_time(tmp_path: Path) -> None:
    first, second = FileLocks(str(tmp_path / "lock")), FileLocks(str(tmp_path / "lock"))
    with first.turn(soon()) as mine:
        assert mine
        with second.turn(past()) as theirs:
            assert not theirs
        with first.deciding(1, 1.0):
            pass
    with second.turn(past()) as theirs:
        assert theirs
    first.close()
    second.close()


def test_waiting_process_is_not_overtaken(tmp_path: Path) -> None:
    """Whoever waits first is next, even if the present holder asks again at once."""
    holder, waiter = FileLocks(str(tmp_path / "lock")), FileLocks(str(tmp_path / "lock"))
    order: list[str] = []

    def wait() -> None:
        with waiter.turn(soon()):
            order.append("waiter")

    with holder.turn(soon()):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
        order.append("holder")
    with holder.turn(soon()):
        order.append("holder again")
    thread.join()
    assert order == ["holder", "waiter", "holder again"]


def test_closed_or_dead_holder_gives_back(tmp_path: Path) -> None:
    first, second = FileLocks(str(tmp_path / "lock")), FileLocks(str(tmp_path / "lock"))
    turn = first.turn(soon())
    assert turn.__enter__()
    first.close()
    with second.turn(past()) as mine:
        assert mine
    turn.__exit__(None, None, None)


def test_deciders_of_two_processes_take_turns_per_study(tmp_path: Path) -> None:
    first, second = FileLocks(str(tmp_path / "lock")), FileLocks(str(tmp_path / "lock"))
    with first.deciding(1, 5.0), first.deciding(1, 5.0):
        begun = time.monotonic()
        with second.deciding(2, 5.0):
            assert time.monotonic() - begun < 0.5
        with second.deciding(1, 0.1):
            assert 0.1 <= time.monotonic() - begun < 1, "the lock is advisory: patience ends"
    begun = time.monotonic()
    with second.deciding(1, 5.0):
        assert time.monotonic() - begun < 0.5


def test_place_that_cannot_be_written_has_no_turns(tmp_path: Path) -> None:
    locks = FileLocks(str(tmp_path / "no" / "such" / "folder"))
    with locks.turn(past()) as mine:
        assert mine
    with locks.deciding(1, 0.1):
        pass
    locks.close()
