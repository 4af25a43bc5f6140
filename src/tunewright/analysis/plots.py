"""Charts of a study: ``figure`` says what a chart shows, ``svg`` draws it, ``save`` writes it to a file."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunewright.analysis import charts, front_charts, importance_charts, landscape_charts, progress_charts
from tunewright.analysis.charted import Charted
from tunewright.analysis.curve_charts import curves
from tunewright.analysis.drawing import Figure, svg
from tunewright.analysis.family_charts import lineage
from tunewright.analysis.inside import chosen, inside
from tunewright.analysis.transfer_charts import transfer
from tunewright.errors import ConfigError

__all__ = ["KINDS", "Figure", "figure", "options", "save", "svg", "write"]

KINDS: dict[str, Callable[..., Figure]] = {
    "history": charts.history,
    "importance": importance_charts.importance,
    "curves": curves,
    "inside": inside,
    "chosen": chosen,
    "timeline": charts.timeline,
    "pareto": front_charts.pareto,
    "parallel": charts.parallel,
    "slice": charts.slices,
    "contour": landscape_charts.contour,
    "interactions": importance_charts.interactions,
    "ablation": importance_charts.ablation,
    "sensitivity": importance_charts.sensitivity,
    "cost": progress_charts.cost,
    "regret": progress_charts.regret,
    "edf": progress_charts.edf,
    "stopping": progress_charts.stopping,
    "surrogate": landscape_charts.surrogate_quality,
    "footprint": landscape_charts.footprint,
    "hypervolume": front_charts.hypervolume,
    "attainment": front_charts.attainment,
    "lineage": lineage,
    "transfer": transfer,
}
_SUFFIXES = (".svg", ".png", ".pdf", ".html")


def options(kind: str) -> tuple[str, ...]:
    """Names of what may be passed to a chart beside the study.

    Raises:
        ConfigError: If there is no such chart.
    """
    if kind not in KINDS:
        raise ConfigError(f"A chart must be one of {', '.join(KINDS)}; got {kind!r}. Choose one of them.")
    return tuple(inspect.signature(KINDS[kind]).parameters)[1:]


def figure(study: Charted, kind: str = "history", **given: Any) -> Figure:
    """A chart of a study as data.

    Args:
        study: The study.
        kind: One of ``KINDS``.
        given: What the chart can be told, such as ``method`` of ``importance``; see ``options``.

    Raises:
        ConfigError: If there is no such chart or option, or the study has too few results for it.
    """
    known = options(kind)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ConfigError(
            f"The chart {kind!r} takes {', '.join(known) or 'no options'}; got {unknown[0]!r}. Leave it out."
        )
    return KINDS[kind](study, **given)


def save(study: Charted, kind: str, path: str | os.PathLike[str], *, width: int = 720, **given: Any) -> Path:
    """Writes a chart to a file that needs nothing else.

    Args:
        study: The study.
        kind: As for ``figure``.
        path: File to write. ``.svg`` is drawn by Tunewright, ``.png`` and ``.pdf`` by Matplotlib, ``.html`` by Plotly.
        width: Width in pixels, of an SVG.
        given: As for ``figure``.

    Returns:
        The path.

    Raises:
        ConfigError: If the path ends otherwise, or ``figure`` raises it.
        MissingExtra: If the library that draws the format is not installed.
    """
    return write(figure(study, kind, **given), path, width=width)


def write(drawn: Figure, path: str | os.PathLike[str], *, width: int = 720) -> Path:
    """Writes a figure to a file; see ``save``.

    Args:
        drawn: The figure.
        path: File to write.
        width: Width in pixels, of an SVG.

    Raises:
        ConfigError: If the path does not end in ``.svg``, ``.png``, ``.pdf`` or ``.html``.
        MissingExtra: If the library that draws the format is not installed.
    """
    place = Path(path)
    ending = place.suffix.lower()
    if ending not in _SUFFIXES:
        raise ConfigError(
            f"A chart is saved as {', '.join(_SUFFIXES)}; got '{place.name}'. Change the ending."
        )
    if ending == ".svg":
        place.write_text(svg(drawn, width=width), encoding="utf-8")
    elif ending == ".html":
        from tunewright.analysis.plotly_ import draw as with_plotly

        with_plotly(drawn).write_html(place, include_plotlyjs=True)
    else:
        from tunewright.analysis.matplotlib_ import draw as with_matplotlib

        with_matplotlib(drawn).savefig(place, dpi=150)
    return place
