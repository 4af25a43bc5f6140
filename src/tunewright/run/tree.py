"""What workers use with everything they started, from the process table of Linux; nothing is known elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")


class Usage(NamedTuple):
    """What the processes below a guard use together.

    Attributes:
        memory: Bytes of resident memory; pages that several of them share are counted for each.
        cpu: Seconds of processor time, those of ended processes included.
        processes: How many there are.
    """

    memory: int = 0
    cpu: float = 0.0
    processes: int = 0


class _Entry(NamedTuple):
    parent: int
    memory: int
    own: int
    ended: int


def usage(roots: Sequence[int]) -> dict[int, Usage]:
    """What each tree of processes uses, the root itself left out, except for what it has seen ending."""
    table = _table()
    page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    wanted = set(roots)
    total = {root: Usage(cpu=table[root].ended / tick if root in table else 0.0) for root in roots}
    for entry in table.values():
        root = _above(entry.parent, wanted, table)
        if root in total:
            memory, cpu, count = total[root]
            used = cpu + (entry.own + entry.ended) / tick
            total[root] = Usage(memory + entry.memory * page, used, count + 1)
    return total


def descendants(root: int) -> list[int]:
    """Every process below another one."""
    table = _table()
    return [pid for pid, entry in table.items() if _above(entry.parent, {root}, table) == root]


def _above(pid: int, wanted: set[int], table: dict[int, _Entry]) -> int:
    """The nearest wanted process among a process and those above it; 0 for none."""
    for _ in range(len(table) + 1):
        if pid in wanted or pid not in table:
            break
        pid = table[pid].parent
    return pid if pid in wanted else 0


def _table() -> dict[int, _Entry]:
    table: dict[int, _Entry] = {}
    for entry in _PROC.glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            own, ended = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
            table[int(entry.name)] = _Entry(int(fields[1]), int(fields[21]), own, ended)
        except (OSError, ValueError, IndexError):
            continue
    return table
