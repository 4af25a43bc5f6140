"""A figure as plain data for JSON: what a browser draws, in the units of the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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
)


def as_dict(figure: Figure) -> dict[str, Any]:
    """A figure as dicts, lists, numbers and text; numbers to six digits, None where there is none.

    Args:
        figure: The figure.

    Returns:
        ``kind``, ``title``, ``how``, ``insight``, ``columns``, ``legend``, ``head``, ``table``, and either ``panels`` (each with
        ``title``, ``height``, the axes ``x`` and ``y``, and ``marks`` with a ``type`` each) or ``rows`` (``axes``, ``lines``,
        ``styles``, ``tips``, ``trials``).
    """
    out: dict[str, Any] = {
        "kind": figure.kind,
        "title": figure.title,
        "how": figure.how,
        "insight": figure.insight,
        "columns": figure.columns,
        "legend": [list(entry) for entry in figure.legend],
        "head": list(figure.head),
        "table": [list(row) for row in figure.table],
    }
    if isinstance(figure.panels, tuple):
        out["panels"] = [_panel(p) for p in figure.panels]
    else:
        rows = figure.panels
        out["rows"] = {
            "axes": [_axis(a) for a in rows.axes],
            "lines": [_numbers(line) for line in rows.lines],
            "styles": list(rows.styles),
            "tips": list(rows.tips),
            "trials": [int(t) for t in rows.trials],
        }
    return out


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _numbers(values: Floats | Sequence[float]) -> list[float | None]:
    return [_number(v) for v in (values if isinstance(values, list) else list(map(float, values)))]


def _points(points: Floats) -> list[list[float] | None]:
    """Points, None where one of the numbers is missing."""
    return [
        [float(f"{x:.6g}"), float(f"{y:.6g}")] if math.isfinite(x) and math.isfinite(y) else None
        for x, y in points.tolist()
    ]


def _axis(axis: Axis) -> dict[str, Any]:
    return {
        "label": axis.label,
        "kind": axis.kind,
        "low": _number(axis.low),
        "high": _number(axis.high),
        "names": list(axis.names) if axis.kind == "names" else None,
        "clipped": axis.clipped,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "title": panel.title,
        "height": panel.height,
        "x": _axis(panel.x),
        "y": _axis(panel.y),
        "marks": [_mark(m) for m in panel.marks],
    }


def _mark(mark: Mark) -> dict[str, Any]:
    if isinstance(mark, Line):
        out: dict[str, Any] = {"type": "line", "style": mark.style, "points": _points(mark.points)}
        out |= {"name": mark.name} if mark.name else {}
        return out | ({} if mark.trial is None else {"trial": int(mark.trial)})
    if isinstance(mark, Dots):
        return {
            "type": "dots",
            "style": mark.styles if isinstance(mark.styles, str) else list(mark.styles),
            "points": _points(mark.points),
            "trials": None if mark.trials is None else [int(t) for t in mark.trials],
            "tips": list(mark.tips),
            "radius": mark.radius,
        }
    if isinstance(mark, Box):
        corners = {k: _number(getattr(mark, k)) for k in ("x0", "y0", "x1", "y1")}
        out = {"type": "box", "style": mark.style, **corners, "tip": mark.tip}
        return out | ({} if mark.trial is None else {"trial": int(mark.trial)})
    return _area(mark)


def _area(mark: Band | Bars | Heat | Contour) -> dict[str, Any]:
    if isinstance(mark, Band):
        curves = {k: _numbers(getattr(mark, k)) for k in ("x", "low", "high")}
        return {"type": "band", "style": mark.style, **curves}
    if isinstance(mark, Bars):
        bars = {k: _numbers(getattr(mark, k)) for k in ("at", "value", "low", "high")}
        return {
            "type": "bars", "style": mark.style, **bars, "tips": list(mark.tips), "horizontal": mark.horizontal,
        }  # fmt: skip
    if isinstance(mark, Heat):
        return {
            "type": "heat",
            "x": _numbers(mark.x),
            "y": _numbers(mark.y),
            "z": [_numbers(row) for row in mark.z],
            "low": _number(mark.low),
            "high": _number(mark.high),
            "label": mark.label,
        }
    return {
        "type": "contour",
        "level": _number(mark.level),
        "lines": [_points(line) for line in mark.lines],
        "style": mark.style,
    }
