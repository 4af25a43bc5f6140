"""Which configuration really is the best: re-evaluation on fresh seeds, and how sure that makes us.

The best of many noisy measurements looks better than it is (the winner's curse), the more so the more were tried.
So the few best are measured again on seeds that tuning never saw, the choice among them rests on those, and a test
part that took no part in any choice says what to expect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunewright.core.problem import Problem
from tunewright.core.replicates import pools_of
from tunewright.core.trial import Trial
from tunewright.errors import ConfigError
from tunewright.numerics.statistics import bootstrap_interval

Floats = NDArray[np.float64]
_RESAMPLES = 4000


class Finished(Protocol):
    """What is read of a study."""

    @property
    def problem(self) -> Problem:
        """The problem."""
        ...

    @property
    def trials(self) -> Sequence[Trial]:
        """All trials."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds with a bootstrap interval.

    Attributes:
        mean: Mean over ``n`` seeds.
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: Number of seeds.
    """

    mean: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What re-evaluation says; losses are minimised.

    Attributes:
        index: Position of the winner among the candidates.
        loss: Loss of every candidate over fresh seeds.
        confidence: Share of bootstrap resamples of the seeds in which the winner has the lowest mean, in [0, 1].
        tuned: Loss of the winner as the search saw it.
        optimism: How much better the search made it look than fresh seeds do.
        corrected: Mean loss of the winner, corrected for having been picked as the best of the candidates.
        test: Test loss of the winner, when there is a test part: took no part in any choice.
    """

    index: int
    loss: tuple[Estimate, ...]
    confidence: float
    tuned: float
    optimism: float
    corrected: float
    test: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    def sentence(self, unit: Callable[[float], str] = "{:.4g}".format, name: str = "loss") -> str:
        """The verdict in words.

        Args:
            unit: Turns a loss into text.
            name: What the loss is called.
        """
        k, n = len(self.loss), self.loss[0].n
        best = self.loss[self.index]
        text = (
            f"Re-evaluated on {n} fresh seeds, it has the lowest mean {name} of {k} candidates in "
            f"{self.confidence:.0%} of bootstrap resamples: {unit(best.mean)} "
            f"[{unit(best.low)}, {unit(best.high)}]. "
        )
        if self.optimism > 0:
            text += (
                f"The search had seen {unit(self.tuned)}: the best of many measurements looks better than it is, "
                f"here by {unit(self.optimism)}."
            )
        else:
            text += f"The search had seen {unit(self.tuned)}, so it was not flattered by having been picked."
        return text


def candidates(study: Finished, top: int = 3) -> list[Trial]:
    """The best trials, those trained longest first, then by loss; different configurations only.

    The loss of a configuration that was measured several times is its mean.

    Args:
        study: A study with one objective.
        top: How many at most.

    Raises:
        ConfigError: If there are several objectives or no trial has a result.
    """
    problem = study.problem
    if problem.m > 1:
        raise ConfigError(f"Re-evaluation needs one objective; got {problem.m}. Look at study.pareto.")
    ranked: list[tuple[float, float, float, int]] = []
    means = {p.trial: p.mean for p in pools_of(study.trials, problem)}
    for trial in study.trials:
        losses = problem.losses(trial.metrics)
        if losses is not None and trial.status in ("completed", "paused", "stopped", "waiting"):
            done = trial.status == "completed"
            if done and trial.id not in means:
                continue
            ranked.append(
                (
                    problem.violation(trial.metrics),
                    0.0 if done else 1.0 / (1 + trial.step),
                    means.get(trial.id, losses[0]),
                    trial.id,
                )
            )
    if not ranked:
        raise ConfigError("Re-evaluation needs a trial with a result; the study has none. Run it first.")
    found: list[Trial] = []
    for *_, number in sorted(ranked):
        trial = study.trials[number]
        if all(trial.config != other.config for other in found):
            found.append(trial)
        if len(found) == top:
            break
    return found


