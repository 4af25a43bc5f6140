"""Settings of a large model from trainings of small ones: which parametrization, which rate, how sure, at what cost.

*Use when* a study was opened with a scale and its trials have been through two or three proxy sizes; ``Study.transfer`` calls it.

*Do not use when* the target trains on other data, or much longer than the proxies: rates also fall with the length of training.

*Paper*: Yang et al. 2022, "Tensor Programs V", arXiv:2203.03466, Algorithm 1 (muTransfer).

*Differs*: the paper takes the best trial of one proxy. Here the best rate is a fit with an interval at every proxy size; a rule that
claims transfer is refused where those intervals contradict each other; a rule that does not is extrapolated by the power law
that its proxies show; and among several rules the one is taken whose loss at the largest proxy, plus what its uncertainty about
the target's rate costs by the curvature of the loss, is lowest.

*Cost*: a few tens of milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.domains import Float
from tunewright.core.problem import Problem
from tunewright.core.scale import Scale, Stage, is_depth
from tunewright.core.trial import FAILURES, Trial
from tunewright.errors import ConfigError
from tunewright.scaling.drift import (
    EDGE,
    LEAST,
    Optimum,
    Prediction,
    apart,
    extrapolated,
    optimum,
    pooled,
    slope,
)
from tunewright.scaling.rules import RULES, rule

Floats = NDArray[np.float64]
_NAMES = ("lr", "learning_rate", "rate", "base_lr", "lr0")
_FAR = 16.0
_LONG = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the proxies say of one parametrization.

    Attributes:
        rule: Its name.
        claims: Whether it says that the best rate stays where it is as these sizes grow.
        optima: One per proxy that has enough trainings, smallest first.
        drift: Doublings of the best rate per doubling of the size, with its interval of 90 percent; None for one size.
        predicted: The best rate at the target; None if refused.
        expected: Loss at the largest proxy that all rules have results for, and what the uncertainty about the target's rate adds to
            it; infinite if refused.
        refusal: Why nothing is predicted; empty if something is.
    """

    rule: str
    claims: bool
    optima: tuple[Optimum, ...] = ()
    drift: tuple[float, float, float] | None = None
    predicted: Prediction | None = None
    expected: float = math.inf
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Settings for the target, or the reason why there are none.

    Attributes:
        scale: What grows.
        parameter: Name of the rate.
        rule: The parametrization that was chosen; empty if all were refused.
        verdicts: What the proxies say of each parametrization.
        cost: What all trainings of the study cost, in trainings of the target.
        warnings: What the proxies cannot show.
        refusal: Why there are no settings; empty if there are.
    """

    scale: Scale
    parameter: str
    rule: str
    verdicts: tuple[Verdict, ...]
    cost: float
    warnings: tuple[str, ...] = ()
    refusal: str = ""
    _settings: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def settings(self) -> dict[str, Any]:
        """Parameters for the target, with the chosen ``rule`` where there were several.

        Raises:
            ConfigError: If the law does not hold; the sentence says where.
        """
        if self.refusal:
            raise ConfigError(self.refusal)
        return dict(self._settings)

    @property
    def verdict(self) -> Verdict:
        """That of the chosen rule.

        Raises:
            ConfigError: If all were refused.
        """
        if self.refusal:
            raise ConfigError(self.refusal)
        return next(v for v in self.verdicts if v.rule == self.rule)

    @property
    def interval(self) -> tuple[float, float]:
        """The rate's interval of 90 percent at the target.

        Raises:
            ConfigError: If there is none.
        """
        found = self.verdict.predicted
        assert found is not None
        return found.low, found.high

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(found: Transfer) -> Iterable[str]:
    grown = ", ".join(f"{k}={v}" for k, v in found.scale.target.items())
    if found.refusal:
        yield f"No settings for {grown}: {found.refusal}"
    else:
        low, high = found.interval
        yield f"{grown}: {', '.join(f'{k}={_short(v)}' for k, v in found.settings.items() if k != 'rule')}, under {found.rule}"
        yield f"  {found.parameter} within {low:.3g} to {high:.3g} (90 %)"
    yield f"  cost of the study: {found.cost:.3g} trainings of the target"
    for v in found.verdicts:
        where = ", ".join(f"{o.rate:.3g} [{o.low:.3g}, {o.high:.3g}]" for o in v.optima)
        drift = "" if v.drift is None else f"; drift {v.drift[0]:+.2f} [{v.drift[1]:+.2f}, {v.drift[2]:+.2f}]"
        yield f"  {v.rule}: best {found.parameter} by size {where or 'unknown'}{drift}" + (
            f"; refused: {v.refusal}" if v.refusal else ""
        )
    for warning in found.warnings:
        yield f"  note: {warning}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def transfer(problem: Problem, trials: Sequence[Trial], parameter: str | None = None) -> Transfer:
    """Settings for the target from a study's trials.

    Args:
        problem: The study's, with a scale.
        trials: Its trials.
        parameter: The rate that is followed from size to size; by default one named ``lr`` or ``learning_rate``, or else the
            only parameter on a log scale. All others are taken as the best trial at the largest proxy has them.

    Raises:
        ConfigError: If the study has no scale or several objectives, or it is not clear which parameter is the rate.
    """
    scale = problem.scale
    if scale is None or problem.m > 1:
        raise ConfigError(
            f"transfer needs a study with a scale and one objective; got {'no scale' if scale is None else f'{problem.m} objectives'}. "
            f"Open one with scale=tunewright.scaling.Scale(...)."
        )
    name, domain = _rate(problem, parameter)
    rng = np.random.default_rng([problem.seed, 27])
    table = _Table.of(problem, scale, trials, name)
    verdicts = tuple(_judge(r, scale, table, (domain.low, domain.high), rng) for r in scale.rules)
    cost = sum(scale.cost_of(max(t.peak, t.step), t.parent[1] if t.parent else 0) for t in trials)
    able = [v for v in verdicts if not v.refusal]
    if not able:
        refusal = " ".join(v.refusal for v in verdicts)
        return Transfer(scale, name, "", verdicts, cost, _warnings(scale), refusal)
    verdicts = _compared(verdicts)
    chosen = min(verdicts, key=lambda v: v.expected)
    assert chosen.predicted is not None
    settings = {**table.best(chosen.rule), name: chosen.predicted.rate}
    return Transfer(scale, name, chosen.rule, verdicts, cost, _warnings(scale), "", settings)


def _rate(problem: Problem, wanted: str | None) -> tuple[str, Float]:
    domains = problem.space.domains
    logs = [n for n, d in domains.items() if isinstance(d, Float) and d.log]
    named = [n for n in _NAMES if n in logs]
    name = wanted or (named[0] if named else logs[0] if len(logs) == 1 else "")
    if name not in logs:
        raise ConfigError(
            f"transfer follows one parameter on a log scale; got {wanted or logs}. Name it: transfer('lr'), and declare it as "
            f"Float(1e-4, 1.0, log=True)."
        )
    found = domains[name]
    assert isinstance(found, Float)
    return name, found


@dataclass(slots=True)
class _Table:
    """Trainings of whole proxies.

    Attributes:
        rows: By rule and stage: configuration, rate, loss, and everything but the rate as numbers in [0, 1].
    """

    rows: dict[tuple[str, Sizes], list[tuple[dict[str, Any], float, float, list[float]]]] = field(
        default_factory=dict
    )

    @classmethod
    def of(cls, problem: Problem, scale: Scale, trials: Sequence[Trial], name: str) -> _Table:
        """Reads trials; one that failed counts as diverged at the size that it failed at."""
        table = cls()
        skip = {name, "rule"} if len(scale.rules) > 1 else {name}
        names = [n for n in problem.space.names if n not in skip]
        places = [problem.space.names.index(n) for n in names]
        for trial in trials:
            code = problem.space.project(trial.config)
            if code is None or name not in trial.config:
                continue
            others = np.nan_to_num(code[places], nan=0.5).tolist()
            own = str(trial.config.get("rule", scale.rules[0])) if len(scale.rules) > 1 else scale.rules[0]
            for stage, loss in _losses(problem, scale, trial):
                row = (trial.config, float(trial.config[name]), loss, others)
                table.rows.setdefault((own, _key(stage)), []).append(row)
        return table

    def at(self, rule_name: str, stage: Stage) -> list[tuple[dict[str, Any], float, float, list[float]]]:
        """Trainings of one size under one rule."""
        return self.rows.get((rule_name, _key(stage)), [])

    def best(self, rule_name: str) -> dict[str, Any]:
        """The configuration with the lowest loss at the largest proxy that has one."""
        stages = list(dict.fromkeys(k for r, k in self.rows if r == rule_name))
        for key in sorted(stages, reverse=True):
            good = [row for row in self.rows[rule_name, key] if math.isfinite(row[2])]
            if good:
                return dict(min(good, key=lambda row: row[2])[0])
        return {}


Sizes = tuple[int, ...]


def _key(stage: Stage) -> Sizes:
    return tuple(stage.sizes.values())


def _losses(problem: Problem, scale: Scale, trial: Trial) -> Iterable[tuple[Stage, float]]:
    """Loss of each size that the trial trained completely; infinite for the one that it failed at."""
    reports = {r.step: r for r in trial.reports}
    for stage in scale.stages:
        if stage.end in reports or (trial.status == "completed" and trial.step >= stage.end == scale.high):
            final = trial.metrics if trial.status == "completed" and stage.end == scale.high else None
            metrics = final or reports[stage.end].metrics
            found = problem.losses(metrics)
            late = problem.violation(metrics) if problem.limits else 0.0
            yield stage, math.inf if found is None or late > 0 else found[0]
        elif trial.status in FAILURES and stage.begin <= trial.step < stage.end:
            yield stage, math.inf


def _claims(name: str, scale: Scale) -> bool:
    """Whether a rule says that rates transfer over everything that grows; one of the user's own is taken at its word."""
    if name not in RULES:
        return True
    grown = {"depth" if is_depth(n) else "width" for n, (low, high) in scale.sizes.items() if high > low}
    return grown <= rule(name).transfers


