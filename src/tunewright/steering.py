"""What people tell a study while it runs: to pause, to go on, to stop; notes and tags."""

from __future__ import annotations

from typing import Literal

from tunewright.core.trial import Trial
from tunewright.run import orders
from tunewright.view import View


class Steered(View):
    """A study that can be told what to do. What it is told is in its log, so it reaches every process that runs it."""

    @property
    def control(self) -> Literal["pause", "stop"] | None:
        """What people want of the study: ``"pause"``, ``"stop"``, or None to go on."""
        return self._session.sync().control

    @property
    def notes(self) -> orders.Remarks:
        """The newest notes and the tags: ``notes.study`` and ``notes.trials[number]``, each with ``note`` and ``tags``."""
        return orders.remarks(self._session.sync())

    def pause(self) -> bool:
        """Has no trial begun or continued, in any process, until ``resume``; running ones go on to their end.

        Returns:
            Whether it was not paused already.
        """
        return orders.order(self._session, "pause")

    def resume(self) -> bool:
        """Takes back ``pause`` and ``stop``; ``run`` does so, too.

        Returns:
            Whether there was something to take back.
        """
        return orders.order(self._session, "resume")

    def stop(self) -> bool:
        """Ends every run of the study as Ctrl-C does: running trials save and pause, and can be continued by ``run``.

        Returns:
            Whether it was not stopped already.
        """
        return orders.order(self._session, "stop")

    def note(self, text: str, trial: Trial | int | None = None) -> None:
        """Keeps a note about the study or a trial in the log; the newest one is shown, an empty one takes it back.

        Args:
            text: The note.
            trial: The trial; None for the study.

        Raises:
            ConfigError: If it is no text, or longer than 64 KiB, or there is no such trial.
        """
        orders.note(self._session, text, _number(trial))

    def tag(self, *tags: str, remove: str | tuple[str, ...] = (), trial: Trial | int | None = None) -> None:
        """Puts tags on the study or a trial, and takes tags off.

        Args:
            *tags: Short printable texts to put on.
            remove: Those to take off.
            trial: The trial; None for the study.

        Raises:
            ConfigError: If one is no short printable text, or there is no such trial.
        """
        off = (remove,) if isinstance(remove, str) else remove
        orders.tag(self._session, tags, off, _number(trial))


def _number(trial: Trial | int | None) -> int | None:
    return trial.id if isinstance(trial, Trial) else trial
