"""Predicting the choice: settings that survive a change of size, and laws that say how they move.

Nothing here is imported before it is used, so that laws need no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "Entry": "tunewright.scaling.plans",
    "Family": "tunewright.scaling.families",
    "Multiplier": "tunewright.scaling.multipliers",
    "Plan": "tunewright.scaling.plans",
    "RULES": "tunewright.scaling.rules",
    "Scale": "tunewright.core.scale",
    "ScalingWarning": "tunewright.scaling.plans",
    "How": "tunewright.scaling.sweeping",
    "Sweep": "tunewright.scaling.sweeping",
    "Tuned": "tunewright.scaling.rules.base",
    "plan": "tunewright.scaling.plans",
    "shapes": "tunewright.scaling.tensors",
    "sweep": "tunewright.scaling.sweeping",
}

__all__ = [
    "RULES",
    "Entry",
    "Family",
    "How",
    "Multiplier",
    "Plan",
    "Scale",
    "ScalingWarning",
    "Sweep",
    "Tuned",
    "plan",
    "shapes",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
