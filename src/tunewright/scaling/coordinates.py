"""Coordinate check: whether activations, and what a few steps change of them, keep their size as a model grows.

*Use when*: a model has got a parametrization: a wrong role, a forgotten multiplier or a layer that nobody scales shows within
seconds, long before a training fails.

*Do not use when*: weight decay is in question, or a training is long: the check sees the first steps only. Coupled decay under muP
with Adam passes it and does harm.

*Paper*: Yang et al. 2022, arXiv:2203.03466, appendix D.1 and figure 5 (coordinates against width after t steps).

*Differs*: the paper looks at plots. Here the change of every module's output gets a slope in log-log over sizes, by least squares
for each seed, and the check passes if no mean slope is beyond a bound by more than its standard error. Activations before any step
are reported, not judged: scores that vanish with the width at initialisation are right under muP.

*Cost*: steps times sizes times seeds gradients.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunewright.errors import ConfigError
from tunewright.scaling.checking import (
    DROPOUT,
    Batches,
    Builder,
    Floats,
    Loss,
    Make,
    ladder,
    loss_of,
    names_of,
    optimizer_of,
    slope,
    stream,
    text_table,
    usual_loss,
    without_chance,
)
from tunewright.scaling.multipliers import unreached
from tunewright.scaling.plans import ScalingWarning
from tunewright.scaling.rules.base import Optimizer

BOUND = 0.25
"""Half of the smallest power of the size, 1/2, by which a wrong scale errs."""
_QUIET = (nn.Identity, nn.Sequential, nn.ModuleList, *DROPOUT)


@dataclass(frozen=True, slots=True, eq=False)
class Coordinates:
    """What a coordinate check saw, for ``s`` sizes, ``r`` seeds, ``t`` steps and ``k`` modules.

    Attributes:
        rule: The parametrization.
        optimizer: What stepped.
        lr: Base rate.
        along: The dimension that grew.
        sizes: Its sizes, shape ``(s,)``.
        modules: Names; ``output`` is what the model returns, ``name#2`` the second call of a module.
        activations: Root mean square of outputs before each step and after the last, shape ``(s, r, t + 1, k)``.
        changes: Root mean square of what the outputs for the same batch have changed since the beginning, after each step,
            shape ``(s, r, t, k)``.
        bound: Largest slope that passes.
    """

    rule: str
    optimizer: str
    lr: float
    along: str
    sizes: tuple[int, ...]
    modules: tuple[str, ...]
    activations: Floats
    changes: Floats
    bound: float = BOUND

    @property
    def slopes(self) -> dict[str, float]:
        """Mean slope over seeds of the change after the last step, by module; those that never change are left out.

        It is infinite where a change is not finite, or is zero at some sizes and not at others.
        """
        return {m: mean for m, (mean, _) in self._measured.items()}

    @property
    def errors(self) -> dict[str, float]:
        """Standard error of each mean slope; 0 with one seed."""
        return {m: error for m, (_, error) in self._measured.items()}

    @property
    def _measured(self) -> dict[str, tuple[float, float]]:
        """Mean slope and its standard error by module."""
        last = self.changes[:, :, -1]
        found = slope(self.sizes, last)
        out: dict[str, tuple[float, float]] = {}
        for i, name in enumerate(self.modules):
            seeds = found[:, i].copy()
            still = (last[:, :, i] == 0).all(axis=0)
            seeds[np.isnan(seeds)] = -np.inf  # of those that move at some sizes only
            seeds = seeds[~still]
            if not len(seeds):
                continue
            sure = len(seeds) < 2 or not np.isfinite(seeds).all()
            error = 0.0 if sure else float(seeds.std(ddof=1) / len(seeds) ** 0.5)
            out[name] = (float(seeds.mean()), error)
        return out

    @property
    def worst(self) -> tuple[str, float]:
        """The module whose change follows the size most, and its slope."""
        found, errors = self.slopes, self.errors
        if not found:
            return "output", float("nan")
        name = max(found, key=lambda m: abs(found[m]) - errors[m])
        return name, found[name]

    @property
    def passed(self) -> bool:
        """Whether no slope is beyond the bound by more than its standard error, and none's error is beyond it."""
        name, value = self.worst
        errors = self.errors
        return abs(value) - errors.get(name, 0.0) <= self.bound and max(errors.values()) <= self.bound

    @property
    def why(self) -> str:
        """The verdict in a sentence."""
        name, value = self.worst
        if np.isnan(value):
            return "Nothing changed in any step: no module's output depends on a trained weight."
        if np.isinf(value) and np.isfinite(self.changes).all():
            return f"The output of {name} changes at some sizes and not at all at others: something is not trained or is cut off there."
        if np.isinf(value):
            return f"Training broke down: the output of {name} is not finite after {self.changes.shape[2]} steps; try a smaller rate."
        if self.passed:
            return f"No change of an output follows the {self.along}: the steepest slope is {value:+.2f}, at {name}."
        errors = self.errors
        if abs(value) - errors[name] <= self.bound:
            name = max(errors, key=lambda m: errors[m])
            return f"Seeds differ too much to tell: the slope at {name} is known to +- {errors[name]:.2f} only; take more seeds."
        way = "grows with" if value > 0 else "dies out with"
        return f"What {self.changes.shape[2]} steps change at {name} {way} the {self.along}: slope {value:+.2f}, at most {self.bound:g}."

    def table(self) -> str:
        """A line per module: changes at the first and the last size, slope of the change, slope of the output at the beginning."""
        slopes, errors = self.slopes, self.errors
        start = slope(self.sizes, self.activations[:, :, 0]).mean(axis=0)
        rows = []
        for i, name in enumerate(self.modules):
            if name not in slopes:
                continue
            first, last = (float(_middle(self.changes[j, :, -1, i])) for j in (0, -1))
            mark = "" if abs(slopes[name]) - errors[name] <= self.bound else "  <"
            rows.append(
                (
                    name,
                    f"{first:.3g}",
                    f"{last:.3g}",
                    f"{slopes[name]:+.2f} +- {errors[name]:.2f}",
                    f"{start[i]:+.2f}{mark}",
                )
            )
        head = (
            "module",
            f"change at {self.sizes[0]}",
            f"at {self.sizes[-1]}",
            "slope",
            "slope at start",
        )
        return text_table(head, rows)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "kind": "coordinates",
            "rule": self.rule,
            "optimizer": self.optimizer,
            "lr": self.lr,
            "along": self.along,
            "sizes": list(self.sizes),
            "passed": self.passed,
            "why": self.why,
            "bound": self.bound,
            "slopes": self.slopes,
            "errors": self.errors,
            "changes": {
                m: [float(v) for v in _middle(self.changes[:, :, -1, i], axis=1)]
                for i, m in enumerate(self.modules)
            },
            "activations": {
                m: [float(v) for v in _middle(self.activations[:, :, 0, i], axis=1)]
                for i, m in enumerate(self.modules)
            },
        }


