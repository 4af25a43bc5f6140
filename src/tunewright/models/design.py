"""The first configurations of a study, before there is a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunewright.core.problem import Problem
from tunewright.numerics.sequences import sobol

FloatArray = NDArray[np.float64]


def design_row(problem: Problem, number: int, initial: int, rng: np.random.Generator) -> FloatArray:
    """Codes of start-up configuration ``number``, shape ``(d,)``: a scrambled Sobol point.

    A draw from the prior once ``initial`` points are used up, in spaces with constraints, and where guesses have weight.

    Args:
        problem: Its seed chooses the scrambling.
        number: Number of trials before this one.
        initial: Length of the design.
        rng: Source of randomness of the draws.
    """
    space = problem.space
    believed = any(c.domain.guess is not None and c.domain.confidence > 0.0 for c in space.columns)
    if not space.d or space.constraints or believed or number >= initial:
        rows = space.sample(rng, 1)
    else:
        rows = space.snap(sobol(space.d, (problem.seed,)).block(number, 1))
    row: FloatArray = rows[0]
    return row
