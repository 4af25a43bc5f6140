"""The systems under test behind one small face: ask, tell, enqueue, and what is in the store."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

LEASE = 5.0


@dataclass(frozen=True)
class Row:
    """A trial as its store tells: its number, state, parameters, result and the item of the queue it serves."""

    number: int
    state: str
    params: dict[str, float]
    value: float | None
    item: str


class System(Protocol):
    """A study that a process has open."""

    def ask(self) -> tuple[Any, int, dict[str, float], str]:
        """A trial: handle, number, parameters, item of the queue."""
        ...

    def tell(self, handle: Any, value: float) -> None:
        """Ends it."""
        ...

    def enqueue(self, params: dict[str, float], item: str) -> None:
        """Puts a configuration in the queue."""
        ...

    def trials(self) -> list[Row]:
        """Everything in the store."""
        ...

    def close(self) -> None:
        """Closes it."""
        ...


def truth(params: dict[str, float]) -> float:
    """The result that belongs to parameters; any process can check it."""
    return sum((v - 0.3) ** 2 for v in params.values())


class Ours:
    """Tunewright through ask and tell."""

    def __init__(self, url: str, lease: float = LEASE) -> None:
        import tunewright as tw

        self.study = tw.Study.open(
            "faults", {"a": tw.Float(0, 1), "b": tw.Float(0, 1)}, method="random", storage=url,
            policy=tw.Policy(lease=lease, max_attempts=1000),
        )  # fmt: skip

    def ask(self) -> tuple[Any, int, dict[str, float], str]:
        """A trial."""
        asked = self.study.ask()
        assert asked is not None
        return asked, asked.number, asked.params, self._item(asked.number)

    def tell(self, handle: Any, value: float) -> None:
        """Ends it; a trial that was taken over is somebody else's to tell."""
        import tunewright as tw

        try:
            handle.tell(value)
        except tw.LeaseLost as error:
            raise Fenced from error

    def enqueue(self, params: dict[str, float], item: str) -> None:
        """Puts a configuration in the queue."""
        self.study.enqueue(params, key=item)

    def trials(self) -> list[Row]:
        """Everything in the store."""
        ledger = self.study.session.sync()
        return [
            Row(t.id, t.status, t.params, (t.metrics or {}).get("loss"), self._item(t.id))
            for t in ledger.trials
        ]  # fmt: skip

    def close(self) -> None:
        """Closes it."""
        self.study.close()

    def _item(self, number: int) -> str:
        ledger = self.study.session.ledger
        place = ledger.trials[number].start.queue
        return next((key for key, at in ledger.keys.items() if at == place), "") if place else ""


class Theirs:
    """Optuna, with the random sampler."""

    def __init__(self, url: str, lease: float = LEASE) -> None:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        warnings.simplefilter("ignore")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage: Any = url
        if url.startswith("journal://"):
            storage = optuna.storages.JournalStorage(JournalFileBackend(url.removeprefix("journal://")))
        self.study = optuna.create_study(
            study_name="faults", storage=storage, load_if_exists=True, sampler=optuna.samplers.RandomSampler()
        )

    def ask(self) -> tuple[Any, int, dict[str, float], str]:
        """A trial."""
        trial = self.study.ask()
        params = {name: trial.suggest_float(name, 0, 1) for name in "ab"}
        return trial, trial.number, params, trial.user_attrs.get("item", "")

    def tell(self, handle: Any, value: float) -> None:
        """Ends it."""
        self.study.tell(handle, value)

    def enqueue(self, params: dict[str, float], item: str) -> None:
        """Puts a configuration in the queue."""
        self.study.enqueue_trial(params, user_attrs={"item": item})

    def trials(self) -> list[Row]:
        """Everything in the store."""
        return [
            Row(t.number, "completed" if t.state.name == "COMPLETE" else t.state.name.lower(), t.params, t.value if t.values else None,
                t.user_attrs.get("item", ""))
            for t in self.study.get_trials(deepcopy=False)
        ]  # fmt: skip

    def close(self) -> None:
        """Hangs up, where it is a database."""
        storage = getattr(self.study._storage, "_backend", self.study._storage)
        if hasattr(storage, "engine"):
            storage.remove_session()
            storage.engine.dispose()


class Fenced(Exception):
    """The trial was given to somebody else."""


def opened(system: str, url: str, lease: float = LEASE) -> System:
    """A handle of ``tunewright`` or ``optuna``."""
    return Ours(url, lease) if system == "tunewright" else Theirs(url, lease)
