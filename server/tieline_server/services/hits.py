"""Hits of a part of an asked list: as columns, and as the messages that they leave in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from tieline.v1 import exchange_pb2
from tieline_client import limits
from tieline_client.digests import DigestKind

from tieline_server.domain.ports import Distances, Ids, Rows


@dataclass(frozen=True, slots=True)
class Hits:
    """Pairs of position in the asked list and item, positions ascending; ``rows`` (n, width) are
    the digests that matched, ``distances`` (n,) those of near hits."""

    kind: DigestKind
    positions: Ids
    items: Ids
    rows: Rows
    distances: Distances | None
    capped: Ids = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Positions near which more is held than stands here, which is the nearest."""

    @classmethod
    def joined(cls, parts: Sequence[Hits]) -> Hits:
        """Return hits of one kind, one after another."""
        if len(parts) == 1:
            return parts[0]
        near = [one.distances for one in parts if one.distances is not None]
        return cls(
            parts[0].kind,
            np.concatenate([one.positions for one in parts]),
            np.concatenate([one.items for one in parts]),
            np.concatenate([one.rows for one in parts]),
            np.concatenate(near) if near else None,
            np.concatenate([one.capped for one in parts]),
        )

    def where(self, kept: npt.NDArray[np.bool_] | Ids) -> Hits:
        """Return those that are kept, or that stand at these places."""
        distances = None if self.distances is None else self.distances[kept]
        return replace(
            self,
            positions=self.positions[kept],
            items=self.items[kept],
            rows=self.rows[kept],
            distances=distances,
        )


def hit_batches(
    hits: Hits, series: Sequence[tuple[int, ...]], at: Ids, ambiguous: Ids | None
) -> list[exchange_pb2.OverlapResponse]:
    """Return hits as messages; one in several series repeats. ``at`` leads from a hit to its
    entry of ``series``."""
    lengths = np.array([max(len(one), 1) for one in series], dtype=np.int64)
    flat = np.array([index for one in series for index in one or (0,)], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    repeats = lengths[at]
    row = np.repeat(np.arange(len(at)), repeats)
    within = np.arange(len(row)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    named = flat[starts[at][row] + within]
    positions = hits.positions[row]
    messages = []
    for start in range(0, len(row), limits.HITS_PER_BATCH):
        part = slice(start, start + limits.HITS_PER_BATCH)
        batch = exchange_pb2.HitBatch(kind=int(hits.kind), positions=positions[part].tolist())  # type: ignore[arg-type]
        if named[part].any():
            batch.series.extend(named[part].tolist())
        if hits.distances is not None:
            batch.distances.extend(hits.distances[row[part]].tolist())
        if ambiguous is not None:
            batch.ambiguous.extend(ambiguous[np.isin(ambiguous, positions[part])].tolist())
        messages.append(exchange_pb2.OverlapResponse(hits=batch))
    return messages
