"""Synthetic digests from fixed seeds, and questions in which the answers are planted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from tieline_client.digests import DigestKind

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

PIECE = 1_000_000
"""Digests that are made, or handed to an index, at once."""
Source = Iterator[tuple[DigestKind, I64, U8]]


def digests(kind: DigestKind, size: int, first: int = 0) -> U8:
    """Return the digests (size, width) of items ``first`` and on, the same at every size."""
    pieces = [
        _piece(kind, number)[max(first - number * PIECE, 0) : first + size - number * PIECE]
        for number in range(first // PIECE, -(-(first + size) // PIECE))
    ]
    return np.concatenate(pieces) if pieces else np.empty((0, kind.width), dtype=np.uint8)


def _piece(kind: DigestKind, number: int) -> U8:
    rng = np.random.default_rng((kind.value, number))
    return rng.integers(0, 2**32, (PIECE, kind.width // 4), dtype=np.uint32).view(np.uint8)


def source(kind: DigestKind, rows: U8) -> Source:
    """Yield rows, numbered from 0, in pieces."""
    for start in range(0, len(rows), PIECE):
        piece = rows[start : start + PIECE]
        yield kind, np.arange(start, start + len(piece)), piece


def generated(kind: DigestKind, size: int) -> Source:
    """Yield what `digests` returns, in pieces, without holding all of it."""
    for start in range(0, size, PIECE):
        count = min(PIECE, size - start)
        yield kind, np.arange(start, start + count), digests(kind, count, start)


def asked_exact(held: U8, count: int, among: I64 | None = None) -> tuple[U8, I64]:
    """Return ``count`` ascending digests, and for each the row that holds it or -1.

    2 % of them are held: rows of ``among``, or any.
    """
    hits = count // 50
    rng = np.random.default_rng((101, count))
    rows = np.full(count, -1, dtype=np.int64)
    asked = rng.integers(0, 256, (count, held.shape[1]), dtype=np.uint8)
    places = rng.choice(count, hits, replace=False)
    rows[places] = rng.choice(len(held) if among is None else among, hits, replace=False)
    asked[places] = held[rows[places]]
    order = np.lexsort(asked.T[::-1])
    return np.ascontiguousarray(asked[order]), rows[order]


def flipped(rng: np.random.Generator, rows: U8, distances: I64) -> U8:
    """Return PDQ hashes at exactly these distances from ``rows``, one each."""
    out = np.empty_like(rows)
    for start in range(0, len(rows), PIECE // 16):
        piece = slice(start, start + PIECE // 16)
        order = np.argsort(rng.random((len(rows[piece]), 256), dtype=np.float32), axis=1)
        mask = np.zeros(order.shape, dtype=np.uint8)
        np.put_along_axis(
            mask, order, (np.arange(256) < distances[piece][:, None]).astype(np.uint8), axis=1
        )
        out[piece] = rows[piece] ^ np.packbits(mask, axis=1)
    return out


def asked_near(held: U8, count: int) -> U8:
    """Return PDQ hashes: half at a random distance (0 to 40) from a held one, half far from all."""
    rng = np.random.default_rng((102, count))
    asked = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    near = held[rng.integers(0, len(held), len(asked[::2]))]
    asked[::2] = flipped(rng, near, rng.integers(0, 41, len(near)))
    return asked
