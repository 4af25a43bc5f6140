"""The studies that a server has in hand: one session per study, opened when needed and put back when idle."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from tunewright.core.scale import Scale
from tunewright.core.trial import Ledger, Trial
from tunewright.errors import StudyMissing
from tunewright.opening import session_of, stored_problem
from tunewright.run.desk import Desk
from tunewright.run.retention import Retention
from tunewright.run.session import Session
from tunewright.store.base import Store, StudyInfo
from tunewright.store.clock import EXTERNAL, worker_alive, worker_id
from tunewright.study import Study
from tunewright.view import as_dict
from tunewright.web.lanes import Lane, Pools, aside
from tunewright.web.tokens import Who

MOST_OPEN = 64
IDLE = 600.0
PEEK = 0.05
GRACE = 30.0
_PARTS = 5
_MOST_NAMES = 10_000
_MANY = 256


def spoken(worker: str, who: Who) -> str:
    """The name under which a request's words are kept: whoever it says it is, with the id of its token at the end.

    It stays a name of ``store.clock``, so that a worker of this host is still known to be dead at once.
    """
    text = worker if worker.isprintable() else "".join(c for c in worker if c.isprintable())
    parts = text[:256].split("/", _PARTS - 1)
    if len(parts) != _PARTS or parts[0] == EXTERNAL:
        rest = "/".join(x for x in parts if x and x != EXTERNAL) or "http"
        return "/".join(p for p in (EXTERNAL, rest, who.id) if p)
    if not who.id:
        return text[:256]
    return f"{'/'.join(parts[:4])}/{parts[4]}@{who.id}" if parts[4] else f"{'/'.join(parts[:4])}/{who.id}"


class Opened:
    """One study in hand.

    Attributes:
        info: What the store says about it.
        session: The one handle of this process.
        desk: Between the session and workers.
        study: The same handle for people.
        lane: Where its decisions are taken.
        thinks: Whether a decision may take long.
        retention: Tidies up checkpoints.
        used: When somebody last wanted it, on the monotonic clock.
        given: Trials begun for each worker: token and moment by number.
    """

    def __init__(self, info: StudyInfo, session: Session, pools: Pools) -> None:
        self.info = info
        self.session = session
        self.desk = Desk(session)
        self.study = Study(session)
        self.lane = Lane(pools.thinking)
        self.thinks = bool(getattr(session.algorithm, "deliberate", False))
        self.retention = Retention(session)
        self.used = time.monotonic()
        self.given: dict[str, dict[int, tuple[int, float]]] = {}
        self._draft: Session | None = None
        self._reader: Session | None = None
        self._lock = threading.Lock()

    def draft(self) -> Ledger:
        """A ledger apart from the session's, on which copied records are tried; it stands where the log ends."""
        if self._draft is None or self._draft.ledger.cursor != self.session.ledger.cursor:
            self._draft = reading(self.session.store, self.info)
            self._draft.sync()
        return self._draft.ledger

    def discard(self) -> None:
        """Drops the ledger on which a copy failed."""
        self._draft = None

    def hand(self, worker: str, trial: Trial) -> None:
        """Remembers that a trial was begun for a worker."""
        if len(self.given) > _MOST_NAMES:
            self.given.clear()
        mine = self.given.setdefault(worker, {})
        mine[trial.id] = (trial.token, time.monotonic())
        if len(mine) % _MANY == 0:
            # Endings that came as events were not struck off.
            running = self.session.ledger.running
            self.given[worker] = {n: given for n, given in mine.items() if n in running}

    def done(self, worker: str, trial: int, token: int) -> None:
        """Forgets a trial that is over."""
        mine = self.given.get(worker)
        if mine is not None and trial in mine and mine[trial][0] == token:
            del mine[trial]

    def since(self, worker: str, trial: Trial) -> float:
        """Seconds since an attempt began, as well as is known."""
        mine = self.given.get(worker, {}).get(trial.id)
        if mine is not None and mine[0] == trial.token:
            return time.monotonic() - mine[1]
        return max(0.0, time.time() - trial.at)

    def owned(self, worker: str, held: Sequence[int]) -> list[Trial]:
        """Trials that run for a worker and that it does not know of, because an answer was lost."""
        session = self.session
        mine = self.given.get(worker)
        if mine is None:
            # The server was started anew since, or never met it.
            running = session.sync().running.values()
            mine = {t.id: (t.token, time.monotonic()) for t in running if t.worker == worker}
            self.given[worker] = mine
        lost = [number for number in mine if number not in held]
        if not lost:
            return []
        trials = session.sync().trials
        found = []
        for number in lost:
            trial = trials[number] if number < len(trials) else None
            if trial is None or trial.status != "running" or trial.token != mine[number][0]:
                del mine[number]
            else:
                found.append(trial)
        return found

    def reader(self) -> Session:
        """A handle that only reads; it never waits for the one that decides, which may be thinking."""
        with self._lock:
            if self._reader is None:
                self._reader = reading(self.session.store, self.info)
            return self._reader

    def peek(self) -> Ledger:
        """The newest ledger, for looking."""
        return self.reader().sync()


