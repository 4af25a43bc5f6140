"""A study as columns for a page: folded from the log once, then brought up to date by what is new in it.

A page gets all rows once and from then on those that changed, merged by the number of the trial. Words, such as the
names of workers and options, are sent as their place in a list that only ever grows, so that places stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order
from tunewright.core.events import (
    Amended,
    Controlled,
    Edited,
    Ended,
    Event,
    Extended,
    Interrupted,
    Paused,
    Record,
    Reported,
    Resumed,
    Started,
    Tagged,
)
from tunewright.core.problem import Problem
from tunewright.core.replicates import original_of
from tunewright.web.digits import numbers, rounded, wholes
from tunewright.web.shapes import Standing

Floats = NDArray[np.float64]
STATES = (
    "running", "paused", "waiting", "completed", "stopped", "failed", "invalid", "timed_out", "out_of_memory", "lost",
    "killed",
)  # fmt: skip
"""Every status that a trial can have; its place is its code."""
CODES = {name: code for code, name in enumerate(STATES)}
_RUNNING, _PAUSED, _WAITING, _COMPLETED = (CODES[s] for s in ("running", "paused", "waiting", "completed"))
_FEW = 64
_GONE = object()
_NO_NUMBERS = {str, bool}


def standing(control: str | None, running: bool) -> Standing:
    """What goes on in a study, from what people want of it and whether somebody trains."""
    if control == "pause":
        return "paused"
    return "running" if running else "done" if control == "stop" else "idle"


class Words:
    """Texts by place, in the order in which they were met."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._places: dict[Any, int] = {}

    def place(self, key: Any, text: str) -> int:
        """The place of what has this key; the text is kept when it is new."""
        found = self._places.get(key)
        if found is None:
            found = self._places[key] = len(self.names)
            self.names.append(text)
        return found

    def of(self, text: str) -> int:
        """The place of a text; -1 for the empty one."""
        return self.place(text, text) if text else -1


