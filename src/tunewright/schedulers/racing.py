"""Racing over seeds: a configuration is measured again only until a test shows that it is not the best.

*Use when* results depend on the seed and the configuration that is best on average is wanted. *Do not use when* results
hardly vary between seeds, one measurement of each is all that can be paid (any sampler, then ``confirm``), or
there are several objectives.

*Paper*: intensification as in Hutter, Hoos, Leyton-Brown and Stützle 2009, "ParamILS", JAIR 36, Algorithm 3, and Hutter,
Hoos and Leyton-Brown 2011 (SMAC), LION 5, Algorithm 2: the incumbent gets one more seed for every challenger, a
challenger gets 1, 2, 4, ... of the incumbent's seeds; elimination by a test on paired results as in Birattari, Stützle,
Paquete and Varrentrapp 2002, "A Racing Algorithm for Configuring Metaheuristics", GECCO, and Lopez-Ibanez et al. 2016
(irace), Oper. Res. Perspect. 3, section 3 (t-race).

*Differs*: the test is a one-sided paired t test whose variance is moderated by that of earlier races (Smyth 2004,
Stat. Appl. Genet. Mol. Biol. 3, with 4 prior degrees of freedom), so that it can reject after one seed; its level is
shared out evenly over the looks of a race (Bonferroni), so that a challenger that is as good as the incumbent is
rejected in a race with probability ``error`` at most. One that survives to as many seeds as the incumbent takes its
place if its mean is lower. While no two results of a configuration have
differed, nothing is measured more often than it takes to see that. The sampler
hears one result per configuration, its mean when its race is over. A failed replicate rejects a challenger and costs the
incumbent only that seed.

*Cost*: ``ask`` O(c) for c races under way, plus the sampler's; ``tell`` O(c s) for s seeds, plus the sampler's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Start
from tunewright.core.events import Amended, Edited, Ended, Event, Reported, Started
from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_count
from tunewright.errors import ConfigError, SpaceError, UnsupportedError

_PRIOR_FREEDOM = 4
_HUGE = 1e150


@dataclass(slots=True)
class Racer:
    """A configuration that is the incumbent, or races against it.

    Attributes:
        trial: Its first trial.
        config: Its parameters.
        results: Loss by number of the seed.
        used: Seeds that were begun, whether or not they gave a result.
        running: Trials that run.
        goal: Seeds after which it is tested next.
        withheld: The end of its first trial, which the sampler hears when the race is over.
    """

    trial: int
    config: dict[str, Any]
    results: dict[int, float] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    running: set[int] = field(default_factory=set)
    goal: int = 1
    withheld: Ended | None = None

    @property
    def tried(self) -> int:
        """Seeds that are done with, whether or not they gave a result."""
        return len(self.used) - len(self.running)

    @property
    def mean(self) -> float:
        """Mean loss; infinite without a result."""
        return sum(self.results.values()) / len(self.results) if self.results else math.inf


@dataclass(slots=True)
class RacingState:
    """What ``Racing`` remembers.

    Attributes:
        problem: Says what a loss is.
        inner: State of the sampler.
        racers: The incumbent and its challengers, by their first trial.
        known: First trial of every configuration.
        seeds: Racer and seed of every running trial; the seed is None where it is the trial's own.
        incumbent: First trial of the incumbent; None before the first result.
        challengers: Configurations that came after the first incumbent.
        freedom: Degrees of freedom of the paired differences in the races that are over.
        squares: Their sum of squares.
        repeats: Results of configurations that had one before.
        noisy: Whether two results of a configuration ever differed.
        edited: Whether the space is not the first version any more.
    """

    problem: Problem
    inner: Any
    racers: dict[int, Racer] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    seeds: dict[int, tuple[int, int | None]] = field(default_factory=dict)
    incumbent: int | None = None
    challengers: int = 0
    freedom: int = 0
    squares: float = 0.0
    repeats: int = 0
    noisy: bool = False
    edited: bool = False


@dataclass(frozen=True, slots=True)
class Racing:
    """Replicates for whoever may be the best.

    Args:
        sampler: Proposes configurations.
        seeds: Most seeds that a configuration is measured with.
        first: Seeds that the first incumbent is measured with at once, to learn the noise.
        error: Largest probability that a challenger as good as the incumbent is rejected by the test in a race.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    seeds: int = 10
    first: int = 3
    error: float = 0.1

    def __post_init__(self) -> None:
        checked_count("Racing", "first", self.first, 2)
        checked_count("Racing", "seeds", self.seeds, self.first)
        if not 0.0 < self.error < 1.0:
            raise ConfigError(f"Racing needs 0 < error < 1; got {self.error}. Use the default.")

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    @property
    def level(self) -> float:
        """Level of a single look: the error shared out over the looks of a race."""
        return self.error / (math.ceil(math.log2(self.seeds)) + 1)

    def init(self, problem: Problem) -> RacingState:
        """The state before the first event.

        Raises:
            UnsupportedError: If there are several objectives, or the sampler refuses the problem.
        """
        if problem.m > 1:
            raise UnsupportedError(
                f"Racing needs one objective, since it compares means; got {problem.m}. Use a sampler and replicate "
                f"the front afterwards."
            )
        return RacingState(problem, self.sampler.init(problem))

    # ------------------------------------------------------------------ facts

    def tell(self, state: RacingState, events: Sequence[Event]) -> RacingState:
        """Collects results, ends races, and tells the sampler what each configuration came to."""
        heard: list[Event] = []
        for event in events:
            if isinstance(event, Started):
                self._begin(state, event)
                heard.append(event)
            elif isinstance(event, Ended):
                self._end(state, event, heard)
            elif not isinstance(event, Reported):
                self._revise(state, event)
                heard.append(event)
        if heard:
            state.inner = self.sampler.tell(state.inner, heard)
        return state

    def _begin(self, state: RacingState, event: Started) -> None:
        original = state.known.setdefault(repr(sorted(event.config.items())), event.trial)
        if original == event.trial:
            state.racers[original] = Racer(original, event.config)
            state.challengers += state.incumbent is not None
        racer = state.racers.get(original)
        # The trials of a configuration have the seeds 0, 1, 2, ..., in order; those that people ask for have their own.
        number = None if event.queue or event.by == "queue" or racer is None else len(racer.used)
        state.seeds[event.trial] = (original, number)
        if racer is not None:
            racer.running.add(event.trial)
            if number is not None:
                racer.used.add(number)

    def _revise(self, state: RacingState, event: Event) -> None:
        """Takes in another version of the space, and parameters that a trial met while it ran."""
        if isinstance(event, Edited):
            state.problem = state.problem.revised(event.space)
            state.edited = True
        elif isinstance(event, Amended) and event.trial in state.racers:
            state.racers[event.trial].config = event.config
            state.known[repr(sorted(event.config.items()))] = event.trial

    def _outdated(self, state: RacingState, heard: list[Event]) -> None:
        """Ends the races of configurations that the space has no place for any more: they cannot be measured again."""
        for racer in [r for r in state.racers.values() if not r.running and not _fits(state, r)]:
            if racer.trial == state.incumbent:
                state.incumbent = None
            self._drop(state, racer, heard)

    def _end(self, state: RacingState, event: Ended, heard: list[Event]) -> None:
        original, seed = state.seeds.pop(event.trial, (event.trial, None))
        racer = state.racers.get(original)
        first = event.trial == original
        if racer is None:
            # Its race is over, and the sampler knows the result.
            heard.append(event if first else _silent(event))
            return
        racer.running.discard(event.trial)
        metrics = event.metrics or {}
        losses = state.problem.losses(metrics) if event.outcome == "completed" else None
        good = losses is not None and state.problem.violation(metrics) == 0.0
        if losses is not None and good and seed is not None:
            loss = min(max(losses[0], -_HUGE), _HUGE)
            if racer.results:
                state.repeats += 1
                state.noisy = state.noisy or loss != next(iter(racer.results.values()))
            racer.results[seed] = loss
        if first and good:
            racer.withheld = event
        else:
            heard.append(event if first else _silent(event))
        self._outdated(state, heard)
        if original not in state.racers:
            pass
        elif not good and original != state.incumbent:
            self._drop(state, racer, heard)
        elif good and state.incumbent is None:
            state.incumbent = original
            self._publish(state, racer, heard)
        self._judge(state, heard)

    def _publish(self, state: RacingState, racer: Racer, heard: list[Event]) -> None:
        """Tells the sampler the mean of a configuration as the result of its first trial."""
        if racer.withheld is None:
            return
        end, racer.withheld = racer.withheld, None
        goal = state.problem.objectives[0]
        if racer.results:
            end = msgspec.structs.replace(
                end, metrics={**(end.metrics or {}), goal.name: goal.sign * racer.mean}
            )
        heard.append(end)

    def _drop(self, state: RacingState, racer: Racer, heard: list[Event]) -> None:
        """Ends the race of a configuration that is not the best."""
        self._publish(state, racer, heard)
        state.racers.pop(racer.trial, None)

    def _judge(self, state: RacingState, heard: list[Event]) -> None:
        """Judges every challenger that has the seeds for it; a new incumbent has the others judged again."""
        again = True
        while again:
            again = False
            for racer in [r for n, r in state.racers.items() if n != state.incumbent]:
                again |= self._meet(state, racer, heard)

    def _meet(self, state: RacingState, racer: Racer, heard: list[Event]) -> bool:
        """One look at one race; returns whether the challenger became the incumbent."""
        if state.incumbent is None or racer.running or not racer.results:
            return False
        best = state.racers[state.incumbent]
        if not self._settled(state, best):
            return False
        gaps = [racer.results[s] - best.results[s] for s in best.results if s in racer.results]
        known = best.tried
        if racer.tried < min(racer.goal, known):
            return False
        mean = sum(gaps) / len(gaps) if gaps else racer.mean - best.mean
        if racer.tried >= known or self._exact(state):
            # Ties go to the incumbent, which has the longer record.
            if not mean < 0.0:
                self._close(state, racer, gaps, heard)
                return False
            state.incumbent = racer.trial
            self._publish(state, racer, heard)
            self._close(state, best, gaps, heard)
            return True
        if self._rejects(state, best, gaps):
            self._close(state, racer, gaps, heard)
        else:
            racer.goal = min(2 * racer.goal, known)
        return False

    def _close(self, state: RacingState, loser: Racer, gaps: list[float], heard: list[Event]) -> None:
        """Ends a race and remembers how much its differences varied."""
        if len(gaps) > 1:
            state.freedom += len(gaps) - 1
            state.squares += _squares(gaps)
        self._drop(state, loser, heard)

    def _settled(self, state: RacingState, best: Racer) -> bool:
        """Whether the incumbent has been measured often enough to be compared with."""
        need = 1 if self._exact(state) else self.first
        return len(best.results) >= need or (len(best.used) >= 2 * self.seeds and not best.running)

    def _exact(self, state: RacingState) -> bool:
        """Whether results do not depend on the seed, as far as anybody can tell."""
        return not state.noisy and state.repeats >= self.first - 1

    def _rejects(self, state: RacingState, best: Racer, gaps: list[float]) -> bool:
        """The moderated paired t test, one-sided."""
        from scipy.special import stdtr

        n = len(gaps)
        if n == 0:
            return False
        freedom, variance = state.freedom, state.squares / state.freedom if state.freedom else 0.0
        if not freedom and len(best.results) > 1:
            # Independent results differ with twice the variance of one.
            freedom = len(best.results) - 1
            variance = 2.0 * _squares(list(best.results.values())) / freedom
        prior = min(freedom, _PRIOR_FREEDOM)
        total = prior + n - 1
        if total == 0:
            return False
        pooled = (prior * variance + _squares(gaps)) / total
        mean = sum(gaps) / n
        if pooled == 0.0 or not math.isfinite(pooled):
            return pooled == 0.0 and mean > 0.0
        return bool(stdtr(total, -mean / math.sqrt(pooled / n)) < self.level)

    # ------------------------------------------------------------------ decisions

    def ask(self, state: RacingState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Seeds that the incumbent lacks, then those of its challengers, then new configurations."""
        out: list[Action] = [
            Start(
                racer.config,
                parent=(racer.trial, 0),
                why={"replicate_of": racer.trial, "seed": seed, "of": len(racer.results)},
            )
            for racer, seed in self._wanted(state)[:slots]
        ]
        if len(out) < slots:
            wishes = self.sampler.ask(state.inner, slots - len(out), rng)
            out += [
                Start(w.config, w.until, w.parent, {**(w.why or {}), "seed": 0})
                for w in wishes
                if isinstance(w, Start)
            ]
        return tuple(out)

    def _wanted(self, state: RacingState) -> list[tuple[Racer, int]]:
        """Replicates to begin now."""
        if state.incumbent is None or not _fits(state, state.racers[state.incumbent]):
            return []
        best = state.racers[state.incumbent]
        want = 1 if self._exact(state) else max(self.first, 1 + state.challengers)
        lacking = min(self.seeds, want) - len(best.results) - len(best.running)
        least = len(best.used)
        out = [(best, seed) for seed in range(least, min(least + lacking, 2 * self.seeds))]
        if self._settled(state, best):
            for racer in state.racers.values():
                if racer is not best and _fits(state, racer):
                    # One that came through the queue has been measured with a seed of its own only.
                    out += [
                        (racer, seed) for seed in range(len(racer.used), max(1, min(racer.goal, best.tried)))
                    ]
        return out


def _fits(state: RacingState, racer: Racer) -> bool:
    """Whether a configuration is one of the newest version of the space."""
    if not state.edited:
        return True
    try:
        state.problem.space.check(racer.config)
    except SpaceError:
        return False
    return True


def _silent(event: Ended) -> Ended:
    """The end of a replicate as the sampler hears it: without a result, which its original stands for."""
    return Ended(event.trial, event.token, "stopped", step=event.step, cost=event.cost)


def _squares(values: list[float]) -> float:
    """Sum of squared deviations from the mean; 0 for equal values, whatever the rounding of their mean."""
    if not values or max(values) == min(values):
        return 0.0
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values)