def _middle(values: Floats, axis: int = -1) -> Floats:
    """Geometric mean."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(np.log(values).mean(axis=axis)))


def coordinate_check(
    family: Builder,
    rule: str,
    batches: Batches,
    *,
    along: str = "width",
    sizes: Sequence[int] = (32, 64, 128, 256, 512, 1024, 2048),
    steps: int = 3,
    lr: float = 2**-7,
    optimizer: Optimizer = "adam",
    seeds: Sequence[int] = (0, 1, 2),
    loss: Loss | None = None,
    make: Make | None = None,
    bound: float = BOUND,
) -> Coordinates:
    """Trains a model of every size for a few steps and measures what every module puts out.

    Args:
        family: Builds the model at any size.
        rule: The parametrization.
        batches: From a seed, inputs and targets; the first batch is the one that outputs are measured on.
        along: The dimension that grows, others stay at the base.
        sizes: Two or more.
        steps: Of training; with zero-initialised layers at least 2, as their inputs learn only from the second on.
        lr: Base rate, about the best at the base size.
        optimizer: Which rates the plan gives, and what steps.
        seeds: Each is a first model and a stream of batches.
        loss: Of the model's output and the targets; see ``usual_loss``.
        make: Builds the optimizer from plan, model and rate, for those that PyTorch has not.
        bound: Largest slope of a change that passes.

    Raises:
        ConfigError: If there are too few sizes, seeds or steps, or batches end.
    """
    found = ladder(family, along, sizes)
    if steps < 1 or not len(seeds) or not 0 < lr < np.inf:
        raise ConfigError(
            f"A coordinate check needs a step, a seed and a positive rate; got steps={steps}, {len(seeds)} seeds, lr={lr:g}."
        )
    loss = loss or usual_loss
    seen: list[list[list[dict[str, Tensor]]]] = []
    for size in found:
        seen.append([])
        for seed in seeds:
            model, plan = family.build(rule, seed, optimizer=optimizer, **{along: size})
            stepper = optimizer_of(plan, model, lr, make)
            if not seen[-1]:
                _look(copy.deepcopy(model), loss, *next(stream(batches, seed)))
            # Hooks see nothing of what is compiled; what was compiled is the same model.
            model = getattr(model, "_orig_mod", model)
            seen[-1].append(_outputs(without_chance(model), stepper, stream(batches, seed), loss, steps))
    common = [m for m in seen[0][0][0] if all(m in step for size in seen for run in size for step in run)]
    shape = (len(found), len(seeds), steps + 1, len(common))
    activations = np.array(
        [_rms(step[m]) for size in seen for run in size for step in run for m in common]
    ).reshape(shape)
    changes = np.array(
        [_rms(step[m] - run[0][m]) for size in seen for run in size for step in run[1:] for m in common]
    ).reshape(len(found), len(seeds), steps, len(common))
    return Coordinates(rule, optimizer, lr, along, found, tuple(common), activations, changes, bound)


def _look(model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> None:
    """Whether a copy of the model takes the data and uses what the plan multiplies."""
    loss_of(model, loss, x, y)
    lost = unreached(model, x)
    if lost:
        warnings.warn(
            f"The plan multiplies at {' and '.join(lost)}, which the forward pass never calls: its weights are used by other means, and "
            "the factor is lost. Call the module, or multiply there.",
            ScalingWarning,
            3,
        )


def _outputs(
    model: nn.Module, stepper: torch.optim.Optimizer, pairs: Any, loss: Loss, steps: int
) -> list[dict[str, Tensor]]:
    """Outputs of all modules on the first batch, before each step and after the last."""
    first = next(pairs)
    out = [_forward(model, first[0])]
    x, y = first
    for step in range(steps):
        if step:
            x, y = next(pairs)
        stepper.zero_grad()
        torch.autograd.backward(loss_of(model, loss, x, y))
        stepper.step()
        out.append(_forward(model, first[0]))
    return out


def _forward(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What every module puts out; a hook sees it after the plan's multipliers, which were hung on before."""
    found: dict[str, Tensor] = {}
    calls: dict[str, int] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) and output else output
            tensor = tensor if isinstance(tensor, Tensor) else getattr(output, "logits", None)
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                return
            calls[name] = calls.get(name, 0) + 1
            key = name if calls[name] == 1 else f"{name}#{calls[name]}"
            if name == "output":
                for other in [k for k, v in found.items() if v is tensor]:
                    del found[other]
            found[key] = tensor

        return hook

    modules = {n: m for n, m in names_of(model).items() if n == "output" or not isinstance(m, _QUIET)}
    hooks = [m.register_forward_hook(note(n)) for n, m in modules.items()]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return {n: v.detach() for n, v in found.items()}


def _rms(tensor: Tensor) -> float:
    value = float(tensor.double().square().mean().sqrt())
    return value if np.isfinite(value) else float("inf")
