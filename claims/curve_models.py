"""Baselines for predicting learning curves: an ensemble of power laws, and a Gaussian process over parts of trainings.

Both are fitted to one study at a time, as freeze-thaw optimisers did before: Kadra, Janowski, Wistuba and Grabocka 2023
(DPL, NeurIPS, arXiv:2302.00441, Section 4: networks from configurations to the parameters of a power law, absolute error)
and Swersky, Snoek and Adams 2014 (Freeze-thaw, arXiv:1406.3896: a process over configurations and one over steps).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MEMBERS, _UNITS, _FITS = 5, 64, 300
_ROUNDS, _POINTS = 60, 300


@dataclass(frozen=True, slots=True)
class Observed:
    """Reports of a study.

    Attributes:
        codes: Configuration of each report, shape ``(r, d)``, no NaN.
        curve: Number of its curve, shape ``(r,)``; -1 in questions about new ones.
        part: Part of a training, shape ``(r,)``.
        y: Squashed loss, shape ``(r,)``.
    """

    codes: Array
    curve: NDArray[np.int64]
    part: Array
    y: Array


def power_laws(seen: Observed, codes: Array, part: Array) -> tuple[Array, Array]:
    """Means and standard deviations by an ensemble of networks that give ``a + b part^-c``, shapes ``(q,)``."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    x, t, y = (torch.tensor(a, dtype=torch.float32) for a in (seen.codes, seen.part, seen.y))
    asked, when = (torch.tensor(a, dtype=torch.float32) for a in (codes, part))
    means, residuals = [], []
    for _ in range(_MEMBERS):
        net = nn.Sequential(
            nn.Linear(x.shape[1], _UNITS),
            nn.LeakyReLU(),
            nn.Linear(_UNITS, _UNITS),
            nn.LeakyReLU(),
            nn.Linear(_UNITS, 3),
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        for _ in range(_FITS):
            loss = (_power_law(net(x), t) - y).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            means.append(_power_law(net(asked), when).double().numpy())
            residuals.append(((_power_law(net(x), t) - y) ** 2).mean().item())
    spread = np.std(means, axis=0) ** 2 + np.mean(residuals)
    return np.mean(means, axis=0), np.sqrt(spread)


def _power_law(raw: Any, part: Any) -> Any:
    import torch

    return raw[:, 0] + nn_softplus(raw[:, 1]) * torch.pow(part.clamp_min(1e-3), -nn_softplus(raw[:, 2] - 1.0))


def nn_softplus(raw: Any) -> Any:
    """log(1 + exp(raw))."""
    import torch

    return torch.nn.functional.softplus(raw)


def process(seen: Observed, codes: Array, curve: NDArray[np.int64], part: Array) -> tuple[Array, Array]:
    """Means and standard deviations by a Gaussian process, shapes ``(q,)``.

    The covariance is Matern 5/2 with a length per parameter times one over the log of the part, plus the same over the
    part for reports of one curve, plus noise; scales by maximal evidence.
    """
    import torch

    torch.manual_seed(0)
    rows = np.linspace(0, len(seen.y) - 1, min(len(seen.y), _POINTS)).astype(np.int64)
    x, t, y = (torch.tensor(a[rows], dtype=torch.float64) for a in (seen.codes, np.log(seen.part), seen.y))
    own = torch.tensor(seen.curve[rows])
    mean = y.mean()
    theta = torch.zeros(x.shape[1] + 5, dtype=torch.float64)
    theta[-3:] = torch.tensor([-2.0, -2.0, -6.0])
    theta.requires_grad_(True)
    optimizer = torch.optim.Adam([theta], lr=0.1)
    for _ in range(_ROUNDS):
        factor = torch.linalg.cholesky(_covariance(theta, (x, t, own), (x, t, own), noise=True))
        white = torch.linalg.solve_triangular(factor, (y - mean)[:, None], upper=False)
        loss = 0.5 * (white**2).sum() + torch.log(torch.diagonal(factor)).sum() + 0.05 * (theta**2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        factor = torch.linalg.cholesky(_covariance(theta, (x, t, own), (x, t, own), noise=True))
        asked = (torch.tensor(codes), torch.tensor(np.log(part)), torch.tensor(curve))
        cross = torch.linalg.solve_triangular(factor, _covariance(theta, (x, t, own), asked), upper=False)
        white = torch.linalg.solve_triangular(factor, (y - mean)[:, None], upper=False)
        middle = mean + (cross.T @ white)[:, 0]
        whole = torch.exp(theta[-3]) + torch.exp(theta[-2]) + torch.exp(theta[-1])
        variance = (whole - (cross**2).sum(dim=0)).clamp_min(1e-8)
    return middle.numpy(), np.sqrt(variance.numpy())


def _matern(distance: Any) -> Any:
    import torch

    r = torch.sqrt(5.0 * distance + 1e-12)
    return (1.0 + r + r * r / 3.0) * torch.exp(-r)


def _covariance(theta: Any, a: Any, b: Any, *, noise: bool = False) -> Any:
    import torch

    d = a[0].shape[1]
    scale = torch.exp(theta[:d])
    apart = ((a[0] * scale)[:, None] - (b[0] * scale)[None]).pow(2).sum(dim=-1)
    later = (a[1][:, None] - b[1][None]).pow(2)
    shared = _matern(apart) * _matern(later * torch.exp(2.0 * theta[d] - 2.0))
    alone = (a[2][:, None] == b[2][None]) * _matern(later * torch.exp(2.0 * theta[d + 1] - 2.0))
    out = torch.exp(theta[-3]) * shared + torch.exp(theta[-2]) * alone
    return out + (torch.exp(theta[-1]) + 1e-7) * torch.eye(len(out), dtype=out.dtype) if noise else out


def log_density(mean: Array, spread: Array, y: Array) -> Array:
    """Log densities of normal laws cut to [0, 1], shape ``(q,)``."""
    from scipy.special import log_ndtr, ndtr

    inside = ndtr((1.0 - mean) / spread) - ndtr(-mean / spread)
    inside = np.where(
        inside > 1e-12, np.log(np.maximum(inside, 1e-12)), log_ndtr(-np.abs(mean - 0.5) / spread)
    )
    out: Array = -0.5 * ((y - mean) / spread) ** 2 - np.log(spread) - 0.5 * np.log(2.0 * np.pi) - inside
    return out
