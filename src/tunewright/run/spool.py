"""Words of workers that could not be delivered yet, on disk until they are: one file for each attempt.

A file is a row of records: length and CRC-32 of the content, four bytes each, lowest first, then the content. A word is
flushed to the disk before its worker goes on. A record without content says that one more word was acknowledged. What a crash cut off at the end is left out when the file is read again.
Whoever writes or delivers a file holds its lock, so a worker that is started again takes over only what dead ones left.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import struct
import zlib
from collections import deque
from pathlib import Path

from tunewright.errors import StoreUnavailable

log = logging.getLogger(__name__)
_HEAD = struct.Struct("<II")
_LARGEST = 64 << 20
_NAME = re.compile(r"trial-(\d{1,12})-(\d{1,18})\.spool")


class Letters:
    """What is to be said about one attempt, in order.

    Attributes:
        trial: Number of the trial.
        token: The attempt.
        path: The file.
        pending: Words that are not acknowledged yet.
    """

    def __init__(self, path: Path, trial: int, token: int, fd: int) -> None:
        self.path = path
        self.trial = trial
        self.token = token
        self.pending: deque[bytes] = deque()
        self._fd = fd

    def add(self, word: bytes) -> None:
        """Keeps a word; where the disk is full it is kept in memory alone."""
        self.pending.append(word)
        try:
            write_all(self._fd, _HEAD.pack(len(word), zlib.crc32(word)) + word)
            os.fsync(self._fd)
        except OSError as error:
            log.warning("%s could not be written (%s); this worker keeps it in memory", self.path, error)

    def acknowledged(self) -> None:
        """Strikes off the first word: it is where it should be."""
        self.pending.popleft()
        # What a power cut takes of this is only said once more.
        with contextlib.suppress(OSError):
            write_all(self._fd, _HEAD.pack(0, 0))

    def remove(self) -> None:
        """Removes the file: all of it was acknowledged, or is no longer wanted."""
        self.pending.clear()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Lets go of the file, so that another worker may deliver it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Spool:
    """The undelivered words of one study's workers in one folder.

    Args:
        folder: The folder; made when missing, for its owner only.

    Raises:
        StoreUnavailable: If it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"A worker keeps results that cannot be delivered in {folder}; making it gave '{error}'. "
                "Start it in a folder that it may write to."
            ) from error

    def begin(self, trial: int, token: int) -> Letters:
        """Letters for an attempt of this process."""
        path = self.folder / f"trial-{trial}-{token}.spool"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _flush_folder(self.folder)
        except OSError as error:
            log.warning("%s could not be made (%s); this worker keeps its results in memory", path, error)
            fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        return Letters(path, trial, token, fd)

    def orphans(self) -> list[Letters]:
        """What workers left that are gone, by trial; it is this process's to deliver from now on."""
        found = []
        for path in sorted(self.folder.glob("*.spool")):
            match = _NAME.fullmatch(path.name)
            letters = self._adopt(path, int(match[1]), int(match[2])) if match else None
            if letters is not None:
                found.append(letters)
        return found

    def _adopt(self, path: Path, trial: int, token: int) -> Letters | None:
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last owner may have removed it between our looking and our locking.
            if os.fstat(fd).st_nlink == 0:
                raise BlockingIOError
        except OSError:
            os.close(fd)
            return None
        letters = Letters(path, trial, token, fd)
        words, good, size = read_words(fd)
        if good < size:
            log.warning("%s ends in the middle of a word; its last %d bytes are left out", path, size - good)
            os.ftruncate(fd, good)
            os.fsync(fd)
        for word in words:
            if word:
                letters.pending.append(word)
            elif letters.pending:
                letters.pending.popleft()
        return letters


def read_words(fd: int) -> tuple[list[bytes], int, int]:
    """The words of a file up to the first that is cut or damaged, where they end, and the size of the file."""
    size = os.fstat(fd).st_size
    words: list[bytes] = []
    place = 0
    while place + _HEAD.size <= size:
        length, check = _HEAD.unpack(os.pread(fd, _HEAD.size, place))
        if length > _LARGEST or place + _HEAD.size + length > size:
            break
        word = os.pread(fd, length, place + _HEAD.size)
        if zlib.crc32(word) != check:
            break
        words.append(word)
        place += _HEAD.size + length
    return words, place, size


def write_all(fd: int, data: bytes) -> None:
    """Writes all of it; takes back what was written when the rest does not fit.

    Raises:
        OSError: If it cannot be written.
    """
    before = os.fstat(fd).st_size
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, before)
        raise


def key_of(*parts: object) -> str:
    """A name for a folder that stands for a study on a server."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]


def _flush_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
