"""Studies on a virtual clock: any method, any number of workers, on trainings whose curves are known.

The loop is the driver's in small: one decision per free worker, addressed by the study's seed and the number of
decisions before it, and a chance to stop trials after every report. Nothing waits and nothing is written, so a study
of a thousand trials takes about a second, and the same seed gives the same study. A fork goes on along its own curve
from the step of its parent's checkpoint; a value that is not finite ends its trial as failed, as the driver does.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Algorithm, Pause, Resume, Start, generator
from tunewright.core.closing import closed
from tunewright.core.events import (
    Ended,
    Event,
    Extended,
    Outcome,
    Paused,
    Record,
    Reported,
    Resumed,
    Signalled,
    Started,
)
from tunewright.core.problem import Problem
from tunewright.core.trial import Ledger, Trial
from tunewright.core.values import split
from tunewright.errors import ConfigError

Floats = NDArray[np.float64]
Curve = Callable[[Mapping[str, Any]], tuple[Floats, Floats]]
_FAILING = 7


@dataclass(frozen=True, slots=True)
class Task:
    """A training whose whole course is known.

    Args:
        name: Shown in tables.
        problem: One objective; with a fidelity whose ``high`` is the length of a curve, or without one.
        curve: From a configuration to the metric after each step and the seconds each step takes, shapes ``(t,)``.
        best: Lowest loss known.
        usual: Median loss of random configurations.
        truth: From a configuration to what the metric after each step estimates, where that is noisy; shape ``(t,)``.
    """

    name: str
    problem: Problem
    curve: Curve
    best: float
    usual: float
    truth: Callable[[Mapping[str, Any]], Floats] | None = None

    def regret(self, loss: Floats | float) -> Floats:
        """Loss above the best known, in units of the median's, within [0, 1]."""
        out: Floats = np.clip((np.asarray(loss) - self.best) / (self.usual - self.best), 0.0, 1.0)
        return out


@dataclass(slots=True)
class Trace:
    """Everything that was measured in a simulated study, in order of the clock.

    Attributes:
        seconds: When, shape ``(n,)``.
        steps: Steps paid by all workers until then, shape ``(n,)``.
        losses: Minimised loss, shape ``(n,)``.
        trials: Trial, shape ``(n,)``.
        ledger: The folded log.
        busy: Seconds worked by all workers together.
        at: Step of the trial, shape ``(n,)``.
    """

    seconds: Floats
    steps: Floats
    losses: Floats
    trials: NDArray[np.int64]
    ledger: Ledger
    busy: float
    at: NDArray[np.int64]

    @property
    def incumbent(self) -> Floats:
        """Lowest loss so far, shape ``(n,)``."""
        out: Floats = np.minimum.accumulate(self.losses) if len(self.losses) else self.losses
        return out

    def best_by(self, clock: Floats, at: float) -> float:
        """Lowest loss by a moment; ``clock`` is ``seconds`` or ``steps``. Infinite before the first report."""
        n = int(np.searchsorted(clock, at, side="right"))
        return float(self.incumbent[n - 1]) if n else math.inf

    def reached(self, clock: Floats, loss: float) -> float:
        """First moment at which a loss was reached; ``clock`` is ``seconds`` or ``steps``. Infinite if never."""
        hits = np.flatnonzero(self.losses <= loss)
        return float(clock[hits[0]]) if len(hits) else math.inf


