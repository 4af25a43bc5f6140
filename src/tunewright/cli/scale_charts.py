"""Charts of what ``scale check`` measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tunewright.analysis.drawing import Figure
from tunewright.analysis.marks import GROUPS, Axis, Dots, Floats, Line, Mark, Panel, logarithmic, values_axis
from tunewright.analysis.plots import write
from tunewright.cli.scale_checks import Warmups
from tunewright.errors import ConfigError
from tunewright.scaling.checking import Check
from tunewright.scaling.coordinates import Coordinates
from tunewright.scaling.rates import Rates
from tunewright.scaling.sharpness import Sharpnesses

Curve = tuple[str, str, Floats]
_NAMED = 12


def drawn(checks: Sequence[Check], path: Path) -> None:
    """Writes a panel for every check into a file.

    Raises:
        ConfigError: If nothing can be drawn, or the path ends in something else than a chart's ending.
    """
    panels: list[Panel] = []
    legends: list[tuple[str, str]] = []
    for check in checks:
        found = _panel(check)
        if found is not None:
            panels.append(found[0])
            legends += [entry for entry in found[1] if entry not in legends]
    if not panels:
        raise ConfigError(
            "Charts are drawn of coordinates, rates and sharpness; none of these was checked. Leave --plot out."
        )
    how = (
        "Under a rule that transfers, curves of coordinates and of sharpness are level, and those over rates have their lowest "
        "points above each other."
    )
    said = " ".join(c.why for c in checks)
    write(Figure("scale", "Over sizes", how, said, tuple(panels), tuple(legends[:_NAMED])), path)


def _panel(check: Check) -> tuple[Panel, list[tuple[str, str]]] | None:
    if isinstance(check, Coordinates):
        return _coordinates(check)
    if isinstance(check, Rates):
        return _rates(check)
    if isinstance(check, Sharpnesses):
        return _sharpness(check)
    assert isinstance(check, Warmups)
    return None


def _coordinates(check: Coordinates) -> tuple[Panel, list[tuple[str, str]]]:
    slopes, errors = check.slopes, check.errors
    curves = []
    for i, name in enumerate(check.modules):
        if name in slopes:
            wrong = abs(slopes[name]) - errors[name] > check.bound
            style = "failed" if wrong else "ink" if name == "output" else "s0 faint"
            curves.append((style, f"{name}, slope {slopes[name]:+.2f}", _mean(check.changes[:, :, -1, i])))
    title = f"{check.rule}: change after {check.changes.shape[2]} steps"
    legend = [("ink", "output"), ("s0 faint", "other modules"), ("failed", "beyond the bound")]
    return _drawn(
        title, _sizes(check.along, check.sizes), check.sizes, "root mean square of the change", curves
    ), legend


def _rates(check: Rates) -> tuple[Panel, list[tuple[str, str]]]:
    finite = np.where(np.isfinite(check.mean), check.mean, np.nan)
    curves = [(f"s{i % GROUPS}", f"{check.along} {size}", finite[i]) for i, size in enumerate(check.sizes)]
    axis = logarithmic("base rate", float(check.rates[0]) / 1.1, float(check.rates[-1]) * 1.1)
    legend = [(style, name) for style, name, _ in curves]
    return _drawn(f"{check.rule}: loss after training", axis, check.rates.tolist(), "loss", curves), legend


def _sharpness(check: Sharpnesses) -> tuple[Panel, list[tuple[str, str]]]:
    curves = [
        (f"s{i % GROUPS}", f"{check.along} {size}", _mean(check.values[i].T))
        for i, size in enumerate(check.sizes)
    ]
    axis = values_axis("step", check.steps)
    legend = [(style, name) for style, name, _ in curves]
    return _drawn(f"{check.rule}: sharpness", axis, check.steps, "largest eigenvalue", curves), legend


def _sizes(along: str, sizes: Sequence[int]) -> Axis:
    return logarithmic(along, sizes[0] / 1.1, sizes[-1] * 1.1)


def _mean(values: Floats) -> Floats:
    """Geometric mean over the last axis; NaN where a value is not positive and finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.exp(np.log(values).mean(axis=-1))
    return np.where(np.isfinite(found) & (found > 0), found, np.nan)


def _drawn(title: str, x: Axis, places: Sequence[float], label: str, curves: Sequence[Curve]) -> Panel:
    marks: list[Mark] = []
    for style, name, values in curves:
        points = np.stack([np.asarray(places, dtype=np.float64), values], axis=1)
        marks += [
            Line(points, style, name),
            Dots(points[np.isfinite(values)], style, [name] * int(np.isfinite(values).sum())),
        ]
    known = np.concatenate([values[np.isfinite(values)] for _, _, values in curves] or [np.ones(1)])
    y = values_axis(label, known)
    if len(known) and known.min() > 0:
        y = logarithmic(label, float(known.min()) / 1.2, float(known.max()) * 1.2)
    return Panel(x, y, tuple(marks), title)
