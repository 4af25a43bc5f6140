"""A forest fitted to the results of a study, for questions that need a value at any configuration.

*Use when* a method asks what the loss would be elsewhere: fANOVA, ablation, local sensitivity, contours. *Do not use when* the
forest predicts badly: ``quality`` says how well it does on trials that it has not seen.

*Paper*: Hutter, Hoos and Leyton-Brown 2014 (ICML), section 3: marginals of a forest in place of the costly objective.
Stone 1974 (JRSS B 36) for cross-validation.

*Differs*: losses far above the rest (over the upper quartile plus four interquartile ranges) are cut there, so that a few
diverged trainings do not swallow all variance; of large studies an even share of the trials is taken, and the text says so.

*Cost*: a forest of 16 trees over at most 2000 trials: about 0.6 s of CPU for 20 parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.analysis.effects import comparable
from tunewright.analysis.shares import HasHistory, history_of
from tunewright.core.history import History
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.forest import Forest, fit, leaves

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LEAST, MOST = 20, 2000
TREES = 16
_FOLDS = 5
_FENCE = 4.0


@dataclass(frozen=True, slots=True)
class Surrogate:
    """A forest and what it was fitted to.

    Attributes:
        space: The space.
        forest: The forest over codes.
        codes: Codes of the trials, shape ``(n, d)``.
        losses: Their losses, cut above the fence, shape ``(n,)``.
        rows: Their numbers, shape ``(n,)``.
        of: Number of trials that could have been used.
    """

    space: Space
    forest: Forest
    codes: Floats
    losses: Floats
    rows: Ints
    of: int

    def by_tree(self, codes: Floats) -> Floats:
        """What every tree expects at some codes, shape ``(t, q)``."""
        out: Floats = self.forest.mean[leaves(self.forest, codes)]
        return out

    @property
    def note(self) -> str:
        """A sentence that says so where not all trials were used, else empty."""
        n = len(self.rows)
        return "" if n == self.of else f" It rests on {n} of {self.of} trials, evenly taken."


def sampled(history: History, what: str, least: int = LEAST, most: int = MOST) -> tuple[Ints, int]:
    """Rows of trials whose losses may be compared, at most ``most`` of them, evenly taken; and how many there are.

    Raises:
        ConfigError: If there are fewer than ``least``.
    """
    rows = np.flatnonzero(comparable(history))
    if len(rows) < least:
        raise ConfigError(
            f"{what} needs at least {least} trials with a result; got {len(rows)}. Run more trials."
        )
    keep = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.int64))
    return rows[keep], len(rows)


def fenced(losses: Floats) -> Floats:
    """Losses, those far above the rest cut."""
    lower, upper = np.quantile(losses, [0.25, 0.75])
    fence = upper + _FENCE * (upper - lower) if upper > lower else losses.max()
    out: Floats = np.minimum(losses, fence)
    return out


def grown(space: Space, codes: Floats, losses: Floats, seed: int, trees: int = TREES) -> Forest:
    """A forest for codes of a space, shape ``(n, d)``, and losses, shape ``(n,)``."""
    layout = space.layout
    rng = np.random.default_rng([seed, 61])
    return fit(codes, losses, layout.levels, layout.categorical, rng, trees=trees, leaf=2, share=1.0)


def surrogate(
    study_or_history: HasHistory | History, what: str = "A surrogate", seed: int = 0, trees: int = TREES
) -> Surrogate:
    """Fits a forest to the trials whose losses may be compared; the first objective counts.

    Args:
        study_or_history: A study, or its history.
        what: Who asks, for the error.
        seed: For the forest.
        trees: Number of trees.

    Raises:
        ConfigError: If fewer than 20 trials have a result, or all losses are equal.
    """
    history = history_of(study_or_history)
    rows, of = sampled(history, what)
    codes, losses = history.codes[rows], fenced(history.loss[rows])
    if np.ptp(losses) == 0:
        raise ConfigError(f"{what} needs losses that differ; got {len(rows)} equal ones. Run more trials.")
    space = history.problem.space
    return Surrogate(space, grown(space, codes, losses, seed, trees), codes, losses, rows, of)


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a forest predicts trials that it has not seen, in five folds.

    Attributes:
        rows: Numbers of the trials, shape ``(n,)``.
        seen: Their losses, cut above the fence, shape ``(n,)``.
        mean: What was expected, shape ``(n,)``.
        low: Lower end of the 90 % interval, shape ``(n,)``.
        high: Upper end.
        explained: Share of the variance that is explained; below 0, worse than the mean.
        covered: Share of the trials within their intervals, which should be 0.9.
        rank: Spearman's rank correlation between expected and seen.
        of: Number of trials that could have been used.
    """

    rows: Ints
    seen: Floats
    mean: Floats
    low: Floats
    high: Floats
    explained: float
    covered: float
    rank: float
    of: int


def quality(study_or_history: HasHistory | History, seed: int = 0) -> Quality:
    """Cross-validates the forest.

    Args:
        study_or_history: A study, or its history; the first objective counts.
        seed: For folds and forests.

    Raises:
        ConfigError: If fewer than 20 trials have a result, or all losses are equal.
    """
    from tunewright.models.forest import predict
    from tunewright.numerics.statistics import ranks

    history = history_of(study_or_history)
    rows, of = sampled(history, "A chart of the surrogate", most=600)
    codes, losses = history.codes[rows], fenced(history.loss[rows])
    if np.ptp(losses) == 0:
        raise ConfigError(
            f"A chart of the surrogate needs losses that differ; got {len(rows)} equal ones. Run more trials."
        )
    fold = np.random.default_rng([seed, 62]).permutation(len(rows)) % _FOLDS
    mean, std = np.empty(len(rows)), np.empty(len(rows))
    for k in range(_FOLDS):
        here = fold == k
        forest = grown(history.problem.space, codes[~here], losses[~here], seed + k)
        mean[here], variance = predict(forest, codes[here])
        std[here] = np.sqrt(variance)
    low, high = mean - 1.645 * std, mean + 1.645 * std
    explained = 1.0 - float(np.mean((losses - mean) ** 2) / losses.var())
    a, b = ranks(mean), ranks(losses)
    rank = float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 else 0.0
    inside = float(np.mean((losses >= low) & (losses <= high)))
    return Quality(rows, losses, mean, low, high, explained, inside, rank, of)