class Shelf:
    """Finds and opens studies.

    Args:
        store: Where they are.
        pools: Where blocking work runs.
    """

    def __init__(self, store: Store, pools: Pools) -> None:
        self.store = store
        self.worker = worker_id("server")
        self.began = time.monotonic()
        self._pools = pools
        self._infos: dict[str, StudyInfo] = {}
        self._open: OrderedDict[int, Opened] = OrderedDict()
        self._opening: dict[int, asyncio.Task[Opened]] = {}
        self._spared: set[tuple[int, int, int]] = set()
        self._met: dict[int, int] = {}
        self._brief: dict[int, tuple[int, dict[str, int], Trial | None]] = {}

    @property
    def opened(self) -> int:
        """Number of studies in hand."""
        return len(self._open)

    async def info(self, address: str, who: Who) -> StudyInfo:
        """What the store says about a study.

        Args:
            address: Its name, or ``@`` and its key.
            who: Who wants to know.

        Raises:
            StudyMissing: If there is none, or none for this caller; both sound the same.
        """
        found = self._infos.get(address)
        if found is None:
            found = await aside(self._pools.looking, lambda: self._find(address))
            if found is not None:
                if len(self._infos) > _MOST_NAMES:
                    self._infos.clear()
                self._infos[address] = found
        if found is None or not who.sees(found.name):
            raise StudyMissing(f"No study '{address[:256]}' on this server; see GET /api/v1/studies.")
        return found

    def _find(self, address: str) -> StudyInfo | None:
        key = address[1:]
        if address.startswith("@") and key.isascii() and key.isdigit() and len(key) < 19:
            return next((s for s in self.store.studies() if s.id == int(key)), None)
        return self.store.find(address)

    async def open(self, address: str, who: Who) -> Opened:
        """A study, ready to decide.

        Raises:
            StudyMissing: If there is none for this caller.
        """
        info = self._infos.get(address)
        if info is None or not who.sees(info.name):
            info = await self.info(address, who)
        return self._open.get(info.id) or await self.opened_for(info)

    def at_hand(self, info: StudyInfo) -> Opened | None:
        """A study that is open already."""
        return self._open.get(info.id)

    async def opened_for(self, info: StudyInfo) -> Opened:
        """Opens a study once, however many wait for it."""
        task = self._opening.get(info.id)
        if task is None:
            task = asyncio.create_task(self._make(info))
            self._opening[info.id] = task
            task.add_done_callback(lambda _: self._opening.pop(info.id, None))
        return await asyncio.shield(task)

    async def _make(self, info: StudyInfo) -> Opened:
        def work() -> Session:
            session = session_of(self.store, info, None, None, None, None, worker=self.worker)
            session.sync()
            if session.algorithm is not None:
                session.state()
            return session

        session = await aside(self._pools.thinking, work)
        opened = Opened(info, session, self._pools)
        self._open[info.id] = opened
        self.trim()
        return opened

    def forget(self, study: int) -> None:
        """Lets go of a study that is gone or was changed from outside."""
        self._open.pop(study, None)
        self._brief.pop(study, None)
        for address in [a for a, info in self._infos.items() if info.id == study]:
            del self._infos[address]

    def missing(self, address: str) -> None:
        """Lets go of a study that the store no longer has under this address."""
        info = self._infos.get(address)
        if info is not None:
            self.forget(info.id)

    def trim(self, idle: float = IDLE) -> None:
        """Puts back studies that nobody has wanted for a while, and the least wanted of too many."""
        moment = time.monotonic()
        ranked = sorted(self._open.values(), key=lambda o: o.used)
        for opened in ranked:
            if len(self._open) <= MOST_OPEN and moment - opened.used < idle:
                break
            if not opened.lane.busy and moment - opened.used > 1.0:
                del self._open[opened.info.id]
                self._pools.looking.submit(opened.session.close)

    def close(self) -> None:
        """Keeps a snapshot of every open study where many events came since the last one."""
        for opened in self._open.values():
            if opened.session.lock.acquire(timeout=PEEK):
                try:
                    opened.session.close()
                finally:
                    opened.session.lock.release()
        self._open.clear()

    def spare(self, study: int) -> None:
        """Lets nobody lose a lease because the server was away: for a while after its start, each is renewed once.

        That is for attempts older than the server; who began later has had it to talk to all the time.
        """
        if time.monotonic() - self.began > GRACE:
            return
        if study not in self._met:
            self._met[study] = self.store.last(study)
        met = self._met[study]
        silent = [
            (x.trial, x.token)
            for x in self.store.leases(study)
            if x.expired
            and x.token <= met
            and (study, x.trial, x.token) not in self._spared
            and worker_alive(x.worker) is not False
        ]
        if silent:
            self._spared.update((study, *pair) for pair in silent)
            self.store.renew(study, silent, lease=GRACE)

    def strangers(self, study: int) -> None:
        """Attempts that arrived with a copied log never spoke to this server, so none of them is spared."""
        self._spared.update((study, x.trial, x.token) for x in self.store.leases(study) if x.expired)

    def brief(self, info: StudyInfo) -> tuple[int, dict[str, int], Trial | None]:
        """Position of the last record, number of trials by status, and the best trial; kept while the log is the same."""
        opened = self._open.get(info.id)
        if opened is None:
            last = self.store.last(info.id)
            known = self._brief.get(info.id)
            if known is not None and known[0] == last:
                return known
            ledger = reading(self.store, info).sync()
        else:
            ledger = opened.peek()
        found = (ledger.cursor, {k: v for k, v in ledger.counts.items() if v}, ledger.best)
        if opened is None:
            if len(self._brief) > _MOST_NAMES:
                self._brief.clear()
            self._brief[info.id] = found
        return found


def reading(store: Store, info: StudyInfo) -> Session:
    """A handle on a study that takes no decisions."""
    return Session(store, info, stored_problem(info, None), None, method="", worker=worker_id("server"))


def trial_of(ledger: Ledger, number: int) -> Trial | None:
    """A trial by its number."""
    return ledger.trials[number] if 0 <= number < len(ledger.trials) else None


def shown(trial: Trial, scale: Scale | None = None, *, reports: bool = False) -> dict[str, Any]:
    """A trial as plain data.

    Args:
        trial: The trial.
        scale: Of the study, whose sizes are then told beside points, and on measurements as places on an axis of sizes.
        reports: With all its measurements.
    """
    data = as_dict(trial, scale)
    data["checkpoint"] = None if trial.checkpoint is None else trial.checkpoint[1]
    if reports:
        data["reports"] = [
            {
                "step": r.step,
                "metrics": r.metrics,
                "bad": r.bad,
                **({} if scale is None else {"words": scale.words(r.step), "across": scale.across(r.step)}),
            }
            for r in trial.reports
        ]
        if scale is not None and trial.parent is not None:
            data["place"]["parent"] = scale.words(trial.parent[1])
    return data
