"""Checkpoints of PyTorch trainings that go on bit for bit; raises MissingExtra on import where that is not installed.

Example:
    One line keeps everything that a training changes::

        from tunewright.integrations.torch import ResumableLoader, TrainingState

        def train(trial):
            torch.manual_seed(trial.seed)
            model, loader = Net(), ResumableLoader(dataset, 64, seed=trial.seed)
            optimizer = torch.optim.SGD(model.parameters(), lr=trial["lr"])
            trial.keep(state=TrainingState(model=model, optimizer=optimizer, loader=loader))
            for epoch in trial.steps():
                for x, y in loader:
                    ...
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sized
from typing import Any, Literal

import numpy as np

from tunewright.errors import CheckpointError, ConfigError, missing_extra

try:
    import torch
    from torch.utils.data import DataLoader, Dataset
except ImportError as error:
    raise missing_extra("torch", "torch") from error

__all__ = ["ResumableLoader", "ResumableSampler", "TrainingState"]

_SCALED = ("lr", "_last_lr")


class ResumableSampler:
    """Indices of a dataset in an order that depends on seed and epoch only, and that can be taken up anywhere.

    For a ``DataLoader`` of your own without worker processes; with them the loader reads ahead of the training, and
    ``ResumableLoader`` counts right. Every iteration goes on at ``offset``; at its end the next epoch begins.

    Args:
        data: A dataset, or its number of items.
        seed: Root of the orders.
        shuffle: Whether every epoch has an order of its own.

    Attributes:
        epoch: Epochs that are over.
        offset: Indices of this epoch that were handed out.

    Raises:
        ConfigError: If there are no items, or the seed is negative.
    """

    def __init__(self, data: Sized | int, *, seed: int = 0, shuffle: bool = True) -> None:
        self.n = data if isinstance(data, int) else len(data)
        self.seed, self.shuffle = seed, shuffle
        self.epoch = self.offset = 0
        if self.n < 1 or seed < 0:
            raise ConfigError(
                f"A sampler needs items and a seed >= 0; got {self.n} items, seed {seed}. Correct them."
            )

    def order(self) -> list[int]:
        """All indices of this epoch."""
        if not self.shuffle:
            return list(range(self.n))
        return list(np.random.default_rng((self.seed, self.epoch)).permutation(self.n).tolist())

    def __iter__(self) -> Iterator[int]:
        for index in self.order()[self.offset :]:
            self.offset += 1
            yield index
        self.epoch, self.offset = self.epoch + 1, 0

    def __len__(self) -> int:
        return self.n

    def state_dict(self) -> dict[str, int]:
        """Where it is."""
        return {"n": self.n, "seed": self.seed, "epoch": self.epoch, "offset": self.offset}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Goes to where a sampler over as many items was; its seed comes along, for the epoch may be half done.

        Raises:
            CheckpointError: If the number of items is another one.
        """
        if state["n"] != self.n:
            raise CheckpointError(
                f"A sampler goes on over the same data; the checkpoint has {state['n']} items, got {self.n}. "
                f"Use the same dataset."
            )
        self.seed, self.epoch, self.offset = state["seed"], state["epoch"], state["offset"]


