"""Tunewright chooses hyperparameters: outside the run, inside the run, by removing the choice, or by predicting it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunewright import architect, presets, transfer
    from tunewright.analysis.lineage import Schedule
    from tunewright.confirming import confirm, confirmed
    from tunewright.core.combinatorial import Permutation, Subset
    from tunewright.core.constraints import Forbidden, Linear, Range
    from tunewright.core.declare import log, one_of, space_of
    from tunewright.core.domains import Bool, Choice, Float, Int, Order
    from tunewright.core.problem import Fidelity, Objective, Problem
    from tunewright.core.space import Space
    from tunewright.core.trial import Trial
    from tunewright.errors import InvalidTrial, LeaseLost, SpaceError, TunewrightError
    from tunewright.integrations.search_cv import SearchCV
    from tunewright.run.ray import Ray
    from tunewright.run.session import Policy
    from tunewright.run.worker import Attempt
    from tunewright.study import Asked, Study
    from tunewright.tuning import objective, tune

__version__ = "0.1.0.dev0"

_WHERE = {
    "Asked": "tunewright.study",
    "Attempt": "tunewright.run.worker",
    "Bool": "tunewright.core.domains",
    "Choice": "tunewright.core.domains",
    "Fidelity": "tunewright.core.problem",
    "Float": "tunewright.core.domains",
    "Forbidden": "tunewright.core.constraints",
    "Int": "tunewright.core.domains",
    "InvalidTrial": "tunewright.errors",
    "LeaseLost": "tunewright.errors",
    "Linear": "tunewright.core.constraints",
    "Objective": "tunewright.core.problem",
    "Order": "tunewright.core.domains",
    "Permutation": "tunewright.core.combinatorial",
    "Policy": "tunewright.run.session",
    "Problem": "tunewright.core.problem",
    "Range": "tunewright.core.constraints",
    "Ray": "tunewright.run.ray",
    "Schedule": "tunewright.analysis.lineage",
    "SearchCV": "tunewright.integrations.search_cv",
    "Space": "tunewright.core.space",
    "SpaceError": "tunewright.errors",
    "Study": "tunewright.study",
    "Subset": "tunewright.core.combinatorial",
    "Trial": "tunewright.core.trial",
    "TunewrightError": "tunewright.errors",
    "architect": "tunewright.architect",
    "confirm": "tunewright.confirming",
    "confirmed": "tunewright.confirming",
    "log": "tunewright.core.declare",
    "objective": "tunewright.tuning",
    "one_of": "tunewright.core.declare",
    "presets": "tunewright.presets",
    "space_of": "tunewright.core.declare",
    "transfer": "tunewright.transfer",
    "tune": "tunewright.tuning",
}
__all__ = [
    "Asked",
    "Attempt",
    "Bool",
    "Choice",
    "Fidelity",
    "Float",
    "Forbidden",
    "Int",
    "InvalidTrial",
    "LeaseLost",
    "Linear",
    "Objective",
    "Order",
    "Permutation",
    "Policy",
    "Problem",
    "Range",
    "Ray",
    "Schedule",
    "SearchCV",
    "Space",
    "SpaceError",
    "Study",
    "Subset",
    "Trial",
    "TunewrightError",
    "architect",
    "confirm",
    "confirmed",
    "log",
    "objective",
    "one_of",
    "presets",
    "space_of",
    "transfer",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used, so that importing the package costs next to nothing."""
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module 'tunewright' has no attribute {name!r}")
    module = importlib.import_module(where)
    value = module if where == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
