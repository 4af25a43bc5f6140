"""Tunewright chooses hyperparameters: outside the run, inside the run, by removing the choice, or by predicting it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunewright import architect, transfer
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
    from tunewright.run.session import Policy
    from tunewright.run.worker import Attempt
    from tunewright.study import Asked, Study

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
    "Schedule": "tunewright.analysis.lineage",
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
    "one_of": "tunewright.core.declare",
    "space_of": "tunewright.core.declare",
    "transfer": "tunewright.transfer",
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
    "Schedule",
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
    "one_of",
    "space_of",
    "transfer",
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
