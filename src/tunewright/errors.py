"""Every exception of the package, in one tree.

::

    TunewrightError
    ├── SpaceError (ValueError)        a search space that cannot be used
    │   └── SpaceConflict              not the space that the study has
    ├── ConfigError (ValueError)       an argument or setting that cannot be used
    ├── UnsupportedError               this method cannot handle this problem
    ├── AlgorithmError                 a method proposed something illegal: a bug in it, not in your code
    ├── MissingExtra (ImportError)     an optional dependency is not installed
    ├── StoreError
    │   ├── StudyExists                a study of that name is already there
    │   ├── StudyMissing               no study of that name
    │   ├── ConflictError              somebody else decided first; decide again
    │   ├── LeaseLost                  the attempt no longer owns its trial
    │   ├── SchemaError                the file was written by another version, or is damaged
    │   └── StoreUnavailable           locked, full, read-only or unreachable
    └── RunError
        ├── InvalidTrial               raised by user code: this configuration makes no sense
        ├── TooManyFailures            the study gave up
        ├── CheckpointError            a checkpoint is missing, damaged or of another trial
        ├── ReplayMismatch             a decision in the log is not the one the method takes today
        └── Diverged                   tuning inside a run met a loss or a gradient that is not finite

Each class has a stable ``code``; ``tunewright explain TW010`` shows its page. Messages follow one shape: what
must hold; what was got; what to do.
"""

from __future__ import annotations

from typing import ClassVar


class TunewrightError(Exception):
    """Root of everything this package raises on purpose."""

    code: ClassVar[str] = "TW000"

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else self.__class__.__name__


class SpaceError(TunewrightError, ValueError):
    """A search space is contradictory, empty or does not fit a configuration."""

    code = "TW010"


class SpaceConflict(SpaceError):
    """The space is not the one that the study has, and changing it was not allowed."""

    code = "TW011"


class ConfigError(TunewrightError, ValueError):
    """An argument or a setting cannot be used."""

    code = "TW020"


class UnsupportedError(TunewrightError):
    """The chosen method cannot handle this problem; raised before compute is spent."""

    code = "TW030"


class AlgorithmError(TunewrightError):
    """A method proposed an illegal action: a bug in the method or in a plug-in."""

    code = "TW031"


class MissingExtra(TunewrightError, ImportError):
    """An optional dependency is needed and absent; the message names the pip command."""

    code = "TW032"


class StoreError(TunewrightError):
    """Something about the place where studies live."""

    code = "TW040"


class StudyExists(StoreError):
    """A study of that name is already there."""

    code = "TW041"


class StudyMissing(StoreError, KeyError):
    """No study of that name."""

    code = "TW042"


class ConflictError(StoreError):
    """Another process decided first; the caller decides again on the newer log."""

    code = "TW043"


class LeaseLost(StoreError):
    """The attempt no longer owns its trial, so nothing it says is recorded."""

    code = "TW044"


class SchemaError(StoreError):
    """The file was written by another version of the format, or is damaged."""

    code = "TW045"


class StoreUnavailable(StoreError):
    """The store is locked, full, read-only or unreachable.

    Attributes:
        passing: Whether the same call may well succeed later, such as once a full disk has room again.
    """

    code = "TW046"

    def __init__(self, *args: object, passing: bool = False) -> None:
        super().__init__(*args)
        self.passing = passing


class RunError(TunewrightError):
    """Something about running trials."""

    code = "TW050"


class InvalidTrial(RunError):
    """Raise this in a training function when a configuration makes no sense; the method learns from it."""

    code = "TW051"


class TooManyFailures(RunError):
    """The study stopped because its failure policy said so."""

    code = "TW052"


class CheckpointError(RunError):
    """A checkpoint is missing, damaged, or belongs to another trial.

    Attributes:
        blob: Name of the checkpoint that cannot be read any more, or empty.
    """

    code = "TW053"

    def __init__(self, *args: object, blob: str = "") -> None:
        super().__init__(*args)
        self.blob = blob


class ReplayMismatch(RunError):
    """A decision in the log differs from the one the method takes now at the same position."""

    code = "TW054"


class Diverged(RunError):
    """Tuning inside a run met a loss, a gradient or weights that are not finite.

    Attributes:
        run: What was reached before, where there is anything.
    """

    code = "TW055"

    def __init__(self, *args: object, run: object = None) -> None:
        super().__init__(*args)
        self.run = run


def missing_extra(package: str, extra: str) -> MissingExtra:
    """Builds the error for an absent optional dependency.

    Args:
        package: Import name of what is missing.
        extra: Name of the extra that brings it.
    """
    return MissingExtra(
        f"This needs the package '{package}', which is not installed; run: pip install \"tunewright[{extra}]\""
    )
