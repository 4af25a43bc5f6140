"""A process's connections to one PostgreSQL: a few, patient, safe between threads and across a fork."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TypeVar

from tunewright.errors import SchemaError, StoreError, StoreUnavailable
from tunewright.store.pg_address import Address
from tunewright.store.pg_line import Line, Lost, Refused, Session
from tunewright.store.pg_schema import OLDEST_SERVER, SETTINGS, prepare, quoted

_DICE = random.SystemRandom()  # pauses must not advance the generator that trainings draw from

log = logging.getLogger(__name__)
T = TypeVar("T")
# Connections for calls, as many for calls inside calls, and beside them for deciders; one more listens.
LINES, DECIDERS = 4, 4
_IDLE, _PAUSE = 0.5, 2.0
# A decider that stops in the middle of a decision keeps the others waiting for no longer than this.
_HELD = 5.0
_POLL = 0.25
_DENIED = (
    "password authentication failed",
    "no pg_hba.conf entry",
    "does not exist",
    "authentication failed",
)
_links: weakref.WeakSet[Link] = weakref.WeakSet()
# Connections of the parent that a fork found; closing them properly in the child would end the parent's sessions.
_abandoned: list[Line] = []


class Link:
    """Connections, opened when needed.

    Args:
        address: Where to.
        deadline: Longest wait for one answer, in seconds.
        patience: Longest time during which a call is tried again, in seconds.

    Attributes:
        mark: Tells this schema from all others; known once a connection stood.
    """

    def __init__(self, address: Address, deadline: float, patience: float) -> None:
        self.address = address
        self.deadline = deadline
        self.patience = patience
        self.mark = ""
        self._opened = False
        self._restored = 0.0
        self._start()
        _links.add(self)

    def _start(self) -> None:
        self._room = threading.BoundedSemaphore(LINES)
        self._nested_room = threading.BoundedSemaphore(LINES)
        self._mine = threading.local()
        self._mutex = threading.Lock()
        self._idle: list[Line] = []
        self._lines: weakref.WeakSet[Line] = weakref.WeakSet()
        self._deciding: dict[int, tuple[threading.RLock, list[int]]] = {}
        self._deciders: list[Line] = []
        self._decider_room = threading.BoundedSemaphore(DECIDERS)
        self._ear: Line | None = None
        self._ear_lock = threading.Lock()
        self._rung = threading.Condition()
        self._rings: dict[int, int] = {}

    @property
    def place(self) -> str:
        """Names the place in messages."""
        return self.address.shown

    def quiet(self) -> float:
        """Seconds for which the server has answered without an interruption that this process noticed."""
        return time.monotonic() - self._restored if self._restored else 1e18

    def call(self, work: Callable[[Line, float, bool], T], *, patience: float | None = None) -> T:
        """Runs ``work`` on a connection, again and again while the server is away.

        Args:
            work: Gets the connection, the latest end of this try on ``time.monotonic``, and whether an earlier try may
                have had its effect although it got no answer.
            patience: Seconds after which to give up; None for the link's.

        Raises:
            StoreUnavailable: If the server did not come back in time, or cannot do what was asked.
            SchemaError: If the schema is not a store.
        """
        begin = time.monotonic()
        end = begin + (self.patience if patience is None else patience)
        attempt, again = 0, False
        ghosts: list[Session] = []
        while True:
            limit = min(time.monotonic() + self.deadline, end)
            try:
                with self._line(limit) as line:
                    self._lay(ghosts, line, limit)
                    begun = time.monotonic()
                    found = work(line, limit, again)
                    if attempt or time.monotonic() - begun > _PAUSE:
                        self._restored = time.monotonic()
                    return found
            except Lost as lost:
                again = again or lost.sent
                if lost.sent and lost.session is not None:
                    ghosts.append(lost.session)
                reason: Lost | Refused = lost
            except Refused as refused:
                if not refused.transient:
                    raise self.explain(refused) from None
                reason = refused
            attempt += 1
            self._check_hope(reason, attempt, begin, end)
            if isinstance(reason, Lost):
                self._hang_up_idle()
            time.sleep(
                min(_DICE.random() * min(0.02 * 2 ** min(attempt, 8), 2.0), max(0.0, end - time.monotonic()))
            )

    def _check_hope(self, reason: Lost | Refused, attempt: int, begin: float, end: float) -> None:
        """Gives up when the time is over, or when a first connection is refused for a reason that stays."""
        text = self.address.clean(str(reason))
        stays = not self._opened and any(word in text for word in _DENIED)
        if stays or time.monotonic() >= end:
            raise StoreUnavailable(
                f"The store needs a PostgreSQL that answers; {self.place} gave '{text}' for "
                f"{time.monotonic() - begin:.0f} s. Check that it runs, the address, the user and the password."
            ) from None
        if attempt in (3, 10):
            log.warning(
                "%s does not answer (%s); trying for another %.0f s", self.place, text, end - time.monotonic()
            )

    def _lay(self, ghosts: list[Session], line: Line, end: float) -> None:
        """Ends the sessions of earlier tries, so that what they were told cannot be done after we have looked."""
        while ghosts:
            ghost = ghosts[-1]
            question = (
                "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity "
                "WHERE pid = $1::int AND backend_start::text = $2"
            )
            if not line.execute(question, end, str(ghost.pid), ghost.began):
                ghosts.pop()
                continue
            if time.monotonic() > end:
                raise Lost("an earlier session does not end", sent=False)
            time.sleep(0.02)

    def explain(self, error: Refused) -> StoreUnavailable | SchemaError:
        """What an error of the server means for the user, and what to do."""
        text, state = self.address.clean(str(error)), error.state
        if state in ("42P01", "42883", "42703", "3F000", "XX001", "XX002"):
            return SchemaError(
                f"A store must be an undamaged schema made by Tunewright; '{self.address.schema}' in {self.place} is not "
                f"one ({text}). Restore it from a copy, or choose another with ?schema=."
            )
        told = {
            "42501": (
                "permission for its tables",
                f"Let its owner run: CREATE SCHEMA {quoted(self.address.schema)} AUTHORIZATION the_user.",
            ),
            "53100": (
                "free space on the server's disk",
                "Free some; finished work is kept, and the same call works then.",
            ),
            "25006": ("a server that takes writes", "Use the address of the primary."),
        }
        need, remedy = told.get(state, ("a working server", "Look into the server's log, then try again."))
        return StoreUnavailable(f"The store needs {need}; {self.place} gave '{text}' ({state}). {remedy}")

    # ------------------------------------------------------------------ connections

    @contextlib.contextmanager
    def _line(self, end: float) -> Iterator[Line]:
        """A connection of the pool; given back usable, or closed.

        A thread that reads in the middle of a decision gets a second one at once: if it waited for the others, and they
        for its lock, nobody would go on.
        """
        # A fork in the middle gives the child new ones.
        mine = self._mine
        nested = getattr(mine, "depth", 0) > 0
        room = self._nested_room if nested else self._room
        if not room.acquire(timeout=max(0.0, end - time.monotonic())):
            raise Lost(f"all {LINES} connections of this process are busy", sent=False)
        mine.depth = getattr(mine, "depth", 0) + 1
        try:
            line = self._idle_line() or self.connect(end)
            try:
                yield line
            except Lost:
                line.close()
                raise
            except BaseException:
                line.roll_back(end)
                self._put_back(line)
                raise
            self._put_back(line)
        finally:
            mine.depth -= 1
            room.release()

    def _idle_line(self) -> Line | None:
        while True:
            with self._mutex:
                if not self._idle:
                    return None
                line = self._idle.pop()
            if time.monotonic() - line.used < _IDLE or line.alive():
                return line
            line.close()

    def _put_back(self, line: Line) -> None:
        if line.open or line.closed:
            line.close()
            return
        with self._mutex:
            self._idle.append(line)

    def connect(self, end: float) -> Line:
        """A new connection, its session set up and the tables there."""
        line = Line(self.address.target, end)
        try:
            self._set_up(line, end)
        except BaseException:
            line.close()
            raise
        with self._mutex:
            self._lines.add(line)
        self._opened = True
        return line

    def _set_up(self, line: Line, end: float) -> None:
        schema = self.address.schema
        patience = f"{max(1, int(self.deadline * 900))}ms"
        settings = {
            **SETTINGS,
            "search_path": quoted(schema),
            "statement_timeout": patience,
            "lock_timeout": patience,
            "idle_in_transaction_session_timeout": f"{max(1, int(min(self.deadline, _HELD) * 1000))}ms",
        }
        names, values = _texts(list(settings)), _texts(list(settings.values()))
        line.execute(
            "SELECT set_config(n, v, false) FROM unnest($1::text[], $2::text[]) u(n, v)", end, names, values
        )
        question = (
            "SELECT current_setting('server_version_num'), date_part('epoch', pg_postmaster_start_time())::text, "
            "pg_backend_pid()::text, (SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()), "
            # A commit that is acknowledged before it is safe would be a broken promise.
            "CASE WHEN current_setting('synchronous_commit') = 'off' "
            "THEN set_config('synchronous_commit', 'on', false) END"
        )
        ((version, started, pid, began, _),) = line.execute(question, end)
        if int(version or 0) < OLDEST_SERVER:
            raise SchemaError(
                f"A store needs PostgreSQL {OLDEST_SERVER // 10000} or newer; {self.place} is "
                f"{int(version or 0) // 10000}. Upgrade the server."
            )
        line.started = float(started or 0.0)
        line.session = Session(int(pid or 0), (began or b"").decode())
        prepare(line, schema, end)
        question = "SELECT to_regnamespace(quote_ident($1))::oid::int8::text, mark FROM version"
        ((space, mark),) = line.execute(question, end, schema)
        self.mark = (mark or b"").decode()
        line.space = (int(space or 0) + 2**31) % 2**32 - 2**31

    def _hang_up_idle(self) -> None:
        """After one connection broke, the others are looked at before they are used."""
        with self._mutex:
            for line in self._idle:
                line.used = 0.0

    # ------------------------------------------------------------------ deciders

    @contextlib.contextmanager
    def deciding(self, study: int) -> Iterator[None]:
        """Holds the advisory lock of one study; may be nested in one thread.

        When it is not granted within the deadline, or the server is away, the caller goes on without it: the lock
        saves work, it protects nothing.
        """
        with self._mutex:
            lock, depth = self._deciding.setdefault(study, (threading.RLock(), [0]))
        end = time.monotonic() + self.deadline
        if not lock.acquire(timeout=self.deadline):
            yield
            return
        line: Line | None = None
        try:
            depth[0] += 1
            if depth[0] == 1:
                line = self._take_turn(study, end)
            yield
        finally:
            depth[0] -= 1
            if line is not None:
                self._end_turn(line, study)
            with contextlib.suppress(RuntimeError):
                lock.release()

    def _take_turn(self, study: int, end: float) -> Line | None:
        """A connection that holds the lock, or None."""
        if not self._decider_room.acquire(timeout=max(0.0, end - time.monotonic())):
            return None
        line: Line | None = None
        try:
            with self._mutex:
                line = self._deciders.pop() if self._deciders else None
            if line is not None and not line.alive():
                line.close()
                line = None
            line = line or self.connect(end)
            line.execute("SELECT pg_advisory_lock($1::bigint)", end, str(_key(line, study)))
        except (Lost, Refused, StoreError) as error:
            log.debug("deciding about study %d without a lock: %s", study, self.address.clean(str(error)))
            if line is not None:
                line.close()
            self._decider_room.release()
            return None
        except BaseException:
            self._decider_room.release()
            raise
        return line

    def _end_turn(self, line: Line, study: int) -> None:
        room = self._decider_room
        try:
            line.execute(
                "SELECT pg_advisory_unlock($1::bigint)",
                time.monotonic() + min(5.0, self.deadline),
                str(_key(line, study)),
            )
        except (Lost, Refused):
            line.close()
        else:
            with self._mutex:
                self._deciders.append(line)
        finally:
            with contextlib.suppress(ValueError):
                room.release()

    # ------------------------------------------------------------------ news

    def rings(self, study: int) -> int:
        """How often this process heard of news in a study; ask before looking, then wait for more."""
        with self._rung:
            return self._rings.get(study, 0)

    def hear(self, study: int, heard: int, timeout: float) -> None:
        """Waits until there is news of a study, or a moment: notifications save time, looking again is the truth.

        One thread at a time listens, for all that wait.

        Args:
            study: Key of the study.
            heard: What ``rings`` said before the caller looked.
            timeout: Seconds to wait at most.
        """
        timeout = min(timeout, _POLL)
        end = time.monotonic() + timeout
        if not self._ear_lock.acquire(blocking=False):
            with self._rung:
                self._rung.wait_for(lambda: self._rings.get(study, 0) != heard, timeout)
            return
        try:
            while (left := end - time.monotonic()) > 0 and self.rings(study) == heard and self._listen(left):
                pass
        except (Lost, Refused, StoreError):
            if self._ear is not None:
                self._ear.close()
                self._ear = None
            time.sleep(max(0.0, end - time.monotonic()))
        finally:
            self._ear_lock.release()

    def _listen(self, timeout: float) -> bool:
        """Hears for a while; False when it has only begun to, so that the caller looks once more."""
        if self._ear is None:
            end = time.monotonic() + self.deadline
            self._ear = self.connect(end)
            self._ear.execute(f'LISTEN "tunewright_{self._ear.space}"', end)
            return False
        told = self._ear.listen(timeout)
        if told:
            with self._rung:
                for payload in told:
                    with contextlib.suppress(ValueError):
                        self._rings[int(payload)] = self._rings.get(int(payload), 0) + 1
                self._rung.notify_all()
        return True

    # ------------------------------------------------------------------ the end, and forks

    def close(self) -> None:
        """Hangs up; a later call connects again."""
        with self._mutex:
            lines = [*self._idle, *self._deciders]
            self._idle, self._deciders = [], []
        for line in lines:
            line.close()
        if self._ear_lock.acquire(timeout=2 * _POLL):
            try:
                if self._ear is not None:
                    self._ear.close()
                    self._ear = None
            finally:
                self._ear_lock.release()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def after_fork_in_child(self) -> None:
        """Starts anew; nothing of the parent's is used or ended."""
        for line in list(self._lines):
            line.forget()
            _abandoned.append(line)
        self._start()


def _key(line: Line, study: int) -> int:
    """Number of a study's lock for deciders, signed; told apart from the locks of writers, which have two numbers."""
    return line.space * 2**32 + study


def _texts(values: list[str]) -> str:
    """A text array as the server reads it."""
    return "{" + ",".join('"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values) + "}"


def _after_fork_in_child() -> None:
    for link in list(_links):
        link.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
