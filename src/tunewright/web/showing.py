"""What pages ask for most: the list of studies, the trials of one as columns, its charts."""

from __future__ import annotations

from tunewright import __version__
from tunewright.web.charting import drawn, listed, transferred
from tunewright.web.lanes import aside
from tunewright.web.packing import Packed, digest
from tunewright.web.refusals import Refused
from tunewright.web.replies import Call, Reply, encode
from tunewright.web.sending import sent
from tunewright.web.tokens import SCOPES

_OPTION = 200


async def board(call: Call) -> Reply:
    """The studies that the caller may see, newest first."""
    state = call.state

    def work() -> Packed:
        seen = sorted(
            (s for s in state.store.studies() if call.who.sees(s.name)), key=lambda s: (-s.created, -s.id)
        )
        lines = [state.board.line(info) for info in seen]
        rights = "read" if state.settings.readonly else SCOPES[call.who.level]
        body = encode(
            {"version": __version__, "readonly": state.settings.readonly, "rights": rights, "studies": lines}
        )
        return Packed(body, digest(body))

    return sent(call, await aside(state.pools.looking, work))


async def columns(call: Call) -> Reply:
    """The trials of a study as columns, or those that changed after a position."""
    info = await call.state.shelf.info(call.study, call.who)
    since = call.whole("since", 0, 0, 2**62)
    held = call.state.board.held(info)
    return sent(call, await aside(call.state.pools.looking, lambda: held.packed(since)))


async def chart(call: Call) -> Reply:
    """One chart of a study."""
    info = await call.state.shelf.info(call.study, call.who)
    held = call.state.board.held(info)
    options = dict(sorted(call.query.items()))
    if any(len(v) > _OPTION or not k.isidentifier() for k, v in options.items()):
        raise Refused(
            422, "HTTP", f"An option of a chart is a name and up to {_OPTION} characters. Correct it."
        )
    kind = call.item
    rev = await aside(call.state.pools.looking, held.last)
    key = (info.id, info.created, rev, kind, tuple(options.items()))
    return sent(call, await call.state.charts.of(key, lambda: drawn(held.seen(), kind, options)))


async def transfer(call: Call) -> Reply:
    """Settings of the target of a study with a scale, with the evidence for them, or why there are none."""
    info = await call.state.shelf.info(call.study, call.who)
    held = call.state.board.held(info)
    options = dict(sorted(call.query.items()))
    if any(len(v) > _OPTION for v in options.values()):
        raise Refused(422, "HTTP", f"An option of transfer has up to {_OPTION} characters. Correct it.")
    rev = await aside(call.state.pools.looking, held.last)
    key = (info.id, info.created, rev, "/transfer", tuple(options.items()))
    return sent(call, await call.state.charts.of(key, lambda: transferred(held.seen(), options)))


async def charts(call: Call) -> Reply:
    """The charts that make sense for a study."""
    info = await call.state.shelf.info(call.study, call.who)
    held = call.state.board.held(info)
    rev = await aside(call.state.pools.looking, held.last)
    key = (info.id, info.created, rev, "", ())
    return sent(call, await call.state.charts.of(key, lambda: listed(held.seen())))
