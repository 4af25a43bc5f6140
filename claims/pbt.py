"""Population-based training finds a schedule while it trains, and ends lower than random search with as many steps.

Jaderberg, Dalibard, Osindero, Czarnecki, Donahue, Razavi, Vinyals, Green, Dunning, Simonyan, Fernando and Kavukcuoglu (2017) show on
a toy problem that two members together reach an optimum which neither reaches alone, and on reinforcement learning,
translation and adversarial networks that a population ends better than random search with the same resources.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import Floats, corrected, prefixed, seeds_for
from claims.weights import Config, Digits, Run, followed, population
from tunewright.analysis.lineage import Piece, Schedule, lineage
from tunewright.core.domains import Float
from tunewright.core.space import Space
from tunewright.numerics.statistics import wilcoxon
from tunewright.samplers.random import Random
from tunewright.schedulers.pbt import Pbt

CLAIM = Claim(
    title="Two members reach together what neither reaches alone, and a population ends lower than random search.",
    paper="Jaderberg et al. 2017, arXiv:1711.09846, section 3 and figure 2 (toy), section 4",
    check=(
        "The toy problem: ascent on a surrogate of 1.2 - |t|^2 whose two weights are the settings, 200 steps, members at "
        "(1, 0) and (0, 1). Then a perceptron of 48 units on handwritten digits with a tenth of the labels wrong, 40 "
        "epochs; learning rate, momentum, weight decay and dropout; a population of ten, compared every second epoch, "
        "against ten random configurations trained to the end. Judged by cross-entropy on 447 digits that chose nothing. "
        "For information: the schedule of the best member followed from scratch with another seed, and its last settings "
        "kept from the start."
    ),
    rule=(
        "Holds at reduced scale if the median end of the toy is at least 1.15 where the two alone end at 0.39, and the "
        "population's loss is lower than random search's with p < 0.01; not reproduced otherwise."
    ),
)
_MEMBERS = 10
DIGITS = Space(
    rate=Float(1e-3, 3.0, log=True),
    momentum=Float(0.0, 0.99),
    decay=Float(1e-5, 1e-1, log=True),
    drop=Float(0.0, 0.8),
)


class Toy:
    """Ascent on ``1.2 - (h0 t0^2 + h1 t1^2)``, rate 0.02; the truth weighs both alike."""

    space = Space(h0=Float(0, 1), h1=Float(0, 1))
    steps = 200

    def begin(self, seed: int) -> Floats:
        """The paper's."""
        return np.array([0.9, 0.9])

    def step(self, weights: Floats, config: Config, rng: np.random.Generator) -> Floats:
        """One step of ascent."""
        moved: Floats = weights * (1.0 - 0.04 * np.array([config["h0"], config["h1"]]))
        return moved

    def loss(self, weights: Floats) -> float:
        """Minus the truth."""
        return float(weights @ weights) - 1.2


def _toy(seeds: tuple[int, ...]) -> tuple[float, float]:
    """Median end with population-based training, and the end of the two alone."""
    first = ({"h0": 1.0, "h1": 0.0}, {"h0": 0.0, "h1": 1.0})
    toy = Toy()
    ends = []
    for seed in seeds:
        run = population(Pbt(Random(), size=2, interval=4), toy, seed=seed, trials=2, first=first)
        ends.append(-toy.loss(run.weights[run.best]))
    alone = population(Random(), toy, seed=0, trials=2, first=first)
    return float(np.median(ends)), -toy.loss(alone.weights[alone.best])


def _judged(training: Digits, run: Run) -> float:
    return training.loss(run.weights[run.best], 2)


def _digits(seed: int) -> dict[str, float]:
    training = Digits(DIGITS)
    ours = population(Pbt(Random(), size=_MEMBERS, interval=2), training, seed=seed, trials=_MEMBERS)
    random = population(Random(), training, seed=seed, trials=_MEMBERS)
    schedule = lineage(ours.ledger.trials, ours.best)
    kept = Schedule((Piece(0, schedule.pieces[-1].config),), training.steps)
    constant = Schedule((Piece(0, random.ledger.trials[random.best].config),), training.steps)
    again: dict[str, Any] = {"replayed": schedule, "last_settings": kept, "random_again": constant}
    out = {name: training.loss(followed(training, s, seed + 1000), 2) for name, s in again.items()}
    return {
        "pbt": _judged(training, ours),
        "random": _judged(training, random),
        "pbt_epochs": float(ours.paid),
        "random_epochs": float(random.paid),
        "pieces": float(len(schedule.pieces)),
        **out,
    }


def run(quick: bool) -> Result:
    """Checks the claim."""
    seeds = seeds_for(quick, 20)
    together, alone = _toy(seeds[: 3 if quick else 10])
    rows = [_digits(seed) for seed in (seeds[:3] if quick else seeds)]
    columns = {name: np.array([r[name] for r in rows]) for name in rows[0]}
    main = {"p": wilcoxon(columns["pbt"], columns["random"], "less")}
    replay = {"p": wilcoxon(columns["replayed"], columns["random_again"], "less")}
    corrected(main, replay)
    better = columns["pbt"].mean() < columns["random"].mean()
    good = together >= 1.15 and abs(alone - 0.39) < 0.01 and better and main["p"] < 0.01
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    mean = {name: float(column.mean()) for name, column in columns.items()}
    return Result(
        verdict,
        f"The toy ends at {together:.3f} of 1.2, the two alone at {alone:.2f}. On digits the population ends at "
        f"{mean['pbt']:.3f} after {mean['pbt_epochs']:.0f} epochs, random search at {mean['random']:.3f} after "
        f"{mean['random_epochs']:.0f} (p = {main['p']:.2g}). Followed from scratch with another seed, the schedule gives "
        f"{mean['replayed']:.3f}, its last settings alone {mean['last_settings']:.3f}, and random search's best "
        f"{mean['random_again']:.3f} (schedule against that: p = {replay['p']:.2g}).",
        "random search, ten configurations trained for all 40 epochs; on the toy, both members alone",
        "Wilcoxon signed-rank on loss, one-sided, pairs by seed, Holm over the two comparisons",
        seeds,
        {
            "toy": together,
            "toy_alone": alone,
            **mean,
            **prefixed("over_random", main),
            **prefixed("replay", replay),
        },
    )
