"""Learned optimizer: all that is told to it is how many steps the training has.

*Use when*: a small or middling network is trained for some hundreds of steps, and nobody is to choose a rate or a schedule.

*Do not use when*: the step itself is what costs (it does over ten times Adam's arithmetic), memory is short, or a training is
far longer or a model far larger than those that it was trained on (30 to 700 steps, up to 6,000 weights). With it deep ReLU
autoencoders of pixels lose most of their units in the first steps and end worse than with Adam. It has no weight decay and
fits what it is given: many passes over few examples need early stopping.

For networks wider than that there is ``rule="mup"``, which knows no widths and takes its factors from a plan of the maximal
update parametrization. It was trained at widths of 16 to 64. On digits up to 512 wide it ended below Adam tuned at 64 and below Adam
tuned there, and level with a twin trained without the parametrization: expect robustness from it, not a lower loss.

*Paper*: Metz et al. 2022, arXiv:2211.09760 (VeLO), section 2; for ``rule="mup"`` Thérien et al. 2024, arXiv:2406.00153.

*Differs*: see ``tunewright.optim.learned.rule``: about 2,000 learned numbers, trained for eleven minutes on one core, where the
paper took 4,000 TPU-months. The loss may be left out; the rule was trained with and without.

*Cost*: 13 times the time of Adam's step for a million weights, over 20 times for ten thousand; four floats of state per weight.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable
from importlib import resources
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tunewright.optim.arena import real, working
from tunewright.optim.base import Nonfinite, require
from tunewright.optim.checked import restore, usable
from tunewright.optim.learned import rule as rules

WEIGHTS = {"standard": "rule.npz", "mup": "rule_mup.npz"}


@functools.cache
def shipped(name: str = "standard") -> tuple[Tensor, str]:
    """A rule that comes with the package, shape ``(1, SIZE)``, and how it was trained, as JSON; read once."""
    data = resources.files("tunewright.optim.learned").joinpath(WEIGHTS[name]).read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return torch.from_numpy(stored["rule"].astype(np.float32))[None], str(stored["facts"])


class LearnedOptimizer(torch.optim.Optimizer):
    """Follows a learned rule for a planned number of steps.

    Example:
        >>> import torch
        >>> from tunewright.optim.learned import LearnedOptimizer
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = LearnedOptimizer(model.parameters(), steps=100)
        >>> loss = model(torch.ones(2, 3)).square().mean()
        >>> loss.backward()
        >>> optimizer.step(loss=loss)

    Under the maximal update parametrization ``LearnedOptimizer(plan.param_groups(1.0), steps, rule="mup")`` follows a plan of
    ``tunewright.scaling`` on a model to which it was applied; the base width has to be one that the rule knows, best 64.

    Args:
        params: Tensors or groups, as for any optimizer. All groups follow the same course. Where the rule knows no widths, a group's
            ``scale``, or else its ``lr``, is a factor on its moves; 1 without either.
        steps: Steps planned. More can be taken: the rule then goes on as at its end, with small steps.
        rule: ``"standard"``, which is the default; ``"mup"``, which was trained under the maximal update parametrization and knows no widths; or another rule,
            shape ``(SIZE,)``, as the programs in ``training`` write.
        widthless: Whether a rule of your own knows no widths.
        nonfinite: What to do when a gradient is infinite or not a number: ``"skip"`` leaves weights and state as they are, warns
            once and counts (``skipped``); ``"raise"`` raises ``Diverged``; ``"ignore"`` saves the check.

    Raises:
        ConfigError: If ``steps`` is not a positive whole number, the rule is unknown or has another shape, or groups ask for what the
            rule has not: decay, or factors where it knows widths.
    """

    NEEDS = "gradient"

    def __init__(
        self,
        params: Any,
        steps: int,
        *,
        rule: Tensor | Literal["standard", "mup"] | None = None,
        widthless: bool = False,
        nonfinite: Nonfinite = "skip",
    ) -> None:
        whole = type(steps) is int and steps >= 1
        require(
            whole,
            f"LearnedOptimizer needs a whole number of steps >= 1; got {steps!r}. Pass how many steps the training has.",
        )
        require(
            nonfinite in ("skip", "raise", "ignore"),
            f"nonfinite must be 'skip', 'raise' or 'ignore'; got {nonfinite!r}. Pass one of them.",
        )
        rule = "standard" if rule is None else rule
        self._rule = rules.unpacked(_chosen(rule, widthless))
        self._blind = widthless or (isinstance(rule, str) and rule == "mup")
        shared = {"steps": steps, "taken": 0, "trend": (math.nan,) * 4}
        super().__init__(params, {**shared, "nonfinite": nonfinite, "skipped": 0})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group; see the arguments of the class."""
        if self._blind:
            factor = float(param_group.setdefault("scale", param_group.get("lr", 1.0)))
            require(
                math.isfinite(factor) and factor > 0,
                f"A group's scale must be a number above 0; got {factor}. Leave frozen tensors out of the groups.",
            )
            decay = param_group.get("weight_decay", 0.0)
            require(
                not decay,
                f"LearnedOptimizer has no weight decay; got weight_decay={decay}. Call plan.param_groups(1.0).",
            )
        else:
            factor = param_group.get("scale", 1.0)
            require(
                factor == 1.0,
                f"A rule that knows widths takes no factors; got scale={factor}. Pass rule='mup' with a plan's groups.",
            )
        super().add_param_group(param_group)

    @property
    def chosen(self) -> dict[str, float]:
        """What the rule chose in its last step: ``lr`` is the geometric mean of the tensors' step sizes."""
        rates = [s["rate"].log().mean() for s in self.state.values() if "rate" in s]
        return {"lr": math.exp(float(torch.stack([r.cpu() for r in rates]).mean()))} if rates else {}

    @property
    def skipped(self) -> int:
        """Steps that were left out because of gradients that are no finite numbers."""
        return int(self.param_groups[0]["skipped"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, loss: Tensor | float | None = None) -> Any:
        """Takes one step.

        Args:
            closure: Computes the loss anew with its gradients and returns it.
            loss: The loss, if there is no closure. Without either the rule goes by the gradients alone.

        Returns:
            What the closure returned, or None.

        Raises:
            ConfigError: If a gradient is sparse.
            Diverged: If a gradient is not finite and ``nonfinite="raise"``.
        """
        returned = None
        if closure is not None:
            with torch.enable_grad():
                returned = closure()
        used = [p for g in self.param_groups for p in g["params"] if p.grad is not None]
        if not used or not usable(self, used):
            return returned
        trend = self._followed(returned if loss is None else loss)
        first = self.param_groups[0]
        factors = {p: float(g.get("scale", 1.0)) for g in self.param_groups for p in g["params"]}
        for device in dict.fromkeys(p.device for p in used):
            moment = rules.Moment(first["taken"], first["steps"], trend.to(device))
            here = [p for p in used if p.device == device and p.numel()]
            self._advance(here, moment, [factors[p] for p in here] if self._blind else None)
        first["taken"] += 1
        return returned

    def _followed(self, loss: Any) -> Tensor:
        """The trend of the loss with this step's, shape ``(1, 4)``."""
        group = self.param_groups[0]
        trend = torch.tensor([group["trend"]], dtype=torch.float64)
        if loss is not None:
            trend = rules.followed(trend, torch.tensor([float(loss)], dtype=torch.float64))
            group["trend"] = tuple(trend[0].tolist())
        return trend

    def _advance(self, tensors: list[Tensor], moment: rules.Moment, scales: list[float] | None) -> None:
        """Advances the tensors of one device."""
        if not tensors:
            return
        states = [self.state[p] for p in tensors]
        weights, gradients = [], []
        for p, state in zip(tensors, states, strict=True):
            weight = _seen(p)
            if not state:
                state.update(rules.fresh(weight))
                if weight.dtype != real(p).dtype:
                    state["fine"] = weight.clone()
            elif "fine" in state:
                # Whoever wrote to the weights since the last step wins; otherwise the finer copy does.
                kept = state["fine"].to(p.dtype.to_real()).to(weight)
                weight = torch.where(weight == kept, state["fine"], weight)
            weights.append(weight)
            assert p.grad is not None
            gradients.append(_seen(p.grad))
        rule = {k: v.to(moment.trend.device) for k, v in self._rule.items()}
        changes = rules.advanced(rule, states, weights, gradients, moment, scales)
        for p, state, weight, change in zip(tensors, states, weights, changes, strict=True):
            if "fine" in state:
                torch.add(weight, change, out=state["fine"])
                real(p).copy_(state["fine"].view_as(real(p)))
            else:
                real(p).add_(change.view_as(real(p)))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what ``state_dict`` gave, in the precision that it was kept in."""
        super().load_state_dict(state_dict)
        restore(self, state_dict)


def _seen(tensor: Tensor) -> Tensor:
    """A tensor as the rule takes it, shape ``(1, r, c)``, in single precision at least."""
    rows = tensor.shape[0] if tensor.dim() > 1 else 1
    numbers = real(tensor.detach())
    return numbers.to(working(numbers.dtype)).reshape(1, rows, -1)


def _chosen(rule: Tensor | str, widthless: bool) -> Tensor:
    """The numbers of a rule, shape ``(1, SIZE)``."""
    if isinstance(rule, str):
        require(
            rule in WEIGHTS,
            f"rule must be 'standard', 'mup' or a tensor; got {rule!r}. Pass one of them.",
        )
        require(
            not widthless,
            f"widthless goes with a rule of your own; got it with rule={rule!r}. Leave it out.",
        )
        return shipped(rule)[0]
    shape = tuple(rule.shape)
    require(
        shape == (rules.SIZE,),
        f"A rule must have the shape ({rules.SIZE},); got {shape}. Leave it out for that of the package.",
    )
    return rule.detach().float()[None]
