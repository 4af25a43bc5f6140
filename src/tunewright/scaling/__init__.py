"""Predicting the choice: settings that survive a change of size, and laws that say how they move.

Nothing here is imported before it is used, so that laws need no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "measure_step": "tunewright.scaling.timing",
    "calibrate": "tunewright.scaling.timing",
    "best_shapes": "tunewright.scaling.timing",
    "TimeModel": "tunewright.scaling.timing",
    "TransformerShape": "tunewright.scaling.counting",
    "ConvShape": "tunewright.scaling.counting",
    "Entry": "tunewright.scaling.plans",
    "Family": "tunewright.scaling.families",
    "How": "tunewright.scaling.sweeping",
    "Multiplier": "tunewright.scaling.multipliers",
    "Plan": "tunewright.scaling.plans",
    "RULES": "tunewright.scaling.rules",
    "Scale": "tunewright.core.scale",
    "ScalingWarning": "tunewright.scaling.plans",
    "Sweep": "tunewright.scaling.sweeping",
    "Transfer": "tunewright.scaling.proxy",
    "Tuned": "tunewright.scaling.rules.base",
    "critical_batch_size": "tunewright.scaling.critical",
    "fit_critical_law": "tunewright.scaling.critical",
    "fit_horizon": "tunewright.scaling.horizon",
    "gradient_noise_scale": "tunewright.scaling.noise",
    "noise_scale": "tunewright.scaling.noise",
    "optimal_rate": "tunewright.scaling.horizon",
    "plan": "tunewright.scaling.plans",
    "shapes": "tunewright.scaling.tensors",
    "sweep": "tunewright.scaling.sweeping",
    "transfer_rate": "tunewright.scaling.horizon",
}

__all__ = [
    "RULES",
    "ConvShape",
    "Entry",
    "Family",
    "How",
    "Multiplier",
    "Plan",
    "Scale",
    "ScalingWarning",
    "Sweep",
    "TimeModel",
    "Transfer",
    "TransformerShape",
    "Tuned",
    "best_shapes",
    "calibrate",
    "critical_batch_size",
    "fit_critical_law",
    "fit_horizon",
    "gradient_noise_scale",
    "measure_step",
    "noise_scale",
    "optimal_rate",
    "plan",
    "shapes",
    "sweep",
    "transfer_rate",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
