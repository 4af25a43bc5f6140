"""Where a trial's weights come from: its ancestors, the schedule of hyperparameters along them, and the family tree.

A member of a population is a copy of a copy. What was in fact trained is the chain of segments that leads to it, each with
its own hyperparameters; as a schedule, that chain can be followed by one training from scratch.

Source: Jaderberg et al. 2017 (arXiv:1711.09846), section 4 and figure 6: the lineage of the best member holds the schedule that
population-based training discovered.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from tunewright.core.replicates import original_of
from tunewright.core.trial import Trial
from tunewright.errors import ConfigError

_FORMAT = "tunewright.schedule/1"
_SHOWN = 4


class Piece(msgspec.Struct, frozen=True):
    """Part of a schedule.

    Attributes:
        start: Steps done when it begins.
        config: The parameters from there on.
        trial: The trial that was trained with them, or None.
    """

    start: int
    config: dict[str, Any]
    trial: int | None = None


class _Stored(msgspec.Struct):
    format: str
    steps: int
    pieces: list[Piece]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Hyperparameters by step.

    Args:
        pieces: In order of their beginning; the first begins at 0.
        steps: Steps of the whole.

    Raises:
        ConfigError: If the pieces do not follow on each other from step 0 on.

    Example:
        >>> schedule = Schedule((Piece(0, {"lr": 0.1}), Piece(10, {"lr": 0.02})), 30)
        >>> [schedule.at(step)["lr"] for step in (0, 9, 10, 29)]
        [0.1, 0.1, 0.02, 0.02]
    """

    pieces: tuple[Piece, ...]
    steps: int

    def __post_init__(self) -> None:
        starts = [p.start for p in self.pieces]
        if starts[:1] != [0] or any(b <= a for a, b in pairwise(starts)) or self.steps < starts[-1]:
            raise ConfigError(
                f"The pieces of a schedule must begin at step 0 and follow on each other; got beginnings {starts} of "
                f"{self.steps} steps. Extract it from a trial with lineage."
            )

    @classmethod
    def of(cls, trials: Sequence[Trial], trial: int) -> Schedule:
        """The schedule that led to a trial; see ``lineage``.

        Args:
            trials: All trials of the study, by number.
            trial: Number of the trial, usually of the best.

        Raises:
            ConfigError: If there is no such trial.
        """
        return lineage(trials, trial)

    def at(self, step: int) -> dict[str, Any]:
        """The parameters to train with when ``step`` steps are done, counted from 0; beyond the end, the last ones.

        Raises:
            ConfigError: If the step is negative.
        """
        if step < 0:
            raise ConfigError(f"A schedule counts steps from 0; got {step}. Pass the number of steps done.")
        return dict(self.pieces[bisect_right(self.pieces, step, key=lambda p: p.start) - 1].config)

    def values(self, name: str) -> list[tuple[int, Any]]:
        """Beginnings and values of one parameter, where it changes; pieces where it is inactive are left out."""
        out: list[tuple[int, Any]] = []
        for piece in self.pieces:
            if name in piece.config and (not out or out[-1][1] != piece.config[name]):
                out.append((piece.start, piece.config[name]))
        return out

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        pieces = [
            {"start": p.start, "config": p.config} | ({} if p.trial is None else {"trial": p.trial})
            for p in self.pieces
        ]
        return {"format": _FORMAT, "steps": self.steps, "pieces": pieces}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schedule:
        """Rebuilds a schedule from its JSON form.

        Raises:
            ConfigError: If the data does not describe one.
        """
        try:
            stored = msgspec.convert(dict(data), _Stored)
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            raise ConfigError(
                f"A stored schedule must have steps and pieces; reading it failed: {error}. Save it again."
            ) from None
        if stored.format != _FORMAT:
            raise ConfigError(
                f"A stored schedule must have the format {_FORMAT!r}; got {stored.format!r}. Use a newer version."
            )
        return cls(tuple(stored.pieces), stored.steps)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the JSON form to a file; one that is there is replaced at once or not at all."""
        target = Path(path)
        part = target.with_name(target.name + ".part")
        part.write_bytes(msgspec.json.format(msgspec.json.encode(self.to_dict()), indent=2) + b"\n")
        part.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Schedule:
        """Reads a schedule from a file.

        Raises:
            ConfigError: If there is no such file, or it holds something else.
        """
        try:
            data = msgspec.json.decode(Path(path).read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(
                f"A schedule must be read from the file it was saved to; got {error}. Check the path {str(path)!r}."
            ) from None
        return cls.from_dict(data)


def ancestors(trials: Sequence[Trial], trial: int) -> list[Trial]:
    """A trial and those whose weights it goes back to, oldest first.

    Args:
        trials: All trials of the study, by number.
        trial: Number of the trial.

    Raises:
        ConfigError: If there is no such trial.
    """
    if not 0 <= trial < len(trials):
        raise ConfigError(
            f"A lineage starts from a trial of the study; got {trial!r} with {len(trials)} trials. Pass its number."
        )
    chain = [trials[trial]]
    while (donor := _donor(chain[-1])) is not None:
        chain.append(trials[donor[0]])
    return chain[::-1]


def _donor(trial: Trial) -> tuple[int, int] | None:
    """Trial and step that a trial's weights come from; a replicate has its parameters from another, not its weights."""
    return None if original_of(trial.start) is not None else trial.parent


