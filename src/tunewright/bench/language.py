"""Text to train small language models on: a generated language of any size, or plays of Shakespeare where they are at hand.

The generated language has words of very different frequency (Zipf), made of letters that follow each other unevenly, and a
grammar in which each word makes some others likely. A better model of it is a larger one over a wide range of sizes, which is
what studies of scale need, and its text never runs out.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunewright.errors import ConfigError

Letters = NDArray[np.int64]
ALPHABET = " abcdefghijklmnopqrstuvwxyz"
_LONGEST = 8


@dataclass(frozen=True, slots=True)
class Language:
    """A random language: its words, and which follow which.

    Args:
        seed: Another language for every seed.
        words: Size of its vocabulary.
        followers: Words that each word makes likely.
        noise: Share of words that follow nothing but their own frequency.

    Raises:
        ConfigError: If a number is out of range.
    """

    seed: int = 0
    words: int = 400
    followers: int = 6
    noise: float = 0.2

    def __post_init__(self) -> None:
        if self.words < 2 or not 1 <= self.followers <= self.words:
            raise ConfigError(
                f"A language needs 2 words or more and 1 to that many followers; got {self.words} and {self.followers}."
            )
        if not 0.0 <= self.noise <= 1.0:
            raise ConfigError(f"The noise of a language is a share in [0, 1]; got {self.noise}.")

    def text(self, letters: int, seed: int = 0) -> Letters:
        """Letters of a text, as indices into ``ALPHABET``, shape ``(letters,)``; a text is the beginning of any longer one of its seed.

        Args:
            letters: Its length.
            seed: Another text of the same language for every seed.
        """
        lexicon, frequency, follows, weights = _made(self)
        out: list[Letters] = []
        had, word = 0, 0
        rng = np.random.default_rng([self.seed, seed, 7])
        cumulative = np.cumsum(frequency)
        chosen = np.cumsum(weights)
        while had < letters:
            free = np.searchsorted(cumulative, rng.random(1024), side="right").clip(max=self.words - 1)
            rank = np.searchsorted(chosen, rng.random(1024), side="right").clip(max=self.followers - 1)
            strays = rng.random(1024) < self.noise
            for i in range(1024):
                word = int(free[i]) if strays[i] else int(follows[word, rank[i]])
                out.append(lexicon[word])
                had += len(lexicon[word])
        return np.concatenate(out)[:letters]


@functools.lru_cache(maxsize=16)
def _made(language: Language) -> tuple[list[Letters], NDArray[np.float64], Letters, NDArray[np.float64]]:
    """The lexicon (each word with the space after it), the words' frequencies, their followers and the followers' weights."""
    rng = np.random.default_rng([language.seed, 3])
    n = len(ALPHABET)
    after = rng.dirichlet(np.full(n - 1, 0.15), size=n)
    lexicon: list[Letters] = []
    known: set[tuple[int, ...]] = set()
    while len(lexicon) < language.words:
        letters, here = [], 0
        for _ in range(int(rng.integers(2, _LONGEST + 1))):
            here = 1 + int(rng.choice(n - 1, p=after[here]))
            letters.append(here)
        if tuple(letters) not in known:
            known.add(tuple(letters))
            lexicon.append(np.array([*letters, 0]))
    frequency = 1.0 / np.arange(1, language.words + 1)
    frequency /= frequency.sum()
    follows = np.stack(
        [
            rng.choice(language.words, language.followers, replace=False, p=frequency)
            for _ in range(language.words)
        ]
    )
    weights = 1.0 / np.arange(1, language.followers + 1)
    return lexicon, frequency, follows, weights / weights.sum()


@functools.lru_cache(maxsize=2)
def plays(folder: str | None = None) -> tuple[Letters, str]:
    """Plays of Shakespeare as indices of letters, shape ``(n,)``, and the alphabet.

    Args:
        folder: Where ``text/tinyshakespeare.txt`` lies; by default the folder that ``TUNEWRIGHT_DATA`` names.

    Raises:
        ConfigError: If the file is not there.
    """
    path = Path(folder or os.environ.get("TUNEWRIGHT_DATA", "data")) / "text" / "tinyshakespeare.txt"
    if not path.exists():
        raise ConfigError(
            f"The plays are read from {path.name} in a folder 'text' of the data; there is none. Set TUNEWRIGHT_DATA to the "
            "folder of the data, or use a generated Language."
        )
    text = path.read_text(encoding="utf-8")
    alphabet = "".join(sorted(set(text)))
    return np.searchsorted(list(alphabet), list(text)).astype(np.int64), alphabet


def windows(letters: Letters, context: int, rows: int, rng: np.random.Generator) -> tuple[Letters, Letters]:
    """Random pieces of a text and the letters that follow each of theirs, both of shape ``(rows, context)``.

    Args:
        letters: Shape ``(n,)``.
        context: Letters of a piece.
        rows: Pieces.
        rng: Draws where they begin.

    Raises:
        ConfigError: If the text is not longer than a piece.
    """
    if len(letters) <= context:
        raise ConfigError(f"A text must be longer than the context of {context}; got {len(letters)} letters.")
    begin = rng.integers(0, len(letters) - context, size=(rows, 1))
    found = letters[begin + np.arange(context + 1)]
    return found[:, :-1], found[:, 1:]
