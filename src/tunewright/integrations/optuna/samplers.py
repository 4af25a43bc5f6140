"""The names of ``optuna.samplers``: which method of ours proposes, and with what settings."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunewright import catalog
from tunewright.core.domains import Choice
from tunewright.core.space import Space
from tunewright.errors import ConfigError

__all__ = [
    "BaseSampler",
    "CmaEsSampler",
    "GPSampler",
    "GridSampler",
    "NSGAIISampler",
    "QMCSampler",
    "RandomSampler",
    "TPESampler",
]

Constraints = Callable[[Any], Sequence[float]]

# Settings that change how, not what: ours are joint over all parameters and count running trials always.
_MEANINGLESS = {
    "consider_endpoints",
    "consider_magic_clip",
    "consider_prior",
    "constant_liar",
    "deterministic_objective",
    "group",
    "multivariate",
    "prior_weight",
    "scramble",
    "warn_asynchronous_seeding",
    "warn_independent_sampling",
}


@dataclass(frozen=True, slots=True)
class BaseSampler:
    """A method of ours by name.

    Attributes:
        method: Its name; empty for the default.
        seed: Root of all randomness; None takes a different one for every study.
        options: Its hyper-hyperparameters.
        space: What it proposes from the start; None where objectives declare it.
        constraints_func: From a trial to its constraint values, met where all are at most 0.
    """

    method: str = ""
    seed: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    space: Space | None = None
    constraints_func: Constraints | None = None


def RandomSampler(seed: int | None = None) -> BaseSampler:  # noqa: N802 - Optuna's name
    """``random``."""
    return BaseSampler("random", seed)


def TPESampler(*, seed: int | None = None, **settings: Any) -> BaseSampler:  # noqa: N802
    """``tpe``.

    Raises:
        ConfigError: If a setting has no counterpart.
    """
    names = {"n_startup_trials": "initial", "n_ei_candidates": "candidates"}
    return _made("TPESampler", "tpe", seed, names, settings)


def GPSampler(*, seed: int | None = None, **settings: Any) -> BaseSampler:  # noqa: N802
    """``bayes``.

    Raises:
        ConfigError: If a setting has no counterpart.
    """
    return _made("GPSampler", "bayes", seed, {"n_startup_trials": "initial"}, settings)


def QMCSampler(*, qmc_type: str = "sobol", seed: int | None = None, **settings: Any) -> BaseSampler:  # noqa: N802
    """``quasirandom``: a scrambled Sobol sequence.

    Raises:
        ConfigError: If another sequence is asked for, or a setting has no counterpart.
    """
    if qmc_type != "sobol":
        raise ConfigError(f"The sequence must be 'sobol'; got qmc_type={qmc_type!r}. Leave it out.")
    return _made("QMCSampler", "quasirandom", seed, {}, settings)


def CmaEsSampler(*, seed: int | None = None, **settings: Any) -> BaseSampler:  # noqa: N802
    """``cmaes``.

    Raises:
        ConfigError: If a setting has no counterpart.
    """
    names = {"popsize": "size", "sigma0": "sigma", "with_margin": "margin"}
    return _made("CmaEsSampler", "cmaes", seed, names, settings)


def NSGAIISampler(*, seed: int | None = None, **settings: Any) -> BaseSampler:  # noqa: N802
    """``nsga2``.

    Raises:
        ConfigError: If a setting has no counterpart.
    """
    return _made("NSGAIISampler", "nsga2", seed, {"population_size": "size"}, settings)


def GridSampler(  # noqa: N802
    search_space: Mapping[str, Sequence[Any]], seed: int | None = None
) -> BaseSampler:
    """``grid`` over the values listed; the study ends when all combinations were tried."""
    return BaseSampler("grid", seed, space=Space({k: Choice(list(v)) for k, v in search_space.items()}))


def _made(
    given: str, method: str, seed: int | None, names: Mapping[str, str], settings: Mapping[str, Any]
) -> BaseSampler:
    """A method with the settings that it knows under another name."""
    constraints = settings.get("constraints_func")
    options: dict[str, Any] = {}
    for name, value in settings.items():
        if name in names:
            options[names[name]] = value
        elif name not in _MEANINGLESS and name != "constraints_func" and value is not None:
            close = difflib.get_close_matches(name, [*names, "seed", "constraints_func"], 1)
            hint = f" Did you mean '{close[0]}'?" if close else " Leave it out."
            raise ConfigError(f"{given} takes settings that '{method}' has too; got {name}={value!r}.{hint}")
    catalog.build(method, options)
    return BaseSampler(method, seed, options, None, constraints)


_INSTEAD = {
    "BruteForceSampler": "Use GridSampler with the values.",
    "NSGAIIISampler": "Use NSGAIISampler, or no sampler for up to four objectives.",
    "PartialFixedSampler": "Leave the fixed parameters out of the suggestions.",
}


def __getattr__(name: str) -> Any:
    """Says what to do instead of a sampler that has no counterpart."""
    if name in _INSTEAD:
        raise AttributeError(
            f"A sampler of Optuna must have a counterpart here; got '{name}', which has none. {_INSTEAD[name]}"
        )
    raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
