"""A model of any size: the function that builds it, and the size at which its settings are tuned."""

from __future__ import annotations

import inspect
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
        ConfigError: If there is no base size, a size is no whole number of at least 1, or a name is both a size and fixed.
    """

    model_fn: Callable[..., nn.Module]
    base: Mapping[str, int]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    roles: Mapping[str, Role] | None = None
    branches: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not len(self.base):
            raise ConfigError("A family needs the sizes that may grow; got none. Pass base={'width': 64}.")
        for name, value in self.base.items():
            _whole(name, value)
            if name in self.fixed:
                raise ConfigError(
                    f"An argument is either a size that may grow or fixed; {name} is both. Name it once."
                )

    def sizes(self, **sizes: int) -> dict[str, int]:
        """All sizes, with those of the base where none is given.

        Raises:
            ConfigError: If one is not a size of the base, or not a whole number of at least 1.
        """
        for name, value in sizes.items():
            if name not in self.base:
                raise ConfigError(
                    f"A size must be one of {', '.join(self.base)}; got {name!r}. Correct the name, or give it a base size."
                )
            _whole(name, value)
        return {**self.base, **sizes}

    def model(self, **sizes: int) -> nn.Module:
        """The model at a size, as its function builds it.

        Args:
            **sizes: As the base has them.

        Raises:
            ConfigError: If a size cannot be had, or what is built is no module.
        """
        found = self.sizes(**sizes)
        try:
            made = self.model_fn(**found, **self.fixed)
        except ConfigError:
            raise
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(
                f"{self._shown(found)} must be a model; it raised {said}. {self._hint(found)}"
            ) from error
        if not isinstance(made, nn.Module):
            raise ConfigError(
                f"{self._shown(found)} must return a torch.nn.Module; got {type(made).__name__}. Return the model from the function."
            )
        return made

    def _shown(self, sizes: Mapping[str, int]) -> str:
        name = getattr(self.model_fn, "__name__", type(self.model_fn).__name__)
        return f"{name}({', '.join(f'{k}={v}' for k, v in sizes.items())})"

    def _hint(self, sizes: Mapping[str, int]) -> str:
        """What to do about a model that cannot be built."""
        try:
            inspect.signature(self.model_fn).bind(**sizes, **self.fixed)
        except TypeError:
            return "The function must take the sizes and fixed arguments by these names."
        except ValueError:  # of a function in C nothing is known
            pass
        return "Choose sizes that fit each other."

    def _shaped(self, sizes: Mapping[str, int]) -> nn.Module:
        """The model without values where it can be had so, for its shapes; some look at values while they are built."""
        try:
            with torch.device("meta"):
                return self.model(**sizes)
        except ConfigError:
            return self.model(**sizes)

    def _other(self) -> nn.Module | None:
        """The model at twice its base sizes, which shows what grows; None where it cannot be built at those."""
        try:
            return self._shaped({k: 2 * v for k, v in self.base.items()})
        except ConfigError:
            return None

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
            base, delta = self.model(), self._other()
            target = self._shaped(sizes) if model is None else model
        if delta is not None and _sizes_of(base) == _sizes_of(delta) != []:
            raise ConfigError(
                f"Sizes must change the model; {self._shown(self.base)} and the same at twice that have equal shapes. Let the "
                "function use what it takes."
            )
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


def _whole(name: str, value: Any) -> None:
    try:
        whole = not isinstance(value, bool) and int(value) == value >= 1
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise ConfigError(
            f"{name} must be a whole number of at least 1; got {value!r}. Write it like {name}=64."
        )


def _sizes_of(model: nn.Module) -> list[tuple[int, ...]]:
    lazy = nn.parameter.UninitializedParameter
    return [() if isinstance(p, lazy) else tuple(p.shape) for p in model.parameters()]
