"""Three phases of looking at a space: sample it, see what it does, refine it; here the third, with a reason for every change.

*Use when* a first study was wide and cheap, and a second one should spend its trials where results are good. *Do not use when* the
first study followed its own idea of where to look from the start: what it never tried cannot be judged, and is kept.

*Paper*: "Veni Vidi Vici, A Three-Phase Scenario For Parameter Space Analysis in Image Analysis and Visualization" (sampling,
inspection of linked views, narrowing, repeated); Perrone et al. 2019, "Learning search spaces for Bayesian optimization", NeurIPS,
section 4, for boxes around good configurations.

*Differs*: what a person narrows by eye there, a rule narrows here: a range only where as many trials drawn by chance would lie as
close in less than one case out of a hundred, an option only where chance would not have missed it among the best; ranges get the
room at both ends that the spread of their members asks for.

*Cost*: O(d draws k) for the ``k`` best trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tunewright.analysis.effects import comparable
from tunewright.analysis.marks import number
from tunewright.analysis.shares import HasHistory, history_of, labels
from tunewright.core.domains import Bool, Choice, Float, Int, Order
from tunewright.core.history import History
from tunewright.core.space import Space
from tunewright.errors import ConfigError

Floats = NDArray[np.float64]
Kind = Literal["narrowed", "dropped", "kept", "edge"]
LEAST = 30
_SHARE, _BEST_LEAST, _MEMBERS = 0.1, 10, 6
_CHANCE, _DRAWS = 0.01, 1000
_EDGE, _AT_EDGE, _WIDE = 0.05, 1 / 3, 0.85


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a parameter, and why.

    Attributes:
        name: The parameter; with its path where the same name occurs in several branches.
        kind: ``narrowed``, ``dropped`` (options), ``edge`` (good values lie at a bound that may be too tight) or ``kept``.
        before: Its values before, as text.
        after: Its values after.
        reason: One sentence.
    """

    name: str
    kind: Kind
    before: str
    after: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refinement:
    """A smaller space.

    Attributes:
        space: The space.
        changes: One per parameter, in the order of the space.
        share: Part of the old space that is left, as the product over ranges and options.
        best: Numbers of the trials that it rests on.
    """

    space: Space
    changes: tuple[Change, ...]
    share: float
    best: tuple[int, ...]


def refine(study_or_history: HasHistory | History, seed: int = 0) -> Refinement:
    """A space around the best tenth of the trials.

    Args:
        study_or_history: A study, or its history; the first objective counts.
        seed: For the draws that say what chance would give.

    Raises:
        ConfigError: If fewer than 30 trials have a result.

    Example:
        >>> import tunewright as tw
        >>> study = tw.Study.open("s", {"x": tw.Float(0, 1)}, storage="memory", method="random", seed=1)
        >>> _ = study.run(lambda trial: abs(trial["x"] - 0.3), trials=100, progress="none")
        >>> refine(study).changes[0].kind
        'narrowed'
    """
    history = history_of(study_or_history)
    rows = np.flatnonzero(comparable(history))
    if len(rows) < LEAST:
        raise ConfigError(
            f"Refining a space needs at least {LEAST} trials with a result; got {len(rows)}. Run more trials."
        )
    order = rows[np.lexsort((history.loss[rows], history.violation[rows]))]
    best = order[: max(_BEST_LEAST, round(_SHARE * len(order)))]
    space = history.problem.space
    free = not space.own and not space.when
    rng = np.random.default_rng([seed, 69])
    changes, edits, share = [], {}, 1.0
    for j, (column, name) in enumerate(zip(space.columns, labels(space), strict=True)):
        every, good = (codes[~np.isnan(codes)] for codes in (history.codes[order, j], history.codes[best, j]))
        domain = column.domain
        if column.owner is not None:
            if column.owner.part == 0:
                text = type(column.owner.domain).__name__
                changes.append(
                    Change(column.owner.name, "kept", text, text, "Orders and selections stay as they are.")
                )
        elif isinstance(domain, Float | Int):
            change, fields, left = _number(domain, name, every, good, rng)
            changes.append(change)
            share *= left
            if fields:
                edits[column.path] = fields
        else:
            change, fields, left = _options(name, domain, every, good, droppable=free)
            changes.append(change)
            share *= left
            if fields:
                edits[column.path] = fields
    smaller = Space.from_dict(_edited(space.to_dict(), edits, "")) if edits else space
    left_over = {e.path for e in smaller.entries}
    for place, entry in enumerate(space.entries):
        if entry.path not in left_over:
            reason = "It belongs to an option that was dropped."
            changes[place] = replace(changes[place], kind="dropped", after="not used", reason=reason)
    return Refinement(smaller, tuple(changes), share, tuple(best.tolist()))


