"""Optuna's words over Tunewright: change the import line, and an objective runs unchanged.

``from tunewright.integrations import optuna`` needs no Optuna. Methods, stores and logs are ours; what has no
counterpart is refused by name. The other way round, ``TunewrightSampler`` brings our methods to Optuna's own studies,
and needs Optuna.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunewright.integrations.optuna import (
    distributions,
    exceptions,
    logging,
    pruners,
    samplers,
    storages,
    study,
    trial,
)
from tunewright.integrations.optuna.exceptions import TrialPruned
from tunewright.integrations.optuna.study import (
    Study,
    create_study,
    delete_study,
    get_all_study_names,
    get_all_study_summaries,
    load_study,
)
from tunewright.integrations.optuna.trial import Trial, create_trial

if TYPE_CHECKING:
    from tunewright.integrations.optuna_sampler import TunewrightSampler

__all__ = [
    "Study",
    "Trial",
    "TrialPruned",
    "TunewrightSampler",
    "create_study",
    "create_trial",
    "delete_study",
    "distributions",
    "exceptions",
    "get_all_study_names",
    "get_all_study_summaries",
    "load_study",
    "logging",
    "pruners",
    "samplers",
    "storages",
    "study",
    "trial",
]

_INSTEAD = {
    "artifacts": "Keep files in the folder of a trial of tunewright's own Study.run.",
    "copy_study": "Make a study and call add_trials with the trials of the other.",
    "importance": "Run 'tunewright importance NAME'.",
    "integration": "Call trial.report and trial.should_prune in your training loop.",
    "terminator": "Call study.stop in a callback.",
    "visualization": "Run 'tunewright plot NAME'.",
}


def __getattr__(name: str) -> Any:
    """Loads what needs Optuna when it is asked for; says what to do instead of what has no counterpart."""
    if name == "TunewrightSampler":
        from tunewright.integrations.optuna_sampler import TunewrightSampler

        return TunewrightSampler
    if name in _INSTEAD:
        raise AttributeError(
            f"A name of Optuna must have a counterpart here; got '{name}', which has none. {_INSTEAD[name]}"
        )
    raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
