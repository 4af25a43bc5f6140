"""What tuning an unchanged script costs over the script itself, and how soon commands answer: ``python -m benchmarks.scripts``.

The script prints one metric and ends. It is run alone and as trials of a study, in turns, so that a busy machine disturbs
both alike. Overhead is the median time from one trial to the next less the median time of the script; the processor time is
that of everything the run started, per trial, less that of the script. Commands are timed in a store of ten studies, with byte code in place.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results" / "scripts.json"
GOALS = {"overhead wall": 0.1, "overhead cpu": 0.1, "--help": 0.15, "ls": 0.25, "best": 0.25}
SCRIPT = "import sys\nprint(f'loss={float(sys.argv[1])}')\n"
TUNEWRIGHT = [sys.executable, "-m", "tunewright"]


def timed(words: list[str], folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of a command with all that it started."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, cwd=folder, check=True, capture_output=True, env=quiet())
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def quiet() -> dict[str, str]:
    """The environment, without stores of the user's and with one thread."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TUNEWRIGHT", "PYTHONDONTWRITE"))}
    return kept | {
        "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "tunewright-bytecode"),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def overhead(folder: Path, trials: int, rounds: int) -> dict[str, float]:
    """Seconds per trial over the script's own, of wall and of processor time."""
    (folder / "t.py").write_text(SCRIPT)
    walls: list[float] = []
    alone: list[float] = []
    work: list[float] = []
    own: list[float] = []
    for i in range(rounds):
        for _ in range(trials // 2):
            wall, cpu = timed([sys.executable, "t.py", "0.5"], folder)
            alone.append(wall)
            own.append(cpu)
        name, base = (
            f"s{i}",
            ["--method", "random", "--progress", "none", "--", sys.executable, "t.py", "{x:0.0..1.0}"],
        )
        _, one = timed(
            [*TUNEWRIGHT, "run", "--minimize", "loss", "--name", f"one{i}", "--trials", "1", *base], folder
        )
        _, all_ = timed(
            [*TUNEWRIGHT, "run", "--minimize", "loss", "--name", name, "--trials", str(trials), *base], folder
        )
        work.append((all_ - one) / (trials - 1))
        found = json.loads(
            subprocess.run(
                [*TUNEWRIGHT, "trials", name, "--json"], cwd=folder, check=True, capture_output=True
            ).stdout
        )
        walls += [b - a for a, b in pairwise([t["started"] for t in found])]
    return {
        "script wall": statistics.median(alone),
        "trial wall": statistics.median(walls),
        "overhead wall": statistics.median(walls) - statistics.median(alone),
        "overhead cpu": statistics.median(work) - statistics.median(own),
    }


def answers(folder: Path, rounds: int) -> dict[str, float]:
    """Processor seconds of commands that read, the median."""
    made = (
        "import tunewright as tw\n"
        "for i in range(10):\n"
        "    s = tw.Study.open(f'a{i}', {'x': tw.Float(0, 1), 'o': tw.Choice(['a', 'b'])}, method='random', storage='a.db')\n"
        "    s.run(lambda x, o: x, trials=50, progress='none')\n"
    )
    subprocess.run([sys.executable, "-c", made], cwd=folder, check=True, env=quiet())
    out = {}
    for words in (["--help"], ["ls", "--storage", "a.db"], ["best", "a3", "--storage", "a.db"]):
        timed([*TUNEWRIGHT, *words], folder)  # for the byte code, which an installation has
        out[words[0]] = statistics.median(timed([*TUNEWRIGHT, *words], folder)[1] for _ in range(rounds))
    return out


def measure(quick: bool) -> dict[str, Any]:
    """All figures, with what they were measured on."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found = overhead(folder, 10 if quick else 30, 1 if quick else 5) | answers(folder, 3 if quick else 11)
    return {
        "seconds": {k: round(v, 4) for k, v in found.items()},
        "goals": GOALS,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> int:
    """Prints the table; keeps it unless ``--quick``; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, and nothing is kept")
    given = parser.parse_args()
    found = measure(given.quick)
    missed = 0
    for name, value in found["seconds"].items():
        goal = GOALS.get(name)
        good = goal is None or value <= goal
        missed += not good
        print(
            f"{name:14} {value * 1000:7.1f} ms"
            + (f"   goal {goal * 1000:.0f} ms" if goal else "")
            + ("" if good else "   MISSED")
        )
    if not given.quick:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
