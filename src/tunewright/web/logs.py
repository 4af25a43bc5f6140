"""The log over HTTP: read it, follow it, append to it; signs of life; snapshots."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TypeVar

from tunewright.core.events import Enqueued, Record
from tunewright.core.snapshot import load
from tunewright.core.trial import Ledger
from tunewright.errors import ConfigError, ConflictError
from tunewright.opening import stored_problem
from tunewright.store import wire
from tunewright.store.base import StudyInfo, already
from tunewright.web.lanes import aside
from tunewright.web.legal import FREE, check, fact, follows, needed
from tunewright.web.refusals import Refused
from tunewright.web.replies import BYTES, EVENTS, Call, Reply, Stream, answer, encode, nothing, raw
from tunewright.web.shelf import Opened, spoken
from tunewright.web.tokens import LEVEL

T = TypeVar("T")
_FIRST, _LARGEST = 64, 4096
_BEAT = 15.0
_ADMIN = LEVEL["admin"]


# ------------------------------------------------------------------ reading


async def events(call: Call) -> Reply | Stream:
    """Records after a position: at once, when there are some, or for as long as the caller listens."""
    info = await call.state.shelf.info(call.study, call.who)
    accept = call.header(b"accept") or b""
    after = call.whole("after", 0, 0, 2**62)
    limit = call.whole("limit", 1000, 0, wire.MOST_RECORDS)
    wait = _seconds(call.query.get("wait"))
    if b"text/event-stream" in accept:
        return _stream(call, info, after)
    store, study = call.state.store, info.id
    look = call.state.pools.looking
    if wait and limit and await aside(look, lambda: store.last(study)) <= after:
        await call.state.news.wait(study, after, wait)

    def work() -> tuple[list[bytes], int]:
        return page(call, study, after, limit), store.last(study)

    found, last = await aside(look, work)
    return raw(b'{"records":[' + b",".join(found) + b'],"last":' + str(last).encode() + b"}")


def _seconds(text: str | None) -> float:
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = math.nan
    if 0.0 <= seconds <= wire.LONGEST_WAIT:
        return seconds
    raise Refused(
        422, "HTTP", f"'wait' must be 0 to {wire.LONGEST_WAIT:g} seconds; got {str(text)[:40]!r}. Correct it."
    )


def page(call: Call, study: int, after: int, limit: int) -> list[bytes]:
    """Encoded records after a position: as many as are wanted, and no more than fit an answer."""
    out: list[bytes] = []
    size, step = 0, _FIRST
    while len(out) < limit and size < wire.LARGEST_BODY:
        records = call.state.store.read(study, after, min(step, limit - len(out)))
        if not records:
            break
        encoded = [encode(record) for record in records]
        out += encoded
        size += sum(map(len, encoded)) + len(encoded)
        if len(records) < min(step, limit):
            break
        after = records[-1].seq
        step = max(_FIRST, min(_LARGEST, wire.LARGEST_BODY // (2 * (1 + size // len(out)))))
    return out


def _stream(call: Call, info: StudyInfo, after: int) -> Stream:
    """Server-sent events: one per record, with its position as the id, from which a client resumes."""
    state = call.state
    latest = call.header(b"last-event-id")
    if latest is not None:
        if not (latest.isdigit() and len(latest) < 19):
            raise Refused(
                422, "HTTP", "'Last-Event-ID' must be the position of a record. Leave it out to begin anew."
            )
        after = int(latest)
    if state.streams >= state.settings.streams:
        raise Refused(
            503, "HTTP", f"This server serves {state.settings.streams} streams at a time. Ask again later.", retry=30
        )  # fmt: skip
    state.streams += 1
    return Stream(200, _followed(call, info, after), [EVENTS])


async def _followed(call: Call, info: StudyInfo, after: int) -> AsyncGenerator[bytes, None]:
    state = call.state
    try:
        yield b"retry: 2000\n\n"
        while not state.closing.is_set():
            found = await aside(state.pools.looking, partial(page, call, info.id, after, 1000))
            if found:
                chunk = []
                for encoded in found:
                    after += 1
                    chunk.append(b"id: %d\ndata: %b\n\n" % (after, encoded))
                yield b"".join(chunk)
            elif not await state.news.wait(info.id, after, _BEAT):
                yield b": still here\n\n"
    finally:
        state.streams -= 1


# ------------------------------------------------------------------ appending


async def plainly(call: Call, info: StudyInfo, work: Callable[[], T]) -> T:
    """Appends what needs no decision: after those of a quick method, and without waiting for one that thinks."""
    opened = call.state.shelf.at_hand(info)
    if opened is not None and not opened.thinks:
        opened.used = time.monotonic()
        return await opened.lane.run(work)
    return await aside(call.state.pools.looking, work)


async def append(call: Call) -> Reply:
    """Appends events: facts by whoever holds the attempt, decisions by whoever knows the newest log."""
    body: wire.EventsBody = call.body
    if needed(body.events) > call.who.level:
        raise Refused(
            403,
            "HTTP",
            "Changing the space or the steps, and pausing a study, needs a token with the scope admin.",
        )
    info = await call.state.shelf.info(call.study, call.who)
    worker = spoken(body.worker, call.who)
    store = call.state.store
    if all(type(event) in FREE for event in body.events):
        for event in body.events:
            fact(event)
        records = await plainly(
            call,
            info,
            lambda: store.append(
                info.id,
                body.events,
                worker=worker,
                expected=body.expected,
                lease=body.lease,
                again=body.again,
            ),
        )
    else:
        opened = (
            await call.state.shelf.opened_for(info) if (o := call.state.shelf.at_hand(info)) is None else o
        )
        records = await opened.lane.run(lambda: decided(opened, body, worker))
    last = records[-1].seq if records else await aside(call.state.pools.looking, lambda: store.last(info.id))
    call.state.metrics.events += len(records)
    call.state.news.told(info.id, last)
    return answer(wire.RecordsAnswer(records, last))


def decided(opened: Opened, body: wire.EventsBody, worker: str) -> list[Record]:
    """Appends decisions and changes, once they are known to fold.

    Raises:
        ConflictError: If the log went on since the decision.
        ConfigError: If an event makes no sense, or decisions do not say what they rest on.
    """
    session = opened.session
    store, study = session.store, opened.info.id
    with session.lock:
        ledger = session.sync()
        if body.expected is None:
            known = _queued_before(store.read, study, ledger, body)
            if known is not None:
                return known
            if any(not isinstance(e, Enqueued) and type(e) not in FREE for e in body.events):
                raise ConfigError(
                    "A decision must say what it rests on; got no 'expected'. Give the end of the log."
                )
        elif body.expected != ledger.cursor:
            if body.again and body.expected < ledger.cursor:
                tail = store.read(study, body.expected, len(body.events))
                found = already(body.events, tail, worker, first=True)
                if found is not None:
                    return found
            raise ConflictError(
                f"A decision must rest on the newest log; it ended at {ledger.cursor}, not {body.expected}. Decide again."
            )
        check(ledger, body.events)
        return store.append(
            study, body.events, worker=worker, expected=ledger.cursor, lease=body.lease, again=body.again
        )


def _queued_before(
    read: Callable[[int, int, int], list[Record]], study: int, ledger: Ledger, body: wire.EventsBody
) -> list[Record] | None:
    """The records of items whose keys are in the queue, or were, already."""
    keys = [e.key for e in body.events if isinstance(e, Enqueued)]
    if len(keys) != len(body.events) or not all(key and key in ledger.keys for key in keys):
        return None
    return [read(study, ledger.keys[key] - 1, 1)[0] for key in keys]


async def graft(call: Call) -> Reply:
    """Copies records of another store, which must go on where the log ends."""
    body: wire.GraftBody = call.body
    info = await call.state.shelf.info(call.study, call.who)
    opened = await call.state.shelf.opened_for(info) if (o := call.state.shelf.at_hand(info)) is None else o
    last = await opened.lane.run(lambda: _grafted(opened, body.records))
    await aside(call.state.pools.looking, lambda: call.state.shelf.strangers(info.id))
    call.state.metrics.events += len(body.records)
    call.state.news.told(info.id, last)
    return answer(wire.RecordsAnswer([], last))


def _grafted(opened: Opened, records: list[Record]) -> int:
    session = opened.session
    with session.lock:
        ledger = session.sync()
        if records and [r.seq for r in records] != list(
            range(ledger.cursor + 1, ledger.cursor + 1 + len(records))
        ):
            raise ConflictError(
                f"A copy must go on where the log ends, at {ledger.cursor + 1}; got {records[0].seq}. Copy into an empty study."
            )
        draft = opened.draft()
        try:
            for record in records:
                check(draft, (record.event,), verbatim=True)
                follows(draft, record.event)
                draft.apply(record)
            session.store.graft(opened.info.id, records)
        except BaseException:
            opened.discard()
            raise
        return session.sync().cursor


# ------------------------------------------------------------------ leases and snapshots


async def renew(call: Call) -> Reply:
    """Takes signs of life. They wait for nobody's decision."""
    body: wire.LeasesBody = call.body
    state = call.state
    info = await state.shelf.info(call.study, call.who)
    lost = await aside(state.pools.vital, lambda: state.store.renew(info.id, body.held, lease=body.lease))
    return answer(wire.LeasesAnswer(lost))


