"""The names of ``optuna.pruners``: which scheduler of ours stops trials, and with what settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tunewright.core.problem import Fidelity
from tunewright.errors import ConfigError

__all__ = [
    "BasePruner",
    "HyperbandPruner",
    "MedianPruner",
    "NopPruner",
    "PatientPruner",
    "PercentilePruner",
    "SuccessiveHalvingPruner",
    "ThresholdPruner",
    "WilcoxonPruner",
]

_ENDLESS = 2**31
_RUNGS = 6


@dataclass(frozen=True, slots=True)
class BasePruner:
    """A scheduler that stops trials, and the steps between which it may.

    Attributes:
        method: Name of the scheduler; empty for none.
        options: Its hyper-hyperparameters.
        fidelity: First step that counts and the last; None for none. Steps count from 1.
    """

    method: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    fidelity: Fidelity | None = None


def NopPruner() -> BasePruner:  # noqa: N802 - Optuna's name
    """Stops nothing."""
    return BasePruner()


def MedianPruner(  # noqa: N802
    n_startup_trials: int = 5, n_warmup_steps: int = 0, interval_steps: int = 1, *, n_min_trials: int = 1
) -> BasePruner:
    """``median``: stops a trial whose best value so far is worse than the others' usual value at that step.

    Raises:
        ConfigError: If it is to look only at some steps.
    """
    if interval_steps != 1:
        raise ConfigError(
            f"The median rule looks at every report; got interval_steps={interval_steps}. "
            f"Leave it out, and call should_prune where you want it asked."
        )
    after = max(1, n_startup_trials, n_min_trials)
    return BasePruner("median", {"after": after}, Fidelity(_ENDLESS, max(0, n_warmup_steps) + 1))


def PercentilePruner(percentile: float, n_startup_trials: int = 5, **settings: Any) -> BasePruner:  # noqa: N802
    """``median`` where the percentile is 50.

    Raises:
        ConfigError: If it is another.
    """
    if percentile != 50.0:
        raise ConfigError(
            f"Trials are compared with the median, the 50th percentile; got {percentile}. "
            f"Use MedianPruner, or SuccessiveHalvingPruner to stop more of them."
        )
    return MedianPruner(n_startup_trials, **settings)


def SuccessiveHalvingPruner(  # noqa: N802
    min_resource: str | int = "auto",
    reduction_factor: int = 4,
    min_early_stopping_rate: int = 0,
    bootstrap_count: int = 0,
) -> BasePruner:
    """``halting``: at each rung a trial goes on only if it is among the best share so far.

    Raises:
        ConfigError: If ``bootstrap_count`` is given.
    """
    _no_bootstrap(bootstrap_count)
    least = 1 if min_resource == "auto" else int(min_resource)
    low = least * reduction_factor**min_early_stopping_rate
    return BasePruner("halting", {"eta": reduction_factor}, Fidelity(low * reduction_factor**_RUNGS, low))


def HyperbandPruner(  # noqa: N802
    min_resource: int = 1,
    max_resource: str | int = "auto",
    reduction_factor: int = 3,
    bootstrap_count: int = 0,
) -> BasePruner:
    """``halting`` with the rungs of the most aggressive bracket, since an objective cannot be paused and resumed.

    Raises:
        ConfigError: If ``bootstrap_count`` is given.
    """
    _no_bootstrap(bootstrap_count)
    high = min_resource * reduction_factor**_RUNGS if max_resource == "auto" else int(max_resource)
    return BasePruner("halting", {"eta": reduction_factor}, Fidelity(high, min_resource))


def PatientPruner(*args: Any, **settings: Any) -> BasePruner:  # noqa: N802
    """Refused: there is no counterpart.

    Raises:
        ConfigError: Always.
    """
    raise _absent("PatientPruner")


def ThresholdPruner(*args: Any, **settings: Any) -> BasePruner:  # noqa: N802
    """Refused: compare with your threshold in the objective and raise ``TrialPruned``.

    Raises:
        ConfigError: Always.
    """
    raise _absent("ThresholdPruner")


def WilcoxonPruner(*args: Any, **settings: Any) -> BasePruner:  # noqa: N802
    """Refused: there is no counterpart.

    Raises:
        ConfigError: Always.
    """
    raise _absent("WilcoxonPruner")


def _absent(name: str) -> ConfigError:
    return ConfigError(
        f"A pruner must be MedianPruner, SuccessiveHalvingPruner, HyperbandPruner or NopPruner; got {name}. "
        f"Use one of them, or raise TrialPruned by a rule of your own."
    )


def _no_bootstrap(count: int) -> None:
    if count:
        raise ConfigError(
            f"A rung judges from its second trial on; got bootstrap_count={count}. Leave it out."
        )