class Values:
    """The values of one parameter: numbers as they are, everything else as places of words.

    Args:
        name: Name of the parameter.
        domain: Its domain; None for one that the space does not have (any more).
        room: Rows to make room for.
    """

    def __init__(self, name: str, domain: Domain | None, room: int) -> None:
        self.name = name
        self.data = np.full(room, np.nan)
        self.words: Words | None = None
        self.reworded = False
        self.kind = "float"
        self.low: float | None = None
        self.high: float | None = None
        self.log = False
        # What a trial without the parameter has; None may be one of the options.
        self.gone: Any = None
        if domain is not None:
            self.declare(domain)

    def declare(self, domain: Domain) -> None:
        """Takes over what a version of the space says about the parameter; what was kept stays readable."""
        if isinstance(domain, Float | Int) and self.words is None:
            self.kind = "int" if isinstance(domain, Int) else "float"
            self.low, self.high, self.log = float(domain.low), float(domain.high), bool(domain.log)
            return
        known = isinstance(domain, Choice | Order | Bool)
        self._worded("ordinal" if isinstance(domain, Order) else "choice" if known else "other")
        if isinstance(domain, Choice | Order | Bool):
            for option in domain.options:
                self._code(option)
                if option is None:
                    self.gone = _GONE

    def _worded(self, kind: str) -> None:
        """Goes over from numbers to words, for a parameter that is none, or turns out to be none."""
        self.kind, self.low, self.high, self.log = kind, None, None, False
        if self.words is not None:
            return
        self.words = Words()
        held = np.flatnonzero(np.isfinite(self.data))
        for i in held.tolist():
            value = float(self.data[i])
            self.data[i] = self._code(int(value) if value.is_integer() else value)
        self.reworded = bool(len(held))

    def _code(self, value: Any) -> float:
        assert self.words is not None
        key = (value.__class__, value)
        try:
            return self.words.place(key, _text(value))
        except TypeError:
            return self.words.place((list, msgspec.json.encode(value)), _text(value))

    def put(self, rows: NDArray[np.int64], values: list[Any]) -> None:
        """Takes in the values of some rows; ``gone`` where a trial has none."""
        if self.words is None:
            if _NO_NUMBERS.isdisjoint(map(type, values)):
                try:
                    self.data[rows] = np.array(values, dtype=np.float64)
                    return
                except (TypeError, ValueError, OverflowError):
                    pass
            self._worded("other")
        self.data[rows] = [np.nan if v is self.gone else self._code(v) for v in values]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple | dict):
        return msgspec.json.encode(value).decode()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class Columns:
    """The trials of a study, row ``i`` being trial ``i``.

    What a trial measured are the metrics of its latest report, or of its end where that has some.

    Args:
        problem: The problem as the study was created with.

    Attributes:
        problem: The problem, with the newest version of the space.
        rev: Position of the last record folded.
        n: Number of trials.
        fresh: Position since which every change is known by its row; older readers need everything again.
        updated: Time of the last record, seconds since 1970; None for an empty log.
        replicated: Whether a trial replicates another one.
        control: What people want of the study: None to go on, else ``"pause"`` or ``"stop"``.
        tags: Tags of the study, in the order in which they were put on.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.rev = self.n = self.fresh = 0
        self.updated: float | None = None
        self.replicated = False
        self.control: str | None = None
        self.tags: tuple[str, ...] = ()
        self.workers, self.origins = Words(), Words()
        self.metrics: dict[str, Floats] = {o.name: np.full(_FEW, np.nan) for o in problem.objectives}
        self.params: dict[str, Values] = {}
        self._state = np.zeros(_FEW, dtype=np.int8)
        self._step = np.zeros(_FEW, dtype=np.int64)
        self._times = np.full((3, _FEW), np.nan)  # began, ended, cost
        self._who = np.full((3, _FEW), -1, dtype=np.int64)  # worker, origin, parent
        self._seq = np.zeros(_FEW, dtype=np.int64)
        self._configs: dict[int, dict[str, Any]] = {}
        self._measured: dict[int, dict[str, float]] = {}
        self._reports: dict[int, list[Reported]] = {}
        self._declare()

    # ------------------------------------------------------------------ reading

    @property
    def state(self) -> NDArray[np.int8]:
        """Codes of ``STATES``, shape ``(n,)``."""
        return self._state[: self.n]

    @property
    def began(self) -> Floats:
        """When each trial began, seconds since 1970, shape ``(n,)``."""
        return self._times[0, : self.n]

    @property
    def ended(self) -> Floats:
        """When each trial ended, seconds since 1970, NaN for those that did not, shape ``(n,)``."""
        return self._times[1, : self.n]

    @property
    def cost(self) -> Floats:
        """Cost of each finished trial, NaN where unknown, shape ``(n,)``."""
        return self._times[2, : self.n]

    @property
    def worker(self) -> NDArray[np.int64]:
        """Places in ``workers``, -1 for none, shape ``(n,)``."""
        return self._who[0, : self.n]

    @property
    def origin(self) -> NDArray[np.int64]:
        """Places in ``origins`` of who proposed each trial, -1 for nobody, shape ``(n,)``."""
        return self._who[1, : self.n]

    def value(self, metric: str) -> Floats:
        """What each trial measured, NaN for nothing, shape ``(n,)``."""
        found = self.metrics.get(metric)
        return np.full(self.n, np.nan) if found is None else found[: self.n]

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Which trials completed with every objective and within the limits, shape ``(n,)``."""
        good: NDArray[np.bool_] = self.state == _COMPLETED
        for objective in self.problem.objectives:
            good = good & np.isfinite(self.value(objective.name))
        for limit in self.problem.limits:
            good = good & (self.value(limit.name) <= limit.upper)
        return good

    @property
    def losses(self) -> Floats:
        """Minimised objectives, shape ``(n, m)``."""
        return np.stack([o.sign * self.value(o.name) for o in self.problem.objectives], axis=1)

    @property
    def best(self) -> int:
        """Number of the completed trial with the lowest loss within the limits; -1 for none or several objectives."""
        if self.problem.m > 1:
            return -1
        good = np.flatnonzero(self.allowed)
        return int(good[np.argmin(self.losses[good, 0])]) if len(good) else -1

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by status."""
        found = np.bincount(self.state, minlength=len(STATES)).tolist()
        return {name: count for name, count in zip(STATES, found, strict=True) if count}

    # ------------------------------------------------------------------ folding

    def fold(self, records: Iterable[Record]) -> None:
        """Takes in records that follow directly on what was folded before."""
        for record in records:
            assert record.seq == self.rev + 1, f"log position {record.seq} does not follow {self.rev}"
            self.rev = record.seq
            self.updated = record.at
            self._apply(record.event, record)
        self._settle()

    def _apply(self, event: Event, record: Record) -> None:
        if isinstance(event, Started):
            self._started(event, record)
        elif isinstance(event, Reported):
            self._seq[event.trial], self._step[event.trial] = record.seq, event.step
            self._measured[event.trial] = event.metrics
            self._reports.setdefault(event.trial, []).append(event)
        elif isinstance(event, Ended):
            self._ended(event, record)
        elif isinstance(event, Resumed | Paused | Interrupted | Amended):
            self._changed(event, record)
        elif isinstance(event, Edited):
            self._settle()
            self.problem = self.problem.revised(event.space)
            self._declare()
        elif isinstance(event, Extended):
            self.problem = self.problem.extended(event.high)
        elif isinstance(event, Controlled):
            self.control = None if event.action == "resume" else event.action
        elif isinstance(event, Tagged) and event.trial is None:
            kept = (*(t for t in self.tags if t not in event.remove or t in event.add), *event.add)
            self.tags = tuple(dict.fromkeys(kept))

    def _started(self, event: Started, record: Record) -> None:
        i = event.trial
        assert i == self.n, f"trial {i} is not the next number, {self.n}"
        if i == len(self._seq):
            self._settle()
            self._grow()
        self.n = i + 1
        self._seq[i], self._state[i] = record.seq, _RUNNING
        self._times[0, i] = record.at
        self._who[0, i] = self.workers.of(record.worker)
        self._who[1, i] = self.origins.of(event.by)
        if event.parent is not None:
            self._who[2, i], self._step[i] = event.parent
            self.replicated = self.replicated or original_of(event) is not None
        self._configs[i] = event.config

    def _changed(self, event: Resumed | Paused | Interrupted | Amended, record: Record) -> None:
        i = event.trial
        self._seq[i] = record.seq
        if isinstance(event, Resumed):
            self._state[i], self._step[i] = _RUNNING, event.step
            self._who[0, i] = self.workers.of(record.worker)
            self._rewind(i, event.step)
        elif isinstance(event, Paused):
            self._state[i], self._step[i] = _PAUSED, max(int(self._step[i]), event.step)
            # A pause is where it goes on, so what was measured before it need not be kept.
            self._reports[i] = self._reports.get(i, [])[-1:]
        elif isinstance(event, Interrupted):
            self._state[i] = _WAITING
        elif not np.isfinite(self._times[1, i]):
            self._configs[i] = event.config

    def _rewind(self, i: int, step: int) -> None:
        """A trial that goes on from an earlier step measures again what came after it."""
        reports = self._reports.get(i, [])
        if reports and reports[-1].step > step:
            while reports and reports[-1].step > step:
                reports.pop()
            self._measured[i] = reports[-1].metrics if reports else {}

    def _ended(self, event: Ended, record: Record) -> None:
        i = event.trial
        self._reports.pop(i, None)
        self._seq[i], self._state[i] = record.seq, CODES[event.outcome]
        self._step[i] = max(int(self._step[i]), event.step)
        self._times[1, i] = record.at
        self._times[2, i] = np.nan if event.cost is None else event.cost
        if event.metrics is not None:
            self._measured[i] = event.metrics

    def _settle(self) -> None:
        """Puts what was met into the columns, one column after the other."""
        if self._configs:
            rows, found = np.array(list(self._configs)), list(self._configs.values())
            self._configs = {}
            for name in {n: None for config in found for n in config}:
                if name not in self.params:
                    self.params[name] = Values(name, None, len(self._seq))
            for name, values in self.params.items():
                values.put(rows, [config.get(name, values.gone) for config in found])
                self._reworded(values)
        if self._measured:
            rows, given = np.array(list(self._measured)), list(self._measured.values())
            self._measured = {}
            for name in {n: None for metrics in given for n in metrics}:
                if name not in self.metrics:
                    self.metrics[name] = np.full(len(self._seq), np.nan)
            for name, column in self.metrics.items():
                column[rows] = np.array([metrics.get(name) for metrics in given], dtype=np.float64)

    def _declare(self) -> None:
        """Takes over the newest version of the space."""
        domains = {entry.name: entry.domain for entry in reversed(self.problem.space.entries)}
        for entry in self.problem.space.entries:
            if entry.name not in self.params:
                self.params[entry.name] = Values(entry.name, entry.domain, len(self._seq))
        for name, values in self.params.items():
            if name in domains:
                values.declare(domains[name])
            self._reworded(values)

    def _reworded(self, values: Values) -> None:
        if values.reworded:
            values.reworded = False
            self.fresh = self.rev

    def _grow(self) -> None:
        def longer(old: NDArray[Any], fill: Any) -> NDArray[Any]:
            new = np.full((*old.shape[:-1], 2 * old.shape[-1]), fill, dtype=old.dtype)
            new[..., : old.shape[-1]] = old
            return new

        self._state, self._step = longer(self._state, 0), longer(self._step, 0)
        self._times, self._who, self._seq = (
            longer(self._times, np.nan),
            longer(self._who, -1),
            longer(self._seq, 0),
        )
        self.metrics = {name: longer(column, np.nan) for name, column in self.metrics.items()}
        for values in self.params.values():
            values.data = longer(values.data, np.nan)

    # ------------------------------------------------------------------ sending

    def since(self, rev: int, created: float) -> dict[str, Any]:
        """The rows that changed after a position, as plain data; all of them after 0 or where that is not known.

        Args:
            rev: The position.
            created: When the study was created, seconds since 1970; times are told from there.
        """
        whole = rev <= 0 or rev > self.rev or rev < self.fresh
        rows = np.arange(self.n) if whole else np.flatnonzero(self._seq[: self.n] > rev)
        fidelity, scale = self.problem.fidelity, self.problem.scale
        return {
            "rev": self.rev,
            "n": self.n,
            "whole": whole,
            "created": created,
            "objectives": [{"name": o.name, "goal": o.goal, "unit": o.unit} for o in self.problem.objectives],
            "fidelity": None
            if fidelity is None
            else {"name": "step", "low": fidelity.low, "high": fidelity.high},
            "sizes": [] if scale is None else [stage.name for stage in scale.stages],
            "places": {}
            if scale is None
            else {s: scale.words(s) for s in np.unique(self._step[rows]).tolist()},
            "best": self.best,
            "states": list(STATES),
            "state": self._state[rows].tolist(),
            "number": rows.tolist(),
            "step": self._step[rows].tolist(),
            "began": _moments(self._times[0, rows] - created),
            "ended": _moments(self._times[1, rows] - created),
            "cost": numbers(self._times[2, rows]),
            "workers": self.workers.names,
            "worker": self._who[0, rows].tolist(),
            "origins": self.origins.names,
            "origin": self._who[1, rows].tolist(),
            "parent": self._who[2, rows].tolist(),
            "values": {name: numbers(column[rows]) for name, column in self.metrics.items()},
            "params": [_param(values, rows) for values in self.params.values()],
        }


def _moments(seconds: Floats) -> list[Any]:
    """Seconds with three decimals, NaN as it is, which JSON has as null."""
    found: list[Any] = np.round(seconds, 3).tolist()
    return found


def _param(values: Values, rows: NDArray[np.int64]) -> dict[str, Any]:
    data = values.data[rows]
    low, high = values.low, values.high
    if values.words is None and low is None and np.isfinite(values.data).any():
        # No version of the space knows it, so it reaches as far as its values.
        low, high = float(np.nanmin(values.data)), float(np.nanmax(values.data))
    exact = values.words is not None or values.kind == "int"
    return {
        "name": values.name,
        "kind": values.kind,
        "log": values.log,
        "low": low,
        "high": high,
        "labels": None if values.words is None else values.words.names,
        "data": wholes(data) if exact else rounded(data).tolist(),
    }
