"""Studies side by side, and methods with what was found out about them."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tunewright import catalog
from tunewright.core.space import Space
from tunewright.core.trial import FAILURES
from tunewright.web.columns import Columns
from tunewright.web.lanes import aside
from tunewright.web.packing import Packed, digest
from tunewright.web.refusals import Refused
from tunewright.web.replies import Call, Reply, encode
from tunewright.web.sending import sent
from tunewright.web.shapes import ClaimLine, CompareAnswer, Compared, MethodLine, MethodsAnswer

if TYPE_CHECKING:
    from tunewright.analysis.marks import Mark
    from tunewright.web.board import Held

MOST = 20
_POINTS = 400
_RESAMPLES = 1000
_SEED = re.compile(r"[-_. /]*(?:seed)?[-_. ]*\d+$", re.IGNORECASE)
_CLAIMS = Path(__file__).parent / "claims.json"
Floats = NDArray[np.float64]


class Side:
    """One of the studies that are compared.

    Args:
        held: Its columns.
    """

    def __init__(self, held: Held) -> None:
        with held.lock:
            columns = held.sync()
            self.objectives = [(o.name, o.goal) for o in columns.problem.objectives]
            self.space: Space = columns.problem.space
            self.curve = _curve(columns)
            self.line = _line(held, columns, self.group(held.info.name))

    @staticmethod
    def group(name: str) -> str:
        """What studies that differ in their seed have in common: the name without the number at its end."""
        return _SEED.sub("", name) or name


def _curve(columns: Columns) -> Floats:
    """Best value of the first objective after each trial, NaN before the first."""
    first = columns.problem.objectives[0]
    losses = np.where(columns.allowed, columns.losses[:, 0], np.inf)
    best = np.minimum.accumulate(losses) if len(losses) else losses
    return np.where(np.isfinite(best), first.sign * best, np.nan)


def _line(held: Held, columns: Columns, group: str) -> Compared:
    good = np.flatnonzero(columns.allowed)
    best = int(good[np.argmin(columns.losses[good, 0])]) if len(good) else -1
    trial = held.ledger().trials[best] if best >= 0 else None
    counts = columns.counts
    return Compared(
        name=held.info.name,
        method=str(held.info.spec.get("method", "")),
        trials=columns.n,
        completed=counts.get("completed", 0),
        failed=sum(counts.get(s, 0) for s in FAILURES),
        cost=float(np.nansum(columns.cost)),
        best=None if trial is None else trial.metrics[columns.problem.objectives[0].name],
        best_trial=None if trial is None else best,
        best_params=None if trial is None else dict(trial.params),
        group=group,
    )


def compared(sides: list[Side]) -> CompareAnswer:
    """Studies side by side.

    Args:
        sides: The studies, at least one.
    """
    longest = max(len(s.curve) for s in sides)
    marks = [m * 10**e for e in range(9) for m in (1, 2, 5) if m * 10**e < longest] + (
        [longest] if longest else []
    )
    rows = [
        {"trials": m, "values": [_number(s.curve[m - 1]) if m <= len(s.curve) else None for s in sides]}
        for m in marks
    ]
    same = all(s.objectives == sides[0].objectives for s in sides)
    changes = sides[0].space.diff(sides[1].space) if len(sides) > 1 else []
    return CompareAnswer(
        studies=[s.line for s in sides],
        figure=_figure(sides) if same and longest else None,
        rows=rows,
        space=list(changes),
        sentence=_sentence(sides, same),
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _groups(sides: list[Side]) -> dict[tuple[str, str], list[Side]]:
    """Studies that differ in nothing but their seed, as far as their names and methods tell."""
    found: dict[tuple[str, str], list[Side]] = {}
    for side in sides:
        found.setdefault((side.line.group, side.line.method), []).append(side)
    return found


def _sentence(sides: list[Side], same: bool) -> str:
    if len(sides) < 2:
        return "Name at least two studies to compare them."
    if not same:
        return "They optimise different things, so their values cannot be compared."
    sign = 1.0 if sides[0].objectives[0][1] == "minimize" else -1.0
    several = {k: v for k, v in _groups(sides).items() if len(v) > 1}
    if len(several) > 1:
        means = {k: np.array([s.line.best for s in v if s.line.best is not None]) for k, v in several.items()}
        means = {k: v for k, v in means.items() if len(v)}
        if len(means) > 1:
            best = min(means, key=lambda k: sign * float(means[k].mean()))
            return (
                f"{best[0]} ({best[1]}) found the best value on average, {means[best].mean():.4g} over {len(means[best])} "
                "studies; look at whether the bands overlap."
            )
    ranked = sorted((sign * s.line.best, s.line.name) for s in sides if s.line.best is not None)
    if len(ranked) < 2 or ranked[0][0] == ranked[1][0]:
        return "None of them found a better value than the others."
    return f"{ranked[0][1]} found the best value; one study each proves little, repeat them with other seeds."


def _figure(sides: list[Side]) -> dict[str, Any]:
    """The best value after each trial: a line for each study, for several of a group their mean with an interval."""
    from tunewright.analysis.drawing import Figure
    from tunewright.analysis.marks import Band, Line, Panel, linear, values_axis
    from tunewright.analysis.wired import as_dict

    name = sides[0].objectives[0][0]
    longest = max(len(s.curve) for s in sides)
    marks: list[Mark] = []
    legend: list[tuple[str, str]] = []
    rows: list[tuple[str, ...]] = []
    seen: list[Floats] = []
    for i, ((group, method), members) in enumerate(_groups(sides).items()):
        style = f"s{i % 8}"
        label = f"{group if len(members) > 1 else members[0].line.name} ({method})"
        shortest = min(len(s.curve) for s in members)
        if not shortest:
            continue
        at: NDArray[np.int64] = np.unique(np.round(np.geomspace(1, shortest, _POINTS)).astype(np.int64))
        curves = np.stack([s.curve[at - 1] for s in members])
        known = np.isfinite(curves).all(axis=0)
        at, curves = at[known], curves[:, known]
        if not len(at):
            continue
        mean = curves.mean(axis=0)
        legend.append((style, label))
        if len(members) > 1:
            low, high = _interval(curves)
            marks.append(Band(at.astype(float), low, high, f"{style} faint"))
            rows.append((label, str(len(members)), f"{mean[-1]:.4g}", f"{low[-1]:.4g} to {high[-1]:.4g}"))
        else:
            rows.append((label, "1", f"{mean[-1]:.4g}", ""))
        marks.append(Line(np.column_stack([at, mean]), style, label))
        seen.append(curves.ravel())
    values = np.concatenate(seen) if seen else np.zeros(1)
    panel = Panel(
        linear("trials", 1.0, float(max(longest, 2))),
        values_axis(f"best {name}", values),
        tuple(marks),
        "",
        320,
    )
    found = Figure(
        "compare",
        "Best value after each trial",
        "Each line is the best value so far; where several studies differ in their seed only, it is their mean, with a "
        "95 % interval from resampling the studies.",
        _sentence(sides, True),
        (panel,),
        tuple(legend),
        ("study", "studies", f"best {name}", "95 % interval"),
        tuple(rows),
    )
    return as_dict(found)


def _interval(curves: Floats) -> tuple[Floats, Floats]:
    """Bootstrap interval of the mean over studies, shape ``(points,)`` each; curves have shape ``(studies, points)``."""
    rng = np.random.default_rng(0)
    picked = rng.integers(0, len(curves), (_RESAMPLES, len(curves)))
    means = np.stack([curves[rows].mean(axis=0) for rows in picked])
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return low, high


# ------------------------------------------------------------------ handlers


async def compare(call: Call) -> Reply:
    """The study in the address and those named after it, side by side."""
    state, others = call.state, call.query.get("with", "")
    known = await aside(
        state.pools.looking, lambda: {s.name for s in state.store.studies()} if others else set()
    )
    names = [call.study, *named(others, known)]
    if len(names) > MOST:
        raise Refused(422, "HTTP", f"Up to {MOST} studies can be compared; got {len(names)}. Name fewer.")
    infos = [await call.state.shelf.info(name, call.who) for name in dict.fromkeys(names)]

    def work() -> Packed:
        body = encode(compared([Side(call.state.board.held(info)) for info in infos]))
        return Packed(body, digest(body))

    return sent(call, await aside(call.state.pools.drawing, work))


def named(text: str, known: Collection[str]) -> list[str]:
    """Names with commas between them, where names may hold commas, too: the longest that are known."""
    parts, found = [p for p in text.split(",") if p], []
    while parts:
        most = next((k for k in range(len(parts), 1, -1) if ",".join(parts[:k]) in known), 1)
        found.append(",".join(parts[:most]))
        parts = parts[most:]
    return found


async def methods(call: Call) -> Reply:
    """Methods and what was found out about them."""
    return sent(call, await aside(call.state.pools.looking, _methods))


@lru_cache(maxsize=1)
def _methods() -> Packed:
    claims = msgspec.json.decode(_CLAIMS.read_bytes(), type=list[ClaimLine])
    about: dict[str, list[ClaimLine]] = {}
    for claim in claims:
        for name in claim.methods:
            about.setdefault(name, []).append(claim)

    def line(kind: str, entry: Any) -> MethodLine:
        texts = (entry.family, entry.paper, entry.summary, entry.when, entry.needs or "")
        return MethodLine(entry.name, kind, *texts, claims=about.get(entry.name, []))

    found = [line(m.kind, m) for m in catalog.METHODS.values()]
    found += [line("inside", m) for m in catalog.INSIDE.values()]
    found += [line("removing", m) for m in catalog.REMOVING.values()]
    found += [line("predicting", m) for m in catalog.PREDICTING.values()]
    body = encode(MethodsAnswer(found, claims))
    return Packed(body, digest(body))
