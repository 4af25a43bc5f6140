"""What a claim is, what checking it gives, and how that is stored."""

from __future__ import annotations

import importlib
import json
import pkgutil
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np

import claims

Verdict = Literal["holds", "holds at reduced scale", "not reproduced", "cannot be checked here"]
RESULTS = Path(__file__).parent / "results"
_INFRASTRUCTURE = frozenset(
    {
        "__main__",
        "architectures",
        "families",
        "networks",
        "record",
        "page",
        "study",
        "weights",
        "curve_models",
        "hub",
        "crowds",
        "rates",
        "linear_models",
        "least_squares",
        "digit_sweeps",
        "micro_lm",
        "transfer",
    }
)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a paper says, and how it is checked here.

    Args:
        title: The claim in a sentence.
        paper: Authors, year, where, and the place in it.
        check: What is compared here with what, at what scale.
        rule: How the figures decide about the verdict, fixed before the run.
    """

    title: str
    paper: str
    check: str
    rule: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a check came to.

    Args:
        verdict: See ``Verdict``.
        summary: The outcome in a sentence or two, with its figures.
        baseline: What the method was compared with.
        test: The statistical test, its direction and its pairs.
        seeds: Seeds of the studies.
        figures: Measured numbers by name.
    """

    verdict: Verdict
    summary: str
    baseline: str
    test: str
    seeds: tuple[int, ...]
    figures: dict[str, float | int | str] = field(default_factory=dict)


def names() -> list[str]:
    """Every claim of the package, in alphabetical order."""
    found = (m.name for m in pkgutil.iter_modules(claims.__path__))
    return sorted(n for n in found if n not in _INFRASTRUCTURE)


def load(name: str) -> ModuleType:
    """The module of a claim.

    Raises:
        SystemExit: If there is none of that name.
    """
    if name not in names():
        raise SystemExit(f"A claim must be one of {', '.join(names())}; got '{name}'.")
    return importlib.import_module(f"claims.{name}")


def check(name: str, *, quick: bool) -> dict[str, object]:
    """Runs a claim; a full run is stored."""
    module = load(name)
    run: Callable[[bool], Result] = module.run
    began = time.process_time()
    result = run(quick)
    record: dict[str, object] = {
        "claim": name,
        **asdict(module.CLAIM),
        **_plain(asdict(result)),
        "quick": quick,
        "cpu_seconds": round(time.process_time() - began, 1),
        "versions": versions(),
    }
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{name}.json"
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return record


def stored(name: str) -> dict[str, object] | None:
    """The stored result of a claim, or None."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    record: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return record


def versions() -> dict[str, str]:
    """What the figures depend on."""
    found = {name: metadata.version(name) for name in ("numpy", "scipy", "tunewright")}
    return {"python": platform.python_version(), **found}


def _plain(data: Mapping[str, object]) -> dict[str, object]:
    """The same with NumPy scalars as plain numbers, and floats at five significant digits."""

    def plain(value: object) -> object:
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, np.integer):
            return int(value)
        return float(f"{value:.5g}") if isinstance(value, float | np.floating) else value

    return {k: plain(v) for k, v in data.items()}