class ResumableLoader:
    """A ``DataLoader`` in a ``ResumableSampler``'s order that knows which batch the training has got to.

    ``for batch in loader`` gives the rest of the epoch; leaving the loop early and coming back goes on with the next
    batch. It takes nothing from the global generators. Exact with any number of worker processes, unless items are
    augmented at random there.

    Args:
        dataset: The data.
        batch_size: Items per batch.
        seed: Root of the orders.
        shuffle: Whether every epoch has an order of its own.
        drop_last: Whether a last batch that is not full is left out.
        **options: Passed on to ``DataLoader``, for instance ``num_workers`` and ``collate_fn``.

    Attributes:
        epoch: Epochs that are over.
        batch: Batches of this epoch that the training has got.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int = 1,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        **options: Any,
    ) -> None:
        self._sampler = ResumableSampler(dataset, seed=seed, shuffle=shuffle)  # type: ignore[arg-type]
        own = torch.Generator().manual_seed(seed)
        self._loader: DataLoader[Any] = DataLoader(
            dataset, batch_size, sampler=self._sampler, drop_last=drop_last, generator=own, **options
        )
        self._size = batch_size
        self.epoch = self.batch = 0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        self._sampler.epoch, self._sampler.offset = self.epoch, self.batch * self._size
        # Counted before it is handed over: a checkpoint is saved while the training holds the batch.
        for batch in self._loader:
            self.batch += 1
            yield batch
        self.epoch, self.batch = self.epoch + 1, 0

    def forever(self) -> Iterator[Any]:
        """Batches epoch after epoch, for trainings that count batches."""
        while True:
            yield from self

    def state_dict(self) -> dict[str, int]:
        """Where the training is."""
        return {**self._sampler.state_dict(), "epoch": self.epoch, "offset": 0, "batch": self.batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Goes to where a loader over the same data was; its order comes along, for the epoch may be half done.

        Raises:
            CheckpointError: If the number of items is another one.
        """
        self._sampler.load_state_dict(state)
        self.epoch, self.batch = state["epoch"], state["batch"]


