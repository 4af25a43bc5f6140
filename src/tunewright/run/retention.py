"""Which checkpoint files stay: those that something can go on from, and of completed trials as many as the policy says.

A file is removed only after the log says that nobody needs it: the fact that releases it is appended first, then the log
is read to its end, and what a fork of another process came to need meanwhile stays.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

from tunewright.core.events import Dropped
from tunewright.errors import CheckpointError, StoreError
from tunewright.run.checkpoint import unpack_tree
from tunewright.run.session import Session
from tunewright.store import blobs

log = logging.getLogger(__name__)
_ORPHAN = 3600.0
_LOOK = 20


def kept(session: Session, trial: int, default: Any = None) -> Any:
    """The tree in the newest checkpoint of a trial, or ``default`` when it has none.

    Raises:
        CheckpointError: If the file is missing or damaged, or was not written by ``trial.keep`` or ``checkpoint.save``.
    """
    saved = session.sync().trials[trial].checkpoint
    return (
        default if saved is None else unpack_tree(blobs.get(session.store.blobs(session.info.id), saved[1]))
    )


class Retention:
    """Tidies up after one process's run of a study.

    Args:
        session: The study; its policy says what is kept.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._looked_at = -_LOOK
        self._warned = False
        self._began = False

    def tidy(self) -> None:
        """Removes what this process's facts released and what the policy gives up; quick when there is nothing."""
        session, policy = self.session, self.session.policy
        if not self._began:
            self._began = True
            if session.store.durable:
                with contextlib.suppress(StoreError):
                    self.clean()
        if policy.keep is not None and len(session.ledger.finals) > policy.keep:
            ranked = self._ranked()
            self._give_up(ranked[policy.keep :], f"the study keeps the best {policy.keep}")
        if policy.quota is not None and session.saved - self._looked_at >= _LOOK:
            self._looked_at = session.saved
            self._shrink(policy.quota)
        self._sweep()

    def _sweep(self) -> None:
        session = self.session
        if not session.loose:
            return
        names, session.loose = session.loose, []
        with contextlib.suppress(StoreError):
            held = session.sync().held
            folder = session.store.blobs(session.info.id)
            for name in names:
                if name not in held:
                    with contextlib.suppress(OSError, CheckpointError):
                        blobs.remove(folder, name)

    def _ranked(self) -> list[int]:
        """Completed trials that have a checkpoint, the best first, by limits and then the first objective."""
        finals = self.session.ledger.finals
        return sorted(finals, key=lambda number: (*finals[number], number))

    def _give_up(self, trials: list[int], why: str) -> None:
        saves = self.session.ledger.saves
        for number in trials:
            checkpoint = saves[number][0] if number in saves else None
            if checkpoint is not None:
                self.session.record(Dropped(number, checkpoint[1], why))

    def _shrink(self, quota: int) -> None:
        """Gives up checkpoints of completed trials, the worst first, until the rest fits."""
        sizes: dict[str, int] = {}
        with contextlib.suppress(StoreError):
            sizes = dict(self.files())
        total = sum(sizes.values())
        if total <= quota:
            return
        ledger = self.session.sync()
        for number in reversed(self._ranked()):
            checkpoint = ledger.saves[number][0]
            name = checkpoint[1] if checkpoint is not None else ""
            if total <= quota:
                return
            if ledger.held.get(name) == 1:
                self._give_up([number], f"checkpoints may take {quota} bytes")
                total -= sizes.get(name, 0)
        if total > quota and not self._warned:
            self._warned = True
            log.warning(
                "Checkpoints should take %d bytes at most; those that trials can be resumed from take %d. Raise the quota.",
                quota,
                total,
            )

    def files(self) -> list[tuple[str, int]]:
        """Names and sizes in bytes of all checkpoint files.

        Raises:
            StoreUnavailable: If they are kept at an address that cannot be reached.
        """
        return [(e.name, e.size) for e in blobs.listing(self.session.store.blobs(self.session.info.id))]

    def clean(self, age: float = _ORPHAN) -> tuple[int, int]:
        """Removes files that no trial needs, such as those of a process that died before it could say what it saved.

        Args:
            age: Seconds that a file must be old, so that one being saved right now is left alone.

        Returns:
            Number of files removed, and their bytes.
        """
        held = self.session.sync().held
        place = self.session.store.blobs(self.session.info.id)
        number = freed = 0
        for entry in blobs.listing(place):
            if entry.name in held or time.time() - entry.mtime < age:
                continue
            with contextlib.suppress(OSError, CheckpointError):
                blobs.remove(place, entry.name)
                number, freed = number + 1, freed + entry.size
        return number, freed
