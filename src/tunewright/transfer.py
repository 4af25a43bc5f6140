"""Earlier studies as sources of transfer: reads them from a store.

Example:
    Search a new data set with what two earlier studies found::

        import tunewright as tw

        earlier = tw.transfer.sources("studies.db", ["svm on adult", "svm on bank"])
        study = tw.Study.open("svm on census", space, method="transfer", options={"sources": earlier})
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from tunewright.core.history import COMPLETED, History
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models.sources import Source, thinned
from tunewright.opening import missing
from tunewright.store.base import Store
from tunewright.store.urls import open_store

__all__ = ["Source", "sources"]


def sources(
    storage: str | os.PathLike[str] | Store | None = None,
    studies: Sequence[str] | None = None,
    *,
    most: int = 200,
) -> list[Source]:
    """Reads earlier studies, for ``options={"sources": ...}`` of a transfer method.

    The losses are those of the first objective, lower is better; failed trials and those that exceed an outcome limit are
    left out, and as long as any trial is complete, so are those that are not.

    Args:
        storage: As for ``Study.open``.
        studies: Their names; None takes every study of the store with at least two results.
        most: Trials kept of each: the better half of them the best, the others evenly over the remaining ranks.

    Returns:
        One source per study.

    Raises:
        ConfigError: If a named study has fewer than two results, or ``most`` is below 2.
        StudyMissing: If a named study is not there.
        StoreUnavailable: If the store cannot be opened.
    """
    if most < 2:
        raise ConfigError(f"A source needs at least two trials; got most={most}. Use 200.")
    if isinstance(studies, str):
        studies = [studies]
    store = open_store(storage)
    owned = storage is None or isinstance(storage, str | os.PathLike)
    try:
        wanted = [s.name for s in store.studies()] if studies is None else list(studies)
        found = [_source(store, name, most) for name in wanted]
    finally:
        if owned:
            store.close()
    for source in found:
        if studies is not None and len(source.losses) < 2:
            raise ConfigError(
                f"A source needs at least two results; '{source.name}' has {len(source.losses)}. Leave it out."
            )
    return [s for s in found if len(s.losses) >= 2]


def _source(store: Store, name: str, most: int) -> Source:
    info = store.find(name)
    if info is None:
        raise missing(name, store)
    history = History(Problem.from_dict(info.spec["problem"]))
    for record in store.read(info.id):
        history.apply(record.event)
    good = history.usable & np.isfinite(history.loss) & (history.violation <= 0.0)
    done = good & (history.status == COMPLETED)
    rows = np.flatnonzero(done if done.any() else good)
    places, losses = thinned(rows.astype(np.float64)[:, None], history.loss[rows], most)
    kept = places[:, 0].astype(np.int64).tolist()
    return Source(name, tuple(history.configs[i] for i in kept), tuple(losses.tolist()))
