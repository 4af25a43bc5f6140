"""Writes the pages of the methods from ``tunewright.catalog``: what is listed there is documented here."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections import defaultdict
from typing import Any

HEADER = """# All methods

Names are what `Study.open(..., method=...)` and `--method` take. A scheduler takes the sampler that it wraps in
brackets, as in `hyperband(random)`. A page of a method opens with when to use it and when not to, because most
disappointments come from the wrong method and not from a bad one. This page and those below it are generated from
`tunewright.catalog` and from the docstring of each method.
"""
# Some docstrings set their five parts in columns; Markdown would run them together.
_COLUMNS = re.compile(r"^(Use when|Do not use|Paper|Differs|Cost) {2,}", re.MULTILINE)


def _catalogue() -> dict[str, Any]:
    """The methods by name."""
    methods: dict[str, Any] = importlib.import_module("tunewright.catalog").METHODS
    if not methods:
        raise ValueError("tunewright.catalog.METHODS must list at least one method; got none.")
    return methods


def page(name: str, method: Any, *, index: bool = True) -> str:
    """The page of one method. The import is the check that the catalogue names something that exists.

    Raises:
        ValueError: If the entry lacks a field, or its module a docstring.
    """
    module, _, attribute = method.path.partition(":")
    importlib.import_module(module)
    for field in ("summary", "when", "kind", "family"):
        if not getattr(method, field):
            raise ValueError(f"A method in the catalogue needs every field; '{name}' has no {field}.")
    notes = inspect.getdoc(importlib.import_module(module))
    if not notes:
        raise ValueError(f"A method needs a docstring in its file; {module} has none.")
    notes = _COLUMNS.sub(lambda found: f"\n*{found[1]}*{'' if ' ' in found[1] else ':'} ", notes)
    wraps = f"\nA scheduler: alone it wraps `{method.wraps}`; write `{name}(random)` for another sampler.\n"
    preset = f"\n`{name}` is `{attribute}` with {', '.join(f'`{k}={v!r}`' for k, v in method.preset)}.\n"
    return f"""# `{name}`

{notes}
{wraps if method.wraps else ""}{preset if method.preset else ""}
## Settings

Pass them as `options={{...}}` of `Study.open`, or build the object yourself: `method={attribute}(...)`, with
`from {module} import {attribute}`.

```{{eval-rst}}
.. autoclass:: {module}.{attribute}
{"" if index else "   :no-index:"}
```
"""


def pages() -> dict[str, str]:
    """The text of every method's page by file name."""
    # Two names may stand for one class with other settings; the index lists it once.
    first: dict[str, str] = {}
    for name, method in _catalogue().items():
        first.setdefault(method.path, name)
    return {
        f"methods/method-{name}.md": page(name, method, index=first[method.path] == name)
        for name, method in _catalogue().items()
    }


def render() -> str:
    """The list as MyST Markdown, grouped by family in the order of the catalogue."""
    families: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for name, method in _catalogue().items():
        families[str(method.family)].append((name, method))
    parts = [HEADER]
    for family, entries in families.items():
        parts.append(f"## {family.capitalize()}\n\n| method | what it does | when to use it | paper |")
        parts.append("| --- | --- | --- | --- |")
        parts += [f"| [`{n}`](method-{n}.md) | {m.summary} | {m.when} | {m.paper} |" for n, m in entries]
        parts.append("")
    names = "\n".join(f"method-{name}" for name in _catalogue())
    return "\n".join(parts) + f"\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"
