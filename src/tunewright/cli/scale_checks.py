"""What ``scale check`` runs, imported when a check is wanted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.errors import ConfigError
from tunewright.optim.schedules.warmup_probe import WarmupProbe, warmup_probe
from tunewright.scaling.checking import Batches, Check, Loss, Make, made_up, take, text_table, usual_loss
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
            if given[name] is not None and not 0 < given[name] < math.inf:
                raise ConfigError(
                    f"--{name} must be positive; got {given[name]:g}. Correct it or leave it out."
                )
        batches: Any = load_function(given["data"]) if given["data"] else made_up(family.model())
        loss: Any = load_function(given["loss"]) if given["loss"] else usual_loss
        rates = _numbers(given["rates"] or "")
        return cls(family, rule, optimizer, batches, loss, given["lr"], rates, given["steps"], given["seeds"])

    @property
    def make(self) -> Make | None:
        """Builds the optimizers that PyTorch has not."""
        if self.optimizer == "adam-atan2":
            from tunewright.optim.adam_atan2 import AdamAtan2

            return lambda plan, model, lr: AdamAtan2(plan.param_groups(lr, model=model))
        if self.optimizer == "kfac":
            from tunewright.optim.kfac import Kfac

            return lambda plan, model, lr: Kfac(
                plan.param_groups(lr, model=model, eps=1e-2), model, momentum=0.0, eps=1e-2
            )
        if self.optimizer == "shampoo":
            from tunewright.optim.shampoo import Shampoo

            return lambda plan, model, lr: Shampoo(
                plan.param_groups(lr, model=model, eps=1e-6), momentum=0.0, eps=1e-6
            )
        return None

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
    for along, sizes in ladders.items():
        where: dict[str, Any] = {"along": along, "sizes": sizes, "loss": asked.loss, "make": asked.make}
        where |= {"optimizer": asked.optimizer, "seeds": range(asked.seeds)}
        steps: dict[str, Any] = {} if asked.steps is None else {"steps": asked.steps}
        where |= {"family": asked.family, "rule": asked.rule, "batches": asked.batches}
        if kind == "coordinates":
            from tunewright.scaling.coordinates import coordinate_check

            yield coordinate_check(lr=asked.rate, **where, **steps)
        elif kind == "rates":
            from tunewright.scaling.rates import POWERS, rate_check

            rates = asked.rates or tuple(r * (16 if asked.optimizer == "sgd" else 1) for r in POWERS)
            swept = asked.optimizer in ("sgd", "adam", "adamw", "adam-atan2", "lion")
            yield rate_check(rates=rates, **{**where, "make": None if swept else asked.make}, **steps)
        elif kind == "sharpness":
            from tunewright.scaling.sharpness import sharpness_check

            if asked.steps is not None:
                steps["moments"] = min(7, asked.steps)
            yield sharpness_check(lr=asked.rate, **where, **steps)
        else:
            yield Warmups.of(asked, along, sizes)


@dataclass(frozen=True, slots=True, eq=False)
class Warmups:
    """The warm-up probe at every size.

    Attributes:
        along: The dimension that grew.
        probes: By size.
    """

    along: str
    probes: dict[int, WarmupProbe]

    @classmethod
    def of(cls, asked: Asked, along: str, sizes: tuple[int, ...]) -> Warmups:
        """Probes the first seed's model of every size on the first batches."""

        def loss(model: Any, batch: Any) -> Any:
            return asked.loss(model(batch[0]), batch[1])

        found = {}
        for size in sizes:
            at: dict[str, Any] = {along: size}
            model, _ = asked.family.build(asked.rule, 0, optimizer=asked.optimizer, **at)
            found[size] = warmup_probe(model, loss, take(asked.batches(0), 4), steps=asked.steps)
        return cls(along, found)

    @property
    def passed(self) -> bool:
        """Whether every size gets the same verdict."""
        return len({p.verdict for p in self.probes.values()}) == 1

    @property
    def why(self) -> str:
        """The verdict at the largest size."""
        last = list(self.probes.values())[-1]
        length = f", {last.steps} steps of it" if last.steps else ""
        same = (
            "At every size"
            if self.passed
            else f"Not at every size, but at {self.along} {list(self.probes)[-1]}"
        )
        return f"{same} warm-up is {last.verdict}{length}. {last.why}"

    def table(self) -> str:
        """A line per size."""
        rows = [
            (str(size), p.verdict, str(p.steps), f"{p.growth:.2f}", f"{p.stream:.2f}")
            for size, p in self.probes.items()
        ]
        head = (
            self.along,
            "warm-up",
            "steps",
            "gradients, last over first block",
            "stream, last over first block",
        )
        return text_table(head, rows)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        probes = {
            str(size): {"verdict": p.verdict, "steps": p.steps, "growth": p.growth, "stream": p.stream}
            for size, p in self.probes.items()
        }
        return {
            "kind": "warmup",
            "along": self.along,
            "passed": self.passed,
            "why": self.why,
            "probes": probes,
        }