def _number(
    domain: Float | Int, name: str, every: Floats, good: Floats, rng: np.random.Generator
) -> tuple[Change, dict[str, Any], float]:
    """What becomes of a range: the change, the new bounds, and the part that is left."""
    before = _range(domain.low, domain.high)
    if len(good) < _MEMBERS:
        reason = f"{len(good) or 'None'} of the best trials use it: too few to judge."
        return Change(name, "kept", before, before, reason), {}, 1.0
    k, low, high = len(good), float(good.min()), float(good.max())
    for end, near in (("lower", good < _EDGE), ("upper", good > 1 - _EDGE)):
        usual = float(np.mean(every < _EDGE) if end == "lower" else np.mean(every > 1 - _EDGE))
        if near.mean() > max(_AT_EDGE, 2 * usual):
            reason = f"{near.mean():.0%} of the best trials lie at its {end} end: better values may lie beyond; widen it if you can."
            return Change(name, "edge", before, before, reason), {}, 1.0
    drawn = rng.choice(every, size=(_DRAWS, k))
    chance = float(np.mean(np.ptp(drawn, axis=1) <= high - low))
    if chance >= _CHANCE or high - low > _WIDE:
        reason = (
            "The best trials are spread over it as all trials are: it matters little, or too few trials tell."
        )
        return Change(name, "kept", before, before, reason), {}, 1.0
    room = (high - low) / (k - 1)
    low, high = max(0.0, low - room), min(1.0, high + room)
    decode = domain.coder()[1]
    ends = decode(low), decode(high)
    step = domain.step
    if ends[0] >= ends[1] or (step is not None and ends[1] - ends[0] < step):
        return (
            Change(name, "kept", before, before, "The best trials agree on one value; fix it if you like."),
            {},
            1.0,
        )
    fields: dict[str, Any] = {"low": ends[0], "high": ends[1]}
    if isinstance(domain, Float) and step is None:
        fields = {
            "low": max(domain.low, float(f"{ends[0]:.4g}")),
            "high": min(domain.high, float(f"{ends[1]:.4g}")),
        }
        if fields["low"] >= fields["high"]:
            fields = {"low": ends[0], "high": ends[1]}
    after = _range(fields["low"], fields["high"])
    reason = f"The best {k} trials lie within {high - low:.0%} of it; as many by chance do so in less than 1 of 100 cases."
    return Change(name, "narrowed", before, after, reason), fields, high - low


def _range(low: float, high: float) -> str:
    return f"{number(float(low))} to {number(float(high))}"


def _options(
    name: str, domain: Choice | Order | Bool, every: Floats, good: Floats, *, droppable: bool
) -> tuple[Change, dict[str, Any], float]:
    """The same for options."""
    options = list(domain.options)
    texts = [str(o) for o in options]
    before = ", ".join(texts)
    k = len(options)
    level, chosen = (np.minimum((c * k).astype(np.int64), k - 1) for c in (every, good))
    seen, wins = np.bincount(level, minlength=k), np.bincount(chosen, minlength=k)
    share = seen / max(1, len(every))
    gone = (wins == 0) & ((1.0 - share) ** len(good) < _CHANCE)
    if (
        isinstance(domain, Bool)
        or not droppable
        or k - int(gone.sum()) < 1
        or len(good) < _MEMBERS
        or not gone.any()
    ):
        reason = (
            "No option is missing among the best trials for other reasons than chance."
            if not gone.any()
            else f"{', '.join(t for t, g in zip(texts, gone, strict=True) if g)} never is among the best; left in, since a switch of two "
            "values, or a condition or constraint names it. Fix it in the training if you like."
        )
        return Change(name, "kept", before, before, reason), {}, 1.0
    kept = [i for i in range(k) if not gone[i]]
    after = ", ".join(texts[i] for i in kept)
    lost = ", ".join(t for t, g in zip(texts, gone, strict=True) if g)
    reason = f"None of the best {len(good)} trials has {lost}, though {int(seen[gone].sum())} of {len(every)} trials tried."
    return Change(name, "dropped", before, after, reason), {"keep": kept}, len(kept) / k


def _edited(data: Mapping[str, Any], edits: Mapping[str, dict[str, Any]], prefix: str) -> dict[str, Any]:
    """The JSON form of a space with some parameters changed; paths as in ``Column.path``."""
    parameters = []
    for entry in data["parameters"]:
        path = prefix + entry["name"]
        new = dict(entry)
        if "branches" in new:
            new["branches"] = [
                None if branch is None else _edited(branch, edits, f"{path}={option}/")
                for option, branch in zip(new["options"], new["branches"], strict=True)
            ]
        fields = edits.get(path, {})
        if "keep" in fields:
            for key in ("options", "branches", "values"):
                if key in new:
                    new[key] = [new[key][i] for i in fields["keep"]]
        else:
            new |= fields
        parameters.append(_with_guess(new))
    return {**data, "parameters": parameters}


def _with_guess(entry: dict[str, Any]) -> dict[str, Any]:
    """Leaves a guess out that is not among the values any more."""
    guess = entry.get("guess")
    if guess is None:
        return entry
    options = entry.get("options", entry.get("values"))
    inside = (
        guess in options
        if options is not None
        else entry.get("low", guess) <= guess <= entry.get("high", guess)
    )
    return entry if inside else {k: v for k, v in entry.items() if k not in ("guess", "confidence")}
