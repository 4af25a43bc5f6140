"""Turns what a user passes when opening a study into a problem, a method and a session."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from tunewright import catalog
from tunewright.core.algorithm import Algorithm, describe
from tunewright.core.declare import Declared, space_from
from tunewright.core.domains import Choice
from tunewright.core.limits import SPEC, checked_json, checked_name, checked_space
from tunewright.core.problem import Fidelity, Limit, Objective, Problem, with_functions
from tunewright.core.scale import Scale
from tunewright.core.space import Space
from tunewright.core.values import measured
from tunewright.errors import ConfigError, SpaceConflict, StudyExists, StudyMissing
from tunewright.run.session import Policy, Session
from tunewright.store.access import split_study
from tunewright.store.base import Store, StudyInfo
from tunewright.store.clock import worker_id


class Chosen(NamedTuple):
    """A method, ready to use and as it is stored.

    Attributes:
        algorithm: The method.
        name: Its name in the log.
        spec: What a study remembers of it.
    """

    algorithm: Algorithm[Any] | None
    name: str
    spec: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller of ``Study.open`` wants; see there."""

    name: str
    space: Any
    objectives: tuple[Objective, ...]
    fidelity: Fidelity | None
    limits: dict[str, float]
    method: str | Algorithm[Any] | None
    options: Mapping[str, Any] | None
    seed: int | None
    scale: Scale | None = None


def check_name(name: object) -> None:
    """Refuses names that cannot be shown or stored.

    Raises:
        ConfigError: If the name is empty, long, or not printable.
    """
    checked_name("A study name", name)
    if name != str(name).strip():
        raise ConfigError(f"A study name must not begin or end with a space; got {name!r:.80}. Remove it.")


def placed(
    storage: str | os.PathLike[str] | Store | None, name: str
) -> tuple[str | os.PathLike[str] | Store | None, str]:
    """Where a study is and what it is called there; a name may be the address of a study on a server.

    Raises:
        ConfigError: If the name cannot be used.
    """
    storage, name = (split_study(name) if storage is None else None) or (storage, name)
    check_name(name)
    return storage, name


def missing(name: str, store: Store) -> StudyMissing:
    """The error for a study that is not there, with the nearest name."""
    names = [s.name for s in store.studies()]
    close = difflib.get_close_matches(name, names, 1)
    hint = (
        f"did you mean '{close[0]}'?"
        if close
        else f"it has {', '.join(names[:5])}{' and others' if len(names) > 5 else ''}."
        if names
        else "it is empty."
    )
    return StudyMissing(f"No study '{name}' in {store.url}; {hint}")


def objectives(minimize: str | Sequence[str], maximize: str | Sequence[str]) -> tuple[Objective, ...]:
    """The objectives, those to minimise first; none when nothing is given."""
    small = [minimize] if isinstance(minimize, str) else list(minimize)
    large = [maximize] if isinstance(maximize, str) else list(maximize)
    return (*(Objective(n) for n in small if n), *(Objective(n, "maximize") for n in large if n))


def goals(given: Sequence[Objective]) -> str:
    """The objectives in words."""
    return " and ".join(f"{o.goal} {o.name}" for o in given)


def fidelity(steps: Any) -> Fidelity | None:
    """The fidelity from a number of steps, ``(fewest, full)``, or a ``Fidelity``.

    Raises:
        ConfigError: If it is none of these.
    """
    if steps is None or isinstance(steps, Fidelity):
        return steps
    if isinstance(steps, list | tuple) and len(steps) == 2:
        return Fidelity(steps[1], steps[0])
    if isinstance(steps, int) and not isinstance(steps, bool):
        return Fidelity(steps)
    raise ConfigError(
        f"steps must be a whole number or (fewest, full); got {steps!r}. Count the steps of a full training."
    )


def method_of(
    method: str | Algorithm[Any], options: Mapping[str, Any] | None, problem: Problem, resumable: bool
) -> Chosen:
    """The method a user asked for, checked against the problem before any compute is spent.

    Raises:
        ConfigError: If the name or an option is unknown.
        UnsupportedError: If the method cannot handle the problem.
    """
    given = dict(options or {})
    if not isinstance(method, str):
        method.init(problem)
        return Chosen(method, describe(method), {"method": describe(method), "custom": True})
    spec = {"method": method, "options": given, "resumable": resumable}
    if method == "auto":
        if given:
            raise ConfigError(
                f"auto takes no options; got {sorted(given)}. Name the method that they belong to."
            )
        algorithm, name, why = catalog.choose(problem, resumable=resumable)
        spec["why"] = why
    else:
        algorithm, name = catalog.build(method, given), method
    algorithm.init(problem)
    return Chosen(algorithm, name, spec)


def stored_problem(info: StudyInfo, declared: Declared | None) -> Problem:
    """The problem as the study was created with, with the constraint functions that the caller brought."""
    problem = Problem.from_dict(info.spec["problem"])
    if declared is None:
        return problem
    return problem.with_space(with_functions(problem.space, declared.space))


def session_of(
    store: Store,
    info: StudyInfo,
    declared: Declared | None,
    method: str | Algorithm[Any] | None,
    options: Mapping[str, Any] | None,
    policy: Policy | None,
    worker: str | None = None,
) -> Session:
    """A session on a stored study, with the method it was created with unless another is asked for."""
    problem = stored_problem(info, declared)
    spec = info.spec
    if method is None and spec.get("custom"):
        chosen = Chosen(None, str(spec["method"]), {})
    elif method is None:
        chosen = method_of(spec["method"], spec.get("options"), problem, spec.get("resumable", True))
    else:
        chosen = method_of(method, options, problem, spec.get("resumable", True))
    return Session(
        store,
        info,
        problem,
        chosen.algorithm,
        method=chosen.name,
        worker=worker or worker_id(),
        policy=policy,
    )


