"""Puts every comparison with other tools on one page: ``python -m benchmarks.compared`` makes docs/methods/compared.md.

Only stored results are read, so the page can say no more than was measured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import guide

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "methods" / "compared.md"

_HEAD = """# Beside other tools

Every figure on this page was measured on one machine in one run with the tool it is compared to, and is kept under
`benchmarks/results`; `python -m benchmarks.compared` writes the page from there. Machines differ, so read the ratios.
Where we are behind, the row says so. What Tunewright is not for is [another page](../guides/when-not.md).
"""
_WORDS = {
    "import": "`import` of the package",
    "import with Study": "`import` of everything that a study needs",
    "random ask+tell": "ask and tell, random search",
    "random ask+tell at 100000": "the same after 100,000 trials",
    "memory per trial": "memory per finished trial",
}
_PLACES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}


def _read(name: str) -> Any:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _number(value: float) -> str:
    """A figure in words of three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times(ratio: float) -> str:
    return (
        f"{_number(ratio)} times"
        if ratio >= 1.05
        else "no difference"
        if ratio > 0.95
        else f"**{ratio:.2f}**"
    )


def overhead() -> list[str]:
    """Cost of a decision."""
    found = _read("overhead")
    lines = [
        "\n## What a decision costs\n",
        f"`python -m benchmarks.overhead`, CPU time, beside Optuna {found['optuna']}.\n",
        "| what | Tunewright | Optuna | less by |",
        "| --- | --- | --- | --- |",
    ]
    for row in found["table"]:
        what = _WORDS.get(row["what"], row["what"].replace("tpe at", "ask and tell, TPE, after"))
        what = what.replace("gp ask at", "ask, Gaussian process, after")
        ours, theirs = row["tunewright"], row["optuna"]
        lines.append(
            f"| {what} | {ours:.3g} {row['unit']} | {theirs:.3g} {row['unit']} | {_times(theirs / ours)} |"
        )
    return lines


def storage() -> list[str]:
    """Durable trials per second."""
    found = _read("storage")
    rates = {(r["system"], r["kind"], r["processes"]): r["rate"] for r in found["rates"]}
    lines = [
        "\n## Durable trials\n",
        f"`python -m benchmarks.storage`, random search, trials a second over all processes, beside Optuna {found['optuna']}.\n",
        "| where | processes | Tunewright | Optuna | more by |",
        "| --- | --- | --- | --- | --- |",
    ]
    for ours, theirs, words in (
        ("process", "sqlite", "SQLite, survives the death of processes"),
        ("full", "sqlite", "SQLite, survives a power cut as well"),
        ("process", "journal", "SQLite beside Optuna's journal file"),
        ("postgres", "postgres", "PostgreSQL"),
    ):
        for n in (1, 8):
            a, b = rates["tunewright", ours, n], rates["optuna", theirs, n]
            lines.append(f"| {words} | {n} | {_number(a)} | {_number(b)} | {_times(a / b)} |")
    return lines


def faults() -> list[str]:
    """Promises broken under faults."""
    found = _read("crash")
    lines = [
        "\n## What faults cost\n",
        f"`python -m benchmarks.crash`: {len(found['rows'])} faults on every store of both tools, beside Optuna "
        f"{found['versions']['optuna']}; each is told on [its own page](../concepts/faults.md).\n",
        "| tool | cases | in which something was lost, done twice or left running |",
        "| --- | --- | --- |",
    ]
    for tool, name in (("tunewright", "Tunewright"), ("optuna", "Optuna")):
        cases = [
            case for row in found["rows"].values() for case in row.get(tool, {}).values() if "broken" in case
        ]
        broken = sum(any(case["broken"].values()) for case in cases)
        lines.append(f"| {name} | {len(cases)} | {broken} |")
    return lines


