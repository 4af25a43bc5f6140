"""Trains a rule for ``tunewright.optim.learned`` that knows no widths, under the maximal update parametrization or without.

``python -m training.learned_optimizer_mup --parametrization mup --minutes 12 --out rule.npz``; with ``sp`` networks start as usual and
no factors are given, which is what the former is compared with. Trainings are perceptrons of generated data at widths of 16 to 64
(Thérien et al. 2024, arXiv:2406.00153, train on one task at several widths), and both see the same ones. Options are those of
``training.learned_optimizer``.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from training import learned_optimizer as plain
from training.learned_tasks import BASE, WIDTHS, widened
from tunewright.optim.learned import rule as rules

CHECKS, SEED_OF_CHECK = 8, 880_000


def slope(
    center: Tensor, pairs: int, sigma: float, longest: int, generator: torch.Generator, *, mup: bool
) -> Tensor:
    """As ``training.learned_optimizer.slope``, on these trainings."""
    noise = sigma * torch.randn(pairs, rules.SIZE, generator=generator)
    trainings, scales = widened(generator, pairs, longest, mup)
    scores = plain.played(torch.cat((center + noise, center - noise)), trainings, generator, scales)
    return plain.estimated(noise, scores, sigma)


def checked(center: Tensor, *, mup: bool, width: int | None = None) -> list[float]:
    """Mean score on some trainings that are never trained on, by draw."""
    out = []
    for i in range(CHECKS):
        generator = torch.Generator().manual_seed(SEED_OF_CHECK + i)
        trainings, scales = widened(generator, 8, 200, mup, width)
        out.append(float(plain.played(center.expand(16, -1), trainings, generator, scales).mean()))
    return out


def main(words: list[str] | None = None) -> None:
    """Trains as a command line says."""
    parser = plain.arguments(__doc__)
    parser.add_argument("--parametrization", choices=("mup", "sp"), default="mup")
    parser.set_defaults(minutes=12.0, pairs=16, longest=300)
    args = parser.parse_args(words)
    mup = args.parametrization == "mup"
    plain.trained(
        args,
        functools.partial(slope, mup=mup),
        functools.partial(checked, mup=mup),
        {"parametrization": args.parametrization, "base": BASE, "widths": list(WIDTHS)},
    )


if __name__ == "__main__":
    main()
