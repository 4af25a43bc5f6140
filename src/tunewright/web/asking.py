"""``ask``, ``say``, ``report``, ``tell``, ``queue``: work handed out and taken back. The hot path of the server."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import msgspec

from tunewright.core.limits import error_kept
from tunewright.core.trial import Trial
from tunewright.core.values import counted
from tunewright.errors import ConfigError, LeaseLost
from tunewright.run.messages import Answer, Finish, FromWorker, Report, Save, Suggest
from tunewright.run.session import Session
from tunewright.store import wire
from tunewright.study import Asked
from tunewright.web.lanes import aside
from tunewright.web.refusals import Refused
from tunewright.web.replies import Call, Reply, answer, encode, raw
from tunewright.web.shelf import Opened, shown, spoken, trial_of

_words: msgspec.json.Decoder[FromWorker] = msgspec.json.Decoder(FromWorker)
_UNFINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_OK = encode(Answer())
_MOST = 2**53


async def ask(call: Call) -> Reply:
    """Hands out trials; waits for work where the caller wants that."""
    body: wire.AskBody = call.body
    state = call.state
    opened = await state.shelf.open(call.study, call.who)
    worker = spoken(body.worker, call.who)
    place = blobs_address(call, opened)
    until = time.monotonic() + body.wait
    while True:
        begun, finished, last = await opened.lane.run(
            lambda: asked(opened, body, worker, place, state.shelf.spare)
        )
        stopped = opened.session.ledger.control == "stop"
        state.news.told(opened.info.id, last)
        left = until - time.monotonic()
        if begun or finished or stopped or left <= 0.0 or not body.slots or state.closing.is_set():
            break
        # A lease that runs out is no news, so it is looked for now and then.
        await state.news.wait(opened.info.id, last, min(left, 1.0))
    if begun:
        state.metrics.events += len(begun)
    records = None
    if body.after is not None:
        look = partial(state.store.read, opened.info.id, body.after, wire.MOST_RECORDS)
        records = await aside(state.pools.looking, look)
    return answer(wire.AskAnswer([msgspec.Raw(b) for b in begun], finished, records, stopped))


def asked(
    opened: Opened, body: wire.AskBody, worker: str, place: str, spare: Any
) -> tuple[list[bytes], bool, int]:
    """Takes decisions: the segments begun, whether the method is finished, and the end of the log."""
    session = opened.session
    if session.algorithm is None:
        raise ConfigError(
            f"Study '{opened.info.name}' takes decisions by a method of its own, '{session.method}', which this server "
            "does not have. Ask in the program that has it."
        )
    begun: list[bytes] = []
    spare(opened.info.id)
    with session.speaking_for(worker, body.lease, body.attempts):
        again = opened.owned(worker, body.held)[: body.slots] if body.held is not None else []
        for trial in again:
            _hand(opened, trial, worker, place, begun)
        if not body.slots:
            session.ask(0, limit=body.limit)
        while len(begun) < body.slots:
            want = body.slots - len(begun)
            if want == 1:
                one = session.ask(limit=body.limit)
                found = [] if one is None else [one]
            else:
                found = session.ask_many(want, limit=body.limit)
            for trial in found:
                _hand(opened, trial, worker, place, begun)
            if not found:
                break
    opened.used = time.monotonic()
    return begun, not begun and bool(body.slots) and _over(session, body.limit), session.ledger.cursor


def _over(session: Session, limit: int | None) -> bool:
    """Whether nothing is left to begin: the method is finished, or all trials that are to be had are over."""
    ledger = session.ledger
    full = limit is not None and ledger.begun >= limit
    return session.exhausted or (full and not ledger.running and not ledger.waiting)


def _hand(opened: Opened, trial: Trial, worker: str, place: str, begun: list[bytes]) -> None:
    segment = opened.desk.segment(trial, place)
    if segment is not None:
        opened.hand(worker, trial)
        begun.append(encode(segment))


def blobs_address(call: Call, opened: Opened) -> str:
    """Address of the study's checkpoint files, as the caller reaches this server."""
    host = (call.header(b"host") or b"localhost").decode("latin-1")
    return f"{call.scope['scheme']}://{host}{wire.PREFIX}/studies/@{opened.info.id}/checkpoints"


# ------------------------------------------------------------------ a worker's words


async def say(call: Call) -> Reply:
    """Takes a word of a thin worker about its trial."""
    body: wire.SayBody = call.body
    try:
        message = _words.decode(body.message)
    except msgspec.DecodeError as error:
        raise Refused(422, "HTTP", f"'message' must be a word of a worker; {error}. Correct it.") from None
    if not 0 <= message.token <= _MOST or not 0 <= getattr(message, "step", 0) <= _MOST:
        raise Refused(422, "HTTP", "'token' and 'step' must be whole numbers from 0 to 2**53. Correct them.")
    opened = await call.state.shelf.open(call.study, call.who)
    worker = spoken(body.worker, call.who)
    reply, last = await opened.lane.run(lambda: heard(opened, message, worker, body.again))
    call.state.metrics.events += 1
    call.state.news.told(opened.info.id, last)
    return raw(reply)


