"""A real server on a real socket: dawdlers, the end, TLS, unix sockets."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import shutil
import socket
import ssl
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest
from live_server import live

from tunewright.errors import ConfigError, StoreUnavailable
from tunewright.web import serving
from tunewright.web.serving import Place

HEAD = b"GET /api/v1/health HTTP/1.1\r\nhost: localhost\r\n"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_TICK", 0.02)


def test_dawdlers_are_hung_up_on_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_HEADERS", 0.3)
    monkeypatch.setattr(serving, "_BODY", 0.3)
    with live() as server:
        server.ask("POST", "/api/v1/studies", {"name": "s", "space": {"x": "0.0..1.0"}})
        poll = threading.Thread(target=server.ask, args=("GET", "/api/v1/studies/s/events?wait=1.5"))
        poll.start()
        kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10.0)
        kept.request("GET", "/api/v1/health")
        assert kept.getresponse().read()
        slow = [server.connect() for _ in range(3)]
        slow[1].sendall(b"GET /api/v1/hea")
        slow[2].sendall(b"POST /api/v1/studies HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        began = time.monotonic()
        for connection in slow:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1000) == b""
            connection.close()
        assert time.monotonic() - began < 2.0
        assert poll.is_alive(), "a long request is no dawdler"
        kept.request("GET", "/api/v1/health")
        assert kept.getresponse().read()
        kept.close()
        poll.join()


@pytest.mark.slow
def test_who_sends_a_byte_now_and_then_dawdles_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_HEADERS", 0.3)
    with live() as server, server.connect() as connection:
        began = time.monotonic()
        with pytest.raises(OSError):
            for byte in HEAD * 100:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - began < 2.0


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        HEAD + b"x: " + b"y" * 1_000_000 + b"\r\n\r\n",
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
        HEAD + b"content-length: -5\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
def test_what_is_no_request_gets_no_more_than_a_word(sent: bytes) -> None:
    with live() as server, server.connect() as connection:
        connection.sendall(sent + b"\r\n\r\n")
        got = connection.recv(10_000)
        assert got.startswith((b"HTTP/1.1 400", b"HTTP/1.1 421", b"HTTP/1.1 501")), got
        assert b"Traceback" not in got
        assert server.ask("GET", "/api/v1/health")[0] == 200


def test_the_end_lets_requests_finish_and_comes_soon() -> None:
    with live() as server:
        server.ask("POST", "/api/v1/studies", {"name": "s", "space": {"x": "0.0..1.0"}, "method": "random"})
        found: list[tuple[int, object]] = []
        poll = threading.Thread(
            target=lambda: found.append(server.ask("GET", "/api/v1/studies/s/events?wait=30"))
        )
        stream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20.0)
        stream.request("GET", "/api/v1/studies/s/events", headers={"accept": "text/event-stream"})
        following = stream.getresponse()
        assert following.status == 200
        poll.start()
        time.sleep(0.2)
        began = time.monotonic()
        server.end()
        server.thread.join(10.0)
        assert time.monotonic() - began < 3.0
        poll.join(5.0)
        assert found == [(200, {"records": [], "last": 0})]
        assert following.read().endswith(b"\n")
        stream.close()
        with pytest.raises(OSError):
            server.ask("GET", "/api/v1/health")


def test_a_unix_socket_is_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "t.sock"
    for _ in range(2):
        with live(Place(socket=str(path))) as server:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert server.address == f"unix:{path}"
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(str(path))
                connection.sendall(HEAD + b"connection: close\r\n\r\n")
                assert connection.recv(10_000).startswith(b"HTTP/1.1 200")
    file = tmp_path / "file"
    file.write_text("precious", encoding="utf-8")
    with pytest.raises(ConfigError):
        serving._listen(Place(socket=str(file)))
    assert file.read_text(encoding="utf-8") == "precious"
    with pytest.raises(StoreUnavailable):
        serving._listen(Place(socket=str(tmp_path / "no" / "such" / "t.sock")))


def test_a_port_that_is_taken_is_said() -> None:
    with live() as server, pytest.raises(StoreUnavailable, match="port"):
        serving._listen(Place(port=server.port))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_tls(tmp_path: Path) -> None:
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    made = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", str(key), "-out", str(cert), "-days", "1", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
    ]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True)
    place = Place(port=0, cert=str(cert), key=str(key), grace=2.0)
    with live(place) as server:
        assert server.address.startswith("https://")
        context = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=10.0)
        connection.request("GET", "/api/v1/health")
        assert json.loads(connection.getresponse().read())["status"] == "ok"
        connection.close()
        with server.connect() as plain:
            plain.sendall(HEAD + b"\r\n")
            assert not plain.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
def test_who_does_not_take_an_answer_is_hung_up_on_and_a_steady_upload_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "_BODY", 0.4)
    body = b"x" * (1 << 20)
    name = f"w.{hashlib.sha256(body).hexdigest()[:16]}"
    with live() as server:
        server.ask("POST", "/api/v1/studies", {"name": "s", "space": {"x": "0.0..1.0"}})
        where = f"/api/v1/studies/s/checkpoints/{name}"
        head = f"PUT {where} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        with server.connect() as steady:
            steady.sendall(head.encode())
            for start in range(0, len(body), 1 << 17):
                steady.sendall(body[start : start + (1 << 17)])
                time.sleep(0.12)
            assert steady.recv(1000).startswith(b"HTTP/1.1 204")
        note = {"kind": "noted", "topic": "t", "data": {"text": "x" * 900_000}}
        for _ in range(8):
            server.ask("POST", "/api/v1/studies/s/events", {"events": [note]})
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", server.port))
            deaf.sendall(HEAD.replace(b"health", b"studies/s/events") + b"\r\n")
            end = time.monotonic() + 10.0
            while server._server.server_state.connections and time.monotonic() < end:
                time.sleep(0.05)
            assert not server._server.server_state.connections
