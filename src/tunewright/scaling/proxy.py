"""Settings of a large model from trainings of small ones: which parametrization, which rate, how sure, at what cost.

*Use when* a study was opened with a scale and its trials have been through two or three proxy sizes; ``Study.transfer`` calls it.

*Do not use when* the target trains on other data, or with another batch size.

*Paper*: Yang et al. 2022, "Tensor Programs V", arXiv:2203.03466, Algorithm 1 (muTransfer).

*Differs*: the paper takes the best trial of one proxy. Here the best rate is a fit with an interval at every proxy size; a rule that
claims transfer is refused where those intervals contradict each other; a rule that does not is extrapolated by the power law
that its proxies show; and among several rules the one is taken whose loss at the largest proxy, plus what its uncertainty about
the target's rate costs by the curvature of the loss, is lowest. Where the target trains for longer, the law of that (``horizon``,
arXiv:2409.19913) is fitted together with that of the size.

*Cost*: a few tens of milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.core.domains import Float
from tunewright.core.problem import Problem
from tunewright.core.scale import Scale, Stage, is_depth
from tunewright.core.trial import Trial
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
from tunewright.scaling.horizon import REACH, Length, adjusted, fitted_length, law_at, widened
from tunewright.scaling.rules import RULES, rule
from tunewright.scaling.transferred import Training, Transfer, Verdict

__all__ = ["Training", "Transfer", "Verdict", "horizon_of", "spent", "transfer"]

Floats = NDArray[np.float64]
_NAMES = ("lr", "learning_rate", "rate", "base_lr", "lr0")
_FAR = 16.0
_LONG = 2.0


def transfer(
    problem: Problem,
    trials: Sequence[Trial],
    parameter: str | None = None,
    horizon: float | Literal["shares", "published"] | None = None,
) -> Transfer:
    """Settings for the target from a study's trials.

    Args:
        problem: The study's, with a scale.
        trials: Its trials.
        parameter: The rate that is followed from size to size; by default one named ``lr`` or ``learning_rate``, or else the
            only parameter on a log scale. All others are taken as the best trial at the largest proxy has them.
        horizon: How the rate is brought to the length of the target's training, at the same batch size. By default the law
            ``rate ~ steps^-e`` is fitted to proxies of different lengths, together with the law of sizes, where there are more of
            them than it takes; else nothing is done, and a warning says so. ``"shares"`` takes each share of a training for a
            training of that length, which is right for constant rates and wrong for rates that decay to the end. ``"published"``
            takes the exponent of the paper, 0.32 with a deviation of 0.1; a number is an exponent of your own.

    Raises:
        ConfigError: If the study has no scale or several objectives, it is not clear which parameter is the rate, or the horizon is
            none of these.
    """
    scale = problem.scale
    if scale is None or problem.m > 1:
        raise ConfigError(
            f"transfer needs a study with a scale and one objective; got {'no scale' if scale is None else f'{problem.m} objectives'}. "
            f"Open one with scale=tunewright.scaling.Scale(...)."
        )
    horizon = horizon_of(horizon)
    _with_shares(horizon, scale)
    name, domain = _rate(problem, parameter)
    rng = np.random.default_rng([problem.seed, 27])
    table = _Table.of(problem, scale, trials, name)
    judge = _Judge(scale, table, (domain.low, domain.high), rng, horizon)
    verdicts = tuple(judge.verdict(r) for r in scale.rules)
    cost = spent(scale, trials)
    objective, able = problem.objectives[0], [v for v in verdicts if not v.refusal]
    warnings = _warnings(scale, able or verdicts)
    if not able:
        refusal = " ".join(v.refusal for v in verdicts)
        return Transfer(scale, objective, name, "", verdicts, cost, warnings, refusal)
    verdicts = _compared(verdicts)
    chosen = min(verdicts, key=lambda v: v.expected)
    assert chosen.predicted is not None
    settings = {**table.best(chosen.rule), name: chosen.predicted.rate}
    return Transfer(scale, objective, name, chosen.rule, verdicts, cost, warnings, "", settings)


def horizon_of(given: Any) -> float | Literal["shares", "published"] | None:
    """How to go to a longer training, from what a caller or a command line said.

    Raises:
        ConfigError: If it is none of the ways.
    """
    if given is None or given == "shares" or given == "published":
        found: float | Literal["shares", "published"] | None = given
        return found
    try:
        exponent = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        exponent = math.nan
    if not math.isfinite(exponent):
        raise ConfigError(
            f"horizon must be 'shares', 'published', or the exponent of a law of your own; got {given!r:.80}. Leave it out."
        )
    return exponent


def _with_shares(horizon: float | str | None, scale: Scale) -> None:
    if horizon == "shares" and len(scale.shares) < 2:
        raise ConfigError(
            f"horizon='shares' needs a scale with shares of a training; got {scale.shares}. Open a study with "
            f"Scale(..., shares=(0.25, 0.5, 1.0))."
        )


def spent(scale: Scale, trials: Iterable[Trial]) -> float:
    """What trials cost, in trainings of the target; work that was lost and done again is counted once.

    A trial that failed before it reported anything of a size is taken to have trained that size in full.
    """
    return math.fsum(_cost(scale, trial) for trial in trials)


def _cost(scale: Scale, trial: Trial) -> float:
    reached, begin = max(trial.peak, trial.step), trial.parent[1] if trial.parent else 0
    if trial.status == "failed":
        # Where an asked trial is told to have failed, its step is the one that it was to come to.
        reached = next((s.end for s in scale.stages if s.begin == trial.peak), trial.peak)
    return scale.cost_of(reached, begin)


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


class _Row(NamedTuple):
    """A training with what else was varied, each as a number in [0, 1]."""

    training: Training
    config: dict[str, Any]
    others: list[float]


@dataclass(slots=True)
class _Table:
    """Trainings of proxies.

    Attributes:
        rows: By rule and point, that is the end of a level.
    """

    rows: dict[tuple[str, int], list[_Row]] = field(default_factory=dict)

    @classmethod
    def of(cls, problem: Problem, scale: Scale, trials: Sequence[Trial], name: str) -> _Table:
        """Reads trials."""
        table = cls()
        skip = {name, "rule"} if len(scale.rules) > 1 else {name}
        names = [n for n in problem.space.names if n not in skip]
        places = [problem.space.names.index(n) for n in names]
        for trial in trials:
            code = problem.space.project(trial.config)
            if code is None or name not in trial.config:
                continue
            others = np.nan_to_num(code[places], nan=0.5).tolist()
            own = str(trial.config["rule"]) if len(scale.rules) > 1 else scale.rules[0]
            for stage, i, loss in _losses(problem, scale, trial):
                rate = float(trial.config[name])
                training = Training(trial.number, stage.sizes, stage.marks[i], rate, loss)
                table.rows.setdefault((own, stage.points[i]), []).append(_Row(training, trial.config, others))
        return table

    def at(self, rule_name: str, point: int) -> list[_Row]:
        """Trainings under one rule that came to a point."""
        return self.rows.get((rule_name, point), [])

    def best(self, rule_name: str) -> dict[str, Any]:
        """The configuration with the lowest loss at the furthest point that has one."""
        for point in sorted({p for r, p in self.rows if r == rule_name}, reverse=True):
            good = [row for row in self.at(rule_name, point) if math.isfinite(row.training.loss)]
            if good:
                return dict(min(good, key=lambda row: row.training.loss).config)
        return {}


def _losses(problem: Problem, scale: Scale, trial: Trial) -> Iterable[tuple[Stage, int, float]]:
    """Loss at each level that the trial came to; infinite at the next one if it failed.

    Only a failure of the training itself is one: a lost worker, a full memory or a limit of time say nothing of the rate. A fork
    from within the training of a size has trained that size with other rates, too.
    """
    reports = {r.step: r.metrics for r in trial.reports}
    if trial.status == "completed":
        reports[trial.step] = trial.metrics
    forked = trial.parent[1] if trial.parent is not None else 0
    for stage in scale.stages:
        if stage.begin < forked < stage.end:
            continue
        for i, point in enumerate(stage.points):
            if point in reports:
                found = problem.losses(reports[point])
                late = problem.violation(reports[point]) if problem.limits else 0.0
                yield stage, i, math.inf if found is None or late > 0 else found[0]
            elif trial.status == "failed" and stage.begin <= trial.peak < point:
                yield stage, i, math.inf


def _claims(name: str, scale: Scale) -> bool:
    """Whether a rule says that rates transfer over everything that grows; one of the user's own is taken at its word."""
    if name not in RULES:
        return True
    grown = {"depth" if is_depth(n) else "width" for n, (low, high) in scale.sizes.items() if high > low}
    return grown <= rule(name).transfers


