"""What measuring the best few again on fresh seeds says: which is best, how sure that is, what to expect of it.

Everything here is arithmetic on measured losses; ``tunewright.confirming`` measures them and keeps them in the log.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunewright.analysis.winner import Finished
from tunewright.core.replicates import noise_of, pools_of
from tunewright.errors import ConfigError
from tunewright.numerics.shrinkage import Posterior, deconvolve, james_stein

TOPIC = "confirmed"
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What re-evaluation came to; values are in the user's sign and unit.

    Attributes:
        metric: Name of the objective.
        trials: Trials whose configurations were measured again, best first as they came out.
        means: Mean of each over the fresh seeds.
        errors: Standard error of each mean.
        seeds: Number of fresh seeds.
        level: Confidence that was asked for, such as 0.95.
        confidence: Confidence that the first is the best of them, in [0, 1].
        among: Trials of which one is the best with confidence ``level``.
        expected: What to expect of the first, corrected for having been picked.
        margin: Half width of its 95 % interval.
        naive: The best result of the search itself; None when the search's noise is unknown.
        corrected: What that result is worth as the best of so many, with the ends of its 95 % interval.
        results: Number of configurations that it was the best of.
        failed: Trials that were left out, because they failed on a fresh seed.
        size: Trials that the study had by then.
    """

    metric: str
    trials: tuple[int, ...]
    means: tuple[float, ...]
    errors: tuple[float, ...]
    seeds: int
    level: float
    confidence: float
    among: tuple[int, ...]
    expected: float
    margin: float
    naive: float | None
    corrected: tuple[float, float, float] | None
    results: int
    failed: tuple[int, ...] = ()
    size: int = 0

    @property
    def winner(self) -> int:
        """The trial whose configuration to use."""
        return self.trials[0]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Confirmation:
        """Rebuilds it from its JSON form."""
        lists = ("trials", "means", "errors", "among", "corrected", "failed")
        fields: dict[str, Any] = {k: tuple(v) if k in lists and v is not None else v for k, v in data.items()}
        return cls(**fields)

    def sentences(self) -> list[str]:
        """The outcome in words."""
        k = len(self.trials)
        expect = f"its expected {self.metric} is {_text(self.expected)} ± {_text(self.margin, 2)}"
        what = f"Trial {self.winner}"
        if k == 1:
            out = [f"{what} was measured again on {self.seeds} fresh seeds: {expect}."]
        elif self.confidence >= self.level:
            out = [f"{what} is the best of these {k} with confidence {_share(self.confidence)}; {expect}."]
        else:
            others = ", ".join(map(str, self.among))
            out = [
                f"{what} is ahead of the other {k - 1}, but not by enough to be sure: the best is among trials {others} "
                f"with confidence {_share(self.level)}; {expect}.",
            ]
        if self.naive is not None and self.corrected is not None:
            mean, low, high = self.corrected
            out.append(
                f"The search's own best result, {_text(self.naive)}, is the best of {self.results} and so looks better "
                f"than it is: corrected, it is worth {_text(mean)} [{_text(low)}, {_text(high)}]."
            )
        if self.failed:
            out.append(f"Left out, because they failed on a fresh seed: {', '.join(map(str, self.failed))}.")
        return out


def _text(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}g}"


def _share(confidence: float) -> str:
    """A confidence without false precision: never 100 %."""
    return "over 99.9 %" if confidence > 0.999 else f"{math.floor(1000 * confidence) / 10:g} %"


def best_of_several(losses: ArrayLike, level: float = 0.95) -> tuple[int, float, list[int]]:
    """Which of several candidates has the lowest mean, how sure that is, and which may be the best all the same.

    Args:
        losses: Losses of ``k`` candidates on ``s >= 2`` seeds, shape ``(k, s)``; a column belongs to one seed.
        level: Confidence for the last.

    Returns:
        The candidate with the lowest mean; the confidence that it is the best; the candidates of which one is the best
        with confidence ``level``.

    Source: multiple comparisons with the best, Hsu 1984, Annals of Statistics 12:1136-1144, and subset selection, Gupta
    1965, Technometrics 7:225-245, both with paired t tests and Bonferroni's bound instead of a common variance and a
    tabled constant.
    """
    from scipy.special import stdtr

    y = np.asarray(losses, dtype=np.float64)
    k, s = y.shape
    index = int(np.argmin(y.mean(axis=1)))
    if k == 1:
        return 0, 1.0, [0]
    gaps = y[:, None, :] - y[None, :, :]
    mean, error = gaps.mean(axis=2), gaps.std(axis=2, ddof=1) / math.sqrt(s)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0.0, mean / error, np.sign(mean) * math.inf)
    t = np.where((error <= 0.0) & (mean == 0.0), 0.0, t)
    # p[i, j]: how likely it is to see i so much worse than j when it is not.
    p = stdtr(s - 1, -t)
    np.fill_diagonal(p, 1.0)
    others = [i for i in range(k) if i != index]
    confidence = max(0.0, 1.0 - (k - 1) * float(p[others, index].max()))
    among = [i for i in range(k) if (k - 1) * float(p[i].min()) > 1.0 - level]
    return index, confidence, among


