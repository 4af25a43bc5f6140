"""The files of a thin worker's trials on its own machine: checkpoints on their way, files of scripts, logs."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from tunewright.errors import CheckpointError, StoreUnavailable
from tunewright.run.messages import Segment
from tunewright.store import blobs
from tunewright.store.depots import depot


class Luggage:
    """A folder for each trial.

    Training code sees only the folder: it saves while the server is away, and needs no token.

    Args:
        address: Where the study's checkpoints are on the server.
        folder: Folder of the study on this machine.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self._folder = folder

    def place(self, trial: int) -> Path:
        """Folder of a trial: its checkpoints until they are delivered, its files and its log."""
        return self._folder / f"trial-{trial}"

    def unpack(self, trial: int) -> Path:
        """The folder of a trial that begins here, made when it is missing.

        Raises:
            StoreUnavailable: If it cannot be made.
        """
        place = self.place(trial)
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"A worker needs a folder that it may write to; {place} gave '{error}'. Start it elsewhere."
            ) from error
        return place

    def fetch(self, segment: Segment) -> None:
        """Brings the checkpoints that a segment needs, under the names that they have on the server.

        Raises:
            CheckpointError: If one is missing or damaged.
            StoreUnavailable: If the server does not answer.
        """
        for name in (segment.checkpoint, segment.teacher):
            if name is not None and not blobs.exists(segment.blobs, name):
                copy = blobs.get_file(self._address, name)
                blobs.put_file(segment.blobs, name.rpartition(".")[0], copy, flush=False)

    def send(self, path: Path) -> None:
        """Brings a checkpoint to the server, in one try.

        Raises:
            StoreUnavailable: If that fails.
        """
        try:
            depot(self._address).put(path.name, path)
        except OSError as error:
            raise StoreUnavailable(
                f"A checkpoint must reach the server; {path.name} gave '{error}'. It is kept here until then."
            ) from None

    def clear(self, trial: int, *, over: bool) -> None:
        """Removes what is safe on the server by now; the log stays, and the files of a trial that may go on."""
        place = self.place(trial)
        for entry in blobs.listing(place):
            with contextlib.suppress(CheckpointError, OSError):
                blobs.remove(place, entry.name)
        if over:
            shutil.rmtree(place / "files", ignore_errors=True)
