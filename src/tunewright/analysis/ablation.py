"""The way from the default configuration to the best: which change brought how much.

*Use when* the question is what to keep of a tuned configuration, and what tuning was worth. *Do not use when* the default is not
among what the forest can judge, such as a corner that no trial came near; the intervals say so.

*Paper*: Fawcett and Hoos 2016, "Analysing differences between algorithm configurations through ablation", J. Heuristics 22,
Algorithm 1; Biedenkapp, Lindauer, Eggensperger, Hutter, Fawcett and Hoos 2017, "Efficient Parameter Importance Analysis via
Ablation with Surrogates", AAAI: a forest instead of trainings.

*Differs*: a parameter that the default does not use changes together with nothing else, and shows its worth once the choice that
switches it has changed; constraints are not looked at on the way; where no guess is given, a parameter's default is the middle
of its range or its first option.

*Cost*: O(d^2) predictions of the forest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.analysis.marks import cell
from tunewright.analysis.shares import HasHistory, Importance, history_of, parameters, ranking
from tunewright.analysis.surrogate import Surrogate, surrogate
from tunewright.core.history import History
from tunewright.core.space import Space

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Step:
    """One change on the way.

    Attributes:
        name: The parameter.
        before: Its value before, as text; ``not used`` where it was inactive.
        after: Its value after.
        loss: Expected loss after the change.
        gain: By how much the change lowered the loss; negative where it raised it.
        low: Lower end of the 90 % interval of the gain, over trees.
        high: Upper end.
    """

    name: str
    before: str
    after: str
    loss: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ablation:
    """The way.

    Attributes:
        start: Expected loss of the default.
        steps: The changes, those that bring most first.
        best: Number of the trial at its end, None for a configuration of the user's.
        model: The forest.
    """

    start: float
    steps: tuple[Step, ...]
    best: int | None
    model: Surrogate


def default_codes(space: Space) -> Floats:
    """Codes of the default, inactive parameters included: guesses, else middles and first options; shape ``(d,)``."""
    codes = np.full(space.d, 0.5)
    for j, column in enumerate(space.columns):
        if column.domain.categorical:
            codes[j] = 0.5 / column.domain.levels
    for entry in space.entries:
        guess = entry.domain.guess
        if guess is not None:
            codes[entry.where] = entry.encode(guess)
    return codes


def ablation(
    study_or_history: HasHistory | History,
    start: Mapping[str, Any] | None = None,
    end: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Ablation:
    """Changes one parameter after the other, always the one that lowers the expected loss most.

    Args:
        study_or_history: A study, or its history; the first objective counts.
        start: Where the way begins; the default of the space when not given.
        end: Where it ends; the best trial when not given.
        seed: For the forest.

    Raises:
        ConfigError: If fewer than 20 trials have a result, or all losses are equal.
    """
    history = history_of(study_or_history)
    model = surrogate(history, "Ablation", seed)
    space = model.space
    order, codes = ranking(history)
    now = default_codes(space)
    if start is not None:
        now = _filled(space.encode(start), now)
    target = _filled(codes[0] if end is None else space.encode(end), now)
    every = model.by_tree(space.snap(now[None]))[:, 0]
    first = float(every.mean())
    left = [i for i, e in enumerate(space.entries) if np.any(now[e.where] != target[e.where])]
    names, steps = parameters(space), []
    while left:
        tried = np.repeat(now[None], len(left), axis=0)
        for row, i in enumerate(left):
            tried[row, space.entries[i].where] = target[space.entries[i].where]
        drawn = model.by_tree(space.snap(tried))
        # Of changes that bring nothing, such as of parameters not used yet, the first in the order of the space.
        at = int(np.argmin(drawn.mean(axis=0).round(12)))
        gains = every - drawn[:, at]
        low, high = np.quantile(gains, [0.05, 0.95]).tolist()
        before, after = (_shown(space, row, left[at]) for row in (now, tried[at]))
        loss, gain = float(drawn[:, at].mean()), float(gains.mean())
        steps.append(Step(names[left[at]], before, after, loss, gain, min(low, gain), max(high, gain)))
        now, every = tried[at], drawn[:, at]
        del left[at]
    return Ablation(first, tuple(steps), int(order[0]) if end is None else None, model)


def _filled(codes: Floats, other: Floats) -> Floats:
    """Codes, those of inactive parameters from elsewhere."""
    out: Floats = np.where(np.isnan(codes), other, codes)
    return out


def _shown(space: Space, row: Floats, i: int) -> str:
    entry, codes = space.entries[i], space.snap(row[None])[0]
    if np.isnan(codes[entry.first]):
        return "not used"
    return cell(space.decode(codes)[entry.name])


def ablation_importance(study_or_history: HasHistory | History, seed: int = 0) -> list[Importance]:
    """What each parameter brought on the way from the default to the best, as shares of the gains, largest first.

    Args:
        study_or_history: A study, or its history.
        seed: For the forest.

    Raises:
        ConfigError: As for ``ablation``.
    """
    found = ablation(study_or_history, seed=seed)
    total = sum(max(s.gain, 0.0) for s in found.steps) or 1.0
    by_name = {s.name: s for s in found.steps}
    out = []
    for name in parameters(found.model.space):
        step = by_name.get(name)
        parts = (step.gain, step.low, step.high) if step is not None else (0.0, 0.0, 0.0)
        out.append(Importance(name, *(float(np.clip(v / total, 0.0, 1.0)) for v in parts)))
    return sorted(out, key=lambda i: (-i.value, -i.high, i.name))
