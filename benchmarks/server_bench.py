"""Trials per second through the HTTP server: ``python -m benchmarks.server_bench [--quick] [--save]``.

Eight client processes with plain HTTP requests on connections that stay open, no part of this package in them; one
trial is an ask and a tell, each durable (``process``) when it is answered. The server is that of ``tunewright serve``
on SQLite with a token, on the same machine, so clients and server share its cores. Beside it Optuna's gRPC proxy over
its own SQLite storage, in the same run, where ``optuna`` and ``grpcio`` are installed.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
GOAL = 800
BATCH = 100
SPACE = {f"parameter_{i}": "0.0..1.0" for i in range(10)}
Step = Callable[[], int]


class Served:
    """A running server.

    Attributes:
        port: Where it listens.
        pid: Its process.
        token: An admin's token.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "tunewright"]
        where = ["--storage", str(folder / "studies.db")]
        done = subprocess.run(
            [*command, "token", "new", "--scope", "admin", *where], check=True, capture_output=True, text=True
        )
        self.token = done.stdout.strip()
        self.port = free_port()
        self.log = (folder / "server.log").open("wb")
        self._process = subprocess.Popen(
            [*command, "serve", "--port", str(self.port), *where, *options], stderr=self.log, stdout=self.log
        )
        self.pid = self._process.pid
        self._headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        for _ in range(200):
            with contextlib.suppress(OSError):
                self.call("GET", "/api/v1/health")
                break
            time.sleep(0.05)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, self._headers)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status < 300, text
            return json.loads(text) if text[:1] in (b"{", b"[") else text.decode()
        finally:
            connection.close()

    def cpu(self) -> float:
        """Seconds of processor time that the server has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Bytes that the server takes up."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> int:
        """Ends it as a service manager does and returns its exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(30)
        finally:
            if self._process.poll() is None:
                self._process.kill()
            self.log.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def served(*options: str) -> Iterator[Served]:
    """A server on an empty SQLite store for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        server = Served(Path(folder), *options)
        try:
            yield server
        finally:
            server.end()


def plain(port: int, token: str, batch: int) -> Step:
    """Asks and tells with nothing but the standard library."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    worker = f"bench/client/{os.getpid()}/0/plain"

    def post(path: str, body: Any) -> Any:
        connection.request("POST", f"/api/v1/studies/bench/{path}", json.dumps(body).encode(), headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return json.loads(text)

    def step() -> int:
        trials = post("ask", {"worker": worker, "slots": batch})["trials"]
        ended = [
            {
                "kind": "ended",
                "trial": t["trial"],
                "token": t["token"],
                "metrics": {"loss": sum(t["config"].values())},
            }
            for t in trials
        ]
        post("events", {"events": ended, "worker": worker})
        return len(trials)

    return step


def proxied(port: int, token: str, batch: int) -> Step:
    """One ask and tell of Optuna through its gRPC proxy."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=port)
    sampler = optuna.samplers.RandomSampler(seed=os.getpid())
    study = optuna.load_study(study_name="bench", storage=storage, sampler=sampler)

    def step() -> int:
        trial = study.ask()
        study.tell(trial, sum(trial.suggest_float(name, 0.0, 1.0) for name in SPACE))
        return 1

    return step


def client(
    make: Callable[..., Step], port: int, token: str, batch: int, seconds: float, gate: Any, out: Any
) -> None:
    """What one process does: trials for so many seconds, after all have begun."""
    step = make(port, token, batch)
    step()
    gate.wait(60)
    number, waits, cpu, end = 0, [], time.process_time(), time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        number += step()
        waits.append(time.monotonic() - began)
    out.put((number, time.process_time() - cpu, waits))


def race(
    make: Callable[..., Step], port: int, token: str, clients: int, batch: int, seconds: float
) -> dict[str, float]:
    """Trials per second of so many processes, CPU per trial, and how long a trial took."""
    context = multiprocessing.get_context("spawn")
    gate, out = context.Barrier(clients), context.Queue()
    args = (make, port, token, batch, seconds, gate, out)
    people = [context.Process(target=client, args=args) for _ in range(clients)]
    for person in people:
        person.start()
    found = [out.get(timeout=120) for _ in people]
    for person in people:
        person.join()
    total = sum(n for n, _, _ in found)
    waits = sorted(w for _, _, many in found for w in many)
    return {
        "rate": total / seconds,
        "client_cpu_us": 1e6 * sum(c for _, c, _ in found) / total,
        "p50_ms": 1e3 * waits[len(waits) // 2],
        "p99_ms": 1e3 * waits[int(0.99 * len(waits))],
        "longest_ms": 1e3 * waits[-1],
        "fairness": max(n for n, _, _ in found) / max(1, min(n for n, _, _ in found)),
    }


def ours(clients: int, batch: int, seconds: float) -> dict[str, float]:
    """One race on our server."""
    with served("--logs", "none", "--rate", "1000000") as server:
        server.call("POST", "/api/v1/studies", {"name": "bench", "space": SPACE, "method": "random"})
        before = server.cpu()
        row = race(plain, server.port, server.token, clients, batch, seconds)
        last = server.call("GET", "/api/v1/studies/bench/events?limit=0")["last"]
        return {**row, "server_cpu_us": 2e6 * (server.cpu() - before) / last}


def optunas(clients: int, seconds: float) -> dict[str, float]:
    """One race on Optuna's gRPC proxy."""
    with tempfile.TemporaryDirectory() as folder:
        port, url = free_port(), f"sqlite:///{folder}/optuna.db"
        code = (
            "import optuna, sys; optuna.storages.run_grpc_proxy_server("
            "optuna.storages.RDBStorage(sys.argv[1]), host='127.0.0.1', port=int(sys.argv[2]))"
        )
        import optuna

        optuna.create_study(study_name="bench", storage=url)
        server = subprocess.Popen([sys.executable, "-c", code, url, str(port)], stderr=subprocess.DEVNULL)
        try:
            time.sleep(3.0)
            return race(proxied, port, "", clients, 1, seconds)
        finally:
            server.kill()
            server.wait()


def main() -> int:
    """Measures and prints the table; ``--save`` keeps it under ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--save", action="store_true", help="keep the table under benchmarks/results")
    args = parser.parse_args()
    repeats, seconds = (1, 2.0) if args.quick else (3, 5.0)
    peer = all(importlib.util.find_spec(name) is not None for name in ("optuna", "grpc"))
    version = importlib.metadata.version("optuna") if peer else "not run: it needs optuna and grpcio"
    print(f"random sampler, 10 parameters, median of {repeats}; Optuna's gRPC proxy: {version}")
    print(
        f"{'what':<24}{'clients':>8}{'trials/s':>10}{'goal':>6}{'server us':>11}{'client us':>11}{'p50 ms':>8}{'p99 ms':>8}"
    )
    rows, load = [], os.getloadavg()[0]
    cases = [("tunewright", 1, 1), ("tunewright", 8, 1), ("tunewright, batches", 1, BATCH)]
    for what, clients, batch in cases + ([("optuna grpc", 8, 1)] if peer else []):
        found = [
            ours(clients, batch, seconds) if what.startswith("tunewright") else optunas(clients, seconds)
            for _ in range(repeats)
        ]
        row = {key: statistics.median(f[key] for f in found) for key in found[0]}
        goal = GOAL if (what, clients) == ("tunewright", 8) else None
        print(
            f"{what:<24}{clients:>8}{row['rate']:>10.0f}{goal or '-':>6}{row.get('server_cpu_us', 0):>11.0f}"
            f"{row['client_cpu_us']:>11.0f}{row['p50_ms']:>8.2f}{row['p99_ms']:>8.2f}",
            flush=True,
        )
        rows.append({"what": what, "clients": clients, "batch": batch, "goal": goal, **row})
    if args.save:
        RESULTS.mkdir(parents=True, exist_ok=True)
        body = {
            "optuna_grpc": version,
            "python": platform.python_version(),
            "load_before": load,
            "rates": rows,
        }
        (RESULTS / "server.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
