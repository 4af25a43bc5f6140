"""Writes the page of the learning-curve network: prose, what the weights say of themselves, and the stored claim."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "claims" / "results" / "curve_network.json"
MODELS = {"network": "this network", "power_laws": "ensemble of power laws", "process": "Gaussian process"}
TEXT = """# The learning-curve network

[`ifbo`](method-ifbo.md) predicts how trainings will go on with a small transformer that ships with the package: weights of
{size:.1f} MB, read with NumPy alone. It was trained once, on curves drawn from a prior and on no real training; in a study
nothing is fitted. This page says what it has learned from, how to train it again, and how well it predicts.

## The prior

A task is drawn as a whole (`tunewright.models.curve_prior`). A random network of one to three hidden layers maps a
configuration of 1 to {dimensions} numbers, some of them discrete, to the parameters of its curve, so that similar
configurations learn alike; how much each parameter depends on the configuration, and how much each input matters, is drawn
too. With x the part of a full training and p the performance,

    p(x) = sum over k of w_k (p_end - (p_end - p_start) f_k(x'))

where f_k is a power law, a stretched exponential, an inverse logarithm or Hill's sigmoid, each falling from 1 to a drawn
precision at a drawn reach, and x' goes on at another rate, possibly backwards, beyond the reach: curves saturate, overfit
or diverge. Noise of a level that depends on the configuration, for half of the tasks correlated between steps, is added;
the loss is (1 - p) to a random power. The laws are those of the paper; *calm* tasks, with which training ended, turn around less and end more often near the best, as recorded trainings do.

A history has 1 to 160 curves on a grid of 4 to 100 steps, many short and few long, in half of the tasks the better ones longer
and some configurations near the best one.

## The network

Every curve is one token: its configuration, its losses at {picks} fixed places (`tunewright.models.curve_tokens`), and how far
it was trained. Losses are squashed about the best one seen, which makes their scale and sign irrelevant. A question is a
configuration, its curve so far, and a later step; questions attend to the curves of the study and not to each other. {layers} layers
of width {width} give the masses of {bars} bars over the squashed loss.

## The training

| stage | seed | tasks drawn | batches | learning rate | of the batches, at the full rate | calm | minus log density, held out |
| --- | --- | --- | --- | --- | --- | --- | --- |
{stages}

One CPU core, single precision with half-precision products where the processor has them. Each stage goes on from the
weights of the one before:

    python -m training.curve_network --seed SEED [--calm] [--start BEFORE.safetensors] --rate RATE \\
        --batches FULL --decay REST --out AFTER.safetensors

with the numbers of the table. The minus log densities of calm tasks and of the others cannot be compared.

## How well it predicts

Mean log density of later losses, higher is better, and CPU time per study, from the stored run of
`python -m claims run curve_network` ([verdict and rule](claims.md)). Both baselines are fitted to each study.

| model | recorded, begun | recorded, new | prior, begun | prior, new | ms per study |
| --- | --- | --- | --- | --- | --- |
{models}
"""


def render() -> str:
    """The page as Markdown."""
    pfn = importlib.import_module("tunewright.models.pfn")
    tokens = importlib.import_module("tunewright.models.curve_tokens")
    network = pfn.curve_network()
    home = ROOT / "src" / "tunewright" / "models" / pfn.WEIGHTS
    figures = json.loads(RESULT.read_text(encoding="utf-8"))["figures"] if RESULT.exists() else {}
    return TEXT.format(
        size=home.stat().st_size / 1e6,
        dimensions=tokens.DIMENSIONS,
        picks=tokens.PICKS,
        layers=len(network.layers),
        width=len(network.norm[0]),
        bars=len(network.borders) - 1,
        stages="\n".join(_stages(network.facts)),
        models="\n".join(_row(figures, name, title) for name, title in MODELS.items()),
    )


def _stages(facts: dict[str, str]) -> list[str]:
    stages: list[dict[str, Any]] = []
    found: dict[str, Any] = {k: json.loads(v) for k, v in facts.items()}
    while found:
        stages.insert(0, found)
        found = {k: json.loads(v) for k, v in found.get("before", {}).items()}
    return [
        f"| {i} | {s['seed']} | {s['tasks']:,} | {s['batches']:,} | {s.get('rate', 1.5e-3):g} "
        f"| {s['batches'] if s.get('stable') is None else s['stable']:,} | {'yes' if s.get('calm') else 'no'} | {s['held_out']:.2f} |"
        for i, s in enumerate(stages, 1)
    ]


def _row(figures: dict[str, float], name: str, title: str) -> str:
    if not figures:
        return f"| {title} | - | - | - | - | - |"
    cells = [figures[f"{kind}_{name}_{what}"] for kind in ("recorded", "prior") for what in ("begun", "new")]
    spent = (figures[f"recorded_{name}_ms"] + figures[f"prior_{name}_ms"]) / 2
    return f"| {title} | " + " | ".join(f"{c:.2f}" for c in cells) + f" | {spent:,.0f} |"
