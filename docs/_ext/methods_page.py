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


INSIDE = """# Methods inside a run

These tune continuous hyperparameters by gradient while one training goes on; they are functions and classes of
`tunewright.hypergrad` (extra `torch`), not names for `--method`. `tunewright methods --inside` lists them in the terminal. Begin
with [Tune a million hyperparameters in one run](../guides/inside.md), and read
[When gradient tuning lies](../guides/inside-truth.md) before you trust a result. This page and those below it are generated.

## Which to take

| if you have | take |
| --- | --- |
"""


REMOVING = """# Methods that remove a choice

Optimizers that need no learning rate, and schedules and batch sizes that choose themselves: classes and functions of
`tunewright.optim` and `tunewright.federated` (extra `torch`), not names for `--method`. Optimizers are also made by name, with
`tunewright.optim.create`. `tunewright methods --removing` lists them in the terminal. Begin with
[Which optimizer when you do not want to tune](../guides/optimizers.md). This page and those below it are generated.

## Which to take

| if you have | take |
| --- | --- |
"""


PREDICTING = """# Methods that predict a choice

Parametrizations under which settings survive a change of size, checks of whether they do, and laws that say how the others move:
classes, functions and objects of `tunewright.scaling` (most with extra `torch`), not names for `--method`. `tunewright methods
--predicting` lists them in the terminal. Begin with [Tune small, train big](../guides/tune-small-train-big.md) and
[Which scaling law, and when not](../guides/which-law.md). This page and those below it are generated.

## Which to take

| if you have | take |
| --- | --- |
"""


def inside_page(name: str, method: Any, *, index: bool = True) -> str:
    """The page of one method that is no sampler and no scheduler.

    Raises:
        ValueError: If its module has no docstring.
    """
    module, _, attribute = method.path.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    notes = inspect.getdoc(importlib.import_module(module))
    if not notes:
        raise ValueError(f"A method needs a docstring in its file; {module} has none.")
    if not inspect.isclass(found) and not callable(
        found
    ):  # an object that stands for the method, as a parametrization
        attribute = type(found).__name__
        found = type(found)
    kind = "autoclass" if inspect.isclass(found) else "autofunction"
    members = "   :members:\n" if inspect.isclass(found) else ""
    members += "" if index else "   :no-index:\n"
    return f"""# `{name}`

{_COLUMNS.sub(lambda match: f"{chr(10)}*{match[1]}*{'' if ' ' in match[1] else ':'} ", notes)}

## Interface

`from {module} import {attribute}`

```{{eval-rst}}
.. {kind}:: {module}.{attribute}
{members}```
"""


def _elsewhere(header: str, advice: Any, methods: dict[str, Any], kind: str) -> str:
    gives = {"removing": "removes", "predicting": "predicts"}.get(kind, "")
    parts = [header + "\n".join(f"| {question} | {answer} |" for question, answer in advice)]
    for family in dict.fromkeys(m.family for m in methods.values()):
        more = f" {gives} |" if gives else ""
        parts.append(
            f"\n## {family.capitalize()}\n\n| method | what it does |{more} good for | costs | paper |"
        )
        parts.append(f"| --- | --- |{' --- |' if gives else ''} --- | --- | --- |")
        parts += [
            f"| [`{n}`]({kind}-{n}.md) | {m.summary} |{f' {getattr(m, gives)} |' if gives else ''} {m.when} | {m.cost} | {m.paper} |"
            for n, m in methods.items()
            if m.family == family
        ]
    names = "\n".join(f"{kind}-{name}" for name in methods)
    return "\n".join(parts) + f"\n\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"


def inside() -> str:
    """The list of methods inside a run as MyST Markdown."""
    catalog = importlib.import_module("tunewright.catalog")
    return _elsewhere(INSIDE, catalog.WHICH, catalog.INSIDE, "inside")


def removing() -> str:
    """The list of methods that remove a choice as MyST Markdown."""
    catalog = importlib.import_module("tunewright.catalog")
    return _elsewhere(REMOVING, catalog.WHICH_REMOVING, catalog.REMOVING, "removing")


def predicting() -> str:
    """The list of methods that predict a choice as MyST Markdown."""
    catalog = importlib.import_module("tunewright.catalog")
    return _elsewhere(PREDICTING, catalog.WHICH_PREDICTING, catalog.PREDICTING, "predicting")


def elsewhere_pages() -> dict[str, str]:
    """The text of every page of a method inside a run or that removes or predicts a choice, by file name."""
    catalog = importlib.import_module("tunewright.catalog")
    lists = {"inside": catalog.INSIDE, "removing": catalog.REMOVING, "predicting": catalog.PREDICTING}
    pages: dict[str, str] = {}
    indexed: set[Any] = set()
    for kind, listed in lists.items():
        for name, method in listed.items():
            found = method.load()
            thing = found if inspect.isclass(found) or callable(found) else type(found)
            pages[f"methods/{kind}-{name}.md"] = inside_page(name, method, index=thing not in indexed)
            indexed.add(thing)
    return pages


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
