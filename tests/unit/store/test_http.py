"""The store over HTTP where the network is not kind: lost answers, silence, cut connections, wrong servers."""

from __future__ import annotations

import logging
import os
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tunewright as tw
from small_server import Proxy, SmallServer
from tunewright.core.events import Ended, Enqueued, Interrupted, Noted, Reported, Started
from tunewright.errors import ConfigError, ConflictError, StoreUnavailable, StudyExists, StudyMissing
from tunewright.store import access, blobs
from tunewright.store.client import Client
from tunewright.store.depots import depot
from tunewright.store.http import HttpDepot, HttpStore
from tunewright.store.memory import MemoryStore

ME = "external/me"
SPACE = {"x": tw.Float(0, 1)}


@pytest.fixture
def server() -> Iterator[SmallServer]:
    store = MemoryStore(expiring=True)
    with SmallServer(store) as made:
        yield made
    store.close()


@pytest.fixture(autouse=True)
def _no_tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's user, and nothing of the test before."""
    monkeypatch.delenv(access.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(access, "_tokens", {})
    monkeypatch.setattr(access, "_seen", {})


# ---------------------------------------------------------------------- one server, as a store


def test_token_is_sent_and_a_wrong_one_is_refused(server: SmallServer) -> None:
    server.token = "right"
    HttpStore(server.url, token="right").create("a", {})
    with pytest.raises(StoreUnavailable, match="401.*who are you.*TUNEWRIGHT_TOKEN"):
        HttpStore(server.url, token="wrong").studies()


def test_study_is_opened_by_its_address_alone(server: SmallServer) -> None:
    with tw.Study.open(f"{server.url}/a", SPACE, minimize="loss", method="random", seed=3) as study:
        study.run(lambda x: x, trials=4, progress="none")
        assert study.name == "a"
    local = tw.Study.open("a", SPACE, minimize="loss", method="random", seed=3, storage="memory")
    local.run(lambda x: x, trials=4, progress="none")
    assert [t.params for t in study.trials] == [t.params for t in local.trials]
    assert server.store.last(1) == 8


def test_whole_interface_of_a_study_works(server: SmallServer) -> None:
    with tw.Study.open("a", SPACE, minimize="loss", method="random", steps=3, storage=server.url) as study:
        position = study.enqueue({"x": 0.25}, key="k")
        assert study.enqueue({"x": 0.25}, key="k") == position
        asked = study.ask()
        assert asked is not None
        assert asked.params == {"x": 0.25}
        assert asked.report(1, loss=0.5)
        asked.tell(0.25)
        many = study.ask_many(3)
        study.tell_many([(m, m.params["x"] + 1) for m in many])
        study.note("half way")
        study.edit({"x": tw.Float(0, 2)})
        assert study.counts == {"completed": 4}
        assert study.best is not None
        assert study.best.number == 0
        assert [d.topic for _, d in study.session.ledger.notes] == ["note"]
        assert study.replay().verified >= 3
        study.session.extend(9)
    with tw.Study.open("a", storage=server.url, exist="must") as again:
        problem = again.session.sync().problem
        assert problem.fidelity is not None
        assert problem.fidelity.high == 9
        assert again.session.ledger.problem.space.domains["x"] == tw.Float(0, 2)


def test_how_often_a_trial_is_begun_is_the_askers_policy(server: SmallServer) -> None:
    """The server's own policy would give it up at the third loss, and begin it a second time before."""
    policy = tw.Policy(max_attempts=1)
    study = tw.Study.open("a", SPACE, method="random", storage=server.url, policy=policy)
    asked = study.ask()
    assert asked is not None
    study.session.record(Interrupted(asked.number, asked.token, "lost"))
    again = study.ask()
    assert again is not None
    assert again.number == 1
    assert study.trials[0].status == "lost"
    assert "lost 1 times" in study.trials[0].error
    study.close()


def test_study_decided_by_a_method_of_the_users_own_is_decided_here(server: SmallServer) -> None:
    from tunewright.catalog import build

    with tw.Study.open("a", SPACE, minimize="loss", method=build("random", {}), storage=server.url) as study:
        study.run(lambda x: x, trials=3, progress="none")
        assert study.counts == {"completed": 3}
    assert not any("/ask" in call for call in server.calls)


def test_names_that_mean_something_in_addresses(server: SmallServer) -> None:
    store = HttpStore(server.url)
    for name in ("a/b", "@1", "..", "a?b#c", "größe %2F"):
        made = store.create(name, {"name": name})
        assert store.find(name) == made
    assert len(store.studies()) == 5
    with pytest.raises(StudyExists):
        store.create("a/b", {})


def test_waiting_is_one_request(server: SmallServer) -> None:
    store = HttpStore(server.url)
    study = store.create("a", {}).id
    timer = threading.Timer(0.15, lambda: server.store.append(study, [Noted("n", {})], worker=ME))
    server.calls.clear()
    timer.start()
    began = time.monotonic()
    assert store.wait(study, 0, 5.0) == 1
    assert 0.1 < time.monotonic() - began < 3.0
    assert len(server.calls) == 1
    assert store.wait(study, 1, 0.05) == 1


def test_impatient_server_is_not_asked_all_the_time(server: SmallServer) -> None:
    store = HttpStore(server.url)
    study = store.create("a", {}).id
    server.store.wait = lambda *_: 0
    server.calls.clear()
    assert store.wait(study, 0, 0.5) == 0
    assert len(server.calls) < 40


def test_decisions_that_are_always_overtaken_end(
    server: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunewright.store.http._PAUSE", 0.0)
    store = HttpStore(server.url)
    study = store.create("a", {}).id
    calls = [0]

    def choose(tail: object, expired: object) -> list[Started]:
        server.store.append(study, [Noted("n", {})], worker="external/you")
        calls[0] += 1
        return [Started(0, {})]

    with pytest.raises(ConflictError, match="50 attempts were overtaken"):
        store.decide(study, 0, choose, worker=ME)
    assert calls == [50]


def test_bodies_that_are_too_large_are_refused_here(server: SmallServer) -> None:
    store = HttpStore(server.url)
    study = store.create("a", {}).id
    server.calls.clear()
    with pytest.raises(ConfigError, match="at most 8 MiB; got 9 MiB"):
        store.append(study, [Noted("n", {"text": "x" * (9 << 20)})], worker=ME)
    assert server.calls == []
    store.save_snapshot(study, 1, b"x" * (9 << 20))
    assert store.load_snapshot(study) is None


def test_copies_are_sent_in_parts(server: SmallServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewright.store.wire.LARGEST_BODY", 3000)
    source = MemoryStore()
    key = source.create("a", {}).id
    source.append(key, [Noted("n", {"i": i, "text": "x" * 100}) for i in range(50)], worker=ME)
    store = HttpStore(server.url)
    study = store.create("a", {}).id
    store.graft(study, source.read(key))
    assert store.read(study) == source.read(key)
    assert len([c for c in server.calls if "graft" in c]) > 3


def test_forked_child_opens_connections_of_its_own(server: SmallServer) -> None:
    store = HttpStore(server.url)
    study = store.create("a", {}).id
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if store.append(study, [Noted("child", {})], worker=ME) else 2
        finally:
            os._exit(status)
    for _ in range(20):
        store.append(study, [Noted("parent", {})], worker=ME)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    topics = [r.event.topic for r in store.read(study)]  # type: ignore[union-attr]
    assert sorted(topics) == ["child"] + ["parent"] * 20


# ---------------------------------------------------------------------- faults


def story(url: str) -> tw.Study:
    """A study's life; what the log says after it is known."""
    store = HttpStore(url, deadline=0.25, patience=20.0)
    with tw.Study.open("a", SPACE, minimize="loss", method="random", steps=2, seed=1, storage=store) as study:
        for i in range(3):
            study.enqueue({"x": i / 10})
        for _ in range(6):
            asked = study.ask()
            assert asked is not None
            asked.report(1, loss=asked.params["x"])
            asked.tell(asked.params["x"])
        return study


def check(store: MemoryStore) -> None:
    events = [r.event for r in store.read(1)]
    assert [type(e) for e in events if not isinstance(e, Enqueued)] == [Started, Reported, Ended] * 6
    assert [e.config["x"] for e in events if isinstance(e, Enqueued)] == [0.0, 0.1, 0.2]
    assert [e.trial for e in events if isinstance(e, Started)] == list(range(6)), "no trial is begun twice"
    ends = [e for e in events if isinstance(e, Ended)]
    starts = {e.trial: e.config["x"] for e in events if isinstance(e, Started)}
    assert all(e.metrics == {"loss": starts[e.trial]} for e in ends)


@pytest.mark.parametrize("fault", ["drop", "refuse", "cut"])
def test_every_lost_answer_is_made_good(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request of a study's life fails once, one after another."""
    monkeypatch.setattr("tunewright.store.client._PAUSE", 0.001)
    for modulus in (2, 3):
        store = MemoryStore(expiring=True)
        hit: set[int] = set()

        def plan(number: int, head: str, hit: set[int] = hit, modulus: int = modulus) -> str:
            bad = number % modulus == 0
            hit.add(number) if bad else None
            return fault if bad else ""

        with SmallServer(store) as server, Proxy(server.port, plan) as proxy:
            story(proxy.url)
        assert len(hit) > 10
        check(store)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_any_mixture_of_faults_is_made_good(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewright.store.client._PAUSE", 0.001)
    store = MemoryStore(expiring=True)
    rng = random.Random(seed)

    def plan(number: int, head: str) -> str:
        return rng.choice(["drop", "refuse", "cut", "stall", "", "", "", ""])

    with SmallServer(store) as server, Proxy(server.port, plan) as proxy:
        story(proxy.url)
        assert proxy.hit > 5
    check(store)


def test_server_that_stays_silent_is_asked_again_after_the_deadline(server: SmallServer) -> None:
    stalls = iter(["stall"])

    def plan(number: int, head: str) -> str:
        return next(stalls, "") if head.startswith("POST") and "/events" in head else ""

    with Proxy(server.port, plan) as proxy:
        store = HttpStore(proxy.url, deadline=0.2)
        study = store.create("a", {}).id
        began = time.monotonic()
        (record,) = store.append(study, [Noted("n", {})], worker=ME)
        assert 0.15 < time.monotonic() - began < 5.0
    assert record.seq == 1
    assert server.store.last(study) == 1


def test_study_made_by_an_unanswered_request_is_ours(server: SmallServer) -> None:
    drops = iter(["drop"])
    with Proxy(server.port, lambda n, head: next(drops, "")) as proxy:
        store = HttpStore(proxy.url)
        made = store.create("a", {"k": 1})
    assert made == server.store.find("a")
    with pytest.raises(StudyExists):
        HttpStore(server.url).create("a", {"k": 1})


def test_study_removed_by_an_unanswered_request_is_removed(server: SmallServer) -> None:
    drops = iter(["", "drop"])
    with Proxy(server.port, lambda n, head: next(drops, "")) as proxy:
        store = HttpStore(proxy.url)
        study = store.create("a", {}).id
        store.delete(study)
        with pytest.raises(StudyMissing):
            store.delete(study)


def test_server_that_is_away_is_waited_for(server: SmallServer, caplog: pytest.LogCaptureFixture) -> None:
    store = HttpStore(server.url, patience=20)
    study = store.create("a", {}).id
    port, behind = server.port, server.store
    server.close()
    store.close()
    back: list[SmallServer] = []
    timer = threading.Timer(0.8, lambda: back.append(SmallServer(behind, port)))
    timer.start()
    with caplog.at_level(logging.WARNING):
        assert store.append(study, [Noted("n", {})], worker=ME)[0].seq == 1
    timer.join()
    back[0].close()
    assert "does not answer" in caplog.text
    assert "answers again" in caplog.text


def test_patience_ends(server: SmallServer) -> None:
    store = HttpStore(server.url, patience=0.3)
    study = store.create("a", {}).id
    server.close()
    store.close()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"reachable at {server.url}.*tunewright serve"):
        store.read(study)
    assert time.monotonic() - began < 5.0
    with pytest.raises(StoreUnavailable):
        store.reach(study)


# ---------------------------------------------------------------------- strange servers


def answering(*answers: bytes | Callable[[socket.socket], None]) -> tuple[str, list[bytes]]:
    """A server that gives these answers, each on the connection that is there."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def serve() -> None:
        todo = list(answers)
        with listener:
            while todo:
                client, _ = listener.accept()
                with client:
                    while todo and (data := client.recv(1 << 16)):
                        heard.append(data)
                        given = todo.pop(0)
                        if callable(given):
                            given(client)
                            break
                        client.sendall(given)
                        if b"close" in given:
                            break

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", heard


def whole(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_redirect_is_not_followed() -> None:
    url, heard = answering(whole("302 Found", b"", "Location: http://elsewhere.example/"))
    with pytest.raises(StoreUnavailable, match="got 302"):
        HttpStore(url, token="s3cret").studies()
    assert len(heard) == 1


def test_busy_server_says_when_to_come_back() -> None:
    busy = whole("429 Too Many Requests", b"", "Retry-After: 0.3")
    url, heard = answering(busy, whole("200 OK", b"[]"))
    began = time.monotonic()
    assert HttpStore(url).studies() == []
    assert time.monotonic() - began > 0.3
    assert len(heard) == 2


def test_token_that_was_replaced_in_the_file_is_taken_up(server: SmallServer) -> None:
    path = access.token_file()
    path.parent.mkdir(parents=True)
    path.touch(0o600)
    path.write_text("old")
    server.token = "old"
    store = HttpStore(server.url)
    store.create("a", {})
    server.token = "new"
    with pytest.raises(StoreUnavailable, match="401"):
        store.studies()
    path.write_text("new")
    assert [s.name for s in store.studies()] == ["a"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\n[\r\n1\r\n]\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[]",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    ],
)
def test_every_form_of_answer_is_read(answer: bytes) -> None:
    url, _ = answering(answer, whole("200 OK", b"[]"))
    store = HttpStore(url, patience=2)
    assert store.studies() == []
    assert store.studies() == []


@pytest.mark.parametrize(
    "answer",
    [
        whole("200 OK", b"<html>hello</html>"),
        whole("404 Not Found", b"<html>nothing</html>"),
        whole("200 OK", b'{"records": 1}'),
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
    ],
)
def test_other_servers_are_told_apart(answer: bytes) -> None:
    url, _ = answering(*[answer, b"close"] * 20)
    with pytest.raises(StoreUnavailable):
        HttpStore(url, patience=0.0).studies()


def test_answer_that_drips_ends_with_the_deadline() -> None:
    def drip(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            try:
                client.sendall(b"x")
            except OSError:
                return
            time.sleep(0.02)

    url, _ = answering(drip)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        Client(access.read_address(url), deadline=0.2).once("GET", "/")
    assert time.monotonic() - began < 1.5


def test_certificate_that_nobody_vouches_for_is_refused_at_once(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate for this test")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):
            client, _ = listener.accept()
            try:
                with context.wrap_socket(client, server_side=True) as secure:
                    while secure.recv(1 << 16):
                        secure.sendall(whole("200 OK", b"[]"))
            except (ssl.SSLError, OSError):
                client.close()

    threading.Thread(target=serve, daemon=True).start()
    url = f"https://localhost:{listener.getsockname()[1]}"
    with pytest.raises(StoreUnavailable, match=r"certificate that is trusted.*\?ca=FILE"):
        HttpStore(url).studies()
    store = HttpStore(f"{url}?ca={cert}", token="t")
    assert store.studies() == []
    assert store.studies() == []
    assert store.url == f"{url}?ca={cert}"
    store.close()
    listener.close()


# ---------------------------------------------------------------------- checkpoints


def test_checkpoints_go_to_the_server(
    server: SmallServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    store = HttpStore(server.url)
    study = store.create("a", {}).id
    place = store.blobs(study)
    assert isinstance(depot(place), HttpDepot)
    name = blobs.put(place, "t0-s1", b"state" * 1000)
    (tmp_path / "large").write_bytes(os.urandom(1 << 20))
    large = blobs.put_file(place, "t0-s2", tmp_path / "large")
    assert blobs.get(place, name) == b"state" * 1000
    assert blobs.get_file(place, large).read_bytes() == (tmp_path / "large").read_bytes()
    assert {e.name: e.size for e in blobs.listing(place)} == {name: 5000, large: 1 << 20}
    blobs.remove(place, name)
    blobs.remove(place, name)
    assert not blobs.exists(place, name)
    assert blobs.exists(place, large)
    with pytest.raises(FileNotFoundError):
        depot(place).get(name)
    server.token = "right"
    with pytest.raises(PermissionError, match="TUNEWRIGHT_TOKEN"):
        depot(place).entries()
    server.token = ""
    store.delete(study)
    assert depot(place).entries() == []


def test_training_saves_on_the_server_and_goes_on_from_there(
    server: SmallServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    seen: list[int] = []

    def train(trial: tw.Attempt) -> float:
        state = trial.checkpoint.load({"done": 0})
        for step in trial.steps():
            seen.append(step)
            state = {"done": step}
            trial.checkpoint.save(state)
            trial.report(step, loss=1 / step)
        return 1 / state["done"]

    with tw.Study.open("a", SPACE, minimize="loss", method="sha", steps=(1, 4), storage=server.url) as study:
        study.run(train, trials=4, progress="none")
        assert study.counts.get("completed", 0) >= 1
    assert seen.count(1) == 4, "what was promoted went on from its checkpoint"
    assert any("PUT" in call for call in server.calls)
