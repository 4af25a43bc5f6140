"""What a trial may use: how devices are shared, what counts as too much, and control groups where they are permitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.errors import ConfigError
from tunewright.run.allowance import Limits
from tunewright.run.cage import Cage, caged
from tunewright.run.executor import InProcess
from tunewright.run.hygiene import for_training
from tunewright.run.placing import executor_for
from tunewright.run.processes import Processes
from tunewright.run.tree import Usage


@pytest.mark.parametrize(
    ("devices", "share", "places", "seen"),
    [
        (["0", "1"], None, None, ["0", "1", "0", "1"]),
        (["0", "1"], 1, 2, ["0", "1"]),
        (["0", "1"], 2, 4, ["0", "1", "0", "1"]),
        (["0", "1", "2", "3"], 0.5, 2, ["0,1", "2,3"]),
        (["0", "1", "2"], 1 / 3, 1, ["0,1,2"]),
        (["0", "1", "2"], 0.5, 1, ["0,1"]),
        (["GPU-a", "MIG-b"], 3.0, 6, ["GPU-a", "MIG-b"] * 3),
    ],
)
def test_devices_are_shared_out(devices: list[str], share: Any, places: Any, seen: list[str]) -> None:
    limits = Limits(devices=devices, per_device=share)
    assert limits.places == places
    assert [limits.devices_of(slot) for slot in range(len(seen))] == seen


@pytest.mark.parametrize("share", [0, -1, 1.5, 0.7, 0.25, True, float("nan")])
def test_shares_of_devices_that_make_no_sense(share: Any) -> None:
    with pytest.raises(ConfigError, match="per_device must be"):
        Limits(devices=["0", "1"], per_device=share)
    with pytest.raises(ConfigError, match="per_device needs devices"):
        Limits(per_device=2)


@pytest.mark.parametrize(
    "given",
    [
        {"memory": 0},
        {"cpu": 0},
        {"cpu": -1.0},
        {"processes": 0},
        {"files": 63},
        {"file_size": 0},
        {"cpu": float("inf")},
    ],
)
def test_limits_that_make_no_sense(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="A limit must be a number"):
        Limits(**given)


def test_what_is_too_much() -> None:
    limits = Limits(memory=100 << 20, cpu=5.0, processes=3)
    fine = Usage(100 << 20, 15.0, 3)
    assert limits.exceeded(fine, 10.0, caged=False) is None
    cases = {
        ("out_of_memory", "used 101 MiB, more than the limit of 100 MiB"): fine._replace(memory=101 << 20),
        ("timed_out", "used 5.1 seconds of processor time, more than the limit of 5"): fine._replace(
            cpu=15.1
        ),
        ("failed", "had 4 processes, more than the limit of 3"): fine._replace(processes=4),
    }
    for outcome, used in cases.items():
        assert limits.exceeded(used, 10.0, caged=False) == outcome
    # Where the kernel holds the memory, pages that processes share are not counted for each of them.
    assert limits.exceeded(fine._replace(memory=101 << 20), 10.0, caged=True) is None
    assert Limits().exceeded(Usage(1 << 40, 1e9, 10_000), 0.0, caged=False) is None


def train(x: float) -> float:
    return x


@pytest.mark.parametrize(
    "limits",
    [
        {"memory": 1 << 30}, {"cpu": 5.0}, {"processes": 3}, {"files": 100}, {"file_size": 10}, {"devices": ["0"]},
        {"fresh": True},
    ],
)  # fmt: skip
def test_whatever_needs_a_worker_process_gets_one(limits: dict[str, Any]) -> None:
    executor = executor_for(train, 1, None, Limits(**limits))
    assert isinstance(executor, Processes)
    executor.close()


def test_workers_are_as_many_as_there_are_places() -> None:
    assert isinstance(executor_for(train), InProcess)
    assert executor_for(train, 3).capacity == 3
    assert executor_for(train, None, None, Limits(devices=["0", "1"], per_device=2)).capacity == 4
    assert executor_for(train, 2, None, Limits(devices=["0", "1"], per_device=2)).capacity == 2
    with pytest.raises(ConfigError, match="find a place on the devices; got 5 for 4 places"):
        executor_for(train, 5, None, Limits(devices=["0", "1"], per_device=2))


def test_a_run_refuses_limits_before_it_begins_a_trial(tmp_path: Path) -> None:
    with tw.Study.open("s", {"x": tw.Float(0, 1)}, storage="memory") as study:
        for given in ({"cpu": "soon"}, {"per_device": 2}, {"processes": 0}, {"files": 3}, {"file_size": "x"}):
            with pytest.raises(ConfigError):
                study.run(train, trials=1, progress="none", **given)  # type: ignore[arg-type]
        assert len(study.trials) == 0


# ---------------------------------------------------------------------- control groups


def hierarchy(root: Path, handed: str = "cpu memory pids") -> tuple[Path, Path]:
    """A mounted hierarchy, and the file that says where in it this process is."""
    inner = root / "fs" / "user" / "leaf"
    inner.mkdir(parents=True)
    (root / "fs" / "user" / "cgroup.subtree_control").write_text(handed)
    (inner / "cgroup.subtree_control").write_text("")
    own = root / "own"
    own.write_text("12:cpu:/old\n0::/user/leaf\n")
    return root / "fs", own


def test_a_group_holds_a_worker_to_its_memory(tmp_path: Path) -> None:
    root, own = hierarchy(tmp_path)
    cage = caged(4711, 1 << 30, 8, root=root, own=own)
    assert cage is not None
    (folder,) = (root / "user").glob("tunewright-*-4711")
    assert (folder / "memory.max").read_text() == str(1 << 30)
    assert (folder / "memory.swap.max").read_text() == "0"
    assert (folder / "pids.max").read_text() == "9"
    assert (folder / "cgroup.procs").read_text() == "4711"
    assert not cage.starved
    (folder / "memory.events").write_text("low 0\nmax 12\noom 1\noom_kill 1\n")
    assert cage.starved
    # A real group has no files of its own in the way when it is removed.
    for file in folder.iterdir():
        file.unlink()
    cage.close()
    assert not folder.exists()
    cage.close()


@pytest.mark.parametrize("why", ["not handed on", "no version 2", "no file", "read-only", "outside"])
def test_without_permission_nothing_is_said(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, own = hierarchy(tmp_path, "cpu" if why == "not handed on" else "memory pids")
    if why == "no version 2":
        own.write_text("12:cpu:/old\n")
    elif why == "no file":
        own.unlink()
    elif why == "outside":
        own.write_text("0::/\n")
        (tmp_path / "cgroup.subtree_control").write_text("memory pids")
    elif why == "read-only":

        def refuse(self: Path, *args: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", refuse)
    assert caged(4711, 1 << 30, 8, root=root, own=own) is None
    monkeypatch.undo()
    assert not list(tmp_path.rglob("tunewright-*"))


def test_a_group_that_cannot_be_filled_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, own = hierarchy(tmp_path)
    write = Path.write_text

    def refuse(self: Path, text: str, *args: Any) -> int:
        if self.name == "memory.max":
            raise OSError(16, "Device or resource busy")
        return 0 if self.name.startswith("cgroup.") else write(self, text)

    monkeypatch.setattr(Path, "write_text", refuse)
    assert caged(4711, 1 << 30, 8, root=root, own=own) is None
    assert not list(root.rglob("tunewright-*"))
    assert not Cage(root / "gone").starved


# ---------------------------------------------------------------------- the environment


def test_training_code_sees_no_key_to_the_store() -> None:
    given = {
        "PATH": "/bin",
        "TUNEWRIGHT_STORE": "postgresql://me:canary@host/db?password=canary",
        "TUNEWRIGHT_TOKEN": "canary",
        "TUNEWRIGHT_ADMIN_TOKEN": "canary",
        "TUNEWRIGHT_DATA": "data",
        "PGPASSWORD": "canary",
        "AWS_SECRET_ACCESS_KEY": "the user's own, for the training",
    }
    seen = for_training(given)
    assert "canary" not in str(seen)
    assert seen == {
        "PATH": "/bin",
        "TUNEWRIGHT_STORE": "postgresql://***@host/db?password=***",
        "TUNEWRIGHT_DATA": "data",
        "AWS_SECRET_ACCESS_KEY": "the user's own, for the training",
    }
    asked = {**given, "TUNEWRIGHT_KEEP_ENV": "PGPASSWORD, TUNEWRIGHT_STORE"}
    assert for_training(asked)["PGPASSWORD"] == "canary"
    assert for_training(asked)["TUNEWRIGHT_STORE"] == given["TUNEWRIGHT_STORE"]
    assert "TUNEWRIGHT_TOKEN" not in for_training(asked)
    long = {"TUNEWRIGHT_STORE": "sqlite:////" + "folder/" * 60 + "s.db"}
    assert for_training(long) == long
    assert for_training({"TUNEWRIGHT_STORE": "studies.db"}) == {"TUNEWRIGHT_STORE": "studies.db"}


def test_a_mistyped_argument_is_refused_with_the_nearest_name() -> None:
    with tw.Study.open("s", {"x": tw.Float(0, 1)}, storage="memory") as study:
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'memroy'; did you mean 'memory'\?"):
            study.run(train, trials=1, memroy="2GiB", progress="none")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unexpected keyword argument 'wibble'"):
            study.run(train, trials=1, wibble=1, progress="none")  # type: ignore[call-arg]
        assert len(study.trials) == 0
