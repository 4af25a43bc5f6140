"""How to train with the parameters of a trial: as a command line, as Python, as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

from tunewright.core.trial import Ledger, Trial
from tunewright.run.template import fill

COMMAND = "command"
"""Topic of the note that says how a study was run from the command line."""


def command_note(ledger: Ledger) -> dict[str, Any] | None:
    """How a study was last run from the command line, or None."""
    return next((n.data for _, n in reversed(ledger.notes) if n.topic == COMMAND), None)


def command_line(ledger: Ledger, trial: Trial) -> str | None:
    """The command that trains with the parameters of a trial; None for a study that was not run as a command."""
    note = command_note(ledger) or {}
    if not note.get("argv"):
        return None
    values = {"trial": trial.number, "seed": ledger.problem.seed, "checkpoint_dir": ".", **trial.params}
    return shlex.join(fill(note["argv"], values))


def call(ledger: Ledger, trial: Trial) -> str:
    """The call of the training function with the parameters of a trial, as Python."""
    note = command_note(ledger) or {}
    name = str(note.get("function", "")).rpartition(":")[2] or "train"
    return f"{name}({arguments(trial.params)})"


def arguments(params: Mapping[str, Any]) -> str:
    """Parameters as the arguments of a call.

    Example:
        >>> arguments({"lr": 0.1}), arguments({"model.lr": 0.1})
        ('lr=0.1', "**{'model.lr': 0.1}")
    """
    if all(name.isidentifier() for name in params):
        return ", ".join(f"{name}={value!r}" for name, value in params.items())
    return f"**{dict(params)!r}"


def usage(ledger: Ledger, trial: Trial) -> str:
    """How to train with the parameters of a trial: a command line, or a call."""
    line = command_line(ledger, trial)
    return call(ledger, trial) if line is None else line


def copies(ledger: Ledger, trial: Trial) -> dict[str, str | None]:
    """The parameters of a trial in each form that somebody may want to paste: ``command``, ``python``, ``json``."""
    text = msgspec.json.format(msgspec.json.encode(trial.params), indent=2).decode()
    return {"command": command_line(ledger, trial), "python": call(ledger, trial), "json": text}
