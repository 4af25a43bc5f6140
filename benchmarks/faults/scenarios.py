"""Faults that relbench has no scenario for, done to Tunewright and Optuna alike; each returns ``(broken, told)``.

``broken`` counts promises that were not kept and is 0 throughout when all were; ``told`` are the other figures.
"""

from __future__ import annotations

import collections
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.faults import shim
from benchmarks.faults.places import QUIET, Place, proxied
from benchmarks.faults.proxy import Proxy
from benchmarks.faults.systems import opened, truth
from benchmarks.overhead import ROOT

Counts = dict[str, Any]
Verdict = tuple[Counts, Counts]


def spawn(
    system: str, url: str, record: Path, mode: str, number: float = 0.0, **more: str
) -> subprocess.Popen[bytes]:
    """A worker process."""
    command = [sys.executable, "-m", "benchmarks.faults.worker", system, url, str(record), mode, str(number)]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **QUIET, **more}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def words(folder: Path, kind: str) -> list[list[str]]:
    """All lines of one kind in the records of the workers, without the first word; torn lines are left out."""
    found = []
    for path in sorted(folder.glob("*.record")):
        for line in path.read_text().split("\n")[:-1]:
            first, *rest = line.split(" ")
            if first == kind:
                found.append(rest)
    return found


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came to hold in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def begin(system: str, url: str) -> None:
    """Makes the study, so that what is measured later is not how it is made."""
    opened(system, url)


def calm(system: str, url: str, seconds: float = 15.0) -> int:
    """Lets one healthy worker go on; returns how many trials are still running in the end."""
    study, end = opened(system, url), time.monotonic() + seconds
    while (left := sum(r.state == "running" for r in study.trials())) and time.monotonic() < end:
        handle, _, params, _ = study.ask()
        study.tell(handle, truth(params))
        time.sleep(0.1)
    return left


def judged(system: str, url: str, folder: Path) -> Verdict:
    """Compares the records of all workers with the store."""
    told: collections.defaultdict[int, set[float]] = collections.defaultdict(set)
    for number, value in words(folder, "TELL"):
        told[int(number)].add(float(value))
    acks = {int(number): float(value) for number, value in words(folder, "ACK")}
    rows = {row.number: row for row in opened(system, url).trials()}
    done = {n: r.value for n, r in rows.items() if r.state == "completed"}
    broken = {
        "acknowledged results lost": sum(done.get(n) != v for n, v in acks.items()),
        "results that nobody told": sum(
            v not in told[n] or v != truth(rows[n].params) for n, v in done.items()
        ),
        "numbers missing or double": abs(max(rows, default=-1) + 1 - len(rows)),
    }
    return broken, {"trials": len(rows), "acknowledged": len(acks), "errors": len(words(folder, "ERROR"))}


def race(system: str, place: Place, folder: Path, seconds: float) -> Verdict:
    """200 enqueued configurations, taken by 4 processes at once."""
    url, items = place.url(system), 200
    study, rng = opened(system, url), random.Random(1)
    for number in range(items):
        study.enqueue({"a": rng.random(), "b": rng.random()}, f"item-{number}")
    moment = time.time() + 6.0
    workers = [spawn(system, url, folder / f"{i}.record", "drain", moment) for i in range(4)]
    for worker in workers:
        worker.wait(120)
    handed = collections.Counter(item for _, item in words(folder, "START"))
    broken = {
        "items handed out twice": sum(n > 1 for n in handed.values()),
        "items lost": items - len(handed),
        "workers crashed": sum(worker.returncode != 0 for worker in workers),
    }
    return broken, {"items": items, "errors": len(words(folder, "ERROR"))}


def reclaim(system: str, place: Place, folder: Path, seconds: float) -> Verdict:
    """Seconds until a dead worker's enqueued configuration can be had again: same machine, other machine."""
    url, told, late = place.url(system), {}, 0
    for mode, limit in (("hold", 1.0), ("elsewhere", 40.0)):
        study = opened(system, url, 30.0)
        study.enqueue({"a": 0.5, "b": 0.5}, mode)
        record = folder / f"{mode}.record"
        worker = spawn(system, url, record, mode)
        held = lambda path=record: path.exists() and "START" in path.read_text()  # noqa: E731
        if not wait_for(held, 30):
            worker.kill()
            raise RuntimeError(f"a worker of {system} did not get its trial")
        worker.kill()
        worker.wait()
        begun, found = time.monotonic(), None
        while found is None and time.monotonic() - begun < limit + 5:
            handle, _, params, item = study.ask()
            if item == mode:
                found = time.monotonic() - begun
            study.tell(handle, truth(params))
            time.sleep(0.05)
        where = "same machine" if mode == "hold" else "other machine"
        told[f"seconds, {where}"] = None if found is None else round(found, 2)
        late += found is None or found > limit
    return {"dead workers' items not free in time": late}, told


