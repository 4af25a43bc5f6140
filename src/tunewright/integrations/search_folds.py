"""The folds of a search: drawn once, so that every candidate meets the same ones, whole or in parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Folds"]

Split = tuple[Any, Any]


class Folds:
    """A splitter around another one.

    Args:
        cv: The splitter of the user.
        single: Whether each call of ``split`` gives one fold, so that candidates are measured fold by fold.
        seed: Decides which rows a part of a fold's training data has.
        by_class: Whether such a part has each class in proportion.

    Attributes:
        count: Folds in all; known after the first split.
    """

    def __init__(self, cv: Any, single: bool, seed: int, by_class: bool) -> None:
        self.cv, self.single, self.seed, self.by_class = cv, single, seed, by_class
        self._splits: list[Split] | None = None
        self._orders: dict[int, NDArray[np.intp]] = {}
        self.count = 0

    def get_n_splits(self, *args: Any, **more: Any) -> int:
        """Folds that one call of ``split`` gives."""
        self.count = int(self.cv.get_n_splits(*args, **more))
        return 1 if self.single else self.count

    def split(self, X: Any, y: Any = None, **more: Any) -> list[Split]:
        """Training and test rows of each fold."""
        return self.part(X, y, None, 1.0, **more)

    def part(self, X: Any, y: Any, fold: int | None, share: float, **more: Any) -> list[Split]:
        """One fold or all of them, with a share of the rows for training."""
        if self._splits is None:
            self._splits = list(self.cv.split(X, y, **more))
        chosen = range(len(self._splits)) if fold is None else [fold]
        splits = [self._splits[k] for k in chosen]
        if share >= 1:
            return splits
        return [
            (self._rows(k, train, y, share), test) for k, (train, test) in zip(chosen, splits, strict=True)
        ]

    def _rows(self, fold: int, train: Any, y: Any, share: float) -> Any:
        """The first rows in an order drawn once, so that a larger part holds every smaller one."""
        rows = np.flatnonzero(train) if np.asarray(train).dtype == bool else np.asarray(train)
        if fold not in self._orders:
            rng = np.random.default_rng((self.seed, fold))
            order = rng.permutation(len(rows))
            if self.by_class and np.ndim(y) == 1:
                order = order[np.argsort(_ranks(np.asarray(y)[rows][order]), kind="stable")]
            self._orders[fold] = order
        return rows[self._orders[fold][: max(1, math.ceil(share * len(rows)))]]

    def get_metadata_routing(self) -> Any:
        """What the user's splitter asks for, such as groups."""
        from sklearn.utils.metadata_routing import MetadataRequest

        own = getattr(self.cv, "get_metadata_routing", None)
        return MetadataRequest(owner=type(self.cv).__name__) if own is None else own()


class Part:
    """What one evaluation sees of the folds."""

    def __init__(self, folds: Folds, fold: int | None = None, share: float = 1.0) -> None:
        self._folds, self._fold, self._share = folds, fold, share

    def split(self, X: Any, y: Any = None, **more: Any) -> list[Split]:
        """Training and test rows."""
        return self._folds.part(X, y, self._fold, self._share, **more)


def _ranks(labels: NDArray[Any]) -> NDArray[np.float64]:
    """Place of each row within its class, as a share of the class."""
    ranks = np.empty(len(labels))
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    for kind, count in enumerate(counts):
        ranks[codes == kind] = np.arange(count) / count
    return ranks
