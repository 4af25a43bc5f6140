"""Brings the words of a worker's trials to the server, each trial's in order, and keeps them while that is impossible.

While the server answers, words are said at once and their answers are verdicts. When it does not, training goes on:
words are written to the spool and delivered by a thread once the server is back, before anything newer of the same
trial. What is said twice because an answer was lost is written once; see ``Store.append``.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from tunewright.errors import CheckpointError, LeaseLost, StoreUnavailable, StudyMissing, TunewrightError
from tunewright.run.messages import Answer, Finish, FromWorker, Save, from_worker, pack
from tunewright.run.spool import Letters, Spool
from tunewright.store import blobs

_DICE = random.SystemRandom()  # pauses must not advance the generator that trainings draw from

log = logging.getLogger(__name__)
_DIRECT = 4 << 20
_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
_SAVE = pack(Save(0, 0, 0, ""))[:14]
Key = tuple[int, int]


class News(NamedTuple):
    """What the thread learned about an attempt.

    Attributes:
        trial: Number of the trial.
        token: The attempt.
        kind: A verdict; ``"lost"`` when the attempt was taken over; ``"refused"`` when the server cannot use what it
            says; ``"done"`` when its last word was acknowledged; ``"gone"`` when there is no such study any more.
        text: Why.
    """

    trial: int
    token: int
    kind: Literal["stop", "pause", "lost", "refused", "done", "gone"]
    text: str = ""


class Courier:
    """Delivers words of trials to a server.

    Args:
        say: Says one word to the server, once: the word, and whether it may have been said already.
        upload: Brings a checkpoint file to the server, once.
        probe: Finds out whether the server answers.
        spool: Where words wait.
    """

    def __init__(
        self,
        say: Callable[[bytes, bool], Answer],
        upload: Callable[[Path], None],
        probe: Callable[[], None],
        spool: Spool,
    ) -> None:
        self._say = say
        self._upload = upload
        self._probe = probe
        self._spool = spool
        self._letters: dict[Key, Letters] = {}
        self._places: dict[Key, Path] = {}
        self._uploaded: dict[Key, set[str]] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._done = False
        self.away = False
        self.news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._deliver, name="tunewright-courier", daemon=True)

    # ------------------------------------------------------------------ the worker's side

    def start(self, place_of: Callable[[int], Path]) -> list[Key]:
        """Takes over what dead workers left, and begins to deliver; returns whose words these are."""
        for letters in self._spool.orphans():
            key = (letters.trial, letters.token)
            self._places[key] = place_of(letters.trial)
            last = from_worker(letters.pending[-1]) if letters.pending else None
            if not isinstance(last, Finish):
                # Its training died with its worker, so others need not wait for the lease to run out.
                letters.add(pack(Finish(*key, "lost", error="its worker was ended")))
            self._letters[key] = letters
            log.warning(
                "delivering %d words about trial %d that an earlier worker could not",
                len(letters.pending),
                key[0],
            )
        self._thread.start()
        return list(self._letters)

    def hold(self, trial: int, token: int, place: Path, there: str | None = None) -> None:
        """Tells where the checkpoint files of an attempt are, and which one the server has."""
        self._places[trial, token] = place
        self._uploaded[trial, token] = {there} if there is not None else set()

    def send(self, message: FromWorker) -> Answer | None:
        """Says a word now, or keeps it for later; None where it was kept.

        Raises:
            TunewrightError: What the server refused it with.
        """
        key = (message.trial, message.token)
        with self._lock:
            direct = not self.away and key not in self._letters
        doubtful = False
        if direct and self._size(message) <= _DIRECT:
            try:
                return self._pass(message, pack(message), again=False)
            except StoreUnavailable as error:
                doubtful = True
                self._leave(str(error))
        with self._lock:
            letters = self._letters.get(key)
            if letters is None:
                letters = self._letters[key] = self._spool.begin(*key)
            if isinstance(message, Save):
                self._discard(key, letters)
            letters.add(pack(message))
        if doubtful:
            log.info("trial %d goes on without the server", message.trial)
        self._wake.set()
        return None

    def ask(self, message: FromWorker, again: bool) -> Answer:
        """Says a word whose answer the training needs, once.

        Args:
            message: The word.
            again: Whether it may have been said already.

        Raises:
            TunewrightError: What the server refused it with, or that it did not answer.
        """
        return self._say(pack(message), again)

    def unreachable(self, reason: str) -> None:
        """Notes that the server did not answer something else."""
        self._leave(reason)

    def answered(self) -> None:
        """Notes that the server answered something else."""
        with self._lock:
            self._come_back()

    def forget(self, trial: int, token: int) -> None:
        """Drops what is kept of an attempt: nobody wants it any more."""
        with self._lock:
            letters = self._letters.pop((trial, token), None)
            if letters is not None:
                letters.remove()
            self._places.pop((trial, token), None)
            self._uploaded.pop((trial, token), None)

    @property
    def held(self) -> list[Key]:
        """Attempts of which something waits to be delivered."""
        with self._lock:
            return list(self._letters)

    def stop(self, seconds: float) -> int:
        """Gives the thread some time to deliver the rest; returns how many attempts stay in the spool."""
        self._done = True
        self._wake.set()
        self._thread.join(max(0.1, seconds))
        with self._lock:
            left = len(self._letters)
            for letters in self._letters.values():
                letters.close()
        return left

    # ------------------------------------------------------------------ the thread

    def _deliver(self) -> None:
        pause = _PAUSE
        while True:
            with self._lock:
                waiting = list(self._letters.items())
            if not waiting and (self._done or not self.away):
                if self._done:
                    return
                self._wake.wait(1.0)
                self._wake.clear()
                continue
            try:
                if not waiting:
                    self._probe()
                for key, letters in waiting:
                    self._empty(key, letters)
            except Exception as error:
                # Without this thread nothing would be delivered any more, whatever it was.
                if not isinstance(error, StoreUnavailable):
                    log.exception("results could not be delivered this time")
                self._leave(str(error))
                if self._done and pause > 2 * _PAUSE:
                    return
                self._wake.wait(_DICE.uniform(_PAUSE / 2, pause))
                self._wake.clear()
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = _PAUSE
                self.answered()

    def _empty(self, key: Key, letters: Letters) -> None:
        """Delivers what waits of one attempt.

        Raises:
            StoreUnavailable: If the server does not answer.
        """
        while letters.pending:
            word = letters.pending[0]
            message = from_worker(word)
            if isinstance(message, Save) and any(map(_is_save, list(letters.pending)[1:])):
                letters.acknowledged()  # a newer one follows
                continue
            try:
                answer = self._pass(message, word, again=True)
            except StoreUnavailable:
                raise
            except (LeaseLost, StudyMissing) as error:
                log.warning("what trial %d did was not recorded: %s", key[0], error)
                self.forget(*key)
                self.news.put(News(*key, "gone" if isinstance(error, StudyMissing) else "lost", str(error)))
                return
            except TunewrightError as error:
                if not isinstance(message, Finish) or message.outcome == "failed":
                    log.warning("a word about trial %d cannot be recorded: %s", key[0], error)
                    self.news.put(News(*key, "refused", str(error)))
                    letters.acknowledged()
                else:
                    letters.pending[0] = pack(failed(message, str(error)))
                continue
            letters.acknowledged()
            if answer.verdict:
                self.news.put(News(*key, answer.verdict))
            if isinstance(message, Finish):
                self.forget(*key)
                self.news.put(News(*key, "done"))
                return
        with self._lock:
            # What is said from now on goes to the server at once again.
            if not letters.pending and self._letters.get(key) is letters:
                del self._letters[key]
                letters.remove()

    def _pass(self, message: FromWorker, word: bytes, *, again: bool) -> Answer:
        """Says a word once, after the checkpoint that it speaks of."""
        key = (message.trial, message.token)
        name = message.checkpoint if isinstance(message, Save | Finish) else None
        if name and name not in self._uploaded.setdefault(key, set()):
            path = self._file(message)
            if path is None:
                # Nobody can go on from a file that is gone.
                log.warning("checkpoint %s of trial %d is not in its folder any more", name, message.trial)
                if isinstance(message, Save):
                    return Answer()
                word = pack(msgspec.structs.replace(message, checkpoint=None))
            else:
                self._upload(path)
                self._uploaded[key].add(name)
        return self._say(word, again)

    def _discard(self, key: Key, letters: Letters) -> None:
        """Removes the files of checkpoints that wait and that a newer one replaces, so that the disk does not fill up."""
        place = self._places.get(key)
        # The first word may be on its way.
        for word in list(letters.pending)[1:]:
            message = from_worker(word) if _is_save(word) else None
            if isinstance(message, Save) and place is not None:
                with contextlib.suppress(OSError, CheckpointError):
                    blobs.remove(place, message.checkpoint)

    def _file(self, message: FromWorker) -> Path | None:
        name = message.checkpoint if isinstance(message, Save | Finish) else None
        place = self._places.get((message.trial, message.token))
        if not name or place is None:
            return None
        path = place / name
        return path if path.is_file() else None

    def _size(self, message: FromWorker) -> int:
        path = self._file(message)
        with contextlib.suppress(OSError):
            return path.stat().st_size if path is not None else 0
        return 0

    def _leave(self, reason: str) -> None:
        with self._lock:
            if not self.away:
                self.away = True
                log.warning(
                    "the server does not answer; trainings go on and their results are kept: %s", reason
                )
        self._wake.set()

    def _come_back(self) -> None:
        if self.away:
            self.away = False
            log.warning("the server answers again")


def _is_save(word: bytes) -> bool:
    return word.startswith(_SAVE)


def failed(message: Finish, reason: str) -> Finish:
    """An ending that the server can record, in place of one that it cannot."""
    return msgspec.structs.replace(
        message, outcome="failed", metrics=None, variance=None, error=reason[:2000], checkpoint=None, met=None
    )
