"""Writes the page of every error from ``tunewright.errors``: the tree is the source, this adds what to do."""

from __future__ import annotations

import inspect

from tunewright import errors
from tunewright.cli.explain import REMEDIES

HEADER = """# Errors

Every exception that the package raises on purpose is below `TunewrightError` and has a code. A message is one
sentence in one shape: what must hold, what was got, what to do. `tunewright explain CODE` shows the entry of this
page in the terminal. Exceptions of your own training function are not in this list: they are recorded on the trial
with their traceback and counted against the failure limit, and the study goes on.

This page is generated from `tunewright.errors`.
"""


def _kinds() -> list[type[errors.TunewrightError]]:
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.TunewrightError) and kind.__module__ == errors.__name__
    ]
    return sorted(kinds, key=lambda kind: kind.code)


def render() -> str:
    """The page as MyST Markdown, one section per code.

    Raises:
        ValueError: If an error has no remedy here, or a remedy belongs to no error.
    """
    kinds = _kinds()
    codes = {kind.code for kind in kinds}
    if codes != set(REMEDIES):
        raise ValueError(
            f"REMEDIES must have one entry per error code; differing: {sorted(codes ^ set(REMEDIES))}"
        )
    parts = [HEADER]
    for kind in kinds:
        parents = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
        parts.append(
            f"({kind.code.lower()})=\n## {kind.code} {kind.__name__}\n\n{inspect.getdoc(kind)}\n\n"
            f"*Derives from* {parents}.\n\n**What to do.** {REMEDIES[kind.code]}\n"
        )
    return "\n".join(parts)
