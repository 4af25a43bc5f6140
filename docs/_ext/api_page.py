"""Writes the reference of the Python interface from ``tunewright.__all__``."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

import tunewright

HEADER = """# Python interface

Everything a program needs is in `tunewright`, imported by convention as `tw`. Names that are not on this page are
internal and may change.

"""


INSIDE = """# Tuning inside a run

`tunewright.hypergrad` needs PyTorch: `pip install "tunewright[torch]"`. Engines and methods have
[pages of their own](../methods/inside.md); here is everything that is imported from the package itself.

"""


REMOVING = """# Removing the choice

`tunewright.optim` needs PyTorch: `pip install "tunewright[torch]"`. Methods have [pages of their own](../methods/removing.md);
here is everything that is imported from the package itself.

"""


PREDICTING = """# Predicting the choice

`tunewright.scaling`. Laws need nothing but the package; parametrizations and checks need PyTorch:
`pip install "tunewright[torch]"`. Methods have [pages of their own](../methods/predicting.md); here is everything that is imported
from the package itself.

"""


FEDERATED = """# Federated training

`tunewright.federated` needs PyTorch: `pip install "tunewright[torch]"`. [The guide](../guides/federated.md) shows it at work.

"""


def _directive(module: ModuleType, name: str) -> str:
    thing = getattr(module, name)
    if inspect.isclass(thing):
        return f".. autoclass:: {module.__name__}.{name}\n   :members:\n"
    if inspect.ismodule(thing):
        return f".. automodule:: {thing.__name__}\n   :members:\n   :no-index:\n"
    if callable(thing):
        return f".. autofunction:: {module.__name__}.{name}\n"
    return f".. autodata:: {module.__name__}.{name}\n"


def _page(module: ModuleType, header: str) -> str:
    names = sorted(getattr(module, "__all__", []), key=lambda name: (name.lower(), name))
    return header + "\n".join(f"```{{eval-rst}}\n{_directive(module, name)}```\n" for name in names)


def render() -> str:
    """The page as MyST Markdown with one autodoc directive per public name."""
    return _page(tunewright, HEADER)


def inside() -> str:
    """The same for what tunes inside a run."""
    return _page(importlib.import_module("tunewright.hypergrad"), INSIDE)


def removing() -> str:
    """The same for what removes a choice."""
    return _page(importlib.import_module("tunewright.optim"), REMOVING)


def predicting() -> str:
    """The same for what predicts a choice."""
    return _page(importlib.import_module("tunewright.scaling"), PREDICTING)


def federated() -> str:
    """The same for the federated simulator."""
    return _page(importlib.import_module("tunewright.federated"), FEDERATED)
