"""What a command returns to the shell, and how errors are said."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tunewright import errors

DONE, INTERNAL, USAGE, NONE_SUCCEEDED, GAVE_UP, STORE, CONFLICT, TARGET = range(8)
_CODES: tuple[tuple[type[errors.TunewrightError], int], ...] = (
    (errors.SpaceConflict, CONFLICT),
    (errors.TooManyFailures, GAVE_UP),
    (errors.StudyExists, USAGE),
    (errors.StudyMissing, USAGE),
    (errors.StoreError, STORE),
    (errors.AlgorithmError, INTERNAL),
    (errors.RunError, INTERNAL),
)


def code_of(error: errors.TunewrightError) -> int:
    """The exit code of an error; wrong usage unless the table says otherwise."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), USAGE)


def guarded(body: Callable[[], Any], *, debug: bool) -> int:
    """Runs a command, says its error in one sentence, and returns the exit code.

    Args:
        body: The command.
        debug: Show the traceback as well.
    """
    try:
        result = body()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        return 128 + signal.SIGINT
    except (BrokenPipeError, SystemExit):
        # The reader of a pipe has seen enough, which click turns into an exit. Python would complain at the last flush.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process
        return 128 + signal.SIGPIPE
    except errors.TunewrightError as error:
        if debug:
            traceback.print_exc()
        say(f"error[{error.code}]: {error}")
        return code_of(error)
    except Exception as error:  # noqa: BLE001 - the last place that can say it in one sentence
        if debug:
            traceback.print_exc()
        text = " ".join(str(error).split())[:300]
        say(
            f"error: something went wrong inside Tunewright, {type(error).__name__}: {text}; run it again with --debug."
        )
        return INTERNAL
    return result if isinstance(result, int) else DONE


def say(text: str) -> None:
    """Prints a message to standard error."""
    click.echo(text, err=True)
