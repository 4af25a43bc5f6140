"""A model of any size: the function that builds it, and the size at which its settings are tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tunewright.errors import ConfigError
from tunewright.scaling.plans import Form, Plan, plan
from tunewright.scaling.rules.base import Optimizer, Role, Tuned


@dataclass(frozen=True, slots=True)
class Family:
    """Builds a model at any size, and its plan.

    Example:
        >>> from tunewright import scaling
        >>> from tunewright.bench.micro import Mlp
        >>> family = scaling.Family(Mlp, base={"width": 32})
        >>> family.plan("mup", width=128).entries["hidden.0.weight"].lr
        0.25

    Args:
        model_fn: Takes sizes by name and returns the model.
        base: Sizes at which settings are tuned, those that may grow.
        fixed: Other arguments of ``model_fn``.
        roles: Roles of tensors in modules that are not PyTorch's own, by name or pattern.
        branches: See ``scaling.plan``.

    Raises:
        ConfigError: If there is no base size.
    """

    model_fn: Callable[..., nn.Module]
    base: Mapping[str, int]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    roles: Mapping[str, Role] | None = None
    branches: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not len(self.base):
            raise ConfigError("A family needs the sizes that may grow; got none. Pass base={'width': 64}.")

    def sizes(self, **sizes: int) -> dict[str, int]:
        """All sizes, with those of the base where none is given.

        Raises:
            ConfigError: If one is not a size of the base, or not a whole number of at least 1.
        """
        for name, value in sizes.items():
            if name not in self.base:
                raise ConfigError(f"A size must be one of {', '.join(self.base)}; got {name!r}.")
            if int(value) != value or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1; got {value!r}.")
        return {**self.base, **sizes}

    def model(self, **sizes: int) -> nn.Module:
        """The model at a size, as its function builds it.

        Args:
            **sizes: As the base has them.

        Raises:
            ConfigError: If a size cannot be had.
        """
        found = self.sizes(**sizes)
        try:
            return self.model_fn(**found, **self.fixed)
        except ConfigError:
            raise
        except Exception as error:
            shown = ", ".join(f"{k}={v}" for k, v in found.items())
            raise ConfigError(
                f"{getattr(self.model_fn, '__name__', 'model_fn')} must build the model at {shown}; it raised "
                f"{type(error).__name__}: {error}. Choose sizes that fit each other."
            ) from error

    def _shaped(self, sizes: Mapping[str, int]) -> nn.Module:
        """The model without values, for its shapes."""
        with torch.device("meta"):
            return self.model(**sizes)

    def plan(
        self,
        name: str,
        *,
        optimizer: Optimizer = "adamw",
        form: Form = "multipliers",
        tuned: Tuned | None = None,
        model: nn.Module | None = None,
        **sizes: int,
    ) -> Plan:
        """The plan of the model at a size.

        Args:
            name: The parametrization.
            optimizer: What it is trained with.
            form: See ``scaling.plan``.
            tuned: Scale-free hyperparameters.
            model: The model at that size, if there is one; otherwise only its shapes are made.
            **sizes: As the base has them.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            base, delta = self.model(), self._shaped({k: 2 * v for k, v in self.base.items()})
            target = self._shaped(sizes) if model is None else model
        return plan(
            name,
            target,
            base,
            delta,
            optimizer=optimizer,
            roles=self.roles,
            branches=self.branches,
            form=form,
            tuned=tuned,
        )

    def build(
        self,
        name: str,
        seed: int = 0,
        *,
        optimizer: Optimizer = "adamw",
        form: Form = "multipliers",
        tuned: Tuned | None = None,
        **sizes: int,
    ) -> tuple[nn.Module, Plan]:
        """A model at a size with its plan applied, and the plan; what the plan leaves as it is depends on the seed alone, too."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.model(**sizes)
        made = self.plan(name, optimizer=optimizer, form=form, tuned=tuned, model=model, **sizes)
        made.apply_(model, seed)
        return model, made
