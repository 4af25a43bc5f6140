"""Drives an algorithm with simulated workers, in memory and in random order, and keeps the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Pause, Resume, Start, Stop, generator
from tunewright.core.events import (
    Ended,
    Event,
    Extended,
    Paused,
    Record,
    Reported,
    Resumed,
    Signalled,
    Started,
)
from tunewright.core.problem import Problem
from tunewright.core.trial import Ledger

Objective = Callable[[dict[str, Any], int], dict[str, float]]


class Simulator:
    """A study without a store: decisions become events, workers advance at random.

    Args:
        algorithm: What decides.
        problem: What is optimised.
        objective: Metrics of a configuration after a number of steps.
        workers: Trials at a time.
        chaos: Root of the simulated world's randomness; the algorithm's own comes from the problem's seed.
        failing: Share of segments that fail.
        hanging: Share of trials that never report anything.
    """

    def __init__(
        self,
        algorithm: Any,
        problem: Problem,
        objective: Objective,
        *,
        workers: int = 3,
        chaos: int = 0,
        failing: float = 0.0,
        hanging: float = 0.0,
    ) -> None:
        self.algorithm = algorithm
        self.problem = problem
        self.objective = objective
        self.workers = workers
        self.world = np.random.default_rng(chaos)
        self.failing, self.hanging = failing, hanging
        self.ledger = Ledger(problem)
        self.state = algorithm.init(problem)
        self.log: list[Record] = []
        self.news: list[Event] = []
        self.decided: list[tuple[int, int, tuple[Action, ...]]] = []
        self.stuck: set[int] = set()
        self.finished = False

    def append(self, event: Event) -> None:
        record = Record(len(self.log) + 1, 0.0, "sim", event)
        self.log.append(record)
        if self.ledger.apply(record):
            self.news.append(event)
            self.state = self.algorithm.tell(self.state, [event])

    def extend(self, high: int) -> None:
        """Makes full trainings longer; the algorithm hears everything anew, as in a session."""
        fidelity = self.problem.fidelity
        assert fidelity is not None
        self.append(Extended(high, fidelity.high))
        self.problem = self.ledger.problem
        self.state = self.algorithm.tell(self.algorithm.init(self.problem), self.news)
        self.finished = False

    def decide(self, slots: int) -> tuple[Action, ...]:
        rng = generator(self.problem.seed, self.ledger.decisions)
        actions = self.algorithm.ask(self.state, slots, rng)
        self.decided.append((len(self.news), slots, actions))
        check_actions(actions, slots, self.ledger, self.problem)
        for action in actions:
            self.accept(action)
        return actions

    def accept(self, action: Action) -> None:
        ledger = self.ledger
        if isinstance(action, Start):
            number = len(ledger.trials)
            self.append(Started(number, action.config, action.until, action.parent))
            if self.world.random() < self.hanging:
                self.stuck.add(number)
        elif isinstance(action, Resume):
            self.append(Resumed(action.trial, ledger.trials[action.trial].step, action.until))
        else:
            trial = ledger.trials[action.trial]
            self.append(Signalled(action.trial, "pause" if isinstance(action, Pause) else "stop"))
            if trial.status == "paused":
                self.append(Ended(trial.id, trial.token, "stopped", step=trial.step))

    def run(self, trials: int, events: int = 5000) -> Simulator:
        """Goes on until the algorithm is finished or so many trials were started."""
        while len(self.log) < events and not self.finished:
            free = self.workers - len(self.ledger.running)
            while free > 0 and len(self.ledger.trials) < trials:
                actions = self.decide(1)
                if not any(isinstance(a, Start | Resume) for a in actions):
                    if not self.ledger.running and not actions:
                        self.finished = True
                    break
                free = self.workers - len(self.ledger.running)
            movable = [n for n in self.ledger.running if n not in self.stuck]
            if not movable:
                break
            self.advance(int(self.world.choice(movable)))
        return self

    def advance(self, number: int) -> None:
        """One worker does one thing."""
        trial = self.ledger.trials[number]
        fidelity = self.problem.fidelity
        if trial.signal is not None:
            if trial.signal == "stop":
                self.append(Ended(number, trial.token, "stopped", step=trial.step))
            else:
                self.append(Paused(number, trial.token, trial.step))
            return
        if self.world.random() < self.failing:
            outcome = ("failed", "invalid", "out_of_memory", "lost")[int(self.world.integers(4))]
            self.append(Ended(number, trial.token, outcome, step=trial.step, error="simulated"))  # type: ignore[arg-type]
            return
        if fidelity is None:
            self.append(Ended(number, trial.token, "completed", self.objective(trial.config, 1), 0, cost=1.0))
            return
        until = trial.until if trial.until is not None else fidelity.high
        if trial.step < until:
            step = trial.step + 1
            self.append(Reported(number, trial.token, step, self.objective(trial.config, step)))
            self.decide(0)
            return
        if until >= fidelity.high:
            metrics = self.objective(trial.config, fidelity.high)
            self.append(Ended(number, trial.token, "completed", metrics, fidelity.high, cost=float(until)))
        else:
            self.append(Paused(number, trial.token, trial.step))


def check_actions(actions: tuple[Action, ...], slots: int, ledger: Ledger, problem: Problem) -> None:
    """Every action is legal, every configuration in the space, and no more begin than there are slots."""
    assert isinstance(actions, tuple)
    begins = [a for a in actions if isinstance(a, Start | Resume)]
    assert len(begins) <= slots, f"{len(begins)} begun with {slots} slots"
    for action in actions:
        if isinstance(action, Start):
            assert ledger.problem.space.check(action.config) == action.config
            if action.until is not None:
                assert problem.fidelity is not None
                assert 1 <= action.until <= problem.fidelity.high
        else:
            assert 0 <= action.trial < len(ledger.trials)
            trial = ledger.trials[action.trial]
            if isinstance(action, Resume):
                assert trial.status == "paused", f"resumed a trial that is {trial.status}"
                assert action.until is None or action.until > trial.step
            elif isinstance(action, Stop):
                assert trial.status in ("running", "paused"), f"stopped a trial that is {trial.status}"
            else:
                assert trial.status == "running"
