"""Kills drivers and workers at random moments and counts broken promises: ``python -m benchmarks.crash [--quick]``.

Two rounds on one SQLite file each. In the first, four processes ask and tell; in the second, a driver runs four worker
processes. Processes are ended with SIGKILL and replaced. Each keeps its own record of what it began and what was
acknowledged, one write per line, so that a kill tears at most the last line. Then one calm run finishes the study, and
the records are compared with the log. Exits with 1 unless every count of broken promises is 0.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tunewright as tw
from tunewright.core.events import Ended, Event, Started
from tunewright.core.events import Record as LogRecord
from tunewright.run.session import Session

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 4
NAPS = (0.002, 0.03)
BROKEN = (
    "acknowledged results lost",
    "results that are wrong",
    "results recorded twice",
    "trial numbers missing or double",
    "enqueued items lost or done twice",
    "trials left running",
    "processes that failed by themselves",
)


def value_of(config: dict[str, Any]) -> float:
    """The truth about a configuration; any process can check it."""
    return float((config["x"] - 0.3) ** 2 + config["n"] / 100)


def train(trial: Any) -> float:
    """A training of a few milliseconds with steps and checkpoints."""
    if trial.until is not None:
        for step in trial.steps():
            time.sleep(random.uniform(*NAPS) / 3)
            trial.report(step, loss=value_of(trial.params) + 1.0 / step)
    return value_of(trial.params)


class Record:
    """One process's own record of the truth."""

    def __init__(self, folder: Path) -> None:
        path = folder / f"{os.getpid()}-{time.time_ns()}.log"
        self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)

    def write(self, *words: object) -> None:
        """One line, in one write."""
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())


def opened(folder: Path, steps: bool) -> tw.Study:
    """The study, made by whoever comes first."""
    return tw.Study.open(
        "crash",
        {"x": tw.Float(0, 1), "n": tw.Int(0, 9)},
        minimize="loss",
        method="random",
        storage=folder / "studies.db",
        steps=3 if steps else None,
        policy=tw.Policy(lease=5.0, max_attempts=1000),
    )


def ask_and_tell(folder: Path) -> None:
    """One process that asks, trains and tells until it is killed."""
    study, record = opened(folder, steps=False), Record(folder)
    while True:
        asked = study.ask()
        if asked is None:
            time.sleep(0.01)
            continue
        time.sleep(random.uniform(*NAPS))
        value = value_of(asked.params)
        with contextlib.suppress(tw.LeaseLost):
            asked.tell(value)
            record.write(asked.number, repr(value))


def drive(folder: Path, trials: int) -> None:
    """A driver with worker processes; what the driver has seen recorded is acknowledged."""
    study, record = opened(folder, steps=True), Record(folder)

    def watch(event: Event, session: Session) -> None:
        if isinstance(event, Ended) and event.outcome == "completed":
            record.write(event.trial, repr((event.metrics or {})["loss"]))

    study.run(train, trials=trials, workers=WORKERS, progress="none", watch=watch)
    study.close()


def spawn(*arguments: object) -> subprocess.Popen[bytes]:
    """This module in a fresh interpreter."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.crash", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)


def children(pid: int) -> list[int]:
    """Process numbers of a process's children."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


