"""Turns what a user passes when opening a study into a problem, a method and a session."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunewright import catalog
from tunewright.core.algorithm import Algorithm, describe
from tunewright.core.constraints import Predicate
from tunewright.core.declare import Declared
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, StudyMissing
from tunewright.run.session import Policy, Session
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


def check_name(name: str) -> None:
    """Refuses names that cannot be shown or stored.

    Raises:
        ConfigError: If the name is empty, long, or not printable.
    """
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= 256
        or not name.isprintable()
        or name != name.strip()
    ):
        raise ConfigError(
            f"A study name must be 1 to 256 printable characters; got {name!r:.80}. Choose another."
        )


def missing(name: str, store: Store) -> StudyMissing:
    """The error for a study that is not there, with the nearest name."""
    names = [s.name for s in store.studies()]
    close = difflib.get_close_matches(name, names, 1)
    hint = (
        f"did you mean '{close[0]}'?"
        if close
        else f"it has {len(names)} studies."
        if names
        else "it is empty."
    )
    return StudyMissing(f"No study '{name}' in {store.url}; {hint}")


def objectives(minimize: str | Sequence[str], maximize: str | Sequence[str]) -> tuple[Objective, ...]:
    """The objectives, those to minimise first; ``loss`` when nothing is given."""
    small = [minimize] if isinstance(minimize, str) else list(minimize)
    large = [maximize] if isinstance(maximize, str) else list(maximize)
    made = (*(Objective(n) for n in small if n), *(Objective(n, "maximize") for n in large if n))
    return made or (Objective("loss"),)


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


def problem_of(
    space: Space,
    minimize: str | Sequence[str],
    maximize: str | Sequence[str],
    steps: Any,
    limits: Mapping[str, float] | None,
    seed: int | None,
) -> Problem:
    """The problem of a new study."""
    bounds = tuple(Limit(name, float(upper)) for name, upper in (limits or {}).items())
    return Problem(space, objectives(minimize, maximize), fidelity(steps), bounds, seed or 0)


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
    brought = {c.label: c for c in declared.space.constraints if isinstance(c, Predicate)}
    if not brought:
        return problem
    space = problem.space
    constraints = [brought.get(c.label, c) if isinstance(c, Predicate) else c for c in space.constraints]
    return problem.with_space(Space(space.domains, when=space.when, constraints=constraints))


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
