"""The sketch of a list (domain/minhash.py) made in one pass over its digests."""

from __future__ import annotations

import numpy as np

from tieline_server.domain.minhash import BIN_BITS, BINS, EMPTY
from tieline_server.matching.compiled import U8, U32, U64, frozen, kernel
from tieline_server.matching.mixing import lane

_M32 = np.uint64(0xFFFFFFFF)
_S29, _S32 = np.uint64(29), np.uint64(32)
_BIN_SHIFT, _VALUE_SHIFT = np.uint64(64 - BIN_BITS), np.uint64(32 - BIN_BITS)


def least_of_bins(rows: U8, words: U64) -> U32:
    """Return what `minhash.least_of_bins` does."""
    least: U32 = np.full(BINS, EMPTY, dtype=np.uint32)
    _least(frozen(rows), frozen(words), least)
    return least


@kernel
def _least(digests: U8, words: U64, least: U32) -> None:
    rows, width = digests.shape[0], digests.shape[1] // 4
    # Written out, as in mixing.py.
    begin, odd = words[0], words[1] | np.uint64(1)
    first, second, third, fourth, fifth = words[2], words[3], words[4], words[5], words[6]
    for i in range(rows):
        x = begin + first * np.uint64(lane(digests, i, 0))
        x += second * np.uint64(lane(digests, i, 1))
        x += third * np.uint64(lane(digests, i, 2)) + fourth * np.uint64(lane(digests, i, 3))
        if width > 4:
            x += fifth * np.uint64(lane(digests, i, 4))
            for j in range(5, width):
                x += words[2 + j] * np.uint64(lane(digests, i, j))
        x ^= x >> _S32
        x *= odd
        x ^= x >> _S29
        x *= odd
        x ^= x >> _S32
        at = x >> _BIN_SHIFT
        value = np.uint32((x >> _VALUE_SHIFT) & _M32)
        if value < least[at]:  # noqa: PLR1730 - seldom: the next one would wait for each write
            least[at] = value
