"""Where blocking work runs: never in the event loop, but in bounded pools, each study's decisions one after another.

The way to a thread and back was measured at 15% of the throughput of one client and at nothing with eight, and it keeps
the server answering while a method thinks, a disk flushes, or another process holds the file.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tunewright.web.refusals import Refused

T = TypeVar("T")
log = logging.getLogger(__name__)
DEADLINE = 60.0
_PATIENT = 1000
_LOOK = 0.02
_NAMES = (
    "tunewright-think",
    "tunewright-look",
    "tunewright-move",
    "tunewright-vital",
    "tunewright-wait",
    "tunewright-draw",
)


class Pools:
    """The threads of a server.

    Args:
        thinking: Threads that take decisions; as many studies can think at a time.
        looking: Threads that read and write the store.
        moving: Threads that read and write checkpoint files.
        vital: Threads for signs of life, which so wait for nothing else.
        waiting: Threads that wait for news of a study; further studies take turns.
        drawing: Threads that make figures.
    """

    def __init__(
        self,
        thinking: int = 8,
        looking: int = 8,
        moving: int = 4,
        vital: int = 2,
        waiting: int = 8,
        drawing: int = 2,
    ) -> None:
        self.thinking = ThreadPoolExecutor(thinking, "tunewright-think")
        self.looking = ThreadPoolExecutor(looking, "tunewright-look")
        self.moving = ThreadPoolExecutor(moving, "tunewright-move")
        self.vital = ThreadPoolExecutor(vital, "tunewright-vital")
        self.waiting = ThreadPoolExecutor(waiting, "tunewright-wait")
        self.drawing = ThreadPoolExecutor(drawing, "tunewright-draw")
        self._all = (self.drawing, self.waiting, self.looking, self.moving, self.vital, self.thinking)

    def close(self) -> None:
        """Lets running work end and drops the rest."""
        for pool in self._all:
            pool.shutdown(wait=False, cancel_futures=True)

    def ended(self, within: float) -> bool:
        """Whether all work is over, or gets over in so many seconds; after ``close``."""
        end = time.monotonic() + within
        while any(t.name.startswith(_NAMES) for t in threading.enumerate()):
            if time.monotonic() > end:
                return False
            time.sleep(_LOOK)
        return True


async def aside(pool: ThreadPoolExecutor, work: Callable[[], T], deadline: float = DEADLINE) -> T:
    """Runs work in a pool.

    Raises:
        Refused: If it takes longer than the deadline; it goes on in its thread.
    """
    try:
        # Not wait_for, which on Python 3.11 can lose a cancellation.
        async with asyncio.timeout(deadline):
            return await asyncio.get_running_loop().run_in_executor(pool, work)
    except TimeoutError:
        raise too_slow(deadline) from None


def too_slow(deadline: float) -> Refused:
    """The refusal for work that took too long."""
    return Refused(
        503, "HTTP", f"An answer must be there within {deadline:g} s; it is not. Ask again.", retry=1
    )


class Lane:
    """The work of one study, one piece at a time, in order.

    Args:
        pool: Where it runs.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._todo: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._lock = threading.Lock()
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether work is under way or waits."""
        return self._busy

    async def run(self, work: Callable[[], T]) -> T:
        """Runs a piece of work.

        Raises:
            Refused: If too much waits already, or the deadline passes; what has begun goes on.
        """
        if len(self._todo) >= _PATIENT:
            raise Refused(503, "HTTP", "Too many requests wait for this study. Ask again later.", retry=5)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            self._todo.append((work, future))
            idle, self._busy = not self._busy, True
        if idle:
            self._pool.submit(self._drain, loop)
        try:
            async with asyncio.timeout(DEADLINE):
                return await future
        except TimeoutError:
            raise too_slow(DEADLINE) from None

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            with self._lock:
                if not self._todo:
                    self._busy = False
                    return
                work, future = self._todo.popleft()
            if future.cancelled():
                continue
            result, error = None, None
            try:
                result = work()
            except BaseException as caught:  # noqa: BLE001 - raised again where it is waited for
                error = caught
            try:
                loop.call_soon_threadsafe(_deliver, future, result, error)
            except RuntimeError:
                log.warning("an answer came after the server had ended")


def _deliver(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
