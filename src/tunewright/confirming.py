"""Measures the best few configurations of a study again on seeds that the search never used, and keeps the outcome.

Every measurement is a note in the study's log as soon as it is made: an interrupted confirmation goes on where it was,
and no reader of the trials sees them.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable
from typing import Any

from tunewright.analysis.confirmation import TOPIC, Confirmation, confirmation
from tunewright.analysis.winner import candidates
from tunewright.core.replicates import fresh_seeds, seed_of
from tunewright.core.trial import Trial
from tunewright.errors import ConfigError
from tunewright.run.executor import Executor
from tunewright.run.messages import Answer, Finish, FromWorker, Segment
from tunewright.run.placing import executor_for
from tunewright.run.target import EntryReached, in_worker
from tunewright.study import Study

_MEASURED = "measured"
_POLL = 0.2


def confirm(
    study: Study,
    train: Callable[..., Any] | None = None,
    *,
    top: int = 5,
    seeds: int = 10,
    level: float = 0.95,
    workers: int = 1,
    executor: Executor | None = None,
    watch: Callable[[str], None] | None = None,
) -> Confirmation:
    """Trains the best few configurations fully on fresh seeds, and says which is best and how sure that is.

    Args:
        study: A study with one objective.
        train: The training function, as for ``Study.run``; its ``trial.seed`` is the fresh seed.
        top: How many configurations.
        seeds: How many seeds each; the same ones for all, and none that a trial of the study was trained with.
        level: Confidence wanted for the statement about the best.
        workers: Worker processes; with 1, everything runs in this process.
        executor: Where to run, instead of this process or worker processes.
        watch: Called with a line of text after every measurement.

    Returns:
        The outcome; it is in the study's log too, and ``confirmed`` finds it there.

    Raises:
        ConfigError: If an argument cannot be used, there is no result yet, or every candidate failed.
    """
    if in_worker():
        raise EntryReached
    if seeds < 2 or top < 1 or not 0.5 <= level < 1.0:
        raise ConfigError(
            f"confirm needs top >= 1, seeds >= 2 and 0.5 <= level < 1; got top={top}, seeds={seeds}, level={level}."
        )
    if executor is None:
        if train is None:
            raise ConfigError(
                "confirm needs the training function; got none. Pass the one that the study ran."
            )
        executor = executor_for(train, workers)
    root = study.problem.seed
    fresh = fresh_seeds(root, seeds, (seed_of(root, t.id, t.start.why) for t in study.trials))
    chosen = candidates(study, top)
    _Measuring(study, chosen, fresh, executor, watch).run()
    outcome = _judged(study, chosen, fresh, level)
    study.session.note(TOPIC, outcome.to_dict(), outcome.winner)
    return outcome


def confirmed(study: Study) -> Confirmation | None:
    """The newest outcome of ``confirm`` in the log; None when there is none."""
    found = [n.data for _, n in study.session.sync().notes if n.topic == TOPIC]
    return Confirmation.from_dict(found[-1]) if found else None


def _measured(study: Study) -> dict[tuple[int, int], float | None]:
    """Loss by trial and seed of everything that was measured again; None for failures."""
    problem = study.problem
    out: dict[tuple[int, int], float | None] = {}
    for _, note in study.session.sync().notes:
        if note.topic == _MEASURED and note.trial is not None:
            losses = problem.losses(note.data["metrics"]) if note.data["outcome"] == "completed" else None
            out[note.trial, note.data["seed"]] = None if losses is None else losses[0]
    return out


def _judged(study: Study, chosen: list[Trial], seeds: list[int], level: float) -> Confirmation:
    known = _measured(study)
    rows = {t.id: [known.get((t.id, s)) for s in seeds] for t in chosen}
    good = {n: [x for x in row if x is not None] for n, row in rows.items() if None not in row}
    if not good:
        raise ConfigError(
            "confirm needs a candidate that trains on every fresh seed; all of them failed on one. "
            "See the notes of the study for the errors."
        )
    failed = [n for n in rows if n not in good]
    return confirmation(study, list(good), list(good.values()), level=level, failed=failed)


class _Measuring:
    """Hands measurements to an executor and notes what comes back."""

    def __init__(
        self,
        study: Study,
        chosen: list[Trial],
        seeds: list[int],
        executor: Executor,
        watch: Callable[[str], None] | None,
    ) -> None:
        self._study = study
        self._executor = executor
        self._watch = watch
        known = _measured(study)
        # Seed by seed: what an interruption leaves is a comparison on fewer seeds, not of fewer candidates.
        self._jobs = deque((t, s) for s in seeds for t in chosen if (t.id, s) not in known)
        self._total = len(self._jobs)
        self._flights: dict[int, tuple[Trial, int]] = {}
        self._next = len(study.trials)
        executor.connect(self._hear)

    def run(self) -> None:
        """Measures everything that is not in the log yet."""
        try:
            with tempfile.TemporaryDirectory(prefix="tunewright-") as folder:
                while self._jobs or self._flights:
                    while self._jobs and len(self._flights) < self._executor.capacity:
                        self._submit(*self._jobs.popleft(), folder)
                    self._executor.poll(_POLL)
        finally:
            self._executor.close()

    def _submit(self, trial: Trial, seed: int, folder: str) -> None:
        problem = self._study.problem
        high = problem.fidelity.high if problem.fidelity is not None else None
        goals: list[tuple[str, str]] = [(o.name, o.goal) for o in problem.objectives]
        number, self._next = self._next, self._next + 1
        self._flights[number] = (trial, seed)
        self._executor.submit(
            Segment(
                number,
                number + 1,
                trial.config,
                goals,
                folder,
                until=high,
                high=high,
                seed=seed,
                stages=list(problem.scale.stages) if problem.scale is not None else [],
            )
        )

    def _hear(self, message: FromWorker) -> Answer:
        flight = self._flights.pop(message.trial, None) if isinstance(message, Finish) else None
        if flight is None or not isinstance(message, Finish):
            return Answer()
        trial, seed = flight
        data: dict[str, Any] = {"seed": seed, "outcome": message.outcome, "metrics": message.metrics or {}}
        if message.error:
            data["error"] = message.error[-500:]
        self._study.session.note(_MEASURED, data, trial.id)
        if self._watch is not None:
            done = self._total - len(self._jobs) - len(self._flights)
            value: Any = data["metrics"].get(self._study.problem.objectives[0].name, message.outcome)
            self._watch(f"{done}/{self._total}  trial {trial.id}  seed {seed}  {value}")
        return Answer()
