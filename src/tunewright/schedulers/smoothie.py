"""Trains a little of many trials, and to the end only those whose loss is smoothest.

*Use when* a cheap number tells early which settings will generalise, before the loss does: the smoothness of
``models.smoothness`` for small networks, logistic regression and naive Bayes on tabular data. *Do not use when* only
the loss is reported (``Asha`` or ``Hyperband``): without the number trials are ranked by their early loss.

*Paper*: Yedida and Menzies 2024, "Is hyper-parameter optimization different for software analytics?",
arXiv:2401.09622, section 4 (Algorithm 1): 30 random settings, one epoch each; the 5 smoothest are trained fully.

*Differs*: settings come from any sampler (random by default, as in the paper); batches follow each other for as long as
trials are wanted, without waiting for the slowest trial of the one before; those not chosen are stopped; equal or
missing numbers are ordered by the early loss.

*Cost*: ``ask`` that of the sampler; ``tell`` O(1) per event and the sampler's, and O(b log b) once per batch of b.

Example:
    In the training function, next to the loss::

        from tunewright.models import smoothness

        for epoch in trial.steps():
            train(model)
            beta = smoothness.feed_forward(model.last_inputs(X), model.last_weights(), classes=2)
            trial.report(epoch, loss=loss(model), smoothness=beta)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Resume, Start, Stop
from tunewright.core.events import Ended, Event, Paused, Reported, Resumed, Signalled, Started
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_count, steps_of
from tunewright.errors import ConfigError

_Key = tuple[float, float, int]


@dataclass(slots=True)
class Batch:
    """Trials that are compared with each other.

    Attributes:
        trials: Those that began, in order.
        open: Those whose short segment is not over.
        waiting: Those that paused and wait for the verdict, with their place: smoothest first, then by loss.
        passed: How many were resumed.
    """

    trials: list[int] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    waiting: dict[int, _Key] = field(default_factory=dict)
    passed: int = 0


@dataclass(slots=True)
class SmoothieState:
    """What ``Smoothie`` remembers.

    Attributes:
        problem: The problem.
        panel: The sampler, after the short segment and after the full training.
        batches: Batches without a verdict, oldest first.
        member: The batch of every trial without a verdict.
        keys: First smoothness and loss of these trials.
        chosen: Paused trials to be trained fully.
        dropped: Paused trials to be stopped.
        running: Trials that run.
    """

    problem: Problem
    panel: Panel
    batches: list[Batch] = field(default_factory=list)
    member: dict[int, Batch] = field(default_factory=dict)
    keys: dict[int, _Key] = field(default_factory=dict)
    chosen: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    running: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Smoothie:
    """Full training for the smoothest of every batch.

    Args:
        sampler: Proposes configurations.
        batch: Configurations that are compared.
        keep: How many of them are trained fully.
        metric: Name of the reported number.
        goal: Which end of it is kept; the estimators of ``models.smoothness`` are to be maximised.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    batch: int = 30
    keep: int = 5
    metric: str = "smoothness"
    goal: Literal["maximize", "minimize"] = "maximize"

    def __post_init__(self) -> None:
        checked_count("Smoothie", "batch", self.batch, 2)
        checked_count("Smoothie", "keep", self.keep, 1)
        if self.keep > self.batch or self.goal not in ("maximize", "minimize"):
            raise ConfigError(
                f"Smoothie needs keep <= batch and a goal of 'maximize' or 'minimize'; got keep={self.keep}, "
                f"batch={self.batch}, goal={self.goal!r}. Use the defaults."
            )

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> SmoothieState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, or the sampler refuses the problem.
        """
        fidelity = steps_of("Smoothie", problem)
        steps = tuple(sorted({fidelity.low, fidelity.high}))
        return SmoothieState(problem, Panel.of(self.sampler, problem, steps))

    def tell(self, state: SmoothieState, events: Sequence[Event]) -> SmoothieState:
        """Collects the numbers, and judges a batch when its last short segment is over."""
        for event in events:
            if isinstance(event, Started):
                self._join(state, event.trial)
            elif isinstance(event, Reported):
                self._measure(state, event)
            elif isinstance(event, Paused | Ended):
                state.running.discard(event.trial)
                if isinstance(event, Ended):
                    _forget(state, event.trial)
                self._rest(state, event.trial, paused=isinstance(event, Paused))
            elif isinstance(event, Resumed):
                self._go_on(state, event.trial)
            elif isinstance(event, Signalled) and event.verdict == "stop":
                _forget(state, event.trial)
        state.panel.apply(self.sampler, events)
        return state

    def _join(self, state: SmoothieState, trial: int) -> None:
        if not state.batches or len(state.batches[-1].trials) >= self.batch:
            state.batches.append(Batch())
        batch = state.batches[-1]
        batch.trials.append(trial)
        batch.open.add(trial)
        state.member[trial] = batch
        state.running.add(trial)

    def _measure(self, state: SmoothieState, event: Reported) -> None:
        if event.trial not in state.member:
            return
        sign = -1.0 if self.goal == "maximize" else 1.0
        smooth = event.metrics.get(self.metric)
        losses = state.problem.losses(event.metrics)
        rank = math.inf if smooth is None else sign * smooth
        state.keys[event.trial] = (rank, math.inf if losses is None else losses[0], event.trial)

    def _rest(self, state: SmoothieState, trial: int, *, paused: bool) -> None:
        batch = state.member.get(trial)
        if batch is None:
            if paused:
                # It was chosen before and paused on request: nothing but the rest of its training is left.
                state.chosen.append(trial)
            return
        if trial in batch.waiting:
            del batch.waiting[trial], state.member[trial]
            return
        batch.open.discard(trial)
        key = state.keys.pop(trial, (math.inf, math.inf, trial))
        if paused:
            batch.waiting[trial] = key
        else:
            del state.member[trial]
        if not batch.open and len(batch.trials) >= self.batch:
            self._judge(state, batch)

    def _judge(self, state: SmoothieState, batch: Batch) -> None:
        order = sorted(batch.waiting, key=batch.waiting.__getitem__)
        spare = max(0, self.keep - batch.passed)
        state.chosen += order[:spare]
        state.dropped += order[spare:]
        for trial in batch.waiting:
            state.member.pop(trial, None)
        state.batches = [b for b in state.batches if b is not batch]

    def _go_on(self, state: SmoothieState, trial: int) -> None:
        state.running.add(trial)
        _forget(state, trial)
        batch = state.member.get(trial)
        if batch is not None and trial in batch.waiting:
            del batch.waiting[trial], state.member[trial]
            batch.passed += 1

    def ask(self, state: SmoothieState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Stops what was not chosen; resumes what was; then new configurations."""
        stops: list[Action] = [Stop(t, {"reason": "others are smoother"}) for t in state.dropped]
        if slots == 0:
            return tuple(stops)
        fidelity = steps_of("Smoothie", state.problem)
        begun: list[Action] = [Resume(t, fidelity.high, {"smooth": 1.0}) for t in state.chosen[:slots]]
        if len(begun) < slots:
            wishes = state.panel.ask(self.sampler, slots - len(begun), rng)
            begun += [Start(w.config, fidelity.low, w.parent, w.why) for w in wishes]
        if not begun and not state.running:
            begun += self._leftover(state, fidelity.high)[:slots]
        return (*stops, *begun)

    def _leftover(self, state: SmoothieState, high: int) -> list[Resume]:
        """The share of an unfinished batch that goes on when no more trials come."""
        for batch in state.batches:
            share = math.ceil(self.keep * len(batch.trials) / self.batch) - batch.passed
            order = sorted(batch.waiting, key=batch.waiting.__getitem__)
            if share > 0 and order:
                return [Resume(t, high, {"smooth": 1.0}) for t in order[:share]]
        return []


def _forget(state: SmoothieState, trial: int) -> None:
    """A verdict on the trial was carried out."""
    for verdicts in (state.chosen, state.dropped):
        if trial in verdicts:
            verdicts.remove(trial)
