"""A comparison of tools as one HTML page: regret curves with intervals, ranks with critical differences, every number.

The page loads nothing: drawings are SVG, styles are inside, and it reads without scripts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from tunewright.analysis.drawing import STYLE, Figure, svg
from tunewright.analysis.marks import (
    GROUPS,
    Band,
    Box,
    Dots,
    Line,
    Mark,
    Panel,
    linear,
    names_axis,
    number,
    values_axis,
)

_LEAST = 1e-4
_PAGE = """
:root{color-scheme:light dark;--page:#f5f6f8}@media (prefers-color-scheme:dark){:root{--page:#12161c}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 56px}h1{font-size:26px;margin:0 0 4px}
h2{font-size:18px;margin:0 0 6px}p{margin:0 0 8px;overflow-wrap:anywhere}.soft{color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px;margin:16px 0}
section svg{display:block;width:100%;height:auto}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:4px 14px 4px 0;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:500}@media print{section{break-inside:avoid}}
"""


def page(suite: str, found: Mapping[str, Any]) -> str:
    """The page, as text; names of tools and tasks are escaped.

    Args:
        suite: What was run.
        found: ``tasks``; ``tools``, by name their ``version``, ``seeds``, ``studies``, ``ms_per_evaluation`` and
            ``errors``; ``at``, by number of evaluations the ``standings``, ``critical_difference`` and ``p``.
    """
    every = sorted(found["at"], key=int)
    last = found["at"][every[-1]]
    cards = [
        _drawn(curves(found)),
        *(_drawn(ranks(found, k)) for k in every if k in ("25", "50", "100", "200")),
        _card("Tools", _tools(found["tools"])),
        _card("Mean regret [95 % interval over tasks] / mean rank / ratio to the best peer", _numbers(found)),
        _card(f"Mean regret of each task after {every[-1]} evaluations", _tasks(found["tasks"], last)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(suite)} - Tunewright comparison</title><style>{STYLE}{_PAGE}</style></head>"
        f'<body class="tw"><main><h1>{escape(suite)}</h1><p class="soft">{len(found["tasks"])} tasks. Regret is the '
        "best loss so far above the best known, in units of the median random configuration's, within [0, 1].</p>"
        f"{''.join(cards)}</main></body></html>\n"
    )


def _style(position: int) -> str:
    """Colours repeat after eight tools, then dashed."""
    return f"s{position % GROUPS}" + (" dashed" if position >= GROUPS else "")


def curves(found: Mapping[str, Any]) -> Figure:
    """Mean regret against evaluations, with bootstrap intervals over tasks."""
    every = sorted(found["at"], key=int)
    values = [
        max(s[key], _LEAST)
        for k in every
        for s in found["at"][k]["standings"]
        for key in ("regret", "low", "high")
        if math.isfinite(s[key])
    ]
    x, y = linear("evaluations", 0.0, float(every[-1])), values_axis("mean regret", values)
    marks: list[Mark] = []
    for i, name in enumerate(found["tools"]):
        rows = [(int(k), s) for k in every for s in found["at"][k]["standings"] if s["name"] == name]
        if not rows:
            continue
        at = np.array([k for k, _ in rows], dtype=np.float64)
        mean, low, high = (
            np.array([max(s[key], _LEAST) for _, s in rows]) for key in ("regret", "low", "high")
        )
        if np.isfinite(low).all() and np.isfinite(high).all():
            marks.append(Band(at, low, high, _style(i)))
        marks.append(Line(np.column_stack([at, mean]), _style(i), name))
    best = found["at"][every[-1]]["standings"][0]
    return Figure(
        "benchmark",
        "Regret by evaluations",
        "Lower is better; bands are 95 % bootstrap intervals over tasks.",
        f"Of the tools that ran {every[-1]} evaluations, {best['name']} has the lowest mean regret there, "
        f"{number(best['regret'])}.",
        (Panel(x, y, tuple(marks), height=360),),
        tuple((_style(i), n) for i, n in enumerate(found["tools"])),
    )


def ranks(found: Mapping[str, Any], at: str) -> Figure:
    """Mean ranks after a number of evaluations, with bars over tools that are not told apart.

    Source: Demsar 2006, JMLR 7, Figure 1.
    """
    entry = found["at"][at]
    ordered = sorted(entry["standings"], key=lambda s: float(s["rank"]))
    names = [s["name"] for s in ordered]
    width = entry["critical_difference"]
    k = len(names)
    x, y = linear("mean rank, 1 is best", 1.0, float(max(k, 2))), names_axis("", names[::-1])
    places = [k - 1.0 - i for i in range(k)]
    order = {name: i for i, name in enumerate(found["tools"])}
    marks: list[Mark] = []
    for s, place in zip(ordered, places, strict=True):
        if width is not None and math.isfinite(width):
            left, right = s["rank"] - width / 2.0, s["rank"] + width / 2.0
            marks.append(Box(left, place - 0.12, right, place + 0.12, _style(order[s["name"]]) + " faint"))
        tip = f"{s['name']}: mean rank {s['rank']:.2f}"
        marks.append(Dots(np.array([[float(s["rank"]), place]]), [_style(order[s["name"]])], [tip]))
    known = width is not None and math.isfinite(width)
    how = (
        f"Two tools whose bars do not overlap differ at 5 % (Nemenyi; critical difference {width:.2f})."
        if known
        else "No critical difference: it is tabulated for 2 to 10 tools."
    )
    insight = f"{names[0]} ranks first with {ordered[0]['rank']:.2f}."
    return Figure(
        "benchmark",
        f"Ranks after {at} evaluations",
        how,
        insight,
        (Panel(x, y, tuple(marks), height=30 * k + 20),),
    )


def _card(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _drawn(figure: Figure) -> str:
    text = f'<p>{escape(figure.insight)}</p><p class="soft">{escape(figure.how)}</p>'
    return _card(figure.title, text + svg(figure, width=1060, standalone=False))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _tools(tools: Mapping[str, Any]) -> str:
    head = ("tool", "version", "seeds", "studies", "CPU ms per evaluation", "studies with errors")
    rows = [
        (
            name,
            t["version"],
            str(t["seeds"]),
            str(t["studies"]),
            number(t["ms_per_evaluation"]),
            str(t["errors"]),
        )
        for name, t in tools.items()
    ]
    return _table(head, rows)


def _numbers(found: Mapping[str, Any]) -> str:
    every = sorted(found["at"], key=int)
    rows = []
    for name in found["tools"]:
        cells = [name]
        for k in every:
            s = next((s for s in found["at"][k]["standings"] if s["name"] == name), None)
            if s is None:
                cells.append("-")
                continue
            ratio = "" if s["ratio"] is None else f" / {s['ratio']:.2f}x"
            cells.append(f"{s['regret']:.4f} [{s['low']:.4f}, {s['high']:.4f}] / {s['rank']:.2f}{ratio}")
        rows.append(cells)
    rows.append(["Friedman p", *(number(found["at"][k]["p"]) for k in every)])
    return _table(("tool", *(f"n={k}" for k in every)), rows)


def _tasks(tasks: Sequence[str], entry: Mapping[str, Any]) -> str:
    names = [s["name"] for s in entry["standings"]]
    rows = [(task, *(f"{s['per_task'][i]:.4f}" for s in entry["standings"])) for i, task in enumerate(tasks)]
    return _table(("task", *names), rows)
