"""Reported weights make a search for a network better than the same search without them.

Mehta and others (2024) search hubs of pretrained networks, of which a search knows no more than which one it is, and find that a
deep kernel that sees the checkpointed weights ranks trainings better and wastes less on poor ones than the same without
weights (DyHPO), random search and others. Here the hub is 18 shapes of small perceptrons that differ in depth, width and
scale of the initial weights, and the search is told only their number.
"""

from __future__ import annotations

import numpy as np

from claims.hub import EPOCHS, MODELS, SPACE, hub, searched
from claims.record import Claim, Result, Verdict
from claims.study import Floats, corrected, lower, prefixed, seeds_for
from tunewright.core.space import Space
from tunewright.samplers.random import Random
from tunewright.schedulers.fms import Fms
from tunewright.schedulers.hyperband import Hyperband

CLAIM = Claim(
    title="Weights that trainings report make the search in a model hub better.",
    paper="Mehta et al. 2024, arXiv:2406.18630, sections 4 and 5",
    check=(
        "648 perceptrons for handwritten digits, all trained for 27 epochs; one worker, epochs of 12 full trainings. "
        "Searched: the number of the shape (18), learning rate, momentum, weight decay. FMS against itself without "
        "weights, against Hyperband and random search. Counted: mean over all epochs after the first 27 of the regret of "
        "the lowest validation loss so far, 0 for the best of all epochs and networks, 1 for the median of the lowest losses of "
        "the networks. Beside it the same where the search knows what the shapes are."
    ),
    rule=(
        "Holds at reduced scale if the mean regret in the hub is lower than that of each of the three, p < 0.05 after "
        "Holm's correction; not reproduced otherwise."
    ),
)
_BUDGET = 12 * EPOCHS


def regrets(space: Space, seeds: tuple[int, ...]) -> dict[str, Floats]:
    """Mean regret of every method, shape ``(1, seeds)``."""
    known = hub()
    lowest = known.losses.min(axis=1)
    low, usual = float(lowest.min()), float(np.median(lowest))
    methods = {"fms": Fms(), "blind": Fms(features=""), "hyperband": Hyperband(Random()), "random": Random()}
    found = {}
    for name, method in methods.items():
        runs = np.array([searched(method, known, space, seed, _BUDGET) for seed in seeds])
        found[name] = np.clip((runs[:, EPOCHS:] - low) / (usual - low), 0.0, 1.0).mean(axis=1)[None]
    return found


def run(quick: bool) -> Result:
    """Checks the claim."""
    seeds = seeds_for(quick, 24)[: 3 if quick else None]
    found = regrets(MODELS, seeds)
    others = ("blind", "hyperband", "random")
    against = {name: lower(found["fms"], found[name]) for name in others}
    corrected(*against.values())
    good = all(c["p"] < 0.05 and c["regret"] < c["baseline_regret"] for c in against.values())
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    told = {} if quick else {f"told_{n}": float(r.mean()) for n, r in regrets(SPACE, seeds).items()}
    mean = {name: float(r.mean()) for name, r in found.items()}
    known = f"; told what the shapes are, {told['told_fms']:.3f} and {told['told_blind']:.3f}" if told else ""
    return Result(
        verdict,
        f"Mean regret with weights is {mean['fms']:.3f}, without {mean['blind']:.3f} (p = {against['blind']['p']:.2g})"
        f"{known}. Hyperband {mean['hyperband']:.3f} (p = {against['hyperband']['p']:.2g}), random search "
        f"{mean['random']:.3f} (p = {against['random']['p']:.2g}).",
        "the same method without weights; Hyperband; random search",
        "Wilcoxon signed-rank on the mean regret, one-sided, pairs by seed, Holm over three",
        seeds,
        {**{k: v for n in others for k, v in prefixed(n, against[n]).items()}, **told},
    )
