"""A study in words: how far it is, what it found, what to do next, whether it is worth going on."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np

from tunewright.analysis import outcome
from tunewright.analysis.pace import number
from tunewright.analysis.stopping import LEAST, regret_bound
from tunewright.core.algorithm import generator
from tunewright.core.trial import FAILURES, Ledger
from tunewright.ending import reason
from tunewright.numerics.pareto import nondominated
from tunewright.run.session import Session
from tunewright.run.usage import command_note
from tunewright.store.base import Lease, StudyInfo
from tunewright.web.columns import CODES, Columns, standing
from tunewright.web.lanes import aside
from tunewright.web.packing import Packed, digest
from tunewright.web.replies import Call, Reply, encode
from tunewright.web.sending import sent
from tunewright.web.shapes import Baseline, OverviewAnswer, Pace, Working
from tunewright.web.shelf import shown

if TYPE_CHECKING:
    from tunewright.web.board import Held

_RECENT = 100
_MOST_FRONT = 500
_MOST_FITTED = 200
_STREAM = 23
_STALE = 0.5
_MANY_FAILED = 0.2
_OVER = [CODES[s] for s in ("completed", "stopped", *sorted(FAILURES))]


def told(held: Held, ledger: Ledger, bound: str, leases: list[Lease], now: float) -> OverviewAnswer:
    """Everything that can be said of a study in words.

    Args:
        held: Its columns, up to date and locked.
        ledger: The ledger, as new as the columns.
        bound: What may still be gained, in a sentence, or nothing.
        leases: Who works on what.
        now: Seconds since 1970.
    """
    columns, info = held.columns, held.info
    best = best_of(columns, ledger)
    trial = ledger.trials[best] if best >= 0 else None
    default = outcome.defaults_of(ledger)
    first = columns.problem.objectives[0].name
    other = None if trial is None else outcome.baseline(ledger)
    gain = "" if trial is None or other is None else outcome.gain(columns.problem, trial, *other)
    alive = any(not lease.expired for lease in leases)
    return OverviewAnswer(
        name=info.name,
        method=str(info.spec.get("method", "")),
        why=str(info.spec.get("why", "")),
        state=standing(columns.control, alive),
        counts=columns.counts,
        queued=len(ledger.queue),
        best=None if trial is None else shown(trial, columns.problem.scale),
        pareto=front(columns),
        default=None
        if default is None or first not in default.metrics
        else Baseline(default.number, default.metrics[first]),
        gain=gain or None,
        advice=advice(info, columns, ledger, best),
        stop=stopping(columns, held.reader(), bound),
        eta=pace(columns, ledger, now),
        workers=working(ledger, leases),
        insight=insight(columns, best),
    )


def best_of(columns: Columns, ledger: Ledger) -> int:
    """Number of the best trial, by its mean where configurations were tried several times; -1 for none."""
    if columns.replicated and columns.problem.m == 1:
        return -1 if ledger.best is None else ledger.best.number
    return columns.best


def front(columns: Columns) -> list[int]:
    """Numbers of the trials that none beats in every objective; none for a single objective."""
    if columns.problem.m < 2:
        return []
    rows = np.flatnonzero(columns.allowed)
    if not len(rows):
        return []
    found: list[int] = rows[nondominated(columns.losses[rows])].tolist()
    return found[:_MOST_FRONT]


def pace(columns: Columns, ledger: Ledger, now: float) -> Pace:
    """How far a study is: by the trials asked for last, and by those that ended lately."""
    wanted = ((command_note(ledger) or {}).get("limits") or {}).get("trials")
    text = str(wanted)
    total = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    over = np.isin(columns.state, _OVER)
    done = int(over.sum())
    ended = np.sort(columns.ended[over])[-_RECENT:]
    ended = ended[np.isfinite(ended)]
    rate = None
    if len(ended) > 1 and columns.counts.get("running"):
        rate = 60.0 * (len(ended) - 1) / max(now - float(ended[0]), 1e-3)
    left = None if rate is None or total is None else max(0, total - done) / rate * 60.0
    return Pace(total, done, rate, left)


def working(ledger: Ledger, leases: list[Lease]) -> list[Working]:
    """Who works on what."""
    found = []
    for lease in leases:
        trial = ledger.running.get(lease.trial)
        if trial is not None:
            found.append(
                Working(lease.worker, trial.number, trial.step, trial.until, trial.at, lease.expired)
            )
    return found


def insight(columns: Columns, best: int) -> str:
    """What there is to see, in a sentence."""
    problem, n = columns.problem, columns.n
    if not n:
        return "No trial has begun yet."
    done = int(columns.allowed.sum())
    if not done:
        failed = sum(columns.counts.get(s, 0) for s in FAILURES)
        return f"No trial has a result yet; {number(n)} began" + (f" and {failed} failed." if failed else ".")
    if problem.m > 1:
        held = len(front(columns))
        return f"{held} of {done} results are on the front: none beats them in every objective."
    first = problem.objectives[0]
    value = number(float(columns.value(first.name)[best]))
    since = n - 1 - best
    after = f"; none of the {since} trials begun since is better" if since > 0 else ""
    return f"The best {first.name} of {done} results is {value}, by trial {best}{after}."


def stopping(columns: Columns, session: Session, bound: str) -> str:
    """Whether it is worth going on: what the rule of the run said, else a bound on what is left to gain, else how long
    nothing better was found."""
    said = reason(session)
    if said:
        return f"The run ended by its rule, {said}."
    if columns.problem.m > 1:
        return ""
    losses = columns.losses[columns.allowed, 0]
    if len(losses) < LEAST:
        return ""
    if bound:
        return bound
    best = int(np.argmin(losses))
    share = 1.0 - (best + 1) / len(losses)
    if share < _STALE:
        return f"Still improving: the best came after {best + 1} of {len(losses)} results."
    return (
        f"The last {len(losses) - 1 - best} of {len(losses)} results brought nothing better: "
        "consider ending it, or widening the space."
    )


def bounded(held: Held) -> str:
    """What may still be gained at most, by a model of the results, in a sentence; kept until a twentieth more are there.

    Nothing is said of several objectives, of few results, or of so many that a model takes long; a chart tells of those.
    """
    with held.lock:
        columns = held.sync()
        done, name = int(columns.allowed.sum()), columns.problem.objectives[0].name
        if columns.problem.m > 1 or not LEAST <= done <= _MOST_FITTED:
            return ""
    if held.bound is None or not held.bound[0] <= done < math.ceil(held.bound[0] * 1.05):
        history = held.told()
        held.bound = done, regret_bound(history, generator(history.problem.seed, done, _STREAM))
    found = held.bound[1]
    if found is None:
        return ""
    if found.gap < found.noise:
        return (
            f"Worth ending: at most {found.gap:.3g} of {name} is left to gain, less than results differ by chance "
            f"({found.noise:.3g})."
        )
    return (
        f"Worth going on: up to {found.gap:.3g} of {name} may be left to gain; results differ by {found.noise:.3g} "
        "by chance."
    )


def advice(info: StudyInfo, columns: Columns, ledger: Ledger, best: int) -> list[str]:
    """What to do next, the most urgent first."""
    out: list[str] = []
    failed = sum(columns.counts.get(s, 0) for s in FAILURES)
    over = int(np.isin(columns.state, _OVER).sum())
    if failed and failed >= _MANY_FAILED * over:
        newest = int(np.flatnonzero(np.isin(columns.state, [CODES[s] for s in FAILURES]))[-1])
        out.append(f"{failed} of {over} trials failed; see why on the page of trial {newest}.")
    if best >= 0:
        out += outcome.edges(columns.problem.space, ledger.trials[best])
        if columns.problem.m == 1 and over >= 20 and not columns.replicated and not _confirmed(ledger):
            out.append(
                f"The best of {over} measurements looks better than it is; make sure with "
                f"'tunewright confirm {info.name}'."
            )
    if over >= 10 and best >= 0:
        out.append("See what matters on the page of parameters.")
    if not columns.n:
        out.append("Begin with 'tunewright run', or with study.run in Python.")
    return out


def _confirmed(ledger: Ledger) -> bool:
    return any(note.topic == "confirmed" for _, note in ledger.notes)


async def overview(call: Call) -> Reply:
    """A study in words."""
    info = await call.state.shelf.info(call.study, call.who)
    held = call.state.board.held(info)

    def work() -> Packed:
        bound = bounded(held)
        leases = held.store.leases(info.id)
        with held.lock:
            held.sync()
            body = encode(told(held, held.ledger(), bound, leases, time.time()))
        return Packed(body, digest(body))

    return sent(call, await aside(call.state.pools.looking, work))
