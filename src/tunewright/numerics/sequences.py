"""Point sets that fill the unit cube more evenly than independent draws.

*Use when* a first design is needed, or a search that spreads its points without looking at losses.

*Do not use when* points must be independent, for example to estimate an error by repetition with one seed.

*Paper*: Sobol (1967); direction numbers of Joe and Kuo (2008), "Constructing Sobol sequences with better
two-dimensional projections", table new-joe-kuo-6; Gray-code order of Antonov and Saleev (1979); scrambling by
Matousek (1998), "On the L2-discrepancy for anchored boxes": a random lower triangular matrix per dimension, then a
random digital shift. Latin hypercubes: McKay, Beckman, Conover (1979).

*Differs*: points are addressed by index, nothing is drawn in sequence. Past `SOBOL_DIMENSIONS` the coordinates are
independent uniform numbers hashed from (seed, dimension, index).

*Cost*: a point O(d log index); a block of n points O(n d log n).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Words = NDArray[np.uint64]

BITS = 32
"""Binary digits of a coordinate, so that a sequence has 2**32 distinct points."""

SOBOL_DIMENSIONS = 128
"""Dimensions with direction numbers; coordinates past it are plain uniform."""

# new-joe-kuo-6, dimensions 2 to 128, in hexadecimal: the primitive polynomial over GF(2) with all its coefficients,
# a colon, then the initial direction numbers m_1, m_2, ...
_JOE_KUO = """
    3:1 7:1,3 b:1,3,1 d:1,1,1 13:1,1,3,3 19:1,3,5,d 25:1,1,5,5,11 29:1,1,5,5,5 2f:1,1,7,b,13 37:1,1,5,1,1
    3b:1,1,1,3,b 3d:1,3,5,5,1f 43:1,3,3,9,7,31 5b:1,1,1,f,15,15 61:1,3,1,d,1b,31 67:1,1,1,f,7,5
    6d:1,3,1,f,d,19 73:1,1,5,5,13,3d 83:1,3,7,b,17,f,67 89:1,3,7,d,d,f,45 8f:1,1,3,d,7,23,3f
    91:1,3,5,9,1,19,35 9d:1,3,1,d,9,23,6b a7:1,3,1,5,1b,3d,1f ab:1,1,5,b,13,29,3d b9:1,3,5,3,3,d,45
    bf:1,1,7,d,1,13,1 c1:1,3,7,5,d,13,3b cb:1,1,3,9,19,1d,29 d3:1,3,5,d,17,1,37 d5:1,3,7,3,d,3b,11
    e5:1,3,1,3,5,35,45 ef:1,1,5,5,17,21,d f1:1,1,7,7,1,3d,7b f7:1,1,7,9,d,3d,31 fd:1,3,3,5,3,37,21
    11d:1,3,1,f,1f,d,31,f5 12b:1,3,5,f,1f,3b,3f,61 12d:1,3,1,b,b,b,4d,f9 14d:1,3,1,b,1b,2b,47,9
    15f:1,1,7,f,15,b,51,2d 163:1,3,7,3,19,1f,41,4f 165:1,3,1,1,13,b,3,cd 169:1,1,5,9,13,15,1d,9d
    171:1,3,7,b,1,21,59,b9 187:1,3,3,3,f,9,4f,47 18d:1,3,7,b,f,27,77,1b 1a9:1,1,3,1,b,1f,61,e1
    1c3:1,1,1,3,17,2b,39,b1 1cf:1,3,7,7,11,11,25,47 1e7:1,3,1,5,1b,3f,7b,d5 1f5:1,1,3,5,b,2b,35,85
    211:1,3,5,5,1d,11,2f,ad,1df 21b:1,3,3,b,3,1,6d,9,45 221:1,1,1,5,11,27,17,5,157
    22d:1,3,1,5,19,f,1f,67,1f3 233:1,1,1,b,b,11,3f,69,b7 259:1,1,5,b,9,1d,61,e7,16b
    25f:1,1,5,f,13,2d,29,7,17f 269:1,3,7,7,1f,13,53,89,dd 26f:1,1,1,3,17,f,6f,df,53
    277:1,1,5,d,1f,f,37,19,a1 27d:1,1,3,d,19,2f,27,57,101 287:1,1,1,b,15,35,7d,f9,125
    295:1,1,7,b,b,7,39,4f,143 2a3:1,1,5,5,11,d,51,3,83 2a5:1,1,7,d,17,7,41,fb,1db 2af:1,3,5,1,9,2b,3,95,b
    2b7:1,1,3,d,1f,d,d,ff,1e7 2bd:1,3,3,1,5,3f,59,5b,7f 2cf:1,1,3,3,1,13,7b,7f,ed
    2d1:1,1,5,7,17,1f,25,f3,121 2db:1,1,5,b,11,35,75,b7,1eb 2f5:1,1,1,5,1,d,d,d1,159
    2f9:1,1,3,f,1,39,73,7,21 313:1,3,1,b,7,2b,51,cf,af 315:1,3,1,1,f,1b,3f,ff,31 31f:1,3,5,3,1b,3d,69,ab,131
    323:1,1,5,3,1,3,39,f9,95 331:1,1,3,5,5,39,f,d,9f 33b:1,1,1,b,7,b,69,8d,e1 34f:1,3,3,5,1b,3b,79,65,10f
    35b:1,3,5,9,b,31,33,3b,73 361:1,1,7,1,17,2d,7d,47,1a3 36b:1,1,3,5,17,5,69,6d,4b
    36d:1,1,7,f,7,b,43,79,1c5 373:1,3,7,3,9,d,1f,1b,1c1 37f:1,3,1,f,13,27,27,59,f 385:1,1,1,1,1,21,49,91,17b
    38f:1,3,1,f,f,2b,1d,d,1e3 3b5:1,1,7,3,13,1b,55,83,1af 3b9:1,3,3,3,5,23,17,c3,15d
    3c7:1,3,3,7,9,1b,27,3b,129 3cb:1,1,3,9,b,11,d,f1,9d 3cd:1,3,7,f,19,39,21,bd,d5 3d5:1,1,7,1,9,37,49,53,d9
    3d9:1,3,3,d,13,1b,17,71,f9 3e3:1,3,5,3,17,2b,3,fd,1df 3e9:1,1,5,5,b,5,2d,75,d9
    3fb:1,3,3,7,1d,25,21,7b,93 409:1,3,1,f,5,5,25,e3,df,1cb 41b:1,1,7,5,5,27,3f,ff,87,1e7
    427:1,3,1,7,9,7,57,f9,d9,257 42d:1,1,3,d,9,2f,7,e1,16b,f7 465:1,3,7,d,13,d,9,43,9,2e1
    46f:1,3,5,5,13,3b,7,29,13f,2a5 481:1,1,5,3,1f,3f,f,2b,cf,315 48b:1,1,7,9,d,27,3,2f,1f1,a9
    4c5:1,3,1,7,15,11,61,13,19f,389 4d7:1,3,7,1,3,1f,47,6f,a5,7f 4e7:1,1,5,b,1,3d,53,77,cb,34f
    4f3:1,3,3,d,9,3d,13,61,2f,23 4ff:1,1,7,7,f,1d,3f,5f,1a1,1d5 50d:1,3,1,9,19,9,47,39,d5,181
    519:1,3,5,d,1f,2f,65,39,27,155 523:1,1,3,3,1f,39,7d,ad,16d,227 531:1,3,7,1,d,39,43,9d,1c3,2c3
    53d:1,1,1,7,15,d,69,59,1ad,3c5 543:1,1,5,9,11,33,2d,77,9d,8d 557:1,3,7,7,d,2d,5b,9,81,2e5
    56b:1,3,7,1,17,39,43,8d,97,23b 585:1,1,3,b,11,2f,5d,6b,177,9d 58f:1,3,3,5,b,15,2b,33,a9,393
    597:1,1,5,3,f,37,65,43,1c7,271 5a1:1,3,5,9,1,17,1d,2f,159,253 5c7:1,3,7,7,5,31,1d,9b,143,24d
    5e5:1,3,3,7,5,29,7f,3d,105,2cd
