"""How important each parameter is, by one of several measures that answer different questions."""

from __future__ import annotations

from collections.abc import Callable

from tunewright.analysis.ablation import ablation_importance
from tunewright.analysis.fanova import fanova
from tunewright.analysis.ped_anova import ped_anova
from tunewright.analysis.sensitivity import local_importance
from tunewright.analysis.shapley import shapley
from tunewright.analysis.shares import HasHistory, Importance
from tunewright.core.history import History
from tunewright.errors import ConfigError

__all__ = ["METHODS", "SAYS", "Importance", "importance"]

Measure = Callable[[HasHistory | History, int], list[Importance]]


def _fanova(study_or_history: HasHistory | History, seed: int) -> list[Importance]:
    return fanova(study_or_history, seed=seed).single


METHODS: dict[str, Measure] = {
    "ped-anova": ped_anova,
    "fanova": _fanova,
    "shapley": shapley,
    "ablation": ablation_importance,
    "local": local_importance,
}
SAYS = {
    "ped-anova": "Bars say how much a parameter decides about being among the best tenth of trials (PED-ANOVA, chance "
    "subtracted); the line is the 90 % bootstrap interval.",
    "fanova": "Bars are shares of the variance of the objective over the whole space that a parameter explains alone (fANOVA); "
    "the line is the 90 % interval over the trees of a forest; what is missing from 100 % are interactions.",
    "shapley": "Bars are shares of the mean absolute Shapley value, how far a parameter moves the expected objective of a trial "
    "from the average; the line is the 90 % bootstrap interval.",
    "ablation": "Bars are shares of the way from the default to the best configuration that each parameter covers, changed one "
    "after the other (ablation); the line is the 90 % interval over the trees of a forest.",
    "local": "Bars are shares of the change around the best configuration, by the slopes of a line fitted there (LIME); the line "
    "is the 90 % interval over the trees of a forest.",
}


def importance(
    study_or_history: HasHistory | History, seed: int = 0, *, method: str = "ped-anova"
) -> list[Importance]:
    """Importance of every parameter, largest first.

    Args:
        study_or_history: A study, or its history; of several objectives the first counts.
        seed: For bootstraps and forests.
        method: What is asked. ``ped-anova``: what decides about being among the best tenth of trials. ``fanova``: what moves the
            objective over the whole space. ``shapley``: what moves the objective of the trials that were made, from the
            library ``shap``. ``ablation``: what brought the way from the default to the best. ``local``: what matters
            around the best.

    Raises:
        ConfigError: If there is no such method, or fewer trials have a result than it needs (8 for ``ped-anova``, else 20).
        MissingExtra: If ``shapley`` is asked for and ``shap`` is not installed.
    """
    if method not in METHODS:
        raise ConfigError(
            f"Importance needs a method out of {', '.join(METHODS)}; got {method!r}. Choose one of them."
        )
    return METHODS[method](study_or_history, seed)
