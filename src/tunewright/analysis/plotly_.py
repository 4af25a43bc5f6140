"""Figures drawn with Plotly; nothing is computed here."""

from __future__ import annotations

import html
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
    Floats,
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
    import plotly.graph_objects


def draw(figure: Figure) -> plotly.graph_objects.Figure:
    """Draws a figure, with tooltips.

    Raises:
        MissingExtra: If Plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots
    except ImportError:
        raise missing_extra("plotly", "plot") from None
    if isinstance(figure.panels, Rows):
        canvas, height = go.Figure(), 130 + 55 * len(figure.panels.axes)
        _rows(canvas, figure.panels)
    else:
        columns = max(1, min(figure.columns, len(figure.panels)))
        rows = -(-len(figure.panels) // columns)
        titles = [_text(p.title) for p in figure.panels]
        canvas = make_subplots(rows=rows, cols=columns, subplot_titles=titles)
        height = 150 + sum(
            max(p.height for p in figure.panels[i : i + columns]) + 70
            for i in range(0, len(figure.panels), columns)
        )
        for place, panel in enumerate(figure.panels):
            _panel(canvas, panel, place // columns + 1, place % columns + 1)
    for style, text in figure.legend:
        canvas.add_trace(
            go.Scatter(x=[None], y=[None], mode="markers", marker=_marker(style, 9.0), name=_text(text))
        )
    title = f"<b>{_text(figure.title)}</b><br><sup>{_text(figure.insight)}</sup>"
    canvas.update_layout(title=title, template="plotly_white", height=height, showlegend=bool(figure.legend))
    return canvas


def _text(text: str) -> str:
    """Text that users named; Plotly reads some HTML in it otherwise."""
    return html.escape(text, quote=False).replace("\n", "<br>")


def _rgba(style: str, alpha: float) -> str:
    shade = colour(style)
    red, green, blue = (int(shade[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _marker(style: str, size: float) -> dict[str, Any]:
    shade = _rgba(style, 0.35 if " faint" in style else 0.8)
    return {
        "size": size,
        "color": shade,
        "symbol": "circle-open" if " hollow" in style else "circle",
        "line": {"width": 1.2 if " hollow" in style else 0.0, "color": shade},
    }


def _axis(axis: Axis) -> dict[str, Any]:
    low, high = np.log10([axis.low, axis.high]) if axis.kind == "log" else (axis.low, axis.high)
    out: dict[str, Any] = {"title": _text(axis.label), "range": [float(low), float(high)], "zeroline": False}
    if axis.kind == "log":
        out["type"] = "log"
    if axis.kind == "names":
        out["tickvals"] = list(range(len(axis.names)))
        out["ticktext"] = [_text(n) for n in axis.names]
    return out


def _panel(canvas: Any, panel: Panel, row: int, column: int) -> None:
    where = {"row": row, "col": column}
    canvas.update_xaxes(**_axis(panel.x), **where)
    canvas.update_yaxes(**_axis(panel.y), **where)
    for mark in panel.marks:
        for trace in _traces(mark, panel):
            canvas.add_trace(trace, **where)


def _line(points: Floats, style: str, name: str = "") -> Any:
    import plotly.graph_objects as go

    faint = " faint" in style
    return go.Scatter(
        x=points[:, 0],
        y=points[:, 1],
        mode="lines",
        name=_text(name),
        showlegend=False,
        line={
            "color": _rgba(style, 0.45 if faint else 1.0),
            "width": 1 if faint else 2,
            "dash": "dash" if " dashed" in style else "solid",
        },
        hoverinfo="name" if name else "skip",
    )


def _traces(mark: Mark, panel: Panel) -> list[Any]:
    import plotly.graph_objects as go

    if isinstance(mark, Line):
        return [_line(mark.points, mark.style, mark.name)]
    if isinstance(mark, Contour):
        return [_line(line, f"{mark.style} faint", number(mark.level)) for line in mark.lines]
    if isinstance(mark, Dots):
        return _dots(mark, panel)
    if isinstance(mark, Band):
        return [_area(np.r_[mark.x, mark.x[::-1]], np.r_[mark.high, mark.low[::-1]], _rgba(mark.style, 0.16))]
    if isinstance(mark, Box):
        x = np.array([mark.x0, mark.x1, mark.x1, mark.x0])
        y = np.array([mark.y0, mark.y0, mark.y1, mark.y1])
        return [_area(x, y, _rgba(mark.style, 0.2 if " faint" in mark.style else 0.8), mark.tip)]
    if isinstance(mark, Bars):
        return [_bars(mark)]
    return [_heat(mark, go)]


def _dots(mark: Dots, panel: Panel) -> list[Any]:
    import plotly.graph_objects as go

    points = np.column_stack(
        [
            np.clip(mark.points[:, 0], panel.x.low, panel.x.high),
            np.clip(mark.points[:, 1], panel.y.low, panel.y.high),
        ]
    )
    styles, tips = np.array(mark.each), [_text(t) for t in mark.tips]
    out = []
    for style in dict.fromkeys(mark.each):
        here = np.flatnonzero(styles == style)
        out.append(
            go.Scatter(
                x=points[here, 0],
                y=points[here, 1],
                mode="markers",
                marker=_marker(style, 2 * mark.radius),
                text=[tips[i] for i in here],
                hoverinfo="text",
                showlegend=False,
            )
        )
    return out


def _area(x: Floats, y: Floats, shade: str, tip: str = "") -> Any:
    import plotly.graph_objects as go

    return go.Scatter(
        x=x, y=y, fill="toself", fillcolor=shade, mode="lines", line={"width": 0}, showlegend=False,
        text=_text(tip), hoverinfo="text" if tip else "skip",
    )  # fmt: skip


def _bars(mark: Bars) -> Any:
    import plotly.graph_objects as go

    ends = {
        "type": "data",
        "symmetric": False,
        "array": mark.high - mark.value,
        "arrayminus": mark.value - mark.low,
        "color": colour("ink"),
        "thickness": 1.2,
    }
    along, across = (mark.value, mark.at) if mark.horizontal else (mark.at, mark.value)
    return go.Bar(
        x=along,
        y=across,
        orientation="h" if mark.horizontal else "v",
        width=0.6,
        marker={"color": _rgba(mark.style, 0.8)},
        hovertext=[_text(t) for t in mark.tips],
        hoverinfo="text",
        showlegend=False,
        **{"error_x" if mark.horizontal else "error_y": ends},
    )


def _heat(mark: Heat, go: Any) -> Any:
    return go.Heatmap(
        x=mark.x, y=mark.y, z=mark.z, zmin=mark.low, zmax=mark.high, colorscale="Blues",
        colorbar={"title": _text(mark.label)},
    )  # fmt: skip


def _rows(canvas: Any, rows: Rows) -> None:
    k = len(rows.axes)
    places = np.column_stack([axis.at(rows.lines[:, i]) for i, axis in enumerate(rows.axes)])
    places[np.isnan(places)] = -0.04
    down = np.arange(k, dtype=np.float64)
    for line, style, tip in zip(places, rows.styles, rows.tips, strict=True):
        trace = _line(np.column_stack([line, down]), style)
        trace.update(text=_text(tip), hoverinfo="text")
        canvas.add_trace(trace)
    for i, axis in enumerate(rows.axes):
        for position, text in axis.ticks:
            canvas.add_annotation(x=position, y=i, text=_text(text), showarrow=False, yshift=-12)
    canvas.update_xaxes(visible=False, range=[-0.06, 1.03])
    canvas.update_yaxes(
        tickvals=list(range(k)), ticktext=[_text(a.label) for a in rows.axes], range=[k - 0.4, -0.4]
    )
