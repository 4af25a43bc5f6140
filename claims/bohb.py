"""Architecture and training settings are better searched together, and short trainings alone say little about long ones.

Zela, Klein, Falkner and Hutter (2018) search residual networks and the settings of their training in one space, with BOHB
over budgets of 400 seconds to three hours. They report that the ranks of configurations at short and long budgets hardly
correlate (Spearman 0.05 between the shortest and the longest), so that a search on short trainings alone misleads, and argue
that choosing the architecture with fixed settings first, and the settings afterwards, is suboptimal.

``claims/data/digits_curves.py`` trained the networks and wrote the table.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from claims.architectures import RATES, VALIDATION
from claims.record import Claim, Result, Verdict
from claims.study import Floats, corrected, lower, prefixed, seeds_for
from tunewright.bench.simulate import Task, simulate
from tunewright.core.domains import Choice, Order
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space
from tunewright.samplers.blend import Blend
from tunewright.samplers.random import Random
from tunewright.samplers.tpe import Tpe
from tunewright.schedulers.hyperband import Hyperband

CLAIM = Claim(
    title="BOHB over architecture and training settings together beats one after the other.",
    paper="Zela et al. 2018, arXiv:1807.06906, sections 3 and 4; Falkner et al. 2018, ICML, arXiv:1807.01774",
    check=(
        "1,296 perceptrons for handwritten digits (width, depth, activation; dropout, optimizer, learning rate), each trained "
        "for 27 epochs on 300 images, validated after 1, 3, 9 and 27. BOHB with eta = 3 and 20 full trainings' worth of epochs "
        "over all six parameters; against half of them over the architecture with Adam at 0.0019 and no dropout, and half over "
        "the settings of the best architecture found. Compared: validation error after 27 epochs of the configuration chosen. "
        "Ranks at 1 and 27 epochs: Spearman's correlation over all networks and over the best quarter at 27."
    ),
    rule=(
        "Holds at reduced scale if the joint search ends with lower errors, p < 0.01, and the correlation over the best quarter "
        "is below 0.5; not reproduced otherwise."
    ),
)
CURVES = Path(__file__).parent / "data" / "digits_curves.json"
EPOCHS = (1, 3, 9, 27)
ARCHITECTURE: dict[str, Any] = {
    "units": Order([16, 32, 64]),
    "depth": Order([1, 2, 3]),
    "activation": Choice(["relu", "tanh", "sigmoid"]),
}
SETTINGS: dict[str, Any] = {
    "dropout": Order([0.0, 0.2, 0.5]),
    "optimizer": Choice(["sgd", "adam"]),
    "lr": Order(RATES),
}
SPACE = Space({**ARCHITECTURE, **SETTINGS})
USUAL = {"dropout": 0.0, "optimizer": "adam", "lr": min(RATES, key=lambda r: abs(np.log(r / 1e-3)))}
_BUDGET = 20 * 27


def network(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in the words of ``claims.architectures.NET``."""
    dropout = {"depth.regularised.dropout.rate": config["dropout"]} if config["dropout"] else {}
    return {
        "stem": "none",
        "depth": config["depth"],
        "depth.dense.units": config["units"],
        "depth.activation": config["activation"],
        "depth.regularised": bool(dropout),
        **dropout,
        "optimizer": config["optimizer"],
        "lr": config["lr"],
    }


@functools.cache
def errors() -> dict[str, tuple[float, ...]]:
    """Share of validation images that each network gets wrong after each of ``EPOCHS``, by configuration."""
    table = json.loads(CURVES.read_text(encoding="utf-8"))
    assert table["space"] == SPACE.digest, "the search was changed after its networks were trained"
    rows = SPACE.grid(100_000)
    return {
        json.dumps(SPACE.decode(row), sort_keys=True): tuple(w / VALIDATION for w in wrong)
        for row, wrong in zip(rows, table["wrong"], strict=True)
    }


def final(config: Mapping[str, Any]) -> float:
    """Error after a full training."""
    return errors()[json.dumps(dict(config), sort_keys=True)][-1]


