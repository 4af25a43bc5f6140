"""Writes what the races of trainings by step found: ``python -m benchmarks.multifidelity_page``.

Makes docs/methods/multifidelity.md of ``benchmarks/results/multifidelity_*.json`` and ``scheduling.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tunewright.bench.curves import SUITES

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "methods" / "multifidelity.md"
OURS = "tw:"
AUTO = "hypertune"
# Fewer are shown, but not named as the best.
SEEDS = 2

KINDS = {
    "curves": "Networks and boosted trees by epoch: forests fitted to real curves, 81 steps",
    "lcbench": "Networks on 17 tables, 50 epochs, 500 configurations each",
    "arlbench": "Agents, 10 evaluations, 256 configurations: one noisy run is seen, the mean of ten counts",
    "rbv2": "Neighbours, elastic nets and support vectors by share of the data, 20 steps",
    "xgb": "Boosted trees by share of MNIST, 50 steps",
    "algoperf": "Four large workloads, five configurations each: a check that nothing goes wrong, no search",
}

_HEAD = """# Trainings by step: what was measured

This page is generated from `benchmarks/results/multifidelity_*.json` and `scheduling.json` by
`python -m benchmarks.multifidelity_page`; do not edit it. The figures were made by
`python -m benchmarks.multifidelity --save` and `python -m benchmarks.scheduling --save`.

Regret is 0 at the best known value and 1 at that of a median random configuration trained to the end; the result so far
is the best validation value at any step. `1x` is the compute of one full training: steps, of which each is paid once per
configuration, since checkpoints are kept. There is one worker. A configuration has the curve of the nearest recorded
one. *Less compute* is how many times less a tool needs until its mean regret is that of random search with full trainings
in the end. *CPU* is that of deciding alone; for ours it includes the simulated clock and the log. Other tools run with
their defaults, a reduction factor of 3 and at least one step where they ask for it; a training that diverged is told them
as the worst value of a hundred random configurations. Tools with fewer seeds were too slow for more;
with one or two seeds and few tasks, a difference of 0.05 is noise. `auto` is `hypertune` on all of these tasks.
"""


def stored() -> dict[str, dict[str, Any]]:
    """The stored summaries by suite."""
    found = {}
    for suite in SUITES:
        path = RESULTS / f"multifidelity_{suite}.json"
        if path.exists():
            found[suite] = json.loads(path.read_text(encoding="utf-8"))
    return found


def regrets(summary: dict[str, Any], at: str) -> dict[str, float]:
    """Mean regret by tool after ``at`` full trainings' worth of steps, of those with ``SEEDS`` seeds at least."""
    standings = summary["at"][at]["standings"]
    return {s["name"]: float(s["regret"]) for s in standings if s["seeds"] >= SEEDS}


def against(summary: dict[str, Any], at: str) -> float:
    """Mean regret of ``auto`` over the least of any other tool; below 1 ``auto`` is ahead."""
    found = regrets(summary, at)
    others = [r for n, r in found.items() if not n.startswith(OURS)]
    return found[f"{OURS}{AUTO}"] / max(min(others), 1e-9)


def _least(found: dict[str, float], ours: bool) -> str:
    some = {n: r for n, r in found.items() if n.startswith(OURS) == ours}
    if not some:
        return "-"
    best = min(some, key=some.__getitem__)
    return f"{some[best]:.3f} `{best.removeprefix(OURS)}`"


def render() -> str:
    """The page as Markdown."""
    found = stored()
    lines = [
        _HEAD,
        "## In one table\n",
        "The least mean regret of any of our methods and of any other tool, with two seeds at least.\n",
    ]
    at = list(dict.fromkeys(k for summary in found.values() for k in summary["at"]))
    lines += [
        "| suite | | " + " | ".join(f"{k}x" for k in at) + " |",
        "| --- | --- |" + " --- |" * len(at),
    ]
    for suite, summary in found.items():
        for ours, who in ((True, "ours"), (False, "others")):
            cells = [_least(regrets(summary, k), ours) if k in summary["at"] else "-" for k in at]
            lines.append(f"| [{suite}](#{suite}) | {who} | " + " | ".join(cells) + " |")
    lines += [_section(suite, summary) for suite, summary in found.items()]
    return "\n".join([*lines, *_scheduling()]) + "\n"