def estimate(values: ArrayLike, seed: int = 0) -> Estimate:
    """Mean over seeds with a 95 % percentile-bootstrap interval.

    Args:
        values: One value per seed, shape ``(s,)``.
        seed: For the resampling.
    """
    sample = np.asarray(values, dtype=np.float64)
    low, high = bootstrap_interval(sample, np.random.default_rng(seed))
    return Estimate(float(sample.mean()), low, high, len(sample))


def judge(
    tuned: Sequence[float], fresh: ArrayLike, test: ArrayLike | None = None, *, seed: int = 0
) -> Verdict:
    """Picks among candidates by their losses on fresh seeds, and says how sure the choice is.

    Args:
        tuned: Loss of each of ``k`` candidates as the search saw it.
        fresh: Their losses on ``s`` fresh seeds, shape ``(k, s)``; column ``j`` of all rows belongs to the same seed.
        test: Their test losses, shape ``(k, s)``; only the winner's row is used, after the choice.
        seed: For the resampling.

    Raises:
        ConfigError: If the shapes do not fit or a loss is not finite.

    Source: the correction for picking the minimum resamples the seeds, as Tibshirani and Tibshirani 2009
    (Annals of Applied Statistics 3:822-829) do over the folds of cross-validation.
    """
    losses = np.atleast_2d(np.asarray(fresh, dtype=np.float64))
    k, s = losses.shape
    if k != len(tuned) or k == 0 or s == 0 or not np.all(np.isfinite(losses)):
        raise ConfigError(
            f"Re-evaluation needs finite losses of shape ({len(tuned)}, seeds); got shape {losses.shape}. "
            f"Leave out candidates that fail."
        )
    index = int(np.argmin(losses.mean(axis=1)))
    rng = np.random.default_rng(seed)
    drawn = losses[:, rng.integers(0, s, size=(_RESAMPLES, s))].mean(axis=2)
    lowest = drawn.min(axis=0)
    tied = drawn == lowest
    confidence = float((tied[index] / tied.sum(axis=0)).mean())
    means = losses.mean(axis=1)
    picked = np.argmin(drawn, axis=0)
    bias = float((means[picked] - lowest).mean()) if k > 1 else 0.0
    return Verdict(
        index,
        tuple(estimate(row, seed) for row in losses),
        confidence,
        float(tuned[index]),
        float(means[index] - tuned[index]),
        float(means[index] + bias),
        None if test is None else estimate(np.atleast_2d(np.asarray(test, dtype=np.float64))[index], seed),
    )


def reevaluate(
    study: Finished,
    evaluate: Callable[[Mapping[str, Any], int], float],
    *,
    top: int = 3,
    seeds: Sequence[int] = (1001, 1002, 1003, 1004, 1005),
) -> tuple[Trial, Verdict]:
    """Measures the best few again on fresh seeds, in this process, and picks among them.

    Args:
        study: A study with one objective.
        evaluate: Trains a configuration fully with a seed and returns the objective, in the user's sign.
        top: How many candidates.
        seeds: Seeds that tuning did not use.

    Returns:
        The winning trial, and the verdict with minimised losses.
    """
    found = candidates(study, top)
    sign = study.problem.objectives[0].sign
    fresh = [[sign * float(evaluate(t.config, s)) for s in seeds] for t in found]
    losses = [study.problem.losses(t.metrics) for t in found]
    verdict = judge([x[0] for x in losses if x is not None], fresh)
    return found[verdict.index], verdict


def paired(ours: ArrayLike, theirs: ArrayLike, *, seed: int = 0) -> Estimate:
    """Mean of ``theirs - ours`` over the same seeds with its interval: positive when ours is better.

    Args:
        ours: Losses, shape ``(s,)``.
        theirs: Losses on the same seeds, shape ``(s,)``.
        seed: For the resampling.
    """
    return estimate(np.asarray(theirs, dtype=np.float64) - np.asarray(ours, dtype=np.float64), seed)