def open_study(
    store: Store, wanted: Request, exist: str, on_change: str, resumable: bool, policy: Policy | None
) -> tuple[Session, Declared | None]:
    """Finds or makes a study and brings what was asked for and what is stored into line; see ``Study.open``."""
    name = wanted.name
    info = store.find(name)
    if info is not None and exist == "error":
        raise StudyExists(
            f"A new study needs a new name; '{name}' is there already, with {store.last(info.id)} records. "
            f"Open it with exist='resume' (without --new), or choose another name."
        )
    if info is None and exist == "must":
        raise missing(name, store)
    declared = space_from(wanted.space) if wanted.space is not None or info is None else None
    declared = _with_rules(declared, _scale_of(wanted, info))
    if info is None:
        assert declared is not None
        limits = tuple(Limit(metric, measured(metric, upper)) for metric, upper in wanted.limits.items())
        goal = wanted.objectives or (Objective("loss"),)
        problem = Problem(declared.space, goal, wanted.fidelity, limits, wanted.seed or 0, wanted.scale)
        chosen = method_of(wanted.method or "auto", wanted.options, problem, resumable)
        spec = {"problem": problem.to_dict(), **_plain(chosen.spec)}
        checked_space(problem.space)
        checked_json("A study's settings", spec, SPEC)
        info = store.create(name, spec, exist_ok=exist != "error")
    session = session_of(store, info, declared, wanted.method, wanted.options, policy)
    _reconcile(session, wanted, declared, on_change)
    return session, declared


def _scale_of(wanted: Request, info: StudyInfo | None) -> Scale | None:
    """The scale of a study, stored or wanted.

    Raises:
        ConfigError: If it is no scale, or not the stored one.
    """
    scale: Any = wanted.scale
    if scale is not None and not isinstance(scale, Scale):
        raise ConfigError(f"scale must be a tunewright.scaling.Scale; got {scale!r:.80}. Declare what grows.")
    if info is None:
        return wanted.scale
    stored = info.spec["problem"].get("scale")
    kept = Scale.from_dict(stored) if stored else None
    if wanted.scale not in (None, kept):
        raise ConfigError(
            f"A study keeps its scale; '{wanted.name}' has {kept}, got {wanted.scale}. Choose another name."
        )
    return kept


def _with_rules(declared: Declared | None, scale: Scale | None) -> Declared | None:
    """Where there are several parametrizations to choose from, the choice is a parameter like any other.

    Raises:
        ConfigError: If the space has a parameter of that name already.
    """
    if declared is None or scale is None or len(scale.rules) == 1:
        return declared
    if "rule" in declared.space.domains:
        raise ConfigError(
            "With several rules of a scale, 'rule' is the parameter that chooses among them; the space has one of its "
            "own. Rename it."
        )
    space = declared.space
    domains = {**space.domains, "rule": Choice(list(scale.rules))}
    return declared._replace(space=Space(domains, when=space.when, constraints=space.own))


def _plain(spec: dict[str, Any]) -> dict[str, Any]:
    """A method's options as plain data, as they come back from the store; what is no data stays for the check to name."""
    try:
        plain: dict[str, Any] = msgspec.to_builtins(spec)
    except (TypeError, ValueError, RecursionError):
        return spec
    return plain


def _longer(kept: Fidelity | None, wanted: Fidelity) -> bool:
    """Whether what is wanted is what is kept, with more steps; a plain number of steps says nothing about the rest."""
    return (
        kept is not None
        and wanted.high > kept.high
        and wanted.low in (1, kept.low)
        and wanted.unit in ("step", kept.unit)
    )


def _reconcile(session: Session, wanted: Request, declared: Declared | None, on_change: str) -> None:
    """Says what contradicts the stored study; a changed space becomes a new version of it."""
    problem, name = session.sync().problem, wanted.name
    if wanted.objectives and wanted.objectives != problem.objectives:
        raise ConfigError(
            f"A study keeps its objectives; '{name}' has {goals(problem.objectives)}, got {goals(wanted.objectives)}. "
            f"Open it without them, or choose another name."
        )
    if wanted.fidelity is not None and wanted.fidelity != problem.fidelity:
        if on_change == "error" or not _longer(problem.fidelity, wanted.fidelity):
            raise ConfigError(
                f"A study keeps its steps, or gets more of them for a full training; '{name}' has {problem.fidelity}, "
                f"got {wanted.fidelity}. Give more steps with on_change='version', or choose another name."
            )
        session.extend(wanted.fidelity.high)
    if wanted.seed is not None and wanted.seed != problem.seed:
        raise ConfigError(
            f"A study keeps its seed; '{name}' has {problem.seed}, got {wanted.seed}. Choose another name."
        )
    if declared is not None and declared.space.d and declared.space != problem.space:
        changes = problem.space.diff(declared.space)
        if on_change == "error":
            raise SpaceConflict(
                f"The space must be the one of study '{name}'; it differs: {'; '.join(changes)}. "
                f"Accept a new version with on_change='version' (--space-change version), or choose another name."
            )
        session.edit(declared.space)