def _section(suite: str, summary: dict[str, Any]) -> str:
    at = list(summary["at"])
    lines = [
        f"\n## {suite}\n",
        f"{KINDS[suite]}; {len(summary['tasks'])} tasks. Mean regret and, in brackets, mean rank.\n",
        "| tool | "
        + " | ".join(f"{k}x" for k in at)
        + " | less compute | CPU ms per report | seeds | version |",
        "| --- |" + " --- |" * (len(at) + 4),
    ]
    rows = {k: {s["name"]: s for s in summary["at"][k]["standings"]} for k in at}
    for name in _order(summary, rows):
        tool = summary["tools"][name]
        saved = summary["savings"].get(name, {}).get("suite")
        cells = [_cell(rows[k].get(name)) for k in at]
        lines.append(
            f"| {_shown(name)} | {' | '.join(cells)} | {'-' if saved is None else f'{saved:.1f}'} | "
            f"{tool['ms_per_report']:.3f} | {tool['seeds']} | {tool['version']} |"
        )
    if "seconds" in summary:
        lines += _seconds(summary, at)
    return "\n".join(lines)


def _seconds(summary: dict[str, Any], at: list[str]) -> list[str]:
    """The same by recorded run time."""
    rows = {k: {s["name"]: s for s in summary["seconds"][k]["standings"]} for k in at}
    lines = [
        "\nBy recorded run time, in full trainings of a median random configuration:\n",
        "| tool | " + " | ".join(f"{k}x" for k in at) + " |",
        "| --- |" + " --- |" * len(at),
    ]
    shown = [n for n in _order(summary, rows) if any(n in rows[k] for k in at)]
    return lines + [f"| {_shown(n)} | " + " | ".join(_cell(rows[k].get(n)) for k in at) + " |" for n in shown]


def _order(summary: dict[str, Any], rows: dict[str, dict[str, Any]]) -> list[str]:
    """Tools, the least regret at the largest budget first."""
    return sorted(
        summary["tools"],
        key=lambda n: [rows[k][n]["regret"] if n in rows[k] else 9.0 for k in list(rows)[::-1]],
    )


def _cell(standing: dict[str, Any] | None) -> str:
    return f"{standing['regret']:.3f} ({standing['rank']:.1f})" if standing else "-"


def _shown(name: str) -> str:
    return f"`{name.removeprefix(OURS)}`" if name.startswith(OURS) else name


def _scheduling() -> list[str]:
    """The section on what deciding costs, where it was measured."""
    path = RESULTS / "scheduling.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    sizes = list(dict.fromkeys(k for row in found["per_report"].values() for k in row))
    lines = [
        "\n## What deciding costs\n",
        "CPU milliseconds per report after so many reports, six parameters, 81 steps, eight simulated workers; the row",
        "`random` is the simulation itself.\n",
        "| method | " + " | ".join(sizes) + " |",
        "| --- |" + " --- |" * len(sizes),
    ]
    for name, row in found["per_report"].items():
        cells = [f"{row[k]:.3f}" if k in row else "-" for k in sizes]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    scale = found["scale"]
    lines.append(
        f"\n{scale['workers']} simulated workers and {scale['trials']} trials of `asha(random)`, {scale['reports']} reports: "
        f"{scale['cpu_seconds']:.0f} s of CPU time, {scale['peak_mib']:.0f} MiB at the peak.\n"
    )
    lines += [
        "| from pausing a trial to the next step of another | median ms | least ms |",
        "| --- | --- | --- |",
    ]
    for name, row in found["pause_and_resume"].items():
        lines.append(f"| {name} | {row['median_ms']:.1f} | {row['least_ms']:.1f} |")
    return lines


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    sys.exit(0)
