"""Scaling laws: published ones as objects with units and a box of validity, fits of our own, and all of them side by side.

::

    from tunewright.scaling import laws

    laws.get("step-law-lr").predict(params="1B", tokens="100B")
    laws.recommend(params=1e9, tokens=1e11).table()
    laws.fit_loss(params, tokens, losses).predict(params=1e9, tokens=2e10)

NumPy only; SciPy is imported by the fits, PyTorch never.
"""

from __future__ import annotations

from tunewright.scaling.laws.downstream import Downstream, choose, fit_error
from tunewright.scaling.laws.fit import Fit
from tunewright.scaling.laws.fitting import fit_loss, fit_power
from tunewright.scaling.laws.law import Box, Input, Law, Prediction, quantity
from tunewright.scaling.laws.optima import Optimum, Surface, convexity, fit_surface, optimum
from tunewright.scaling.laws.published import PUBLISHED, get, names
from tunewright.scaling.laws.recommending import Conflict, Recommendations, Row, recommend
from tunewright.scaling.laws.tables import fit_columns

__all__ = [
    "PUBLISHED",
    "Box",
    "Conflict",
    "Downstream",
    "Fit",
    "Input",
    "Law",
    "Optimum",
    "Prediction",
    "Recommendations",
    "Row",
    "Surface",
    "choose",
    "convexity",
    "fit_columns",
    "fit_error",
    "fit_loss",
    "fit_power",
    "fit_surface",
    "get",
    "names",
    "optimum",
    "quantity",
    "recommend",
]
