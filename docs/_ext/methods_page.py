"""Writes the list of methods from ``tunewright.catalog``: what is listed there is documented here."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections import defaultdict
from typing import Any

HEADER = """# All methods

Names are what `Study.open(..., method=...)` and `--method` take. A page of a method opens with when to use it and
when not to, because most disappointments come from the wrong method and not from a bad one. This page is generated
from `tunewright.catalog` and from the docstring of each method.
"""


def _catalogue() -> dict[str, Any]:
    """The methods by name; empty while the package has no catalogue module at all."""
    if importlib.util.find_spec("tunewright.catalog") is None:
        return {}
    methods: dict[str, Any] = importlib.import_module("tunewright.catalog").METHODS
    if not methods:
        raise ValueError("tunewright.catalog.METHODS must list at least one method; got none.")
    return methods


def _section(name: str, method: Any) -> str:
    """One method. The import is the check that the catalogue names something that exists."""
    module, _, attribute = method.path.partition(":")
    kind = getattr(importlib.import_module(module), attribute)
    for field in ("summary", "when", "kind", "family"):
        if not getattr(method, field):
            raise ValueError(f"A method in the catalogue needs every field; '{name}' has no {field}.")
    notes = inspect.getdoc(importlib.import_module(module))
    if not notes:
        raise ValueError(f"A method needs a docstring in its file; {module} has none.")
    signature = str(inspect.signature(kind)).replace("'", "")
    lines = [
        f"(method-{name})=",
        f"### `{name}`",
        "",
        f"{method.summary}",
        "",
        f"- **Use when:** {method.when}",
        f"- **Kind:** {method.kind}",
    ]
    if method.paper:
        lines.append(f"- **Paper:** {method.paper}")
    lines += [
        f"- **Class:** `{module}.{attribute}`",
        "",
        "```text",
        notes,
        "",
        f"{attribute}{signature}",
        "```",
        "",
    ]
    return "\n".join(lines)


def render() -> str:
    """The page as MyST Markdown, grouped by family in the order of the catalogue.

    Raises:
        ValueError: If an entry of the catalogue lacks a field.
        ImportError: If it names a module that does not exist.
    """
    families: dict[str, list[str]] = defaultdict(list)
    for name, method in _catalogue().items():
        families[str(method.family)].append(_section(name, method))
    parts = [HEADER]
    for family, sections in families.items():
        parts += [f"## {family.capitalize()}\n", *sections]
    return "\n".join(parts)
