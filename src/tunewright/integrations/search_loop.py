"""The loop of a search: asks for candidates, has scikit-learn measure them, tells what came of it."""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from tunewright.core.domains import Int
from tunewright.core.trial import Trial
from tunewright.core.units import seconds
from tunewright.errors import ConfigError
from tunewright.integrations.search_folds import Folds, Part
from tunewright.integrations.search_space import SearchSpace
from tunewright.study import Asked, Study

__all__ = ["Loop", "Plan"]

_HOPELESS = 5
_LEVELS = 27
_TINY = 1e-9
Out = dict[str, Any]


class Plan(NamedTuple):
    """What a search does.

    Attributes:
        space: What it may try.
        most: Whole measurements, None for no limit.
        limit: Seconds, None for no limit.
        kind: ``"whole"``, ``"folds"``, ``"samples"``, or ``"resource"``.
        resource: Parameter of the estimator that says how much is trained.
        low: Least of it; a share of the rows for ``"samples"``.
        high: All of it.
        defaults: Parameters of the estimator as given.
    """

    space: SearchSpace
    most: float | None
    limit: float | None
    kind: str
    resource: str
    low: float
    high: float
    defaults: dict[str, Any]

    @classmethod
    def of(cls, budget: Any, fidelity: Any, estimator: Any, space: SearchSpace) -> Plan:
        """Checks what the user said.

        Raises:
            ConfigError: If the budget or the fidelity cannot be used.
        """
        most, limit = (None, seconds(budget)) if isinstance(budget, str) else (budget, None)
        if most is not None and (
            isinstance(most, bool) or not isinstance(most, int | float) or not most >= 1
        ):
            raise ConfigError(
                f"budget must be a number of candidates from 1, or a time like '2min'; got {budget!r:.80}. Correct it."
            )
        given = estimator.get_params()
        unknown = [n for n in space.space.names if n not in given and not _open(estimator, given, n)]
        if unknown:
            raise ConfigError(
                f"A search sets parameters of its estimator; {type(estimator).__name__} has no {unknown[0]!r}. "
                f"It has {', '.join(sorted(given)[:12])}{' and others' if len(given) > 12 else ''}."
            )
        kind, resource, low, high = _fidelity(fidelity, given)
        if resource in space.space.names:
            raise ConfigError(
                f"What says how much is trained is not searched; got '{resource}' in both. Take it out of the space."
            )
        names = list(dict.fromkeys(space.space.names))
        return cls(space, most, limit, kind, resource, low, high, {n: given[n] for n in names if n in given})

    def parameters(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What to set on the estimator for a whole measurement of a configuration."""
        all_of_it = {self.resource: int(self.high)} if self.kind == "resource" else {}
        return {**self.space.parameters(config), **all_of_it}

    def steps(self, folds: int) -> tuple[int, int] | None:
        """Steps of a study for it."""
        if self.kind == "whole" or (self.kind == "folds" and folds < 2):
            return None
        if self.kind == "folds":
            return 1, folds
        return (
            (int(self.low), int(self.high))
            if self.kind == "resource"
            else (math.ceil(self.low * _LEVELS), _LEVELS)
        )


def _open(estimator: Any, given: Mapping[str, Any], name: str) -> bool:
    """Whether what a parameter belongs to takes any, as the estimators of boosting libraries do."""
    owner = given.get(name.rpartition("__")[0]) if "__" in name else estimator
    if owner is None:
        return False
    kinds = [p.kind for p in inspect.signature(type(owner).__init__).parameters.values()]
    return not isinstance(owner, BaseEstimator) or inspect.Parameter.VAR_KEYWORD in kinds


def _fidelity(fidelity: Any, given: Mapping[str, Any]) -> tuple[str, str, float, float]:
    """Kind, parameter, and range of what may be measured in part."""
    if fidelity is None:
        return "whole", "", 0, 0
    if fidelity == "folds":
        return "folds", "", 0, 0
    ranged = isinstance(fidelity, tuple) and len(fidelity) == 3
    parts: tuple[Any, Any, Any] = fidelity if ranged else (fidelity, None, None)
    name, low, high = parts
    if name == "samples":
        low, high = (1 / 9, 1.0) if low is None else (float(low), float(high))
        if 0 < low < high == 1:
            return "samples", "", low, high
        raise ConfigError(
            f"A part of the rows goes from above 0 to 1; got {fidelity!r:.120}. Write ('samples', 0.1, 1.0)."
        )
    if name not in given:
        raise ConfigError(
            f"fidelity must be 'folds', 'samples' or a parameter of the estimator; got {fidelity!r:.120}. Correct it."
        )
    high = given[name] if high is None else high
    if not isinstance(high, int) or isinstance(high, bool) or high < 2:
        raise ConfigError(
            f"'{name}' must be a whole number from 2 to be a fidelity; the estimator has {high!r:.40}. Give ('{name}', 10, 100)."
        )
    low = max(1, high // 9) if low is None else low
    Int(low, high)
    return "resource", name, low, high


@dataclass
class Row:
    """One candidate.

    Attributes:
        trial: Its number in the study; -1 for defaults that the space does not hold.
        params: What was set on the estimator.
        outs: What scikit-learn said of each fold.
        whole: Whether it was measured on all folds, with everything.
        share: How much of a whole measurement it got.
    """

    trial: int
    params: dict[str, Any]
    outs: list[Out] = field(default_factory=list)
    whole: bool = False
    share: float = 0.0


@dataclass
class _Task:
    """A candidate under way, until the step at which its segment ends."""

    asked: Asked
    row: Row
    until: int
    step: int
    over: bool = False


class Loop:
    """One search.

    Args:
        plan: What to do.
        folds: What to measure on.
        opened: Opens the study from a space, names of metrics, and steps.
        width: Candidates at a time.
        names: Names of the scores as far as they are known before anything is measured.

    Attributes:
        over: Whether all candidates are measured.
        partial: Whether some were measured in part only.
        results: What ``evaluate_candidates`` returns to the base class.
        study: The study.
    """

    def __init__(
        self, plan: Plan, folds: Folds, opened: Callable[..., Study], width: int, names: Sequence[str]
    ) -> None:
        self.plan, self.folds, self.width = plan, folds, width
        self.over = self.partial = False
        self.results: dict[str, Any] = {}
        self._opened, self._names = opened, list(names)
        self._evaluate: Callable[..., Any] = dict
        self._outs: list[Out] = []
        self._rows: list[Row] = [Row(-1, dict(plan.defaults))]
        self._of: dict[int, Row] = {}
        self._spent = 0.0
        self._stopped = False
        self._error: ValueError | None = None
        self._study: Study | None = None

    @property
    def study(self) -> Study:
        """The study; there is one once the defaults are measured."""
        assert self._study is not None
        return self._study

    def take(self, outs: list[Out]) -> dict[str, Any]:
        """Gets every fit so far from the base class."""
        self._outs = outs
        return self.results

    def run(self, evaluate: Callable[..., Any], refit: Any) -> None:
        """Measures candidates until the budget is spent.

        Raises:
            ValueError: If nothing could be fitted.
        """
        self._evaluate, began = evaluate, time.monotonic()
        self._defaults()
        self._open(refit)
        while not self._stopped and self._left(began):
            tasks = self._ask()
            if not tasks:
                break
            self._measure(tasks)
            if self._error is not None and not self._outs and len(self._rows) >= _HOPELESS:
                break
        if not self._outs:
            assert self._error is not None
            raise self._error
        self.over = True
        self.partial = any(not row.whole for row in self._rows)

    def _defaults(self) -> None:
        """Measures the estimator as given, on all folds and with everything."""
        first = self._rows[0]
        for fold in range(self.folds.count) if self.folds.single else (None,):
            found = self._fits([first.params], Part(self.folds, fold))
            first.outs += found[0]
            self.folds.count = self.folds.count or len(first.outs)
        first.whole, first.share, self._spent = True, 1.0, 1.0
        if self._outs and isinstance(self._outs[0]["test_scores"], dict):
            self._names = list(self._outs[0]["test_scores"])

    def _open(self, refit: Any) -> None:
        """Opens the study, now that it is known which scores there are, and tells it what the defaults are worth."""
        wanted = [refit] if isinstance(refit, str) and refit in self._names else self._names
        study = self._study = self._opened(self.plan.space.space, wanted, self.plan.steps(self.folds.count))
        first = self._rows[0]
        config = self.plan.space.config(first.params)
        if not study.trials and config is not None:
            study.enqueue(config, key="defaults")
            asked = study.ask()
            assert asked is not None
            first.trial = asked.number
            self._tell(_Task(asked, first, asked.until or 0, 0))
            return
        for trial in study.trials:
            if trial.number == 0 and trial.params == config:
                first.trial = 0
            elif trial.status not in ("waiting", "running"):
                self._remember(trial)

    def _remember(self, trial: Trial) -> None:
        """Takes in a candidate of an earlier fit."""
        row = Row(trial.number, self.plan.parameters(trial.params))
        fidelity = self.study.problem.fidelity
        row.share = 1.0 if fidelity is None else trial.step / fidelity.high
        self._spent += row.share
        self._rows.append(row)
        self._of[trial.number] = row
        row.outs = (
            _recalled(trial.metrics, self._names, self.folds.count) if trial.status == "completed" else []
        )
        row.whole = bool(row.outs)

    def _left(self, began: float) -> bool:
        plan = self.plan
        if plan.limit is not None:
            return time.monotonic() - began < plan.limit
        return plan.most is None or self._spent < plan.most - _TINY

    def _ask(self) -> list[_Task]:
        """The next candidates, as many as fit into the budget."""
        most = self.plan.most
        room = self.width if most is None else min(self.width, math.ceil(most - self._spent - _TINY))
        found = []
        for asked in self.study.ask_many(room):
            row = self._of.get(asked.number)
            if row is None:
                row = self._of[asked.number] = Row(asked.number, self.plan.parameters(asked.params))
                self._rows.append(row)
            fidelity = self.study.problem.fidelity
            high = 0 if fidelity is None else fidelity.high
            found.append(_Task(asked, row, asked.until or high, self.study.trials[asked.number].step))
        return found

    def _measure(self, tasks: list[_Task]) -> None:
        """Brings candidates to the end of their segments; those of an interrupted search are handed back."""
        try:
            while under_way := [t for t in tasks if not t.over]:
                groups: dict[tuple[int | None, int], list[_Task]] = {}
                for task in under_way:
                    key = (len(task.row.outs), 0) if self.folds.single else (None, task.until)
                    groups.setdefault(key, []).append(task)
                for (fold, until), group in groups.items():
                    self._stage(group, fold, until)
        except BaseException as error:
            for task in tasks:
                if not task.over:
                    self.study.release(task.asked)
            if not isinstance(error, KeyboardInterrupt):
                raise
            self._stopped = True
            done = sum(row.whole for row in self._rows)
            warnings.warn(
                f"The search was interrupted after {done} candidates; the best of them is taken.",
                UserWarning,
                2,
            )

    def _stage(self, group: list[_Task], fold: int | None, until: int) -> None:
        """Measures candidates on one fold, or on all folds with as much as their step says."""
        plan, share = self.plan, 1.0
        extra: dict[str, Any] = {}
        if plan.kind == "resource":
            extra, share = {plan.resource: until}, until / plan.high
        elif plan.kind == "samples":
            share = until / _LEVELS
        part = Part(self.folds, fold, share if plan.kind == "samples" else 1.0)
        found = self._fits([{**t.row.params, **extra} for t in group], part)
        cost = 1 / self.folds.count if self.folds.single else share
        for task, outs in zip(group, found, strict=True):
            self._spent += cost
            task.row.share = task.row.share + cost if self.folds.single else cost
            task.row.outs = task.row.outs + outs if self.folds.single else outs
            if not self.folds.single or not outs or not self._finite(task.row) or self._reported(task):
                self._tell(task)

    def _fits(self, candidates: list[dict[str, Any]], part: Part) -> list[list[Out]]:
        """What scikit-learn says of each candidate and fold; nothing where every fit failed."""
        seen = len(self._outs)
        try:
            self._evaluate(candidates, cv=part)
        except ValueError as error:
            if not str(error).lstrip().startswith("All the"):
                raise
            self._error = error
            return [[] for _ in candidates]
        fresh = self._outs[seen:]
        each = len(fresh) // len(candidates)
        return [fresh[i * each : (i + 1) * each] for i in range(len(candidates))]

    def _reported(self, task: _Task) -> bool:
        """Reports the mean over the folds so far; whether the segment is over."""
        done = len(task.row.outs)
        if done <= task.step:
            return done >= task.until
        task.step = done
        return not task.asked.report(done, **self._means(task.row)) or done >= task.until

    def _tell(self, task: _Task) -> None:
        """Ends a segment."""
        asked, row, study = task.asked, task.row, self.study
        task.over = True
        if not self._finite(row):
            row.whole = True
            asked_error = "" if self._error is None else str(self._error)
            study.tell(
                asked, outcome="failed", error=asked_error or "a fit failed, or its score is not finite"
            )
            return
        high = (self.plan.steps(self.folds.count) or (0, 0))[1]
        row.whole = task.until >= high and not (self.folds.single and len(row.outs) < high)
        metrics = self._means(row)
        if row.whole:
            metrics |= _per_fold(row.outs, self._names)
        asked.tell(metrics)

    def _finite(self, row: Row) -> bool:
        return bool(row.outs) and all(math.isfinite(v) for v in self._means(row).values())

    def _means(self, row: Row) -> dict[str, float]:
        return {n: float(np.mean([_score(out, n) for out in row.outs])) for n in self._names}

    def table(self) -> tuple[list[dict[str, Any]], int, list[Out], dict[str, list[Any]]]:
        """Parameters, number of folds, a result per candidate and fold, and further columns."""
        template, folds = self._outs[0], self.folds.count
        flat = []
        for row in self._rows:
            outs = row.outs if row.whole and len(row.outs) == folds else [{}] * folds
            flat += [_filled(out, template) for out in outs]
        more: dict[str, list[Any]] = {
            "trial": [row.trial for row in self._rows],
            "share": [round(row.share, 6) for row in self._rows],
        }
        return [row.params for row in self._rows], folds, flat, more


def _score(out: Out, name: str) -> float:
    scores = out["test_scores"]
    return float(scores[name] if isinstance(scores, dict) else scores)


def _per_fold(outs: Sequence[Out], names: Sequence[str]) -> dict[str, float]:
    """What is needed to show a candidate again in a later fit."""
    found = {f"split{k}_test_{n}": _score(out, n) for k, out in enumerate(outs) for n in names}
    return found | {t: float(np.mean([out[t] for out in outs])) for t in ("fit_time", "score_time")}


def _recalled(metrics: Mapping[str, float], names: Sequence[str], folds: int) -> list[Out]:
    """The results of a candidate of an earlier fit; nothing if it was made with other folds."""
    outs: list[Out] = []
    for k in range(folds):
        scores = {n: metrics.get(f"split{k}_test_{n}") for n in names}
        if None in scores.values():
            return []
        times = {t: metrics.get(t, math.nan) for t in ("fit_time", "score_time")}
        outs.append({**times, "test_scores": scores if names != ["score"] else scores["score"]})
    return outs


def _filled(out: Out, template: Out) -> Out:
    """A result with every field of another one; what is not known is NaN."""

    def unknown(value: Any) -> Any:
        if isinstance(value, dict):
            return dict.fromkeys(value, math.nan)
        return math.nan if isinstance(value, int | float | np.number) else None

    return {k: out[k] if k in out else unknown(v) for k, v in template.items()}