def _growth(scale: Scale, sizes: dict[str, int]) -> float:
    """Doublings of everything that grows, together."""
    return sum(math.log2(sizes[n] / low) for n, (low, _) in scale.sizes.items())


def _judge(
    name: str, scale: Scale, table: _Table, searched: tuple[float, float], rng: np.random.Generator
) -> Verdict:
    claims = _claims(name, scale)
    optima: list[Optimum] = []
    for stage in scale.stages:
        rows = table.at(name, stage)
        if not rows:
            continue
        shown = ", ".join(f"{k}={v}" for k, v in stage.sizes.items())
        finite = sum(math.isfinite(r[2]) for r in rows)
        if not finite:
            return Verdict(
                name,
                claims,
                tuple(optima),
                refusal=f"All {len(rows)} trainings at {shown} under {name} diverged; lower the range of rates.",
            )
        try:
            rates, losses = [r[1] for r in rows], [r[2] for r in rows]
            others = np.array([r[3] for r in rows]).reshape(len(rows), -1)
            growth = _growth(scale, stage.sizes)
            optima.append(optimum(rates, losses, searched, rng, growth=growth, others=others))
        except ConfigError:
            continue
    return _verdict(name, scale, claims, optima, searched)


def _verdict(
    name: str, scale: Scale, claims: bool, optima: Sequence[Optimum], searched: tuple[float, float]
) -> Verdict:
    drift = slope(optima) if len(optima) > 1 else None
    refusal = _refusal(name, claims, optima, len(scale.stages), searched)
    if refusal:
        return Verdict(name, claims, tuple(optima), drift, refusal=refusal)
    growth = _growth(scale, scale.target)
    found = pooled(optima) if claims else extrapolated(optima, growth)
    if found.high / found.low > searched[1] / searched[0]:
        return Verdict(
            name,
            claims,
            tuple(optima),
            drift,
            refusal=f"Under {name} the proxies leave the target's rate open from {found.low:.3g} to {found.high:.3g}, more than was "
            f"searched; use more trials, larger proxies, or a rule that claims transfer.",
        )
    return Verdict(name, claims, tuple(optima), drift, found)