RUN = """
import sys, time
import tunewright as tw

class Weights:
    seen = 0
    def state_dict(self): return {"seen": self.seen}
    def load_state_dict(self, state): self.seen = state["seen"]

def train(trial):
    weights = Weights()
    trial.keep(weights=weights)
    for step in trial.steps():
        print("STEP", trial.number, step, flush=True)
        time.sleep(0.03)
        weights.seen = step
        trial.report(step, loss=trial["a"] + 1 / step)

with tw.Study.open("faults", {"a": tw.Float(0, 1)}, steps=25, method="random", storage=sys.argv[1]) as study:
    study.run(train, trials=3, progress="none")
    print("LEFT", len(study.session.sync().running), len(study.trials), flush=True)
"""
THEIR_RUN = """
import sys, time
import optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)

def train(trial):
    a = trial.suggest_float("a", 0, 1)
    for step in range(1, 26):
        print("STEP", trial.number, step, flush=True)
        time.sleep(0.03)
        trial.report(a + 1 / step, step)
    return a

study = optuna.create_study(study_name="faults", storage=sys.argv[1], load_if_exists=True)
done = sum(t.state.is_finished() for t in study.trials)
study.optimize(train, n_trials=3 - done)
running = sum(not t.state.is_finished() for t in study.trials)
print("LEFT", running, len(study.trials), flush=True)
"""


def signals(system: str, place: Place, folder: Path, seconds: float) -> Verdict:
    """A run of three trainings of 25 steps gets a signal in its second training; then the same command is given again."""
    url, left, repeated, unfinished, codes = place.url(system), 0, 0, 0, []
    script = folder / "run.py"
    script.write_text(RUN if system == "tunewright" else THEIR_RUN)
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        home = (
            url
            if place.server
            else url.replace("/studies.db", f"/{name}.db").replace("/optuna.db", f"/{name}.db")
        )
        if place.server:
            script.write_text((RUN if system == "tunewright" else THEIR_RUN).replace('"faults"', f'"{name}"'))
        steps: list[str] = []
        process = _run(script, home)
        assert process.stdout is not None
        for line in process.stdout:
            steps.append(line)
            if line.startswith("STEP 1 12"):
                process.send_signal(getattr(signal, name))
        codes.append(f"{name} {process.wait(30)}")
        again = _run(script, home)
        assert again.stdout is not None
        steps += list(again.stdout)
        again.wait(60)
        ends = [line.split() for line in steps if line.startswith("LEFT")]
        left += int(ends[-1][1]) if ends else 1
        unfinished += not ends or int(ends[-1][2]) != 3
        repeated += sum(n - 1 for n in collections.Counter(s for s in steps if s.startswith("STEP")).values())
    broken = {"trials left running": left, "runs not continued by the same command": unfinished}
    return broken, {"signals": 3, "exit codes": ", ".join(codes), "steps repeated": repeated}


def _run(script: Path, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(script), url], cwd=script.parent, env={**os.environ, **QUIET}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def slow_locks(system: str, place: Place, folder: Path, seconds: float) -> Verdict:
    """Four workers whose every lock of a file takes 20 ms in the mean, as on a network disk."""
    url = place.url(system)
    begin(system, url)
    slow = shim.environment(slow_locks_ms=20)
    workers = [spawn(system, url, folder / f"{i}.record", "loop", seconds, **slow) for i in range(4)]
    for worker in workers:
        worker.wait(seconds + 90)
    broken, told = judged(system, url, folder)
    took = [float(t) for (t,) in words(folder, "TOOK")]
    broken["calls that failed"] = told["errors"]
    broken["workers crashed"] = sum(w.returncode != 0 for w in workers)
    broken["waits beyond the deadline of 30 s"] = sum(t > 30 for t in took)
    return broken, {**told, "longest wait in s": round(max(took, default=0.0), 2)}


