"""Trains the rule of ``tunewright.optim.learned`` by evolution strategies on the trainings of ``training.learned_tasks``.

``python -m training.learned_optimizer --seed 0 --steps 1500 --out weights.npz`` gives the same weights wherever the
arithmetic is the same. With ``--minutes`` (of processor time) in place of the number of steps the clock ends it, and the
number is written beside the weights. Needs ``tunewright[torch]``; one core is enough.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.learned_tasks import Trainings, drawn
from tunewright.optim.learned import rule as rules

CHECKED, CHECK_EVERY, SEED_OF_CHECK = 12, 50, 990_000
_FLOOR, _WORST = 0.003, 1.1
_HALFWAY = 0.4  # weight of the losses on the way


def played(
    flat: Tensor, trainings: Trainings, generator: torch.Generator, scales: Sequence[float] | None = None
) -> Tensor:
    """Scores of rules, each on its training: lower is better, shape ``(p,)``.

    Args:
        flat: The rules, shape ``(p, SIZE)``.
        trainings: As many.
        generator: Source of the batches.
        scales: Factors of each tensor, for rules that know no widths.
    """
    rule = rules.unpacked(flat)
    weights = [w.clone() for w in trainings.weights]
    states = [rules.fresh(w) for w in weights]
    trend = torch.full((len(flat), 4), math.nan)
    start = trainings.evaluated(weights)
    blind = bool(torch.rand(1, generator=generator) < 0.25)
    course = torch.zeros(len(flat))
    for step, rows in enumerate(trainings.batches(generator)):
        for w in weights:
            w.requires_grad_(True)
        losses = trainings.loss(weights, rows)
        gradients = torch.autograd.grad(losses.sum(), weights)
        with torch.no_grad():
            losses = losses.detach()
            if not blind:
                trend = rules.followed(trend, losses)
            moment = rules.Moment(step, trainings.total, trend)
            changes = rules.advanced(rule, states, weights, gradients, moment, scales)
            weights = [w.detach().add_(c) for w, c in zip(weights, changes, strict=True)]
            course += scored(losses, start)
    return scored(trainings.evaluated(weights), start) + _HALFWAY * course / trainings.total


def scored(loss: Tensor, start: Tensor) -> Tensor:
    """Logarithm of what is left of the loss; a training that blew up gets the worst."""
    left = torch.log(loss / start + _FLOOR)
    return torch.nan_to_num(left, nan=_WORST, posinf=_WORST).clamp(max=_WORST)


def slope(center: Tensor, pairs: int, sigma: float, longest: int, generator: torch.Generator) -> Tensor:
    """Estimated gradient of the score, shape ``(SIZE,)``, from pairs of mirrored rules, each with a training of its own."""
    noise = sigma * torch.randn(pairs, rules.SIZE, generator=generator)
    scores = played(torch.cat((center + noise, center - noise)), drawn(generator, pairs, longest), generator)
    return estimated(noise, scores, sigma)


def estimated(noise: Tensor, scores: Tensor, sigma: float) -> Tensor:
    """The gradient that the scores of mirrored rules speak for, shape ``(SIZE,)``.

    Args:
        noise: What was added to the rule and then taken from it, shape ``(pairs, SIZE)``.
        scores: Of the former, then of the latter, shape ``(2 * pairs,)``.
        sigma: Standard deviation of the noise.
    """
    pairs = len(noise)
    gap = scores[:pairs] - scores[pairs:]
    usual = gap.abs().median() + 1e-8
    gap = gap.clamp(-3.0 * usual, 3.0 * usual)
    return (gap / (gap.square().mean().sqrt() + 1e-8)) @ noise / (pairs * sigma)


def checked(center: Tensor) -> list[float]:
    """Mean score on some trainings that are never trained on, by draw."""
    out = []
    for i in range(CHECKED):
        generator = torch.Generator().manual_seed(SEED_OF_CHECK + i)
        trainings = drawn(generator, 8, 200)
        out.append(float(played(center.expand(16, -1), trainings, generator).mean()))
    return out


def save(path: Path, center: Tensor, facts: dict[str, Any]) -> None:
    """Writes the numbers and what is known of them, without pickles."""
    np.savez(path, rule=center.numpy(), facts=np.array(json.dumps(facts)))


def trained(
    args: argparse.Namespace,
    slope: Callable[..., Tensor] = slope,
    checked: Callable[[Tensor], list[float]] = checked,
    known: dict[str, Any] | None = None,
) -> None:
    """Climbs, and writes weights and log.

    Args:
        args: See ``parsed``.
        slope: Where scores fall to; see the function of that name.
        checked: Scores on trainings held out; likewise.
        known: Further facts to be written.
    """
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    generator = torch.Generator().manual_seed(args.seed)
    center = rules.untrained(torch.Generator().manual_seed(args.seed))
    before: dict[str, Any] = {}
    if args.start is not None:
        with np.load(args.start, allow_pickle=False) as stored:
            center, before = torch.from_numpy(stored["rule"].copy()), json.loads(str(stored["facts"]))
    average = center.clone()
    center.requires_grad_(True)
    optimizer = torch.optim.Adam([center], betas=(0.9, 0.99))
    began, step, part = time.process_time(), 0, 0.0
    facts: dict[str, Any] = {}
    while part < 1.0:
        minutes = (time.process_time() - began) / 60.0
        part = step / args.steps if args.steps else minutes / args.minutes
        if step % CHECK_EVERY == 0 or part >= 1.0:
            scores = checked(average)
            facts = {
                "seed": args.seed,
                "steps": step,
                "pairs": args.pairs,
                "sigma": args.sigma,
                "rate": args.rate,
                "longest": args.longest,
            }
            facts |= {"held_out": round(float(np.mean(scores)), 4), "torch": torch.__version__}
            facts |= {"minutes": round(minutes, 1), "before": before}
            facts |= known or {}
            print(json.dumps(facts | {"by_draw": [round(s, 3) for s in scores]}), flush=True)
            save(args.out, average, facts)
        optimizer.param_groups[0]["lr"] = args.rate * (
            0.05 + 0.95 * (1.0 + math.cos(math.pi * min(1.0, part))) / 2.0
        )
        center.grad = slope(center.detach(), args.pairs, args.sigma, args.longest, generator)
        optimizer.step()
        average.lerp_(center.detach(), max(0.05, 1.0 / (step + 1)))
        step += 1


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """The settings on a command line."""
    return arguments(__doc__).parse_args(words)


def arguments(about: str | None) -> argparse.ArgumentParser:
    """What a command line may say."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="steps of the outer optimizer")
    parser.add_argument("--minutes", type=float, default=25.0, help="in place of them: processor minutes")
    parser.add_argument("--pairs", type=int, default=32, help="mirrored pairs of rules per step")
    parser.add_argument(
        "--sigma", type=float, default=0.04, help="standard deviation of what is added to a rule"
    )
    parser.add_argument("--rate", type=float, default=0.01, help="learning rate of the outer optimizer")
    parser.add_argument("--longest", type=int, default=700, help="most steps of a training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="weights of an earlier stage to go on from")
    parser.add_argument("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    trained(parsed())
