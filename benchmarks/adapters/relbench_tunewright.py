"""Tunewright for the relbench torture harness; variants: sqlite, full (durable against power cuts), memory.

The harness loads this file as ``adapters.tunewright_ad`` from a copy of itself; see ``benchmarks.relbench``.
"""

from __future__ import annotations

from typing import Any

from adapters.base import Adapter, Session  # type: ignore[import-not-found]

import tunewright as tw
from tunewright.store.base import Store
from tunewright.store.urls import open_store

_STATES = {"running": "RUNNING", "paused": "WAITING", "waiting": "WAITING", "completed": "COMPLETE"}


class Handle(Session):  # type: ignore[misc]
    """A study inside one worker process."""

    def __init__(self, study: tw.Study) -> None:
        self.opened = study

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

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """A trial and its parameters."""
        asked = self.opened.ask()
        assert asked is not None
        return asked, asked.params

    def tell(self, trial: Any, value: Any) -> None:
        """Ends a trial."""
        trial.tell(value)

    def report(self, trial: Any, step: int, value: Any) -> None:
        """Reports a step."""
        trial.report(step, loss=value)

    def close(self) -> None:
        """Closes the study."""
        self.opened.close()

    def _item(self, number: int) -> str | None:
        ledger = self.opened.session.ledger
        queue = ledger.trials[number].start.queue
        return next((k for k, p in ledger.keys.items() if p == queue), None) if queue else None


class TunewrightAdapter(Adapter):  # type: ignore[misc]
    """Makes and opens studies; options: ``lease`` in seconds."""

    def __init__(self, variant: str, workdir: str, opts: dict[str, Any]) -> None:
        super().__init__(variant, workdir, opts)
        self._memory: Store | None = None

    def _study(self, name: str, exist: Any) -> tw.Study:
        storage: Any = f"sqlite:///{self.workdir}/studies.db"
        if self.variant == "full":
            storage += "?durability=full"
        if self.variant == "memory":
            storage = self._memory = self._memory or open_store("memory")
        return tw.Study.open(
            name,
            {"a": tw.Float(0.0, 1.0), "b": tw.Float(0.0, 1.0)},
            method=self.opts.get("method", "random"),
            storage=storage,
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
