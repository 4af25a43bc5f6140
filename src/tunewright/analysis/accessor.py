"""``study.plot``: a method per chart, drawn with the library of one's choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from tunewright.analysis.charted import Charted
from tunewright.analysis.plots import KINDS, figure
from tunewright.errors import ConfigError

Backend = Literal["matplotlib", "plotly", "svg"]


class Plots:
    """Charts of a study.

    Every method returns a figure of the library named by ``backend``: ``"matplotlib"`` a Matplotlib figure made by pyplot,
    ``"plotly"`` a Plotly figure, ``"svg"`` a ``Figure`` of Tunewright, which needs no library and shows itself in notebooks. All
    raise ``ConfigError`` with what is missing where the study has too few results, and ``MissingExtra`` where the library is
    not installed.

    Args:
        study: The study.

    Example:
        >>> import tunewright as tw
        >>> study = tw.Study.open("s", {"x": tw.Float(0, 1)}, storage="memory", method="random")
        >>> _ = study.run(lambda trial: trial["x"] ** 2, trials=20, progress="none")
        >>> study.plot.history(backend="svg").title
        'Progress'
    """

    def __init__(self, study: Charted) -> None:
        self._study = study

    def __call__(self, kind: str = "history", *, backend: Backend = "matplotlib", **given: Any) -> Any:
        """A chart by its name.

        Args:
            kind: Name of one of the methods.
            backend: Library to draw with.
            given: What the method takes beside the backend.
        """
        return drawn(self._study, kind, backend, **given)

    def __dir__(self) -> list[str]:
        return sorted(KINDS)

    def history(self, *, backend: Backend = "matplotlib") -> Any:
        """Every result in order, and the best so far."""
        return self("history", backend=backend)

    def importance(self, method: str = "ped-anova", *, backend: Backend = "matplotlib") -> Any:
        """What matters, with intervals."""
        return self("importance", backend=backend, method=method)

    def slice(self, *, backend: Backend = "matplotlib") -> Any:
        """Each parameter on its own, with its average effect."""
        return self("slice", backend=backend)

    def contour(self, x: str | None = None, y: str | None = None, *, backend: Backend = "matplotlib") -> Any:
        """Two parameters at once; the pair that acts together most when none is given."""
        return self("contour", backend=backend, x=x, y=y)

    def interactions(self, *, backend: Backend = "matplotlib") -> Any:
        """Pairs of parameters that act together."""
        return self("interactions", backend=backend)

    def parallel(self, *, backend: Backend = "matplotlib") -> Any:
        """Whole configurations, a line per trial."""
        return self("parallel", backend=backend)

    def ablation(self, *, backend: Backend = "matplotlib") -> Any:
        """What each change from the default to the best brought."""
        return self("ablation", backend=backend)

    def sensitivity(self, trial: int | None = None, *, backend: Backend = "matplotlib") -> Any:
        """What matters around a trial, the best when none is given."""
        return self("sensitivity", backend=backend, trial=trial)

    def curves(
        self, x: str = "step", top: int = 5, metric: str | None = None, *, backend: Backend = "matplotlib"
    ) -> Any:
        """Learning curves across steps or time, the best ``top`` trials in colour."""
        return self("curves", backend=backend, x=x, top=top, metric=metric)

    def cost(self, against: str | None = None, *, backend: Backend = "matplotlib") -> Any:
        """The best result against cost, time or trials."""
        return self("cost", backend=backend, against=against)

    def regret(self, known: float | None = None, *, backend: Backend = "matplotlib") -> Any:
        """Distance to the best result found, or to the best value known."""
        return self("regret", backend=backend, known=known)

    def edf(self, others: Sequence[Charted] = (), *, backend: Backend = "matplotlib") -> Any:
        """How results are distributed, of this study and others."""
        return self("edf", backend=backend, others=others)

    def stopping(self, more: int = 20, *, backend: Backend = "matplotlib") -> Any:
        """What more trials would bring."""
        return self("stopping", backend=backend, more=more)

    def timeline(self, *, backend: Backend = "matplotlib") -> Any:
        """Who trained when."""
        return self("timeline", backend=backend)

    def pareto(self, x: str | None = None, y: str | None = None, *, backend: Backend = "matplotlib") -> Any:
        """Two objectives against each other, and the front."""
        return self("pareto", backend=backend, x=x, y=y)

    def hypervolume(self, *, backend: Backend = "matplotlib") -> Any:
        """How the volume that the front dominates grew."""
        return self("hypervolume", backend=backend)

    def attainment(self, others: Sequence[Charted] = (), *, backend: Backend = "matplotlib") -> Any:
        """What parts of the trials, or several studies, attained."""
        return self("attainment", backend=backend, others=others)

    def surrogate(self, *, backend: Backend = "matplotlib") -> Any:
        """How well a model predicts trials that it has not seen."""
        return self("surrogate", backend=backend)

    def footprint(self, *, backend: Backend = "matplotlib") -> Any:
        """Where in the space the search went."""
        return self("footprint", backend=backend)

    def lineage(self, *, backend: Backend = "matplotlib") -> Any:
        """Whose weights each trial went on with."""
        return self("lineage", backend=backend)

    def transfer(
        self, parameter: str | None = None, horizon: str | None = None, *, backend: Backend = "matplotlib"
    ) -> Any:
        """The best rate by size, and what follows for the target of the study's scale."""
        return self("transfer", backend=backend, parameter=parameter, horizon=horizon)

    def inside(self, *, backend: Backend = "matplotlib") -> Any:
        """Hyperparameters that were tuned inside the best runs."""
        return self("inside", backend=backend)

    def chosen(self, *, backend: Backend = "matplotlib") -> Any:
        """What the optimizers of the best trials chose."""
        return self("chosen", backend=backend)


def drawn(study: Charted, kind: str, backend: Backend = "matplotlib", **given: Any) -> Any:
    """A chart, drawn.

    Args:
        study: The study.
        kind: One of ``plots.KINDS``.
        backend: Library to draw with.
        given: Options of the chart.

    Raises:
        ConfigError: If there is no such chart, option or backend, or the study has too few results.
        MissingExtra: If the library is not installed.
    """
    if backend not in ("matplotlib", "plotly", "svg"):
        raise ConfigError(
            f"A chart is drawn with matplotlib, plotly or svg; got {backend!r}. Choose one of them."
        )
    made = figure(study, kind, **given)
    if backend == "svg":
        return made
    if backend == "plotly":
        from tunewright.analysis.plotly_ import draw as with_plotly

        return with_plotly(made)
    from tunewright.analysis.matplotlib_ import by_pyplot

    return by_pyplot(made)
