"""The class and the settings that Hydra looks for; Hydra imports this at every start, so the work is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional  # noqa: UP035 - OmegaConf reads these at run time

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class TunewrightSweeperConf:
    """Settings of the sweeper, under ``hydra.sweeper``.

    Attributes:
        study: Name of the study; None for the name of the job.
        storage: Path or URL of the store; None for ``.tunewright/studies.db`` here or above.
        minimize: Metric or metrics to make small; ``loss`` when neither this nor ``maximize`` is given.
        maximize: Metric or metrics to make large.
        trials: Trials in all, those of earlier calls included.
        n_jobs: Trials handed to the launcher at a time.
        method: What proposes; ``auto`` or a name from ``tunewright methods``.
        options: Options of the method.
        limits: Largest acceptable value of other metrics.
        steps: Steps of a full training, or ``[fewest, full]``, for jobs that report by step.
        seed: Root of all randomness.
        failures: When to give up: ``auto``, a number of failures, or null for never.
        params: What to search, as in overrides: ``lr: tag(log, interval(1e-5, 1e-1))``.
    """

    _target_: str = "hydra_plugins.tunewright_sweeper.sweeper.TunewrightSweeper"
    study: Optional[str] = None  # noqa: UP045
    storage: Optional[str] = None  # noqa: UP045
    minimize: Any = None
    maximize: Any = None
    trials: int = 20
    n_jobs: int = 1
    method: str = "auto"
    options: Dict[str, Any] = field(default_factory=dict)  # noqa: UP006
    limits: Dict[str, float] = field(default_factory=dict)  # noqa: UP006
    steps: Any = None
    seed: Optional[int] = None  # noqa: UP045
    failures: Any = "auto"
    params: Dict[str, Any] = field(default_factory=dict)  # noqa: UP006


ConfigStore.instance().store(
    group="hydra/sweeper", name="tunewright", node=TunewrightSweeperConf, provider="tunewright"
)


class TunewrightSweeper(Sweeper):
    """Runs a study whose trials are Hydra's jobs; settings as in ``TunewrightSweeperConf``."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._sweep: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra with the primary config."""
        from tunewright.integrations.hydra import Sweep

        self._sweep = Sweep(self._settings, hydra_context, task_function, config)

    def sweep(self, arguments: List[str]) -> Any:  # noqa: UP006
        """Called by Hydra with the overrides of the command line."""
        return self._sweep.run(arguments)
