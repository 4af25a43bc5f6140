"""What every error code means and what to do; the page of errors in the documentation is made from this."""

from __future__ import annotations

import difflib
import inspect

from tunewright import errors
from tunewright.errors import ConfigError

REMEDIES: dict[str, str] = {
    "TW000": "Catch this one to catch everything that the package raises on purpose.",
    "TW010": "Correct the named parameter. Nothing has been run or stored yet, so no trial is lost.",
    "TW011": (
        "Compare the two spaces in the message. To go on with the new one, allow a new version of the space: earlier "
        "trials are kept and used where they fit. Otherwise give the study another name."
    ),
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
        "If the message names a newer version, upgrade Tunewright. If it says that something is damaged, run "
        "`tunewright doctor`: it says what is wrong and changes nothing. `tunewright doctor --repair` copies the file "
        "aside and mends it; where it cannot even be opened, `tunewright doctor --salvage NEW.db` saves what can be read."
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
    "TW055": (
        "Lower the learning rate of the training or of the hyperparameters, or narrow the domain of the hyperparameter that "
        "ran away; `tunewright.hypergrad.check(problem)` shows curvature and scales before anything is trained. What was "
        "reached before is in the error's `run`."
    ),
}


def kinds() -> dict[str, type[errors.TunewrightError]]:
    """Every error of the package by code."""
    found = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.TunewrightError) and kind.__module__ == errors.__name__
    ]
    return {kind.code: kind for kind in sorted(found, key=lambda kind: kind.code)}


def entry(code: str) -> dict[str, str]:
    """Code, name, meaning and remedy of an error, by its code or its name.

    Raises:
        ConfigError: If there is none, with the nearest code.
    """
    known = kinds()
    wanted = {kind.__name__.lower(): c for c, kind in known.items()}.get(code.lower(), code.upper())
    if wanted not in known:
        close = difflib.get_close_matches(wanted, known, 1)
        hint = f"Did you mean {close[0]}?" if close else "They look like TW041."
        raise ConfigError(f"explain needs the code of an error; got {code!r}. {hint}")
    kind = known[wanted]
    return {
        "code": wanted,
        "name": kind.__name__,
        "meaning": inspect.getdoc(kind) or "",
        "remedy": REMEDIES[wanted],
    }
