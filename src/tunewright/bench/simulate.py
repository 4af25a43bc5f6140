"""Studies on a virtual clock: any method, any number of workers, on trainings whose curves are known.

The loop is the driver's in small: one decision per free worker, addressed by the study's seed and the number of
decisions before it, and a chance to stop trials after every report. Nothing waits and nothing is written, so a study
of a thousand trials takes about a second, and the same seed gives the same study.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Algorithm, Pause, Resume, Start, generator
from tunewright.core.closing import closed
from tunewright.core.events import Ended, Event, Paused, Record, Reported, Resumed, Signalled, Started
from tunewright.core.problem import Problem
from tunewright.core.trial import Ledger, Trial
from tunewright.errors import ConfigError

Floats = NDArray[np.float64]
Curve = Callable[[Mapping[str, Any]], tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True)
class Task:
    """A training whose whole course is known.

    Args:
        name: Shown in tables.
        problem: One objective; with a fidelity whose ``high`` is the length of a curve, or without one.
        curve: From a configuration to the metric after each step and the seconds each step takes, shapes ``(t,)``.
        best: Lowest loss known.
        usual: Median loss of random configurations.
    """

    name: str
    problem: Problem
    curve: Curve
    best: float
    usual: float

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
    """

    seconds: Floats
    steps: Floats
    losses: Floats
    trials: NDArray[np.int64]
    ledger: Ledger
    busy: float

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
    state: Any
    ledger: Ledger
    limit: int | None
    now: float = 0.0
    paid: int = 0
    busy: float = 0.0
    curves: dict[int, tuple[Floats, Floats]] = field(default_factory=dict)
    agenda: list[tuple[float, int]] = field(default_factory=list)
    measured: list[tuple[float, float, float, int]] = field(default_factory=list)

    def append(self, event: Event) -> None:
        """Folds an event and tells the method."""
        if self.ledger.apply(Record(self.ledger.cursor + 1, self.now, "", event)):
            self.state = self.algorithm.tell(self.state, (event,))

    def decide(self, slots: int) -> bool:
        """Takes one decision; returns whether a trial began."""
        rng = generator(self.ledger.problem.seed, self.ledger.decisions)
        began = False
        full = self.limit is not None and len(self.ledger.trials) >= self.limit
        algorithm = closed(self.algorithm) if full else self.algorithm
        for action in algorithm.ask(self.state, slots, rng):
            began |= self.accept(action)
        return began

    def accept(self, action: Action) -> bool:
        """Carries out an action; returns whether a trial began."""
        trials = self.ledger.trials
        if isinstance(action, Start):
            if self.limit is not None and len(trials) >= self.limit:
                return False
            number = len(trials)
            self.append(Started(number, action.config, action.until, action.parent, why=action.why))
            self.curves[number] = self.task.curve(action.config)
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
        return False

    def plan(self, trial: Trial) -> None:
        """Puts the end of the trial's next step on the agenda."""
        seconds = float(self.curves[trial.id][1][trial.step])
        self.busy += seconds
        heapq.heappush(self.agenda, (self.now + seconds, trial.id))

    def advance(self) -> None:
        """Ends the step that is due next."""
        self.now, number = heapq.heappop(self.agenda)
        trial, problem = self.ledger.trials[number], self.task.problem
        values = self.curves[number][0]
        step = trial.step + 1
        self.paid += 1
        metrics = {problem.objectives[0].name: float(values[step - 1])}
        loss = problem.losses(metrics)
        self.measured.append((self.now, float(self.paid), math.inf if loss is None else loss[0], number))
        fidelity = problem.fidelity
        if fidelity is None:
            self.append(
                Ended(number, trial.token, "completed", metrics, cost=float(self.curves[number][1][0]))
            )
            return
        self.append(Reported(number, trial.token, step, metrics))
        self.decide(0)
        until = trial.until if trial.until is not None else fidelity.high
        if trial.signal == "stop":
            self.append(Ended(number, trial.token, "stopped", step=step))
        elif step >= fidelity.high:
            cost = float(self.curves[number][1].sum())
            self.append(Ended(number, trial.token, "completed", metrics, step, cost=cost))
        elif step >= until or trial.signal == "pause":
            self.append(Paused(number, trial.token, step))
        else:
            self.plan(trial)


def simulate(
    algorithm: Algorithm[Any],
    task: Task,
    *,
    seed: int = 0,
    workers: int = 1,
    seconds: float = math.inf,
    steps: float = math.inf,
    trials: int | None = None,
) -> Trace:
    """Runs a study on a virtual clock until a limit is reached or the method is finished.

    Args:
        algorithm: What decides.
        task: What is trained.
        seed: Seed of the study.
        workers: Trials at a time.
        seconds: Virtual seconds after which nothing counts.
        steps: Steps that all workers may pay together.
        trials: Trials that may be begun; paused ones are still continued.

    Raises:
        ConfigError: If no limit is given, or there is no worker.
        UnsupportedError: If the method cannot handle the task.
    """
    if workers < 1 or (math.isinf(seconds) and math.isinf(steps) and trials is None):
        raise ConfigError(
            f"A simulation needs workers >= 1 and a limit; got workers={workers}. Give seconds, steps or trials."
        )
    problem = replace(task.problem, seed=seed)
    world = _World(task, algorithm, algorithm.init(problem), Ledger(problem), trials)
    while world.paid < steps:
        while len(world.ledger.running) < workers and world.decide(1):
            pass
        if not world.agenda or world.agenda[0][0] > seconds:
            break
        world.advance()
    rows = np.array(world.measured, dtype=np.float64).reshape(-1, 4)
    return Trace(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3].astype(np.int64), world.ledger, world.busy)
