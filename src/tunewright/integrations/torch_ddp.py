"""Trials over several PyTorch processes: rank 0 speaks to the study, all ranks start, stop and resume together.

Every rank calls the same functions at the same points, as with any collective of ``torch.distributed``. The process group
must be there, with any backend.

Example:
    A script for ``torchrun --nproc-per-node 4 train.py``::

        def train(trial):
            model = DistributedDataParallel(Net(trial["width"]))
            trial.keep(model=model)
            for epoch in trial.steps():
                loss = one_epoch(model, epoch)
                trial.report(epoch, loss=loss)

        dist.init_process_group()
        study = tw.Study.open(...) if dist.get_rank() == 0 else None
        run(study, train, trials=20)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tunewright.errors import ConfigError, RunError, missing_extra
from tunewright.integrations.reporting import Reports
from tunewright.study import Asked, Study

try:
    import torch.distributed as dist
except ImportError as error:
    raise missing_extra("torch", "torch") from error

__all__ = ["SharedTrial", "run"]


class SharedTrial:
    """A trial as each rank sees it.

    Args:
        trial: The trial on rank 0, None elsewhere: what a training function got, or what ``Study.ask`` gave.

    Attributes:
        params: Its parameters, on every rank.
        number: Its number.
        step: Steps done.
        until: Step at which this segment ends; None for a training without steps.
        seed: Seed of the trial; add the rank where ranks must differ.

    Raises:
        ConfigError: If there is no process group, or rank 0 has no trial.
    """

    def __init__(self, trial: Any) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise ConfigError(
                "A trial is shared over a process group; there is none. Call torch.distributed.init_process_group first."
            )
        self._trial = trial if dist.get_rank() == 0 else None
        told = _from_first(_described(self._trial))
        if told is None:
            raise ConfigError(
                "Rank 0 needs the trial; it got None. Pass it there, and None on the other ranks."
            )
        self.params: dict[str, Any] = told["params"]
        self.number, self.step, self.until = told["number"], told["step"], told["until"]
        self.seed: int = told["seed"]
        self._kept: dict[str, Any] = {}
        self._over = False

    def __getitem__(self, name: str) -> Any:
        return self.params[name]

    def keep(self, **objects: Any) -> None:
        """Keeps objects with ``state_dict`` in the trial's checkpoint, as ``trial.keep``: all ranks load, rank 0 saves.

        Needs a trial of a training function; one that was asked for keeps nothing.
        """
        checkpoint = getattr(self._trial, "checkpoint", None)
        tree = _from_first(None if checkpoint is None else checkpoint.load())
        self._kept.update(objects)
        if tree is not None:
            for name, thing in objects.items():
                thing.load_state_dict(tree[name])

    def steps(self, total: int | None = None) -> Iterator[int]:
        """The steps to train now, the same on every rank.

        Args:
            total: Steps of a full training, for studies opened without ``steps``.

        Raises:
            ConfigError: If neither the study nor the argument says how many steps there are.
        """
        end = self.until if self.until is not None else total
        if end is None:
            raise ConfigError(
                "A trial's steps need an end; the study has none. Open it with steps=... or say steps(total)."
            )
        while self.step < end and not self._over:
            following = self.step + 1
            yield following
            self.step = max(self.step, following)
        self.save()

    def report(self, step: int, **metrics: Any) -> bool:
        """Reports what rank 0 measured; every rank gets the same answer.

        Reduce measurements over the ranks first, such as with ``all_reduce``, where rank 0 alone does not know them.

        Returns:
            Whether to go on.

        Raises:
            RunError: On every rank, if rank 0 could not report.
        """
        answer: Any = None
        failed: Exception | None = None
        if self._trial is not None:
            speaker: Reports = self._trial
            try:
                answer = speaker.report(step, **metrics)
            except Exception as error:  # noqa: BLE001 - the other ranks wait for an answer, whatever it is
                failed, answer = error, f"{type(error).__name__}: {error}"
        answer = _from_first(answer)
        if failed is not None:
            raise failed
        if isinstance(answer, str):
            raise RunError(f"Rank 0 reports for all; it could not: {answer}. Look at its output.")
        self.step = max(self.step, step)
        self._over = not answer
        return bool(answer)

    def save(self) -> None:
        """Saves what is kept, on rank 0; the others wait until it is safe."""
        checkpoint = getattr(self._trial, "checkpoint", None)
        if self._kept and checkpoint is not None:
            checkpoint.save(**self._kept)
        dist.barrier()


def run(study: Study | None, train: Callable[[SharedTrial], Any], *, trials: int) -> None:
    """Trains trials one after another, each over all ranks; call it on every rank.

    An exception in ``train`` ends the trial as failed where every rank raises it; where only some do, the others wait in
    a collective until that times out.

    Args:
        study: The study on rank 0, None elsewhere.
        train: Trains one trial and returns the objective or a dict of metrics; what rank 0 returns counts.
        trials: Trials to begin in all, earlier ones included.

    Raises:
        ConfigError: If rank 0 has no study, or a result cannot be used.
    """
    if dist.get_rank() == 0 and study is None:
        raise ConfigError(
            "Rank 0 needs the study; it got None. Open it there, and pass None on the other ranks."
        )
    while True:
        asked = _next(study, trials) if study is not None else None
        if not _from_first(asked is not None):
            return
        _one(study, asked, train)


def _next(study: Study, trials: int) -> Asked | None:
    waiting = study.counts.get("waiting", 0) + study.counts.get("paused", 0)
    return study.ask() if len(study.trials) < trials or waiting else None


def _one(study: Study | None, asked: Asked | None, train: Callable[[SharedTrial], Any]) -> None:
    shared = SharedTrial(asked)
    try:
        value = train(shared)
    except Exception as error:  # noqa: BLE001 - what a training raises belongs to its trial
        if study is not None and asked is not None:
            study.tell(asked, outcome="failed", error=f"{type(error).__name__}: {error}")
        return
    if study is not None and asked is not None:
        study.tell(asked, value)


def _described(trial: Any) -> dict[str, Any] | None:
    """What every rank must know of a trial."""
    if trial is None:
        return None
    return {
        "params": dict(trial.params),
        "number": trial.number,
        "step": getattr(trial, "step", 0),
        "until": trial.until,
        "seed": getattr(trial, "seed", trial.number),
    }


def _from_first(value: Any) -> Any:
    """What rank 0 has, on every rank."""
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
