"""Who is ahead: regret, ranks and their critical differences over tasks and seeds.

*Paper*: Demsar 2006, JMLR 7:1-30, for mean ranks, Friedman's test and the critical difference of Nemenyi; intervals are
bootstrapped over tasks. Ranks pair studies by task and seed: the rank of a method on a task is one plus the mean number
of others that are below it, over all pairs of seeds, ties counted half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.numerics.statistics import bootstrap_interval, holm, wilcoxon

Floats = NDArray[np.float64]

# Demsar 2006, Table 5(a): two-tailed Nemenyi test at 5 %, for 2 to 10 methods.
NEMENYI = (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one method does after a number of evaluations.

    Attributes:
        name: The method.
        regret: Mean over tasks of the mean over seeds.
        low: Lower end of its 95 % interval over tasks.
        high: Upper end.
        rank: Mean rank over tasks, 1 is best.
        p: Of a Wilcoxon test over tasks that the best other method is not worse, after Holm; NaN with one method.
    """

    name: str
    regret: float
    low: float
    high: float
    rank: float
    p: float


def task_ranks(regrets: Mapping[str, Floats]) -> dict[str, Floats]:
    """Rank of each method on each task, from regrets of shape (tasks, seeds); shape (tasks,)."""
    out = {}
    for name, mine in regrets.items():
        rank = np.ones(len(mine))
        for other, theirs in regrets.items():
            if other != name:
                gap = mine[:, :, None] - theirs[:, None, :]
                rank += np.mean((gap > 0) + 0.5 * (gap == 0), axis=(1, 2))
        out[name] = rank
    return out


def standings(regrets: Mapping[str, Floats]) -> list[Standing]:
    """Every method, best mean regret first.

    Args:
        regrets: By method, shape (tasks, seeds); seeds may differ in number, tasks may not.
    """
    ranks = task_ranks(regrets)
    means = {name: values.mean(axis=1) for name, values in regrets.items()}
    order = sorted(means, key=lambda name: float(means[name].mean()))
    raw = []
    for name in order:
        others = [o for o in order if o != name]
        raw.append(
            wilcoxon(means[others[0]], means[name], "less") if others and len(means[name]) > 1 else np.nan
        )
    corrected = holm(raw) if not np.isnan(raw).any() else np.array(raw)
    out = []
    for name, p in zip(order, corrected, strict=True):
        values = means[name]
        low, high = (
            bootstrap_interval(values, np.random.default_rng(0)) if len(values) > 1 else (np.nan, np.nan)
        )
        out.append(Standing(name, float(values.mean()), low, high, float(ranks[name].mean()), float(p)))
    return out


def critical_difference(methods: int, tasks: int) -> float:
    """Smallest difference of mean ranks that is significant at 5 %; infinite for more than ten methods.

    Source: Demsar 2006, section 3.2.2.
    """
    if not 2 <= methods <= len(NEMENYI) + 1:
        return float("inf")
    return float(NEMENYI[methods - 2] * np.sqrt(methods * (methods + 1) / (6.0 * tasks)))


def friedman(regrets: Mapping[str, Floats]) -> tuple[float, float]:
    """Friedman's statistic in the form of Iman and Davenport, and its p-value.

    Source: Demsar 2006, section 3.1.3.
    """
    from scipy.special import fdtrc

    ranks = task_ranks(regrets)
    table = np.array(list(ranks.values()))
    k, n = table.shape
    chi = 12.0 * n / (k * (k + 1)) * (np.sum(table.mean(axis=1) ** 2) - k * (k + 1) ** 2 / 4.0)
    f = (n - 1) * chi / max(n * (k - 1) - chi, 1e-12)
    return float(f), float(fdtrc(k - 1, (k - 1) * (n - 1), max(f, 0.0)))
