"""What pages look at: the list of studies, and the trials of one as columns."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from tunewright.analysis.stopping import Bound
from tunewright.core.trial import Ledger, Trial
from tunewright.opening import stored_problem
from tunewright.run.session import Session
from tunewright.store.base import Store, StudyInfo
from tunewright.web.charting import Seen, Told
from tunewright.web.columns import Columns, standing
from tunewright.web.packing import Packed, encode
from tunewright.web.shelf import reading

_BLOCK = 20_000
_MOST_HELD = 32
_MOST_LINES = 10_000


class Held:
    """The columns of one study, kept up to date; one thread at a time brings them there.

    Attributes:
        info: What the store says about the study.
        store: Where it is.
        columns: Its trials.
        lock: Held while they change or are read.
        told: Makes the arrays of its trials, for models.
        bound: What may still be gained, and the number of results that this rests on.
    """

    def __init__(self, store: Store, info: StudyInfo) -> None:
        self.info = info
        self.store = store
        self.columns = Columns(stored_problem(info, None))
        self.lock = threading.Lock()
        self._packed: tuple[int, Packed] | None = None
        self._reader: Session | None = None
        self._opening = threading.Lock()
        self._trials: list[Trial] = []
        self.told = Told(store, info)
        self.bound: tuple[int, Bound | None] | None = None

    def last(self) -> int:
        """Position of the last record of the log."""
        return self.store.last(self.info.id)

    def reader(self) -> Session:
        """A handle that only reads: it takes no decisions, and waits for nobody who does."""
        with self._opening:
            if self._reader is None:
                self._reader = reading(self.store, self.info)
            return self._reader

    def ledger(self) -> Ledger:
        """The newest ledger, for looking."""
        return self.reader().sync()

    def seen(self) -> Seen:
        """The study as charts read it; its trials are read once and then kept."""
        reader = self.reader()
        with reader.lock:
            ledger = reader.sync()
            # Held here, they stay in memory, so that a chart may look at them in any order.
            self._trials = list(ledger.trials)
            return Seen(self.info, reader, self._trials, self.told)

    def sync(self) -> Columns:
        """Folds what is new in the log; call with the lock held."""
        full = True
        while full:
            records = self.store.read(self.info.id, self.columns.rev, _BLOCK)
            self.columns.fold(records)
            full = len(records) == _BLOCK
        return self.columns

    def packed(self, since: int) -> Packed:
        """What changed after a position, ready to be sent; all of it is compressed once per state of the log."""
        with self.lock:
            columns = self.sync()
            if self._packed is not None and self._packed[0] == columns.rev and since <= 0:
                return self._packed[1]
            data = {
                **columns.since(since, self.info.created),
                "name": self.info.name,
                "method": str(self.info.spec.get("method", "")),
            }
            found = Packed(encode(data), f"{self.info.id}-{self.info.created}-{columns.rev}")
            if since <= 0:
                self._packed = columns.rev, found
            return found


class Board:
    """The studies as pages see them.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._held: OrderedDict[int, Held] = OrderedDict()
        self._lines: dict[int, tuple[tuple[int, float], dict[str, Any]]] = {}

    def line(self, info: StudyInfo) -> dict[str, Any]:
        """One line of the list of studies; kept while the log is the same, so that its columns need not be."""
        found = self._line(info)
        if not found["counts"].get("running"):
            return found
        # Trials whose workers are gone go on running in the log until somebody takes them back.
        alive = {x.worker for x in self._store.leases(info.id) if not x.expired}
        state = found["state"] if alive or found["state"] == "paused" else "idle"
        return {**found, "workers": len(alive), "state": state}

    def _line(self, info: StudyInfo) -> dict[str, Any]:
        mark = self._store.last(info.id), info.created
        known = self._lines.get(info.id)
        if known is not None and known[0] == mark:
            return known[1]
        held = self.held(info)
        with held.lock:
            found = summary(info, held.sync())
            mark = held.columns.rev, info.created
        if len(self._lines) > _MOST_LINES:
            self._lines.clear()
        self._lines[info.id] = mark, found
        return found

    def held(self, info: StudyInfo) -> Held:
        """The columns of a study; those wanted least lately are let go."""
        with self._lock:
            found = self._held.get(info.id)
            if found is None or found.info.created != info.created:
                found = self._held[info.id] = Held(self._store, info)
                if len(self._held) > _MOST_HELD:
                    self._held.popitem(last=False)
            self._held.move_to_end(info.id)
            return found


def summary(info: StudyInfo, columns: Columns) -> dict[str, Any]:
    """One line of the list of studies."""
    best = columns.best
    counts = columns.counts
    first = columns.problem.objectives[0].name
    return {
        "name": info.name,
        "method": str(info.spec.get("method", "")),
        "created": info.created,
        "updated": columns.updated or info.created,
        "objectives": [{"name": o.name, "goal": o.goal, "unit": o.unit} for o in columns.problem.objectives],
        "counts": counts,
        "best": float(columns.value(first)[best]) if best >= 0 else None,
        "best_trial": best if best >= 0 else None,
        "workers": 0,
        "state": standing(columns.control, bool(counts.get("running"))),
        "tags": list(columns.tags),
    }
