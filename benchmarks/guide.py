"""Writes what the comparisons found, by kind of problem: ``python -m benchmarks.guide`` makes docs/methods/measured.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "methods" / "measured.md"
OURS = "tw_"
AT = ("25", "50", "100", "200")
# A method is as good as the best one when its mean regret is within this factor.
LEVEL = 1.1

KINDS = {
    "hpo": "Classifiers: 6 to 10 numbers and choices, some nested",
    "real": "Recorded tunings: kernels, databases, networks, chemistry",
    "bbob": "5 numbers, smooth to rugged",
    "bbob10": "10 numbers, smooth to rugged",
    "mixint": "10 parameters, 8 of them whole numbers",
    "highdim": "60 to 100 parameters",
    "biobj": "Two losses, 5 numbers",
}

_HEAD = """# What was measured

This page is generated from `benchmarks/results/regret_*.json` by `python -m benchmarks.guide`; do not edit it. The
figures were made by `python -m benchmarks.regret --suite NAME --save` ([how to read them](../guides/benchmarks.md)):
regret is 0 at the best known loss and 1 at that of a median random configuration. What follows from them is in
[choosing a method](choosing.md).

## In one table

The methods with the least mean regret after so many trials: the best of those that were run, and those within a tenth of it.
"""


def stored() -> dict[str, dict[str, Any]]:
    """The stored summaries by suite, in the order of ``KINDS``."""
    found = {}
    for suite in KINDS:
        path = RESULTS / f"regret_{suite}.json"
        if path.exists():
            found[suite] = json.loads(path.read_text(encoding="utf-8"))
    return found


def regrets(summary: dict[str, Any], at: str) -> dict[str, float]:
    """Mean regret by tool after ``at`` trials; empty where nobody ran so far."""
    entry = summary["at"].get(at)
    return {s["name"]: float(s["regret"]) for s in entry["standings"]} if entry else {}


def leaders(summary: dict[str, Any], at: str) -> list[str]:
    """Our methods with the least regret after ``at`` trials, best first, without the prefix."""
    ours = {n: r for n, r in regrets(summary, at).items() if n.startswith(OURS)}
    if not ours:
        return []
    least = min(ours.values())
    return [n.removeprefix(OURS) for n in sorted(ours, key=ours.__getitem__) if ours[n] <= LEVEL * least]


def against(summary: dict[str, Any], at: str) -> tuple[str, float] | None:
    """The other tool with the least regret after ``at`` trials, and ``auto``'s regret over its."""
    found = regrets(summary, at)
    theirs = {n: r for n, r in found.items() if not n.startswith(OURS)}
    if not theirs or "tw_auto" not in found:
        return None
    best = min(theirs, key=theirs.__getitem__)
    return best, found["tw_auto"] / theirs[best]


def render() -> str:
    """The page as Markdown."""
    found = stored()
    lines = [_HEAD, "| problem | 25 | 50 | 100 | 200 |", "| --- | --- | --- | --- | --- |"]
    for suite, summary in found.items():
        cells = [", ".join(f"`{n}`" for n in leaders(summary, at)) or "-" for at in AT]
        lines.append(f"| [{KINDS[suite]}](#{suite}) | " + " | ".join(cells) + " |")
    lines += [
        "\n## `auto` beside other tools\n",
        "Regret of `auto` over that of the best other tool; below 1 is better.\n",
    ]
    lines += ["| problem | 25 | 50 | 100 | 200 |", "| --- | --- | --- | --- | --- |"]
    for suite, summary in found.items():
        pairs = [against(summary, at) for at in AT]
        cells = [f"{p[1]:.2f} ({p[0]})" if p else "-" for p in pairs]
        lines.append(f"| {KINDS[suite]} | " + " | ".join(cells) + " |")
    lines += [_section(suite, summary) for suite, summary in found.items()]
    lines += _workers()
    return "\n".join(lines) + "\n"


def _workers() -> list[str]:
    """The section on eight trials at a time, where it was measured."""
    path = RESULTS / "regret_parallel.json"
    if not path.exists():
        return []
    found: dict[str, dict[str, dict[str, float]]] = json.loads(path.read_text(encoding="utf-8"))["workers"]
    lines = [
        "\n## parallel\n",
        "The tasks of `hpo` with eight trials at a time on a simulated clock. Mean regret after so many trials one by one, eight at a",
        "time, and of one by one in the time that eight at a time take.\n",
        "| tool | trials | one by one | eight at a time | one by one, same time |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, rows in found.items():
        for at in ("50", "100"):
            r = rows[at]
            lines.append(
                f"| {name} | {at} | {r['serial']:.3f} | {r['parallel']:.3f} | {r['same_time']:.3f} |"
            )
    return lines


def _section(suite: str, summary: dict[str, Any]) -> str:
    at = [k for k in AT if k in summary["at"]]
    lines = [
        f"\n## {suite}\n",
        f"{KINDS[suite]}: {len(summary['tasks'])} tasks. Mean regret and, in brackets, mean rank.\n",
        "| tool | " + " | ".join(at) + " | CPU ms per trial | seeds | version |",
        "| --- |" + " --- |" * (len(at) + 3),
    ]
    rows = {k: {s["name"]: s for s in summary["at"][k]["standings"]} for k in at}
    for name in sorted(rows[at[0]], key=lambda n: [rows[k][n]["regret"] for k in at if n in rows[k]][::-1]):
        tool = summary["tools"][name]
        cells = [
            f"{rows[k][name]['regret']:.3f} ({rows[k][name]['rank']:.1f})" if name in rows[k] else "-"
            for k in at
        ]
        lines.append(
            f"| {name} | "
            + " | ".join(cells)
            + f" | {tool['ms_per_evaluation']:.1f} | {tool['seeds']} | {tool['version']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    sys.exit(0)
