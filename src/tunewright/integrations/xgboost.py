"""Checkpoints of XGBoost models that get more trees in parts; raises MissingExtra on import where that is not installed.

Example:
    A step is twenty trees::

        from tunewright.integrations.xgboost import BoosterState

        def train(trial):
            state = BoosterState()
            trial.keep(state=state)
            for step in trial.steps():
                state.booster = xgb.train(params, data, 20, xgb_model=state.booster)
                trial.report(step, loss=loss(state.booster))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.errors import missing_extra

try:
    import xgboost
except ImportError as error:
    raise missing_extra("xgboost", "boosting") from error

__all__ = ["BoosterState"]


class BoosterState:
    """A booster with ``state_dict`` and ``load_state_dict``, so that ``trial.keep`` can keep it.

    More trees are added to what it holds: pass it as ``xgb_model``. The parameters are those of the call that adds them,
    so a fork goes on with its own. Rows and columns that are drawn at random are drawn anew in every call, from the
    seed in its parameters: give each step a seed of its own, such as ``trial.seed + step``.

    Attributes:
        booster: The ``Booster``, or None before the first trees.
    """

    def __init__(self) -> None:
        self.booster: Any = None

    def state_dict(self) -> dict[str, Any]:
        """The model as bytes, in universal binary JSON."""
        return {"model": None if self.booster is None else bytes(self.booster.save_raw("ubj"))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Makes the saved booster."""
        data = state["model"]
        self.booster = None if data is None else xgboost.Booster(model_file=bytearray(data))
