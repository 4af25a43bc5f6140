"""Studies and their trials for people and programs: list, make, look, remove; health and counters."""

from __future__ import annotations

from itertools import islice
from typing import Any

from tunewright import __version__
from tunewright.core.limits import SPEC, checked_json, checked_space
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError, StudyExists, StudyMissing, TunewrightError
from tunewright.opening import Request, check_name, fidelity, objectives, open_study
from tunewright.run.template import space_of_mapping
from tunewright.store import wire
from tunewright.store.base import StudyInfo
from tunewright.view import View
from tunewright.web.lanes import aside
from tunewright.web.looking import trial_of
from tunewright.web.metrics import Sample, descriptors, resident
from tunewright.web.refusals import Refused
from tunewright.web.replies import TEXT, Call, Reply, answer, nothing
from tunewright.web.shelf import shown

_PAGE = 1000


async def health(call: Call) -> Reply:
    """Whether the server answers, and whether it is about to end."""
    closing = call.state.closing.is_set()
    return answer({"status": "closing" if closing else "ok", "version": __version__}, 503 if closing else 200)


async def studies(call: Call) -> Reply:
    """The studies that the caller may see, oldest first."""
    after, limit = call.whole("after", 0, 0, 2**62), call.whole("limit", _PAGE, 1, _PAGE)
    specs = call.query.get("specs", "false")
    if specs not in ("true", "false"):
        raise Refused(422, "HTTP", f"'specs' must be true or false; got {specs[:40]!r}. Correct it.")
    bare = specs == "true"

    def work() -> list[wire.StudyAnswer]:
        seen = [s for s in call.state.store.studies() if s.id > after and call.who.sees(s.name)][:limit]
        return [described(call, info, spec=bare, brief=not bare) for info in seen]

    return answer(await aside(call.state.pools.looking, work))


def described(call: Call, info: StudyInfo, *, spec: bool, brief: bool = True) -> wire.StudyAnswer:
    """A study as it is listed; without ``brief`` its log is not looked at."""
    last, counts, best = call.state.shelf.brief(info) if brief else (call.state.store.last(info.id), {}, None)
    return wire.StudyAnswer(
        info.id,
        info.name,
        info.created,
        str(info.spec.get("method", "")),
        last,
        counts,
        None if best is None else shown(best),
        info.spec if spec else None,
    )


async def study(call: Call) -> Reply:
    """One study, with its problem."""
    info = await call.state.shelf.info(call.study, call.who)
    return answer(await aside(call.state.pools.looking, lambda: described(call, info, spec=True)))


async def create(call: Call) -> Reply:
    """Makes a study."""
    body: wire.NewStudy = call.body
    check_name(body.name)
    if not call.who.sees(body.name):
        raise StudyMissing(f"No study '{body.name}' on this server, and none of that name for you.")
    made, info = await aside(call.state.pools.looking, lambda: _made(call, body))
    call.state.shelf.missing(body.name)
    found = await aside(call.state.pools.looking, lambda: described(call, info, spec=True))
    return answer(found, 201 if made else 200)


def _made(call: Call, body: wire.NewStudy) -> tuple[bool, StudyInfo]:
    store = call.state.store
    found = store.find(body.name)
    if found is not None:
        if body.exist_ok:
            return False, found
        raise StudyExists(
            f"A new study needs a new name; '{body.name}' is there already. Choose another one."
        )
    try:
        if body.spec is not None:
            return True, _copied(call, body)
        request = Request(
            body.name,
            space_of_mapping(body.space or {}),
            objectives(body.minimize, body.maximize),
            fidelity(body.steps),
            body.limits,
            body.method,
            body.options,
            body.seed,
        )
        session, _ = open_study(store, request, "error", "error", True, None)
    except StudyExists:
        found = store.find(body.name) if body.exist_ok else None
        if found is None:
            raise
        return False, found
    return True, session.info


def _copied(call: Call, body: wire.NewStudy) -> StudyInfo:
    """A study as another store knows it."""
    spec = body.spec or {}
    checked_json("A study's settings", spec, SPEC)
    try:
        checked_space(Problem.from_dict(spec["problem"]).space)
        if not isinstance(spec["method"], str):
            raise TypeError("'method' must be a text")
    except TunewrightError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ConfigError(
            f"'spec' must be what a store keeps of a study; got {type(error).__name__}: {error}. Copy it from one."
        ) from None
    return call.state.store.create(body.name, spec, created=body.created)


