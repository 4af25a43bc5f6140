"""Writes the page of every error from ``tunewright.errors``: the tree is the source, this adds what to do."""

from __future__ import annotations

import inspect

from tunewright import errors

REMEDIES = {
    "TW000": "Catch this one to catch everything that the package raises on purpose.",
    "TW010": "Correct the named parameter. Nothing has been run or stored yet, so no trial is lost.",
    "TW020": "Correct the named argument. The message lists what would have been accepted.",
    "TW030": "Choose another method, or `auto`, which only chooses among methods that can handle the problem.",
    "TW031": (
        "This is a bug in the method, not in your code. If you wrote the method, run the law suite in `tests/laws` "
        "on it; otherwise report it together with the exported study."
    ),
    "TW032": 'Run the pip command in the message, for example `pip install "tunewright[trees]"`.',
    "TW040": "See the more specific code in the message. The log itself is never left half written.",
    "TW041": "Open the study to continue it, or give the new one another name.",
    "TW042": (
        "Check the name and the storage path. A path that does not exist yet is created, so a typing error in it "
        "shows up here and not earlier."
    ),
    "TW043": (
        "Nothing to do when you use `Study`: it decides again on the newer log. With a driver of your own, read the "
        "new events, tell them to the method and ask again."
    ),
    "TW044": (
        "Stop this attempt and throw its results away: the trial was given to somebody else, usually because the "
        "process did not renew its lease in time. Give the lease more time if single steps are long."
    ),
    "TW045": (
        "If the message names a newer version, upgrade Tunewright. If it says that the file is damaged, copy it "
        "before anything else and export what can still be read with `tunewright export`."
    ),
    "TW046": "Free the disk space, the lock or the permission that the message names, and run the same command again.",
    "TW050": "See the more specific code in the message.",
    "TW051": "Raise it yourself in a training function; the trial is recorded as invalid and the study goes on.",
    "TW052": (
        "Look at the failures with `tunewright trials STUDY --status failed`. After repairing the cause, run the "
        "same command again: finished trials are kept."
    ),
    "TW053": "The trial is started again from its last good checkpoint, or from the beginning if there is none.",
    "TW054": (
        "The method, its version or its dependencies changed since the study was made, or the method is not "
        "deterministic. The message names the first decision that differs."
    ),
}

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
