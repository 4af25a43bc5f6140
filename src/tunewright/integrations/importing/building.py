"""Turns another tool's study into a log of ours: the same facts, at their own times.

Trials keep their order; each becomes what the log says of a trial of ours: that it began, what it reported, how it
ended. The log is first written in memory and then copied into the store as any study is, so that what arrives is proved
to be complete, a copy that was cut short is continued by the same call, and a study that is there already is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from tunewright.core.domains import Choice, plain
from tunewright.core.events import Ended, Enqueued, Event, Noted, Outcome, Record, Reported, Started
from tunewright.core.limits import (
    NAME,
    NOTE,
    check_event,
    checked_json,
    checked_name,
    checked_space,
    error_kept,
)
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.core.recorder import infer
from tunewright.core.space import Space
from tunewright.core.texts import cleaned
from tunewright.core.values import split
from tunewright.errors import ConfigError, TunewrightError
from tunewright.integrations.importing.foreign import ForeignStudy, ForeignTrial, option
from tunewright.opening import check_name, method_of
from tunewright.store.base import Store
from tunewright.store.copying import copy_study
from tunewright.store.memory import MemoryStore

ATTRIBUTE = "optuna.attr"
"""Topic of a note that holds an attribute: ``{"key": ..., "value": ...}``; the words of Optuna read it, too."""
IMPORTED = "imported"
"""Topic of the first note of an imported study: where it comes from."""
_BLOCK = 5_000
_FINITE = 1e300
_CUT = 2_000
_OUTCOMES: dict[str, Outcome] = {"completed": "completed", "stopped": "stopped", "failed": "failed"}


class Imported(NamedTuple):
    """What an import came to.

    Attributes:
        name: The study's name in the store.
        kind: The tool that it comes from.
        trials: Trials in it, by status.
        queued: Configurations that were waiting there and are enqueued here.
        parameters: Each parameter, in words.
        objectives: Goal of each objective.
        steps: Steps of a full training, or None.
        records: Length of the log.
        told: Sentences about what could not be kept as it was.
    """

    name: str
    kind: str
    trials: dict[str, int]
    queued: int
    parameters: dict[str, dict[str, Any]]
    objectives: dict[str, str]
    steps: int | None
    records: int
    told: tuple[str, ...]


class Plan(NamedTuple):
    """A study of ours that is not in a store yet."""

    name: str
    spec: dict[str, Any]
    problem: Problem
    records: list[Record]
    summary: Imported


def plan(
    foreign: ForeignStudy,
    name: str | None = None,
    *,
    space: Space | None = None,
    method: str = "auto",
    steps: int | None = None,
    seed: int = 0,
    place: str = "",
) -> Plan:
    """What a study would become here; nothing is written.

    Args:
        foreign: The study.
        name: Its name here; None for the name that it has there.
        space: What the parameters may be, where it is better known than from the trials.
        method: What goes on with it.
        steps: Steps of a full training, for methods that stop trials early; None for trials that are trained in full.
        seed: Root of the randomness from here on.
        place: Where it was read, for the note that says so.

    Raises:
        ConfigError: If the name, an objective or a value cannot be kept.
        SpaceError: If a parameter cannot be used.
    """
    name = foreign.name if name is None else name
    check_name(name)
    if not foreign.goals:
        raise ConfigError(
            f"A study needs an objective; '{foreign.name}' does not say one. Name the metric with minimize= or maximize=."
        )
    _tidy(foreign)
    problem = Problem(
        space or _space(foreign),
        _objectives(foreign),
        None if steps is None else Fidelity(steps),
        tuple(Limit(metric, upper) for metric, upper in foreign.limits.items()),
        seed,
    )
    checked_space(problem.space)
    chosen = method_of(method, None, problem, resumable=False)
    spec = {"problem": problem.to_dict(), **chosen.spec}
    origin = Noted(IMPORTED, {"from": foreign.kind, "name": foreign.name, "place": place})
    records = list(_records(foreign, [origin, *_attributes(foreign.attrs, None)]))
    counts: dict[str, int] = {}
    for record in records:
        if isinstance(record.event, Ended):
            counts[record.event.outcome] = counts.get(record.event.outcome, 0) + 1
    summary = Imported(
        name,
        foreign.kind,
        counts,
        sum(isinstance(r.event, Enqueued) for r in records),
        {n: d.to_dict() for n, d in problem.space.domains.items()},
        {o.name: o.goal for o in problem.objectives},
        steps,
        len(records),
        tuple(foreign.told),
    )
    return Plan(name, spec, problem, records, summary)


def write(planned: Plan, store: Store) -> Imported:
    """Puts a planned study into a store; a call that was cut short is continued by the same one.

    Raises:
        StudyExists: If the store has another study of that name, or this one has gone on since.
        StoreUnavailable: If the store cannot be written.
    """
    source = MemoryStore()
    try:
        made = source.create(planned.name, planned.spec, created=planned.records[0].at)
        for start in range(0, len(planned.records), _BLOCK):
            source.graft(made.id, planned.records[start : start + _BLOCK])
        copy_study(source, planned.name, store, blobs=False)
    finally:
        source.close()
    return planned.summary


# ------------------------------------------------------------------ the problem


def _objectives(foreign: ForeignStudy) -> tuple[Objective, ...]:
    """Those to minimise first, as everywhere here."""
    every = [Objective(checked_name("A metric name", n), g) for n, g in foreign.goals.items()]
    return tuple(sorted(every, key=lambda o: o.goal == "maximize"))


def _space(foreign: ForeignStudy) -> Space:
    """The parameters in order, each under the choice that decides about it where the trials show one."""
    space = Space(foreign.domains)
    met = [(t.params, frozenset(t.params)) for t in foreign.trials if t.state in ("completed", "stopped")]
    return infer(space, met) if met else space


def _tidy(foreign: ForeignStudy) -> None:
    """Brings numbers and values into the forms that a log keeps."""
    foreign.trials.sort(key=lambda t: t.number)
    for trial in foreign.trials:
        for name, value in trial.params.items():
            kept = option(value)
            if isinstance(kept, float) and not math.isfinite(kept):
                raise ConfigError(
                    f"A parameter must have a finite value; trial {trial.number} has {name}={kept}. Remove the trial."
                )
            trial.params[name] = kept
    if not foreign.domains:
        foreign.domains = {
            name: Choice(
                list(dict.fromkeys(plain(t.params[name]) for t in foreign.trials if name in t.params))
            )
            for name in dict.fromkeys(n for t in foreign.trials for n in t.params)
        }


# ------------------------------------------------------------------ the log


def _records(foreign: ForeignStudy, first: Sequence[Event]) -> Iterator[Record]:
    """Every fact at its place: by time, and the beginnings of trials by number.

    A tool that does not say when something was leaves it at the nearest time before it that is known.
    """
    began = [t.began for t in foreign.trials if t.began is not None]
    epoch = min([*began, *(t.ended for t in foreign.trials if t.ended is not None)], default=foreign.at)
    seq = 0
    for event in first:
        seq += 1
        check_event(event)
        yield Record(seq, epoch, foreign.kind, event)
    place = epoch
    facts: list[tuple[float, int, int, float, Any]] = []
    ours = 0
    for trial in foreign.trials:
        if trial.state == "waiting":
            facts.append(
                (math.inf, len(facts), -1, trial.began or place, Enqueued(trial.params, by=foreign.kind))
            )
            continue
        start = place if trial.began is None else trial.began
        place = max(place, start)
        for at, event in _story(trial, ours, start, foreign):
            facts.append((max(place, at), len(facts), ours, at, event))
        ours += 1
    facts.sort(key=lambda f: f[:2])
    tokens: dict[int, int] = {}
    for _, _, number, at, event in facts:
        seq += 1
        if isinstance(event, Started):
            tokens[number] = seq
            event = msgspec.structs.replace(event, basis=seq - 1)
        elif isinstance(event, Reported | Ended):
            event = msgspec.structs.replace(event, token=tokens[number])
        check_event(event)
        yield Record(seq, at, foreign.kind, event)


def _story(
    trial: ForeignTrial, number: int, start: float, foreign: ForeignStudy
) -> Iterator[tuple[float, Event]]:
    """What happened to one trial, with the times."""
    _checked(trial)
    yield start, Started(number, trial.params, by=foreign.kind)
    if trial.number != number:
        yield start, Noted(ATTRIBUTE, {"key": "number", "value": trial.number}, number)
    end = max(trial.ended, start) if trial.ended is not None else start
    step = 0
    for i, (at, metrics) in enumerate(trial.reports):
        if at > step:
            step = at
            when = min(max(trial.times[i], start), end) if i < len(trial.times) else end
            good, bad = split(metrics)
            yield when, Reported(number, 0, at, good, bad)
    for event in _attributes(trial.attrs, number):
        yield end, event
    yield end, _end(trial, number, step, max(0.0, end - start) if trial.ended is not None else None, foreign)


def _end(trial: ForeignTrial, number: int, step: int, spent: float | None, foreign: ForeignStudy) -> Ended:
    """How a trial ended; one that was running there is lost here, for nobody here can hear from it."""
    cost = spent if trial.cost is None else trial.cost
    if trial.state == "running":
        return Ended(
            number, 0, "lost", None, step, cost=cost, error="it was running when the study was imported"
        )
    good, bad = split(trial.values)
    wrong = [f"{k}={v}" for k, v in (bad or {}).items() if k in foreign.goals]
    missing = [k for k in foreign.goals if k not in trial.values]
    if trial.state == "completed" and (wrong or missing):
        text = f"returned {', '.join(wrong)}" if wrong else f"returned no {', '.join(missing)}"
        return Ended(number, 0, "failed", None, step, cost=cost, error=text)
    outcome = _OUTCOMES[trial.state]
    final = good if outcome == "completed" else None
    return Ended(number, 0, outcome, final, step, cost=cost, error=error_kept(trial.error))


def _attributes(attrs: dict[str, Any], number: int | None) -> Iterator[Event]:
    """One note each; what JSON does not hold, or is too large for a note, is kept as the beginning of its text."""
    for key, value in attrs.items():
        data = {"key": cleaned(str(key)[:NAME]), "value": value}
        try:
            checked_json("An attribute", data, NOTE)
        except TunewrightError:
            data["value"] = cleaned(repr(value)[:_CUT])
        yield Noted(ATTRIBUTE, data, number)


def _checked(trial: ForeignTrial) -> None:
    """Refuses what no door of the store would let in."""
    for name in trial.params:
        checked_name("A parameter name", name)
    for what, numbers in (("time", (trial.began, trial.ended, *trial.times)), ("cost", (trial.cost,))):
        for value in numbers:
            if value is not None and not abs(value) < _FINITE:
                raise ConfigError(
                    f"A {what} must be a finite number; trial {trial.number} has {value}. Correct the source."
                )