"""


@lru_cache(maxsize=1)
def _direction_table() -> Words:
    """Direction numbers of every dimension, digit by digit, shape (SOBOL_DIMENSIONS, BITS)."""
    table = np.zeros((SOBOL_DIMENSIONS, BITS), dtype=np.uint64)
    table[0] = [1 << (BITS - 1 - i) for i in range(BITS)]
    for row, entry in enumerate(_JOE_KUO.split(), start=1):
        left, right = entry.split(":")
        polynomial = int(left, 16)
        numbers = [int(word, 16) for word in right.split(",")]
        degree = len(numbers)
        # Recurrence (2) of Joe and Kuo; the leading coefficient is implied by the shift of m_{i - degree}.
        for i in range(degree, BITS):
            value = numbers[i - degree] ^ (numbers[i - degree] << degree)
            for k in range(1, degree):
                if polynomial >> (degree - k) & 1:
                    value ^= numbers[i - k] << k
            numbers.append(value)
        table[row] = [number << (BITS - 1 - i) for i, number in enumerate(numbers)]
    return table


@dataclass(frozen=True, eq=False)
class Sobol:
    """A Sobol sequence with random access; made by `sobol`.

    Attributes:
        directions: Direction numbers after scrambling, shape (BITS, min(d, SOBOL_DIMENSIONS)).
        shift: Digital shift, shape (min(d, SOBOL_DIMENSIONS),).
        keys: Hash keys of the remaining dimensions, shape (max(0, d - SOBOL_DIMENSIONS),).
        centred: True when points sit in the middle of their cell of width 2**-BITS, so that 0 never appears.
    """

    directions: Words
    shift: Words
    keys: Words
    centred: bool

    def point(self, index: int) -> Floats:
        """The point of one index.

        Args:
            index: Position in the sequence, from 0; it wraps at 2**BITS.

        Returns:
            Coordinates in [0, 1), shape (d,).
        """
        gray = (index ^ (index >> 1)) & ((1 << BITS) - 1)
        digits = [i for i in range(gray.bit_length()) if gray >> i & 1]
        word = self.shift
        if digits:
            word = word ^ np.bitwise_xor.reduce(self.directions[digits], axis=0)
        point = self._scale(word)
        if len(self.keys):
            tail = _uniform(self.keys + np.full(1, index, dtype=np.uint64) * _GOLDEN)
            return np.concatenate((point, tail))
        return point

    def block(self, start: int, n: int) -> Floats:
        """Consecutive points.

        Args:
            start: Position of the first point.
            n: How many points.

        Returns:
            Coordinates in [0, 1), shape (n, d).
        """
        index = np.arange(start, start + n, dtype=np.uint64)
        gray = index ^ (index >> np.uint64(1))
        word = np.repeat(self.shift[None, :], n, axis=0)
        for i in range(min(BITS, int(start + n).bit_length())):
            chosen = (gray >> np.uint64(i) & np.uint64(1)).astype(bool)
            word[chosen] ^= self.directions[i]
        block = self._scale(word)
        if len(self.keys):
            tail = _uniform(self.keys[None, :] + index[:, None] * _GOLDEN)
            return np.concatenate((block, tail), axis=1)
        return block

    def _scale(self, word: Words) -> Floats:
        """Words to [0, 1)."""
        cell = word.astype(np.float64)
        scaled: Floats = (cell + 0.5 if self.centred else cell) * 2.0**-BITS
        return scaled


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _uniform(words: Words) -> Floats:
    """Hashes words to [0, 1) with the finaliser of SplitMix64 (Steele, Lea, Flood, 2014)."""
    z = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    out: Floats = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return out


def sobol(d: int, seed_words: Sequence[int] | None) -> Sobol:
    """Prepares a Sobol sequence.

    Args:
        d: Dimensions, at least 1.
        seed_words: Non-negative integers that fix the scramble; None for the plain sequence, which starts at the
            origin and should only be used to compare with tables.

    Raises:
        ConfigError: `d` is less than 1, or the plain sequence is asked for past `SOBOL_DIMENSIONS`.
    """
    if d < 1:
        raise ConfigError(f"A Sobol sequence needs d >= 1; got d={d}. Give the number of columns.")
    exact = min(d, SOBOL_DIMENSIONS)
    directions = _direction_table()[:exact]
    if seed_words is None:
        if d > exact:
            raise ConfigError(
                f"The plain Sobol sequence has at most {exact} dimensions; got d={d}. Give seed words to scramble."
            )
        zero = np.zeros(exact, dtype=np.uint64)
        return Sobol(np.ascontiguousarray(directions.T), zero, zero[:0], centred=False)
    rng = np.random.default_rng([int(word) for word in seed_words])
    scrambled = _scramble(directions, rng)
    shift = rng.integers(0, 1 << BITS, size=exact, dtype=np.uint64)
    keys = rng.integers(0, 1 << 63, size=d - exact, dtype=np.uint64)
    return Sobol(np.ascontiguousarray(scrambled.T), shift, keys, centred=True)


def _scramble(directions: Words, rng: np.random.Generator) -> Words:
    """Multiplies the digits of every dimension by its own random unit lower triangular matrix over GF(2)."""
    d = len(directions)
    matrix = np.tril(rng.integers(0, 2, size=(d, BITS, BITS), dtype=np.int64), k=-1)
    matrix[:, np.arange(BITS), np.arange(BITS)] = 1
    places = np.arange(BITS - 1, -1, -1, dtype=np.uint64)
    digits = (directions[:, None, :] >> places[None, :, None] & np.uint64(1)).astype(np.int64)
    mixed = (matrix @ digits % 2).astype(np.uint64)
    out: Words = (mixed << places[None, :, None]).sum(axis=1, dtype=np.uint64)
    return out


def latin_hypercube(n: int, d: int, rng: np.random.Generator) -> Floats:
    """A random Latin hypercube: each column has exactly one point in each of n equal strata.

    Args:
        n: Points.
        d: Dimensions.
        rng: Source of randomness.

    Returns:
        Coordinates in [0, 1), shape (n, d).
    """
    strata = rng.permuted(np.tile(np.arange(n)[:, None], (1, d)), axis=0)
    out: Floats = (strata.astype(np.float64) + rng.random((n, d))) / max(n, 1)
    return out
