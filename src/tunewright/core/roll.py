"""A long sequence of which not everything is in memory: the rest is read when somebody looks at it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar, overload

T = TypeVar("T")


class Source(Protocol[T]):
    """Where what is not in memory comes from."""

    def fill(self, rows: list[T | None], number: int) -> None:
        """Puts what has that number in its row, and any others that are met on the way."""
        ...

    def release(self, rows: list[T | None], kept: set[int]) -> None:
        """Empties rows that can be read again, but for those kept and those that somebody holds."""
        ...


class Roll(Sequence[T]):
    """A sequence by number, such as the trials of a study; read it, never change it.

    Attributes:
        rows: What is in memory, None for the rest. For whoever fills it.
        source: Where the rest comes from; None when all is in memory.
    """

    __slots__ = ("rows", "source")

    def __init__(self) -> None:
        self.rows: list[T | None] = []
        self.source: Source[T] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        rows = self.rows
        if isinstance(index, slice):
            return [rows[i] or self._fetched(i) for i in range(*index.indices(len(rows)))]
        return rows[index] or self._fetched(range(len(rows))[index])

    def __iter__(self) -> Iterator[T]:
        rows, number = self.rows, 0
        while number < len(rows):
            yield rows[number] or self._fetched(number)
            number += 1

    def __repr__(self) -> str:
        return f"<{len(self.rows)} in all>"

    def _fetched(self, number: int) -> T:
        assert self.source is not None, (
            f"number {number} is not in memory and there is nowhere to read it from"
        )
        self.source.fill(self.rows, number)
        found = self.rows[number]
        assert found is not None
        return found
