"""The slow truth that the indexes are compared with, and makers of digests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from tieline_client.digests import DigestKind
from tieline_server.domain.ports import NearHits

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]


def random_digests(rng: np.random.Generator, kind: DigestKind, count: int) -> U8:
    return rng.integers(0, 256, (count, kind.width), dtype=np.uint8)


def flipped(rng: np.random.Generator, digests: U8, distances: I64) -> U8:
    """Return the digests with so many distinct bits changed each."""
    bits = np.unpackbits(digests, axis=1)
    for row, distance in enumerate(distances):
        bits[row, rng.choice(bits.shape[1], int(distance), replace=False)] ^= 1
    return np.packbits(bits, axis=1)


def exact_pairs(held: list[tuple[int, bytes]], asked: U8) -> list[tuple[int, int]]:
    """Return all (position, id), each once, in order."""
    by_digest: dict[bytes, set[int]] = {}
    for item, digest in held:
        by_digest.setdefault(digest, set()).add(item)
    return [
        (position, item)
        for position, row in enumerate(asked)
        for item in sorted(by_digest.get(row.tobytes(), ()))
    ]


def near_answers(
    ids: I64, held: U8, asked: U8, radius: int = 31, cap: int = 100
) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Return (position, id, distance) of the nearest ``cap`` items each, and what was capped."""
    answers: list[tuple[int, int, int]] = []
    capped: list[int] = []
    words = np.ascontiguousarray(held).view(np.uint64)
    for position, row in enumerate(np.ascontiguousarray(asked).view(np.uint64)):
        distances = np.bitwise_count(words ^ row).sum(axis=1, dtype=np.int64)
        near: dict[int, int] = {}
        for at in np.flatnonzero(distances <= radius):
            item, distance = int(ids[at]), int(distances[at])
            near[item] = min(distance, near.get(item, distance))
        ordered = sorted((distance, item) for item, distance in near.items())
        answers += [(position, item, distance) for distance, item in ordered[:cap]]
        if len(ordered) > cap:
            capped.append(position)
    return answers, capped


def as_answers(hits: NearHits) -> tuple[list[tuple[int, int, int]], list[int]]:
    triples = zip(
        hits.positions.tolist(), hits.item_ids.tolist(), hits.distances.tolist(), strict=True
    )
    return list(triples), hits.truncated.tolist()
