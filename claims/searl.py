"""Learners that share their experience and evolve need fewer steps of the environment than ones that do not share.

Franke, Köhler, Biedenkapp and Hutter (2021) tune TD3 on MuJoCo and DQN on Atari while training, and report the performance of
random search and of population-based training after up to ten times fewer steps of the environment.
"""

from __future__ import annotations

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import Floats, corrected, prefixed, seeds_for
from tunewright.control.worlds import Pendulum, play
from tunewright.errors import MissingExtra
from tunewright.numerics.statistics import wilcoxon

CLAIM = Claim(
    title="A population that shares its experience swings up a pendulum with fewer steps than one that does not.",
    paper="Franke et al. 2021, arXiv:2009.01555, section 5 and figure 2",
    check=(
        "TD3 on the pendulum (200 steps per episode), four members, networks of two layers of 64, learning rates of both "
        "networks drawn from 1e-4 to 1e-2; 3,200 steps of the environment by all members together, the first 800 at random, "
        "0.6 updates of each member per step of all. Compared: all three parts (sharing, selection, mutation); the same "
        "without sharing; random search, where members learn alone. Equal steps and updates. Judged by the mean return of "
        "the fittest member on 20 fresh episodes without noise, over the last two of four generations."
    ),
    rule=(
        "Holds at reduced scale if the mean return is higher than both others', with p < 0.05 after Holm; not reproduced "
        "otherwise."
    ),
)
_STEPS, _MEMBERS, _RATES = 3200, 4, (-4.0, -2.0)
_VARIANTS = {
    "searl": {},
    "unshared": {"share": False},
    "random": {"share": False, "evolve": False},
}


def _course(variant: str, seed: int, steps: int) -> Floats:
    """Test return of the fittest member after each generation, shape ``(g,)``."""
    from tunewright.control.genes import Genes
    from tunewright.control.searl import Generation, Searl, search
    from tunewright.control.td3 import Td3

    world = Pendulum()
    returns: list[float] = []

    def newborn(rng: np.random.Generator) -> Td3:
        rate, actor_rate = 10 ** rng.uniform(*_RATES, size=2)
        return Td3(world, Genes((64, 64), "relu", float(rate), float(actor_rate)), scale=0.1, tau=0.02)

    def watch(generation: Generation) -> None:
        test = np.random.default_rng([seed, generation.number, 5])
        returns.append(float(play(world, generation.best.act, 20, test)[1].mean()))

    settings = Searl(size=_MEMBERS, least=200, ratio=0.6, warm=800, batch=64, **_VARIANTS[variant])
    search(world, newborn, settings, steps=steps, seed=seed, watch=watch)
    return np.array(returns)


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the same population without a shared buffer; random search over learning rates"
    seeds = seeds_for(quick, 10)
    try:
        import torch
    except ImportError:
        return Result("cannot be checked here", str(MissingExtra("PyTorch is needed.")), baseline, "none", ())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        steps = 1600 if quick else _STEPS
        courses = {
            v: np.array([_course(v, s, steps) for s in (seeds[:1] if quick else seeds)]) for v in _VARIANTS
        }
    finally:
        torch.set_num_threads(threads)
    ends = {v: c[:, -2:].mean(axis=1) for v, c in courses.items()}
    tests = {v: {"p": wilcoxon(-ends["searl"], -ends[v], "less")} for v in ("unshared", "random")}
    corrected(*tests.values())
    mean = {v: float(e.mean()) for v, e in ends.items()}
    good = all(mean["searl"] > mean[v] and tests[v]["p"] < 0.05 for v in tests)
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    course = {
        f"{v}_after_{800 * (g + 1)}": float(c[:, g].mean())
        for v, c in courses.items()
        for g in range(c.shape[1])
    }
    return Result(
        verdict,
        f"After {steps} steps the fittest member's mean return is {mean['searl']:.0f} with a shared buffer, "
        f"{mean['unshared']:.0f} without (p = {tests['unshared']['p']:.2g}), and {mean['random']:.0f} with random search "
        f"(p = {tests['random']['p']:.2g}).",
        baseline,
        "Wilcoxon signed-rank on return, one-sided, pairs by seed, Holm over the two comparisons",
        seeds,
        {
            **course,
            **prefixed("over_unshared", tests["unshared"]),
            **prefixed("over_random", tests["random"]),
        },
    )
