"""A small renderer: figures as SVG at any width.

No fonts, scripts or files from elsewhere; colours are CSS variables, so a figure follows the page into dark mode.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tunewright.analysis.marks import (
    DARK,
    LIGHT,
    Band,
    Bars,
    Box,
    Contour,
    Floats,
    Heat,
    Line,
    Mark,
    Panel,
    Rows,
    number,
)
from tunewright.core.texts import visible

Point = tuple[float, float]
CHAR = 6.6


def _variables(colours: dict[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in colours.items())


STYLE = (
    f"""
.tw{{{_variables(LIGHT)};--soft:#566070;--line:#d9dee6;--grid:#eceff4;--card:#ffffff}}
@media (prefers-color-scheme:dark){{.tw{{{_variables(DARK)};--soft:#a4afbf;--line:#3a4352;--grid:#2a313d;--card:#1b212b}}}}
"""
    + """
.tw text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--soft)}
.tw .halo{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
.tw .strong{fill:var(--ink);font-weight:600}.tw .grid{stroke:var(--grid)}.tw .axis{stroke:var(--line)}
.tw .l{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}.tw .l.faint{stroke-width:1;opacity:.55}
.tw .dashed{stroke-dasharray:4 3}.tw .d{fill:currentColor;fill-opacity:.75;stroke:var(--card);stroke-width:.6}
.tw .d.faint{fill-opacity:.3}.tw .b{fill:currentColor;fill-opacity:.8}.tw .b.faint{fill-opacity:.2}
.tw .hollow{fill:var(--card);stroke:currentColor;stroke-width:1.4}.tw .h{fill:currentColor}
.tw .a{fill:currentColor;fill-opacity:.16}.tw .w{fill:none;stroke:var(--ink);stroke-width:1.4}
"""
    + "".join(f".tw .{name}{{color:var(--{name})}}" for name in LIGHT)
)


def escape(text: str) -> str:
    """What somebody named or wrote, as text of a page: no markup, and nothing that turns the direction of writing."""
    return html.escape(visible(text))


def shorten(text: str, most: int) -> str:
    """Text of at most ``most`` characters."""
    return text if len(text) <= most else text[: max(1, most - 1)] + "…"


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart as data: independent of how and how large it is drawn. A notebook shows it drawn.

    Attributes:
        kind: One of ``plots.KINDS``.
        title: What it shows.
        how: How to read it, one sentence.
        insight: What it says here, one sentence computed from the data.
        panels: Panels, or rows.
        legend: ``(style, text)`` pairs.
        head: Column names of the table behind the figure.
        table: The numbers behind it, for readers who want them as text.
        columns: Panels next to each other.
    """

    kind: str
    title: str
    how: str
    insight: str
    panels: tuple[Panel, ...] | Rows
    legend: tuple[tuple[str, str], ...] = ()
    head: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    columns: int = 1

    def _repr_html_(self) -> str:
        return (
            f"<div class='tw'><p><b>{escape(self.title)}.</b> {escape(self.insight)}</p>{svg(self)}"
            f"<p>{escape(self.how)}</p></div>"
        )


# ---------------------------------------------------------------------- drawing


def _f(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _text(x: float, y: float, text: str, anchor: str = "start", style: str = "") -> str:
    name = f' class="{style}"' if style else ""
    return f'<text x="{_f(x)}" y="{_f(y)}" text-anchor="{anchor}"{name}>{escape(text)}</text>'


def _tick(x: float, y: float, text: str, edge: float, style: str = "") -> str:
    """A tick's text below it, moved left where it would leave the drawing."""
    return _text(min(x, edge - len(text) * CHAR / 2 - 2), y, text, "middle", style)


def _path(points: Sequence[Point]) -> str:
    """Path data; NaN lifts the pen."""
    out, down = [], False
    for x, y in points:
        if x != x or y != y:
            down = False
            continue
        out.append(f"{'L' if down else 'M'}{_f(x)} {_f(y)}")
        down = True
    return "".join(out)


def _title(tip: str) -> str:
    return f"<title>{escape(tip)}</title>" if tip else ""


@dataclass(frozen=True, slots=True)
class _Frame:
    """A panel and where it lies, in pixels."""

    panel: Panel
    left: float
    top: float
    width: float
    height: float

    def x(self, values: Floats | Sequence[float]) -> list[float]:
        """Pixels from the left."""
        return [self.left + u * self.width for u in self.panel.x.at(values).tolist()]

    def y(self, values: Floats | Sequence[float]) -> list[float]:
        """Pixels from the top."""
        return [self.top + (1 - u) * self.height for u in self.panel.y.at(values).tolist()]

    def points(self, points: Floats) -> list[Point]:
        """Both."""
        return list(zip(self.x(points[:, 0]), self.y(points[:, 1]), strict=True))


def _mark(mark: Mark, frame: _Frame) -> str:
    """SVG of one mark."""
    if isinstance(mark, Line):
        return (
            f'<path class="l {mark.style}" d="{_path(frame.points(mark.points))}">{_title(mark.name)}</path>'
        )
    if isinstance(mark, Contour):
        paths = "".join(_path(frame.points(line)) for line in mark.lines)
        return f'<path class="l faint {mark.style}" d="{paths}">{_title(number(mark.level))}</path>'
    if isinstance(mark, Band):
        x = frame.x(mark.x)
        there = list(zip(x, frame.y(mark.high), strict=True))
        back = list(zip(x, frame.y(mark.low), strict=True))[::-1]
        return f'<path class="a {mark.style}" d="{_path([*there, *back])}Z"/>'
    if isinstance(mark, Box):
        return _rect(frame, (mark.x0, mark.y0, mark.x1, mark.y1), f"b {mark.style}", mark.tip)
    if isinstance(mark, Bars):
        return _bars(mark, frame)
    if isinstance(mark, Heat):
        return _heat(mark, frame)
    return "".join(
        f'<circle class="d {style}" cx="{_f(x)}" cy="{_f(y)}" r="{_f(mark.radius)}">{_title(tip)}</circle>'
        for (x, y), style, tip in zip(frame.points(mark.points), mark.each, mark.tips, strict=True)
    )


def _rect(frame: _Frame, corners: tuple[float, ...], style: str, tip: str, more: str = ' rx="1.5"') -> str:
    x0, x1 = sorted(frame.x(corners[::2]))
    y0, y1 = sorted(frame.y(corners[1::2]))
    size = f'x="{_f(x0)}" y="{_f(y0)}" width="{_f(max(x1 - x0, 1))}" height="{_f(max(y1 - y0, 1))}"'
    return f'<rect class="{style}" {size}{more}>{_title(tip)}</rect>'


def _bars(mark: Bars, frame: _Frame) -> str:
    axis = frame.panel.x if mark.horizontal else frame.panel.y
    start = max(axis.low, min(0.0, axis.high))
    out = []
    for at, value, low, high, tip in zip(mark.at, mark.value, mark.low, mark.high, mark.tips, strict=True):
        if mark.horizontal:
            out.append(_rect(frame, (start, at - 0.3, value, at + 0.3), f"b {mark.style}", tip))
            (a, b), (y, _) = frame.x([low, high]), frame.y([at, at])
            ends = [(a, y), (b, y)]
        else:
            out.append(_rect(frame, (at - 0.3, start, at + 0.3, value), f"b {mark.style}", tip))
            (x, _), (a, b) = frame.x([at, at]), frame.y([low, high])
            ends = [(x, a), (x, b)]
        if low == low and high == high:
            out.append(f'<path class="w" d="{_path(ends)}"/>')
    return "".join(out)


def _edges(middles: list[float]) -> list[float]:
    """Ends of cells around their middles, in pixels; one more than middles."""
    if len(middles) < 2:
        return [middles[0] - 8, middles[0] + 8] if middles else []
    between = [(a + b) / 2 for a, b in pairwise(middles)]
    return [2 * middles[0] - between[0], *between, 2 * middles[-1] - between[-1]]


def _heat(mark: Heat, frame: _Frame) -> str:
    x, y = _edges(frame.x(mark.x)), _edges(frame.y(mark.y))
    width = (mark.high - mark.low) or 1.0
    out = []
    for i, row in enumerate(mark.z.tolist()):
        for j, value in enumerate(row):
            if value != value:
                continue
            depth = min(max((value - mark.low) / width, 0.0), 1.0)
            left, right = max(x[j], frame.left), min(x[j + 1], frame.left + frame.width)
            low, high = max(y[i + 1], frame.top), min(y[i], frame.top + frame.height)
            size = f'x="{_f(left)}" y="{_f(low)}" width="{_f(right - left)}" height="{_f(high - low)}"'
            opacity = f'fill-opacity="{0.05 + 0.9 * depth:.2f}"'
            out.append(
                f'<rect class="h s0" {size} {opacity}>{_title(f"{mark.label} {number(value)}")}</rect>'
            )
    return "".join(out)


def _spaced(ticks: Sequence[tuple[float, str]], width: float) -> list[tuple[float, str]]:
    """The ticks whose texts have room next to each other."""
    kept: list[tuple[float, str]] = []
    for position, text in sorted(ticks):
        before = kept[-1] if kept else None
        need = (len(text) + (len(before[1]) if before else 0)) * CHAR / 2 + 8
        if before is None or (position - before[0]) * width >= need:
            kept.append((position, text))
    return kept


def _panel(panel: Panel, left: float, top: float, width: float, y_chars: int) -> tuple[str, float]:
    """SVG of one panel and its bottom edge."""
    head = 20 if panel.title else 0
    gutter = max(30.0, y_chars * CHAR + 12)
    down = top + head + (24 if panel.y.label else 6)
    frame = _Frame(panel, left + gutter, down, width - gutter - 12, float(panel.height))
    out = []
    if panel.title:
        out.append(_text(left, top + 13, shorten(panel.title, int(width / CHAR)), style="strong"))
    if panel.y.label:
        out.append(_text(left, top + head + 9, shorten(panel.y.label, int(width / CHAR))))
    bottom = frame.top + frame.height
    for position, text in panel.y.ticks:
        y = bottom - position * frame.height
        out.append(f'<path class="grid" d="M{_f(frame.left)} {_f(y)}H{_f(frame.left + frame.width)}"/>')
        out.append(_text(frame.left - 6, y + 4, shorten(text, y_chars), "end"))
    ticks = panel.x.ticks
    room = int(frame.width / len(ticks) / CHAR) if len(ticks) > 1 else 20
    for position, text in _spaced(ticks, frame.width):
        x = frame.left + position * frame.width
        out.append(f'<path class="axis" d="M{_f(x)} {_f(bottom)}v4"/>')
        out.append(_tick(x, bottom + 17, shorten(text, max(room, 4)), left + width))
    out.append(f'<path class="axis" d="M{_f(frame.left)} {_f(bottom)}H{_f(frame.left + frame.width)}"/>')
    out.extend(_mark(mark, frame) for mark in panel.marks)
    if panel.x.label:
        label = shorten(panel.x.label, int(frame.width / CHAR))
        out.append(_text(frame.left + frame.width, bottom + 33, label, "end"))
    return "".join(out), bottom + (40 if panel.x.label else 26)


def _rows(rows: Rows, top: float, width: float) -> tuple[str, float]:
    """SVG of parallel coordinates and their bottom edge; names stand left of the axes where there is room."""
    beside = width >= 500
    names = 118.0 if beside else 8.0
    gap, left, right = (36.0, names + 34, width - 14) if beside else (50.0, names + 26, width - 10)
    first = top + (12 if beside else 26)
    rules, texts, lines = [], [], []
    for i, axis in enumerate(rows.axes):
        y = first + i * gap
        rules.append(f'<path class="axis" d="M{_f(left)} {_f(y)}H{_f(right)}"/>')
        for position, text in _spaced(axis.ticks, right - left):
            x = left + position * (right - left)
            rules.append(f'<path class="axis" d="M{_f(x)} {_f(y - 3)}v6"/>')
            texts.append(_tick(x, y + 15, shorten(text, 18), width, "halo"))
        most = int((names if beside else width) / CHAR) - 1
        name = shorten(axis.label, most)
        texts.append(
            _text(0, y + 4, name, style="strong halo")
            if beside
            else _text(left, y - 7, name, style="strong halo")
        )
    places = [axis.at(rows.lines[:, i]).tolist() for i, axis in enumerate(rows.axes)]
    for line, style, tip in zip(zip(*places, strict=True), rows.styles, rows.tips, strict=True):
        points = [
            (names if u != u else left + u * (right - left), first + i * gap) for i, u in enumerate(line)
        ]
        lines.append(f'<path class="l {style}" d="{_path(points)}">{_title(tip)}</path>')
    return "".join([*rules, *lines, *texts]), first + len(rows.axes) * gap - 12


def _legend(entries: Sequence[tuple[str, str]], width: float) -> tuple[str, float]:
    """SVG of the legend, wrapped to the width, and its bottom edge."""
    if not entries:
        return "", 0.0
    out, x, y = [], 2.0, 10.0
    for style, text in entries:
        label = shorten(text, int(width / CHAR) - 4)
        need = 16 + len(label) * CHAR + 16
        if x > 2 and x + need - 16 > width:
            x, y = 2.0, y + 18
        out.append(f'<circle class="d {style}" cx="{_f(x + 5)}" cy="{_f(y - 4)}" r="4.5"/>')
        out.append(_text(x + 15, y, label))
        x += need
    return "".join(out), y + 12


def svg(figure: Figure, *, width: int = 720, standalone: bool = True) -> str:
    """Draws a figure.

    Args:
        figure: What to draw.
        width: Width in pixels; text keeps its size, so a phone gets a narrower drawing rather than a smaller one.
        standalone: Whether the style goes into the drawing; a page with many of them carries it once.
    """
    body, bottom = _legend(figure.legend, width)
    parts = [body]
    if isinstance(figure.panels, Rows):
        body, bottom = _rows(figure.panels, bottom + 4, width)
        parts.append(body)
    else:
        columns = max(1, min(figure.columns, width // 230))
        each = width / columns
        chars = max((len(t) for p in figure.panels for _, t in p.y.ticks), default=3)
        chars = min(chars, int(each / CHAR * 0.42))
        for start in range(0, len(figure.panels), columns):
            row = figure.panels[start : start + columns]
            drawn = [_panel(p, i * each, bottom, each, chars) for i, p in enumerate(row)]
            parts.extend(d for d, _ in drawn)
            bottom = max(b for _, b in drawn) + 8
    style = f"<style>{STYLE}.tw{{background:var(--card)}}</style>" if standalone else ""
    label = escape(f"{figure.title}. {figure.insight}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tw" viewBox="0 0 {width} {_f(bottom)}" role="img" '
        f'aria-label="{label}" width="{width}">{style}{"".join(parts)}</svg>'
    )
