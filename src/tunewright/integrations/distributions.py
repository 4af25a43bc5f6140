"""Spaces from and to ConfigSpace and Optuna: ranges, conditions, forbidden combinations, beliefs.

What the other side cannot express is never dropped without a word: it raises ``UnsupportedError`` with the parameter's
name, or, where something close exists, warns.

| Tunewright | ConfigSpace | Optuna |
| --- | --- | --- |
| ``Float``, ``Int``, ``log`` | uniform, with ``log`` | the same |
| ``step`` | ordinal of the values | ``step`` |
| ``Choice``, ``Bool`` | categorical | categorical |
| ``Order`` | ordinal | categorical, its order is lost |
| nested spaces, ``when`` | conditions | none: Optuna writes conditions as code |
| ``forbidden`` | forbidden clauses | none |
| ``Linear`` with two weights 1 and -1 and bound 0 | forbidden relation | none |
| ``guess`` with ``confidence`` | normal prior, weights, default value | none: enqueue ``space.defaults()`` |
| ``Permutation``, ``Subset``, functions | none | none |
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tunewright.core.constraints import Forbidden, Linear, Range
from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order, plain
from tunewright.core.space import Space
from tunewright.errors import SpaceError, UnsupportedError, missing_extra

__all__ = ["space_from_configspace", "space_from_optuna", "space_to_configspace", "space_to_optuna"]

_WIDTH = 0.1  # standard deviation, in codes, of what a guess believes
_SURE = 0.9
_LISTED = 4096
_SMALLEST = 1e-7  # ConfigSpace rounds to nine decimals


def _library(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise missing_extra(module.partition(".")[0], extra) from None


def _kind(thing: Any) -> str:
    return type(thing).__name__.removesuffix("Hyperparameter")


def _refused(name: str, what: str, advice: str) -> UnsupportedError:
    return UnsupportedError(f"'{name}' must be expressible on the other side; got {what}. {advice}")


# ------------------------------------------------------------------ from ConfigSpace


def space_from_configspace(configuration_space: Any) -> Space:
    """A space with the parameters, conditions, forbidden clauses, priors and defaults of a ``ConfigurationSpace``.

    A default value becomes a guess of confidence 0, which is tried first and leans nothing. A normal or beta prior
    becomes a guess at its mode, the surer the narrower it is, with a warning, since its exact shape is not kept.

    Args:
        configuration_space: A ``ConfigSpace.ConfigurationSpace``, version 1 or later.

    Raises:
        UnsupportedError: If a condition, a clause or a prior cannot be expressed; it names the parameter.
        SpaceError: If a parameter cannot be used.
    """
    cs = configuration_space
    parameters = {p.name: p for p in cs.values()}
    parents = {name: list(cs.parent_conditions_of[name]) for name in parameters}
    order = _parents_first(parameters, parents)
    domains = {name: _imported(parameters[name]) for name in order}
    when = {name: _conditions(name, parents[name], domains) for name in order if parents[name]}
    forbidden: list[dict[str, Any]] = []
    constraints: list[Linear] = []
    for clause in cs.forbidden_clauses:
        _forbid(clause, domains, forbidden, constraints)
    return Space(domains, when=when, forbidden=forbidden, constraints=constraints)


def _parents_first(parameters: Iterable[str], parents: Mapping[str, list[Any]]) -> list[str]:
    """The names, each after the parameters that decide about it."""
    done: dict[str, None] = {}

    def add(name: str) -> None:
        if name not in done:
            for condition in parents[name]:
                for part in _parts(condition):
                    add(part.parent.name)
            done[name] = None

    for name in parameters:
        add(name)
    return list(done)


def _parts(condition: Any) -> Iterator[Any]:
    """The single conditions of one that may be joined of several."""
    for part in getattr(condition, "components", ()):
        yield from _parts(part)
    if not hasattr(condition, "components"):
        yield condition


def _imported(p: Any) -> Domain:
    """The domain of one parameter of ConfigSpace."""
    kind = _kind(p)
    if kind == "Categorical":
        return _categories(p)
    if kind == "Ordinal":
        values = [plain(v) for v in p.sequence]
        return Order(values, guess=plain(p.default_value), confidence=0.0)
    if kind == "Constant" or kind == "UnParametrized":
        return Choice([plain(p.value)])
    if not kind.endswith(("Float", "Integer")):
        raise _refused(p.name, f"the type {type(p).__name__}", "Replace it by a uniform range.")
    whole = kind.endswith("Integer")
    low, high = plain(p.lower), plain(p.upper)
    step = getattr(p, "q", None)
    made: Float | Int
    if whole:
        made = Int(low, high, log=bool(p.log), step=int(step or 1))  # type: ignore[arg-type]
    else:
        made = Float(low, high, log=bool(p.log), step=step)  # type: ignore[arg-type]
    guess, confidence = plain(p.default_value), 0.0
    if not kind.startswith("Uniform"):
        guess, confidence = _belief(p, kind, made)
    value: Any = int(guess) if whole else float(guess)  # type: ignore[arg-type]
    return type(made)(low, high, log=made.log, step=made.step, guess=value, confidence=confidence)  # type: ignore[arg-type]


def _belief(p: Any, kind: str, domain: Float | Int) -> tuple[Any, float]:
    """Mode and confidence that stand for a normal or beta prior."""
    _, decode = domain.coder()
    if kind.startswith("Normal"):
        mode: Any = plain(min(max(p.mu, domain.low), domain.high))
        if p.log:
            # The library measures a width on a log scale from the lower bound.
            spread = math.log1p(p.sigma / p.lower) / math.log(p.upper / p.lower)
        else:
            spread = p.sigma / (p.upper - p.lower)
    elif kind.startswith("Beta"):
        total = p.alpha + p.beta
        mode = decode((p.alpha - 1.0) / (total - 2.0) if total > 2.0 else 0.5)
        spread = math.sqrt(p.alpha * p.beta / (total**2 * (total + 1.0)))
    else:
        raise _refused(p.name, f"the prior {kind}", "Replace it by a uniform range.")
    warnings.warn(
        f"'{p.name}' has a {kind.removesuffix('Float').removesuffix('Integer').lower()} prior, which becomes a guess at "
        f"its mode; its exact shape is not kept.",
        UserWarning,
        stacklevel=5,
    )
    return mode, round(_SURE * min(1.0, _WIDTH / max(abs(spread), 1e-9)), 3)


def _categories(p: Any) -> Domain:
    options = [plain(v) for v in p.choices]
    guess, confidence = plain(p.default_value), 0.0
    weights = np.asarray(p.probabilities, dtype=np.float64)
    k = len(options)
    if k > 1 and float(np.ptp(weights)) > 1e-9:
        top = int(np.argmax(weights))
        others = np.delete(weights, top)
        if float(np.ptp(others)) > 1e-9:
            raise _refused(
                p.name, f"the weights {weights.tolist()}", "Make all of them equal, or all but the largest."
            )
        guess = options[top]
        confidence = min(round(float((weights[top] - 1 / k) / (1 - 1 / k)), 6), 0.999)
    if sorted(map(repr, options)) == ["False", "True"]:
        return Bool(guess=guess, confidence=confidence)  # type: ignore[arg-type]
    return Choice(options, guess=guess, confidence=confidence)


def _conditions(child: str, conditions: Iterable[Any], domains: Mapping[str, Domain]) -> dict[str, Any]:
    """What a parameter depends on, by parent."""
    out: dict[str, Any] = {}
    for condition in conditions:
        for parent, value in _condition(child, condition, domains).items():
            out[parent] = _both(child, parent, out[parent], value) if parent in out else value
    return out


def _condition(child: str, condition: Any, domains: Mapping[str, Domain]) -> dict[str, Any]:
    kind = type(condition).__name__
    if kind == "AndConjunction":
        return _conditions(child, condition.components, domains)
    if kind == "OrConjunction":
        return _either(child, [_condition(child, c, domains) for c in condition.components])
    parent = condition.parent.name
    return {parent: _wanted(child, parent, kind, condition, domains[parent])}


def _either(child: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    names = {name for part in parts for name in part}
    values = [v for part in parts for v in part.values()]
    if len(names) != 1 or not all(isinstance(v, list) for v in values):
        raise _refused(
            child, "a condition that holds when one of several parameters fits",
            "Make one parameter decide, or split the child into one per case.",
        )  # fmt: skip
    return {names.pop(): list(dict.fromkeys(v for value in values for v in value))}


def _wanted(child: str, parent: str, kind: str, condition: Any, domain: Domain) -> Any:
    """The values of the parent that one condition asks for."""
    values = _finite(domain)
    if kind in ("LessThanCondition", "GreaterThanCondition"):
        less = kind.startswith("Less")
        if isinstance(domain, Order):
            place = values.index(plain(condition.value))
            return values[:place] if less else values[place + 1 :]
        bound = float(condition.value)
        if isinstance(domain, Int):
            bound = math.ceil(bound) - 1 if less else math.floor(bound) + 1
        else:
            bound = float(np.nextafter(bound, -np.inf if less else np.inf))
        return Range(high=bound) if less else Range(low=bound)
    named = [plain(v) for v in condition.values] if kind == "InCondition" else [plain(condition.value)]
    if kind == "NotEqualsCondition":
        named = [v for v in values if v not in named]
    if kind not in ("EqualsCondition", "InCondition", "NotEqualsCondition") or not values:
        raise _refused(child, f"{kind} on '{parent}'", "Use a condition on options or a range.")
    return named


def _finite(domain: Domain) -> list[Any]:
    """Every value of a parameter with few of them; else nothing."""
    if isinstance(domain, Choice | Order | Bool):
        return list(domain.options)
    if isinstance(domain, Int) and domain.count <= _LISTED:
        return list(range(domain.low, domain.high + 1, domain.step))
    if isinstance(domain, Float) and 0 < domain.count <= _LISTED:
        return [domain.coder()[1]((i + 0.5) / domain.count) for i in range(domain.count)]
    return []


def _both(child: str, parent: str, a: Any, b: Any) -> Any:
    """What satisfies two conditions on one parent."""
    if isinstance(a, list) and isinstance(b, list):
        return [v for v in a if v in b]
    if isinstance(a, list) and isinstance(b, Range):
        return [v for v in a if b.holds(v)]
    if isinstance(a, Range) and isinstance(b, list):
        return [v for v in b if a.holds(v)]
    lows = [r.low for r in (a, b) if r.low is not None]
    highs = [r.high for r in (a, b) if r.high is not None]
    return Range(max(lows, default=None), min(highs, default=None))


def _forbid(
    clause: Any, domains: Mapping[str, Domain], forbidden: list[dict[str, Any]], constraints: list[Linear]
) -> None:
    kind = type(clause).__name__
    if kind == "ForbiddenOrConjunction":
        for part in clause.components:
            _forbid(part, domains, forbidden, constraints)
    elif kind in ("ForbiddenLessThanRelation", "ForbiddenGreaterThanRelation"):
        sign = 1.0 if kind == "ForbiddenGreaterThanRelation" else -1.0
        constraints.append(Linear({clause.left.name: sign, clause.right.name: -sign}, 0.0))
    else:
        combination: dict[str, Any] = {}
        for part in _parts(clause):
            name, values = _forbidden_values(part, domains)
            held = combination.get(name, values)
            combination[name] = tuple(v for v in values if v in held)
        forbidden.append(combination)


def _forbidden_values(part: Any, domains: Mapping[str, Domain]) -> tuple[str, tuple[Any, ...]]:
    kind = type(part).__name__
    if not hasattr(part, "hyperparameter"):
        raise _refused(part.left.name, f"a {kind}", "Use a function of the configuration as a constraint.")
    name = part.hyperparameter.name
    if kind == "ForbiddenInClause":
        return name, tuple(plain(v) for v in part.values)
    if kind == "ForbiddenEqualsClause":
        return name, (plain(part.value),)
    values = _finite(domains[name])
    if not values:
        raise _refused(name, f"a {kind} on a range", "Use Linear as a constraint.")
    place = values.index(plain(part.value))
    cut = {
        "ForbiddenLessThanClause": slice(0, place),
        "ForbiddenLessThanEqualsClause": slice(0, place + 1),
        "ForbiddenGreaterThanClause": slice(place + 1, None),
        "ForbiddenGreaterThanEqualsClause": slice(place, None),
    }
    return name, tuple(values[cut[kind]])


# ------------------------------------------------------------------ to ConfigSpace


def space_to_configspace(space: Space, *, name: str | None = None, seed: int | None = None) -> Any:
    """A ``ConfigurationSpace`` with the parameters, conditions, forbidden combinations and beliefs of a space.

    Args:
        space: The space.
        name: Name of the new space.
        seed: Seed of the new space.

    Raises:
        MissingExtra: If ConfigSpace is not installed.
        UnsupportedError: If something cannot be expressed; it names the parameter or the constraint.
    """
    library = _library("ConfigSpace", "configspace")
    cs = library.ConfigurationSpace(name=name, seed=seed)
    made: dict[str, Any] = {}
    for part in _levels(space, None):
        _export(library, cs, part, made)
    return cs


def _levels(space: Space, gate: tuple[str, Any] | None) -> Iterator[tuple[Space, tuple[str, Any] | None]]:
    """A space and those nested in it, each with the option that opens it."""
    yield space, gate
    for name, domain in space.domains.items():
        if isinstance(domain, Choice):
            for option, branch in zip(domain.options, domain.branches, strict=True):
                if branch is not None:
                    yield from _levels(branch, (name, option))


def _export(library: Any, cs: Any, level: tuple[Space, tuple[str, Any] | None], made: dict[str, Any]) -> None:
    space, gate = level
    for name, domain in space.domains.items():
        if name in made:
            raise _refused(name, "the same name in two branches", "Rename one of them.")
        made[name] = _exported(library, name, domain)
        cs.add(made[name])
        conditions = [library.EqualsCondition(made[name], made[gate[0]], gate[1])] if gate is not None else []
        for parent, value in space.when.get(name, {}).items():
            conditions += _exported_condition(library, made[name], made[parent], space.domains[parent], value)
        if conditions:
            cs.add(conditions[0] if len(conditions) == 1 else library.AndConjunction(*conditions))
    for constraint in space.own:
        if isinstance(constraint, Forbidden):
            clauses = [
                library.ForbiddenInClause(made[n], list(v)) if isinstance(v, tuple) else library.ForbiddenEqualsClause(made[n], v)
                for n, v in constraint.values.items()
            ]  # fmt: skip
            cs.add(clauses[0] if len(clauses) == 1 else library.ForbiddenAndConjunction(*clauses))
        elif isinstance(constraint, Linear) and _is_order(constraint):
            below, above = sorted(constraint.weights, key=lambda n: -constraint.weights[n])
            cs.add(library.ForbiddenGreaterThanRelation(made[below], made[above]))
        else:
            raise UnsupportedError(
                f"Constraints must be expressible on the other side; got {constraint.to_dict()!r:.200}. "
                f"Check it in the objective instead, or use forbidden combinations."
            )


def _is_order(constraint: Linear) -> bool:
    """Whether it says that one parameter stays at or below another."""
    return sorted(constraint.weights.values()) == [-1.0, 1.0] and constraint.upper == 0.0


def _exported(library: Any, name: str, domain: Domain) -> Any:
    """One parameter of ConfigSpace."""
    believed = domain.guess is not None and domain.confidence > 0.0
    more: dict[str, Any] = {} if domain.guess is None else {"default_value": domain.guess}
    if isinstance(domain, Choice | Bool):
        options = list(domain.options)
        if believed:
            k, c = len(options), domain.confidence
            more["weights"] = [
                (1 - c) / k + c * (domain.guess == o and type(domain.guess) is type(o)) for o in options
            ]
        return library.CategoricalHyperparameter(name, options, **more)
    stepped = isinstance(domain, Float | Int) and domain.step not in (None, 1)
    if isinstance(domain, Order) or (stepped and isinstance(domain, Float | Int)):
        values = _finite(domain)
        if not values:
            raise _refused(name, f"{domain.count} steps", "Use fewer steps.")
        if believed:
            raise _refused(name, "a guess with confidence on ordered values", "Set confidence=0.")
        return library.OrdinalHyperparameter(name, values, **more)
    if not isinstance(domain, Float | Int):
        raise _refused(name, domain.describe(), "Write it as several Bool or Int parameters.")
    if domain.log and domain.low < _SMALLEST:
        raise _refused(name, f"a log scale from {domain.low!r}, which ConfigSpace rounds", "Change the unit.")
    kind = "Float" if isinstance(domain, Float) else "Integer"
    if not believed:
        return getattr(library, f"Uniform{kind}Hyperparameter")(
            name, domain.low, domain.high, log=domain.log, **more
        )
    spread = _WIDTH * _SURE / domain.confidence
    sigma = spread * (domain.high - domain.low)
    if domain.log:
        sigma = domain.low * math.expm1(spread * math.log(domain.high / domain.low))
    normal = getattr(library, f"Normal{kind}Hyperparameter")
    return normal(name, domain.guess, sigma, domain.low, domain.high, log=domain.log, **more)


def _exported_condition(library: Any, child: Any, parent: Any, domain: Domain, value: Any) -> list[Any]:
    if not isinstance(value, Range):
        values = value if isinstance(value, list) else [value]
        return [
            library.EqualsCondition(child, parent, values[0])
            if len(values) == 1
            else library.InCondition(child, parent, values)
        ]
    out = []
    whole = isinstance(domain, Int)
    for bound, kind, way in ((value.low, "GreaterThan", -1), (value.high, "LessThan", 1)):
        if bound is None or (way < 0 and bound <= domain.low) or (way > 0 and bound >= domain.high):  # type: ignore[union-attr]
            continue
        inside = math.ceil(bound) if way < 0 else math.floor(bound)
        edge = inside + way if whole else float(np.nextafter(bound, way * np.inf))
        out.append(getattr(library, f"{kind}Condition")(child, parent, edge))
    return out


# ------------------------------------------------------------------ Optuna


def space_from_optuna(distributions: Mapping[str, Any]) -> Space:
    """A space from Optuna's distributions by name, as in ``trial.distributions``; a range of one value is a choice of one.

    Raises:
        UnsupportedError: If a distribution is of another kind, or has options that are no plain values.
    """
    return Space({name: _from_optuna(name, d) for name, d in distributions.items()})


def _from_optuna(name: str, d: Any) -> Domain:
    if hasattr(d, "choices"):
        try:
            return Choice([plain(o) for o in d.choices])
        except SpaceError as error:
            raise _refused(name, "options that are no plain values", f"Name them by text. {error}") from None
    if not all(hasattr(d, field) for field in ("low", "high", "log", "step")):
        raise _refused(name, f"a {type(d).__name__}", "Use a float, int or categorical distribution.")
    if d.low == d.high:
        return Choice([plain(d.low)])
    if isinstance(d.low, int) and isinstance(d.high, int) and "Int" in type(d).__name__:
        return Int(d.low, d.high, log=d.log, step=1 if d.log else d.step)
    return Float(d.low, d.high, log=d.log, step=d.step)


def space_to_optuna(space: Space) -> dict[str, Any]:
    """Optuna's distributions by name.

    An ``Order`` becomes categorical. Guesses are no part of a distribution: give them to ``study.enqueue_trial``.

    Raises:
        MissingExtra: If Optuna is not installed.
        UnsupportedError: If the space has conditions, constraints, orders of items or selections.
    """
    library = _library("optuna.distributions", "optuna")
    gated = next((e.path for e in space.entries if e.gates), None)
    if gated is not None:
        raise _refused(
            gated, "a condition", "Optuna has conditions only as code: call trial.suggest_... under an if in the objective."
        )  # fmt: skip
    if space.constraints:
        raise UnsupportedError(
            f"Constraints must be expressible on the other side; got {space.constraints[0].to_dict()!r:.200}. "
            f"Raise optuna.TrialPruned in the objective where it is broken."
        )
    return {name: _to_optuna(library, name, domain) for name, domain in space.domains.items()}


def _to_optuna(library: Any, name: str, domain: Domain) -> Any:
    if isinstance(domain, Float):
        return library.FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
    if isinstance(domain, Int):
        return library.IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
    if isinstance(domain, Choice | Order | Bool):
        return library.CategoricalDistribution(list(domain.options))
    raise _refused(name, domain.describe(), "Write it as several Bool or Int parameters.")
