"""BiT-HyperRule: settings of a fine-tuning from the number of examples and the size of the images, with nothing left to tune.

*Use when*: a large pretrained vision network is fine-tuned on a task and there is no budget for tuning.
*Do not use when*: the network is small, was not trained beforehand, or another optimizer than SGD is used: rate and lengths belong
together and to large residual networks with group normalization and weight standardization. For a convolutional network of a few
thousand weights the rate was seven times too low (``python -m claims run bit_hyper_rule``).
*Paper*: Kolesnikov et al. 2020, "Big Transfer (BiT): General Visual Representation Learning", ECCV, arXiv:1912.11370, section 3.3
*Differs*: nothing in ``source="paper"``. ``source="code"`` is the rule as the authors released it, which besides warms the rate up, trains
tasks of less than 5,000 examples for 100 steps instead of 500, and crops larger images to 480 instead of 384.
*Cost*: three comparisons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from tunewright.errors import ConfigError

Size = Literal["small", "medium", "large"]
Source = Literal["paper", "code"]

_SMALL, _LARGE, _TINY = 20_000, 500_000, 5_000
_AREA = 96 * 96
_STEPS: dict[Size, int] = {"small": 500, "medium": 10_000, "large": 20_000}
# Released schedules: end of the warm-up, steps after which the rate falls to a tenth, end.
_RELEASED = {
    "tiny": (10, (20, 50, 80), 100),
    "small": (100, (200, 300, 400), 500),
    "medium": (500, (3_000, 6_000, 9_000), 10_000),
    "large": (500, (6_000, 12_000, 18_000), 20_000),
}


@dataclass(frozen=True, slots=True)
class FineTuning:
    """Settings of a fine-tuning by SGD.

    Attributes:
        size: Class of the task by its number of examples.
        steps: Gradient steps.
        warm_up: Steps over which the rate rises linearly from 0.
        milestones: Steps after which the rate falls to a tenth.
        mixup: Parameter of mixup's Beta distribution; 0 for none.
        resize: Side to which images are resized first, in pixels.
        crop: Side of the random crop taken then, in pixels.
        lr: Rate for batches of ``batch``.
        momentum: Of SGD.
        batch: Examples of a step.
        weight_decay: None in any fine-tuning of the paper.
        flip: Whether to mirror images at random; the paper leaves flips and crops out where they change what is asked.
    """

    size: Size
    steps: int
    warm_up: int
    milestones: tuple[int, ...]
    mixup: float
    resize: int
    crop: int
    lr: float = 0.003
    momentum: float = 0.9
    batch: int = 512
    weight_decay: float = 0.0
    flip: bool = True

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0.

        Raises:
            ConfigError: If the training is over by then.
        """
        if not 0 <= step < self.steps:
            raise ConfigError(f"A step must be in [0, {self.steps}); got {step}.")
        if step < self.warm_up:
            return self.lr * step / self.warm_up
        return float(self.lr * 0.1 ** sum(step > m for m in self.milestones))

    def shortened(self, steps: int, batch: int | None = None) -> FineTuning:
        """The same schedule over another number of steps, for tasks and networks far smaller than the rule was made for.

        Args:
            steps: Gradient steps instead.
            batch: Examples of a step instead; the rate stays as it is.

        Raises:
            ConfigError: If there are fewer than 10 steps, or no example.
        """
        if steps < 10 or (batch is not None and batch < 1):
            raise ConfigError(
                f"A shortened schedule needs 10 steps and an example of a batch or more; got {steps} and {batch}."
            )
        factor = steps / self.steps
        return FineTuning(
            self.size,
            steps,
            round(self.warm_up * factor),
            tuple(round(m * factor) for m in self.milestones),
            self.mixup,
            self.resize,
            self.crop,
            self.lr,
            self.momentum,
            self.batch if batch is None else batch,
            self.weight_decay,
            self.flip,
        )


def hyper_rule(examples: int, height: int, width: int, *, source: Source = "paper") -> FineTuning:
    """Settings for a task.

    Args:
        examples: Labelled examples to fine-tune on, all classes together.
        height: Of a typical image, in pixels.
        width: Of a typical image, in pixels.
        source: The rule as in the paper, or as in the code that the authors released.

    Raises:
        ConfigError: If a number is below 1, or the source unknown.
    """
    if source not in ("paper", "code"):
        raise ConfigError(f"The source of the rule must be 'paper' or 'code'; got {source!r}.")
    given: dict[str, Any] = {"examples": examples, "height": height, "width": width}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"The {name} of a task must be an integer of at least 1; got {value!r}.")
    size: Size = "small" if examples < _SMALL else "medium" if examples < _LARGE else "large"
    mixup = 0.0 if size == "small" else 0.1
    little = height * width < _AREA
    if source == "code":
        warm_up, milestones, steps = _RELEASED["tiny" if examples < _TINY else size]
        resize, crop = (160, 128) if little else (512, 480)
        return FineTuning(size, steps, warm_up, milestones, mixup, resize, crop)
    steps = _STEPS[size]
    resize, crop = (160, 128) if little else (448, 384)
    return FineTuning(
        size, steps, 0, tuple(math.floor(steps * k) for k in (0.3, 0.6, 0.9)), mixup, resize, crop
    )
