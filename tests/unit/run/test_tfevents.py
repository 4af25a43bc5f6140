"""Scalars out of TensorBoard's files, while they are written; compared with files that its own writer makes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy
import pytest

from tunewright.run.tfevents import EventFile, EventFolder, scalars


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def event(step: int, tag: str, value: float) -> bytes:
    number = varint(2 << 3 | 5) + struct.pack("<f", value)
    return (
        varint(1 << 3 | 1) + struct.pack("<d", 1.0) + varint(2 << 3) + varint(step)
        + field(5, field(1, field(1, tag.encode()) + number))
    )  # fmt: skip


def record(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + b"crc1" + data + b"crc2"


def test_an_event() -> None:
    assert scalars(event(300, "val/acc", 0.5)) == [(300, "val/acc", 0.5)]
    double = varint(1 << 3) + varint(2) + field(6, struct.pack("<d", 0.1))
    assert scalars(field(5, field(1, field(1, b"t") + field(8, double)))) == [(0, "t", 0.1)]
    assert scalars(field(3, b"brain.Event:2")) == []


def test_a_file_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1.host.7.0"
    data = b"".join(record(event(s, "loss", s / 2)) for s in range(4))
    file, found = EventFile(path), []
    assert file.read() == []
    for end in range(0, len(data) + 1, 13):
        path.write_bytes(data[:end])
        found += file.read()
    path.write_bytes(data)
    found += file.read()
    assert found == [(s, "loss", s / 2) for s in range(4)]


@pytest.mark.parametrize(
    "junk", [b"\xff" * 40, record(b"\x2a\xff\xff"), struct.pack("<Q", 1 << 60) + b"x" * 30]
)
def test_damage_is_passed_over(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "e"
    path.write_bytes(record(event(1, "a", 1.0)) + junk)
    assert EventFile(path).read() == [(1, "a", 1.0)]


def test_only_files_of_this_trial_count(tmp_path: Path) -> None:
    old = tmp_path / "events.out.tfevents.1.host.1.0"
    old.write_bytes(record(event(1, "a", 1.0)))
    folder = EventFolder(tmp_path, lambda pid: pid == 42)
    assert EventFolder(tmp_path / "absent").read(last=True) == []
    for name, value in [("1.host.42.0", 2.0), ("1.my.host.42.1.v2", 3.0), ("1.host.43.0", 4.0)]:
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / f"events.out.tfevents.{name}").write_bytes(record(event(1, f"m{value}", value)))
    assert folder.read(last=True) == [(1, {"m2.0": 2.0, "m3.0": 3.0})]
    assert folder.read() == [], "the disk is looked at four times a second at most"


@pytest.mark.slow
def test_files_of_the_real_writer(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    folder = EventFolder(tmp_path)
    with tensorboard.SummaryWriter(tmp_path / "run") as writer:
        for step in range(3):
            writer.add_scalar("val/acc", 0.25 * step, step)
            writer.add_scalar("loss", 0.5 / (step + 1), step, new_style=True)
        writer.add_scalar("exact", 0.1, 3, double_precision=True, new_style=True)
        writer.add_histogram("weights", numpy.array([1.0, 2.0]), 3)
    found = dict(folder.read(last=True))
    assert found[2] == {"val/acc": 0.5, "loss": pytest.approx(1 / 6)}
    assert found[3]["exact"] == 0.1
