"""Runs the relbench torture harness on Tunewright: ``python -m benchmarks.relbench kill9 --adapter tunewright:sqlite``.

The harness is copied to a temporary folder together with our adapter, because it writes beside itself. Where it lies
is told by ``TUNEWRIGHT_RELBENCH``, by default ``../shared/relbench``. All arguments go to its ``run.py``; ``list``
lists the scenarios, and ``--script sweep_io.py`` runs another of its scripts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.overhead import ROOT

ADAPTER = ROOT / "benchmarks" / "adapters" / "relbench_tunewright.py"


def harness() -> Path:
    """Folder of the harness; it may be absent."""
    return Path(os.environ.get("TUNEWRIGHT_RELBENCH", ROOT.parent / "shared" / "relbench"))


def run(
    arguments: list[str], script: str = "run.py", *, capture: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs a script of a copy of the harness."""
    with tempfile.TemporaryDirectory(prefix="tunewright-relbench-") as folder:
        copy = Path(folder) / "relbench"
        copy.mkdir()
        for path in (
            p for p in harness().rglob("*.py") if p.relative_to(harness()).parts[0] not in ("work", "out")
        ):
            target = copy / path.relative_to(harness())
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        shutil.copyfile(ADAPTER, copy / "adapters" / "tunewright_ad.py")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, str(copy / script), *arguments],
            env=environment, cwd=copy, text=True, capture_output=capture, check=False,
        )  # fmt: skip


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
