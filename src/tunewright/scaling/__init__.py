"""Predicting the choice: settings that survive a change of size, and laws that say how they move.

Nothing here is imported before it is used, so that laws need no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "RULES": "tunewright.scaling.rules",
    "ArchitectureAware": "tunewright.scaling.rules.architecture",
    "ConvShape": "tunewright.scaling.counting",
    "Entry": "tunewright.scaling.plans",
    "Family": "tunewright.scaling.families",
    "Graph": "tunewright.scaling.graph",
    "How": "tunewright.scaling.sweeping",
    "Multiplier": "tunewright.scaling.multipliers",
    "Plan": "tunewright.scaling.plans",
    "Scale": "tunewright.core.scale",
    "ScalingWarning": "tunewright.scaling.plans",
    "Sweep": "tunewright.scaling.sweeping",
    "TimeModel": "tunewright.scaling.timing",
    "Transfer": "tunewright.scaling.proxy",
    "TransformerShape": "tunewright.scaling.counting",
    "Tuned": "tunewright.scaling.rules.base",
    "best_shapes": "tunewright.scaling.timing",
    "calibrate": "tunewright.scaling.timing",
    "coordinate_check": "tunewright.scaling.coordinates",
    "critical_batch_size": "tunewright.scaling.critical",
    "fit_critical_law": "tunewright.scaling.critical",
    "fit_horizon": "tunewright.scaling.horizon",
    "fit_mixture": "tunewright.scaling.mixture",
    "gradient_noise_scale": "tunewright.scaling.noise",
    "independent_search": "tunewright.scaling.unit",
    "measure_step": "tunewright.scaling.timing",
    "noise_scale": "tunewright.scaling.noise",
    "noise_share": "tunewright.scaling.batch_rule",
    "optimal_rate": "tunewright.scaling.horizon",
    "plan": "tunewright.scaling.plans",
    "rate_check": "tunewright.scaling.rates",
    "rescale_": "tunewright.scaling.batch_rule",
    "scaled": "tunewright.scaling.batch_rule",
    "shapes": "tunewright.scaling.tensors",
    "sharpness_check": "tunewright.scaling.sharpness",
    "sweep": "tunewright.scaling.sweeping",
    "transfer_rate": "tunewright.scaling.horizon",
}

__all__ = [
    "ArchitectureAware",
    "ConvShape",
    "Entry",
    "Family",
    "Graph",
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
    "coordinate_check",
    "critical_batch_size",
    "fit_critical_law",
    "fit_horizon",
    "fit_mixture",
    "gradient_noise_scale",
    "independent_search",
    "measure_step",
    "noise_scale",
    "noise_share",
    "optimal_rate",
    "plan",
    "rate_check",
    "rescale_",
    "scaled",
    "shapes",
    "sharpness_check",
    "sweep",
    "transfer_rate",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
