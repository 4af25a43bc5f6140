"""Studies on a server of ``tunewright serve``: the same promises as a store on this machine, over HTTP.

Whatever is not answered is sent again, marked so that the server writes nothing twice. Methods decide on the server;
see ``ask``. Decisions that are taken here, such as what is put in the queue, rest on the newest log and are taken again
when somebody else was first.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from tunewright.core.events import (
    Controlled,
    Ended,
    Event,
    Interrupted,
    Noted,
    Paused,
    Record,
    Resumed,
    Started,
    Tagged,
)
from tunewright.errors import (
    CheckpointError,
    ConfigError,
    ConflictError,
    LeaseLost,
    StoreUnavailable,
    StudyExists,
    StudyMissing,
    TunewrightError,
)
from tunewright.store import wire
from tunewright.store.access import read_address
from tunewright.store.base import FACTS, Choose, Lease, StudyInfo
from tunewright.store.client import Client, Reply, Unsent
from tunewright.store.depots import Entry

_DICE = random.SystemRandom()  # pauses must not advance the generator that trainings draw from

T = TypeVar("T")
THINKING = 60.0
_CONFLICTS = 50
_PAUSE = 0.01
_LOOK = 0.5
_FREE = (*FACTS, Noted, Controlled, Tagged)
_PAGE = 5000
_SLOWEST = 1 << 20
_BYTES = "application/octet-stream"
_encode = msgspec.json.Encoder().encode
_held: dict[tuple[str, int, str], set[int]] = {}
_asking: dict[tuple[str, int, str], threading.Lock] = {}


class HttpStore:
    """A store on a server; safe to share between threads and to keep across a fork.

    Args:
        address: ``http://host:port`` or ``https://host:port``, where a path may stand before ``/api``;
            ``?ca=FILE`` trusts the certificates of a file.
        token: Shows the server who asks. Else it is taken from ``http://:TOKEN@host``, from the environment variable
            ``TUNEWRIGHT_TOKEN``, or from ``~/.config/tunewright/token``.
        deadline: Seconds that a request may take; a method that thinks gets a minute more.
        patience: Seconds to go on trying while the server is away.

    Raises:
        ConfigError: If the address or the token cannot be used.
    """

    def __init__(
        self, address: str, *, token: str | None = None, deadline: float = 10.0, patience: float = 600.0
    ) -> None:
        self._client = Client(read_address(address), token, deadline=deadline, patience=patience)
        where = self._client.address
        self.url = f"{where.origin}{where.path}{where.query}"
        self.durable = True
        self.flushes = False
        self._known: set[int] = set()
        self._deciding: dict[tuple[int, int], Any] = {}

    @property
    def deadline(self) -> float:
        """Seconds that a request may take."""
        return self._client.deadline

    def __repr__(self) -> str:
        return f"HttpStore({self.url!r})"

    # ------------------------------------------------------------------ studies

    def create(
        self, name: str, spec: dict[str, Any], *, exist_ok: bool = False, created: float | None = None
    ) -> StudyInfo:
        """Makes a study, or with ``exist_ok`` returns the one that is there."""
        # The time tells a study that an unanswered try has made from one that somebody else made.
        at = time.time() if created is None else created
        body = wire.NewStudy(name, spec=spec, created=at, exist_ok=exist_ok)
        try:
            return _info(self._call("POST", "/studies", body, wire.StudyAnswer))
        except StudyExists as error:
            found = self.find(name) if _doubtful(error) else None
            if found is None or found.created != at or found.spec != spec:
                raise
            return found

    def find(self, name: str) -> StudyInfo | None:
        """The study of that name, or None."""
        if "/" in name or name.startswith(("@", ".")):
            return next((s for s in self.studies() if s.name == name), None)
        try:
            return _info(self._call("GET", f"/studies/{quote(name, safe='')}", None, wire.StudyAnswer))
        except StudyMissing:
            return None

    def studies(self) -> list[StudyInfo]:
        """All studies, oldest first."""
        found: list[StudyInfo] = []
        after = 0
        while page := self._call("GET", f"/studies?specs=true&after={after}", None, list[wire.StudyAnswer]):
            found += [_info(s) for s in sorted(page, key=lambda s: s.id) if s.id > after]
            if found[-1].id <= after:
                break
            after = found[-1].id
        return found

    def delete(self, study: int) -> None:
        """Removes a study with its log and blobs."""
        self._known.discard(study)
        try:
            self._send("DELETE", self._path(study))
        except StudyMissing as error:
            if not _doubtful(error):
                raise

    # ------------------------------------------------------------------ the log

    def last(self, study: int) -> int:
        """Position of the last record; 0 when the log is empty."""
        return self._page(study, 0, 0).last

    def read(self, study: int, after: int = 0, limit: int | None = None) -> list[Record]:
        """Records after a position, in order."""
        records: list[Record] = []
        while limit is None or len(records) < limit:
            most = _PAGE if limit is None else min(_PAGE, limit - len(records))
            page = self._page(study, after, most)
            records += page.records
            if not page.records or page.records[-1].seq >= page.last:
                break
            after = page.records[-1].seq
        return records

    def append(
        self,
        study: int,
        events: Sequence[Event],
        *,
        worker: str,
        expected: int | None = None,
        lease: float = 30.0,
        again: bool = False,
    ) -> list[Record]:
        """Appends events, all or none; see ``Store.append``."""
        if not events:
            return []
        if expected is not None and expected < 0:
            raise ConflictError(
                f"A decision must rest on the newest log; no log ends at {expected}. Decide again."
            )
        if expected is not None or all(isinstance(event, _FREE) for event in events):
            return self._append(study, events, worker, expected, lease, again)
        # A server takes what changes the study only from those who know the newest log.
        for attempt in range(_CONFLICTS):
            try:
                return self._append(study, events, worker, self.last(study), lease, again)
            except ConflictError:
                _pause(attempt)
        raise _overtaken()

    def _append(
        self,
        study: int,
        events: Sequence[Event],
        worker: str,
        expected: int | None,
        lease: float,
        again: bool,
    ) -> list[Record]:
        said = list(events)

        def body(doubtful: bool) -> bytes:
            return _fitting(
                _encode(
                    wire.EventsBody(said, worker, expected=expected, lease=lease, again=again or doubtful)
                )
            )

        try:
            reply = self._client.call("POST", self._path(study) + "/events", body)
        except LeaseLost:
            self._settle(study, worker, said)
            raise
        self._settle(study, worker, said)
        return _read(reply, wire.RecordsAnswer).records

    def decide(
        self, study: int, after: int, choose: Choose, *, worker: str, lease: float = 30.0
    ) -> list[Record]:
        """Lets ``choose`` pick events on the newest log, and again when somebody else was first; see ``Store.decide``.

        Raises:
            ConflictError: If 50 decisions in a row were overtaken.
        """
        for attempt in range(_CONFLICTS):
            tail = self.read(study, after)
            after = tail[-1].seq if tail else after
            # Of attempts that began after the log was read nothing is known here.
            expired = [x for x in self.leases(study) if x.expired and x.token <= after]
            events = choose(tail, expired)
            if not events:
                return []
            try:
                return self.append(study, events, worker=worker, expected=after, lease=lease)
            except ConflictError:
                _pause(attempt)
        raise _overtaken()

    def ask(
        self,
        study: int,
        after: int,
        slots: int,
        limit: int | None,
        *,
        worker: str,
        lease: float = 30.0,
        attempts: int = 3,
    ) -> tuple[list[Record], list[int], bool]:
        """Has the study's method take the next decisions; see ``Asks.ask``."""
        records: list[Record] = []
        begun: list[int] = []
        while True:
            want = min(slots - len(begun), wire.MOST_SLOTS)
            body = wire.AskBody(worker, want, limit, lease, after=after, attempts=attempts)
            new, more, finished = self._ask(study, body)
            records += new
            begun += more
            if len(more) < want or len(begun) >= slots:
                return records, begun, finished
            after = records[-1].seq

    def _ask(self, study: int, wanted: wire.AskBody) -> tuple[list[Record], list[int], bool]:
        who = (self.url, study, wanted.worker)
        held, asking = _held.setdefault(who, set()), _asking.setdefault(who, threading.Lock())

        def body(doubtful: bool) -> bytes:
            return _encode(msgspec.structs.replace(wanted, held=sorted(held)) if doubtful else wanted)

        # One at a time: a repeated request must not be given what another thread is just being told of.
        with asking:
            reply = self._client.call("POST", self._path(study) + "/ask", body, thinking=THINKING)
            answer = _read(reply, wire.AskAnswer)
            begun = [msgspec.json.decode(t, type=_Number).trial for t in answer.trials]
            held.update(begun)
        records = list(answer.records or ())
        if len(records) >= wire.MOST_RECORDS:
            records += self.read(study, records[-1].seq)
        return records, begun, answer.finished

    def reach(self, study: int) -> None:
        """Finds out, in one try, whether the server answers.

        Raises:
            StoreUnavailable: If it does not.
        """
        self._client.call("GET", f"{self._path(study)}/events?after=0&limit=0", patience=0.0)

    def hand_out(self, study: int, body: wire.AskBody, *, patience: float | None = None) -> wire.AskAnswer:
        """Asks for work in the words of the wire, for workers that do not follow the log.

        Args:
            study: Key of the study.
            body: What is asked for; with ``held`` it can be repeated.
            patience: Seconds to go on trying; else the store's own.
        """
        reply = self._client.call(
            "POST",
            self._path(study) + "/ask",
            _encode(body),
            seconds=body.wait,
            thinking=THINKING,
            patience=patience,
        )
        return _read(reply, wire.AskAnswer)

    def say(
        self, study: int, message: bytes, *, worker: str, again: bool = False, patience: float = 0.0
    ) -> bytes:
        """Passes on one word of a worker, as JSON of ``run.messages``, and returns the answer.

        Args:
            study: Key of the study.
            message: The word.
            worker: Who says it.
            again: Whether it may have been said already.
            patience: Seconds to go on trying.

        Raises:
            LeaseLost: If the attempt no longer owns its trial.
        """

        def body(doubtful: bool) -> bytes:
            return _fitting(_encode(wire.SayBody(msgspec.Raw(message), worker, again or doubtful)))

        return self._client.call("POST", self._path(study) + "/say", body, patience=patience).data

    def graft(self, study: int, records: Sequence[Record]) -> None:
        """Appends records of another store as they are; see ``Store.graft``."""
        for part in _parts(records):
            try:
                self._send("POST", self._path(study) + "/graft", wire.GraftBody(part))
            except ConflictError as error:
                if not _doubtful(error) or self.read(study, part[0].seq - 1, len(part)) != part:
                    raise

    def wait(self, study: int, after: int, timeout: float) -> int:
        """Waits for the log to get longer than ``after``; see ``Store.wait``."""
        end = time.monotonic() + timeout
        while True:
            asked = time.monotonic()
            seconds = min(max(0.0, end - asked), wire.LONGEST_WAIT)
            last = self._page(study, after, 1, seconds).last
            left = end - time.monotonic()
            if last > after or left <= 0:
                return last
            if time.monotonic() - asked < seconds / 2:
                # The server does not wait just now, for instance because it is about to end.
                time.sleep(_DICE.uniform(0, min(left, _LOOK)))

    def _page(self, study: int, after: int, limit: int, wait: float = 0.0) -> wire.RecordsAnswer:
        path = f"{self._path(study)}/events?after={after}&limit={limit}" + (
            f"&wait={wait:.3f}" if wait else ""
        )
        return _read(self._client.call("GET", path, seconds=wait), wire.RecordsAnswer)

    def _settle(self, study: int, worker: str, events: Sequence[Event]) -> None:
        """Keeps track of the trials that this worker knows to be its own."""
        held = _held.get((self.url, study, worker))
        if held is None:
            return
        for event in events:
            if isinstance(event, Started | Resumed):
                held.add(event.trial)
            elif isinstance(event, Ended | Paused | Interrupted):
                held.discard(event.trial)

    # ------------------------------------------------------------------ leases

    def renew(
        self, study: int, held: Sequence[tuple[int, int]], *, lease: float = 30.0
    ) -> list[tuple[int, int]]:
        """Extends leases; returns those that are no longer held."""
        # Beyond a lease's time there is nothing to extend that the next call could not.
        patience = min(self._client.patience, max(lease, self._client.deadline))
        lost: list[tuple[int, int]] = []
        for start in range(0, max(1, len(held)), wire.MOST_RECORDS):
            body = _encode(wire.LeasesBody(list(held[start : start + wire.MOST_RECORDS]), lease))
            reply = self._client.call("POST", self._path(study) + "/leases", body, patience=patience)
            lost += _read(reply, wire.LeasesAnswer).lost
        return lost

    def leases(self, study: int) -> list[Lease]:
        """Leases of all running trials."""
        return self._call("GET", self._path(study) + "/leases", None, list[Lease])

    def deciding(self, study: int) -> AbstractContextManager[None]:
        """Keeps deliberate deciders of this process apart; those of the server are kept apart there."""
        lock: AbstractContextManager[Any] = self._deciding.setdefault((os.getpid(), study), threading.RLock())
        return lock

    # ------------------------------------------------------------------ caches and files

    def save_snapshot(self, study: int, seq: int, data: bytes) -> None:
        """Offers a cache of the folded state to the server, which may keep its own instead."""
        path = f"{self._path(study)}/snapshot?position={seq}"
        if len(data) <= wire.LARGEST_BODY:
            # The log is the truth; a server that takes no snapshots from this client makes them itself.
            with contextlib.suppress(StoreUnavailable, ConfigError):
                self._client.call("PUT", path, data, kind=_BYTES, patience=0.0)

    def load_snapshot(self, study: int) -> tuple[int, bytes] | None:
        """The newest cache and its position, or None."""
        reply = self._client.call("GET", self._path(study) + "/snapshot", thinking=THINKING)
        position = reply.headers.get(wire.POSITION.lower(), "")
        return (int(position), reply.data) if reply.status == 200 and position.isdigit() else None

    def blobs(self, study: int) -> str:
        """Address of the study's checkpoint files, which ``store.blobs`` reads and writes."""
        if study not in self._known:
            self.last(study)
            self._known.add(study)
        where = self._client.address
        return f"{where.origin}{where.path}{self._path(study)}/checkpoints{where.query}"

    def close(self) -> None:
        """Closes connections; a later call opens them again."""
        self._client.close()

    # ------------------------------------------------------------------ requests

    def _path(self, study: int) -> str:
        return f"{wire.PREFIX}/studies/@{study}"

    def _send(self, method: str, path: str, body: Any = None) -> Reply:
        if not path.startswith(wire.PREFIX):
            path = wire.PREFIX + path
        return self._client.call(method, path, None if body is None else _fitting(_encode(body)))

    def _call(self, method: str, path: str, body: Any, kind: type[T]) -> T:
        return _read(self._send(method, path, body), kind)


