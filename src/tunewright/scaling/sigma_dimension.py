"""Sigma-dimension rule: the noise schedule of a diffusion model, moved to Poisson flow models of any extra dimension.

*Use when*: a diffusion model's schedule of noise has been tuned and its family PFGM++ is to be tried: its knob ``D`` sets how heavy the
tails of the noise are, from ``D = inf``, which is diffusion itself, down to a few.
*Do not use when*: ``D`` is a few only: noise then has no variance (D <= 2) or no mean (D <= 1), and the alignment, which is that of
large dimensions, gets rough. The rule moves schedules and nothing else: which ``D`` is best remains to be tried.
*Paper*: Xu et al. 2023 (PFGM++), arXiv:2302.04265: kernel in section 3, alignment ``r = sigma sqrt(D)`` and the transfer of
training and sampling in section 4; schedule and preconditioning of Karras et al. 2022 (EDM), arXiv:2206.00364, table 1.
*Differs*: the radius is not drawn by itself; the kernel is Student's t with ``D`` degrees of freedom and scale ``sigma``, which is drawn
directly. Network and sampler see ``sigma`` in place of ``r``, so that they are EDM's as they are.
*Cost*: one number from a chi-square per example beside diffusion's normal ones.

Noise levels ``sigma`` and radii ``r`` are in units of the data. Data has shape ``(b, *n)``, and ``N`` is the number of entries of an example.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
Denoiser = Callable[["Tensor", "Tensor"], "Tensor"]


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """Noise levels to train on and to sample by; the defaults are EDM's for images with values from -1 to 1.

    Attributes:
        sigma_min: Lowest level of the sampler.
        sigma_max: Highest level, where it starts.
        rho: How much steps crowd at low levels.
        steps: Steps of the sampler.
        log_mean: Mean of the logarithm of the levels trained on.
        log_std: Its standard deviation.
        sigma_data: Standard deviation of the data.

    Raises:
        ConfigError: If a number is out of range.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    steps: int = 18
    log_mean: float = -1.2
    log_std: float = 1.2
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        _require(
            0 < self.sigma_min < self.sigma_max < math.inf,
            f"NoiseSchedule needs 0 < sigma_min < sigma_max; got {self.sigma_min} and {self.sigma_max}. Swap or mend them.",
        )
        _require(
            self.steps >= 2, f"NoiseSchedule needs steps >= 2; got {self.steps}. Sample by two steps or more."
        )
        _require(
            self.rho > 0 and self.log_std > 0 and self.sigma_data > 0 and math.isfinite(self.log_mean),
            "NoiseSchedule needs rho, log_std and sigma_data above 0 and a finite log_mean; got "
            f"{self.rho}, {self.log_std}, {self.sigma_data} and {self.log_mean}. Mend them.",
        )

    def levels(self) -> Floats:
        """Levels that the sampler goes through, falling, with a last zero, shape ``(steps + 1,)``."""
        part = np.linspace(0.0, 1.0, self.steps)
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        return np.append((high + part * (low - high)) ** self.rho, 0.0)

    def radii(self, dimension: float) -> Floats:
        """The same as radii at an extra dimension, shape ``(steps + 1,)``.

        Raises:
            ConfigError: If the dimension is not above 0, or is infinite: diffusion knows no radius.
        """
        return np.asarray(radius(self.levels(), dimension))

    def read_as_radii(self, dimension: float) -> NoiseSchedule:
        """The schedule if its levels were taken for radii as they stand: what happens where the rule is not applied.

        Raises:
            ConfigError: As ``radii``.
        """
        root = math.sqrt(_finite(dimension))
        return replace(
            self,
            sigma_min=self.sigma_min / root,
            sigma_max=self.sigma_max / root,
            log_mean=self.log_mean - math.log(root),
        )


def radius(sigma: ArrayLike, dimension: float) -> Floats:
    """The radius that stands for a noise level: ``r = sigma sqrt(D)``.

    Example:
        >>> float(radius(80.0, 2048))
        3620.3867196751235

    Args:
        sigma: Noise levels, any shape.
        dimension: Extra dimension, finite.

    Raises:
        ConfigError: If the dimension is not above 0 or infinite, or a level is negative.
    """
    levels = np.asarray(sigma, dtype=np.float64)
    _require(
        bool((levels >= 0).all()),
        f"Noise levels must be at least 0; got {levels.min()}. Pass standard deviations.",
    )
    return levels * math.sqrt(_finite(dimension))


def level(r: ArrayLike, dimension: float) -> Floats:
    """The noise level that a radius stands for: the inverse of ``radius``.

    Raises:
        ConfigError: As ``radius``.
    """
    radii = np.asarray(r, dtype=np.float64)
    _require(bool((radii >= 0).all()), f"Radii must be at least 0; got {radii.min()}. Pass distances.")
    return radii / math.sqrt(_finite(dimension))


def moved(r: ArrayLike, dimension_from: float, dimension_to: float) -> Floats:
    """Radii tuned at one extra dimension, at another.

    Raises:
        ConfigError: As ``radius``.
    """
    return radius(level(r, dimension_from), dimension_to)


