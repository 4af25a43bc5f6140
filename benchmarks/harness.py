"""The peerbench harness with Tunewright in it: ``python -m benchmarks.harness --suite mf``.

Drives the peerbench harness (``TUNEWRIGHT_PEERBENCH``, by default ``../shared/peerbench``) with our adapter put into a
temporary copy of it, one adapter after another, and prints its tables. Suites: ``hpo`` (eight tasks without epochs),
``mf`` (five with epochs), or any problem names of the harness. Peers must be installed in this environment; those that
are not are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tunewright.bench.tables import folder

ADAPTER = Path(__file__).parent / "adapters" / "peerbench_tunewright.py"
DEFAULTS = {
    "hpo": "tw_random,tw_tpe,tw_gp,tw_auto,optuna_tpe",
    "mf": "mf_tw_random,mf_tw_asha,mf_tw_hyperband,mf_tw_auto,mf_optuna_tpe_hb",
}
BUDGETS = {"hpo": 200, "mf": 50}
QUICK_BUDGETS = {"hpo": 50, "mf": 16}


def copied(harness: Path, into: Path) -> Path:
    """A writable copy of the harness with our adapter in it; its tables are linked."""
    home = into / "peerbench"
    shutil.copytree(harness, home, ignore=shutil.ignore_patterns("tables", "results", "__pycache__"))
    for path in [home, *home.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
    (home / "tables").symlink_to(harness / "tables")
    (home / "results").mkdir()
    shutil.copy(ADAPTER, home / "adapters" / "tunewright_ad.py")
    return home


def is_ours(adapter: str) -> bool:
    """Whether an adapter is Tunewright's."""
    return adapter.removeprefix("mf_").startswith("tw_")


def usable(adapter: str) -> bool:
    """Whether an adapter's package is installed here."""
    if is_ours(adapter) or adapter.removeprefix("mf_") == "random":
        return True
    package = adapter.removeprefix("mf_").partition("_")[0]
    return importlib.util.find_spec({"syne": "syne_tune"}.get(package, package)) is not None


def run_one(home: Path, adapter: str, given: argparse.Namespace, environment: dict[str, str]) -> None:
    """Runs one adapter in its own interpreter."""
    kind = "mf" if adapter.startswith("mf_") else "sample"
    out = home / "results" / f"{'E' if kind == 'mf' else 'D_x'}_{adapter}.json"
    command = [sys.executable, str(home / "worker.py"), kind, "--adapter", adapter, "--problem", given.suite]
    command += ["--seeds", str(given.seeds), "--budget", str(given.budget), "--cap", str(given.cap)]
    subprocess.run([*command, "--out", str(out)], env=environment, check=True)
    print(f"{adapter} done", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Runs the harness and prints its tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harness", description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="hpo", help="hpo, mf, or names of problems")
    parser.add_argument("--adapters", help="names, separated by commas")
    parser.add_argument("--seeds", type=int, help="seeds per problem; 10, or 2 when quick")
    parser.add_argument("--quick", action="store_true", help="two seeds and about a quarter of the budget")
    parser.add_argument("--budget", type=int, help="trials, or full trainings' worth of epochs")
    parser.add_argument("--cap", type=float, default=600.0, help="CPU seconds per adapter")
    parser.add_argument("--keep", type=Path, help="folder for the raw results")
    given = parser.parse_args(argv)
    given.seeds = given.seeds or (2 if given.quick else 10)
    budgets = QUICK_BUDGETS if given.quick else BUDGETS
    given.budget = given.budget or budgets.get(given.suite, budgets["hpo"])
    harness = folder("peerbench")
    if not (harness / "worker.py").exists():
        parser.error(f"The harness must be a folder with worker.py; got {harness}. Set TUNEWRIGHT_PEERBENCH.")
    wanted = (given.adapters or DEFAULTS.get(given.suite, DEFAULTS["hpo"])).split(",")
    chosen = [a for a in wanted if usable(a)]
    for left_out in sorted(set(wanted) - set(chosen)):
        print(f"{left_out} left out: not installed here")
    ours = ",".join(f"{a}=tunewright_ad" for a in chosen if is_ours(a))
    environment = {**os.environ, "REGISTRY_EXTRA": ours, "OMP_NUM_THREADS": "1"}
    environment.pop("PEERBENCH_VENVS", None)
    with tempfile.TemporaryDirectory() as scratch:
        home = copied(harness, Path(scratch))
        for adapter in chosen:
            run_one(home, adapter, given, environment)
        kind = "mf" if chosen[0].startswith("mf_") else "sample"
        report = [sys.executable, str(home / "report.py"), kind, "--adapters", ",".join(chosen)]
        subprocess.run([*report, "--suite", given.suite], env=environment, check=True)
        if given.keep is not None:
            shutil.copytree(home / "results", given.keep, dirs_exist_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
