"""Every method by name. Entries are strings, resolved when used, so that listing them imports nothing."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass, fields
from typing import Any, Literal

from tunewright.core.algorithm import Algorithm
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError

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
        wraps: Default sampler of a scheduler.
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


_ALL = (
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
        "switch",
        "tunewright.samplers.switch:Switch",
        "policy",
        "portfolio",
        "none",
        "Hands over from one method to the next as trials accumulate.",
        "Made by auto; rarely by hand.",
    ),
)
METHODS: dict[str, Method] = {m.name: m for m in _ALL}
_HANDOVER = 300


def find(name: str) -> Method:
    """The entry of that name.

    Raises:
        ConfigError: If there is none, with the nearest name.
    """
    if name in METHODS:
        return METHODS[name]
    close = difflib.get_close_matches(name, METHODS, 1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise ConfigError(f"A method must be one of auto, {', '.join(METHODS)}; got {name!r}.{hint}")


def build(name: str, options: dict[str, Any] | None = None) -> Algorithm[Any]:
    """Builds a method from what a user writes: ``"tpe"``, ``"hyperband"``, or ``"hyperband(tpe)"``.

    Args:
        name: The method, with the sampler that a scheduler wraps in brackets.
        options: Hyper-hyperparameters of the outermost method.

    Raises:
        ConfigError: If a name or an option is unknown.
    """
    outer, bracket, rest = name.partition("(")
    entry = find(outer.strip())
    given = dict(options or {})
    if bracket and (not rest.endswith(")") or entry.kind != "scheduler"):
        raise ConfigError(f"A method is written name or scheduler(sampler); got {name!r}. Correct it.")
    made = entry.load()
    known = [f.name for f in fields(made)]
    for option in given:
        if option not in known:
            close = difflib.get_close_matches(option, known, 1)
            hint = f" Did you mean '{close[0]}'?" if close else f" It has {', '.join(known) or 'none'}."
            raise ConfigError(f"'{outer}' must know its options; got {option!r}.{hint}")
    if entry.kind == "scheduler" and "sampler" not in given:
        given["sampler"] = build(rest[:-1] if bracket else entry.wraps)
    algorithm: Algorithm[Any] = made(**given)
    return algorithm


def choose(problem: Problem, *, resumable: bool = True) -> tuple[Algorithm[Any], str, str]:
    """Picks a method for a problem, from the problem alone, so that every process picks the same.

    Args:
        problem: What is to be optimised.
        resumable: Whether trials can save and load checkpoints.

    Returns:
        The method, its name, and the reason in a sentence.
    """
    space = problem.space
    if problem.fidelity is not None and problem.fidelity.high > problem.fidelity.low:
        name = "asha(tpe)" if resumable else "halting(tpe)"
        how = "pause and resume" if resumable else "are stopped, since they cannot be resumed"
        return build(name), name, f"trials report up to {problem.fidelity.high} steps, so weak ones {how}"
    if space.d == 0:
        return build("random"), "random", "the space is declared while trials run"
    widest = int(space.layout.levels[space.layout.categorical].max(initial=0))
    if space.d > 60 or widest > 200:
        shape = f"{space.d} parameters" if space.d > 60 else f"a choice among {widest}"
        return build("tpe"), "tpe", f"{shape} is more than a Gaussian process handles well"
    switch: Any = METHODS["switch"].load()
    method: Algorithm[Any] = switch((build("bayes"), build("tpe")), (_HANDOVER,))
    why = f"few trials favour a Gaussian process; from {_HANDOVER} on, density estimation keeps asking fast"
    return method, "bayes, then tpe", why
