"""Asks a server for work without keeping anybody waiting: a method may think, and an idle worker waits for news."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from tunewright.errors import StoreUnavailable, TunewrightError
from tunewright.store.wire import AskAnswer, AskBody


class Asker:
    """One question at a time, in a thread of its own.

    Args:
        hand_out: Asks the server, once.
    """

    def __init__(self, hand_out: Callable[[AskBody], AskAnswer]) -> None:
        self._hand_out = hand_out
        self._answers: queue.SimpleQueue[AskAnswer | TunewrightError] = queue.SimpleQueue()
        self.busy = False

    def ask(self, body: AskBody) -> None:
        """Asks; the answer is fetched with ``answer``."""
        self.busy = True
        threading.Thread(target=self._ask, args=(body,), name="tunewright-ask", daemon=True).start()

    def _ask(self, body: AskBody) -> None:
        try:
            found: AskAnswer | TunewrightError = self._hand_out(body)
        except TunewrightError as error:
            found = error
        except Exception as error:  # noqa: BLE001 - a thread that dies silently would leave its worker waiting for ever
            found = StoreUnavailable(f"The server must answer as agreed; got '{error}'. It is asked again.")
        self._answers.put(found)

    def answer(self, timeout: float) -> AskAnswer | TunewrightError | None:
        """The answer, or None when it is not there within ``timeout`` seconds."""
        try:
            found = self._answers.get(timeout=timeout) if timeout > 0 else self._answers.get_nowait()
        except queue.Empty:
            return None
        self.busy = False
        return found
