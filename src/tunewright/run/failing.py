"""When failures are too many to go on: one rule for everything that runs trials."""

from __future__ import annotations

import re
from typing import Literal

from tunewright.core.trial import FAILURES

Patience = int | Literal["auto"] | None
_NO_NUMBER = re.compile(r"(?:returned|reported) (\S+=(?:nan|-?inf))", re.IGNORECASE)
_ALIKE, _NUMBERLESS, _MANY = 3, 5, 10


class Failures:
    """Counts how trials ended.

    Args:
        policy: ``"auto"`` gives up when the first three trials fail alike, the first five have a result that is not
            finite, or most of ten have failed; a number gives up after that many failures; None never does.
        what: What gives up, for the message.
    """

    def __init__(self, policy: Patience, what: str = "study") -> None:
        self.policy = policy
        self.ended = 0
        self.failed = 0
        self._what = what
        self._numberless = 0
        self._alike: str | None = None
        self._mixed = False

    def count(self, outcome: str, error: str) -> str | None:
        """Takes in how a trial ended; returns why to give up, or None to go on."""
        self.ended += 1
        if outcome not in FAILURES or outcome == "invalid":
            return None
        self.failed += 1
        last = error.strip().rpartition("\n")[2]
        self._mixed |= self._alike is not None and self._alike != last
        self._alike = last
        failed, ended = self.failed, self.ended
        numberless = _NO_NUMBER.match(last)
        self._numberless += numberless is not None
        if self.policy == "auto":
            if numberless is not None and ended == self._numberless == _NUMBERLESS:
                return (
                    f"The {self._what} stopped: its first {_NUMBERLESS} trials all ended with {numberless[1]}, which is no "
                    "result. Is a learning rate too high, or the logarithm of 0 taken? Narrow the range, or mend the metric."
                )
            if ended == failed == _ALIKE and not self._mixed and numberless is None:
                return f"The {self._what} stopped: its first {_ALIKE} trials all failed in the same way. The error was:\n{error}"
            if ended >= _MANY and failed > ended / 2:
                return f"The {self._what} stopped: {failed} of its first {ended} trials failed. The last error was:\n{error}"
        elif self.policy is not None and failed >= self.policy:
            return f"The {self._what} stopped after {failed} failures, as asked. The last error was:\n{error}"
        return None
