"""What can be looked at in a study; looking changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunewright import catalog
from tunewright.core.algorithm import Algorithm
from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.core.scale import Scale
from tunewright.core.space import Space
from tunewright.core.trial import Trial
from tunewright.errors import ConfigError, TunewrightError
from tunewright.run.replay import Replay, replay
from tunewright.run.retention import kept
from tunewright.run.session import Session

if TYPE_CHECKING:
    import pandas
    import polars

    from tunewright.analysis.accessor import Plots
    from tunewright.run.showing import Shown
    from tunewright.scaling.proxy import Transfer


class View:
    """A study as it stands in the log.

    Args:
        session: This process's handle on it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def name(self) -> str:
        """Its name in the store."""
        return self._session.info.name

    @property
    def session(self) -> Session:
        """This process's handle on the log, for tools built on studies."""
        return self._session

    @property
    def problem(self) -> Problem:
        """The problem, with the newest version of the space."""
        return self._session.sync().problem

    @property
    def space(self) -> Space:
        """The newest version of the space."""
        return self.problem.space

    @property
    def method(self) -> str:
        """Name of the method that decides."""
        return self._session.method

    @property
    def trials(self) -> Sequence[Trial]:
        """All trials by number; those that were over long ago are read from the log when they are looked at."""
        return self._session.sync().trials

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by status."""
        return {k: v for k, v in self._session.sync().counts.items() if v}

    @property
    def best(self) -> Trial:
        """The completed trial with the best objective that meets the limits; for several objectives see ``pareto``.

        A study whose trials only paused so far gives the best of those.

        Raises:
            ConfigError: If there are several objectives, or no trial has a result.
        """
        ledger = self._session.sync()
        if ledger.problem.m > 1:
            raise ConfigError(
                f"best needs one objective; '{self.name}' has {ledger.problem.m}. Look at study.pareto."
            )
        if ledger.best is not None:
            return ledger.best
        open_ = [
            (ledger.problem.losses(t.metrics), t.id)
            for t in ledger.trials
            if t.metrics and t.status != "failed"
        ]
        ranked = sorted((loss, n) for loss, n in open_ if loss is not None)
        if not ranked:
            raise ConfigError(f"best needs a trial with a result; '{self.name}' has none yet. Run it first.")
        return ledger.trials[ranked[0][1]]

    @property
    def pareto(self) -> list[Trial]:
        """Completed trials that no other one beats in every objective."""
        import numpy as np

        from tunewright.numerics.pareto import nondominated

        ledger = self._session.sync()
        done = [
            t for t in ledger.trials if t.status == "completed" and ledger.problem.violation(t.metrics) == 0
        ]
        losses = [(t, x) for t in done if (x := ledger.problem.losses(t.metrics)) is not None]
        if not losses:
            return []
        keep = nondominated(np.array([x for _, x in losses]))
        return [t for (t, _), k in zip(losses, keep, strict=True) if k]

    def history(self) -> History:
        """The trials as arrays, for models and plots."""
        history = History(self._session.origin)
        for record in self._session.store.read(self._session.info.id):
            history.apply(record.event)
        return history

    def transfer(
        self,
        parameter: str | None = None,
        horizon: float | Literal["shares", "published"] | None = None,
    ) -> Transfer:
        """Settings for the target of the study's scale, from its trials at proxy sizes.

        Args:
            parameter: The rate that is followed from size to size; by default ``lr``, or the only parameter on a log scale.
            horizon: How the rate is brought to a longer training, at the same batch size: by default by a law fitted to proxies of
                different lengths where there are enough, else not at all, with a warning; ``"shares"`` fits it to the shares of
                trainings, too; ``"published"`` takes ``rate ~ steps^-0.32`` (arXiv:2409.19913), a number another exponent.

        Returns:
            The settings with an interval, what they cost in trainings of the target, and the parametrization; or the reason
            why the proxies do not tell.

        Raises:
            ConfigError: If the study has no scale or several objectives, it is not clear which parameter is the rate, or the
                horizon is none of these.
        """
        from tunewright.scaling.proxy import transfer

        return transfer(self.problem, self.trials, parameter, horizon)

    def checkpoint(self, trial: Trial | int, default: Any = None) -> Any:
        """What a trial has in its checkpoint, such as trained weights, or ``default`` when it has none.

        Raises:
            CheckpointError: If the file is missing or damaged, or is in a format of your own.
        """
        return kept(self._session, trial if isinstance(trial, int) else trial.id, default)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat dict per trial: number, status, parameters, metrics, step, cost, times, error.

        With a scale, ``size.NAME`` and ``size.step`` say which proxy was trained last, and for how many steps.
        """
        from tunewright.analysis.table import rows

        return rows(self.trials, self.problem.scale)

    def to_pandas(self) -> pandas.DataFrame:
        """The trials as a pandas data frame.

        Raises:
            MissingExtra: If pandas is not installed.
        """
        from tunewright.analysis.table import to_pandas

        return to_pandas(self.trials, self.problem.scale)

    def to_polars(self) -> polars.DataFrame:
        """The trials as a polars data frame.

        Raises:
            MissingExtra: If polars is not installed.
        """
        from tunewright.analysis.table import to_polars

        return to_polars(self.trials, self.problem.scale)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Writes the trials to a Parquet file.

        Raises:
            MissingExtra: If pyarrow is not installed.
        """
        from tunewright.analysis.table import to_parquet

        to_parquet(self.trials, Path(path), self.problem.scale)

    @property
    def plot(self) -> Plots:
        """Charts: a method for each, such as ``study.plot.history()``, drawn with Matplotlib, Plotly or as SVG."""
        from tunewright.analysis.accessor import Plots

        return Plots(self)

    def show(self, *, browser: bool = True) -> Shown:
        """Opens the dashboard on this study, in a process beside this one that ends with it.

        Args:
            browser: Whether to open a browser; the address is in the result either way.

        Raises:
            ConfigError: If the study is in this process's memory.
            RunError: If the dashboard does not start.
        """
        from tunewright.run.showing import show

        store = self._session.store
        return show(self.name, store.url, store.durable, browser)

    def _repr_html_(self) -> str:
        """What a notebook shows: counts, a small history, the best trials; no scripts."""
        from tunewright.analysis.notebook import as_html

        ledger = self._session.sync()
        return as_html(self.name, self.method, ledger.problem, self.counts, ledger.trials, ledger.best)

    def replay(self) -> Replay:
        """Takes every decision in the log again and compares.

        Raises:
            ReplayMismatch: At the first decision that differs.
        """
        session = self._session
        return replay(session.store, session.info.id, session.origin, self._rebuild)

    def _rebuild(self, method: str) -> Algorithm[Any] | None:
        """The method of a name in the log; None when it is one of the user's own that is not at hand."""
        if method == self._session.method:
            return self._session.algorithm
        try:
            return catalog.build(method)
        except TunewrightError:
            return None


def as_dict(trial: Trial, scale: Scale | None = None) -> dict[str, Any]:
    """A trial as plain data, without its reports; with a scale, also the size that it trained last.

    Args:
        trial: The trial.
        scale: Of the study.
    """
    return {
        "number": trial.number,
        "status": trial.status,
        "params": trial.config,
        "metrics": trial.metrics,
        "step": trial.step,
        "until": trial.until,
        "attempts": trial.attempts,
        "token": trial.token,
        "cost": trial.cost,
        "started": trial.at,
        "ended": trial.ended_at,
        "worker": trial.worker,
        "by": trial.start.by,
        "why": trial.why,
        "parent": trial.parent,
        "error": trial.error,
        **(
            {}
            if scale is None
            else {"place": {**scale.place(trial.step)._asdict(), "words": scale.words(trial.step)}}
        ),
    }
