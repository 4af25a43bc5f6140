"""The display of a run in a terminal: counts, a bar, the trials that matter, the best so far, how to stop and go on."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from tunewright.analysis.pace import Pace, number, over, pairs
from tunewright.core.events import Ended, Event
from tunewright.core.problem import Problem
from tunewright.core.texts import visible
from tunewright.core.trial import FAILURES, Trial

if TYPE_CHECKING:
    from rich.text import Text

_PER_SECOND = 4
_FIXED = 10
_RECENT = 30
_LATELY = 20
_WIDE = 10
_SPARKS, _PLAIN_SPARKS = "▁▂▃▄▅▆▇█", "_.-~=+*#"
_WORDS = {"completed": "complete", "stopped": "pruned", "out_of_memory": "out of memory"}
_STYLES = {
    "best": "bold green",
    "running": "cyan",
    "complete": "",
    "pruned": "yellow",
    "paused": "yellow",
}
Cell = tuple[str, str]


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any.

    Example:
        >>> clock(41), clock(7300)
        ('0:41', '2:01:40')
    """
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def spark(values: Sequence[float], low: float, high: float, marks: str = _SPARKS) -> str:
    """A row of bars, the newest last; at most ten.

    Args:
        values: The measurements.
        low: Value of the lowest bar.
        high: Value of the highest bar.
        marks: Characters from low to high.

    Example:
        >>> spark([0.0, 0.5, 1.0], 0.0, 1.0)
        '▁▅█'
    """
    finite = [v for v in values if math.isfinite(v)]
    if len(finite) > _WIDE:
        finite = [finite[round(i * (len(finite) - 1) / (_WIDE - 1))] for i in range(_WIDE)]
    span = high - low
    top = len(marks) - 1
    return "".join(
        marks[min(top, max(0, round((v - low) / span * top + 1e-9))) if span > 0 else top // 2]
        for v in finite
    )


class Live:
    """Counts, a bar, the best trial and the running ones, redrawn four times a second at most.

    Args:
        name: Name of the study.
        method: Name of the method.
        problem: The problem.
        pace: How far the run is.
        out: Where to draw.
        watching: Whether the study runs elsewhere, so that Ctrl-C ends only the display.
    """

    def __init__(
        self, name: str, method: str, problem: Problem, pace: Pace, out: TextIO, watching: bool = False
    ) -> None:
        from rich.console import Console
        from rich.live import Live as Screen

        self._name, self._method = visible(name), visible(method)
        self._problem = problem
        self._pace = pace
        self._watching = watching
        self._ledger: Any = None
        self._recent: deque[Trial] = deque(maxlen=_RECENT)
        self._ends: deque[float] = deque(maxlen=_LATELY)
        self._before: Trial | None = None
        self._best: Trial | None = pace.best
        self._over = False
        self._lock = threading.Lock()
        # The command line guards its output against what a terminal would obey; what is drawn here is made harmless cell by cell.
        raw: Any = getattr(out, "stream", out)
        self._console = console = (
            Console(file=raw, force_terminal=True) if not raw.isatty() else Console(file=raw)
        )
        self._marks = _SPARKS if console.encoding.lower().startswith("utf") else _PLAIN_SPARKS
        self._screen = Screen(
            console=console, refresh_per_second=_PER_SECOND, get_renderable=self._frame, transient=False
        )
        self._screen.start()

    def look(self, session: Any) -> None:
        """Draws what is known before anything happens."""
        self._ledger = session.ledger

    def __call__(self, event: Event, session: Any) -> None:
        """Remembers what to draw; a thread of its own draws it."""
        ledger = self._ledger = session.ledger
        if not isinstance(event, Ended):
            return
        with self._lock:
            self._pace.ending(ledger)
            self._ends.append(time.monotonic())
            self._recent.append(ledger.trials[event.trial])
            if ledger.best is not None and ledger.best is not self._best:
                self._before, self._best = self._best, ledger.best

    def close(self) -> None:
        """Draws the last state."""
        self._over = True
        self._screen.stop()

    # ------------------------------------------------------------------ drawing

    def _frame(self) -> Any:
        from rich.console import Group

        size = self._console.size
        return Group(*self.lines(size.width, size.height))

    def lines(self, width: int, height: int) -> list[Text]:
        """The lines of a frame, none wider than ``width`` and no more than ``height``.

        Args:
            width: Columns of the terminal.
            height: Rows of the terminal.
        """
        from rich.text import Text

        with self._lock:
            ledger = self._ledger
            if ledger is None:
                return [Text(f"{self._name} · {self._method}: starting", style="bold", no_wrap=True)]
            found = [
                self._head(ledger),
                self._bar(ledger, width),
                Text(),
                *self._table(ledger, width, max(1, height - _FIXED)),
                Text(),
                *self._foot(ledger, width),
            ]
        for line in found:
            line.no_wrap, line.overflow = True, "ellipsis"
            line.truncate(width, overflow="ellipsis")
        return found[: max(1, height - 1)]

    def _head(self, ledger: Any) -> Text:
        from rich.text import Text

        counts = ledger.counts
        running = ledger.running.values()
        workers = len({t.worker for t in running})
        parts = [f"{ledger.begun} trials asked" if ledger.begun != 1 else "1 trial asked"]
        parts += [f"{n} {_WORDS.get(s, s).replace('_', ' ')}" for s, n in list(counts.items()) if n]
        parts += [f"{workers} drivers"] if workers > 1 else []
        return Text.assemble((self._name, "bold"), ("  " + " · ".join([*parts, self._method]), "dim"))

    def _bar(self, ledger: Any, width: int) -> Text:
        from rich.text import Text

        pace, done = self._pace, over(ledger)
        left = None if self._over else pace.left(done)
        words = [
            f"{done}/{pace.trials}" if pace.trials is not None else f"{done} done",
            f"{clock(pace.seconds)} elapsed",
            f"about {clock(left)} left" if left is not None else "",
            self._rate(),
        ]
        text = " · ".join(w for w in words if w)
        share = None
        if pace.trials:
            share = done / pace.trials
        elif pace.timeout:
            share = pace.seconds / pace.timeout
        room = max(0, min(80, width - len(text) - 1))
        if share is None or room < 5:
            return Text(text, style="dim")
        full = round(min(1.0, share) * room)
        return Text.assemble(
            ("━" * full, "magenta"), ("━" * (room - full), "bright_black"), (f" {text}", "dim")
        )

    def _rate(self) -> str:
        ends = self._ends
        if len(ends) < 2 or self._over:
            return ""
        rate = (len(ends) - 1) / max(1e-9, time.monotonic() - ends[0])
        return (
            f"{number(float(f'{rate:.2g}'))} trials/s lately"
            if rate >= 1
            else f"{rate * 60:.2g} trials/min lately"
        )

    def _chosen(self, ledger: Any, room: int) -> list[tuple[str, Trial]]:
        """The trials to show, with their state: the best, those that run, and what ended last."""
        rows: list[tuple[str, Trial]] = []
        if ledger.best is not None:
            rows.append(("best", ledger.best))
        rows += [("running", t) for t in list(ledger.running.values())][: max(1, room - len(rows))]
        shown = {t.id for _, t in rows}
        for trial in reversed(self._recent):
            if len(rows) >= room:
                break
            if trial.id not in shown:
                shown.add(trial.id)
                rows.append((_WORDS.get(trial.status, trial.status), trial))
        return rows[:room]

    def _table(self, ledger: Any, width: int, room: int) -> list[Text]:
        from rich.text import Text

        rows = self._chosen(ledger, room)
        names = [o.name for o in self._problem.objectives][:2]
        arrows = {o.name: "↑" if o.goal == "maximize" else "↓" for o in self._problem.objectives}
        params = list(dict.fromkeys(n for _, t in rows for n in t.config))
        steps = self._problem.scale is not None or any(t.step for _, t in rows)
        head = [
            "#",
            "state",
            *(f"{n} {arrows[n]}" for n in names),
            *(["step" if self._problem.scale is None else "size"] if steps else []),
            *params,
            "time",
        ]
        curves = [[r.metrics[names[0]] for r in t.reports if names[0] in r.metrics] for _, t in rows]
        known = [v for curve in curves for v in curve if math.isfinite(v)]
        low, high = min(known, default=0.0), max(known, default=0.0)
        cells = [self._cells(state, t, names, steps, params) for state, t in rows]
        widths = [max([len(h), *(len(c[i][0]) for c in cells)]) for i, h in enumerate(head)]
        keep = _fitting(head, widths, params, width - _WIDE - 2)
        left = {1, *(i for i, h in enumerate(head) if h in params and not _numeric(rows, h))}
        lines = [_line([(h, "dim bold") for h in head], widths, keep, left)]
        for (state, trial), row, curve in zip(rows, cells, curves, strict=True):
            line = _line(row, widths, keep, left)
            if state in FAILURES or trial.status in FAILURES:
                line.append(
                    "  " + visible(" ".join(trial.error.strip().rpartition("\n")[2].split())), style="red dim"
                )
            elif len(curve) > 1:
                line.append("  " + spark(curve, low, high, self._marks))
            lines.append(line)
        return lines or [Text()]

    def _cells(
        self, state: str, trial: Trial, names: list[str], steps: bool, params: list[str]
    ) -> list[Cell]:
        style = _STYLES.get(state, "red")
        scale = self._problem.scale
        left = state in ("pruned", "paused") and trial.step and scale is None
        shown = f"{state} @{trial.step}" if left else state
        values = [(number(trial.metrics[n]) if n in trial.metrics else "-", style) for n in names]
        step = f"{trial.step}/{trial.until}" if trial.until else str(trial.step or "")
        if scale is not None:
            step = scale.words(trial.step)
        took = (trial.ended_at or time.time()) - trial.at if trial.at else trial.cost or 0.0
        configured = [(_cut(number(trial.config[n])) if n in trial.config else "", "") for n in params]
        return [
            (str(trial.number), ""),
            (shown.replace("_", " "), style),
            *values,
            *([(step, "")] if steps else []),
            *configured,
            (clock(took), ""),
        ]

    def _foot(self, ledger: Any, width: int) -> list[Text]:
        from rich.text import Text

        lines: list[Text] = []
        best, name = ledger.best, self._problem.objectives[0].name
        if best is not None and name in best.metrics:
            line = Text.assemble(("best  ", "dim"), (f"{name} {number(best.metrics[name])}", "bold green"))
            line.append(f"  trial {best.number}{self._improvement(best, name)} · ", style="dim")
            line.append(pairs(best.config))
            whole = line.plain
            cut = whole.rfind(" ", 0, width) if len(whole) > width else len(whole)
            lines.append(line[:cut] if cut > 0 else line)
            if 0 < cut < len(whole):
                lines.append(line[cut + 1 :])
        if self._over:
            return lines
        quoted = self._name
        if self._watching:
            lines.append(Text("Ctrl-C ends the watching; the study goes on", style="dim"))
            return lines
        lines.append(Text("dashboard  tunewright dashboard, in another terminal", style="dim"))
        stop = f"stop: Ctrl-C once = trials save and pause, twice = stop now (resume: tunewright resume {quoted})"
        lines.append(Text(stop, style="dim"))
        return lines

    def _improvement(self, best: Trial, name: str) -> str:
        before = self._before
        if before is None or name not in before.metrics or best is not self._best:
            return ""
        change = best.metrics[name] - before.metrics[name]
        return f" · {'+' if change >= 0 else '-'}{number(abs(change))} over previous best (trial {before.number})"


def _cut(text: str, most: int = 16) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _numeric(rows: list[tuple[str, Trial]], name: str) -> bool:
    return any(
        isinstance(t.config.get(name), int | float) and not isinstance(t.config[name], bool) for _, t in rows
    )


def _fitting(head: list[str], widths: list[int], params: list[str], room: int) -> list[int]:
    """Which columns fit: parameters are left out from the last on."""
    keep = list(range(len(head)))
    for i in reversed(range(len(head))):
        if sum(widths[k] + 2 for k in keep) <= room:
            break
        if head[i] in params:
            keep.remove(i)
    return keep


def _line(cells: list[Cell], widths: list[int], keep: list[int], left: set[int]) -> Text:
    from rich.text import Text

    line = Text()
    for place, i in enumerate(keep):
        text, style = cells[i]
        padded = text.ljust(widths[i]) if i in left else text.rjust(widths[i])
        line.append(("  " if place else "") + padded, style=style)
    return line
