"""Runs the relbench torture harness on Tunewright: ``python -m benchmarks.relbench kill9 --adapter tunewright:sqlite``.

The harness is copied to a temporary folder together with our adapter, because it writes beside itself. Where it lies
is told by ``TUNEWRIGHT_RELBENCH``, by default ``../shared/relbench``. All arguments go to its ``run.py``; ``list``
lists the scenarios, and ``--script sweep_io.py`` runs another of its scripts. Where libfaketime is not installed, the
``clock`` scenario gets the wrong clock of ``benchmarks.faults.shim`` instead.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.faults.shim import library
from benchmarks.overhead import ROOT

ADAPTER = ROOT / "benchmarks" / "adapters" / "relbench_tunewright.py"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


def harness() -> Path:
    """Folder of the harness; it may be absent."""
    return Path(os.environ.get("TUNEWRIGHT_RELBENCH", ROOT.parent / "shared" / "relbench"))


def run(
    arguments: list[str], script: str = "run.py", *, capture: bool = False, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a script of a copy of the harness.

    Raises:
        subprocess.TimeoutExpired: If it takes longer than ``timeout`` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="tunewright-relbench-") as folder:
        # A database server runs as another user, who must be able to enter.
        Path(folder).chmod(0o755)
        copy = Path(folder) / "relbench"
        _copy(copy)
        more = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(more),
        }  # fmt: skip
        try:
            return subprocess.run(
                [sys.executable, str(copy / script), *arguments],
                env=environment, cwd=copy, text=True, capture_output=capture, check=False, timeout=timeout,
            )  # fmt: skip
        finally:
            _end_databases(copy)


def _copy(copy: Path) -> None:
    for folder in (copy, copy / "work", copy / "out"):
        folder.mkdir()
    for path in (
        p for p in harness().rglob("*.py") if p.relative_to(harness()).parts[0] not in ("work", "out")
    ):
        target = copy / path.relative_to(harness())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copyfile(ADAPTER, copy / "adapters" / "tunewright_ad.py")
    if not Path(FAKETIME).exists() and library() is not None:
        script = copy / "run.py"
        script.write_text(script.read_text().replace(FAKETIME, str(library())))


def _end_databases(copy: Path) -> None:
    """Ends servers that a scenario left behind because it was cut short."""
    for path in copy.rglob("postmaster.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(path.read_text().split()[0])
            if str(path.parent).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGQUIT)


def main() -> int:
    """Passes the arguments on."""
    if not (harness() / "run.py").is_file():
        print(f"relbench is not in {harness()}; set TUNEWRIGHT_RELBENCH", file=sys.stderr)
        return 2
    arguments, script = sys.argv[1:], "run.py"
    if arguments[:1] == ["--script"]:
        script, arguments = arguments[1], arguments[2:]
    if script == "run.py" and "--adapter" not in arguments:
        arguments += ["--adapter", "tunewright:sqlite"]
    return run(arguments, script).returncode


if __name__ == "__main__":
    raise SystemExit(main())