class Nemesis:
    """Keeps processes running, and kills them."""

    def __init__(self, folder: Path, commands: list[tuple[object, ...]], seed: int) -> None:
        self.rng = random.Random(seed)
        self.commands = commands
        self.folder = folder
        self.running = [spawn(*command) for command in commands]
        self.kills: collections.Counter[str] = collections.Counter()
        self.failed = 0

    def rage(self, seconds: float, within: bool) -> None:
        """Kills one process every few hundred milliseconds; ``within`` also kills the workers of a driver."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self.rng.uniform(0.1, 0.6))
            slot = self.rng.randrange(len(self.running))
            process = self.running[slot]
            inner = children(process.pid) if within else []
            if inner and self.rng.random() < 0.6:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.rng.choice(inner), signal.SIGKILL)
                self.kills["workers"] += 1
                continue
            self._end(process)
            self.kills["drivers" if within else "processes"] += 1
            self.running[slot] = spawn(*self.commands[slot])

    def rest(self) -> None:
        """Ends what is left."""
        for process in self.running:
            self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        code = process.poll()
        if code not in (None, 0):
            self.failed += 1
        process.kill()
        process.wait()


def judge(folder: Path, items: list[str], failed: int) -> tuple[dict[str, int], dict[str, int]]:
    """Compares the records of all processes with the log: ``(broken promises, other figures)``."""
    acks: collections.defaultdict[int, set[float]] = collections.defaultdict(set)
    for path in folder.glob("*.log"):
        for line in path.read_text().split("\n")[:-1]:
            number, value = line.split()
            acks[int(number)].add(float(value))
    with opened(folder, steps=bool((folder / "steps").exists())) as study:
        session = study.session
        records = session.store.read(session.info.id)
        ledger = session.sync()
    twice, misnumbered = counted(records)
    final = {t.number: t.metrics["loss"] for t in ledger.trials if t.status == "completed"}
    done = collections.Counter(
        t.start.queue for t in ledger.trials if t.start.queue and t.status == "completed"
    )
    broken = dict(zip(BROKEN, [
        sum(values != {final.get(number)} for number, values in acks.items()),
        sum(value != value_of(ledger.trials[number].params) for number, value in final.items()),
        twice,
        misnumbered,
        sum(done[ledger.keys.get(item, -1)] != 1 for item in items),
        len(ledger.running) + len(ledger.waiting),
        failed,
    ], strict=True))  # fmt: skip
    told = {
        "trials": len(ledger.trials),
        "completed": len(final),
        "acknowledged": len(acks),
        "records": len(records),
    }
    return broken, told


def counted(records: list[LogRecord]) -> tuple[int, int]:
    """Trials that ended more than once, and trials whose number is not the next one."""
    ends = collections.Counter(r.event.trial for r in records if isinstance(r.event, Ended))
    numbers = [r.event.trial for r in records if isinstance(r.event, Started)]
    return sum(c > 1 for c in ends.values()), sum(n != place for place, n in enumerate(numbers))


def round_of(kind: str, seconds: float, trials: int, seed: int) -> bool:
    """One round; prints its figures and returns whether every promise was kept."""
    with tempfile.TemporaryDirectory(prefix="tunewright-crash-") as name:
        folder, rng = Path(name), random.Random(seed)
        steps = kind == "drivers"
        if steps:
            (folder / "steps").touch()
        items = [f"item-{i}" for i in range(20)]
        with opened(folder, steps) as study:
            for item in items:
                study.enqueue({"x": rng.random(), "n": rng.randrange(10)}, key=item)
        commands: list[tuple[object, ...]]
        if steps:
            commands = [("--drive", folder, 10**6)]
        else:
            commands = [("--tell", folder)] * WORKERS
        nemesis = Nemesis(folder, commands, seed)
        nemesis.rage(seconds, within=steps)
        nemesis.rest()
        calm(folder, steps, trials)
        broken, told = judge(folder, items, nemesis.failed)
    kills = ", ".join(f"{count} {what}" for what, count in nemesis.kills.items())
    print(f"{kind}: killed {kills}; " + ", ".join(f"{count} {what}" for what, count in told.items()))
    for promise, count in broken.items():
        print(f"  {count} {promise}")
    sys.stdout.flush()
    if not told["acknowledged"]:
        print("  nothing was acknowledged, so nothing was tested")
    return not any(broken.values()) and told["acknowledged"] > 0


def calm(folder: Path, steps: bool, trials: int) -> None:
    """Finishes what was left: begins no trial beyond those there are, except to reach ``trials``."""
    with opened(folder, steps) as study:
        study.run(train, trials=max(trials, len(study.trials)), progress="none")


def main() -> int:
    """Runs both rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, help="length of each round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tell", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--drive", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tell:
        ask_and_tell(args.tell)
    if args.drive:
        drive(Path(args.drive[0]), int(args.drive[1]))
        return 0
    seconds = args.seconds or (15.0 if args.quick else 120.0)
    kept = [round_of(kind, seconds, 50, args.seed) for kind in ("processes", "drivers")]
    print("every promise was kept" if all(kept) else "PROMISES WERE BROKEN")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    raise SystemExit(main())
