"""Keeps the leases of this process's running trials alive while their training is silent."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from tunewright.errors import StoreError
from tunewright.run.session import Policy
from tunewright.store.base import Store

log = logging.getLogger(__name__)


class Renews(Protocol):
    """What has leases: a session, or a worker's view of a server."""

    store: Store
    policy: Policy

    def renew(self, held: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Extends the leases of ``(trial, token)`` pairs; returns those that were taken over."""
        ...


class Heart:
    """Renews leases from a thread of its own, at a third of their length.

    Args:
        session: This process's handle on the study.
    """

    def __init__(self, session: Renews) -> None:
        self._session = session
        self._held: dict[int, int] = {}
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost: set[int] = set()

    def hold(self, trial: int, token: int) -> None:
        """Starts renewing the lease of an attempt."""
        with self._lock:
            self._held[trial] = token
            if self._pid != os.getpid():
                # Threads do not survive a fork, and the parent keeps renewing what was its own.
                self._thread, self._pid, self._held = None, os.getpid(), {trial: token}
            if self._thread is None and self._session.store.durable:
                self._thread = threading.Thread(target=self._beat, name="tunewright-heart", daemon=True)
                self._thread.start()

    def release(self, trial: int) -> None:
        """Stops renewing."""
        with self._lock:
            self._held.pop(trial, None)

    def __enter__(self) -> Heart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the thread."""
        self._done.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None

    def _beat(self) -> None:
        every = self._session.policy.lease / 3
        while not self._done.wait(every):
            with self._lock:
                held = list(self._held.items())
            if not held:
                continue
            try:
                gone = self._session.renew(held)
            except StoreError as error:
                log.warning("leases could not be renewed this time: %s", error)
                continue
            with self._lock:
                for trial, token in gone:
                    if self._held.get(trial) == token:
                        del self._held[trial]
                        self.lost.add(trial)
                        log.warning("trial %d was taken over by another process", trial)
