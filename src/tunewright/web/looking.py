"""What there is to see of one trial beside its numbers: its output, and its parameters to be pasted elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from tunewright.core.trial import Ledger, Trial
from tunewright.run.child import log_path
from tunewright.run.usage import copies
from tunewright.web.lanes import aside
from tunewright.web.refusals import Refused
from tunewright.web.replies import Call, Reply, answer
from tunewright.web.shapes import CopyAnswer

TAIL = 64_000
LONGEST_TAIL = 4 << 20
_PLAIN = (b"content-type", b"text/plain; charset=utf-8")


def trial_of(ledger: Ledger, number: int) -> Trial:
    """A trial by its number.

    Raises:
        Refused: If there is none.
    """
    if number >= len(ledger.trials):
        raise Refused(404, "HTTP", f"No trial {number} in this study. See its list of trials.")
    return ledger.trials[number]


async def output(call: Call) -> Reply:
    """The end of what a trial printed, where it was kept on the machine of the server."""
    info = await call.state.shelf.info(call.study, call.who)
    most = call.whole("tail", TAIL, 1, LONGEST_TAIL)
    number = int(call.item)
    held = call.state.board.held(info)

    def work() -> bytes:
        trial_of(held.ledger(), number)
        found = tail(log_path(held.store.blobs(info.id), number), most)
        if found is None:
            raise Refused(
                404, "HTTP", f"What trial {number} printed was not kept where this server could read it."
            )
        return found

    return Reply(200, await aside(call.state.pools.moving, work), [_PLAIN])


def tail(path: Path, most: int) -> bytes | None:
    """The last whole lines of a file, in at most so many bytes of UTF-8; None when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            data = file.read(most)
    except OSError:
        return None
    if size > most and b"\n" in data[:-1]:
        data = data.partition(b"\n")[2]
    return data.decode("utf-8", "replace").encode()


async def copy(call: Call) -> Reply:
    """The parameters of a trial as a command line, as Python and as JSON."""
    info = await call.state.shelf.info(call.study, call.who)
    held = call.state.board.held(info)
    number = int(call.item)

    def work() -> CopyAnswer:
        ledger = held.ledger()
        found = copies(ledger, trial_of(ledger, number))
        return CopyAnswer(found["command"], found["python"] or "", found["json"] or "")

    return answer(await aside(call.state.pools.looking, work))
