"""The names of ``optuna.exceptions`` that programs use."""

from __future__ import annotations

from tunewright.errors import StudyExists, TunewrightError

OptunaError = TunewrightError
DuplicatedStudyError = StudyExists

__all__ = ["DuplicatedStudyError", "OptunaError", "TrialPruned"]


class TrialPruned(Exception):
    """Raise this in an objective when ``trial.should_prune()`` says so; the trial counts as pruned."""