@dataclass(frozen=True, slots=True)
class _Judge:
    """What the proxies say of a rule.

    Attributes:
        scale: What grows.
        table: What was trained.
        searched: Ends of the range of rates.
        rng: For resampling.
        horizon: How to go from length to length.
    """

    scale: Scale
    table: _Table
    searched: tuple[float, float]
    rng: np.random.Generator
    horizon: float | Literal["shares", "published"] | None

    def verdict(self, name: str) -> Verdict:
        """On the rule of a name."""
        claims = _claims(name, self.scale)
        ends = [self.table.at(name, stage.end) for stage in self.scale.stages]
        trainings = tuple(row.training for rows in ends for row in rows)
        empty = Verdict(name, claims, trainings=trainings)
        for stage, rows in zip(self.scale.stages, ends, strict=True):
            if len(rows) >= LEAST and not any(math.isfinite(r.training.loss) for r in rows):
                refusal = f"All {len(rows)} trainings at {stage.name} under {name} diverged; lower the range of rates."
                return replace(empty, refusal=refusal)
        optima = [o for stage in self.scale.stages if (o := self._optimum(name, stage, -1)) is not None]
        found = replace(empty, optima=tuple(optima))
        refusal = _unknown(name, claims, optima, len(self.scale.stages), self.searched)
        if refusal:
            return replace(found, drift=slope(optima) if len(optima) > 1 else None, refusal=refusal)
        return self._predicted(found)

    def _optimum(self, name: str, stage: Stage, i: int, shared: int = 1) -> Optimum | None:
        """The best rate at a level of a size; None where too little is known."""
        rows = self.table.at(name, stage.points[i])
        if not rows:
            return None
        try:
            return optimum(
                [r.training.rate for r in rows],
                [r.training.loss for r in rows],
                self.searched,
                self.rng,
                growth=self.scale.growth(stage.sizes),
                length=math.log2(stage.marks[i]),
                shared=shared,
                others=np.array([r.others for r in rows]).reshape(len(rows), -1),
            )
        except ConfigError:
            return None

    def _predicted(self, found: Verdict) -> Verdict:
        """A verdict whose optima are sound, with the rate of the target or the reason why there is none."""
        scale, optima = self.scale, found.optima
        growth, length = scale.growth(scale.target), math.log2(scale.target_steps)
        law, predicted = self._law(found)
        even = list(optima) if law is None else adjusted(optima, law.exponent, length)
        found = replace(found, length=law, drift=slope(even) if len(even) > 1 else None)
        refusal = _far(optima, length, law) if law is not None else ""
        refusal = refusal or (_moved(found.rule, even, law) if found.claims else "")
        if self.horizon == "shares" and law is None:
            refusal = (
                f"Under {found.rule} the best rate is known at too few shares of trainings to tell how it changes with their "
                f"length; run more trials, or pass horizon='published'."
            )
        if refusal:
            return replace(found, refusal=refusal)
        if predicted is None:
            predicted = pooled(even) if found.claims else extrapolated(even, growth)
            predicted = predicted if law is None else widened(predicted, optima, law, length)
        if predicted.high / predicted.low > self.searched[1] / self.searched[0]:
            refusal = (
                f"Under {found.rule} the proxies leave the target's rate open from {predicted.low:.3g} to {predicted.high:.3g}, more "
                f"than was searched; use more trials, larger proxies, or a rule that claims transfer."
            )
            return replace(found, refusal=refusal)
        return replace(found, predicted=predicted)

    def _law(self, found: Verdict) -> tuple[Length | None, Prediction | None]:
        """How rates are brought to the target's length, and the target's rate where that was fitted, too."""
        scale, optima, horizon = self.scale, found.optima, self.horizon
        growth, length = scale.growth(scale.target), math.log2(scale.target_steps)
        if all(o.length == length for o in optima):
            return None, None
        if horizon == "published" or isinstance(horizon, int | float):
            return law_at(optima, None if horizon == "published" else float(horizon), length), None
        if horizon == "shares":
            levels = [
                self._optimum(found.rule, stage, i, len(stage.points))
                for stage in scale.stages
                for i in range(len(stage.points))
            ]
            optima = tuple(o for o in levels if o is not None and not o.edge)
        fit = fitted_length(optima, growth, length, moves=not found.claims)
        return (None, None) if fit is None else fit