def task(parameters: Mapping[str, Any], fixed: Mapping[str, Any]) -> Task:
    """The search over some parameters with the others fixed; between two validations the error is that of the first."""
    which = np.searchsorted(EPOCHS, np.arange(1, EPOCHS[-1] + 1), side="right") - 1
    values = np.array([e[-1] for e in errors().values()])

    def curve(config: Mapping[str, Any]) -> tuple[Floats, Floats]:
        known = np.array(errors()[json.dumps({**config, **fixed}, sort_keys=True)])
        return known[which], np.ones(EPOCHS[-1])

    problem = Problem(Space(dict(parameters)), (Objective("error"),), Fidelity(EPOCHS[-1]))
    return Task("digits", problem, curve, float(values.min()), float(np.median(values)))


def chosen(search: Task, sampler: Any, seed: int, budget: int) -> dict[str, Any]:
    """The configuration with the lowest error among those that were trained longest."""
    method = Hyperband(sampler) if sampler is not None else Random()
    trials = simulate(method, search, seed=seed, steps=budget).ledger.trials
    measured = [t for t in trials if t.reports]
    longest = max(t.step for t in measured)
    return min((t for t in measured if t.step == longest), key=lambda t: t.metrics["error"]).config


def separately(seed: int) -> float:
    """Error of what architecture first, settings second, ends with."""
    best = chosen(task(ARCHITECTURE, USUAL), Blend(Tpe()), seed, _BUDGET // 2)
    rest = chosen(task(SETTINGS, best), Blend(Tpe()), seed, _BUDGET // 2)
    return final({**best, **rest})


def spearman(short: int, share: float) -> float:
    """Rank correlation of the errors after ``EPOCHS[short]`` and 27 epochs, over the best share at 27 epochs."""
    table = np.array(list(errors().values()))
    kept = table[np.argsort(table[:, -1], kind="stable")[: int(share * len(table))]]
    a, b = (_ranks(kept[:, i]) for i in (short, -1))
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: Floats) -> Floats:
    """Ranks, mean ones for ties."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    out: Floats = (np.cumsum(count) - (count - 1) / 2.0)[group]
    return out


def run(quick: bool) -> Result:
    """Checks the claim."""
    seeds = seeds_for(quick, 30)
    everything = task({**ARCHITECTURE, **SETTINGS}, {})
    scale = everything.usual - everything.best

    def regret(found: list[float]) -> Floats:
        return (np.array([found]) - everything.best) / scale

    joint = regret([final(chosen(everything, Blend(Tpe()), s, _BUDGET)) for s in seeds])
    apart = regret([separately(s) for s in seeds])
    hyperband = regret([final(chosen(everything, Random(), s, _BUDGET)) for s in seeds])
    random = regret([final(chosen(everything, None, s, _BUDGET)) for s in seeds])
    main = lower(joint, apart)
    others = {"hyperband": lower(joint, hyperband), "random": lower(joint, random)}
    corrected(*others.values())
    ranks = {f"{EPOCHS[i]}_27": (spearman(i, 1.0), spearman(i, 0.25)) for i in range(3)}
    good = main["regret"] < main["baseline_regret"] and main["p"] < 0.01 and ranks["1_27"][1] < 0.5
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"The joint search ends {main['regret']:.3f} above the best network, in units of the median's distance, the separate one "
        f"{main['baseline_regret']:.3f} (p = {main['p']:.2g}); Hyperband {others['hyperband']['baseline_regret']:.3f}, random search "
        f"{others['random']['baseline_regret']:.3f}. Ranks after 1 and 27 epochs correlate by {ranks['1_27'][0]:.2f} over all "
        f"networks and by {ranks['1_27'][1]:.2f} over the best quarter.",
        "architecture first with usual settings, settings second; the same epochs",
        "Wilcoxon signed-rank on errors, one-sided, pairs by seed",
        seeds,
        {
            **prefixed("separate", main),
            **{k: v for name, figures in others.items() for k, v in prefixed(name, figures).items()},
            **{f"spearman_{k}": v[0] for k, v in ranks.items()},
            **{f"spearman_best_quarter_{k}": v[1] for k, v in ranks.items()},
        },
    )
