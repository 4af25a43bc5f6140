"""Checkpoints of LightGBM models that get more trees in parts; raises MissingExtra on import where that is not installed.

Example:
    A step is twenty trees::

        from tunewright.integrations.lightgbm import BoosterState

        def train(trial):
            state = BoosterState()
            trial.keep(state=state)
            for step in trial.steps():
                state.booster = lgb.train(params, data, 20, init_model=state.booster)
                trial.report(step, loss=loss(state.booster))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.errors import missing_extra

try:
    import lightgbm
except ImportError as error:
    raise missing_extra("lightgbm", "boosting") from error

__all__ = ["BoosterState"]


class BoosterState:
    """A booster with ``state_dict`` and ``load_state_dict``, so that ``trial.keep`` can keep it.

    More trees are added to what it holds: pass it as ``init_model``. The parameters are those of the call that adds them,
    so a fork goes on with its own. Rows and columns that are drawn at random are drawn anew in every call, from the
    seed in its parameters: give each step a seed of its own, such as ``trial.seed + step``.

    Attributes:
        booster: The ``Booster``, or None before the first trees.
    """

    def __init__(self) -> None:
        self.booster: Any = None

    def state_dict(self) -> dict[str, Any]:
        """The model as text, with all digits."""
        return {"model": None if self.booster is None else self.booster.model_to_string(num_iteration=-1)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Makes the saved booster."""
        text = state["model"]
        self.booster = None if text is None else lightgbm.Booster(model_str=text)
