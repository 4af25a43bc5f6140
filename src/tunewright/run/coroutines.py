"""Runs coroutine functions as trials in the caller's event loop, under the same driver as everything else.

The driver loops in a thread of its own; trials are tasks of the event loop. A report waits for the driver's answer,
well under a millisecond unless a method is thinking, and holds up the loop for as long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Literal, TypeVar

from tunewright.errors import TunewrightError
from tunewright.run.driver import Driver, Summary
from tunewright.run.executor import Sink
from tunewright.run.messages import Answer, End, Finish, FromWorker, Segment
from tunewright.run.stages import Channel, parts
from tunewright.run.worker import Attempt, call, failure

log = logging.getLogger(__name__)
T = TypeVar("T")
_PATIENCE = 60.0


class Coroutines:
    """Runs up to ``capacity`` segments at a time as tasks of an event loop.

    Args:
        function: The coroutine function.
        capacity: Tasks at a time.
        loop: The running event loop.
    """

    def __init__(self, function: Callable[..., Any], capacity: int, loop: asyncio.AbstractEventLoop) -> None:
        self.capacity = capacity
        self._function = function
        self._loop = loop
        self._inbox: queue.SimpleQueue[tuple[FromWorker, Future[Answer]]] = queue.SimpleQueue()
        self._tasks: dict[int, Future[None]] = {}
        self._doom: dict[int, tuple[End, str]] = {}
        self._sink: Sink | None = None

    def connect(self, sink: Sink) -> None:
        """Says where messages go."""
        self._sink = sink

    def submit(self, segment: Segment) -> None:
        """Starts a task."""
        self._doom.pop(segment.trial, None)
        self._tasks[segment.trial] = asyncio.run_coroutine_threadsafe(self._train(segment), self._loop)

    def signal(self, trial: int, verdict: Literal["stop", "pause"]) -> None:
        """Nothing to do: the verdict travels with the answer to the next report."""

    def poll(self, timeout: float) -> None:
        """Delivers what the tasks have said; waits for the first word up to ``timeout`` seconds."""
        assert self._sink is not None
        try:
            message, reply = self._inbox.get(timeout=timeout)
            while True:
                reply.set_result(self._sink(message))
                message, reply = self._inbox.get_nowait()
        except queue.Empty:
            return

    def kill(
        self, trial: int, outcome: Literal["timed_out", "out_of_memory", "killed", "lost"], reason: str
    ) -> None:
        """Cancels a task; it ends at its next ``await``."""
        self._doom[trial] = (outcome, reason)
        task = self._tasks.get(trial)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """Cancels what still runs."""
        for task in self._tasks.values():
            task.cancel()

    async def _train(self, segment: Segment) -> None:
        for part, say in parts(segment, self._tell):
            say(await self._end(part, say))

    async def _end(self, segment: Segment, say: Channel) -> Finish:
        attempt = Attempt(segment, say)
        try:
            return attempt.finish(await call(self._function, attempt))
        except asyncio.CancelledError:
            outcome, reason = self._doom.get(segment.trial, ("killed", "the task was cancelled"))
            return Finish(
                attempt.number, attempt.token, outcome, attempt.step, cost=attempt.seconds, error=reason
            )
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever user code raises belongs to the trial
            return failure(attempt, error)

    def _tell(self, message: FromWorker) -> Answer:
        """Nobody waits for the answer to a last word."""
        if not isinstance(message, Finish):
            return self._say(message)
        self._inbox.put((message, Future()))
        return Answer()

    def _say(self, message: FromWorker) -> Answer:
        reply: Future[Answer] = Future()
        self._inbox.put((message, reply))
        return reply.result(timeout=_PATIENCE)


async def drive(driver: Driver) -> Summary:
    """Runs a driver in a thread; when this task is cancelled, its trials pause and the study can be continued.

    Signals that ask the process to go do the same, unless somebody else looks after them.
    """
    running = asyncio.ensure_future(asyncio.to_thread(driver.run))
    with _signals(driver):
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if running.cancelled():
                raise
            driver.interrupt()
            while not running.done():
                try:
                    await asyncio.wait([running])
                except asyncio.CancelledError:
                    driver.interrupt()
            if (error := running.exception()) is not None:
                log.warning("the run that was cancelled ended with %s", error)
            raise


@contextlib.contextmanager
def _signals(driver: Driver) -> Iterator[None]:
    """Lets SIGTERM and SIGHUP pause the run, where nobody handles them; asyncio itself cancels the task on SIGINT."""
    loop, taken = asyncio.get_running_loop(), []
    for number in (getattr(signal, n) for n in ("SIGTERM", "SIGHUP") if hasattr(signal, n)):
        if signal.getsignal(number) is signal.SIG_DFL:
            # Not in the main thread, or not on this system.
            with contextlib.suppress(RuntimeError, ValueError):
                loop.add_signal_handler(number, driver.interrupt, number)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


async def in_thread(work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """Runs a blocking call in a thread.

    A thread cannot be cancelled. When the task is, the call goes on by itself, and what it returns is undone.

    Args:
        work: The call.
        undo: Called with a result that nobody gets; None where a late result does no harm.
    """
    lock = threading.Lock()
    done: list[T] = []
    left = False

    def clear(result: T) -> None:
        if undo is not None:
            try:
                undo(result)
            except TunewrightError as error:
                log.warning("a call that was cancelled could not be undone: %s", error)

    def body() -> T:
        result = work()
        with lock:
            if not left:
                done.append(result)
                return result
        clear(result)
        return result

    try:
        return await asyncio.to_thread(body)
    except asyncio.CancelledError:
        with lock:
            left = True
        if done:
            threading.Thread(target=clear, args=(done[0],), name="tunewright-undo").start()
        raise
