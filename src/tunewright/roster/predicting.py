"""Methods that predict a choice from smaller models, less data or published laws: what each is, and when to take which."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

Family = Literal["parametrization", "check", "proxy", "law", "batch-size", "rule"]


@dataclass(frozen=True, slots=True)
class Predicting:
    """One way to know a setting before the training that it is for.

    Attributes:
        name: How it is listed; for parametrizations what ``tunewright.scaling.plan`` takes.
        path: ``module:name`` of the class or function that users call, or of the object that stands for it.
        family: By what it goes by.
        paper: Authors, year, where.
        summary: What it does, one line.
        when: When to use it, one line.
        predicts: What need not be searched at full size, in words.
        cost: What it costs, in words.
        needs: Extra that it needs, or empty.
    """

    name: str
    path: str
    family: Family
    paper: str
    summary: str
    when: str
    predicts: str
    cost: str
    needs: str = "torch"

    def load(self) -> Any:
        """The class, function or object.

        Raises:
            MissingExtra: If the extra that it needs is not installed.
        """
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)


PARAMETRIZATIONS: tuple[Predicting, ...] = (
    Predicting(
        "mup",
        "tunewright.scaling.rules.mup:MUP",
        "parametrization",
        "Yang et al. 2022, arXiv:2203.03466",
        "hidden matrices learn at a rate over the width, scores are divided by the width, the rest stays",
        "a rate and multipliers tuned on a narrow model are for a wide one of the same depth",
        "the learning rate, first values and multipliers of any width",
        "nothing a step; the search is paid at the narrow width",
    ),
    Predicting(
        "u-mup",
        "tunewright.scaling.rules.umup:UNIT_MUP",
        "parametrization",
        "Blake et al. 2024, arXiv:2407.17465",
        "muP with weights of variance one and all scales in the forward pass",
        "as mup, where hyperparameters shall be near one and searched one by one, or precision is low",
        "the learning rate and multipliers of any width, with no base width",
        "a multiplication per layer",
    ),
    Predicting(
        "sp-layerwise",
        "tunewright.scaling.rules.layerwise:LAYERWISE",
        "parametrization",
        "Everett et al. 2024, arXiv:2407.05872",
        "the model as it is, and Adam's rates falling with the fan-in",
        "the model's own first values and forward pass are to stay",
        "the learning rate of any width",
        "nothing a step",
    ),
    Predicting(
        "depth-mup",
        "tunewright.scaling.rules.depth:DEPTH_MUP",
        "parametrization",
        "Yang et al. 2023, arXiv:2310.02244",
        "muP with residual branches and Adam's rates over the root of the depth",
        "width and depth both grow and blocks are residual",
        "the learning rate and multipliers of any width and depth",
        "nothing a step",
    ),
)

PREDICTING: dict[str, Predicting] = {m.name: m for m in PARAMETRIZATIONS}

# What to ask oneself, and what to take; shown by ``tunewright methods --predicting`` and in the guide.
WHICH_PREDICTING: tuple[tuple[str, str], ...] = ()