def _compared(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Verdicts with the losses to choose by, at the largest size that all have, else at the largest that any has."""
    able = [v for v in verdicts if v.predicted is not None]
    sizes = [{o.growth for o in v.optima} for v in able]
    at = max(set.intersection(*sizes) or set.union(*sizes))
    out = []
    for v in verdicts:
        here = [o for o in v.optima if o.growth == at and v.predicted is not None]
        spread = v.predicted.spread if v.predicted is not None else 0.0
        out.append(replace(v, expected=here[0].loss + here[0].curvature * spread**2) if here else v)
    return tuple(out)


def _refusal(
    name: str, claims: bool, optima: Sequence[Optimum], wanted: int, searched: tuple[float, float]
) -> str:
    """Why the proxies say nothing about the target; empty if they do."""
    if len(optima) < min(2, wanted) or (not claims and len(optima) < 2):
        return (
            f"Under {name} the best rate is known at {len(optima)} of {wanted} proxy sizes, and two are needed to see whether it "
            f"moves; run more trials, each size needs {LEAST} that reach it and do not diverge."
        )
    for o in optima:
        if o.edge:
            return _at_the_end(name, o, searched)
    moved = apart(optima) if claims else None
    if moved is not None:
        a, b = sorted(moved, key=lambda o: o.growth)
        return (
            f"{name} claims that the best rate stays, but it moved from {a.rate:.3g} [{a.low:.3g}, {a.high:.3g}] to {b.rate:.3g} "
            f"[{b.low:.3g}, {b.high:.3g}] as the size grew {2 ** (b.growth - a.growth):g} times; check the plan with a coordinate "
            f"check, use a wider base, or choose another rule."
        )
    return ""


def _at_the_end(name: str, o: Optimum, searched: tuple[float, float]) -> str:
    end = searched[0] if o.edge == "low" else searched[1]
    side = "lower" if o.edge == "low" else "upper"
    if abs(math.log(o.rate / end)) <= EDGE * math.log(searched[1] / searched[0]):
        return (
            f"Under {name} the best rate at {2**o.growth:g} times the base lies at the {side} end of what was searched, {end:g}; "
            f"widen the range."
        )
    return (
        f"Under {name} the best rate at {2**o.growth:g} times the base lies at the {side} end of what was tried there, {o.rate:.3g}; "
        f"have more trials reach that size, or use a sampler without a scheduler."
    )


def _warnings(scale: Scale) -> tuple[str, ...]:
    """What no proxy can show."""
    found = []
    steps: Any = scale.steps
    if steps[-1] > _LONG * steps[-2]:
        found.append(
            f"the target trains {steps[-1] / steps[-2]:g} times as long as the largest proxy; the best rate falls with the "
            f"length of training, which sizes do not show."
        )
    far = 2.0 ** (_growth(scale, scale.target) - _growth(scale, dict(scale.stages[-1].sizes)))
    if far > _FAR:
        found.append(f"the target is {far:g} times the largest proxy, a long way to extrapolate.")
    still = [
        n
        for n, (low, high) in scale.sizes.items()
        if high > low and all(s.sizes[n] == low for s in scale.stages)
    ]
    if still and len(scale.stages) > 1:
        found.append(f"the target grows in {', '.join(still)}, and no proxy does; let one of them.")
    if len(scale.stages) == 1:
        found.append("with one proxy size nobody can see whether the best rate moves; use two.")
    return tuple(found)
