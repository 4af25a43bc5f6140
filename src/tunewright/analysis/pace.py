"""How far a run is, and the words that every display of it uses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tunewright.core.texts import visible
from tunewright.core.trial import Trial


def number(value: Any) -> str:
    """A value with four significant digits.

    Example:
        >>> number(0.123456), number(7), number("adam")
        ('0.1235', '7', 'adam')
    """
    return f"{value:.4g}" if isinstance(value, float) else visible(str(value))


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
