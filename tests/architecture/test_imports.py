"""Who imports whom, and what a bare ``import tunewright`` costs."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import house

HEAVY = [
    "torch",
    "scipy",
    "sqlite3",
    "starlette",
    "uvicorn",
    "rich",
    "click",
    "pandas",
    "polars",
    "pyarrow",
    "sklearn",
    "matplotlib",
    "plotly",
    "ray",
    "psycopg",
    "multiprocessing",
    "asyncio",
    "http",
]
CPU_SECONDS = 0.25


def cold(code: str) -> str:
    """What a fresh interpreter prints for this code; site-packages hooks stay on, as for users."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_bare_import_loads_nothing_heavy() -> None:
    """NumPy is loaded first: it brings modules of its own that are not ours to answer for."""
    loaded = cold(
        "import sys, numpy; before = set(sys.modules); import tunewright; "
        f"print(sorted({{m.partition('.')[0] for m in set(sys.modules) - before}} & set({HEAVY})))"
    )
    assert loaded == "[]", f"import tunewright loads {loaded}"


def test_bare_import_is_fast() -> None:
    """CPU seconds of the import in a fresh interpreter, numpy included; median of five."""
    code = "import time; t = time.process_time(); import tunewright; print(time.process_time() - t)"
    seconds = statistics.median(float(cold(code)) for _ in range(5))
    assert seconds < CPU_SECONDS, f"import tunewright takes {seconds:.3f} s of CPU"


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=house.ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_contract_of_the_design_is_configured() -> None:
    settings = tomllib.loads((house.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]
    contracts = {contract["id"]: contract for contract in settings["contracts"]}
    assert set(contracts) == {
        "layers",
        "pure-decisions",
        "run-knows-no-method",
        "methods-are-independent",
        "torch-stays-where-training-happens",
        "no-cycles",
    }
    assert contracts["layers"]["exhaustive"], "a new folder must take a place in the layers"


@house.every(list(house.python_files("src")))
def test_scipy_is_imported_late_and_never_its_stats(path: Path) -> None:
    """``import scipy.stats`` alone costs over a second of CPU."""
    tree = house.tree(path)
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in (m for m in modules if m.split(".")[0] == "scipy"):
            assert not module.startswith("scipy.stats"), (
                f"{house.name(path)}:{node.lineno} imports scipy.stats"
            )
            assert id(node) in inside, f"{house.name(path)}:{node.lineno} imports {module} at module level"
