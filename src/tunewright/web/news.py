"""Waiting for a log to get longer: one watcher per study, however many wait for it."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

from tunewright.errors import StoreError
from tunewright.store.base import Store
from tunewright.web.lanes import Pools, aside
from tunewright.web.refusals import Refused

_LOOK = 1.0
_SLOWEST = 90.0


class News:
    """Tells whoever waits that a study has new records, of this process or of another.

    Args:
        store: Where the logs are.
        pools: Whose threads wait.
        most: How many may wait at a time.
    """

    def __init__(self, store: Store, pools: Pools, most: int) -> None:
        self._store = store
        self._pools = pools
        self._most = most
        self._waiting: dict[int, dict[asyncio.Future[int], int]] = {}
        self._watchers: dict[int, asyncio.Task[None]] = {}
        self.count = 0
        self._closing = False

    async def wait(self, study: int, after: int, timeout: float) -> bool:
        """Waits for records beyond a position.

        Returns:
            Whether there are some; False too when the server is about to end.

        Raises:
            StudyMissing: If the study is gone.
            Refused: If too many wait already.
        """
        if self._closing:
            return False
        if self.count >= self._most:
            raise Refused(503, "HTTP", "Too many wait for news already. Ask again later.", retry=5)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(study, {})[future] = after
        self.count += 1
        if study not in self._watchers:
            task = asyncio.create_task(self._watch(study))
            self._watchers[study] = task
            task.add_done_callback(lambda _: self._watchers.pop(study, None))
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            return False
        finally:
            self.count -= 1
            waiting = self._waiting.get(study)
            if waiting is not None:
                waiting.pop(future, None)
                if not waiting:
                    del self._waiting[study]
        return True

    def told(self, study: int, last: int) -> None:
        """Wakes up those who wait for a position that the log has reached."""
        for future, after in list(self._waiting.get(study, {}).items()):
            if last > after and not future.done():
                future.set_result(last)

    def release(self) -> None:
        """Lets everybody go, because the server is about to end."""
        self._closing = True
        for waiting in self._waiting.values():
            for future in waiting:
                if not future.done():
                    future.set_result(0)

    async def _watch(self, study: int) -> None:
        while study in self._waiting:
            open_ = [after for future, after in self._waiting[study].items() if not future.done()]
            if not open_:
                await asyncio.sleep(0)
                continue
            look = partial(self._store.wait, study, min(open_), _LOOK)
            try:
                last = await aside(self._pools.waiting, look, _SLOWEST)
            except (StoreError, Refused) as error:
                for future in list(self._waiting.get(study, {})):
                    if not future.done():
                        future.set_exception(error)
                return
            self.told(study, last)

    async def close(self) -> None:
        """Ends the watchers."""
        for task in list(self._watchers.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