def noise(shape: tuple[int, ...], dimension: float, rng: np.random.Generator) -> Floats:
    """Noise of level 1: Student's t in ``N`` dimensions with ``D`` degrees of freedom, standard normal at ``D = inf``.

    Times ``sigma`` it has the density ``(|x|^2 + r^2)^(-(N + D) / 2)`` with ``r = sigma sqrt(D)``, up to a constant: its length is
    ``r sqrt(B / (1 - B))`` with ``B`` from Beta(N / 2, D / 2).

    Args:
        shape: ``(b, *n)``: examples, and the shape of one.
        dimension: Extra dimension ``D``, above 0; ``math.inf`` for diffusion.
        rng: Source of randomness.

    Raises:
        ConfigError: If the dimension is not above 0.
    """
    _above(dimension)
    normal = rng.standard_normal(shape)
    if math.isinf(dimension):
        return normal
    spread = np.sqrt(dimension / rng.chisquare(dimension, size=shape[0]))
    out: Floats = normal * spread.reshape(-1, *[1] * (len(shape) - 1))
    return out


def closeness(points: Tensor, data: Tensor, sigma: Tensor, dimension: float) -> Tensor:
    """Probabilities of examples given what noise made of one: the weights of the exact field, shape ``(b, m)``.

    Args:
        points: Shape ``(b, *n)``.
        data: All examples, shape ``(m, *n)``.
        sigma: Noise levels, shape ``(b,)``.
        dimension: Extra dimension; ``math.inf`` for diffusion.

    Raises:
        ConfigError: If the dimension is not above 0.
    """
    import torch

    _above(dimension)
    flat = data.flatten(1)
    away = torch.cdist(points.flatten(1), flat).square() / sigma.view(-1, 1).square()
    if math.isinf(dimension):
        return torch.softmax(-0.5 * away, dim=1)
    return torch.softmax(-0.5 * (flat.shape[1] + dimension) * torch.log1p(away / dimension), dim=1)


def exact(data: Tensor, dimension: float) -> Denoiser:
    """The best denoiser for a finite set of examples: their mean under ``closeness``.

    Args:
        data: Shape ``(m, *n)``.
        dimension: See ``closeness``.
    """

    def denoised(points: Tensor, sigma: Tensor) -> Tensor:
        return (closeness(points, data, sigma, dimension) @ data.flatten(1)).view_as(points)

    return denoised


def preconditioned(network: Denoiser, sigma_data: float) -> Denoiser:
    """A denoiser whose network sees inputs of unit size and predicts what is missing (EDM, table 1).

    Args:
        network: From inputs ``(b, *n)`` and a quarter of the logarithm of the level ``(b,)`` to outputs ``(b, *n)``.
        sigma_data: Standard deviation of the data.
    """

    def denoised(points: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.view(-1, *[1] * (points.dim() - 1))
        whole = level.square() + sigma_data**2
        seen = network(points / whole.sqrt(), sigma.log() / 4.0)
        return sigma_data**2 / whole * points + level * sigma_data / whole.sqrt() * seen

    return denoised


def loss(
    denoiser: Denoiser, data: Tensor, schedule: NoiseSchedule, dimension: float, rng: np.random.Generator
) -> Tensor:
    """Weighted squared error of denoising a batch, each example at a level of its own; a scalar.

    Args:
        denoiser: From noisy data ``(b, *n)`` and levels ``(b,)`` to data.
        data: A batch, shape ``(b, *n)``.
        schedule: Which levels, and how they are weighted; the same for every dimension, which is the rule.
        dimension: Extra dimension; ``math.inf`` for diffusion.
        rng: Source of randomness.

    Raises:
        ConfigError: If the dimension is not above 0.
    """
    import torch

    drawn = np.exp(schedule.log_mean + schedule.log_std * rng.standard_normal(len(data)))
    sigma = torch.as_tensor(drawn, dtype=data.dtype, device=data.device)
    unit = torch.as_tensor(noise(tuple(data.shape), dimension, rng), dtype=data.dtype, device=data.device)
    wide = sigma.view(-1, *[1] * (data.dim() - 1))
    weight = (sigma.square() + schedule.sigma_data**2) / (sigma * schedule.sigma_data).square()
    error = (denoiser(data + wide * unit, sigma) - data).square().flatten(1).mean(1)
    return (weight * error).mean()


def sample(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    schedule: NoiseSchedule,
    dimension: float,
    rng: np.random.Generator,
    *,
    like: Tensor | None = None,
) -> Tensor:
    """New examples by Heun's method down the levels of a schedule, shape ``(b, *n)``.

    Args:
        denoiser: As for ``loss``.
        shape: ``(b, *n)``.
        schedule: Its levels.
        dimension: What the denoiser was trained at: start points come from its noise.
        rng: Source of randomness.
        like: A tensor whose kind and device to use; single precision on the processor by default.

    Raises:
        ConfigError: If the dimension is not above 0.
    """
    import torch

    levels = schedule.levels()
    like = torch.zeros(()) if like is None else like
    x = torch.as_tensor(levels[0] * noise(shape, dimension, rng), dtype=like.dtype, device=like.device)

    def slope(points: Tensor, sigma: float) -> Tensor:
        return (points - denoiser(points, points.new_full((len(points),), sigma))) / sigma

    with torch.no_grad():
        for now, then in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
            first = slope(x, now)
            ahead = x + (then - now) * first
            if then > 0:
                ahead = x + (then - now) * 0.5 * (first + slope(ahead, then))
            x = ahead
    return x


def _above(dimension: float) -> None:
    _require(
        dimension > 0,
        f"The extra dimension must be above 0, or math.inf for diffusion; got {dimension}. Try 64 to 4096.",
    )


def _finite(dimension: float) -> float:
    _above(dimension)
    _require(
        math.isfinite(dimension),
        "The extra dimension must be finite where there are radii; got inf. Diffusion goes by sigma alone.",
    )
    return dimension


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
