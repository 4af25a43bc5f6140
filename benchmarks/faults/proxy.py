"""A proxy on 127.0.0.1 that passes bytes on, until it is told to stall, to cut, or to lose answers."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
import time


class Proxy:
    """Between clients and one server; ``with Proxy(port) as proxy:`` listens on ``proxy.port``.

    Args:
        target: Port of the server on 127.0.0.1.
        seed: For the choice of what is cut.

    Attributes:
        port: Where clients connect.
        stalled: While set, no byte is passed on.
        lossy: Chance that an answer is thrown away and its connection cut, after the server has done its work.
        lost: Answers thrown away so far.
    """

    def __init__(self, target: int, seed: int = 0) -> None:
        self._target = target
        self._rng = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.stalled = threading.Event()
        self.lossy = 0.0
        self.lost = 0
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._done = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Proxy:
        self._thread(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(timeout=5)

    def cut(self) -> int:
        """Resets every connection; returns how many."""
        pairs = list(self._pairs)
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        return len(pairs)

    def _thread(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        self._listener.settimeout(0.2)
        while not self._done.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 2.0)
            except OSError:
                client.close()
                continue
            self._thread(self._pump, client, server)

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        pair = (client, server)
        self._pairs.add(pair)
        other = {client: server, server: client}
        try:
            while not self._done.is_set():
                ready, _, _ = select.select(pair, [], [], 0.2)
                while self.stalled.is_set() and not self._done.is_set():
                    time.sleep(0.02)
                for end in ready:
                    data = end.recv(65536)
                    if not data:
                        return
                    if end is server and self.lossy and self._rng.random() < self.lossy:
                        self.lost += 1
                        return
                    other[end].sendall(data)
        except (OSError, ValueError):
            return
        finally:
            self._pairs.discard(pair)
            for end in pair:
                end.close()
