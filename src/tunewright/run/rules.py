"""What follows from the log by rule, whatever the method: retries, the queue, and which wishes of a method are legal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Pause, Resume, Start, Stop, generator
from tunewright.core.events import Ended, Event, Interrupted, Resumed, Signalled, Started, Verdict
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.core.trial import Ledger
from tunewright.errors import AlgorithmError, SpaceError
from tunewright.store.base import Lease

FILL = 7


def finish_best(ledger: Ledger, origin: Problem) -> list[Event]:
    """A study that is over without one full training gives its best trial the rest of it.

    Early stopping with few trials would else leave nothing that was trained to the end, and neither would more
    steps for a study that has all its trials.
    """
    fidelity = ledger.problem.fidelity
    if fidelity is None or (ledger.counts.get("completed", 0) and fidelity == origin.fidelity):
        return []
    done = [t for t in ledger.trials if t.status == "completed"]
    tried = any(t.start.by == "finish" and t.start.until == fidelity.high for t in ledger.trials)
    if tried or any(t.step >= fidelity.high for t in done):
        return []
    able = [t for t in ledger.trials if t.status == "paused"] + done
    known = [(-t.step, losses, t.id) for t in able if (losses := ledger.problem.losses(t.metrics))]
    if not known:
        return []
    trial = ledger.trials[min(known)[2]]
    why: dict[str, Any] = {"reason": "no trial was trained to the end"}
    if trial.status == "paused":
        return [Resumed(trial.id, trial.restart, fidelity.high, ledger.cursor, "finish", why)]
    parent, why = (trial.id, trial.step), {**why, "continues": trial.id}
    number = len(ledger.trials)
    return [Started(number, trial.config, fidelity.high, parent, ledger.cursor, "finish", 0, why)]


def retry(ledger: Ledger, most: int, slots: int, expired: Sequence[Lease]) -> tuple[list[Event], bool]:
    """Takes back trials whose attempt fell silent, and gives out the oldest interrupted one."""
    events: list[Event] = [
        Interrupted(x.trial, x.token, "lost", f"no sign of life from {x.worker}") for x in expired
    ]
    silent = [ledger.trials[x.trial] for x in expired]
    busy = False
    for trial in [*ledger.waiting.values(), *silent]:
        lost = trial.losses + (trial.status != "waiting")
        if lost >= most:
            error = f"its worker was lost {lost} times"
            events.append(Ended(trial.id, trial.token, "lost", error=error, step=trial.step))
        elif trial.signal == "stop":
            events.append(Ended(trial.id, trial.token, "stopped", step=trial.step))
        elif slots and not busy:
            events.append(Resumed(trial.id, trial.restart, trial.until, ledger.cursor, "retry"))
            busy = True
    return events, busy


def serve_queue(ledger: Ledger, token: int) -> list[Event]:
    """Starts the oldest enqueued item; parameters it leaves open come from the prior.

    The space may have been edited since; an item that no longer fits becomes a trial that is over at once, for
    else nobody would get past it.

    Args:
        token: Position that the start will have in the log.
    """
    position, item = next(iter(ledger.queue.items()))
    number, space = len(ledger.trials), ledger.problem.space
    try:
        config = complete(space, item.config, generator(ledger.problem.seed, number, FILL))
    except SpaceError as error:
        return [
            Started(number, item.config, basis=ledger.cursor, by="queue", queue=position),
            Ended(
                number,
                token,
                "invalid",
                error=f"It was enqueued for another version of the space. {error}",
            ),
        ]
    return [Started(number, config, basis=ledger.cursor, by="queue", queue=position)]


def accept(ledger: Ledger, method: str, action: Action, basis: int, stale: bool) -> list[Event]:
    """Turns a wish into events, after checking that it is legal.

    Facts that arrived while a deliberate method was thinking may have made a wish pointless; it is dropped.
    """
    if isinstance(action, Start):
        return [
            Started(
                len(ledger.trials),
                action.config,
                action.until,
                action.parent,
                basis,
                method,
                0,
                action.why,
            )
        ]
    trial = ledger.trials[action.trial] if 0 <= action.trial < len(ledger.trials) else None
    if isinstance(action, Resume):
        if trial is not None and trial.status == "paused":
            return [Resumed(trial.id, trial.restart, action.until, basis, method, action.why)]
    elif trial is not None and not trial.finished:
        if isinstance(action, Stop) and trial.status == "paused":
            return [
                Signalled(trial.id, "stop", basis, method, action.why),
                Ended(trial.id, trial.token, "stopped", step=trial.step),
            ]
        if trial.signal is None:
            verdict: Verdict = "pause" if isinstance(action, Pause) else "stop"
            return [Signalled(trial.id, verdict, basis, method, action.why)]
        return []
    if stale and trial is not None:
        return []
    state = "unknown" if trial is None else trial.status
    raise AlgorithmError(
        f"A method may act on a trial only as its state allows; {method} wanted to {type(action).__name__.lower()} "
        f"trial {action.trial}, which is {state}. This is a bug in the method."
    )


def begins(actions: Sequence[Action]) -> bool:
    """Whether a method wants to begin or continue a trial."""
    return any(isinstance(action, Start | Resume) for action in actions)


def is_fork(action: Start) -> bool:
    """Whether a start goes on with what another trial was trained; those do not count against a limit of trials."""
    return action.parent is not None and action.parent[1] > 0


def complete(space: Space, config: dict[str, Any], rng: Any, tries: int = 1000) -> dict[str, Any]:
    """Fills the parameters that a partial configuration leaves open from the prior.

    Raises:
        SpaceError: If the given values admit no configuration that satisfies the constraints.
    """
    filled: dict[str, Any] = {}
    config = space.check(config, partial=True)
    for _ in range(tries):
        codes = space.sample(rng, 1)[0]
        filled = space.merge(np.where(np.isnan(codes), rng.random(space.d), codes), config)
        if space.feasible(filled):
            break
    return space.check(filled)
