"""What people tell a study over HTTP: to pause, to go on, to stop; notes and tags."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tunewright.core.trial import Ledger
from tunewright.run import orders
from tunewright.store import wire
from tunewright.web.lanes import aside
from tunewright.web.replies import Call, Reply, answer
from tunewright.web.shelf import Opened, spoken

T = TypeVar("T")


async def order(call: Call) -> Reply:
    """Has whoever runs the study pause, go on or stop."""
    body: wire.ControlBody = call.body

    def work(opened: Opened) -> wire.ControlAnswer:
        changed = orders.order(opened.session, body.action)
        return wire.ControlAnswer(opened.session.ledger.control, changed)

    return answer(await _said(call, work))


async def note(call: Call) -> Reply:
    """Keeps a note about the study or a trial."""
    body: wire.NoteBody = call.body
    return answer(await _said(call, lambda opened: _written(opened, body)))


def _written(opened: Opened, body: wire.NoteBody) -> orders.Remark:
    orders.note(opened.session, body.text, body.trial)
    return _about(opened.session.ledger, body.trial)


async def tag(call: Call) -> Reply:
    """Puts tags on the study or a trial, and takes tags off."""
    body: wire.TagsBody = call.body

    def work(opened: Opened) -> orders.Remark:
        orders.tag(opened.session, body.add, body.remove, body.trial)
        return _about(opened.session.ledger, body.trial)

    return answer(await _said(call, work))


async def notes(call: Call) -> Reply:
    """What people wrote about the study and its trials."""
    held = call.state.board.held(await call.state.shelf.info(call.study, call.who))
    return answer(await aside(call.state.pools.looking, lambda: orders.remarks(held.ledger())))


def _about(ledger: Ledger, trial: int | None) -> orders.Remark:
    found = orders.remarks(ledger)
    return found.study if trial is None else found.trials.get(trial, orders.Remark())


async def _said(call: Call, work: Callable[[Opened], T]) -> T:
    """Records what somebody says in the name of the caller, and lets those know who listen."""
    opened = await call.state.shelf.open(call.study, call.who)
    worker = spoken("", call.who)

    def body() -> T:
        with opened.session.speaking_for(worker):
            return work(opened)

    result = await opened.lane.run(body)
    opened.used = time.monotonic()
    call.state.metrics.events += 1
    call.state.news.told(opened.info.id, opened.session.ledger.cursor)
    return result