@dataclass(slots=True)
class _World:
    """The state of a simulated study."""

    task: Task
    algorithm: Algorithm[Any]
    closed: Algorithm[Any]
    state: Any
    ledger: Ledger
    limit: int | None
    failing: float
    now: float = 0.0
    paid: int = 0
    busy: float = 0.0
    curves: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)
    faults: dict[int, int] = field(default_factory=dict)
    agenda: list[tuple[float, int]] = field(default_factory=list)
    # Rows of four numbers: a list of tuples would take six times the memory.
    measured: array[float] = field(default_factory=lambda: array("d"))
    news: list[Event] | None = None

    @property
    def full(self) -> bool:
        """Whether all trials were begun; from then on they are only continued or forked."""
        return self.limit is not None and self.ledger.begun >= self.limit

    def append(self, event: Event) -> None:
        """Folds an event and tells the method."""
        if self.ledger.apply(Record(self.ledger.cursor + 1, self.now, "", event)):
            if self.news is not None:
                self.news.append(event)
            self.state = self.algorithm.tell(self.state, (event,))

    def extend(self, high: int) -> None:
        """Makes full trainings longer; the method hears everything anew, as in a study."""
        fidelity = self.ledger.problem.fidelity
        assert fidelity is not None
        assert self.news is not None
        self.append(Extended(high, fidelity.high))
        self.state = self.algorithm.tell(self.algorithm.init(self.ledger.problem), self.news)

    def run(self, workers: int, seconds: float, steps: float, longer: list[tuple[float, int]]) -> None:
        """Runs until a limit is reached or nothing is left to do."""
        while self.paid < steps:
            if longer and self.paid >= longer[0][0]:
                self.extend(longer.pop(0)[1])
            while len(self.ledger.running) < workers and self.decide(1):
                pass
            if not self.agenda and longer:
                longer[0] = (self.paid, longer[0][1])
                continue
            if not self.agenda or self.agenda[0][0] > seconds:
                break
            self.advance()

    def decide(self, slots: int) -> bool:
        """Takes one decision; returns whether a trial began."""
        rng = generator(self.ledger.problem.seed, self.ledger.decisions)
        began = False
        algorithm = self.closed if self.full else self.algorithm
        for action in algorithm.ask(self.state, slots, rng):
            began |= self.accept(action)
        return began

    def accept(self, action: Action) -> bool:
        """Carries out an action; returns whether a trial began."""
        trials = self.ledger.trials
        if isinstance(action, Start):
            if self.full and (action.parent is None or not action.parent[1]):
                return False
            number = len(trials)
            self.append(Started(number, action.config, action.until, action.parent, why=action.why))
            if self.failing:
                # Addressed by trial, so that who runs beside it changes nothing.
                rng = generator(self.ledger.problem.seed, number, _FAILING)
                self.faults[number] = trials[number].step + int(rng.geometric(self.failing))
            self.plan(trials[number])
            return True
        trial = trials[action.trial]
        if isinstance(action, Resume):
            self.append(Resumed(trial.id, trial.step, action.until))
            self.plan(trial)
            return True
        self.append(Signalled(trial.id, "pause" if isinstance(action, Pause) else "stop"))
        if trial.status == "paused":
            self.append(Ended(trial.id, trial.token, "stopped", step=trial.step))
            self.curves.pop(trial.id, None)
        return False

    def plan(self, trial: Trial) -> None:
        """Puts the end of the trial's next step on the agenda."""
        found = self.curves.get(trial.id)
        if found is None:
            found = self.curves[trial.id] = self.task.curve(trial.config)
        seconds = float(found[1][trial.step])
        self.busy += seconds
        heapq.heappush(self.agenda, (self.now + seconds, trial.id))

    def advance(self) -> None:
        """Ends the step that is due next."""
        self.now, number = heapq.heappop(self.agenda)
        trial, problem = self.ledger.trials[number], self.task.problem
        values = self.curves[number][0]
        step = trial.step + 1
        self.paid += 1
        if self.failing and step == self.faults[number]:
            self.measured.extend((self.now, math.inf, number, step))
            self.end(trial, "failed", None, step - 1, "it was made to fail")
            return
        metrics, bad = split({problem.objectives[0].name: float(values[step - 1])})
        losses = problem.losses(metrics)
        self.measured.extend((self.now, math.inf if losses is None else losses[0], number, step))
        fidelity = self.ledger.problem.fidelity
        if fidelity is None:
            self.end(trial, "failed" if bad else "completed", None if bad else metrics, step)
            return
        spent = float(self.curves[number][1][step - 1])
        self.append(Reported(number, trial.token, step, metrics, bad, cost=spent))
        self.decide(0)
        until = trial.until if trial.until is not None else fidelity.high
        if bad:
            self.end(trial, "failed", None, step, f"reported {bad}")
        elif trial.signal == "stop":
            self.end(trial, "stopped", None, step)
        elif step >= fidelity.high:
            self.end(trial, "completed", metrics, step)
        elif step >= until or trial.signal == "pause":
            self.append(Paused(number, trial.token, step))
        else:
            self.plan(trial)

    def end(
        self, trial: Trial, outcome: Outcome, metrics: dict[str, float] | None, step: int, error: str = ""
    ) -> None:
        """Ends a trial; its curve is forgotten."""
        seconds = self.curves.pop(trial.id)[1]
        fidelity = self.task.problem.fidelity
        first = trial.parent[1] if trial.parent is not None else 0
        cost = float(seconds[first:step].sum()) if outcome == "completed" else None
        at = 0 if fidelity is None else step
        self.append(Ended(trial.id, trial.token, outcome, metrics, at, cost=cost, error=error))


def simulate(
    algorithm: Algorithm[Any],
    task: Task,
    *,
    seed: int = 0,
    workers: int = 1,
    seconds: float = math.inf,
    steps: float = math.inf,
    trials: int | None = None,
    failing: float = 0.0,
    longer: Sequence[tuple[float, int]] = (),
) -> Trace:
    """Runs a study on a virtual clock until a limit is reached or the method is finished.

    Args:
        algorithm: What decides.
        task: What is trained.
        seed: Seed of the study.
        workers: Trials at a time.
        seconds: Virtual seconds after which nothing counts.
        steps: Steps that all workers may pay together.
        trials: Trials that may be begun; paused ones are still continued, or forked.
        failing: Probability that a step fails, and its trial with it; at least 0 and below 1.
        longer: ``(steps, high)`` pairs, ascending: once all workers together have paid so many steps, or the method is
            finished before, a full training has ``high`` steps; curves must be that long.

    Raises:
        ConfigError: If no limit is given, there is no worker, or every step is to fail.
        UnsupportedError: If the method cannot handle the task.
    """
    if workers < 1 or (math.isinf(seconds) and math.isinf(steps) and trials is None):
        raise ConfigError(
            f"A simulation needs workers >= 1 and a limit; got workers={workers}. Give seconds, steps or trials."
        )
    if not 0.0 <= failing < 1.0:
        raise ConfigError(
            f"A simulation needs 0 <= failing < 1; got {failing!r}. Give a smaller probability."
        )
    problem = replace(task.problem, seed=seed)
    state = algorithm.init(problem)
    world = _World(task, algorithm, closed(algorithm), state, Ledger(problem), trials, failing)
    world.news = [] if longer else None
    world.run(workers, seconds, steps, list(longer))
    rows = np.frombuffer(world.measured, dtype=np.float64).reshape(-1, 4)
    return Trace(
        rows[:, 0].copy(),
        np.arange(1.0, len(rows) + 1.0),
        rows[:, 1].copy(),
        rows[:, 2].astype(np.int64),
        world.ledger,
        world.busy,
        rows[:, 3].astype(np.int64),
    )
