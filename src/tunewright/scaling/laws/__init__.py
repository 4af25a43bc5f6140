"""Scaling laws: published ones as objects with units and a box of validity, fits of our own, and all of them side by side.

::

    from tunewright.scaling import laws

    laws.get("step-law-lr").predict(params="1B", tokens="100B")
    laws.recommend(params=1e9, tokens=1e11).table()
    laws.fit_loss(params, tokens, losses).predict(params=1e9, tokens=2e10)

NumPy only; SciPy is imported by the fits, PyTorch never.
"""

from __future__ import annotations

from tunewright.scaling.laws.law import Box, Input, Law, Prediction, quantity
from tunewright.scaling.laws.published import PUBLISHED, get, names
from tunewright.scaling.laws.recommending import Conflict, Recommendations, Row, recommend

__all__ = [
    "PUBLISHED",
    "Box",
    "Conflict",
    "Input",
    "Law",
    "Prediction",
    "Recommendations",
    "Row",
    "get",
    "names",
    "quantity",
    "recommend",
]