def expectation(losses: Floats, index: int) -> tuple[float, float]:
    """Expected loss of the candidate with the lowest mean, corrected for having been picked, and a 95 % half width.

    Args:
        losses: Losses of ``k`` candidates on ``s >= 2`` seeds, shape ``(k, s)``.
        index: The candidate.

    Source: James-Stein estimate with the interval of Morris 1983, J. American Statistical Association 78:47-55, eq. 1.17;
    for fewer than four candidates the mean with Student's interval.
    """
    from scipy.special import stdtrit

    k, s = losses.shape
    means = losses.mean(axis=1)
    variance = float(losses.var(axis=1, ddof=1).mean()) / s
    estimates, factor = james_stein(means, variance)
    if k < 4:
        error = float(losses[index].std(ddof=1)) / math.sqrt(s)
        return float(means[index]), float(stdtrit(s - 1, 0.975)) * error
    away = float(means[index] - means.mean())
    spread = variance * (1.0 - (k - 1) / k * (1.0 - factor))
    spread += 2.0 / (k - 3) * (1.0 - factor) ** 2 * away**2
    return float(estimates[index]), float(stdtrit(k * (s - 1), 0.975)) * math.sqrt(spread)


def worth(study: Finished, noise: float | None = None) -> tuple[float, Posterior, int] | None:
    """What the best result of a search is worth, as the best of so many noisy ones.

    Args:
        study: A study with one objective.
        noise: Standard deviation of a single result between seeds, if known; else from the study's replicates.

    Returns:
        The lowest loss within the limits, the estimate of the true one, and the number of configurations; None when the
        noise is unknown, or there is none.
    """
    pools = [p for p in pools_of(study.trials, study.problem) if p.violation == 0.0]
    if noise is None:
        noise = noise_of(pools)[0]
    if not pools or not noise > 0.0:
        return None
    means = np.array([p.mean for p in pools])
    errors = noise / np.sqrt([p.count for p in pools])
    which = int(np.argmin(means))
    return float(means[which]), deconvolve(means, errors, which), len(pools)


def confirmation(
    study: Finished,
    trials: Sequence[int],
    losses: ArrayLike,
    *,
    level: float = 0.95,
    failed: Sequence[int] = (),
) -> Confirmation:
    """Puts measurements on fresh seeds into an outcome.

    Args:
        study: The study.
        trials: The candidates' trials, ``k`` of them.
        losses: Their minimised losses on fresh seeds, shape ``(k, s)``; a column belongs to one seed.
        level: Confidence wanted.
        failed: Trials that were left out.

    Raises:
        ConfigError: If there are fewer than two seeds or no candidate, or a loss is not finite.
    """
    y = np.atleast_2d(np.asarray(losses, dtype=np.float64))
    if len(trials) != len(y) or y.size == 0 or y.shape[1] < 2 or not np.all(np.isfinite(y)):
        raise ConfigError(
            f"A confirmation needs finite losses of {len(trials)} candidates on two seeds or more; got shape {y.shape}. "
            f"Leave out candidates that fail."
        )
    index, confidence, among = best_of_several(y, level)
    expected, margin = expectation(y, index)
    squares, df = float(((y - y.mean(axis=1, keepdims=True)) ** 2).sum()), y.size - len(y)
    search = worth(study, math.sqrt(squares / df))
    goal = study.problem.objectives[0]
    corrected = None
    if search is not None:
        ends = sorted((goal.sign * search[1].low, goal.sign * search[1].high))
        corrected = (goal.sign * search[1].mean, ends[0], ends[1])
    order = [index, *(i for i in np.argsort(y.mean(axis=1), kind="stable").tolist() if i != index)]
    errors = y.std(axis=1, ddof=1) / math.sqrt(y.shape[1])
    return Confirmation(
        metric=goal.name,
        trials=tuple(trials[i] for i in order),
        means=tuple(goal.sign * float(y[i].mean()) for i in order),
        errors=tuple(float(errors[i]) for i in order),
        seeds=y.shape[1],
        level=level,
        confidence=confidence,
        among=tuple(trials[i] for i in order if i in among),
        expected=goal.sign * expected,
        margin=margin,
        naive=None if search is None else goal.sign * search[0],
        corrected=corrected,
        results=0 if search is None else search[2],
        failed=tuple(failed),
        size=len(study.trials),
    )
