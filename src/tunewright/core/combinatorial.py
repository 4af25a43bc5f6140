"""Parameters that span several columns of codes: an order of items, and a selection of options.

Each column is a random key (Bean 1994, ORSA J. Computing 6(2):154-160), so that every method that moves codes can
search orders and selections. A permutation of ``n`` items has one column per item, its position: the item of rank
``r`` has code ``(r + 0.5) / n``, so the squared distance between two codes is Spearman's distance between the orders.
A subset of ``n`` options has one two-level column per option.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.options import Value, check_belief, check_options, compact, key, plain
from tunewright.errors import SpaceError

Codes = NDArray[np.float64]
MAX_ITEMS = 1000
_OUT, _IN = 0.25, 0.75
_NEAR = 0.1


def _listed(name: str, given: Any) -> tuple[Value, ...]:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence | np.ndarray):
        raise SpaceError(f"{name} needs a list; got {given!r:.120}. Write {name}(['a', 'b', 'c']).")
    items = tuple(plain(o) for o in given)
    check_options(name, items, MAX_ITEMS)
    return items


def plain_list(value: Any) -> Any:
    """A list of plain values from a list, tuple or array; anything else unchanged.

    Raises:
        SpaceError: If an element is not plain.
    """
    return [plain(v) for v in value] if isinstance(value, list | tuple | np.ndarray) else value


def _ranks(keys: Codes) -> NDArray[np.int64]:
    """Rank of each column within its row, ties by column; shape ``(n, k)``."""
    order = np.argsort(keys, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(keys.shape[1])[None, :], axis=1)
    return ranks


@dataclass(frozen=True, slots=True)
class Permutation:
    """An order of some items; its value is the list of all of them, first to last.

    Args:
        items: What is ordered, at most 1,000 distinct plain values.
        guess: The order you believe in.
        confidence: How much weight the guess gets, in ``[0, 1)``.

    Raises:
        SpaceError: If there is no item, one occurs twice, or the guess is not an order of them.

    Example:
        >>> Permutation(["wash", "dry", "fold"]).count
        6
    """

    items: Sequence[Any]
    _: KW_ONLY
    guess: Sequence[Any] | None = None
    confidence: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", _listed("Permutation", self.items))
        check_belief("Permutation", self.confidence)
        if self.guess is not None:
            object.__setattr__(self, "guess", plain_list(self.guess))
            if not self.contains(self.guess):
                raise SpaceError(
                    f"A guess must list every item once; got {self.guess!r:.120}, not an order of {list(self.items)!r:.120}."
                )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Permutation) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each column: the item."""
        return tuple(str(i) for i in self.items)

    @property
    def width(self) -> int:
        """Number of columns: one per item."""
        return len(self.items)

    @property
    def count(self) -> int:
        """Number of orders, ``n!``."""
        return math.factorial(len(self.items))

    def contains(self, value: Any) -> bool:
        """Whether ``value`` is a list with every item exactly once."""
        return (
            isinstance(value, list)
            and len(value) == len(self.items)
            and all(v is None or isinstance(v, bool | int | float | str) for v in value)
            and {key(v) for v in value} == {key(o) for o in self.items}
        )

    def encode(self, value: Sequence[Any]) -> list[float]:
        """Code of each item's position, length ``width``.

        Raises:
            KeyError: If an item is missing.
        """
        n = len(value)
        place = {key(v): i for i, v in enumerate(value)}
        return [(place[key(o)] + 0.5) / n for o in self.items]

    def decode(self, codes: Sequence[float]) -> list[Any]:
        """The items by increasing code, ties in the order of the items."""
        return [self.items[i] for i in sorted(range(len(codes)), key=codes.__getitem__)]

    def snap(self, codes: Codes) -> Codes:
        """Moves keys, shape ``(n, width)`` without NaN, onto the positions that they mean."""
        out: Codes = (_ranks(codes) + 0.5) / codes.shape[1]
        return out

    def draw(self, rng: np.random.Generator, n: int) -> Codes:
        """Orders with equal chances, shape ``(n, width)``."""
        return self.snap(rng.random((n, self.width)))

    def near(self, rng: np.random.Generator, n: int) -> Codes:
        """Orders around the guess: its positions with normal noise of a tenth of the length; ``(n, width)``."""
        centre = np.array(self.encode(self.guess or self.items))
        return self.snap(centre + rng.normal(0.0, _NEAR, (n, self.width)))

    def every(self) -> Codes:
        """All orders, shape ``(count, width)``."""
        orders = np.array(list(itertools.permutations(range(self.width))), dtype=np.float64)
        return (orders + 0.5) / self.width

    def known(self, value: Any) -> list[float] | None:
        """Codes of an order of other items, those unknown left out; None where an item has no place in it."""
        if not isinstance(value, list):
            return None
        mine = {key(o) for o in self.items}
        kept = [v for v in value if key(v) in mine]
        return self.encode(kept) if self.contains(kept) else None

    def describe(self) -> str:
        """The parameter in words."""
        return f"an order of {shown(self.items)}"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return compact("permutation", self, ("items", "guess", "confidence"))