def efficiency() -> list[str]:
    """Regret after so many trials."""
    lines = [
        "\n## How good the configurations are\n",
        "`python -m benchmarks.regret`: regret of `auto` over that of the best other tool after so many trials; below 1 is",
        "better. All tools, versions and tasks: [what was measured](measured.md).\n",
        "| problem | 25 | 50 | 100 | 200 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for suite, summary in guide.stored().items():
        pairs = [guide.against(summary, at) for at in guide.AT]
        cells = [f"{p[1]:.2f} ({p[0]})" if p else "-" for p in pairs]
        lines.append(f"| [{guide.KINDS[suite]}](measured.md#{suite}) | " + " | ".join(cells) + " |")
    lines.append("\nWith early stopping: [multi-fidelity methods](multifidelity.md).")
    return lines


def cluster() -> list[str]:
    """Trivial trials on Ray."""
    found = _read("ray")
    ours, theirs = found["rows"]["tunewright"]["wall"], found["rows"]["ray tune"]["wall"]
    return [
        "\n## On a Ray cluster\n",
        f"`python -m benchmarks.ray_bench`, two warm workers, beside Ray Tune {found['ray']}: a trial that does nothing takes "
        f"{ours * 1000:.1f} ms, with Ray Tune {theirs * 1000:.0f} ms ({_times(theirs / ours)}; the start is divided by its trials).",
    ]


def screens() -> list[str]:
    """The dashboard beside Optuna's."""
    found = _read("dashboard")
    if found is None or "optuna_dashboard" not in found:
        return []
    ours, theirs = found["tunewright"], found["optuna_dashboard"]

    def row(what: str, case: str, key: str, unit: str, scale: float = 1.0) -> str:
        a, b = ours[case][key] * scale, theirs[case][key] * scale
        return f"| {what} | {_number(a)} {unit} | {_number(b)} {unit} | {_times(b / a)} |"

    lines = [
        "\n## The dashboard\n",
        f"`python -m benchmarks.dashboard`, headless Chromium without a GPU, the same {found['trials']:,} trials of 20 parameters, beside "
        f"optuna-dashboard {found['peer']}. Cold is the first visit of a new server, warm the next; the load of the machine was "
        f"{found['load_before']:.1f}.\n",
        "| what | Tunewright | optuna-dashboard | less by |",
        "| --- | --- | --- | --- |",
        row("first chart, cold", "chart cold", "chart", "s"),
        row("first chart, warm", "chart warm", "chart", "s"),
        row("parallel coordinates, cold", "parallel cold", "parallel", "s"),
        row("parallel coordinates, warm", "parallel warm", "parallel", "s"),
        row("sent for the first chart, cold", "chart cold", "bytes", "MB", 1e-6),
        row("longest freeze, charts", "chart warm", "freeze_ms", "ms"),
        row("longest freeze, parallel coordinates", "parallel warm", "freeze_ms", "ms"),
    ]
    broken = [sum(map(len, side["axe"].values())) / len(side["axe"]) for side in (found, theirs)]
    many = found["many"]
    return [
        *lines,
        f"| rules of accessibility broken per page (axe) | {broken[0]:g} | {broken[1]:.2g} | |",
        f"\nWith {found['many_trials']:,} trials the overview shows its chart after {_number(many['overview']['chart'])} s, and a step of the "
        f"table takes {_number(many['scroll']['worst_ms'])} ms at worst. A result that another process tells is on the page after "
        f"{_number(found['live']['median'])} s (at worst {_number(found['live']['worst'])} s).",
    ]


def estimators() -> list[str]:
    """SearchCV beside RandomizedSearchCV."""
    found = _read("search_cv")
    if found is None:
        return []
    cost = found["overhead_ms_per_fit"]
    lines = [
        "\n## SearchCV\n",
        f"`python -m benchmarks.search_cv`, digits, {found['candidates']} candidates of {found['folds']} folds, {found['seeds']} seeds, "
        f"beside scikit-learn {found['versions']['scikit-learn']}: gain of the mean score over `RandomizedSearchCV` at equal fits, with its "
        "standard error. Searching costs "
        f'{cost["SearchCV"]:.1f} ms per fit, with `method="tpe"` {cost["SearchCV, method tpe"]:.1f} ms, with `RandomizedSearchCV` '
        f"{cost['RandomizedSearchCV']:.1f} ms.\n",
        "| estimator | cross-validation | unseen data | seeds better / equal / worse |",
        "| --- | --- | --- | --- |",
    ]
    for name, rows in found["estimators"].items():
        ours = rows["ours"]
        seeds = " / ".join(map(str, ours["better_equal_worse"]))
        lines.append(
            f"| {name} | {ours['gain']:+.4f} ± {ours['gain_error']:.4f} | {ours['gain_test']:+.4f} | {seeds} |"
        )
    return lines


def render() -> str:
    """The page as Markdown."""
    parts = (overhead, storage, faults, efficiency, cluster, screens, estimators)
    return "\n".join([_HEAD.rstrip(), *(line for part in parts for line in part())]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    sys.exit(0)
