"""Reads scalars out of TensorBoard's event files while a script writes them, without TensorBoard.

A file is a row of records: length (8 bytes), a checksum of it (4), data, a checksum of the data (4). The data is a
protocol buffer ``Event``: field 2 is the step, field 5 a ``Summary`` whose field 1 repeats ``Value`` (1 tag, 2 a number,
8 a tensor of one number). Source: ``event.proto``, ``summary.proto`` and ``record_writer.h`` of TensorFlow.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

Scalar = tuple[int, str, float]
_PID = re.compile(r"tfevents\.\d+\..*\.(\d+)\.\d+(?:\.v2)?$")
_LONGEST = 1 << 28
_EVERY = 0.25
_KEEP = 10_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT, _DOUBLE = 1, 2


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, kind and content of every field of a message; a varint comes as its 8 bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, kind, (value & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if at + size > len(data):
            raise ValueError("a field longer than its message")
        yield key >> 3, kind, data[at : at + size]
        at += size


def scalars(event: bytes) -> list[Scalar]:
    """The numbers of one event, as (step, tag, value).

    Raises:
        ValueError, IndexError, struct.error: If it is no event.
    """
    step, found = 0, []
    for number, kind, content in _fields(event):
        if number == 2 and kind == _VARINT:
            step = int.from_bytes(content, "little", signed=True)
        elif number == 5 and kind == _BYTES:
            for inner, shape, value in _fields(content):
                if inner == 1 and shape == _BYTES:
                    tag, number_of = _value(value)
                    if number_of is not None:
                        found.append((tag, number_of))
    return [(step, tag, value) for tag, value in found]


def _value(data: bytes) -> tuple[str, float | None]:
    tag, value = "", None
    for number, kind, content in _fields(data):
        if number == 1 and kind == _BYTES:
            tag = content.decode("utf-8", "replace")
        elif number == 2 and kind == _FIXED32:
            value = struct.unpack("<f", content)[0]
        elif number == 8 and kind == _BYTES:
            value = _tensor(content)
    return tag, value


def _tensor(data: bytes) -> float | None:
    """The number in a tensor that holds one; None for any other."""
    form, content = 0, b""
    for number, kind, value in _fields(data):
        if number == 1 and kind == _VARINT:
            form = value[0]
        elif number in (4, 5, 6) and kind in (_BYTES, _FIXED32, _FIXED64):
            content = value or content
    size, code = {_FLOAT: (4, "<f"), _DOUBLE: (8, "<d")}.get(form, (0, ""))
    if not size or len(content) != size:
        return None
    return float(struct.unpack(code, content)[0])


class EventFile:
    """One file that grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._rest = b""

    def read(self) -> list[Scalar]:
        """What was written completely since the last call; nothing more once the file is damaged."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._at)
                data = stream.read()
        except OSError:
            return []
        self._at += len(data)
        data, self._rest = self._rest + data, b""
        found: list[Scalar] = []
        at = 0
        while len(data) - at >= 12:
            (size,) = struct.unpack_from("<Q", data, at)
            if size > _LONGEST:
                return found
            if len(data) - at < 16 + size:
                break
            try:
                found += scalars(data[at + 12 : at + 12 + size])
            except (ValueError, IndexError, struct.error):
                return found
            at += 16 + size
        self._rest = data[at:]
        return found


class EventFolder:
    """The event files below a folder that appear from now on.

    Args:
        folder: Where they will be; it may not exist yet.
        mine: Says whether a file is of this trial, by the process that wrote it; None takes all.
    """

    def __init__(self, folder: Path, mine: Callable[[int], bool] | None = None) -> None:
        self._folder = folder
        self._mine = mine
        self._files: dict[Path, EventFile] = {}
        self._others = set(self._paths())
        self._due = 0.0

    def _paths(self) -> list[Path]:
        return sorted(self._folder.rglob("*tfevents*"))[-_KEEP:] if self._folder.is_dir() else []

    def read(self, *, last: bool = False) -> list[tuple[int, dict[str, float]]]:
        """New numbers by step, in the order written; looks at the disk four times a second at most.

        Args:
            last: The writer has ended: look in any case.
        """
        if not last and time.monotonic() < self._due:
            return []
        self._due = time.monotonic() + _EVERY
        for path in self._paths():
            if path not in self._files and path not in self._others:
                pid = _PID.search(path.name)
                if pid is None or self._mine is None or self._mine(int(pid[1])):
                    self._files[path] = EventFile(path)
                else:
                    self._others.add(path)
        found: dict[int, dict[str, float]] = {}
        for file in self._files.values():
            for step, tag, value in file.read():
                found.setdefault(step, {})[tag] = value
        return list(found.items())
