"""Copies of an input under the noises that add nothing, from 64-bit words: the definition.

A recipe is what a noise makes of one input, in arrays that every backend reads.  A value has two
words (the layout of float64), whatever the type of the copies: 64 bits tell each probability to
2^-64, which category follows to 2^-52 of its share, and where a split lies to 2^-53 of a cell.

Splitting with a whole number of copies uses no words: sample i stands (first + i) mod copies
steps along, first from the key, and the relative offsets come from key 0 and a stream of
their own, so that all inputs have the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cert_core.errors import Float

U64 = np.uint64
Words = np.ndarray[Any, np.dtype[np.uint64]]
Codes = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class Table:
    """A value stays if its word is at most last[code]; else the rest of the word, times share,
    says which other category it becomes."""

    codes: Codes
    last: Words
    share: Float
    values: Any

    def rows(self, words: Words) -> Any:
        last = self.last[self.codes]
        rest = (words - last - U64(1)).astype(np.float64)
        other = np.minimum(rest * self.share[self.codes], len(self.values) - 2).astype(np.int64)
        other += other >= self.codes
        return self.values[np.where(words <= last, self.codes, other)]


@dataclass(frozen=True, eq=False)
class Subset:
    """Coordinate j is seen with probability (left to see)/(left at all): selection sampling."""

    row: Any
    keep: int
    null: Any

    def rows(self, words: Words) -> Any:
        out = np.full(words.shape, self.null)
        left = np.full(len(words), self.keep, dtype=np.uint64)
        for j in range(words.shape[1]):
            seen = product_high(words[:, j], words.shape[1] - j) < left
            out[seen, j] = self.row[j]
            left -= seen
        return out


def split_places(words: Words, copies: int) -> Codes:
    """Where each coordinate's splits stand, in steps, from the words of OFFSETS and key 0."""
    places = (words >> U64(11)).astype(np.float64) * (copies * 2.0**-53)
    offsets: Codes = np.minimum(places, copies - 1).astype(np.int64)
    offsets.flags.writeable = False
    return offsets


def split_steps(first: float, start: int, n: int, copies: int) -> Codes:
    """Where samples start, start + 1, ... stand; first is the key's own uniform."""
    begin = (int(first * copies) + start) % copies
    steps: Codes = (begin + np.arange(n)) % copies
    return steps


def product_high(word: Words, m: int) -> Words:
    """word m / 2^64 rounded down, m < 2^32."""
    half = U64(32)
    low: Words = (word & U64(0xFFFFFFFF)) * U64(m) >> half
    return (word >> half) * U64(m) + low >> half


@dataclass(frozen=True, eq=False)
class Cells:
    """The middle of the cell, of this width in steps, between splits at s, cut to [0, levels]."""

    codes: Codes
    width: float
    levels: int
    dtype: str

    def rows(self, words: Words) -> Any:
        return self.at((words >> U64(11)).astype(np.float64) * (self.width * 2.0**-53))

    def moved(self, offsets: Codes, steps: Codes) -> Any:
        """The rows whose splits stand these steps along from relative offsets."""
        places = (offsets + steps[:, None]) % int(self.width)
        return self.at(places.astype(np.float64) + 0.5)

    def at(self, splits: Float) -> Any:
        """The rows whose splits are at s, s +- width, ..."""
        low = splits + self.width * np.floor((self.codes - splits) / self.width)
        ends = np.maximum(low, 0.0) + np.minimum(low + self.width, self.levels)
        return (ends * (0.5 / self.levels)).astype(self.dtype)


Recipe = Table | Subset | Cells