def lineage(trials: Sequence[Trial], trial: int) -> Schedule:
    """The schedule that led to a trial's weights: the hyperparameters of each ancestor while its weights were trained on.

    Args:
        trials: All trials of the study, by number.
        trial: Number of the trial, usually the best.

    Raises:
        ConfigError: If there is no such trial.
    """
    chain = ancestors(trials, trial)
    begins = [0, *((t.parent or (0, 0))[1] for t in chain[1:])]
    pieces: list[Piece] = []
    for begin, member in zip(begins, chain, strict=True):
        # A copy of a copy that was not trained in between leaves no piece of its own.
        while pieces and pieces[-1].start >= begin:
            pieces.pop()
        pieces.append(Piece(begin, dict(member.config), member.number))
    return Schedule(tuple(pieces), max(chain[-1].step, begins[-1]))


def render(
    trials: Sequence[Trial],
    *,
    best: int | None = None,
    describe: Callable[[Trial], str] | None = None,
    most: int = 200,
) -> str:
    """The family tree as text, for a terminal: a line per trial, copies under their donors with what changed.

    Args:
        trials: All trials of the study, by number.
        best: Number of a trial whose ancestors are marked with ``*``.
        describe: What to say about a trial; by default its last metrics.
        most: Lines shown, at most; the rest is counted.

    Raises:
        ConfigError: If ``best`` is no trial of the study.
    """
    marked = {t.number for t in ancestors(trials, best)} if best is not None else set()
    children: dict[int | None, list[Trial]] = {}
    for trial in trials:
        donor = _donor(trial)
        children.setdefault(None if donor is None else donor[0], []).append(trial)
    lines: list[str] = []
    stack = [(t, "", "") for t in reversed(children.get(None, []))]
    while stack:
        trial, head, tail = stack.pop()
        lines.append(head + _line(trial, trials, trial.number in marked, describe or _metrics))
        below = children.get(trial.number, [])
        for child in reversed(below):
            arm, under = ("└─ ", "   ") if child is below[-1] else ("├─ ", "│  ")
            stack.append((child, tail + arm, tail + under))
    if len(lines) > most:
        lines[most:] = [f"... and {len(lines) - most} more"]
    return "\n".join(lines)


def _line(trial: Trial, trials: Sequence[Trial], marked: bool, describe: Callable[[Trial], str]) -> str:
    donor = _donor(trial)
    mark = "*" if marked else " "
    if donor is None:
        what = _settings(trial.config.items())
        return f"{mark}{trial.number}  to step {trial.step}  {what}  {describe(trial)}".rstrip()
    before = trials[donor[0]].config
    changed = [(k, v) for k, v in trial.config.items() if k not in before or before[k] != v]
    what = _settings(changed) or "unchanged"
    return f"{mark}{trial.number}  from step {donor[1]} to {trial.step}  {what}  {describe(trial)}".rstrip()


def _settings(items: Iterable[tuple[str, Any]]) -> str:
    shown = [f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in items]
    more = [f"and {len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []
    return " ".join(shown[:_SHOWN] + more)


def _metrics(trial: Trial) -> str:
    numbers = " ".join(f"{k}={v:.4g}" for k, v in trial.metrics.items())
    return f"{numbers} ({trial.status})" if trial.status != "completed" else numbers
