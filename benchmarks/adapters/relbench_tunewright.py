"""Tunewright for the relbench torture harness.

Variants: sqlite, full (durable against power cuts), pg (a PostgreSQL of its own), http (``tunewright serve`` in front of
an SQLite file), memory. The harness loads this file as ``adapters.tunewright_ad`` from a copy of itself; see
``benchmarks.relbench``.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from adapters.base import Adapter, Session  # type: ignore[import-not-found]

import tunewright as tw
from tunewright.store.base import Store
from tunewright.store.urls import open_store

_STATES = {"running": "RUNNING", "paused": "WAITING", "waiting": "WAITING", "completed": "COMPLETE"}


class Handle(Session):  # type: ignore[misc]
    """A study inside one worker process."""

    def __init__(self, study: tw.Study) -> None:
        self.opened = study
        self._asked: dict[int, tw.Asked] = {}

    def run_one(self, evaluate: Any) -> int:
        """Asks, evaluates, tells."""
        asked = self.opened.ask()
        if asked is None:
            raise StopIteration
        value = evaluate(asked.number, asked.params, None, self._item(asked.number))
        asked.tell(value)
        return asked.number

    def enqueue(self, item: str, params: dict[str, Any]) -> None:
        """Puts a configuration in the queue, once per item."""
        self.opened.enqueue(params, key=item)

    def trials(self) -> list[dict[str, Any]]:
        """Every trial, and every item that no trial serves yet."""
        ledger = self.opened.session.sync()
        names = {position: key for key, position in ledger.keys.items()}
        rows = [
            {
                "id": t.number,
                "number": t.number,
                "state": _STATES.get(t.status, "FAIL"),
                "params": t.params,
                "item": names.get(t.start.queue),
                "values": [t.metrics["loss"]] if t.status == "completed" else None,
            }
            for t in ledger.trials
        ]
        rows += [
            {
                "id": f"queued-{p}",
                "number": None,
                "state": "WAITING",
                "params": i.config,
                "item": i.key,
                "values": None,
            }
            for p, i in ledger.queue.items()
        ]
        return rows

    def ask(self) -> tuple[int, dict[str, Any]]:
        """Number and parameters of a trial."""
        asked = self.opened.ask()
        assert asked is not None
        self._asked[asked.number] = asked
        return asked.number, asked.params

    def tell(self, trial: int, value: Any) -> None:
        """Ends a trial."""
        self._asked[trial].tell(value)
        del self._asked[trial]

    def report(self, trial: int, step: int, value: Any) -> None:
        """Reports a step; the harness counts them from 0, and we count those that are done."""
        self._asked[trial].report(step + 1, loss=value)

    def set_attr(self, trial: int, key: str, value: Any) -> None:
        """Keeps a note about a trial."""
        self.opened.session.note(key, {"value": value}, trial)

    def read(self, trial: int) -> Any:
        """What is kept about a trial."""
        ledger = self.opened.session.sync()
        notes = {n.topic: n.data["value"] for _, n in ledger.notes if n.trial == trial and "value" in n.data}
        reports = {r.step - 1: r.metrics or r.bad for r in ledger.trials[trial].reports}
        return SimpleNamespace(user_attrs=notes, intermediate_values=reports)

    def close(self) -> None:
        """Closes the study."""
        self.opened.close()

    def _item(self, number: int) -> str | None:
        ledger = self.opened.session.ledger
        queue = ledger.trials[number].start.queue
        return next((k for k, p in ledger.keys.items() if p == queue), None) if queue else None


class Database:
    """A PostgreSQL of its own, with the methods that the harness calls."""

    def __init__(self) -> None:
        from benchmarks.faults.places import Postgres

        self._place = Postgres()
        self.port = self._place.cluster.port
        self.url = self._place.url("tunewright")

    def start(self) -> None:
        """Starts it."""
        self._place.start()

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Ends it; the harness means by ``immediate`` that it will be started again."""
        if mode == "immediate":
            self._place.kill()
        else:
            self._place.close()

    def pids(self) -> list[int]:
        """All of its processes."""
        return self._place.cluster._family()


class TunewrightAdapter(Adapter):  # type: ignore[misc]
    """Makes and opens studies; options: ``lease`` in seconds, ``method``."""

    def __init__(self, variant: str, workdir: str, opts: dict[str, Any]) -> None:
        super().__init__(variant, workdir, opts)
        self._memory: Store | None = None
        self._address = Path(self.workdir) / "address"
        self._server: Any = None
        self.pg: Database | None = None
        self.proc: Any = None

    def start(self) -> None:
        """Starts the server, if there is one, and tells the workers its address."""
        if self.variant == "pg":
            self.pg = Database()
            self.pg.start()
            self._address.write_text(self.pg.url)
        elif self.variant == "http":
            from benchmarks.faults.places import Server

            self._server = Server(Path(self.workdir))
            self.server_restart()
            self._address.write_text(self._server.url("tunewright"))

    def server_restart(self) -> None:
        """Starts it again, at the same address."""
        if self.pg is not None:
            self.pg.start()
        elif self._server is not None:
            self._server.start()
            self.proc = self._server.process

    def server_pids(self) -> list[int]:
        """Processes to be killed or stopped."""
        if self.pg is not None:
            return self.pg.pids()
        return [self._server.pid] if self._server is not None else []

    def stop(self) -> None:
        """Ends it."""
        if self.pg is not None:
            self.pg.stop()
        elif self._server is not None:
            self._server.close()

    def _storage(self) -> Any:
        if self.variant in ("pg", "http"):
            return self._address.read_text()
        if self.variant == "memory":
            self._memory = self._memory or open_store("memory")
            return self._memory
        return f"sqlite:///{self.workdir}/studies.db" + ("?durability=full" if self.variant == "full" else "")

    def _study(self, name: str, exist: Any) -> tw.Study:
        return tw.Study.open(
            name,
            {"a": tw.Float(0.0, 1.0), "b": tw.Float(0.0, 1.0)},
            method=self.opts.get("method", "random"),
            storage=self._storage(),
            exist=exist,
            policy=tw.Policy(lease=float(self.opts.get("lease", 3)), max_attempts=100),
        )

    def create_study(self, name: str, exist_ok: bool = False) -> int:
        """Makes a study; strictly, exactly one caller succeeds."""
        study = self._study(name, "resume" if exist_ok else "error")
        key = study.session.info.id
        study.close()
        return key

    def open_study(self, name: str, seed: int | None = None) -> Handle:
        """A handle; the seed belongs to the study, not to the process."""
        return Handle(self._study(name, "must"))


ADAPTER = TunewrightAdapter
