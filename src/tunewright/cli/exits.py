"""What a command returns to the shell, and how errors are said."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import click

from tunewright import errors
from tunewright.core.texts import visible
from tunewright.store.redact import without_secrets

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
        with screened():
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
            say(traceback.format_exc())
        say(f"error[{error.code}]: {error}")
        return code_of(error)
    except Exception as error:  # noqa: BLE001 - the last place that can say it in one sentence
        if debug:
            say(traceback.format_exc())
        text = " ".join(str(error).split())[:300]
        say(
            f"error: something went wrong inside Tunewright, {type(error).__name__}: {text}; run it again with --debug."
        )
        return INTERNAL
    return result if isinstance(result, int) else DONE


def say(text: str) -> None:
    """Prints a message to standard error, without passwords, and with nothing in it that the terminal would obey."""
    click.echo(visible(without_secrets(text)), err=True)


class Screen:
    """Standard output as commands see it: what trials, names and errors hold is shown and not obeyed by a terminal.

    Args:
        stream: Where the text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes a text with its control characters escaped; see ``core.limits.visible``."""
        self.stream.write(visible(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def screened() -> Iterator[None]:
    """Inside, what is printed goes through a ``Screen``."""
    before = sys.stdout
    screen: Any = Screen(before)
    sys.stdout = screen
    try:
        yield
    finally:
        if sys.stdout is screen:
            sys.stdout = before
