"""How far trials came, for people: steps, or with a scale the size that was trained last and its steps.

Points of a scale are ordinal, so on charts every size has a place of its own, in which steps are even.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunewright.analysis.marks import Axis, Floats, linear, logarithmic, names_axis
from tunewright.core.problem import Problem

_MANY = 8


def reached(problem: Problem, step: int) -> str:
    """How far a trial came that stands at a step."""
    return str(step) if problem.scale is None else problem.scale.words(step)


def along(problem: Problem, points: Floats) -> Floats:
    """Points of a chart whose first column are steps, shape ``(n, c)``, with places on the axis in their stead."""
    if problem.scale is None:
        return points
    places = [problem.scale.across(int(step)) for step in points[:, 0]]
    return np.column_stack([places, points[:, 1:]])


def steps_axis(problem: Problem, end: float, *, even: bool = True) -> Axis:
    """The axis of how far trials came.

    Args:
        problem: Of the study.
        end: The last step.
        even: Whether steps are even on it; else many are even in logarithm.
    """
    if problem.scale is not None:
        return names_axis("size", [stage.name for stage in problem.scale.stages])
    unit = problem.fidelity.unit if problem.fidelity is not None else "step"
    if even:
        return linear("step", 0.0, end)
    return logarithmic(unit, 1.0, end) if end >= _MANY else linear(unit, 1.0, end)


def trained(problem: Problem, ends: Sequence[int]) -> str:
    """How much was trained, as a share of training every trial as long as the longest, in words.

    Args:
        problem: Of the study.
        ends: Step at which each trial ended.
    """
    scale, longest = problem.scale, max(ends)
    if scale is None:
        return f"{sum(ends) / (longest * len(ends)):.0%} of all steps"
    spent = sum(scale.cost_of(end) for end in ends) / (scale.cost_of(longest) * len(ends))
    return f"{spent:.0%} of what all of that costs"
