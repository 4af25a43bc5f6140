"""The dashboard of a study, in a process beside this one, for notebooks and interactive sessions."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
from html import escape

from tunewright.errors import ConfigError, RunError

__all__ = ["Shown", "show"]

_GRACE = 5.0


class Shown:
    """A dashboard that runs until it is closed, or this process ends.

    Attributes:
        url: Address to open in a browser of this machine; it lets its holder in.
    """

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process, self.url = process, url
        atexit.register(self.close)

    def close(self) -> None:
        """Ends the dashboard; safe to call twice."""
        atexit.unregister(self.close)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def __repr__(self) -> str:
        return f"Shown({self.url!r})"

    def _repr_html_(self) -> str:
        return (
            f'<a href="{escape(self.url, quote=True)}" target="_blank" rel="noopener">Open the dashboard</a>'
        )


def show(name: str, storage: str, durable: bool, browser: bool) -> Shown:
    """Starts the dashboard on a study, and opens it.

    Args:
        name: The study.
        storage: Where it is.
        durable: Whether another process reaches that place.
        browser: Whether to open a browser.

    Raises:
        ConfigError: If the study is in this process's memory.
        RunError: If the dashboard does not start.
    """
    if not durable:
        raise ConfigError(
            f"A dashboard needs a study that another process can read; '{name}' is in {storage}. "
            f"Keep it: Study.open(..., storage='studies.db'), or SearchCV(..., name='{name}')."
        )
    command = [
        sys.executable,
        "-m",
        "tunewright",
        "dashboard",
        name,
        f"--storage={storage}",
        "--no-browser",
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own command, without a shell
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    if not line:
        said = process.stderr.read().strip()
        Shown(process, "").close()
        raise RunError(f"The dashboard must start; it ended with: {said[-600:]}. Try: tunewright dashboard.")
    found = Shown(process, str(json.loads(line)["url"]))
    if browser:
        import webbrowser

        webbrowser.open(found.url)
    return found
