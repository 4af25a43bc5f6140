"""Every parametrization by name. Entries are strings, resolved when used."""

from __future__ import annotations

import difflib
import importlib

from tunewright.errors import ConfigError
from tunewright.scaling.rules.base import Rule

RULES: dict[str, str] = {
    "sp": "tunewright.scaling.rules.sp:STANDARD",
    "mup": "tunewright.scaling.rules.mup:MUP",
    "sp-layerwise": "tunewright.scaling.rules.layerwise:LAYERWISE",
    "sp-no-alignment": "tunewright.scaling.rules.layerwise:LAYERWISE_LOOSE",
    "ntk": "tunewright.scaling.rules.abc:NTK_RULE",
    "mean-field": "tunewright.scaling.rules.abc:MEAN_FIELD_RULE",
    "mup-abc": "tunewright.scaling.rules.abc:MUP_RULE",
    "u-mup": "tunewright.scaling.rules.umup:UNIT_MUP",
    "depth-mup": "tunewright.scaling.rules.depth:DEPTH_MUP",
    "depthwise": "tunewright.scaling.rules.depth:DEPTHWISE",
    "architecture-aware": "tunewright.scaling.rules.architecture:ARCHITECTURE_AWARE",
    "second-order": "tunewright.scaling.rules.second_order:SECOND_ORDER",
}


def rule(name: str) -> Rule:
    """The parametrization of that name.

    Raises:
        ConfigError: If there is none, with the nearest name.
    """
    if name not in RULES:
        close = difflib.get_close_matches(name, RULES, 1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise ConfigError(f"A parametrization must be one of {', '.join(RULES)}; got {name!r}.{hint}")
    module, _, attribute = RULES[name].partition(":")
    found: Rule = getattr(importlib.import_module(module), attribute)
    return found
