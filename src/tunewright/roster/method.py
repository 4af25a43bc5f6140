"""What the catalogue knows of a method."""

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
        preset: Settings that make the class this method, each a pair of name and value; options replace them.
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
    preset: tuple[tuple[str, Any], ...] = ()

    def load(self) -> Any:
        """The class."""
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)