class TrainingState:
    """Everything that a PyTorch training changes, as one object with ``state_dict`` and ``load_state_dict``.

    Make it when model, optimizer and schedule are ready, right before ``trial.keep(state=...)``. Loading puts back
    weights, the optimizer's moments, the position in schedule and data, and all generators, so that training goes on
    as if it had never paused: bit for bit on one machine with deterministic operations.

    A fork has a configuration of its own and its donor's state. By default a hyperparameter that was given another
    value than the donor had been given keeps the new one; for a learning rate under a schedule that means the donor's
    present rate times the new one over the old one. What was given the same value goes on from the saved one.

    Args:
        model: The module.
        optimizer: The optimizer.
        scheduler: The learning-rate schedule.
        scaler: The gradient scaler of mixed precision.
        loader: A ``ResumableLoader`` or ``ResumableSampler``.
        rng: Whether the global generators of PyTorch, CUDA, NumPy and Python are kept as well.
        hyperparameters: ``"given"`` as described; ``"saved"`` takes those of the checkpoint.
        **others: Generators of NumPy and PyTorch, and whatever else has ``state_dict`` and ``load_state_dict``.

    Raises:
        ConfigError: If something has no ``state_dict``.
    """

    def __init__(
        self,
        model: Any = None,
        optimizer: Any = None,
        scheduler: Any = None,
        scaler: Any = None,
        loader: Any = None,
        *,
        rng: bool = True,
        hyperparameters: Literal["given", "saved"] = "given",
        **others: Any,
    ) -> None:
        named = {
            "model": model,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "scaler": scaler,
            "loader": loader,
            **others,
        }
        self._parts = {k: v for k, v in named.items() if v is not None}
        self._rng, self._adopts = rng, hyperparameters == "given"
        for name, part in self._parts.items():
            if not isinstance(part, np.random.Generator | torch.Generator) and not hasattr(
                part, "state_dict"
            ):
                raise ConfigError(
                    f"A training's state needs parts with state_dict, or generators; '{name}' is a "
                    f"{type(part).__name__}. Leave it out, or give it the two methods."
                )
        self._given = self._hyperparameters()

    def _hyperparameters(self) -> dict[str, Any]:
        """What the caller has set: before the first step nothing else is in these states."""
        given: dict[str, Any] = {}
        if "optimizer" in self._parts:
            given["optimizer"] = _copied(self._parts["optimizer"].state_dict()["param_groups"])
        if "scheduler" in self._parts:
            given["scheduler"] = _copied(self._parts["scheduler"].state_dict())
        return given

    def state_dict(self) -> dict[str, Any]:
        """All parts, what the caller had given, and the generators."""
        state = {name: _state(part) for name, part in self._parts.items()}
        return {"parts": state, "given": self._given, "rng": _generators() if self._rng else {}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts everything back.

        Raises:
            CheckpointError: If a part is missing in the checkpoint.
        """
        parts = dict(state["parts"])
        for name in self._parts:
            if name not in parts:
                raise CheckpointError(
                    f"A checkpoint must hold '{name}'; it has {sorted(parts)}. Save the same parts."
                )
        if self._adopts:
            self._adopt(parts, state["given"])
        for name, part in self._parts.items():
            _restore(part, parts[name])
        if self._rng and state["rng"]:
            _restore_generators(state["rng"])

    def _adopt(self, parts: dict[str, Any], before: Mapping[str, Any]) -> None:
        """Changes the saved hyperparameters where the caller gives others than before."""
        if "optimizer" in self._given and "optimizer" in before:
            groups = _merged(
                parts["optimizer"]["param_groups"], before["optimizer"], self._given["optimizer"]
            )
            parts["optimizer"] = {**parts["optimizer"], "param_groups": groups}
        if "scheduler" in self._given and "scheduler" in before:
            parts["scheduler"] = _merged(parts["scheduler"], before["scheduler"], self._given["scheduler"])


def _merged(saved: Any, before: Any, given: Any, key: str = "") -> Any:
    """What was saved, with the values put in that are given now and were not given before."""
    if isinstance(saved, dict) and isinstance(before, dict) and isinstance(given, dict):
        return {
            k: _merged(v, before[k], given[k], str(k)) if k in before and k in given else v
            for k, v in saved.items()
        }
    if isinstance(saved, list) and isinstance(before, list) and len(saved) == len(before) == len(given):
        return [_merged(*three, key) for three in zip(saved, before, given, strict=True)]
    if _same(before, given):
        return saved
    if key in _SCALED and not _same(saved, before) and float(before):
        return saved * (given / before)
    return given


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a.cpu(), b.cpu())
    return bool(a == b)


def _copied(node: Any) -> Any:
    """A tree that later steps do not change; functions and the like are left out."""
    if isinstance(node, dict):
        return {k: _copied(v) for k, v in node.items() if _plain(v)}
    if isinstance(node, list | tuple):
        return type(node)(_copied(v) for v in node)
    return node.clone() if isinstance(node, torch.Tensor) else node


def _plain(node: Any) -> bool:
    return node is None or isinstance(node, bool | int | float | str | dict | list | tuple | torch.Tensor)


def _state(part: Any) -> Any:
    """State of one part; whole numbers of NumPy's generators are longer than a checkpoint takes, so they are text."""
    if isinstance(part, np.random.Generator):
        return _lettered(part.bit_generator.state)
    return part.get_state() if isinstance(part, torch.Generator) else part.state_dict()


def _restore(part: Any, state: Any) -> None:
    if isinstance(part, np.random.Generator):
        part.bit_generator.state = _numbered(state)
    elif isinstance(part, torch.Generator):
        part.set_state(state)
    else:
        part.load_state_dict(state)


def _lettered(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _lettered(v) for k, v in node.items()}
    return f"#{node}" if isinstance(node, int) else node


def _numbered(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _numbered(v) for k, v in node.items()}
    return int(node[1:]) if isinstance(node, str) and node.startswith("#") else node


def _generators() -> dict[str, Any]:
    """States of the global generators."""
    version, words, gauss = random.getstate()
    name, key, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - whatever the training uses
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, np.asarray(key), int(position), int(has_gauss), float(cached)),
        "python": (version, np.array(words, dtype=np.int64), gauss),
    }


def _restore_generators(state: Mapping[str, Any]) -> None:
    """A machine with other devices takes up as many of their generators as it has."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        for device, one in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(one, device)
    np.random.set_state(state["numpy"])  # noqa: NPY002 - whatever the training uses
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
