"""Figures drawn with Matplotlib; nothing is computed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tunewright.analysis.drawing import Figure
from tunewright.analysis.marks import (
    Axis,
    Band,
    Bars,
    Box,
    Contour,
    Dots,
    Heat,
    Line,
    Mark,
    Panel,
    Rows,
    colour,
    number,
)
from tunewright.errors import missing_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_INCH = 100.0  # pixels of a panel's height that make an inch


def draw(figure: Figure, into: Canvas | None = None) -> Canvas:
    """Draws a figure.

    Args:
        figure: What to draw.
        into: The empty Matplotlib figure to draw on; a new one, unknown to pyplot, when not given.

    Raises:
        MissingExtra: If Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        raise missing_extra("matplotlib", "plot") from None
    canvas = Canvas() if into is None else into
    canvas.set_layout_engine("constrained")
    if isinstance(figure.panels, Rows):
        canvas.set_size_inches(8.0, 1.2 + 0.5 * len(figure.panels.axes))
        _rows(canvas.add_subplot(), figure.panels)
    else:
        columns = max(1, min(figure.columns, len(figure.panels)))
        rows = -(-len(figure.panels) // columns)
        tall = max((p.height for p in figure.panels), default=240) / _INCH + 0.9
        canvas.set_size_inches(max(7.0, 3.2 * columns), rows * tall + 0.6)
        for place, panel in enumerate(figure.panels):
            _panel(canvas.add_subplot(rows, columns, place + 1), panel)
    _legend(canvas, figure)
    canvas.suptitle(_plain(figure.title), x=0.01, ha="left", fontsize="medium", fontweight="bold")
    return canvas


def by_pyplot(figure: Figure) -> Canvas:
    """Draws a figure on one that pyplot knows, so that ``plt.show()`` and notebooks show it.

    Raises:
        MissingExtra: If Matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError:
        raise missing_extra("matplotlib", "plot") from None
    return draw(figure, pyplot.figure())


def _plain(text: str) -> str:
    """Text that users named, without the dollar signs that Matplotlib would take for mathematics."""
    return text.replace("$", r"\$")


def _legend(canvas: Canvas, figure: Figure) -> None:
    if not figure.legend:
        return
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker="o", linestyle="", **_fill(style), label=_plain(text))
        for style, text in figure.legend
    ]
    canvas.legend(
        handles=handles, loc="outside lower left", ncols=min(4, len(handles)), frameon=False, fontsize="small"
    )


def _fill(style: str) -> dict[str, Any]:
    """Colours of a marker."""
    shade = colour(style)
    return {
        "markerfacecolor": "none" if " hollow" in style else shade,
        "markeredgecolor": shade,
        "alpha": 0.35 if " faint" in style else 1.0,
    }


def _panel(ax: Any, panel: Panel) -> None:
    for axis, name in ((panel.x, "x"), (panel.y, "y")):
        _axis(ax, axis, name)
    ax.set_title(_plain(panel.title), loc="left", fontsize="small")
    ax.grid(visible=True, axis="y", linewidth=0.4, alpha=0.5)
    ax.spines[["top", "right"]].set_visible(False)
    for mark in panel.marks:
        _mark(ax, mark, panel)


def _axis(ax: Any, axis: Axis, name: str) -> None:
    if axis.kind == "log":
        getattr(ax, f"set_{name}scale")("log")
    getattr(ax, f"set_{name}lim")(axis.low, axis.high)
    getattr(ax, f"set_{name}label")(_plain(axis.label), fontsize="small")
    if axis.kind == "names":
        names = [_plain(n if len(n) <= 24 else n[:23] + "…") for n in axis.names]
        getattr(ax, f"set_{name}ticks")(range(len(names)), names)
    ax.tick_params(labelsize="small")


def _mark(ax: Any, mark: Mark, panel: Panel) -> None:
    if isinstance(mark, Line):
        faint = " faint" in mark.style
        ax.plot(
            *mark.points.T,
            color=colour(mark.style),
            linewidth=0.8 if faint else 1.8,
            alpha=0.5 if faint else 1.0,
            linestyle="--" if " dashed" in mark.style else "-",
        )
    elif isinstance(mark, Dots):
        _dots(ax, mark, panel)
    elif isinstance(mark, Band):
        ax.fill_between(mark.x, mark.low, mark.high, color=colour(mark.style), alpha=0.16, linewidth=0)
    elif isinstance(mark, Box):
        from matplotlib.patches import Rectangle

        alpha = 0.2 if " faint" in mark.style else 0.8
        ax.add_patch(
            Rectangle(
                (mark.x0, mark.y0),
                mark.x1 - mark.x0,
                mark.y1 - mark.y0,
                color=colour(mark.style),
                alpha=alpha,
                linewidth=0,
            )
        )
    else:
        _area(ax, mark)


def _dots(ax: Any, mark: Dots, panel: Panel) -> None:
    x = np.clip(mark.points[:, 0], panel.x.low, panel.x.high)
    y = np.clip(mark.points[:, 1], panel.y.low, panel.y.high)
    styles = np.array(mark.each)
    for style in dict.fromkeys(mark.each):
        here = styles == style
        shade = colour(style)
        ax.scatter(
            x[here],
            y[here],
            s=mark.radius**2,
            facecolors="none" if " hollow" in style else shade,
            edgecolors=shade,
            linewidths=0.8,
            alpha=0.35 if " faint" in style else 0.8,
            clip_on=False,
            zorder=3,
        )


def _area(ax: Any, mark: Bars | Heat | Contour) -> None:
    if isinstance(mark, Bars):
        draw = ax.barh if mark.horizontal else ax.bar
        draw(mark.at, mark.value, 0.6, color=colour(mark.style), alpha=0.8)
        known = np.isfinite(mark.low) & np.isfinite(mark.high)
        ends = (mark.at[known], mark.low[known], mark.high[known])
        (ax.hlines if mark.horizontal else ax.vlines)(*ends, color=colour("ink"), linewidth=1.2)
    elif isinstance(mark, Heat):
        shown = np.ma.masked_invalid(mark.z)
        mesh = ax.pcolormesh(
            mark.x, mark.y, shown, shading="nearest", vmin=mark.low, vmax=mark.high, cmap="Blues"
        )
        ax.figure.colorbar(mesh, ax=ax, label=_plain(mark.label))
    else:
        for line in mark.lines:
            ax.plot(*line.T, color=colour(mark.style), linewidth=0.8, alpha=0.7)
        longest = max(mark.lines, key=len, default=None)
        if longest is not None and len(longest):
            ax.annotate(number(mark.level), longest[len(longest) // 2], fontsize="x-small")


def _rows(ax: Any, rows: Rows) -> None:
    k = len(rows.axes)
    places = np.column_stack([axis.at(rows.lines[:, i]) for i, axis in enumerate(rows.axes)])
    places[np.isnan(places)] = -0.04
    for line, style in zip(places, rows.styles, strict=True):
        faint = " faint" in style
        ax.plot(
            line,
            range(k),
            color=colour(style),
            linewidth=0.7 if faint else 1.6,
            alpha=0.4 if faint else 0.9,
            zorder=2,
        )
    for i, axis in enumerate(rows.axes):
        ax.axhline(i, color="0.8", linewidth=0.8, zorder=1)
        for position, text in axis.ticks:
            ax.annotate(
                _plain(text),
                (position, i),
                (0, -10),
                textcoords="offset points",
                ha="center",
                fontsize="x-small",
            )
    ax.set_yticks(range(k), [_plain(a.label) for a in rows.axes])
    ax.set_ylim(k - 0.4, -0.4)
    ax.set_xlim(-0.06, 1.03)
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
