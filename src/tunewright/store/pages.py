"""Reads the rows out of an SQLite file page by page, without SQLite, as far as the pages are whole.

SQLite refuses a file that was cut, and one damaged page hides all that is found through it. The rows themselves lie in
pages that say what they are, so they can be read without the pages above them. What is read here is checked afterwards by
those who know what it should be; nothing is changed.

*Source*: the file format as published by SQLite, https://www.sqlite.org/fileformat2.html: 1.3 header, 1.5 freelist,
1.6 b-tree pages, 1.6.2 overflow, 2.1 records, 4.1 to 4.3 write-ahead log and its checksums.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

_HEADER = b"SQLite format 3\x00"
_WAL = (0x377F0682, 0x377F0683)
_INTERIOR_INDEX, _LEAF_INDEX, _LEAF_TABLE = 2, 10, 13
_SIZES = tuple(2**n for n in range(9, 17))
_FIXED = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}
Value = int | float | str | bytes | None


class Pages:
    """The pages of a database file, with what was committed to its write-ahead log.

    Args:
        path: The file. It may be damaged, or shorter than it says.

    Attributes:
        size: Bytes of a page.
        count: Number of pages, whole ones only.
        wanted: Number of pages that the file says it has, or 0.
        unread: Numbers of the pages that hold rows which could not be read.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = Path(path).open("rb")  # noqa: SIM115 - closed by close
        self._bytes = os.fstat(self._file.fileno()).st_size
        self.size = _page_size(self._file.read(100))
        self._newer = self._log(Path(f"{path}-wal"))
        last = max(self._newer, default=0)
        self.count = max(self._bytes // self.size, last)
        head = self.page(1) or b""
        self.wanted = struct.unpack(">I", head[28:32])[0] if head[:16] == _HEADER else 0
        self._usable = self.size - (head[20] if head[:16] == _HEADER else 0)
        self.unread: set[int] = set()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _log(self, path: Path) -> dict[int, bytes]:
        """The newest committed version of every page in the write-ahead log; it ends where a checksum is wrong."""
        data = path.read_bytes() if path.exists() else b""
        if len(data) < 32:
            return {}
        magic, _, size, _, salt1, salt2, sum1, sum2 = struct.unpack(">8I", data[:32])
        order = ">" if magic & 1 else "<"
        if magic not in _WAL or size != self.size or _checksum(data[:24], (0, 0), order) != (sum1, sum2):
            return {}
        state, committed, pending = (sum1, sum2), {}, {}
        for start in range(32, len(data) - size - 23, size + 24):
            number, commit, one, two, *sums = struct.unpack(">6I", data[start : start + 24])
            page = data[start + 24 : start + 24 + size]
            state = _checksum(page, _checksum(data[start : start + 8], state, order), order)
            if (one, two) != (salt1, salt2) or state != tuple(sums):
                break
            pending[number] = page
            if commit:
                committed.update(pending)
                pending = {}
        return committed

    def page(self, number: int) -> bytes | None:
        """A page by its number from 1, or None when the file ends before its end."""
        if number in self._newer:
            return self._newer[number]
        if not 0 < number <= self._bytes // self.size:
            return None
        self._file.seek((number - 1) * self.size)
        return self._file.read(self.size)

    def free(self) -> set[int]:
        """Pages on the free list, which hold rows of the past; as far as that list can be read."""
        found: set[int] = set()
        head = self.page(1) or b""
        trunk = struct.unpack(">I", head[32:36])[0] if head[:16] == _HEADER else 0
        while trunk and trunk not in found:
            page = self.page(trunk)
            found.add(trunk)
            if page is None:
                break
            trunk, length = struct.unpack(">II", page[:8])
            length = min(length, self._usable // 4 - 2)
            found.update(struct.unpack(f">{length}I", page[8 : 8 + 4 * length]))
        return found

    def rows(self) -> Iterator[tuple[int, int | None, list[Value]]]:
        """Page, rowid (None for tables without) and values of every row that is whole, free pages left out."""
        free = self.free()
        for number in range(1, self.count + 1):
            page = self.page(number)
            if page is None or number in free:
                continue
            start = 100 if number == 1 else 0
            if page[start] in (_INTERIOR_INDEX, _LEAF_INDEX, _LEAF_TABLE):
                yield from self._cells(number, page, start)

    def _cells(self, number: int, page: bytes, start: int) -> Iterator[tuple[int, int | None, list[Value]]]:
        kind = page[start]
        (cells,) = struct.unpack(">H", page[start + 3 : start + 5])
        first = start + (12 if kind == _INTERIOR_INDEX else 8)
        for i in range(min(cells, (len(page) - first) // 2)):
            (at,) = struct.unpack(">H", page[first + 2 * i : first + 2 * i + 2])
            try:
                if at < first or at >= len(page):
                    raise ValueError("a cell outside its page")
                rowid: int | None = None
                at += 4 if kind == _INTERIOR_INDEX else 0
                size, at = _varint(page, at)
                if kind == _LEAF_TABLE:
                    rowid, at = _varint(page, at)
                yield number, rowid, _record(self._payload(page, at, size, kind))
            except (ValueError, IndexError, struct.error, UnicodeDecodeError):
                self.unread.add(number)

    def _payload(self, page: bytes, at: int, size: int, kind: int) -> bytes:
        """The bytes of a row, with those on overflow pages."""
        usable = self._usable
        most = usable - 35 if kind == _LEAF_TABLE else (usable - 12) * 64 // 255 - 23
        if size <= most:
            here = size
        else:
            least = (usable - 12) * 32 // 255 - 23
            here = least + (size - least) % (usable - 4)
            here = least if here > most else here
        if size > self._bytes + self.size * len(self._newer):
            raise ValueError("a row larger than the file")
        parts, left = [page[at : at + here]], size - here
        link = page[at + here : at + here + 4]
        while left:
            more = self.page(struct.unpack(">I", link)[0])
            if more is None:
                raise ValueError("an overflow page is gone")
            parts.append(more[4 : 4 + min(left, usable - 4)])
            left -= len(parts[-1])
            link = more[:4]
        payload = b"".join(parts)
        if len(payload) != size:
            raise ValueError("a row is cut")
        return payload


def _page_size(head: bytes) -> int:
    if head[:16] == _HEADER:
        (size,) = struct.unpack(">H", head[16:18])
        size = 65536 if size == 1 else size
        if size in _SIZES:
            return int(size)
    return 4096


def _checksum(data: bytes, state: tuple[int, int], order: str) -> tuple[int, int]:
    one, two = state
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for i in range(0, len(words), 2):
        one = (one + words[i] + two) & 0xFFFFFFFF
        two = (two + words[i + 1] + one) & 0xFFFFFFFF
    return one, two


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length and the place after it."""
    value = 0
    for i in range(9):
        byte = data[at + i]
        if i == 8:
            value = value << 8 | byte
            return value - (1 << 64) if value >= 1 << 63 else value, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return value, at + i + 1


def _record(payload: bytes) -> list[Value]:
    """The values of a row."""
    length, at = _varint(payload, 0)
    if length > len(payload):
        raise ValueError("a header longer than its row")
    kinds = []
    while at < length:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values = []
    for kind in kinds:
        size = _FIXED[kind] if kind in _FIXED else (kind - 12) // 2
        raw = payload[at : at + size]
        if len(raw) != size or kind in (10, 11) or kind < 0:
            raise ValueError("a value outside its row")
        values.append(_value(kind, raw))
        at += size
    if at != len(payload):
        raise ValueError("a row longer than its values")
    return values


def _value(kind: int, raw: bytes) -> Value:
    if kind == 0:
        return None
    if kind == 7:
        number: float = struct.unpack(">d", raw)[0]
        return number
    if kind in (8, 9):
        return kind - 8
    if kind < 7:
        return int.from_bytes(raw, "big", signed=True)
    return raw.decode() if kind % 2 else raw
