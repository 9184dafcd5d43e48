"""Hits as they travel, made arrays and held against the list that was asked.

Both who asks and the node that asks for them look: neither takes the other's word for it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tieline.v1 import exchange_pb2

from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_client.errors import MalformedMessage
from tieline_client.packed import Index, distinct

_KINDS = frozenset(map(int, DigestKind))


@dataclass(frozen=True, slots=True, eq=False)
class HitColumns:
    """A HitBatch as arrays of h rows; ``series`` is 0 where none is disclosed."""

    positions: Index
    distances: npt.NDArray[np.int32]
    series: Index
    ambiguous: Index


def check_hits(
    batch: exchange_pb2.HitBatch, counts: Sequence[int]
) -> tuple[DigestKind, HitColumns]:
    """Return a batch as arrays, once it fits a list with so many digests by kind.

    Raises MalformedMessage for a kind or position that was not asked, positions that do not
    ascend, columns of different length, and distances beyond the radius.
    """
    asked = counts[batch.kind - 1] if batch.kind in _KINDS else 0
    if not asked:
        raise MalformedMessage("hits of a kind that was not asked")
    kind = DigestKind(batch.kind)
    count = len(batch.positions)
    near = kind is DigestKind.PDQ
    if len(batch.series) not in (0, count) or len(batch.distances) != (count if near else 0):
        raise MalformedMessage("hit columns differ in length")
    positions = np.array(batch.positions, dtype=np.uint64)
    ambiguous = np.array(batch.ambiguous, dtype=np.uint64)
    if (positions >= asked).any() or (ambiguous >= asked).any():
        raise MalformedMessage("hits at a position that was not asked")
    if (positions[1:] < positions[:-1]).any():
        raise MalformedMessage("hits whose positions do not ascend")
    distances = np.zeros(count, dtype=np.int32)
    if near:
        stated = np.array(batch.distances, dtype=np.int64)
        if (stated > limits.NEAR_RADIUS).any():
            raise MalformedMessage("hits at a distance beyond the radius")
        distances = stated.astype(np.int32)
    series = (
        np.array(batch.series, dtype=np.int64) if batch.series else np.zeros(count, dtype=np.int64)
    )
    return kind, HitColumns(
        positions.astype(np.int64), distances, series, ambiguous.astype(np.int64)
    )


def names_known(series: Index, known: Container[int]) -> bool:
    """Whether all series that hits name were sent: 0 names none."""
    return all(index in known for index in distinct(series).tolist() if index)