async def delete(call: Call) -> Reply:
    """Removes a study with its log and checkpoints."""
    info = await call.state.shelf.info(call.study, call.who)
    call.state.shelf.forget(info.id)
    await aside(call.state.pools.looking, lambda: call.state.store.delete(info.id))
    return nothing()


async def trials(call: Call) -> Reply:
    """A page of trials."""
    held = call.state.board.held(await call.state.shelf.info(call.study, call.who))
    after, limit = call.whole("after", -1, 0, 2**62), call.whole("limit", 100, 1, _PAGE)
    status = call.query.get("status")

    def work() -> wire.TrialsAnswer:
        ledger = held.ledger()
        numbers = range(after + 1, len(ledger.trials))
        found = (ledger.trials[n] for n in numbers)
        chosen = found if status is None else (t for t in found if t.status == status)
        total = len(ledger.trials) if status is None else ledger.counts.get(status, 0)
        scale = ledger.problem.scale
        return wire.TrialsAnswer([shown(t, scale) for t in islice(chosen, limit)], total)

    return answer(await aside(call.state.pools.looking, work))


async def trial(call: Call) -> Reply:
    """One trial, with its measurements."""
    held = call.state.board.held(await call.state.shelf.info(call.study, call.who))
    number = int(call.item)

    def work() -> dict[str, Any]:
        ledger = held.ledger()
        return shown(trial_of(ledger, number), ledger.problem.scale, reports=True)

    return answer(await aside(call.state.pools.looking, work))


async def best(call: Call) -> Reply:
    """The best trial; of several objectives those that no other beats in all of them; none before there is a result."""
    held = call.state.board.held(await call.state.shelf.info(call.study, call.who))

    def work() -> wire.TrialsAnswer:
        ledger = held.ledger()
        if ledger.problem.m > 1:
            found = View(held.reader()).pareto
        else:
            found = [] if ledger.best is None else [ledger.best]
        return wire.TrialsAnswer([shown(t, ledger.problem.scale, reports=True) for t in found], len(found))

    return answer(await aside(call.state.pools.looking, work))


async def metrics(call: Call) -> Reply:
    """Counters for Prometheus, about the studies that the caller may see."""
    state = call.state

    def work() -> tuple[list[Sample], list[Sample], list[Sample]]:
        by_status: list[Sample] = []
        queued: list[Sample] = []
        last: list[Sample] = []
        for info in [s for s in state.store.studies() if call.who.sees(s.name)][:_PAGE]:
            position, counts, _ = state.shelf.brief(info)
            by_status += [({"study": info.name, "status": k}, float(v)) for k, v in sorted(counts.items())]
            last.append(({"study": info.name}, float(position)))
            opened = state.shelf.at_hand(info)
            if opened is not None:
                queued.append(({"study": info.name}, float(len(opened.session.ledger.queue))))
        return by_status, queued, last

    by_status, queued, last = await aside(state.pools.looking, work)
    running = [(labels, v) for labels, v in by_status if labels["status"] == "running"]
    gauges: list[tuple[str, str, str, list[Sample]]] = [
        ("tunewright_trials", "gauge", "Trials by study and status.", by_status),
        ("tunewright_running_trials", "gauge", "Trials under lease.", running),
        ("tunewright_queue", "gauge", "Configurations waiting, of studies in hand.", queued),
        ("tunewright_records", "gauge", "Position of the last record.", last),
        ("tunewright_events_appended_total", "counter", "Records appended through this server.", [({}, float(state.metrics.events))]),
        ("tunewright_open_studies", "gauge", "Studies in hand.", [({}, float(state.shelf.opened))]),
        ("tunewright_requests_running", "gauge", "Requests in the making.", [({}, float(state.running))]),
        ("tunewright_streams", "gauge", "Streams of events.", [({}, float(state.streams))]),
        ("process_start_time_seconds", "gauge", "When the server began.", [({}, state.metrics.began)]),
        ("process_resident_memory_bytes", "gauge", "Memory of the server.", [({}, float(resident()))]),
        ("process_open_fds", "gauge", "Open files and connections.", [({}, float(descriptors()))]),
    ]  # fmt: skip
    return Reply(200, state.metrics.text(gauges).encode(), [TEXT])


async def description(call: Call) -> Reply:
    """What this interface is, as OpenAPI 3.1."""
    return answer(call.state.describe())
