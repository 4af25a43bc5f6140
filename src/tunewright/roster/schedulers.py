"""Methods that decide who is trained how long, in the order in which the documentation lists them."""

from __future__ import annotations

from tunewright.roster.method import Method

SCHEDULERS: tuple[Method, ...] = (
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
        "smoothie",
        "tunewright.schedulers.smoothie:Smoothie",
        "scheduler",
        "training-aware",
        "Yedida and Menzies 2024, arXiv:2401.09622",
        "Trains a little of thirty trials and to the end only those whose loss is smoothest.",
        "With small learners on tabular data that report their smoothness.",
        wraps="random",
    ),
)
