"""Which faults a study survives, beside Optuna in the same run: ``python -m benchmarks.crash [--quick]``.

Every row of the table is a fault: processes are killed, stopped and forked, servers die and hang, disks fill up, files
are torn, locks are slow, clocks are wrong, networks lose answers. Every worker keeps its own record of what it began
and what was acknowledged; afterwards the records are compared with the store, and broken promises are counted. Some
rows come from the relbench harness (``TUNEWRIGHT_RELBENCH``), the others are in ``benchmarks.faults``. Rows need
PostgreSQL, root, a C compiler or Optuna; what is not there is said and left out.

``--quick`` kills processes and drivers for a few seconds in every place. ``--only ROW`` runs one row; ``--save`` adds
what was measured to ``benchmarks/results/crash.json`` and writes the page ``docs/concepts/faults.md`` from it. Exits
with 1 unless every promise of ours was kept.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.faults import page, rounds, scenarios, shim, torture
from benchmarks.faults.places import missing, place
from benchmarks.faults.rounds import counted, judge, opened, value_of
from benchmarks.faults.rows import ROWS, Fault
from benchmarks.relbench import harness

Cell = dict[str, Any]
ROUNDS = ("processes", "drivers")
QUICK_SECONDS = 8.0
__all__ = ["cell", "counted", "judge", "main", "measured", "opened", "value_of"]


def absent(fault: Fault, system: str, kind: str) -> str:
    """Why a cell cannot be measured here; empty when it can."""
    if fault.torture is not None and not (harness() / "run.py").is_file():
        return "the relbench harness is not here"
    if "root" in fault.needs and os.geteuid() != 0:
        return "needs the right to mount"
    if "shim" in fault.needs and shim.library() is None:
        return "needs Linux and a C compiler"
    return missing(system, kind)


def measured(key: str, system: str, kind: str, *, quick: bool, seconds: float | None, seed: int) -> Cell:
    """Does one fault to one system in one place."""
    fault = ROWS[key]
    if fault.torture is not None:
        variant = f"sqlite_{kind}" if kind == "wal" else kind
        broken, told = torture.run(fault.torture, f"{system}:{variant}", quick=quick, seed=seed)
        return {"broken": broken, "told": told}
    length = seconds or (QUICK_SECONDS if quick else fault.seconds)
    with tempfile.TemporaryDirectory(prefix="tunewright-crash-") as name, place(kind, Path(name)) as home:
        if key in ROUNDS:
            broken, told = rounds.play(key, Path(name), home.url(system), length, 50, seed)
            if not told["acknowledged"]:
                broken["rounds in which nothing was acknowledged"] = 1
        else:
            broken, told = scenarios.SCENARIOS[key](system, home, Path(name), length)
    return {"broken": broken, "told": told}


def cell(key: str, system: str, kind: str, *, quick: bool, seconds: float | None, seed: int) -> Cell:
    """The same, or why not, with the time it took."""
    reason = absent(ROWS[key], system, kind)
    if reason:
        return {"skipped": reason}
    begun = time.monotonic()
    try:
        found = measured(key, system, kind, quick=quick, seconds=seconds, seed=seed)
    except Exception as error:
        found = {"failed": f"{type(error).__name__}: {error}"[:400]}
    return {**found, "seconds": round(time.monotonic() - begun, 1)}


def show(key: str, system: str, kind: str, found: Cell) -> bool:
    """Prints a cell; returns whether every promise was kept, or nothing could be tested."""
    if "skipped" in found:
        print(f"{key} {system} {kind}: skipped, {found['skipped']}", flush=True)
        return True
    if "failed" in found:
        print(f"{key} {system} {kind}: FAILED to run: {found['failed']}", flush=True)
        return False
    told = ", ".join(f"{v} {k}" for k, v in found["told"].items())
    print(f"{key} {system} {kind} ({found['seconds']} s): {told}")
    for promise, count in found["broken"].items():
        print(f"  {count} {promise}", flush=True)
    return not any(found["broken"].values())


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", choices=ROWS, help="one row; may be given again")
    parser.add_argument("--system", choices=("tunewright", "optuna"), help="only this system")
    parser.add_argument("--place", action="append", help="only these places, such as sqlite or pg")
    parser.add_argument("--seconds", type=float, help="length of each round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", action="store_true", help="keep the figures and write the page")
    parser.add_argument(
        "--page", action="store_true", help="write the page from the kept figures, and do nothing else"
    )
    parser.add_argument("--tell", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--drive", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def versions() -> dict[str, str]:
    """What was measured with."""
    found = {"python": sys.version.split()[0]}
    for package in ("tunewright", "optuna"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def main() -> int:
    """Measures the rows asked for."""
    args = arguments()
    if args.tell:
        rounds.ask_and_tell(args.tell)
    if args.drive:
        rounds.drive(Path(args.drive[0]), int(args.drive[1]))
        return 0
    if args.page:
        page.write(page.load())
        return 0
    good, acknowledged = True, False
    for key in args.only or (ROUNDS if args.quick else ROWS):
        fault = ROWS[key]
        for system, kinds in (("optuna", fault.theirs), ("tunewright", fault.ours)):
            for kind in kinds:
                if args.system not in (None, system) or (args.place and kind not in args.place):
                    continue
                if args.quick and not args.only and kind == "full":
                    continue
                found = cell(key, system, kind, quick=args.quick, seconds=args.seconds, seed=args.seed)
                good &= show(key, system, kind, found) or system != "tunewright"
                acknowledged |= system == "tunewright" and "broken" in found
                if args.save:
                    page.keep(key, system, kind, found, versions())
    if args.save:
        page.write(page.load())
    print("every promise was kept" if good and acknowledged else "PROMISES WERE BROKEN")
    return 0 if good and acknowledged else 1


if __name__ == "__main__":
    raise SystemExit(main())
