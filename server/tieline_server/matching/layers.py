"""What one lookup sees: an immutable picture of all layers, replaced as a whole.

From the bottom: the snapshot's segments, each larger than the next; for near also segments in
memory, made of deltas that grew too long to be walked; deltas, of which only the last is added to.
While a merge runs, everything that is there at its start is frozen below, and what comes is put
above; at its end the new segment takes the place of what it was made from. A reader takes the
picture once and needs no lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tieline_client.digests import EXACT_KINDS, DigestKind

from tieline_server.matching.compiled import U64
from tieline_server.matching.delta import Delta
from tieline_server.matching.exact import ExactSegment
from tieline_server.matching.near import NearSegment
from tieline_server.matching.tombstones import Tombstones


@dataclass(frozen=True, slots=True)
class ExactLayers:
    """One exact kind; the last delta is the open one."""

    segments: tuple[ExactSegment, ...]
    deltas: tuple[Delta, ...]


@dataclass(frozen=True, slots=True)
class NearLayers:
    """PDQ. ``frozen`` counts the small segments (the first ones) that a merge is working on."""

    base: tuple[NearSegment, ...]
    small: tuple[NearSegment, ...]
    deltas: tuple[Delta, ...]
    frozen: int = 0

    @property
    def segments(self) -> tuple[NearSegment, ...]:
        return self.base + self.small


@dataclass(frozen=True, slots=True)
class Layers:
    """The picture. ``epoch`` counts erasures (tombstones.py)."""

    exact: dict[DigestKind, ExactLayers]
    near: NearLayers
    tombstones: Tombstones = field(default_factory=Tombstones.none)
    epoch: int = 0

    @classmethod
    def of(
        cls,
        exact: Mapping[DigestKind, tuple[ExactSegment, ...]],
        near: tuple[NearSegment, ...],
        keys: U64,
    ) -> Layers:
        """Return a picture of a snapshot with an open delta above each kind."""
        layers = {
            kind: ExactLayers(exact.get(kind, ()), (new_delta(kind, keys),)) for kind in EXACT_KINDS
        }
        return cls(layers, NearLayers(near, (), (new_delta(DigestKind.PDQ, keys),)))

    def deltas(self, kind: DigestKind) -> tuple[Delta, ...]:
        return self.near.deltas if kind is DigestKind.PDQ else self.exact[kind].deltas

    def pending(self, kind: DigestKind) -> int:
        """Entries of a kind that no snapshot holds yet."""
        rows = sum(delta.count for delta in self.deltas(kind))
        if kind is DigestKind.PDQ:
            rows += sum(segment.table.count for segment in self.near.small)
        return rows

    def held(self, kind: DigestKind) -> int:
        """Pairs of a kind in the snapshot; one that two segments hold counts twice."""
        return sum(segment.table.count for segment in self.written(kind))

    def written(self, kind: DigestKind) -> tuple[ExactSegment, ...] | tuple[NearSegment, ...]:
        """The snapshot's segments of a kind, the largest first."""
        return self.near.base if kind is DigestKind.PDQ else self.exact[kind].segments

    def thawing(self, keys: U64) -> Layers:
        """Return the picture at a merge's start: fresh deltas above everything."""
        exact = {
            kind: replace(
                layers,
                deltas=(*layers.deltas, new_delta(kind, keys, layers.deltas[-1].count)),
            )
            for kind, layers in self.exact.items()
        }
        near = replace(
            self.near,
            deltas=(*self.near.deltas, new_delta(DigestKind.PDQ, keys)),
            frozen=len(self.near.small),
        )
        return replace(self, exact=exact, near=near)


def new_delta(kind: DigestKind, keys: U64, entries: int = 0) -> Delta:
    """Return an empty delta of a kind with room for so many entries; memory that nothing is written
    to costs nothing."""
    return Delta(kind.width // 4, keys, entries)
