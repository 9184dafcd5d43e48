"""Packed digests as arrays: their order, looked at eight bytes at a time.

Digests are as good as random, so their first eight bytes decide almost every comparison; the rest
of a row is looked at only where those are equal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
Index = npt.NDArray[np.int64]


def prefixes(rows: U8) -> U64:
    """Return the first eight bytes of (n, width) rows as big-endian numbers, (n,) uint64."""
    rows = np.ascontiguousarray(rows)
    first = np.ndarray((len(rows),), dtype=">u8", buffer=rows, strides=(rows.strides[0],))
    return first.astype(np.uint64)


def is_strictly_ascending(rows: U8) -> bool:
    """Whether each (n, width) row is lexicographically greater than the one before."""
    if len(rows) < 2:
        return True
    keys = prefixes(rows)
    before, here = keys[:-1], keys[1:]
    if (before < here).all():
        return True
    if (before > here).any():
        return False
    tied = np.flatnonzero(before == here)
    return bool((_compare(rows[tied], rows[tied + 1]) < 0).all())


def ascending_order(rows: U8) -> Index | None:
    """Return the order that sorts (n, width) rows, or None when they strictly ascend already."""
    if is_strictly_ascending(rows):
        return None
    keys = prefixes(rows)
    order = np.argsort(keys)
    keys = keys[order]
    tied = np.zeros(len(rows) + 1, dtype=bool)
    np.equal(keys[1:], keys[:-1], out=tied[1:-1])
    members = np.flatnonzero(tied[1:] | tied[:-1])
    if len(members):
        among = order[members]
        # Runs of equal prefixes stay where they are: the prefix decides first.
        order[members] = among[np.lexsort(_words(rows[among]).T[::-1])]
    return order.astype(np.int64, copy=False)


def is_new(rows: U8) -> npt.NDArray[np.bool_]:
    """Return which of (n, width) ascending rows differ from the one before, (n,) bool."""
    fresh = np.ones(len(rows), dtype=bool)
    keys = prefixes(rows)
    same = np.flatnonzero(keys[1:] == keys[:-1]) + 1
    fresh[same] = (rows[same] != rows[same - 1]).any(axis=1)
    return fresh


def distinct(numbers: Index) -> Index:
    """Return the values that occur, ascending: numpy's own `unique` hashes, thirty times slower."""
    ordered = np.sort(numbers)
    fresh = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=fresh[1:])
    return ordered[fresh]


def take(rows: U8, order: Index) -> U8:
    """Return ``rows[order]``; whole rows are moved at once, which numpy does not do by itself."""
    whole = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel()
    return whole[order].view(np.uint8).reshape(-1, rows.shape[1])


def _words(rows: U8) -> U64:
    """Return rows as native words that compare as the bytes do, zero-filled at the end."""
    width = rows.shape[1]
    padded = np.zeros((len(rows), -(-width // 8) * 8), dtype=np.uint8)
    padded[:, :width] = rows
    return padded.view(">u8").astype(np.uint64)


def _compare(left: U8, right: U8) -> npt.NDArray[np.int8]:
    """Return -1, 0 or 1 for each pair of rows."""
    result = np.zeros(len(left), dtype=np.int8)
    for one, other in zip(_words(left).T, _words(right).T, strict=True):
        decided = (one > other).astype(np.int8) - (one < other).astype(np.int8)
        result = np.where(result == 0, decided, result)
    return result
