"""Forecasts of the next loss of any trial, from its configuration, its curve so far and what else it reported.

*Use when* a scheduler asks which of many trainings, begun or not, deserves the next few steps. *Do not use when* only the
end of a training matters (``models.pfn`` predicts that).

*Paper*: Wistuba, Kadra and Grabocka 2022 (DyHPO, arXiv:2202.09774), section 4: a deep kernel over configuration, budget
and curve; Mehta et al. 2024 (FMS, arXiv:2406.18630), section 3: the same with an embedding of the weights.

*Differs*: the process is of the change since the last report in units of the usual change, and for first results of the
difference from the usual one, since most of what the next loss will be is the last one; losses are warped; of a curve
the last loss, its last change and its lowest loss are seen, instead of a learned convolution; reported features, being many,
are doubted by one and a half log units of scale; what was learned is used until there are a quarter more results; of more
than 150 the better half and an even share of the others are learned from, and the last 100 are added. Configurations of
more than 256 coordinates are projected at random.

*Cost*: ``apply`` O(1) per event; ``forecaster`` one factorisation of at most 250 rows, and a fit when due.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.core.events import Amended, Edited, Ended, Event, Reported, Started
from tunewright.core.problem import Problem
from tunewright.models import deep_kernel
from tunewright.models.curve_book import CurveBook
from tunewright.models.deep_kernel import DeepKernel, Posterior
from tunewright.models.kernel import columns_of
from tunewright.models.warp import Warp, fit_warp

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_LEARN, _RECENT = 150, 100
_DENSE, _GROWTH = 8, 1.25
_DOUBT = 1.5
_WIDEST = 256
_FEATURES = 64
_ROWS = 16
_LAST, _BEFORE, _LOWEST, _STEP = range(4)
# A trial that was lost or killed says nothing about its configuration.
_FAILURES = ("failed", "invalid", "out_of_memory", "timed_out")


@dataclass(slots=True)
class Known:
    """What was known of one trial at its last report that counts.

    Attributes:
        step: Its step; 0 before the first.
        curve: Last loss, the one before, the lowest, and the step over that of a full training; NaN where unknown.
        features: Reported features.
    """

    step: int = 0
    curve: tuple[float, float, float, float] = (math.nan, math.nan, math.nan, math.nan)
    features: tuple[float, ...] = ()


class Questions(NamedTuple):
    """Trials, begun or not, at steps yet to come.

    Attributes:
        codes: Shape ``(q, d)``.
        steps: Step at which each loss is asked for, shape ``(q,)``.
        curves: As in ``Known``, shape ``(q, 4)``.
        features: Shape ``(q, k)``.
    """

    codes: Array
    steps: Ints
    curves: Array
    features: Array


@dataclass(slots=True)
class Examples:
    """Losses and what was known one segment before; a fold over events, O(1) each.

    Attributes:
        book: The curves.
        unit: Fewest steps of a segment.
        growth: A segment lasts at least this share of the steps already done.
        prefix: Beginning of the names of reported features; empty for none.
        n: Number of examples.
        trials: Shape ``(rows,)``.
        steps: Of the loss, shape ``(rows,)``.
        losses: Infinite where one diverged or failed, shape ``(rows,)``.
        curves: Known before, shape ``(rows, 4)``.
        features: Known before, shape ``(rows, k)``.
        known: The present knowledge, by trial.
        names: Of the features, in order.
        lowest: Lowest loss at each step, shape ``(high + 1,)``.
        version: Counts what changed codes of earlier trials.
        memo: The last kernel learned; a cache, not a fact.
    """

    book: CurveBook
    unit: int
    growth: float
    prefix: str
    n: int = 0
    trials: Ints = field(default_factory=lambda: np.zeros(_ROWS, dtype=np.int64))
    steps: Ints = field(default_factory=lambda: np.zeros(_ROWS, dtype=np.int64))
    losses: Array = field(default_factory=lambda: np.zeros(_ROWS))
    curves: Array = field(default_factory=lambda: np.zeros((_ROWS, 4)))
    features: Array = field(default_factory=lambda: np.zeros((_ROWS, 0)))
    known: list[Known] = field(default_factory=list)
    names: tuple[str, ...] = ()
    lowest: Array = field(default_factory=lambda: np.zeros(0))
    version: int = 0
    memo: dict[tuple[int, int], _Learned] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, problem: Problem, unit: int, growth: float, prefix: str) -> Examples:
        """No examples yet; the problem has a fidelity and one objective."""
        book = CurveBook.of(problem)
        return cls(book, unit, growth, prefix, lowest=np.full(book.high + 1, np.inf))

    def apply(self, event: Event) -> None:
        """Takes in one event."""
        self.book.apply(event)
        if isinstance(event, Reported):
            self._hear(event.trial, event.metrics)
        elif isinstance(event, Ended):
            self._hear(event.trial, event.metrics or {}, event.outcome in _FAILURES)
        elif isinstance(event, Started):
            inherited = event.parent is not None and event.parent[1] > 0
            self.known.append(self.known[event.parent[0]] if event.parent and inherited else Known())
        elif isinstance(event, Edited | Amended):
            self.version += 1

    def _hear(self, trial: int, metrics: dict[str, float], failed: bool = False) -> None:
        curve, known = self.book.curves[trial], self.known[trial]
        step = min(curve.steps[-1] if curve.steps else 0, self.book.high)
        if failed:
            step = min(max(step, known.step + 1), self.book.high)
        due = failed or step >= min(self.until(known.step), curve.until)
        if not curve.steps or step <= known.step or not due:
            return
        loss = math.inf if failed else curve.losses[-1]
        self._add(trial, step, loss, known)
        self.lowest[step] = min(self.lowest[step], loss)
        before = known.curve[_LAST]
        lowest = loss if math.isnan(before) else min(loss, known.curve[_LOWEST])
        self.known[trial] = Known(
            step, (loss, before, lowest, step / self.book.high), self._features_of(metrics)
        )

    def _features_of(self, metrics: dict[str, float]) -> tuple[float, ...]:
        if not self.prefix:
            return ()
        if not self.names:
            named = [name for name in metrics if name.startswith(self.prefix)]
            self.names = tuple(sorted(named, key=lambda name: (len(name), name))[:_FEATURES])
            self.features = np.full((len(self.trials), len(self.names)), np.nan)
        return tuple(metrics.get(name, math.nan) for name in self.names)

    def _add(self, trial: int, step: int, loss: float, known: Known) -> None:
        i = self.n
        if i == len(self.trials):
            for name in ("trials", "steps", "losses", "curves", "features"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros_like(old)]))
        self.n = i + 1
        self.trials[i], self.steps[i], self.losses[i], self.curves[i] = trial, step, loss, known.curve
        self.features[i] = known.features or np.nan

    def until(self, step: int) -> int:
        """Where a segment that begins at ``step`` ends."""
        fidelity = self.book.history.problem.fidelity
        low = fidelity.low if fidelity is not None else 1
        return min(self.book.high, max(low, step + max(self.unit, int(self.growth * step))))

    def questions(self, trials: Ints, rows: Array) -> Questions:
        """The ends of the next segments of trials ``(r,)`` and of new configurations ``(q, d)``, in this order.

        A running trial's is the end of its present segment.
        """
        known = [self.known[t] for t in trials]
        q = len(rows)
        steps = [self.aim(int(t)) for t in trials] + [self.until(0)] * q
        curves = np.full((len(trials) + q, 4), np.nan)
        features = np.full((len(trials) + q, len(self.names)), np.nan)
        for i, k in enumerate(known):
            curves[i] = k.curve
            if k.features:
                features[i] = k.features
        codes = np.concatenate([self.book.history.codes[trials], rows])
        return Questions(codes, np.array(steps, dtype=np.int64), curves, features)

    def aim(self, trial: int) -> int:
        """Where the next segment of a trial ends, or its present one if that lies ahead."""
        curve = self.book.curves[trial]
        return max(self.until(curve.step), min(curve.until, self.book.high))

    def best(self, steps: Ints) -> Array:
        """Lowest loss at each of some steps, the lowest of all where there is none, shape ``(q,)``.

        Source: Wistuba et al. 2022, eq. 4.
        """
        there = self.lowest[np.minimum(steps, self.book.high)]
        out: Array = np.where(np.isfinite(there), there, self.lowest.min())
        return out


class _Learned(NamedTuple):
    """Rows that a kernel was learned from, and the kernel."""

    rows: Ints
    kernel: DeepKernel


class Unit(NamedTuple):
    """What results are measured in: middle and width of first results and of changes, unitless, shape ``(2,)`` each."""

    middle: Array
    width: Array

    @classmethod
    def of(cls, raw: Array, later: Mask) -> Unit:
        """The mean and the standard deviation of the first results and of the changes."""
        parts = [raw[~later], raw[later]]
        middle = [float(p.mean()) if len(p) else 0.0 for p in parts]
        width = [float(p.std()) if len(p) > 1 else 0.0 for p in parts]
        return cls(np.array(middle), np.array([w if w > 1e-9 else 1.0 for w in width]))


@dataclass(frozen=True, slots=True)
class Forecaster:
    """A process of next losses; read-only by convention.

    Attributes:
        examples: What it was told.
        warp: From losses to its scale.
        unit: What it measures in.
        inputs: Inputs of its rows, shape ``(n, p)``.
        targets: Their results in units, shape ``(n,)``.
        posterior: The conditioned process.
    """

    examples: Examples
    warp: Warp
    unit: Unit
    inputs: Array
    targets: Array
    posterior: Posterior

    def predict(self, asked: Questions) -> tuple[Array, Array]:
        """Mean and standard deviation of the warped loss, noise left out, shape ``(q,)`` each."""
        base, kind = _base(self.warp, asked.curves)
        mean, std = deep_kernel.predict(self.posterior, _inputs(self.examples, self.warp, asked))
        return base + mean * self.unit.width[kind] + self.unit.middle[kind], std * self.unit.width[kind]

    def expecting(self, asked: Questions) -> Forecaster:
        """The same where the results of these are awaited: they count as what is expected."""
        if not len(asked.steps):
            return self
        more = _inputs(self.examples, self.warp, asked)
        inputs = np.concatenate([self.inputs, more])
        targets = np.concatenate([self.targets, deep_kernel.predict(self.posterior, more)[0]])
        posterior = deep_kernel.condition(self.posterior.kernel, inputs, targets)
        return Forecaster(self.examples, self.warp, self.unit, inputs, targets, posterior)


def forecaster(examples: Examples) -> Forecaster | None:
    """The process given the examples; None where fewer than two differ."""
    learned = _learned(examples)
    if learned is None:
        return None
    size = _size(examples.n)
    recent = np.arange(max(size, examples.n - _RECENT), examples.n)
    rows = np.concatenate([learned.rows, recent[examples.book.fits(examples.trials[recent])]])
    warp, unit, inputs, targets = _data(examples, rows)
    posterior = deep_kernel.condition(learned.kernel, inputs, targets)
    return Forecaster(examples, warp, unit, inputs, targets, posterior)


def _size(n: int) -> int:
    """How many of ``n`` examples the kernel is learned from: grows by a quarter at a time."""
    size = min(n, _DENSE)
    while size >= _DENSE and (larger := math.ceil(size * _GROWTH)) <= n:
        size = larger
    return size


def _learned(examples: Examples) -> _Learned | None:
    size = _size(examples.n)
    key = (size, examples.version)
    if key not in examples.memo:
        rows = np.arange(size)
        rows = rows[examples.book.fits(examples.trials[:size])]
        losses = examples.losses[rows]
        if len(np.unique(losses[np.isfinite(losses)])) < 2:
            return None
        if len(rows) > _LEARN:
            order = np.argsort(losses, kind="stable")
            best = _LEARN // 2
            even = np.linspace(best, len(rows) - 1, _LEARN - best).astype(np.int64)
            rows = np.sort(rows[order[np.concatenate([np.arange(best), even])]])
        _, _, inputs, targets = _data(examples, rows)
        doubt = np.zeros(inputs.shape[1])
        doubt[inputs.shape[1] - len(examples.names) :] = _DOUBT
        examples.memo.clear()
        examples.memo[key] = _Learned(rows, deep_kernel.fit(inputs, targets, doubt=doubt))
    return examples.memo[key]


def _data(examples: Examples, rows: Ints) -> tuple[Warp, Unit, Array, Array]:
    """Warp, unit, inputs and results of some examples; one that failed counts as the worst of the others."""
    losses = examples.losses[rows]
    finite = np.isfinite(losses)
    losses = np.where(finite, losses, losses[finite].max())
    warp = fit_warp(losses)
    curves = examples.curves[rows]
    asked = Questions(
        examples.book.history.codes[examples.trials[rows]],
        examples.steps[rows],
        curves,
        examples.features[rows],
    )
    base, kind = _base(warp, curves)
    raw = warp(losses) - base
    unit = Unit.of(raw, kind == 1)
    return warp, unit, _inputs(examples, warp, asked), (raw - unit.middle[kind]) / unit.width[kind]


def _base(warp: Warp, curves: Array) -> tuple[Array, Ints]:
    """What a result is measured from, and whether that is the last loss (1) or nothing (0)."""
    later = ~np.isnan(curves[:, _LAST])
    return np.where(later, warp(np.where(later, curves[:, _LAST], 0.0)), 0.0), later.astype(np.int64)


def _inputs(examples: Examples, warp: Warp, asked: Questions) -> Array:
    """Inputs of the process, NaN where unknown, shape ``(q, p)``."""
    space, high = examples.book.history.problem.space, examples.book.high
    points = columns_of(space.layout.levels, space.layout.categorical).embed(asked.codes)
    if points.shape[1] > _WIDEST:
        rng = np.random.Generator(np.random.Philox(key=points.shape[1]))
        points = points @ rng.normal(0.0, _WIDEST**-0.5, (points.shape[1], _WIDEST))
    steps = asked.steps.astype(np.float64)
    last, before, lowest = (_warped(warp, asked.curves[:, i]) for i in (_LAST, _BEFORE, _LOWEST))
    begun = np.isnan(asked.curves[:, _STEP])
    known = np.column_stack(
        [np.log1p(steps), steps / high, asked.curves[:, _STEP], begun, last, last - before, lowest - last]
    )
    return np.concatenate([points, known, asked.features], axis=1)


def _warped(warp: Warp, losses: Array) -> Array:
    out: Array = np.where(np.isnan(losses), np.nan, warp(np.nan_to_num(losses, nan=0.0)))
    return out