class HttpDepot:
    """The checkpoint files of a study on a server; see ``store.depots.Depot``.

    Args:
        address: What ``HttpStore.blobs`` returned.
    """

    def __init__(self, address: str) -> None:
        self._where = read_address(address)
        self._client = Client(self._where._replace(path=""))

    def __repr__(self) -> str:
        return f"HttpDepot({self._where.origin!r})"

    def put(self, name: str, source: bytes | Path) -> None:
        """Writes a file."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        self._once("PUT", name, source, seconds=size / _SLOWEST)

    def get(self, name: str) -> bytes:
        """Reads a file."""
        return self._once("GET", name, seconds=THINKING).data

    def fetch(self, name: str, into: Path) -> None:
        """Copies a file to a local path."""
        size = int(self._once("HEAD", name).headers.get("content-length") or 0)
        with into.open("wb") as file:
            self._once("GET", name, seconds=size / _SLOWEST, into=file)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            self._once("HEAD", name)
        except FileNotFoundError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Removes a file."""
        with contextlib.suppress(FileNotFoundError):
            self._once("DELETE", name)

    def entries(self) -> list[Entry]:
        """All files."""
        try:
            reply = self._once("GET", "")
        except FileNotFoundError:
            return []
        return [Entry(f.name, f.size, f.mtime) for f in _read(reply, list[wire.FileAnswer])]

    def _once(
        self,
        method: str,
        name: str,
        body: bytes | Path | None = None,
        *,
        seconds: float = 0.0,
        into: Any = None,
    ) -> Reply:
        path = self._where.path + (f"/{quote(name, safe='')}" if name else "")
        try:
            reply = self._client.once(
                method, path, body, seconds=self._client.deadline + seconds, kind=_BYTES, into=into
            )
        except Unsent as trouble:
            raise OSError(str(trouble)) from None
        if reply.status < 300:
            return reply
        error = self._client.refusal(reply)
        if reply.status == 404:
            raise FileNotFoundError(str(error))
        if reply.status == 401 and self._client.another_token():
            raise OSError(str(error))
        if reply.status in (401, 403):
            raise PermissionError(str(error))
        if isinstance(error, ConfigError | CheckpointError):
            raise error
        raise OSError(str(error))


