"""From what Optuna's programs pass when they make a study to a study of ours."""

from __future__ import annotations

import enum
import os
import secrets
from collections.abc import Sequence
from typing import Any, Literal

from tunewright import catalog
from tunewright.core.algorithm import Algorithm
from tunewright.core.domains import Float
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, StudyExists
from tunewright.integrations.optuna.pruners import BasePruner, MedianPruner
from tunewright.integrations.optuna.samplers import BaseSampler
from tunewright.opening import missing
from tunewright.store.base import Store, StudyInfo
from tunewright.store.urls import open_store
from tunewright.study import Study as Core

VIOLATION = "violation"
Storage = str | os.PathLike[str] | Store | None


class StudyDirection(enum.IntEnum):
    """Whether an objective is to be small or large."""

    NOT_SET = 0
    MINIMIZE = 1
    MAXIMIZE = 2


def directions_of(
    direction: str | StudyDirection | None, directions: Sequence[str | StudyDirection] | None
) -> list[StudyDirection]:
    """The direction of each objective; one, to be minimised, where nothing is said.

    Raises:
        ConfigError: If both are given, or one is no direction.
    """
    if direction is not None and directions is not None:
        raise ConfigError(
            f"A study takes direction or directions; got {direction!r} and {list(directions)!r}. Give one of them."
        )
    given = list(directions) if directions is not None else [direction or "minimize"]
    out = []
    for one in given:
        name = one.name if isinstance(one, StudyDirection) else str(one).upper()
        if name not in ("MINIMIZE", "MAXIMIZE"):
            raise ConfigError(f"A direction must be 'minimize' or 'maximize'; got {one!r}. Correct it.")
        out.append(StudyDirection[name])
    if not out:
        raise ConfigError("A study needs at least one direction; got none. Pass directions=['minimize'].")
    return out


def metric_names(m: int) -> list[str]:
    """Names of ``m`` objectives in the log, in the order of their directions."""
    return ["value"] if m == 1 else [f"value_{i}" for i in range(m)]


def sampler_of(given: Any) -> BaseSampler:
    """The method to use: one of ``optuna.samplers`` of this package, or one of ours by name.

    Raises:
        ConfigError: If it is something else.
    """
    if given is None or isinstance(given, BaseSampler):
        return given or BaseSampler()
    if isinstance(given, str):
        catalog.find(given.partition("(")[0].strip())
        return BaseSampler(given)
    raise ConfigError(
        f"A sampler must come from tunewright.integrations.optuna.samplers or be the name of a method; "
        f"got {type(given).__module__}.{type(given).__name__}. Change its import too."
    )


def pruner_of(given: Any, m: int) -> BasePruner:
    """The scheduler to use; the median rule by default, and none for several objectives, as in Optuna.

    Raises:
        ConfigError: If it is no pruner of this package.
    """
    if given is not None and not isinstance(given, BasePruner):
        raise ConfigError(
            f"A pruner must come from tunewright.integrations.optuna.pruners; "
            f"got {type(given).__module__}.{type(given).__name__}. Change its import too."
        )
    if m > 1:
        return BasePruner()
    return MedianPruner() if given is None else given


def opened(
    name: str,
    storage: Storage,
    directions: Sequence[StudyDirection] | None,
    sampler: Any,
    pruner: Any,
    exist: Literal["resume", "error", "must"],
) -> tuple[Core, BaseSampler]:
    """Makes or finds a study.

    Returns:
        The study, and the sampler asked for.
    """
    chosen = sampler_of(sampler)
    store = open_store("memory" if storage is None else storage)
    info = store.find(name)
    if info is None and exist != "must":
        try:
            return _made(name, store, directions, chosen, pruner), chosen
        except StudyExists:
            # Another process was faster; where that is allowed its study is the one to continue.
            if exist == "error":
                raise
            info = store.find(name)
    if info is None:
        raise missing(name, store)
    method, options = _again(info, chosen, sampler, pruner)
    there: Literal["error", "must"] = "error" if exist == "error" else "must"
    core = Core.open(name, chosen.space, method=method, options=options, storage=store, exist=there)
    if directions is not None:
        _same_directions(core, directions)
    return core, chosen


def _made(
    name: str, store: Store, directions: Sequence[StudyDirection] | None, chosen: BaseSampler, pruner: Any
) -> Core:
    """A new study."""
    given = list(directions or [StudyDirection.MINIMIZE])
    rule = pruner_of(pruner, len(given))
    names = metric_names(len(given))
    method, options = _method(chosen, rule, len(given))
    return Core.open(
        name,
        chosen.space,
        minimize=[n for n, d in zip(names, given, strict=True) if d is StudyDirection.MINIMIZE],
        maximize=[n for n, d in zip(names, given, strict=True) if d is StudyDirection.MAXIMIZE],
        steps=rule.fidelity,
        limits={VIOLATION: 0.0} if chosen.constraints_func is not None else None,
        method=method,
        options=options,
        seed=secrets.randbits(62) if chosen.seed is None else chosen.seed,
        storage=store,
        exist="error",
    )


def _again(
    info: StudyInfo, chosen: BaseSampler, sampler: Any, pruner: Any
) -> tuple[str | Algorithm[Any] | None, dict[str, Any] | None]:
    """The method for a study that is there: the one that it was made with unless another is asked for."""
    if sampler is None and pruner is None and not info.spec.get("custom"):
        return None, None
    m = len(info.spec["problem"]["objectives"])
    rule = pruner_of(pruner, m) if info.spec["problem"].get("fidelity") else BasePruner()
    return _method(chosen, rule, m)


def _method(
    sampler: BaseSampler, pruner: BasePruner, m: int
) -> tuple[str | Algorithm[Any], dict[str, Any] | None]:
    """A method by name where it has one, so that the command line can go on with the study."""
    if sampler.method and not pruner.method:
        return sampler.method, sampler.options or None
    if sampler.method and not sampler.options:
        return f"{pruner.method}({sampler.method})", pruner.options
    if sampler.method:
        inner = catalog.build(sampler.method, sampler.options)
    else:
        # What auto takes where the space is known beforehand; here it shows only once trials run.
        objectives = tuple(Objective(n) for n in metric_names(m))
        inner = catalog.choose(Problem(Space(x=Float(0.0, 1.0)), objectives))[0]
    if not pruner.method:
        return inner, None
    return catalog.find(pruner.method).load()(sampler=inner, **pruner.options), None


def _same_directions(core: Core, directions: Sequence[StudyDirection]) -> None:
    kept = [
        StudyDirection.MINIMIZE if o.goal == "minimize" else StudyDirection.MAXIMIZE for o in ordered(core)
    ]
    if kept != list(directions):
        raise ConfigError(
            f"A study keeps its directions; '{core.name}' has {[d.name for d in kept]}, "
            f"got {[d.name for d in directions]}. Choose another name."
        )


def ordered(core: Core) -> list[Objective]:
    """The objectives in the order of the directions that the study was made with."""
    objectives = core.problem.objectives
    names = metric_names(len(objectives))
    known = {o.name: o for o in objectives}
    if set(names) != set(known):
        return list(objectives)
    return [known[n] for n in names]