def _compared(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Verdicts with the losses to choose by, at the largest size that all have, else at the largest that any has."""
    able = [v for v in verdicts if v.predicted is not None]
    sizes = [{o.growth for o in v.optima} for v in able]
    at = max(set.intersection(*sizes) or set.union(*sizes))
    out = []
    for v in verdicts:
        here = [o for o in v.optima if o.growth == at and v.predicted is not None]
        spread = v.predicted.spread if v.predicted is not None else 0.0
        if here:
            v = replace(v, expected=here[0].loss + here[0].curvature * spread**2, noise=here[0].noise)
        out.append(v)
    return tuple(out)


def _unknown(
    name: str, claims: bool, optima: Sequence[Optimum], wanted: int, searched: tuple[float, float]
) -> str:
    """Why the best rate is not known at the proxies; empty if it is."""
    if not claims and wanted < 2:
        return f"{name} does not claim that the best rate stays, and one proxy size does not show how it moves; open a study with two."
    if len(optima) < min(2, wanted):
        return (
            f"Under {name} the best rate is known at {len(optima)} of {wanted} proxy sizes, and two are needed to see whether it "
            f"moves; run more trials, each size needs {LEAST} that reach it and do not diverge."
        )
    at = next((o for o in optima if o.edge), None)
    return "" if at is None else _at_the_end(name, at, searched)


def _far(optima: Sequence[Optimum], length: float, law: Length) -> str:
    """Why the target's training is out of the reach of a law of lengths; empty if it is not."""
    away = [abs(o.length - length) for o in optima]
    # A law that was fitted is asked beyond its box, another one goes from each proxy to the target.
    far = min(away) if law.source == "fitted" else max(away)
    if far <= math.log2(REACH):
        return ""
    return (
        f"The law of lengths holds for trainings {REACH:g} times as long at most; got a target that differs {2**far:.3g} times from "
        f"{'all proxies' if law.source == 'fitted' else 'a proxy'}. Train proxies for longer."
    )


def _moved(name: str, optima: Sequence[Optimum], law: Length | None) -> str:
    """Why a rule's claim that the best rate stays is not believed; empty if it is."""
    found = apart(optima)
    if found is None:
        return ""
    a, b = sorted(found, key=lambda o: o.growth)
    mixed = (
        " They also trained for different lengths, with which the best rate falls: make those equal, or pass horizon='published'."
        if law is None and a.length != b.length
        else ""
    )
    return (
        f"{name} claims that the best rate stays, but it moved from {a.rate:.3g} [{a.low:.3g}, {a.high:.3g}] to {b.rate:.3g} "
        f"[{b.low:.3g}, {b.high:.3g}] as the size grew {2 ** (b.growth - a.growth):g} times; check the plan with a coordinate "
        f"check, use a wider base, or choose another rule.{mixed}"
    )


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


def _warnings(scale: Scale, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """What no proxy can show."""
    found = []
    own, target = [stage.steps for stage in scale.stages], scale.target_steps
    laws = [v.length for v in verdicts if v.length is not None]
    if not laws and max(*own, target) > _LONG * min(*own, target):
        found.append(
            f"the target trains {target / own[-1]:.3g} times as long as the largest proxy, and proxies for {min(own)} to "
            f"{max(own)} steps; the best rate falls with the length of training, which is left out here. Give all the same "
            f"steps, three proxies of different ones, or pass horizon='published'."
        )
    if any(law.source == "fitted" and law.high < 0 for law in laws):
        found.append(
            "the fitted law has the best rate rise with the length of training; at one batch size it falls. Keep the batch the same."
        )
    far = 2.0 ** (scale.growth(scale.target) - scale.growth(scale.stages[-1].sizes))
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
