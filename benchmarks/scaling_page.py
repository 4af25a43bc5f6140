"""Puts what was measured of settings that survive a change of size on one page: ``python -m benchmarks.scaling_page``.

Only stored results are read, so the page can say no more than was measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "methods" / "scaling-measured.md"

_HEAD = """# Across sizes, measured

What parametrizations, scaling laws, models of time and proxy studies came to here, beside what their papers say: small models on
one thread of a processor. `python -m benchmarks.scaling` measures, `python -m benchmarks.scaling_page` writes this page from what is
kept under `benchmarks/results`. Where something was not reached, the row says **no**; an empty last column means that nothing was claimed.
What the papers' own claims came to is on the page of [claims](claims.md).
"""
_WORDS = {True: "yes", False: "**no**", None: ""}
_BASES = {
    "full": "copies, kernels and FLOPs",
    "copies": "copies alone",
    "flops": "FLOPs of all products",
    "flops-curve": "a curve in FLOPs",
    "6 x weights x tokens": "6 FLOPs a weight and token",
}


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def _cells(title: str, start: str, said: str) -> list[str]:
    """Rows of the benchmark's own cells whose names begin so."""
    found = [row for name, row in _read("scaling")["cells"].items() if name.startswith(start)]
    rows = [(r["what"], r["reference"], r["measured"], _WORDS[r["reached"]]) for r in found]
    return [f"\n## {title}\n", said, "", *_table(("what", "reference", "measured", "reached"), rows)]


def coordinates() -> list[str]:
    """Changes of scores and hidden units."""
    return _cells(
        "Coordinate checks",
        "coordinates/",
        "A network with three layers on scikit-learn's digits, what three steps change at growing widths, five seeds; the references "
        "are measurements with Adam at 2^-7 made elsewhere. A parametrization passes if no change follows the width by a power beyond 1/4.",
    )


def rates() -> list[str]:
    """Best rates over sizes."""
    return _cells(
        "Where the best rate lies",
        "rates/",
        "Binary logarithm of the best rate on a grid by factors of two, five seeds, in the units of each rule; one that claims transfer "
        "may move by one step. The networks on digits train for 200 steps, the transformers over letters for 120. A standard "
        "parametrization ends low at large widths, at rates that small ones do not tell.",
    )


def others() -> list[str]:
    """microsoft/mup, published laws, critical batch sizes."""
    lines = _cells(
        "Beside microsoft/mup",
        "mup",
        "Rates and first variances of every tensor of the same network.",
    )
    for title, name, said in (
        (
            "Scaling laws on released runs",
            "scaling_laws",
            "`python -m benchmarks.scaling_laws`: the nearest cell of a grid to what a law says, and exponents of released runs. Each grid "
            "is of really trained language models.",
        ),
        (
            "Critical batch size",
            "scaling_batch",
            "`python -m benchmarks.scaling_batch`: small transformers over letters, and least squares in closed form, five seeds.",
        ),
    ):
        rows = [(r["what"], r["reference"], r["measured"], _WORDS[r["reached"]]) for r in _read(name)["rows"]]
        lines += [f"\n## {title}\n", said, "", *_table(("what", "reference", "measured", "reached"), rows)]
    return lines


def times() -> list[str]:
    """Models of step times."""
    rows = [
        (
            _BASES[r["model"]],
            str(r["coefficients"]),
            f"{100 * r['mean_error']:.1f} %",
            f"{100 * r['median_error']:.1f} %",
        )
        for r in _read("scaling_time")["rows"]
    ]
    return [
        "\n## How long a step takes\n",
        "`python -m benchmarks.scaling_time`: 30 shapes of transformers calibrate, 30 others judge; errors relative to measured processor time.",
        "",
        *_table(("from", "coefficients", "mean error", "median error"), rows),
    ]


def proxies() -> list[str]:
    """Proxy studies against direct tuning."""
    rows = []
    for r in _read("scaling_proxy")["rows"]:
        gaps = [
            f"{r[k][0]:+.4f} ± {r[k][1]:.4f} to direct, {k.removeprefix('against_')}"
            for k in ("against_sp", "against_mup")
            if k in r
        ]
        rows.append(
            (
                r["task"],
                r["search"],
                f"{r['loss']:.4f}",
                f"{r['cost']:.2f}",
                f"{r['seconds']:.1f} s",
                "; ".join(gaps),
            )
        )
    return [
        "\n## Transfer against direct tuning\n",
        "`python -m benchmarks.scaling_proxy`: loss of the target on unseen data, trained anew with what each search found, mean of five "
        "searches. Costs are in trainings of the target by 6 N D; models this small take hardly less time than the target, so seconds do not "
        "follow.",
        "",
        *_table(("task", "search", "loss", "cost", "processor time", "against five times the cost"), rows),
    ]


def render() -> str:
    """The page as Markdown."""
    parts = (coordinates, rates, proxies, times, others)
    return "\n".join([_HEAD.rstrip(), *(line for part in parts for line in part())]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    sys.exit(0)