@dataclass(frozen=True, slots=True)
class Subset:
    """Some of several options; its value is the list of those chosen, in the order of the options.

    Args:
        options: What is chosen from, at most 1,000 distinct plain values.
        least: Fewest that may be chosen.
        most: Most that may be chosen; None for all.
        guess: The selection you believe in.
        confidence: How much weight the guess gets, in ``[0, 1)``.

    Raises:
        SpaceError: If there is no option, one occurs twice, or the sizes or the guess cannot be used.

    Example:
        >>> Subset(["flip", "crop", "mixup"], least=1).count
        7
    """

    options: Sequence[Any]
    least: int = 0
    most: int | None = None
    _: KW_ONLY
    guess: Sequence[Any] | None = None
    confidence: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _listed("Subset", self.options))
        n = len(self.options)
        most = n if self.most is None else self.most
        for size in (self.least, most):
            if isinstance(size, bool) or not isinstance(size, int | np.integer):
                raise SpaceError(f"Subset needs whole numbers for its sizes; got {size!r:.80}. Correct it.")
        if not 0 <= self.least <= most <= n:
            raise SpaceError(
                f"Subset needs 0 <= least <= most <= {n}, the number of options; got least={self.least}, most={most}. Correct them."
            )
        object.__setattr__(self, "least", int(self.least))
        object.__setattr__(self, "most", None if most == n else int(most))
        check_belief("Subset", self.confidence)
        if self.guess is not None:
            guess = self.ordered(plain_list(self.guess))
            object.__setattr__(self, "guess", guess)
            if not self.contains(guess):
                raise SpaceError(f"A guess must be {self.describe()}; got {guess!r:.120}. Correct it.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subset) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each column: the option."""
        return tuple(str(o) for o in self.options)

    @property
    def width(self) -> int:
        """Number of columns: one per option."""
        return len(self.options)

    @property
    def largest(self) -> int:
        """Most options that may be chosen."""
        return self.width if self.most is None else self.most

    @property
    def count(self) -> int:
        """Number of selections of an allowed size."""
        return sum(math.comb(self.width, s) for s in range(self.least, self.largest + 1))

    def ordered(self, value: Any) -> Any:
        """A list of options in the order in which they were declared; anything else unchanged."""
        if not isinstance(value, list):
            return value
        place = {key(o): i for i, o in enumerate(self.options)}
        if not all(_hashable(v) and key(v) in place for v in value):
            return value
        return sorted(value, key=lambda v: place[key(v)])

    def contains(self, value: Any) -> bool:
        """Whether ``value`` is a list of distinct options, of an allowed size, in their order."""
        if not isinstance(value, list) or not self.least <= len(value) <= self.largest:
            return False
        place = {key(o): i for i, o in enumerate(self.options)}
        places = [place.get(key(v), -1) if _hashable(v) else -1 for v in value]
        return all(a < b for a, b in itertools.pairwise([-1, *places]))

    def encode(self, value: Sequence[Any]) -> list[float]:
        """Code of each option, length ``width``: 0.75 where it is chosen, else 0.25."""
        chosen = {key(v) for v in value}
        return [_IN if key(o) in chosen else _OUT for o in self.options]

    def decode(self, codes: Sequence[float]) -> list[Any]:
        """The options with a code of at least one half, moved to an allowed size as ``snap`` does."""
        chosen = [o for o, u in zip(self.options, codes, strict=True) if u >= 0.5]
        if self.least <= len(chosen) <= self.largest:
            return chosen
        return self.decode(self.snap(np.array([codes], dtype=np.float64))[0].tolist())

    def snap(self, codes: Codes) -> Codes:
        """Moves keys, shape ``(n, width)`` without NaN, onto selections of an allowed size.

        Options join or leave in the order of their keys. Among equal keys the turn starts at a place that depends on
        what is chosen, so that no option is favoured.
        """
        inside = codes >= 0.5
        size = inside.sum(axis=1)
        bad = np.flatnonzero((size < self.least) | (size > self.largest))
        if len(bad):
            n = self.width
            turn = (inside[bad] * np.arange(1, n + 1)).sum(axis=1) % n
            tie = (np.arange(n)[None, :] - turn[:, None]) % n
            order = np.lexsort((tie, -codes[bad]), axis=1)
            target = np.clip(size[bad], self.least, self.largest)
            kept = np.zeros((len(bad), n), dtype=np.bool_)
            np.put_along_axis(kept, order, np.arange(n)[None, :] < target[:, None], axis=1)
            inside[bad] = kept
        return np.where(inside, _IN, _OUT)

    def draw(self, rng: np.random.Generator, n: int) -> Codes:
        """Selections with equal chances, shape ``(n, width)``: first the size, then that many options."""
        sizes = np.arange(self.least, self.largest + 1)
        k = self.width
        weight = np.array([math.lgamma(k + 1) - math.lgamma(s + 1) - math.lgamma(k - s + 1) for s in sizes])
        chance = np.exp(weight - weight.max())
        size = rng.choice(sizes, size=n, p=chance / chance.sum())
        return np.where(_ranks(rng.random((n, k))) < size[:, None], _IN, _OUT)

    def near(self, rng: np.random.Generator, n: int) -> Codes:
        """Selections around the guess: each option differs from it with chance a tenth; shape ``(n, width)``."""
        centre = np.array(self.encode(self.guess or ()))
        flipped = np.where(rng.random((n, self.width)) < _NEAR, 1.0 - centre, centre)
        return self.snap(flipped + 1e-3 * rng.random((n, self.width)))

    def every(self) -> Codes:
        """All selections, shape ``(count, width)``."""
        rows = [
            [_IN if i in chosen else _OUT for i in range(self.width)]
            for s in range(self.least, self.largest + 1)
            for chosen in map(set, itertools.combinations(range(self.width), s))
        ]
        return np.array(rows, dtype=np.float64)

    def known(self, value: Any) -> list[float] | None:
        """Codes of a selection from another version of the options; None when a chosen one no longer exists."""
        if not isinstance(value, list):
            return None
        mine = {key(o) for o in self.options}
        return self.encode(value) if all(_hashable(v) and key(v) in mine for v in value) else None

    def describe(self) -> str:
        """The parameter in words."""
        low, high = self.least, self.largest
        size = f"{low}" if low == high else f"{low} to {high}"
        return f"{size} of {shown(self.options)}"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        out = compact("subset", self, ("options", "guess", "confidence"))
        if self.least:
            out["least"] = self.least
        if self.most is not None:
            out["most"] = self.most
        return out


def _hashable(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def shown(options: Sequence[Any]) -> str:
    """Options in a message, the first eight of many."""
    texts = [repr(o) for o in options]
    return ", ".join(texts[:8]) + (f", ... ({len(texts)} in all)" if len(texts) > 8 else "")
