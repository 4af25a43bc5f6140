"""Many trials through one server: does its memory stay flat? ``python -m benchmarks.soak [--quick] [--save]``.

Eight client processes ask, report now and then, renew leases, read pages and tell, until 100,000 trials are over (2,000
with ``--quick``). Meanwhile the memory, the open files and the processor time of the server are sampled. At the end the
log is read back and checked: every trial begun once, every trial over once, no number missing.

The server keeps an index of every trial, so memory grows with them, by a few hundred bytes each; ``per trial`` is what
it grew by in the second half of the run. What must not grow is the rest: files, threads and the cost of a trial.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import platform
import time
from pathlib import Path
from typing import Any

from benchmarks.server_bench import RESULTS, SPACE, Served, served

TRIALS, QUICK = 100_000, 2_000
CLIENTS = 8
SLOTS = 4
MOST_PER_TRIAL = 2_500
MINUTES = 8.0


def client(port: int, token: str, total: int, done: Any, failed: Any) -> None:
    """Works until enough trials are over."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    worker = f"soak/client/{os.getpid()}/0/plain"

    def call(method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, f"/api/v1/studies/soak/{path}", data, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            with failed.get_lock():
                failed.value += 1
        return json.loads(text)

    turn = 0
    while done.value < total:
        turn += 1
        trials = call("POST", "ask", {"worker": worker, "slots": SLOTS, "limit": total, "held": []}).get(
            "trials", []
        )
        for t in trials:
            if t["trial"] % 10 == 0:
                body = {"token": t["token"], "step": 1, "metrics": {"loss": 1.0}, "worker": worker}
                call("POST", f"trials/{t['trial']}/report", body)
        if turn % 20 == 0:
            call("POST", "leases", {"held": [[t["trial"], t["token"]] for t in trials]})
            call("GET", "trials?limit=20")
            call("GET", "best")
        ended = [
            {
                "kind": "ended",
                "trial": t["trial"],
                "token": t["token"],
                "metrics": {"loss": sum(t["config"].values())},
            }
            for t in trials
        ]
        if not ended:
            break
        call("POST", "events", {"events": ended, "worker": worker})
        with done.get_lock():
            done.value += len(ended)


def sample(server: Served, trials: int, began: float) -> dict[str, float]:
    """The server at one moment."""
    return {
        "trials": trials,
        "seconds": round(time.monotonic() - began, 1),
        "rss_mb": round(server.memory() / 2**20, 1),
        "files": len(list(Path(f"/proc/{server.pid}/fd").iterdir())),
        "threads": len(list(Path(f"/proc/{server.pid}/task").iterdir())),
        "cpu": round(server.cpu(), 1),
    }


def checked(server: Served, total: int) -> dict[str, int]:
    """Reads the whole log back and counts what is wrong with it."""
    after, begun, over = 0, [], []
    while records := server.call("GET", f"/api/v1/studies/soak/events?after={after}&limit=10000")["records"]:
        after = records[-1][0]
        begun += [r[3]["trial"] for r in records if r[3]["kind"] == "started"]
        over += [r[3]["trial"] for r in records if r[3]["kind"] == "ended"]
    return {
        "begun": len(begun),
        "ended": len(over),
        "gaps": len(set(range(total)) - set(begun)),
        "begun_twice": len(begun) - len(set(begun)),
        "ended_twice": len(over) - len(set(over)),
    }


def soak(total: int) -> dict[str, Any]:
    """One run."""
    context = multiprocessing.get_context("spawn")
    done, failed = context.Value("i", 0), context.Value("i", 0)
    with served("--logs", "none", "--rate", "1000000") as server:
        server.call("POST", "/api/v1/studies", {"name": "soak", "space": SPACE, "method": "random"})
        args = (server.port, server.token, total, done, failed)
        people = [context.Process(target=client, args=args) for _ in range(CLIENTS)]
        began = time.monotonic()
        for person in people:
            person.start()
        samples: list[dict[str, float]] = []
        while any(person.is_alive() for person in people):
            time.sleep(0.5)
            if not samples or done.value - samples[-1]["trials"] >= total / 40:
                samples.append(sample(server, done.value, began))
                print("{trials:>8} trials {seconds:>7} s {rss_mb:>7} MB {files:>4} files {threads:>3} threads {cpu:>7} s CPU"
                      .format(**samples[-1]), flush=True)  # fmt: skip
        seconds = time.monotonic() - began
        for person in people:
            person.join()
        samples.append(sample(server, done.value, began))
        faults = checked(server, total)
    half = next(s for s in samples if s["trials"] >= samples[-1]["trials"] / 2)
    grown = max(1, samples[-1]["trials"] - half["trials"])
    return {
        "trials": done.value,
        "seconds": round(seconds, 1),
        "rate": round(done.value / seconds),
        "refused": failed.value,
        "bytes_per_trial": round((samples[-1]["rss_mb"] - half["rss_mb"]) * 2**20 / grown),
        "cpu_us_first_half": round(1e6 * half["cpu"] / max(1, half["trials"])),
        "cpu_us_second_half": round(1e6 * (samples[-1]["cpu"] - half["cpu"]) / grown),
        "files_grown": samples[-1]["files"] - samples[0]["files"],
        "threads_most": max(s["threads"] for s in samples),
        **faults,
        "samples": samples,
    }


def main() -> int:
    """Runs and judges; ``--save`` keeps the result under ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results")
    args = parser.parse_args()
    total = QUICK if args.quick else TRIALS
    found = soak(total)
    print(json.dumps({k: v for k, v in found.items() if k != "samples"}, indent=1))
    broken = [k for k in ("refused", "gaps", "begun_twice", "ended_twice") if found[k]]
    broken += ["ended"] if found["ended"] != total else []
    broken += ["files_grown"] if found["files_grown"] > CLIENTS + 2 else []
    if not args.quick:
        broken += ["bytes_per_trial"] if found["bytes_per_trial"] > MOST_PER_TRIAL else []
    print("broken: " + ", ".join(broken) if broken else f"nothing broken; to reach: {MINUTES:g} minutes")
    if args.save:
        RESULTS.mkdir(parents=True, exist_ok=True)
        body = {"python": platform.python_version(), **found}
        (RESULTS / "soak.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
