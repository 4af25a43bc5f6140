"""The smallest server that speaks ``store.wire``, for tests of its clients; and a proxy that cuts, stalls and drops."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from tunewright.core.trial import Trial
from tunewright.errors import StudyMissing, TunewrightError
from tunewright.opening import session_of
from tunewright.run.desk import Desk
from tunewright.run.messages import Answer, Finish, FromWorker, Report, Save, Suggest
from tunewright.run.session import Session
from tunewright.store import blobs, wire
from tunewright.store.base import Store

_messages = msgspec.json.Decoder(FromWorker)
_STUDY = re.compile(r"/api/v1/studies/([^/?]+)(/[^?]*)?")


class SmallServer:
    """Serves a store on a free port of the loopback interface."""

    def __init__(self, store: Store, port: int = 0, token: str = "") -> None:
        self.store = store
        self.token = token
        self.calls: list[str] = []
        self.open: set[socket.socket] = set()
        self._sessions: dict[int, Session] = {}
        self._lock = threading.Lock()
        served = self

        class Handler(_Handler):
            server_ = served

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it as a kill would: connections are cut."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)
        for sock in list(self.open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> SmallServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ answers

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        if path == "/api/v1/studies":
            if method == "GET":
                return [self._study(s.id) for s in self.store.studies()]
            new = msgspec.json.decode(body, type=wire.NewStudy)
            made = self.store.create(new.name, new.spec or {}, exist_ok=new.exist_ok, created=new.created)
            return self._study(made.id)
        match = _STUDY.fullmatch(path)
        if match is None:
            return 404
        key = self._key(unquote(match[1]))
        rest = (match[2] or "").lstrip("/")
        if rest.startswith("checkpoints"):
            return self._file(method, key, rest.partition("/")[2], body)
        found = getattr(self, f"_{method.lower()}_{rest or 'study'}", None)
        return 404 if found is None else found(key, query, body)

    def _key(self, name: str) -> int:
        if name.startswith("@"):
            return int(name[1:])
        found = self.store.find(name)
        if found is None:
            raise StudyMissing(f"No study '{name}' here.")
        return found.id

    def _study(self, key: int) -> wire.StudyAnswer:
        info = next((s for s in self.store.studies() if s.id == key), None)
        if info is None:
            raise StudyMissing(f"No study has the key {key}.")
        return wire.StudyAnswer(key, info.name, info.created, "m", self.store.last(key), {}, spec=info.spec)

    def _get_study(self, key: int, query: dict[str, str], body: bytes) -> Any:
        return self._study(key)

    def _delete_study(self, key: int, query: dict[str, str], body: bytes) -> Any:
        self.store.delete(key)
        return 204

    def _get_events(self, key: int, query: dict[str, str], body: bytes) -> Any:
        after, limit = int(query.get("after", 0)), int(query.get("limit", 1000))
        if "wait" in query:
            self.store.wait(key, after, float(query["wait"]))
        last = self.store.last(key)
        return wire.RecordsAnswer(self.store.read(key, after, limit) if limit else [], last)

    def _post_events(self, key: int, query: dict[str, str], body: bytes) -> Any:
        b = msgspec.json.decode(body, type=wire.EventsBody)
        records = self.store.append(
            key, b.events, worker=b.worker, expected=b.expected, lease=b.lease, again=b.again
        )
        return wire.RecordsAnswer(records, self.store.last(key))

    def _post_graft(self, key: int, query: dict[str, str], body: bytes) -> Any:
        self.store.graft(key, msgspec.json.decode(body, type=wire.GraftBody).records)
        return wire.RecordsAnswer([], self.store.last(key))

    def _get_leases(self, key: int, query: dict[str, str], body: bytes) -> Any:
        return self.store.leases(key)

    def _post_leases(self, key: int, query: dict[str, str], body: bytes) -> Any:
        b = msgspec.json.decode(body, type=wire.LeasesBody)
        return wire.LeasesAnswer(self.store.renew(key, b.held, lease=b.lease))

    def _get_snapshot(self, key: int, query: dict[str, str], body: bytes) -> Any:
        return self.store.load_snapshot(key) or 204

    def _put_snapshot(self, key: int, query: dict[str, str], body: bytes) -> Any:
        self.store.save_snapshot(key, int(query["position"]), body)
        return 204

    def session(self, key: int) -> Session:
        with self._lock:
            if key not in self._sessions:
                info = next(s for s in self.store.studies() if s.id == key)
                self._sessions[key] = session_of(self.store, info, None, None, None, None)
            return self._sessions[key]

    def _post_ask(self, key: int, query: dict[str, str], body: bytes) -> Any:
        b = msgspec.json.decode(body, type=wire.AskBody)
        session = self.session(key)
        with session.speaking_for(b.worker, b.lease, b.attempts):
            found = []
            session.sync()
            if b.held is not None:
                running = session.ledger.running.values()
                found = [t for t in running if t.worker == b.worker and t.id not in b.held][: b.slots]
            if len(found) < b.slots or b.slots == 0:
                found += session.ask_many(b.slots - len(found), limit=b.limit) if b.slots else []
            ledger = session.ledger
            full = b.limit is not None and ledger.begun >= b.limit
            finished = session.exhausted or (full and not ledger.running and not ledger.waiting)
            if not b.slots:
                session.ask(0)
            segments = [s for t in found if (s := Desk(session).segment(t)) is not None]
        if not segments and not finished and b.wait:
            self.store.wait(key, self.store.last(key), min(b.wait, 1.0))
        records = self.store.read(key, b.after) if b.after is not None else None
        return wire.AskAnswer([msgspec.Raw(msgspec.json.encode(s)) for s in segments], finished, records)

    def _post_say(self, key: int, query: dict[str, str], body: bytes) -> Any:
        b = msgspec.json.decode(body, type=wire.SayBody)
        message = _messages.decode(b.message)
        session = self.session(key)
        with session.speaking_for(b.worker):
            session.sync()
            desk = Desk(session)
            trial = session.ledger.trials[message.trial]
            if b.again and trial.token == message.token and self._known(trial, message):
                return Answer(value=trial.config.get(message.name) if isinstance(message, Suggest) else None)
            if isinstance(message, Report):
                return desk.report(message)
            if isinstance(message, Save):
                return desk.saved(message)
            if isinstance(message, Finish):
                desk.finish(message, 0.0)
                return Answer()
            return desk.suggest(message)

    def _known(self, trial: Trial, message: FromWorker) -> bool:
        if isinstance(message, Report):
            return any(r.step == message.step for r in trial.reports)
        if isinstance(message, Save):
            return (message.step, message.checkpoint) in (trial.checkpoint, trial.fresh)
        if isinstance(message, Suggest):
            return message.name in trial.config
        return trial.status != "running"

    def _file(self, method: str, key: int, name: str, body: bytes) -> Any:
        folder = self.store.blobs(key)
        if not name:
            return [wire.FileAnswer(e.name, e.size, e.mtime) for e in blobs.listing(folder)]
        path = blobs.where(folder, name)
        if method == "PUT":
            assert blobs.put(folder, name.rpartition(".")[0], body) == name
            return 204
        if not path.is_file():
            return 404
        if method == "DELETE":
            blobs.remove(folder, name)
            return 204
        return path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server_: SmallServer

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def setup(self) -> None:
        super().setup()
        self.server_.open.add(self.connection)

    def finish(self) -> None:
        self.server_.open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        parts = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        server = self.server_
        server.calls.append(f"{self.command} {self.path}")
        headers: dict[str, str] = {}
        try:
            if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
                status, data = 401, _refusal("HTTP", "who are you?")
            else:
                status, data, headers = _shape(server.answer(self.command, parts.path, query, body))
        except msgspec.DecodeError as error:
            status, data = 422, _refusal("HTTP", str(error))
        except TunewrightError as error:
            status, data = wire.STATUS.get(error.code, 500), _refusal(error.code, str(error))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve


def _refusal(code: str, message: str) -> bytes:
    return msgspec.json.encode(wire.ErrorAnswer(wire.Problem(code, message)))


def _shape(found: Any) -> tuple[int, bytes, dict[str, str]]:
    if isinstance(found, int):
        return found, b"" if found < 300 else _refusal("HTTP", "nothing here"), {}
    if isinstance(found, tuple):
        return 200, found[1], {wire.POSITION: str(found[0])}
    if isinstance(found, Path):
        return 200, found.read_bytes(), {}
    return 200, msgspec.json.encode(found), {}


class Proxy:
    """Passes requests on to a server; ``plan`` says what goes wrong with each, counted from 0.

    A plan returns ``""`` to pass, ``"drop"`` to carry the request out and hang up without its answer, ``"refuse"`` to
    hang up before it is carried out, ``"stall"`` to carry it out and stay silent, ``"cut"`` to send half of the answer.
    """

    def __init__(self, port: int, plan: Callable[[int, str], str] = lambda number, head: "") -> None:
        self.target = port
        self.plan = plan
        self.count = 0
        self.hit = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        self._open.add(client)
        with client, contextlib.suppress(OSError):
            try:
                server = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                return
            self._open.add(server)
            with server:
                while (request := _message(client)) is not None:
                    with self._lock:
                        number, self.count = self.count, self.count + 1
                    fault = self.plan(number, request.partition(b"\r\n")[0].decode())
                    self.hit += bool(fault)
                    if fault == "refuse":
                        return
                    server.sendall(request)
                    answer = _message(server)
                    if answer is None or fault == "drop":
                        return
                    if fault == "stall":
                        client.settimeout(30)
                        client.recv(1)
                        return
                    if fault == "cut":
                        client.sendall(answer[: len(answer) // 2])
                        return
                    client.sendall(answer)
        self._open.discard(client)


def _message(sock: socket.socket) -> bytes | None:
    """One request or answer with its body; None when the other side is gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(1 << 16)
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    size = int(found[1]) if found else 0
    while len(body) < size:
        part = sock.recv(1 << 16)
        if not part:
            return None
        body += part
    return head + b"\r\n\r\n" + body
