"""Rules that end a study, from the words of a user: ``regret<0.01`` or ``regret<noise``."""

from __future__ import annotations

import math
import re
from typing import Any

from tunewright.analysis.stopping import LEAST, regret_bound
from tunewright.core.algorithm import generator
from tunewright.core.history import History
from tunewright.errors import ConfigError
from tunewright.run.session import Session

STOPPED = "stopped"
_WORDS = re.compile(r"\s*regret\s*<=?\s*(\S+)\s*")
_STREAM = 19
_GROWTH = 1.05


class RegretRule:
    """Ends a run when the study can gain less than a threshold; see ``analysis.stopping``.

    It looks again when a twentieth more trials have completed. The reason is noted in the log.

    Args:
        words: ``regret<NUMBER`` in the unit of the objective, or ``regret<noise``.

    Raises:
        ConfigError: If the words mean nothing.
    """

    def __init__(self, words: str) -> None:
        found = _WORDS.fullmatch(words)
        try:
            given = math.nan if found is None else None if found[1] == "noise" else float(found[1])
        except ValueError:
            given = math.nan
        self._threshold = given
        if self._threshold is not None and not 0.0 < self._threshold < math.inf:
            raise ConfigError(
                f"stop_when must be 'regret<NUMBER' with a positive number, or 'regret<noise'; got {words!r}. "
                f"Try 'regret<noise'."
            )
        self.words = f"regret<{'noise' if self._threshold is None else format(self._threshold, 'g')}"
        self._history: History | None = None
        self._read = 0
        self._due = LEAST
        self._met = False

    def __call__(self, session: Session) -> bool:
        """Whether the study should end now."""
        done = session.ledger.counts.get("completed", 0)
        if self._met or done < self._due:
            return self._met
        self._due = max(done + 1, math.ceil(done * _GROWTH))
        history = self._told(session)
        bound = regret_bound(history, generator(history.problem.seed, done, _STREAM))
        if bound is None:
            return False
        threshold = bound.noise if self._threshold is None else self._threshold
        self._met = bound.gap < threshold
        if self._met:
            self._note(session, bound.gap, threshold, bound.results)
        return self._met

    def _told(self, session: Session) -> History:
        history = self._history or History(session.origin)
        self._history = history
        for record in session.store.read(session.info.id, self._read):
            history.apply(record.event)
            self._read = record.seq
        return history

    def _note(self, session: Session, gap: float, threshold: float, results: int) -> None:
        """Says why in the log, once for the same number of trials."""
        trials = len(session.ledger.trials)
        before = [n.data for _, n in session.ledger.notes if n.topic == STOPPED]
        if before and before[-1]["trials"] == trials:
            return
        name = session.ledger.problem.objectives[0].name
        what = "the noise of a result" if self._threshold is None else "the threshold"
        data: dict[str, Any] = {
            "rule": self.words,
            "gap": gap,
            "threshold": threshold,
            "results": results,
            "trials": trials,
            "text": (
                f"{self.words}: after {results} configurations at most {gap:.3g} of {name} is left to gain, "
                f"less than {what}, {threshold:.3g}"
            ),
        }
        session.note(STOPPED, data)


def reason(session: Session) -> str:
    """Why the rule ended the study last, in words; empty when it did not, or trials were begun since."""
    found = [n.data for _, n in session.ledger.notes if n.topic == STOPPED]
    return str(found[-1]["text"]) if found and found[-1]["trials"] == len(session.ledger.trials) else ""