def heard(opened: Opened, message: FromWorker, worker: str, again: bool) -> tuple[bytes, int]:
    """Records a word, unless it is known already, and says what the worker is to do."""
    session = opened.session
    with session.speaking_for(worker):
        trial = trial_of(session.ledger, message.trial) or trial_of(session.sync(), message.trial)
        if trial is None:
            raise LeaseLost(
                f"A result must belong to a started trial; trial {message.trial} was never started."
            )
        if isinstance(message, Finish):
            message = msgspec.structs.replace(message, error=error_kept(message.error))
        if again:
            session.sync()
            if known(trial, message):
                return _verdict(opened, trial, message), session.ledger.cursor
        if isinstance(message, Report):
            counted(message.step)
            reply = encode(opened.desk.report(message))
        elif isinstance(message, Save):
            reply = encode(opened.desk.saved(message))
        elif isinstance(message, Suggest):
            reply = encode(opened.desk.suggest(message))
        else:
            opened.desk.finish(message, opened.since(worker, trial))
            opened.done(worker, message.trial, message.token)
            reply = _OK
        if session.loose:
            opened.retention.tidy()
    opened.used = time.monotonic()
    return reply, session.ledger.cursor


def known(trial: Trial, message: FromWorker) -> bool:
    """Whether a word that is said again was recorded when it was said first."""
    if trial.token != message.token:
        return False
    if isinstance(message, Report):
        return any(r.step == message.step and r.token == message.token for r in trial.reports[-3:])
    if isinstance(message, Save):
        return (message.step, message.checkpoint) in (trial.checkpoint, trial.fresh)
    if isinstance(message, Suggest):
        return message.name in trial.config
    return trial.status != "running"


def _verdict(opened: Opened, trial: Trial, message: FromWorker) -> bytes:
    if isinstance(message, Suggest):
        return encode(Answer(value=trial.config[message.name]))
    signal = trial.signal if isinstance(message, Report) else None
    return encode(Answer(signal)) if signal in ("stop", "pause") else _OK  # type: ignore[arg-type]


# ------------------------------------------------------------------ for clients without this package


async def report(call: Call) -> Reply:
    """Records measurements at a step, and says whether to go on."""
    body: wire.ReportBody = call.body
    opened = await call.state.shelf.open(call.study, call.who)
    worker, number = spoken(body.worker, call.who), int(call.item)

    def work() -> bool:
        with opened.session.speaking_for(worker):
            asked_, trial = attempt(opened, number, body.token)
            step, metrics = counted(body.step), numbers(body.metrics)
            latest = trial.reports[-1] if trial.reports and trial.token == body.token else None
            if latest is not None and latest.step == step and latest.token == body.token:
                return trial.status == "running" and trial.signal is None
            return opened.study.report(asked_, step, **metrics)

    go_on = await opened.lane.run(work)
    call.state.news.told(opened.info.id, opened.session.ledger.cursor)
    call.state.metrics.events += 1
    return answer(wire.GoOn(go_on))


async def tell(call: Call) -> Reply:
    """Ends a trial with its result."""
    body: wire.TellBody = call.body
    opened = await call.state.shelf.open(call.study, call.who)
    worker, number = spoken(body.worker, call.who), int(call.item)
    values: Any = None if body.metrics is None else numbers(body.metrics)
    if values is None and body.value is not None:
        values = numbers({"value": body.value})["value"]

    def work() -> Trial:
        with opened.session.speaking_for(worker):
            asked_, trial = attempt(opened, number, body.token)
            if trial.token == body.token and trial.status == "paused":
                return trial
            opened.done(worker, number, body.token)
            return opened.study.tell(asked_, values, outcome=body.outcome, error=error_kept(body.error))

    trial = await opened.lane.run(work)
    opened.used = time.monotonic()
    call.state.news.told(opened.info.id, opened.session.ledger.cursor)
    call.state.metrics.events += 1
    return answer(shown(trial))


def attempt(opened: Opened, number: int, token: int) -> tuple[Asked, Trial]:
    """An attempt as its client names it.

    Raises:
        Refused: If there is no such trial.
    """
    trial = trial_of(opened.session.ledger, number) or trial_of(opened.session.sync(), number)
    if trial is None:
        raise Refused(404, "HTTP", f"No trial {number} in this study. Ask first.")
    found = Asked(opened.study, trial)
    found.token = token
    return found, trial


def numbers(metrics: dict[str, float | str]) -> dict[str, float]:
    """Values as a client without NaN and infinities in its JSON writes them.

    Raises:
        ConfigError: If a text is none of the three that are known.
    """
    out: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, str):
            if value not in _UNFINITE:
                raise ConfigError(
                    f"Metric '{name[:60]}' must be a number, or one of the texts nan, inf, -inf; got {value[:60]!r}. Correct it."
                )
            value = _UNFINITE[value]
        out[name] = value
    return out


async def queue(call: Call) -> Reply:
    """Has a configuration tried next."""
    body: wire.QueueBody = call.body
    opened = await call.state.shelf.open(call.study, call.who)
    worker = spoken("", call.who)

    def work() -> int:
        with opened.session.speaking_for(worker):
            return opened.session.enqueue(body.params, key=body.key)

    position = await opened.lane.run(work)
    opened.used = time.monotonic()
    call.state.metrics.events += 1
    call.state.news.told(opened.info.id, opened.session.ledger.cursor)
    return answer(wire.QueueAnswer(position))
