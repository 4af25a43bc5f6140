"""What ``scale check`` runs and draws, imported when a check is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.errors import ConfigError
from tunewright.scaling.checking import Batches, Check, Loss, Make, made_up, usual_loss
from tunewright.scaling.families import Family


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks of every check.

    Attributes:
        family: The model of any size.
        rule: The parametrization.
        optimizer: What it is trained with.
        batches: Data.
        loss: Of outputs and targets.
        lr: Base rate, if given.
        rates: Base rates to compare, if given.
        steps: Of a training, if given.
        seeds: How many.
    """

    family: Family
    rule: str
    optimizer: Any
    batches: Batches
    loss: Loss
    lr: float | None
    rates: tuple[float, ...]
    steps: int | None
    seeds: int

    @classmethod
    def of(cls, family: Family, rule: str, optimizer: str, **given: Any) -> Asked:
        """Reads the options of the command.

        Raises:
            ConfigError: If a number is out of range, or a function is not there.
        """
        from tunewright.cli.sweep import load_function

        for name in ("lr", "steps", "seeds"):
            if given[name] is not None and not given[name] > 0:
                raise ConfigError(f"--{name} must be positive; got {given[name]:g}.")
        batches: Any = load_function(given["data"]) if given["data"] else made_up(family.model())
        loss: Any = load_function(given["loss"]) if given["loss"] else usual_loss
        rates = _numbers(given["rates"] or "")
        return cls(family, rule, optimizer, batches, loss, given["lr"], rates, given["steps"], given["seeds"])

    @property
    def make(self) -> Make | None:
        """Builds the optimizers that PyTorch has not."""
        if self.optimizer != "adam-atan2":
            return None
        from tunewright.optim.adam_atan2 import AdamAtan2

        return AdamAtan2

    @property
    def rate(self) -> float:
        """The base rate of steps."""
        return self.lr or (2.0**-4 if self.optimizer == "sgd" else 2.0**-7)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise ConfigError(
            f"Rates are numbers with commas between; got {text!r}. Write them like 0.001,0.002."
        ) from None


def run(asked: Asked, kind: str, ladders: Mapping[str, tuple[int, ...]]) -> Iterator[Check]:
    """The checks of a kind, one for each dimension."""
    from tunewright.scaling.coordinates import coordinate_check

    common: dict[str, Any] = {"loss": asked.loss, "optimizer": asked.optimizer, "seeds": range(asked.seeds)}
    for along, sizes in ladders.items():
        where = {"along": along, "sizes": sizes, **common}
        if kind == "coordinates":
            yield coordinate_check(
                asked.family,
                asked.rule,
                asked.batches,
                steps=asked.steps or 3,
                lr=asked.rate,
                make=asked.make,
                **where,
            )


def drawn(found: list[Check], path: Path) -> None:
    """Draws checks into a file."""