async def leases(call: Call) -> Reply:
    """Who works on what."""
    info = await call.state.shelf.info(call.study, call.who)
    return answer(await aside(call.state.pools.looking, lambda: call.state.store.leases(info.id)))


async def snapshot(call: Call) -> Reply:
    """The newest snapshot, for clients that fold the log themselves."""
    info = await call.state.shelf.info(call.study, call.who)
    found = await aside(call.state.pools.looking, lambda: call.state.store.load_snapshot(info.id))
    if found is None:
        return nothing()
    return Reply(
        200,
        found[1],
        [BYTES, *attachment("snapshot"), (wire.POSITION.lower().encode(), str(found[0]).encode())],
    )


async def keep_snapshot(call: Call) -> Reply:
    """Keeps an admin's snapshot; that of a worker is let go, for a server trusts only what it folded itself."""
    data: bytes = call.body
    position = call.whole("position", -1, 0, 2**62)
    info = await call.state.shelf.info(call.study, call.who)
    if call.who.level < _ADMIN:
        return nothing()

    def work() -> None:
        ledger = load(stored_problem(info, None), data)
        if ledger is None or ledger.cursor != position or position > call.state.store.last(info.id):
            raise ConfigError(
                "A snapshot must be one of this study at the position that it names. Make it anew."
            )
        call.state.store.save_snapshot(info.id, position, data)

    await aside(call.state.pools.looking, work)
    return nothing()


def attachment(name: str) -> list[tuple[bytes, bytes]]:
    """The header by which a browser saves a file and never shows it."""
    return [(b"content-disposition", f'attachment; filename="{name}"'.encode())]
