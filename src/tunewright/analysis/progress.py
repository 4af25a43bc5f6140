"""Shows a running study: redrawn in a terminal, one line per finished trial elsewhere, or JSON lines."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Protocol, TextIO

from tunewright.analysis.pace import Pace, duration, over, pairs
from tunewright.core.events import Ended, Event, Paused, Reported, Resumed, Signalled, Started
from tunewright.core.problem import Problem
from tunewright.core.texts import visible
from tunewright.core.trial import FAILURES, Trial
from tunewright.errors import ConfigError

MODES = ("auto", "live", "plain", "jsonl", "none")
WIDTH = 120
_SUMMARY_EVERY = 30.0


class Display(Protocol):
    """What watches a run. Called with every event that this run records, and with the session."""

    def __call__(self, event: Event, session: Any) -> None:
        """Takes notice of an event."""
        ...

    def look(self, session: Any) -> None:
        """Takes notice of what was there before."""
        ...

    def close(self) -> None:
        """Draws the last state and leaves the terminal as it was."""
        ...


def display(
    mode: str,
    name: str,
    method: str,
    problem: Problem,
    trials: int | None,
    timeout: float | None,
    stream: TextIO | None = None,
    best: Trial | None = None,
    watching: bool = False,
) -> Display | None:
    """Makes the display of a run.

    Args:
        mode: ``"live"``, ``"plain"``, ``"jsonl"``, ``"none"``, or ``"auto"``: live in a terminal, unless ``CI``,
            ``NO_COLOR`` or ``TERM=dumb`` say otherwise, plain elsewhere.
        name: Name of the study.
        method: Name of the method.
        problem: The problem.
        trials: Trials that the study is to have, if limited.
        timeout: Seconds that the run may take, if limited.
        stream: Where to write; standard output when None.
        best: The best trial of earlier runs, if any.
        watching: Whether the study runs elsewhere.

    Returns:
        The display; None for ``"none"``.

    Raises:
        ConfigError: If the mode is unknown.
    """
    if mode not in MODES:
        raise ConfigError(f"progress must be one of {', '.join(MODES)}; got {mode!r}. Choose one of them.")
    out = stream or sys.stdout
    if mode == "auto":
        mode = "live" if _terminal(out) else "plain"
    if mode == "none":
        return None
    pace = Pace(trials, timeout, best)
    if mode == "jsonl":
        return Lines(name, problem, out, best)
    if mode == "plain":
        return Plain(problem, pace, out)
    from tunewright.analysis.live import Live

    return Live(name, method, problem, pace, out, watching)


def _terminal(out: TextIO) -> bool:
    quiet = os.environ.get("CI") or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return out.isatty() and not quiet


class Plain:
    """One line per finished trial, without control characters; a running summary now and then.

    Args:
        problem: The problem.
        pace: How far the run is.
        out: Where to write.
    """

    def __init__(self, problem: Problem, pace: Pace, out: TextIO) -> None:
        self._names = [o.name for o in problem.objectives]
        self._pace = pace
        self._out = out
        self._summed = time.monotonic()

    def __call__(self, event: Event, session: Any) -> None:
        """Prints a line when a trial ended."""
        if isinstance(event, Ended):
            ledger = session.ledger
            better = self._pace.ending(ledger)
            self._write(self._line(event, ledger, better))
        elif not isinstance(event, Reported | Started):
            return
        if time.monotonic() - self._summed > _SUMMARY_EVERY:
            self._summed = time.monotonic()
            self._write(self._summary(session.ledger))

    def _line(self, event: Ended, ledger: Any, better: bool) -> str:
        trial = ledger.trials[event.trial]
        metrics = event.metrics or trial.metrics
        shown = pairs({n: metrics[n] for n in self._names if n in metrics})
        cost = f" ({duration(event.cost)})" if event.cost is not None else ""
        tail = f"{cost} {self._pace.of(over(ledger))}"
        head = f"{time.strftime('%H:%M:%S')} trial {event.trial} {event.outcome.replace('_', ' ')}"
        parts = [head, shown, "*best*" if better else "", pairs(trial.config)]
        if event.outcome in FAILURES:
            # Often the last line of a traceback is the only one that says what happened.
            parts[1:3] = [visible(" ".join(event.error.strip().rpartition("\n")[2].split()))]
        body = " ".join(p for p in parts if p)
        room = WIDTH - len(tail)
        return (body if len(body) <= room else body[: room - 3] + "...") + tail

    def _summary(self, ledger: Any) -> str:
        pace, counts = self._pace, ledger.counts
        done = over(ledger)
        left = pace.left(done)
        best = ledger.best
        parts = [
            f"{done} done",
            f"{counts.get('running', 0)} running",
            f"{pace.rate * 60:.4g} a minute",
            f"{duration(left)} left" if left is not None else "",
            f"best trial {best.number}: {pairs({n: best.metrics[n] for n in self._names})}" if best else "",
        ]
        return f"{time.strftime('%H:%M:%S')} -- {', '.join(p for p in parts if p)}"

    def _write(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()

    def look(self, session: Any) -> None:
        """Says how far the study is."""
        if session.ledger.trials:
            self._write(self._summary(session.ledger))

    def close(self) -> None:
        """Nothing to do: every line is out."""


_ENDS = {"completed": "finished", "stopped": "pruned", "lost": "lost", "killed": "lost"}
_KINDS: dict[type, str] = {
    Started: "started",
    Resumed: "resumed",
    Reported: "reported",
    Paused: "paused",
    Signalled: "signalled",
    Ended: "finished",
}


class Lines:
    """JSON lines, one per event, for programs.

    Args:
        name: Name of the study.
        problem: The problem.
        out: Where to write.
        best: The best trial of earlier runs, if any.
    """

    def __init__(self, name: str, problem: Problem, out: TextIO, best: Trial | None = None) -> None:
        self._name = name
        self._out = out
        self._best = best
        self._begun: set[int] = set()
        self._write("study.started", {"objectives": {o.name: o.goal for o in problem.objectives}})

    def __call__(self, event: Event, session: Any) -> None:
        """Prints the event."""
        kind = _KINDS.get(type(event))
        if kind is None:
            return
        data: dict[str, Any] = {"trial": event.trial}  # type: ignore[union-attr]
        if isinstance(event, Started):
            data["params"] = event.config
            # A driver says the same of a segment that goes on.
            kind = "resumed" if event.trial in self._begun else kind
            self._begun.add(event.trial)
        elif isinstance(event, Reported):
            data |= {"step": event.step, "metrics": event.metrics}
        elif isinstance(event, Ended):
            kind = _ENDS.get(event.outcome, "failed")
            data |= {"status": event.outcome, "metrics": event.metrics or {}, "step": event.step}
            data |= {"cost": event.cost, "error": event.error}
        self._write(f"trial.{kind}", data)
        best = session.ledger.best
        if best is not self._best:
            self._best = best
            self._write("best.improved", {"trial": best.number, "metrics": best.metrics})

    def _write(self, kind: str, data: dict[str, Any]) -> None:
        line = {"v": 1, "t": round(time.time(), 3), "event": kind, "study": self._name, **data}
        self._out.write(json.dumps(line, default=str) + "\n")
        self._out.flush()

    def look(self, session: Any) -> None:
        """Nothing to do: events are said as they come."""

    def close(self) -> None:
        """Says that the run is over."""
        self._write("study.finished", {})