def _pause(attempt: int) -> None:
    time.sleep(_DICE.uniform(0, _PAUSE * 2 ** min(attempt, 6)))


def _overtaken() -> ConflictError:
    return ConflictError(
        f"A decision must rest on the newest log; {_CONFLICTS} attempts were overtaken. Use fewer processes."
    )


class _Number(msgspec.Struct):
    trial: int


def _info(answer: wire.StudyAnswer) -> StudyInfo:
    return StudyInfo(answer.id, answer.name, answer.spec or {}, answer.created)


def _read(reply: Reply, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(reply.data, type=kind)
    except msgspec.DecodeError as error:
        raise StoreUnavailable(
            f"A tunewright server must answer as agreed; got something else: {error}. "
            "Check the address, and that both sides have the same version."
        ) from None


def _doubtful(error: TunewrightError) -> bool:
    """Whether a refusal may come from an earlier try of the same request."""
    return bool(getattr(error, "doubtful", False))


def _fitting(body: bytes) -> bytes:
    if len(body) > wire.LARGEST_BODY:
        raise ConfigError(
            f"What is sent to a server at once must be at most {wire.LARGEST_BODY >> 20} MiB; got {len(body) >> 20} MiB. "
            "Send it in smaller parts."
        )
    return body


def _parts(records: Sequence[Record]) -> list[list[Record]]:
    """Records in parts that fit into a request each."""
    parts: list[list[Record]] = []
    room = 0
    for record in records:
        size = len(_encode(record)) + 1
        if not parts or size > room or len(parts[-1]) >= wire.MOST_RECORDS:
            parts.append([])
            room = wire.LARGEST_BODY - 1000
        parts[-1].append(record)
        room -= size
    return parts
