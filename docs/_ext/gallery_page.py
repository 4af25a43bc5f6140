"""Writes the gallery: a picture of every chart, drawn from the sample studies, and every example program."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from tunewright.analysis import plots
from tunewright.errors import TunewrightError
from tunewright.store.memory import MemoryStore
from tunewright.study import Study

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "gallery"
# The study that a chart is drawn from is the first of these that it suits.
STUDIES = ("digits", "error and latency", "population", "rates tuned inside", "small to large", "net-tpe-0")
FIRST = {"pareto": "error and latency", "hypervolume": "error and latency", "lineage": "population"}


def charts() -> str:
    """The page of charts; draws the pictures beside it."""
    sys.path.insert(0, str(ROOT))
    from tools import sample_studies

    store = MemoryStore()
    names = sample_studies.make(store)
    studies = {name: Study.open(name, storage=store) for name in STUDIES if name in names}
    lines = [
        "# Charts",
        "",
        "Every chart of the dashboard, as `study.plot` and `tunewright plot` draw it. The studies are made by",
        "`python tools/sample_studies.py samples.db`. What each chart is good for: [understand a study](../guides/analysis.md).",
        "",
    ]
    for kind in plots.KINDS:
        first = FIRST.get(kind)
        for name in ([first] if first else []) + [n for n in STUDIES if n != first]:
            try:
                figure = plots.figure(studies[name], kind)
            except TunewrightError:
                continue
            (FOLDER / f"{kind}.svg").write_text(plots.svg(figure), encoding="utf-8")
            lines += [
                f"## {figure.title}",
                "",
                f"`tunewright plot '{name}' {kind} -o {kind}.svg`",
                "",
                f"![{figure.title}: {_plain(figure.insight)}]({kind}.svg)",
                "",
                figure.how,
                "",
            ]
            break
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that may stand in the description of a picture."""
    return text.replace("[", "(").replace("]", ")").replace("\n", " ")


def examples() -> str:
    """The page of example programs."""
    lines = [
        "# Programs",
        "",
        "Whole programs, each run by the tests. They are under `examples/` in the repository.",
        "",
    ]
    for path in sorted((ROOT / "examples").rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines += [
            f"## {path.stem.replace('_', ' ').capitalize()}",
            "",
            text.split("\n\n")[0].replace("\n", " "),
            "",
            f"```{{literalinclude}} ../../{path.relative_to(ROOT).as_posix()}",
            ":language: python",
            "```",
            "",
        ]
    return "\n".join(lines)
