"""The entries of the catalogue: one per method, in the order in which the documentation lists them."""

from __future__ import annotations

from tunewright.roster.method import Kind, Method
from tunewright.roster.samplers import SAMPLERS
from tunewright.roster.schedulers import SCHEDULERS

__all__ = ["ENTRIES", "Kind", "Method"]

ENTRIES: tuple[Method, ...] = (*SAMPLERS, *SCHEDULERS)
