"""Two rounds of kills on one study: processes that ask and tell, and drivers with worker processes.

Processes are ended with SIGKILL and replaced. Each keeps its own record of what was acknowledged, one write per line,
so that a kill tears at most the last line. Then one calm run finishes the study, and the records are compared with the
log.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import tunewright as tw
from benchmarks.faults.worker import Record
from benchmarks.overhead import ROOT
from tunewright.core.events import Ended, Event, Started
from tunewright.core.events import Record as LogRecord
from tunewright.run.session import Session

WORKERS = 4
NAPS = (0.002, 0.03)
# What is killed before it has said anything says little about what is lost.
SPARED, PATIENCE = 0.9, 5.0
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


def opened(folder: Path, steps: bool) -> tw.Study:
    """The study, made by whoever comes first: in the folder, or where its file ``address`` says."""
    address = folder / "address"
    return tw.Study.open(
        "crash",
        {"x": tw.Float(0, 1), "n": tw.Int(0, 9)},
        minimize="loss",
        method="random",
        storage=address.read_text() if address.exists() else folder / "studies.db",
        steps=3 if steps else None,
        policy=tw.Policy(lease=5.0, max_attempts=1000),
    )


def ask_and_tell(folder: Path) -> None:
    """One process that asks, trains and tells until it is killed."""
    study, record = opened(folder, steps=False), recorder(folder)
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
    study, record = opened(folder, steps=True), recorder(folder)

    def watch(event: Event, session: Session) -> None:
        if isinstance(event, Ended) and event.outcome == "completed":
            record.write(event.trial, repr((event.metrics or {})["loss"]))

    study.run(train, trials=trials, workers=WORKERS, progress="none", watch=watch)
    study.close()


def recorder(folder: Path) -> Record:
    """One process's own record of the truth."""
    return Record(str(folder / f"{os.getpid()}-{time.time_ns()}.ack"))


def spawn(*arguments: object) -> subprocess.Popen[bytes]:
    """A process of the benchmark in a fresh interpreter."""
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
        """Kills one process every few hundred milliseconds; ``within`` also kills the workers of a driver.

        Most are killed only once they have had something acknowledged, and on a machine so busy that none has, the
        round takes longer.
        """
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds or (
            passed < PATIENCE * seconds and not self._spoken("*")
        ):
            time.sleep(self.rng.uniform(0.1, 0.6))
            slot = self.rng.randrange(len(self.running))
            process = self.running[slot]
            mute = not self._spoken(f"{process.pid}-*")
            if mute and self.rng.random() < SPARED:
                continue
            inner = children(process.pid) if within else []
            if inner and self.rng.random() < 0.6:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.rng.choice(inner), signal.SIGKILL)
                self.kills["workers"] += 1
                continue
            self._end(process)
            self.kills["drivers" if within else "processes"] += 1
            self.running[slot] = spawn(*self.commands[slot])

    def _spoken(self, who: str) -> bool:
        """Whether anything was acknowledged to these processes."""
        return any(path.stat().st_size for path in self.folder.glob(f"{who}.ack"))

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
    for path in folder.glob("*.ack"):
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
    # Over HTTP the server's policy holds, which gives a trial up when three of its workers were lost.
    given_up = {t.start.queue for t in ledger.trials if t.status == "lost" and "was lost" in (t.error or "")}
    broken = dict(zip(BROKEN, [
        sum(values != {final.get(number)} for number, values in acks.items()),
        sum(value != value_of(ledger.trials[number].params) for number, value in final.items()),
        twice,
        misnumbered,
        sum(done[key] != 1 and key not in given_up for key in (ledger.keys.get(item, -1) for item in items)),
        len(ledger.running) + len(ledger.waiting),
        failed,
    ], strict=True))  # fmt: skip
    told = {
        "trials": len(ledger.trials),
        "completed": len(final),
        "given up after 3 lost workers": sum(t.status == "lost" for t in ledger.trials),
        "acknowledged": len(acks),
        "records": len(records),
    }
    return broken, told


def counted(records: list[LogRecord]) -> tuple[int, int]:
    """Trials that ended more than once, and trials whose number is not the next one."""
    ends = collections.Counter(r.event.trial for r in records if isinstance(r.event, Ended))
    numbers = [r.event.trial for r in records if isinstance(r.event, Started)]
    return sum(c > 1 for c in ends.values()), sum(n != place for place, n in enumerate(numbers))


def play(
    kind: str, folder: Path, url: str, seconds: float, trials: int, seed: int
) -> tuple[dict[str, int], dict[str, int]]:
    """One round, of ``processes`` or of ``drivers``; returns ``(broken promises, other figures)``."""
    rng, steps = random.Random(seed), kind == "drivers"
    (folder / "address").write_text(url)
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
    try:
        nemesis.rage(seconds, within=steps)
    finally:
        nemesis.rest()
    calm(folder, steps, trials)
    broken, told = judge(folder, items, nemesis.failed)
    return broken, {**{f"{what} killed": count for what, count in nemesis.kills.items()}, **told}


def calm(folder: Path, steps: bool, trials: int) -> None:
    """Finishes what was left: begins no trial beyond those there are, except to reach ``trials``."""
    with opened(folder, steps) as study:
        study.run(train, trials=max(trials, len(study.trials)), progress="none")
