"""One Gaussian process over configuration and length of training: MOBSTER's searcher, for use inside a scheduler.

*Use when* trials report by step, a scheduler such as ``Asha`` decides how long they are trained, and training is dear enough
for some milliseconds per report. *Do not use when* thousands of short trials are planned (``Tpe``), or trials have no steps
(``Bayes``, which this becomes nearly).

*Paper*: Klein, Tiao, Lienart, Archambeau and Seeger 2020 (MOBSTER, arXiv:2003.10865), section 3: a process of configuration
and resource, which all results are told, at every level.

*Differs*: by default the lowest mean loss of a full training among some hundred random configurations is taken, not the
largest expected improvement: halving explores by itself, and on recorded curves a maximised improvement did worse than no
model. With ``acquisition="log_ei"`` it is as in the paper: improvement on the lowest mean of a tried configuration, at the
highest level with enough results (``level="enough"``), awaited results taken as their means (Ginsbourger et al. 2010) instead
of drawn. The kernel (``models.joint``) has a term for what one trial keeps for good; losses are the lowest so far at levels
three times apart, warped (``models.warp``), of the best trials and a spread of the others; validity and limits as in
``Bayes``. With several objectives a random weighting (ParEGO) counts in each decision.

*Cost*: ``tell`` O(1) per event, ``ask`` a factorisation of 200 rows and a prediction of 200 candidates; hyperparameters
are found anew when results have grown by a quarter, some 30 factorisations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Event
from tunewright.core.history import RUNNING, History
from tunewright.core.novelty import first_new
from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_eta
from tunewright.errors import ConfigError
from tunewright.models import joint as model
from tunewright.models.acquisition import Value, maximize_acquisition
from tunewright.models.belief import log_belief
from tunewright.models.design import design_row
from tunewright.models.invalid import log_validity
from tunewright.models.kernel import Columns, columns_of
from tunewright.models.refit import Memo
from tunewright.models.staged import Staged, levels_of, log_levels, spread_rows
from tunewright.models.warp import Warp, fit_warp

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_ROWS, _TUNING_ROWS = 200, 150
_AWAITED = 50
_OFFSET = 0.1
_LOCAL = 100
_ALLOWED = {"acquisition": ("mean", "log_ei"), "level": ("full", "enough"), "kernel": ("decay", "matern")}


@dataclass(slots=True)
class JointState:
    """What ``Joint`` remembers.

    Attributes:
        staged: The trials and their losses by level.
        hyper: Hyperparameters found on the present snapshot, by its content; a cache, not a fact.
        memos: Hyperparameters of the processes of failures and limits; a cache.
    """

    staged: Staged
    hyper: dict[tuple[bytes, bytes], FloatArray] = field(default_factory=dict, compare=False, repr=False)
    memos: dict[int, Memo] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class _View:
    """The training set of one decision."""

    columns: Columns
    trials: IntArray
    rows: model.Rows
    warp: Warp
    counts: IntArray


@dataclass(frozen=True, slots=True)
class Joint:
    """Configurations by a Gaussian process over configuration and length of training.

    Args:
        initial: Trials before the first model: scrambled Sobol points, or draws around the guesses.
        candidates: Random configurations compared in every decision.
        eta: Levels at which losses are compared are so many times apart.
        acquisition: ``"mean"``, the lowest mean among the candidates, or ``"log_ei"``, expected improvement, maximised.
        level: What is predicted: ``"full"``, the full training, or ``"enough"``, the highest level with more results
            than parameters.
        kernel: Along the curve: ``"decay"``, or ``"matern"`` of log-steps, see ``models.joint``.
        belief: Weight of the guesses, as a number of trials after which they count as much as one result.

    Raises:
        ConfigError: If a setting is out of range.
    """

    initial: int = 5
    candidates: int = 200
    eta: float = 3.0
    acquisition: Literal["mean", "log_ei"] = "mean"
    level: Literal["enough", "full"] = "full"
    kernel: model.Shape = "decay"
    belief: float = 5.0

    deliberate = True
    mixes_levels = True

    def __post_init__(self) -> None:
        checked_eta("Joint", self.eta)
        if self.initial < 1 or self.candidates < 1 or not self.belief >= 0.0:
            raise ConfigError(
                f"Joint needs initial >= 1, candidates >= 1 and belief >= 0; got initial={self.initial}, "
                f"candidates={self.candidates}, belief={self.belief}. Use the defaults or larger numbers."
            )
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"Joint needs {name} to be one of {', '.join(allowed)}; got {getattr(self, name)!r:.80}. "
                    "Choose one of these."
                )

    def init(self, problem: Problem) -> JointState:
        """The state before the first event."""
        return JointState(Staged(problem, levels_of(problem, self.eta), _TUNING_ROWS))

    def tell(self, state: JointState, events: Sequence[Event]) -> JointState:
        """Takes in events, O(1) each."""
        for event in events:
            state.staged.apply(event)
        return state

    def ask(self, state: JointState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations, each chosen with the earlier ones awaited."""
        history = state.staged.history
        space = history.problem.space
        fresh: list[FloatArray] = []
        out: list[Action] = []
        for slot in range(slots):
            number = history.n + slot
            view = None if number < self.initial else self._view(state, rng)
            if view is None:
                row = design_row(history.problem, number, self.initial, rng)
                why = {"design": float(number)}
            else:
                row, gain = self._model(state, view, np.reshape(fresh, (len(fresh), space.d)), rng)
                why = {self.acquisition: round(gain, 3)}
            taken = np.concatenate((history.codes, np.reshape(fresh, (len(fresh), space.d))))
            new = first_new(space, taken, row[None], rng)
            if new is None:
                break
            fresh.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _view(self, state: JointState, rng: np.random.Generator) -> _View | None:
        """The training set; None while no two losses differ."""
        staged = state.staged
        space = staged.history.problem.space
        losses = staged.scalar(rng)
        few = spread_rows(losses, _ROWS)
        rows, warp = _rows(staged, few, losses[few])
        if warp is None or not space.d or not len(staged.snapshot.trials):
            return None
        columns = columns_of(space.layout.levels, space.layout.categorical)
        return _View(columns, few, rows, warp, np.sum(~np.isnan(losses), axis=0))

    def _hyper(self, state: JointState, columns: Columns) -> FloatArray:
        snapshot = state.staged.snapshot
        rows, _ = _rows(state.staged, snapshot.trials, snapshot.losses)
        key = (rows.codes.tobytes(), snapshot.losses.tobytes())
        if key not in state.hyper:
            state.hyper.clear()
            state.hyper[key] = model.learn(columns, rows, self.kernel)
        return state.hyper[key]

    def _belief(self, history: History) -> Value | None:
        prior, weight = log_belief(history.problem.space), self.belief / history.n
        return None if prior is None else lambda rows: weight * prior(rows)

    def _level(self, staged: Staged, counts: IntArray) -> int:
        if self.level == "full":
            return len(staged.steps) - 1
        need = max(staged.history.problem.space.d + 1, self.initial)
        return max((i for i, n in enumerate(counts) if n >= need), default=0)

    def _model(
        self, state: JointState, view: _View, fresh: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, float]:
        staged = state.staged
        history, space = staged.history, staged.history.problem.space
        layout = space.layout
        hyper = self._hyper(state, view.columns)
        joint = model.condition(view.columns, hyper, view.rows, self.kernel)
        level = self._level(staged, view.counts)
        candidates = space.sample(rng, self.candidates)
        running = np.flatnonzero(history.status == RUNNING)[-_AWAITED:]
        coming = np.concatenate((history.codes[running], fresh))
        belief = self._belief(history)
        valid = log_validity(state.memos, view.columns, history, coming)
        if self.acquisition == "mean":
            means, _ = model.at_level(joint, level).predict(candidates)
            if valid is not None:
                # A trial that fails is expected to be as bad as the worst.
                worst = float(view.rows.y.max())
                means = worst + np.exp(valid(candidates)) * (np.minimum(means, worst) - worst)
            chosen = int(np.argmin(means if belief is None else means - belief(candidates)))
            return candidates[chosen], float(means[chosen])
        means, _ = model.predict_trials(joint, level)
        at = np.concatenate((staged.reached[running], np.zeros(len(fresh), dtype=np.int64)))
        joint = model.believe(joint, hyper, coming, at, self.kernel)
        order = view.trials[np.argsort(means, kind="stable")[:5]]
        return maximize_acquisition(
            model.at_level(joint, level).improvement(float(means.min())),
            np.concatenate((history.codes, fresh)),
            layout.levels,
            layout.categorical,
            candidates,
            history.codes[order],
            lambda codes: space.repair(codes, rng),
            rng,
            terms=[term for term in (belief, valid) if term is not None],
            local=_LOCAL,
        )


def _rows(staged: Staged, trials: IntArray, losses: FloatArray) -> tuple[model.Rows, Warp | None]:
    """Losses by level as rows, warped; no warp where no two differ."""
    trial, level = np.nonzero(~np.isnan(losses))
    values = losses[trial, level]
    warp = fit_warp(values, _OFFSET) if len(values) and values.min() < values.max() else None
    y = np.zeros(len(values)) if warp is None else warp(values)
    codes = staged.history.codes[trials]
    return model.Rows(codes, trial, level, y, log_levels(staged.steps)), warp
