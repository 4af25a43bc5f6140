"""Freeze-thaw with a learned predictor: whichever configuration may soon beat the best gets the next few steps.

*Use when* trials report by step, can be paused and resumed, and full trainings are dear. *Do not use when* trials
cannot resume (``Halting``), there are several objectives, workers come by the thousand, or trainings are cheap (``Asha``):
with epochs of small networks and boosted trees ASHA and Hyperband were as good here (claim ``ifbo``).

*Paper*: Rakotoarison, Adriaensen, Mallik, Garibov, Bergman and Hutter 2024, "In-Context Freeze-Thaw Bayesian Optimization
for Hyperparameter Optimization", ICML, arXiv:2404.16795, Algorithm 1; acquisition MFPI-random, Section 4.2.

*Differs*: the network is our own (``models.pfn``), trained on our form of the paper's prior, with a curve per token;
the target is best - 10^U(-3, 0) units of ``curve_tokens.Scale``, since the best possible loss is not known; segments
grow with the steps done, so that a full training takes about fifteen decisions; new candidates are the proposals of any
sampler (the paper's are random) and changes of the best configurations. A running trial counts as having the loss expected
at the end of its segment. Of more curves than ``context`` the network sees the best ones and an even share of the others;
of more than 16 parameters those whose codes correlate most with the curves' minima, by ranks. Once nothing new may be begun,
trials go on only while one may well beat the best.

*Cost*: ``tell`` O(1) per event, plus the sampler's; ``ask`` one forward pass, O(c^2 + c q) for c curves in the context and
q candidates, and O(n) for n trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Algorithm, Start
from tunewright.core.events import Event
from tunewright.core.history import RUNNING
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_count, levels, steps_of
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.models.acquisition import mutations
from tunewright.models.curve_book import CurveBook
from tunewright.models.curve_prior import DIMENSIONS
from tunewright.models.curve_tokens import LAST, Scale, scale_of, summary_of, tokens
from tunewright.models.pfn import NEW, Bars, CurveNetwork, Memory, curve_network

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

GAINS = (-3.0, 0.0)
_ETA = 3
_LEADERS = 5
_REPORTS = 100
_HOPE = 0.05


@dataclass(slots=True)
class IfboState:
    """What ``Ifbo`` remembers.

    Attributes:
        book: The curves.
        panel: The sampler, at each level.
    """

    book: CurveBook
    panel: Panel


class Wager(NamedTuple):
    """What MFPI-random asks at one decision.

    Attributes:
        horizon: Steps from now.
        target: Squashed loss to be beaten; the best so far is 1/2.
    """

    horizon: int
    target: float


def drawn_wager(high: int, rng: np.random.Generator) -> Wager:
    """A random horizon of 1 to ``high`` steps and a random improvement of 10^U(-3, 0) units.

    Source: Rakotoarison et al. 2024, Section 4.2, with our unit in place of the distance to the best possible value.
    """
    horizon = int(rng.integers(1, high + 1))
    gain = 10.0 ** rng.uniform(*GAINS)
    return Wager(horizon, 0.5 - 0.5 * gain / (1.0 + gain))


@dataclass(frozen=True, slots=True)
class _View:
    """What the network knows at one decision: the study in its own terms."""

    book: CurveBook
    columns: Ints
    scale: Scale
    summary: Array
    memory: Memory
    network: CurveNetwork

    def codes(self, rows: Array) -> Array:
        """Codes as the network takes them, shape ``(q, DIMENSIONS)``."""
        out = np.full((len(rows), DIMENSIONS), np.nan)
        out[:, : len(self.columns)] = rows[:, self.columns]
        return out

    def chance(self, rows: Array, trials: Ints, steps: Ints, target: float) -> Array:
        """P(squashed loss < target) of trials at given steps, then of new rows, shape ``(q,)``.

        Args:
            rows: Codes of new configurations, shape ``(q - r, d)``.
            trials: Trials begun, shape ``(r,)``.
            steps: Step of each of them all, shape ``(q,)``.
            target: Squashed loss.
        """
        return self.bars(rows, trials, steps).below(target)

    def bars(self, rows: Array, trials: Ints, steps: Ints) -> Bars:
        """Distributions of the squashed losses of trials at given steps, then of new rows; arguments as above."""
        book = self.book
        codes = self.codes(np.concatenate([book.history.codes[trials], rows]))
        seen = np.concatenate([book.seen[trials], np.zeros(len(rows), dtype=np.int64)])
        picks = np.full((len(seen), book.picks.shape[1]), 1.0)
        picks[: len(trials)] = _squashed(self.scale, book.picks[trials])
        anchor = np.where(seen > 0, picks[:, LAST], NEW)
        part = seen / book.high
        at = np.maximum(steps, seen + 1) / book.high
        query = tokens(codes, picks, part, _reports(seen, book), self.summary, np.minimum(at, 1.0))
        return self.network.predict(self.memory, query, anchor)


def _squashed(scale: Scale, picks: Array) -> Array:
    out: Array = scale.squashed(picks[None])[0]
    return out


def _reports(seen: Ints, book: CurveBook) -> Array:
    out: Array = np.minimum(np.ceil(seen / book.unit), _REPORTS)
    return out


@dataclass(frozen=True, slots=True)
class Ifbo:
    """In-context freeze-thaw Bayesian optimisation.

    Args:
        sampler: Proposes configurations.
        first: Configurations that are begun, in the order of the sampler, before the network is asked.
        proposals: Configurations of the sampler among the candidates of a decision.
        near: Candidates that are changes of the best configurations.
        paused: Paused trials that are candidates; of more, those with the lowest losses.
        context: Curves that the network sees.
        growth: A segment lasts this share of the steps already done, at least a fiftieth of a training.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    first: int = 10
    proposals: int = 48
    near: int = 48
    paused: int = 48
    context: int = 100
    growth: float = 0.33

    deliberate = True

    def __post_init__(self) -> None:
        for name, least in (("first", 1), ("proposals", 1), ("near", 0), ("paused", 1), ("context", 2)):
            checked_count("Ifbo", name, getattr(self, name), least)
        if not 0.0 <= self.growth < math.inf:
            raise ConfigError(f"Ifbo needs growth >= 0; got {self.growth!r}. Use the default.")

    def init(self, problem: Problem) -> IfboState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, there are several objectives, or the sampler refuses the problem.
        """
        fidelity = steps_of("Ifbo", problem)
        if problem.m > 1:
            raise UnsupportedError(
                f"Ifbo needs one objective, since its network predicts one curve; got {problem.m}. Use asha."
            )
        steps = levels(fidelity.low, fidelity.high, _ETA)
        return IfboState(CurveBook.of(problem), Panel.of(self.sampler, problem, steps))

    def tell(self, state: IfboState, events: Sequence[Event]) -> IfboState:
        """Notes the curves; the sampler learns the results at each level."""
        for event in events:
            state.book.apply(event)
        state.panel.apply(self.sampler, events)
        return state

    def ask(self, state: IfboState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """For every slot, the trial or the new configuration with the best chance of a random improvement."""
        if slots == 0:
            return ()
        book = state.book
        wishes = state.panel.ask(self.sampler, max(slots, self.proposals), rng)
        wishes = [w for w in wishes if not book.begun(w.config)] or wishes
        if wishes and int((book.seen[: book.n] > 0).sum()) < self.first:
            return tuple(self._begun(book, w, w.why) for w in wishes[:slots])
        idle = book.idle()
        if wishes:
            wishes += self._changed(book, rng)
        view = self._view(book)
        if view is None:
            waiting = idle.tolist()[: max(0, slots - len(wishes))]
            thawed = (book.continued(t, self.until(book, book.curves[t].step), {}) for t in waiting)
            return (*(self._begun(book, w, w.why) for w in wishes[:slots]), *thawed)
        actions: list[Action] = []
        while len(actions) < slots and (len(wishes) or len(idle)):
            chosen, why = self._decided(view, idle, wishes, rng)
            if chosen is None:
                break
            if isinstance(chosen, Start):
                actions.append(self._begun(book, chosen, why))
                wishes = [w for w in wishes if w is not chosen]
            else:
                actions.append(book.continued(chosen, self.until(book, book.curves[chosen].step), why))
                idle = idle[idle != chosen]
        return tuple(actions)

    def _begun(self, book: CurveBook, wish: Start, why: dict[str, Any] | None) -> Start:
        return Start(wish.config, self.until(book, 0), wish.parent, why)

    def _decided(
        self, view: _View, idle: Ints, wishes: list[Start], rng: np.random.Generator
    ) -> tuple[int | Start | None, dict[str, Any]]:
        """The trial to continue or the configuration to begin, if any is worth it, and why."""
        book = view.book
        space = book.history.problem.space
        trials = self._candidates(book, idle)
        if not wishes and not self._worthwhile(view, trials):
            return None, {}
        wager = drawn_wager(book.high, rng)
        rows = np.array([space.encode(w.config) for w in wishes]).reshape(len(wishes), space.d)
        done = np.concatenate([book.seen[trials], np.zeros(len(rows), dtype=np.int64)])
        chance = view.chance(rows, trials, np.minimum(done + wager.horizon, book.high), wager.target)
        best = int(chance.argmax())
        why = {"chance": round(float(chance[best]), 4), "horizon": wager.horizon, "of": len(chance)}
        return (int(trials[best]) if best < len(trials) else wishes[best - len(trials)]), why

    def _changed(self, book: CurveBook, rng: np.random.Generator) -> list[Start]:
        """Changes of the best configurations, those that were begun left out."""
        space, lowest = book.history.problem.space, book.picks[: book.n, -1]
        leaders = np.argsort(lowest, kind="stable")[:_LEADERS]
        leaders = leaders[book.fits(leaders) & np.isfinite(lowest[leaders])]
        if not (self.near and space.d and len(leaders)):
            return []
        layout = space.layout
        rows = mutations(book.history.codes[leaders], self.near, layout.levels, layout.categorical, rng)
        configs = {repr(c): c for c in map(space.decode, space.repair(rows, rng))}
        return [Start(c) for c in configs.values() if not book.begun(c)]

    def _worthwhile(self, view: _View, trials: Ints) -> bool:
        """Whether some trial, trained to its end, may well beat the best; always until one was."""
        book = view.book
        if not (book.seen[: book.n] >= book.high).any():
            return True
        end = np.full(len(trials), book.high)
        return bool((view.chance(np.empty((0, book.history.codes.shape[1])), trials, end, 0.5) > _HOPE).any())

    def until(self, book: CurveBook, step: int) -> int:
        """Where the next segment of a trial ends that has done so many steps."""
        fidelity = book.history.problem.fidelity
        low = fidelity.low if fidelity is not None else 1
        return min(book.high, max(low, step + max(book.unit, int(self.growth * step))))

    def _candidates(self, book: CurveBook, idle: Ints) -> Ints:
        if len(idle) <= self.paused:
            return idle
        out: Ints = idle[np.argsort(book.picks[idle, -1], kind="stable")[: self.paused]]
        return out

    def _view(self, book: CurveBook) -> _View | None:
        """The study as the network sees it; None before the first result."""
        rows = self.seen_by(book)
        if not len(rows):
            return None
        network = curve_network()
        picks, seen = book.picks[rows], book.seen[rows]
        scale = scale_of(picks[seen > 0][None])
        known = _squashed(scale, picks)
        summary = summary_of(known[seen > 0])
        columns = chosen_columns(book.history.codes[rows], picks[:, -1])
        codes = book.history.codes[rows][:, columns]
        padded = np.full((len(rows), DIMENSIONS), np.nan)
        padded[:, : len(columns)] = codes
        part = seen / book.high
        context = tokens(padded, known, part, _reports(seen, book), summary)
        view = _View(book, columns, scale, summary, network.remember(context[seen > 0]), network)
        running = np.flatnonzero(book.history.status[rows] == RUNNING)
        if not len(running):
            return view
        # What runs counts as having the loss that is expected when its segment ends.
        until = np.array([book.curves[t].until for t in rows[running]])
        bars = view.bars(np.empty((0, book.history.codes.shape[1])), rows[running], until)
        dreamt = bars.mean
        fresh = seen[running] == 0
        known[running[fresh]] = dreamt[fresh, None]
        known[running, LAST] = dreamt
        known[running, -1] = np.minimum(known[running, -1], dreamt)
        part[running] = np.minimum(until, book.high) / book.high
        reports = _reports(np.maximum(seen, (part * book.high).astype(np.int64)), book)
        context = tokens(padded, known, part, reports, summary)
        return replace(view, memory=network.remember(context))

    def seen_by(self, book: CurveBook) -> Ints:
        """Trials that the network sees: those with results, and those that run; in order of their numbers."""
        n = book.n
        rows = np.flatnonzero((book.seen[:n] > 0) | (book.history.status == RUNNING))
        rows = np.array([r for r in rows if r not in book.over]) if book.over else rows
        rows = rows[book.fits(rows)]
        if not len(rows) or not (book.seen[rows] > 0).any():
            return np.empty(0, dtype=np.int64)
        if len(rows) <= self.context:
            return rows
        order = rows[np.argsort(book.picks[rows, -1], kind="stable")]
        best, rest = order[: self.context // 2], np.sort(order[self.context // 2 :])
        even = np.linspace(0, len(rest) - 1, self.context - len(best)).astype(np.int64)
        return np.sort(np.concatenate([best, rest[even]]))


def chosen_columns(codes: Array, lowest: Array) -> Ints:
    """Columns that the network sees: all of up to 16, else those whose codes correlate most with the minima, by ranks.

    Args:
        codes: Shape ``(n, d)``; NaN counts as 1/2.
        lowest: Minimum of each curve, shape ``(n,)``.

    Returns:
        Ascending, shape ``(min(d, 16),)``.
    """
    d = codes.shape[1]
    if d <= DIMENSIONS:
        return np.arange(d)
    ranks = np.argsort(np.argsort(np.nan_to_num(codes, nan=0.5), axis=0, kind="stable"), axis=0) - 0.5 * len(
        codes
    )
    target = np.argsort(np.argsort(lowest, kind="stable")) - 0.5 * len(codes)
    strength = np.abs(target @ ranks)
    return np.sort(np.argsort(-strength, kind="stable")[:DIMENSIONS])