def network(system: str, place: Place, folder: Path, seconds: float) -> Verdict:
    """Four workers behind a proxy that stalls for 3 s, cuts every connection, and loses answers."""
    url = place.url(system)
    begin(system, url)
    port = int(url.partition("127.0.0.1:")[2].partition("/")[0].partition("?")[0])
    rng, cuts, stalls = random.Random(2), 0, 0
    with Proxy(port) as proxy:
        workers = [
            spawn(system, proxied(url, proxy.port), folder / f"{i}.record", "loop", seconds) for i in range(4)
        ]
        ready = wait_for(lambda: len(words(folder, "ACK")) >= 8, 40)
        end = time.monotonic() + seconds * 0.8
        while ready and time.monotonic() < end:
            time.sleep(rng.uniform(0.3, 1.2))
            what = rng.choice(("cut", "cut", "lose", "lose", "stall"))
            if what == "cut":
                cuts += proxy.cut()
            elif what == "lose":
                proxy.lossy = 0.2
                time.sleep(0.5)
                proxy.lossy = 0.0
            else:
                proxy.stalled.set()
                time.sleep(3.0)
                proxy.stalled.clear()
                stalls += 1
        for worker in workers:
            worker.wait(seconds + 90)
    broken, told = judged(system, url, folder)
    begun = {int(n) for n, _ in words(folder, "START")}
    kept = {int(n) for n, _ in words(folder, "ACK")} | {int(n) for (n,) in words(folder, "FENCED")}
    broken["calls that failed"] = told["errors"]
    broken["results dropped"] = len(begun - kept)
    broken["workers crashed"] = sum(w.returncode != 0 for w in workers)
    broken["trials left running"] = calm(system, url)
    return broken, {**told, "connections cut": cuts, "answers lost": proxy.lost, "stalls": stalls}


def torn(system: str, place: Place, folder: Path, seconds: float) -> Verdict:
    """The store's files are cut at many bytes of their last 64 KB; each copy is opened and then written."""
    url = place.url(system)
    for number in (1, 2):
        worker = spawn(system, url, folder / f"{number}.record", "loop", 3600)
        wait_for(lambda least=50 * number: len(words(folder, "ACK")) >= least, 60)  # type: ignore[misc]
        worker.kill()
        worker.wait()
        if number == 1:
            # Closed in order, so that a log beside the file goes into the file.
            opened(system, url).close()
    acks = {int(number): float(value) for number, value in words(folder, "ACK")}
    files = [p for p in folder.iterdir() if p.suffix in (".db", ".log", ".db-wal") or p.name.endswith("-wal")]
    silent = unreadable = opened_again = said = wrong = cuts = 0
    rng = random.Random(3)
    for path in files:
        size = path.stat().st_size
        places = {rng.randrange(max(0, size - 65536), size) for _ in range(40)} if size else set()
        for at in sorted(places):
            cuts += 1
            found = _cut(system, url, folder, path, at, acks)
            silent += found == "silent"
            unreadable += found == "unreadable"
            said += found == "said"
            wrong += found == "wrong"
            opened_again += found == "prefix"
    broken = {
        "cuts after which a value was wrong": wrong,
        "cuts that made results disappear from the middle": silent,
        "cuts after which the study could not be used and no reason was given": unreadable,
    }
    told = {
        "cuts": cuts,
        "acknowledged": len(acks),
        "read up to the cut": opened_again,
        "said to be damaged": said,
    }
    return broken, told


def _cut(system: str, url: str, folder: Path, path: Path, at: int, acks: dict[int, float]) -> str:
    """What became of one copy: ``prefix``, ``said``, ``silent``, ``wrong`` or ``unreadable``."""
    import tunewright.errors as errors

    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in folder.iterdir():
        if file.is_file() and not file.name.endswith(("-shm", ".record", ".lock")):
            shutil.copyfile(file, copy / file.name)
    with (copy / path.name).open("r+b") as handle:
        handle.truncate(at)
    try:
        study = opened(system, url.replace(str(folder), str(copy)))
        rows = study.trials()
        handle_, _, params, _ = study.ask()
        study.tell(handle_, truth(params))
    except (errors.SchemaError, errors.StoreUnavailable):
        return "said"
    except Exception as error:
        return "said" if any(w in _reasons(error) for w in ("malformed", "not a database")) else "unreadable"
    done = {row.number: row.value for row in rows if row.state == "completed"}
    if any(number in acks and value != acks[number] for number, value in done.items()):
        return "wrong"
    last = max(done, default=-1)
    return "silent" if any(number < last and number not in done for number in acks) else "prefix"


def _reasons(error: BaseException | None) -> str:
    """What an error says, and those that caused it."""
    return f"{error} {_reasons(error.__cause__)}".lower() if error is not None else ""


SCENARIOS: dict[str, Callable[[str, Place, Path, float], Verdict]] = {
    "race": race, "reclaim": reclaim, "signals": signals, "slow_locks": slow_locks, "network": network, "torn": torn,
}  # fmt: skip
