"""Shows a running study: redrawn in a terminal, one line per finished trial elsewhere, or JSON lines."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from tunewright.core.events import Ended, Event, Paused, Reported, Resumed, Signalled, Started
from tunewright.core.problem import Problem
from tunewright.core.trial import FAILURES, Trial
from tunewright.errors import ConfigError

MODES = ("auto", "live", "plain", "jsonl", "none")
WIDTH = 120
_SUMMARY_EVERY = 30.0
_PER_SECOND = 4


class Display(Protocol):
    """What watches a run. Called with every event that this run records, and with the session."""

    def __call__(self, event: Event, session: Any) -> None:
        """Takes notice of an event."""
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
    return Live(name, method, problem, pace, out)


def _terminal(out: TextIO) -> bool:
    quiet = os.environ.get("CI") or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return out.isatty() and not quiet


def number(value: Any) -> str:
    """A value with four significant digits.

    Example:
        >>> number(0.123456), number(7), number("adam")
        ('0.1235', '7', 'adam')
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def pairs(values: Mapping[str, Any]) -> str:
    """``name=value`` pairs in one line."""
    return " ".join(f"{k}={number(v)}" for k, v in values.items())


def duration(seconds: float) -> str:
    """A time in the largest units that matter.

    Example:
        >>> duration(0.25), duration(75), duration(7300)
        ('0.2s', '1m15s', '2h02m')
    """
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"


class Pace:
    """How far a run is, and when it will end.

    Args:
        trials: Trials that the study is to have, if limited.
        timeout: Seconds that the run may take, if limited.
        best: The best trial of earlier runs, if any.
    """

    def __init__(self, trials: int | None, timeout: float | None, best: Trial | None = None) -> None:
        self.trials = trials
        self.timeout = timeout
        self.began = time.monotonic()
        self.ended = 0
        self.best = best

    def ending(self, ledger: Any) -> bool:
        """Counts an ended trial; returns whether it is the best so far."""
        self.ended += 1
        better = ledger.best is not None and ledger.best is not self.best
        self.best = ledger.best
        return better

    @property
    def seconds(self) -> float:
        """Time since the run began."""
        return time.monotonic() - self.began

    @property
    def rate(self) -> float:
        """Trials ended per second of this run."""
        return self.ended / max(self.seconds, 1e-9)

    def left(self, done: int) -> float | None:
        """Seconds until the end, as far as one can tell, with ``done`` trials over."""
        limits = [] if self.timeout is None else [max(0.0, self.timeout - self.seconds)]
        if self.trials is not None and self.ended:
            limits.append(max(0, self.trials - done) / self.rate)
        return min(limits) if limits else None

    def of(self, done: int) -> str:
        """``[done/all]``."""
        return f"[{done}/{self.trials}]" if self.trials is not None else f"[{done}]"


def over(ledger: Any) -> int:
    """Trials that are over."""
    counts = ledger.counts
    return int(ledger.begun - sum(counts.get(s, 0) for s in ("running", "paused", "waiting")))


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
        parts = [head, shown, "best" if better else "", pairs(trial.config)]
        if event.outcome in FAILURES:
            # Often the last line of a traceback is the only one that says what happened.
            parts[1:3] = [" ".join(event.error.strip().rpartition("\n")[2].split())]
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

    def close(self) -> None:
        """Nothing to do: every line is out."""


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

    def close(self) -> None:
        """Says that the run is over."""
        self._write("study.finished", {})


class Live:
    """A bar, the best trial and the running ones, redrawn four times a second at most.

    Args:
        name: Name of the study.
        method: Name of the method.
        problem: The problem.
        pace: How far the run is.
        out: Where to draw.
    """

    def __init__(self, name: str, method: str, problem: Problem, pace: Pace, out: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live as Screen

        self._title = f"{name} · {method}"
        self._problem = problem
        self._pace = pace
        self._ledger: Any = None
        self._last: list[str] = []
        self._over = False
        console = Console(file=out, force_terminal=True) if not out.isatty() else Console(file=out)
        self._screen = Screen(
            console=console, refresh_per_second=_PER_SECOND, get_renderable=self._frame, transient=False
        )
        self._screen.start()

    def __call__(self, event: Event, session: Any) -> None:
        """Remembers what to draw; a thread of its own draws it."""
        self._ledger = session.ledger
        if isinstance(event, Ended):
            self._pace.ending(session.ledger)
            if event.outcome in FAILURES:
                why = " ".join(event.error.strip().rpartition("\n")[2].split())
                self._last = [*self._last[-2:], f"trial {event.trial} {event.outcome}: {why}"]

    def close(self) -> None:
        """Draws the last state."""
        self._over = True
        self._screen.stop()

    def _frame(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        ledger, pace = self._ledger, self._pace
        parts: list[Any] = [Text(self._title, style="bold")]
        if ledger is None:
            return Group(*parts, Text("starting"))
        done = over(ledger)
        left = pace.left(done)
        bar = Table.grid(padding=(0, 1))
        share = pace.seconds / pace.timeout * 1000 if pace.timeout and not pace.trials else None
        total, completed = (1000.0, share) if share is not None else (pace.trials, float(done))
        drawn = ProgressBar(total, completed or 0.0, width=40) if total else Text("")
        passed = left is None or self._over
        ending = duration(pace.seconds) if passed else f"about {duration(left or 0.0)} left"
        counts = ", ".join(f"{n} {s.replace('_', ' ')}" for s, n in list(ledger.counts.items()) if n)
        bar.add_row(drawn, pace.of(done), f"{pace.rate * 60:.3g}/min", ending)
        parts += [bar, Text(counts, style="dim")]
        best = ledger.best
        if best is not None:
            parts.append(Text(f"best  trial {best.number}  {self._values(best)}", style="green"))
        room = max(1, self._screen.console.height - 8 - len(self._last))
        for trial in list(ledger.running.values())[:room]:
            until = f"/{trial.until}" if trial.until else ""
            step = f"step {trial.step}{until}  " if trial.step else ""
            parts.append(
                Text(
                    f"run   trial {trial.number}  {step}{self._values(trial)}",
                    overflow="ellipsis",
                    no_wrap=True,
                )
            )
        parts += [Text(line, style="red", overflow="ellipsis", no_wrap=True) for line in self._last]
        if not self._over:
            parts.append(Text("Ctrl-C pauses; the same command goes on.", style="dim"))
        return Group(*parts)

    def _values(self, trial: Trial) -> str:
        metrics = trial.metrics
        shown = {o.name: metrics[o.name] for o in self._problem.objectives if o.name in metrics}
        return f"{pairs(shown)}  {pairs(trial.config)}".strip()
