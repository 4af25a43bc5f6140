"""A study as one HTML page: readable without a network, scripts or fonts, in light and dark, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tunewright.analysis.charted import Charted
from tunewright.analysis.drawing import STYLE, Figure, escape, svg
from tunewright.analysis.inside import CHOSEN, HYPER
from tunewright.analysis.marks import cell, number
from tunewright.analysis.plots import figure
from tunewright.analysis.sizes import reached
from tunewright.core.scale import named
from tunewright.core.trial import FAILURES, Trial
from tunewright.errors import ConfigError

_WIDE, _HALF, _NARROW = 1060, 560, 330
_FULL_WIDTH = ("slice", "parallel", "pareto", "transfer")
_TOP = 10
_SHOWN = (
    "history", "transfer", "importance", "curves", "inside", "chosen", "timeline", "pareto", "parallel", "slice",
)  # fmt: skip
_PAGE = """
:root{color-scheme:light dark;--page:#f5f6f8}@media (prefers-color-scheme:dark){:root{--page:#12161c}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 56px}h1{font-size:26px;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:18px;margin:0 0 6px}p{margin:0 0 8px;overflow-wrap:anywhere}.soft{color:var(--soft)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:20px 0}
.facts div,.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.facts b{display:block;font-size:20px;overflow-wrap:anywhere}.facts span{color:var(--soft);font-size:14px}
.cards{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:16px;align-items:start}
.card{min-width:0}.full{grid-column:1/-1}.how{color:var(--soft);font-size:14px}.insight{font-weight:500}
.card svg{display:block;width:100%;height:auto}.narrow{display:none}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:4px 14px 4px 0;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:500}summary{cursor:pointer;color:var(--soft);font-size:14px;margin-top:8px}
footer{margin-top:28px;color:var(--soft);font-size:14px}
@media (max-width:860px){.cards{grid-template-columns:minmax(0,1fr)}}
@media (max-width:560px){.wide{display:none}.narrow{display:block}main{padding:18px 12px 40px}.card{padding:12px}
h1{font-size:22px}}
@media print{.card{break-inside:avoid}}
"""


class Section(NamedTuple):
    """Something to say above the charts: a title, paragraphs, and a table."""

    title: str
    paragraphs: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def html(study: Charted, extra: Sequence[Section] = ()) -> str:
    """The page, as text; everything that users named is escaped.

    Args:
        study: The study.
        extra: Sections above the charts.
    """
    cards = [_section(s) for s in extra]
    for kind in _SHOWN:
        if kind == "pareto" and study.problem.m < 2:
            continue
        if kind == "transfer" and study.problem.scale is None:
            continue
        if kind == "curves" and not any(t.reports for t in study.trials):
            continue
        if any(kind == told.kind and not told.of(study.trials) for told in (HYPER, CHOSEN)):
            continue
        try:
            cards.append(_chart(figure(study, kind)))
        except ConfigError as error:
            cards.append(
                f'<section class="card"><h2>{escape(kind.title())}</h2><p>{escape(str(error))}</p></section>'
            )
    cards.append(_trials(study))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(study.name)} - Tunewright report</title><style>{STYLE}{_PAGE}</style></head>"
        f'<body class="tw"><main><header><h1>{escape(study.name)}</h1><p class="soft">{escape(_subtitle(study))}</p>'
        f'{_facts(study)}</header><div class="cards">{"".join(cards)}</div>'
        "<footer>Written by Tunewright. This file is complete: it loads nothing and sends nothing.</footer>"
        "</main></body></html>\n"
    )


def _subtitle(study: Charted) -> str:
    goals = " and ".join(f"{o.goal} {o.name}" for o in study.problem.objectives)
    return f"{goals}; {study.problem.space.d} parameters; method {study.method}; seed {study.problem.seed}"


def _ranked(study: Charted) -> list[tuple[Trial, float]]:
    """Trials with a result, best first: those trained longest before the others."""
    problem = study.problem
    found = [(t, problem.losses(t.metrics)) for t in study.trials if t.status not in FAILURES]
    measured = [(t, x[0]) for t, x in found if x is not None]
    measured.sort(
        key=lambda p: (problem.violation(p[0].metrics), p[0].status != "completed", -p[0].step, p[1])
    )
    return measured


def _facts(study: Charted) -> str:
    """The figures on top."""
    ranked, objective = _ranked(study), study.problem.objectives[0]
    failed = sum(t.status in FAILURES for t in study.trials)
    steps = sum(t.peak for t in study.trials)
    facts = [(str(len(study.trials)), "trials" + (f", {failed} failed" if failed else ""))]
    if ranked and study.problem.m == 1:
        best, loss = ranked[0]
        facts.insert(0, (number(loss * objective.sign), f"best {objective.name}, trial {best.number}"))
    if study.problem.fidelity is not None and study.trials:
        scale = study.problem.scale
        if scale is None:
            whole = study.problem.fidelity.high * len(study.trials)
            facts.append((f"{steps:,}", f"steps, {steps / whole:.0%} of training all fully"))
        else:
            from tunewright.scaling.proxy import spent

            facts.append(
                (number(spent(scale, study.trials)), f"trainings of the target, {named(scale.target)}, spent")
            )
    cost = sum(sum(r.cost or 0.0 for r in t.reports) or t.cost or 0.0 for t in study.trials)
    if cost:
        facts.append((number(cost), "total cost, in seconds unless you report another unit"))
    return (
        '<div class="facts">'
        + "".join(f"<div><b>{escape(a)}</b><span>{escape(b)}</span></div>" for a, b in facts)
        + "</div>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _section(section: Section) -> str:
    text = "".join(f"<p>{escape(p)}</p>" for p in section.paragraphs)
    table = _table(section.head, section.rows) if section.rows else ""
    return f'<section class="card full"><h2>{escape(section.title)}</h2>{text}{table}</section>'


def _chart(drawn: Figure) -> str:
    """A chart in two widths, of which the page shows the one that fits, with its sentences and its numbers."""
    full = drawn.kind in _FULL_WIDTH
    wide = svg(drawn, width=_WIDE if full else _HALF, standalone=False)
    narrow = svg(drawn, width=_NARROW, standalone=False)
    numbers = (
        f"<details><summary>Show as table</summary>{_table(drawn.head, drawn.table)}</details>"
        if drawn.table
        else ""
    )
    return (
        f'<section class="card{" full" if full else ""}"><h2>{escape(drawn.title)}</h2>'
        f'<p class="insight">{escape(drawn.insight)}</p><p class="how">{escape(drawn.how)}</p>'
        f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>{numbers}</section>'
    )


def _trials(study: Charted) -> str:
    """The best trials with their parameters."""
    ranked = _ranked(study)[:_TOP]
    names = list(dict.fromkeys(e.name for e in study.problem.space.entries))[:20]
    goals = [o.name for o in study.problem.objectives]
    rows = [
        (
            str(t.number),
            t.status,
            reached(study.problem, t.step),
            *(cell(t.metrics[g]) for g in goals),
            *(cell(t.config.get(n, "-")) for n in names),
        )
        for t, _ in ranked
    ]
    failures = [t for t in study.trials if t.status in FAILURES][-3:]
    errors = "".join(
        f"<p>Trial {t.number} {escape(t.status)}: {escape((t.error.strip().splitlines() or [''])[-1][:300])}</p>"
        for t in failures
    )
    table = (
        _table(("trial", "status", "step" if study.problem.scale is None else "size", *goals, *names), rows)
        if rows
        else "<p>No trial has a result yet.</p>"
    )
    return f'<section class="card full"><h2>Best trials</h2>{table}{errors}</section>'
