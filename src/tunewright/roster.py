"""The entries of the catalogue: one per method, in the order in which the documentation lists them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["sampler", "scheduler", "policy"]


@dataclass(frozen=True, slots=True)
class Method:
    """One entry of the catalogue.

    Attributes:
        name: What users write.
        path: ``module:Class``.
        kind: Samplers choose configurations, schedulers budgets around a sampler, policies among methods.
        family: Section of the method list.
        paper: Authors, year, where.
        summary: What it does, one line.
        when: When to use it, one line.
        wraps: Default sampler of a method that wraps one.
        needs: Extra that it needs, or empty.
    """

    name: str
    path: str
    kind: Kind
    family: str
    paper: str
    summary: str
    when: str
    wraps: str = ""
    needs: str = ""

    def load(self) -> Any:
        """The class."""
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)


ENTRIES: tuple[Method, ...] = (
    Method(
        "random",
        "tunewright.samplers.random:Random",
        "sampler",
        "model-free",
        "Bergstra and Bengio 2012, JMLR 13",
        "Draws configurations independently from the prior.",
        "As a baseline, or when trials are very cheap and very many.",
    ),
    Method(
        "grid",
        "tunewright.samplers.grid:Grid",
        "sampler",
        "model-free",
        "Full factorial design; Fisher 1935",
        "Tries every combination once, in an order that survives interruption.",
        "With few discrete parameters, when every combination is wanted.",
    ),
    Method(
        "quasirandom",
        "tunewright.samplers.quasirandom:QuasiRandom",
        "sampler",
        "model-free",
        "Sobol 1967; Joe and Kuo 2008; Owen 1998",
        "Spreads configurations evenly with a scrambled Sobol sequence.",
        "For a first look at a space, and in place of random search.",
    ),
    Method(
        "tpe",
        "tunewright.samplers.tpe:Tpe",
        "sampler",
        "bayesian",
        "Bergstra et al. 2011, NeurIPS; Watanabe 2023, arXiv:2304.11127",
        "Models good and bad configurations by kernel densities and proposes where their ratio is largest.",
        "With many trials, many categories or branches, and when asking must be fast.",
    ),
    Method(
        "bayes",
        "tunewright.samplers.bayes:Bayes",
        "sampler",
        "bayesian",
        "Jones et al. 1998; Snoek et al. 2012; Ament et al. 2023, arXiv:2310.20708",
        "Fits a Gaussian process and proposes the point of largest log expected improvement.",
        "When trials are expensive and a few hundred at most.",
    ),
    Method(
        "turbo",
        "tunewright.samplers.turbo:Turbo",
        "sampler",
        "bayesian",
        "Eriksson et al. 2019, arXiv:1910.01739; Wan et al. 2021, arXiv:2102.07188",
        "Draws from a local Gaussian process in a box that grows on success and shrinks on failure.",
        "With 20 to some hundred parameters, mixed ones included, and a few hundred trials.",
    ),
    Method(
        "saas",
        "tunewright.samplers.saas:Saas",
        "sampler",
        "bayesian",
        "Eriksson and Jankowiak 2021, arXiv:2103.00049",
        "Fits Gaussian processes whose prior says that most parameters have no effect.",
        "With many parameters of which a few matter, and at most some hundred trials.",
    ),
    Method(
        "config",
        "tunewright.samplers.config:Config",
        "sampler",
        "bayesian",
        "Xu et al. 2023, arXiv:2211.00162",
        "Minimises an optimistic bound within optimistic limits, and stops when even these cannot be met.",
        "With tight outcome limits, when it matters whether they can be met at all.",
    ),
    Method(
        "goucb",
        "tunewright.samplers.goucb:GoUcb",
        "sampler",
        "bayesian",
        "Liu and Wang 2023, arXiv:2211.09100",
        "Fits a small network and proposes what is best under the most favourable plausible weights.",
        "With 20 or more ordered parameters that a parametric model suits.",
    ),
    Method(
        "delayed",
        "tunewright.samplers.delayed:Delayed",
        "sampler",
        "bandit",
        "Vakili et al. 2023, arXiv:2302.00392",
        "Explores in rounds that need no results, and eliminates what is surely worse after each.",
        "When results come long after their trials began, and the number of trials is known.",
    ),
    Method(
        "cmaes",
        "tunewright.samplers.cmaes:Cmaes",
        "sampler",
        "evolutionary",
        "Hamano et al. 2022, arXiv:2205.13482; Hansen 2016, arXiv:1604.00772",
        "Adapts a normal distribution, with a margin for levels and options, to the best of each generation.",
        "With some hundred trials, many workers, and parameters that depend on each other.",
    ),
    Method(
        "de",
        "tunewright.samplers.de:De",
        "sampler",
        "evolutionary",
        "Tanabe and Fukunaga 2013, CEC; Storn and Price 1997",
        "Moves each member by differences of others, with factors that succeeded before.",
        "With some hundred cheap trials, mostly of numbers.",
    ),
    Method(
        "regularized",
        "tunewright.samplers.regularized:Regularized",
        "sampler",
        "evolutionary",
        "Real et al. 2019, AAAI, arXiv:1802.01548",
        "Mutates the best of a few drawn from the youngest trials; the oldest die.",
        "With noisy results, many options, and some hundred trials.",
    ),
    Method(
        "cem",
        "tunewright.samplers.cem:Cem",
        "sampler",
        "evolutionary",
        "Rubinstein and Kroese 2004; Li and Li 2024, arXiv:2409.09240",
        "Fits independent distributions to the best few of every batch, smoothly.",
        "As a simple search that hundreds of workers can share.",
    ),
    Method(
        "pso",
        "tunewright.samplers.pso:Pso",
        "sampler",
        "evolutionary",
        "Kennedy and Eberhart 1995; Clerc and Kennedy 2002, IEEE TEC 6(1)",
        "Pulls every particle towards its own best place and that of the swarm.",
        "With some hundred cheap trials, mostly of numbers.",
    ),
    Method(
        "vlga",
        "tunewright.samplers.vlga:Vlga",
        "sampler",
        "evolutionary",
        "Xiao et al. 2020, arXiv:2006.12703",
        "A genetic algorithm whose configurations start short and grow phase by phase.",
        "When a number, such as of layers, says how many parameters count.",
    ),
    Method(
        "smac",
        "tunewright.samplers.smac:Smac",
        "sampler",
        "trees",
        "Hutter, Hoos and Leyton-Brown 2011, LION 5; Lindauer et al. 2022, arXiv:2109.09831",
        "Fits a random forest and searches locally for the largest log expected improvement.",
        "With many categories, branches or forbidden combinations, and some hundred trials.",
    ),
    Method(
        "cqr",
        "tunewright.samplers.cqr:Cqr",
        "sampler",
        "trees",
        "Salinas et al. 2023, arXiv:2305.03623; Romano et al. 2019, arXiv:1905.03222",
        "Draws a plausible loss for every candidate from conformal quantiles and takes the lowest.",
        "With noisy losses whose noise differs from place to place, and some hundred trials.",
    ),
    Method(
        "mcts",
        "tunewright.samplers.mcts:Mcts",
        "sampler",
        "trees",
        "Negrinho and Gordon 2017, arXiv:1704.08792; Kocsis and Szepesvari 2006, ECML",
        "Follows the branches of the tree of decisions that did well, with large sets of options halved.",
        "With spaces that are trees, such as of architectures, and some hundred trials.",
    ),
    Method(
        "tree_smbo",
        "tunewright.samplers.tree_smbo:TreeSmbo",
        "sampler",
        "trees",
        "Negrinho and Gordon 2017, arXiv:1704.08792",
        "Ranks random configurations by ridge regression on n-grams of their decisions.",
        "With spaces that are trees whose parts occur in several places, when asking must stay cheap.",
    ),
    Method(
        "asha",
        "tunewright.schedulers.asha:Asha",
        "scheduler",
        "multi-fidelity",
        "Li et al. 2020, MLSys, Algorithm 2",
        "Promotes the best third of every rung as soon as a worker is free; trials pause and resume.",
        "When trials report by step and can save checkpoints; with any number of workers.",
        wraps="tpe",
    ),
    Method(
        "halting",
        "tunewright.schedulers.halting:Halting",
        "scheduler",
        "multi-fidelity",
        "Li et al. 2020, MLSys; stopping form as in Tune",
        "Stops a trial at a rung unless it is among the best third that came there.",
        "When trials report by step but cannot resume, such as scripts run unchanged.",
        wraps="tpe",
    ),
    Method(
        "hyperband",
        "tunewright.schedulers.hyperband:Hyperband",
        "scheduler",
        "multi-fidelity",
        "Li et al. 2018, JMLR 18",
        "Runs brackets of successive halving that hedge over how early to stop.",
        "When it is unclear how well early results predict late ones.",
        wraps="tpe",
    ),
    Method(
        "median",
        "tunewright.schedulers.median:Median",
        "scheduler",
        "multi-fidelity",
        "Golovin et al. 2017, KDD",
        "Stops a trial whose best result so far is worse than the median of the others at the same step.",
        "For mild early stopping with hardly anything to set.",
        wraps="tpe",
    ),
    Method(
        "copula",
        "tunewright.samplers.copula:Copula",
        "sampler",
        "transfer",
        "Salinas, Shen and Perrone 2020, ICML, arXiv:1909.13595",
        "Learns a prior from earlier studies on the scale of normal scores, and a Gaussian process of the rest.",
        "With earlier studies whose losses differ in scale or unit.",
    ),
    Method(
        "rgpe",
        "tunewright.samplers.rgpe:Rgpe",
        "sampler",
        "transfer",
        "Feurer, Letham and Bakshy 2018, arXiv:1802.02219",
        "Weighs one Gaussian process per earlier study by how well it ranks the new trials.",
        "With earlier studies of which perhaps only few resemble the new task.",
    ),
    Method(
        "portfolio",
        "tunewright.samplers.portfolio:Portfolio",
        "sampler",
        "transfer",
        "Wistuba et al. 2015, ICDM; Winkelmolen et al. 2020, arXiv:2007.13382",
        "Tries first the few configurations that together served earlier studies best, then asks a sampler.",
        "With earlier studies and a small budget, or in front of a sampler that cannot learn from them.",
        wraps="bayes",
    ),
    Method(
        "transfer",
        "tunewright.samplers.portfolio:Portfolio",
        "sampler",
        "transfer",
        "Wistuba et al. 2015, ICDM; Feurer, Letham and Bakshy 2018, arXiv:1802.02219",
        "A portfolio of earlier studies first, then their ranking-weighted ensemble.",
        "With earlier studies, when in doubt which transfer method to take.",
        wraps="rgpe",
    ),
    Method(
        "bounding_box",
        "tunewright.samplers.bounding_box:BoundingBox",
        "sampler",
        "transfer",
        "Perrone et al. 2019, NeurIPS, arXiv:1909.12552",
        "Lets any sampler search the box around the best configurations of earlier studies.",
        "With earlier studies in a space that is much too wide.",
        wraps="bayes",
    ),
    Method(
        "prior",
        "tunewright.samplers.prior:Prior",
        "sampler",
        "transfer",
        "Mallik et al. 2023 (PriorBand), NeurIPS, arXiv:2306.12370",
        "Follows the user's guesses with any sampler, as long as they prove right.",
        "With guesses that may be wrong, or a sampler that has no use for guesses.",
        wraps="bayes",
    ),
    Method(
        "boss",
        "tunewright.samplers.boss:Boss",
        "sampler",
        "training-aware",
        "Lee et al. 2023, ICCV, arXiv:2304.12666",
        "Gives every trial a student and a teacher among the best networks trained so far.",
        "With trainings of one architecture, checkpoints, and labels that are noisy or few.",
        wraps="bayes",
    ),
    Method(
        "smoothie",
        "tunewright.schedulers.smoothie:Smoothie",
        "scheduler",
        "training-aware",
        "Yedida and Menzies 2024, arXiv:2401.09622",
        "Trains a little of thirty trials and to the end only those whose loss is smoothest.",
        "With small learners on tabular data that report their smoothness.",
        wraps="random",
    ),
    Method(
        "racing",
        "tunewright.schedulers.racing:Racing",
        "sampler",
        "noise",
        "Birattari et al. 2002, GECCO; Hutter et al. 2011, LION 5",
        "Measures a configuration with more seeds only while a test cannot tell it from the best.",
        "When results depend on the seed and the configuration that is best on average is wanted.",
        wraps="tpe",
    ),
    Method(
        "nsga2",
        "tunewright.samplers.nsga2:Nsga2",
        "sampler",
        "multi-objective",
        "Deb et al. 2002, IEEE Trans. Evol. Comput. 6(2)",
        "Breeds configurations from the fronts of non-dominated trials, keeping them spread.",
        "With several objectives and some hundreds of cheap trials, possibly many at a time.",
    ),
    Method(
        "moead",
        "tunewright.samplers.moead:Moead",
        "sampler",
        "multi-objective",
        "Zhang and Li 2007, IEEE Trans. Evol. Comput. 11(6)",
        "Solves one problem per direction of trade-off, neighbours sharing solutions.",
        "With several objectives whose trade-offs should be covered evenly by cheap trials.",
    ),
    Method(
        "ehvi",
        "tunewright.samplers.ehvi:Ehvi",
        "sampler",
        "multi-objective",
        "Emmerich et al. 2011, CEC; Daulton et al. 2020, arXiv:2006.05078",
        "Tries where the volume dominated by the front is expected to grow most.",
        "With two to four objectives and trials that cost seconds or more.",
    ),
    Method(
        "carbs",
        "tunewright.samplers.carbs:Carbs",
        "sampler",
        "multi-objective",
        "Fetterman et al. 2023, arXiv:2306.08055",
        "Searches around the front of cost and performance for what improves on the front at its cost.",
        "When size or length of training trade cost for performance, and every budget is of interest.",
    ),
    Method(
        "efficient",
        "tunewright.samplers.efficient:Efficient",
        "sampler",
        "cost-aware",
        "Wang, Dernoncourt and Bui 2020, arXiv:2008.00386",
        "Minimises a weighted sum of loss and logarithmic training time, with a model of each.",
        "When a slightly worse model that trains much faster is preferred.",
    ),
    Method(
        "switch",
        "tunewright.samplers.switch:Switch",
        "policy",
        "portfolio",
        "none",
        "Hands over from one method to the next as trials accumulate.",
        "Made by auto; rarely by hand.",
    ),
)
