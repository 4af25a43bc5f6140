"""Writes the reference of the Python interface from ``tunewright.__all__``."""

from __future__ import annotations

import inspect

import tunewright

HEADER = """# Python interface

Everything a program needs is in `tunewright`, imported by convention as `tw`. Names that are not on this page are
internal and may change.

"""


def _directive(name: str) -> str:
    thing = getattr(tunewright, name)
    if inspect.isclass(thing):
        return f".. autoclass:: tunewright.{name}\n   :members:\n"
    if inspect.ismodule(thing):
        return f".. automodule:: {thing.__name__}\n   :members:\n"
    if callable(thing):
        return f".. autofunction:: tunewright.{name}\n"
    return f".. autodata:: tunewright.{name}\n"


def render() -> str:
    """The page as MyST Markdown with one autodoc directive per public name."""
    names = sorted(getattr(tunewright, "__all__", []), key=lambda name: (name.lower(), name))
    return HEADER + "\n".join(f"```{{eval-rst}}\n{_directive(name)}```\n" for name in names)
