"""A snapshot: the segments of all kinds, made together, as one manifest names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from tieline_client.digests import EXACT_KINDS, DigestKind

from tieline_server.matching.chunks import permute
from tieline_server.matching.compiled import I64, U8, U32, U64, frozen
from tieline_server.matching.exact import ExactSegment
from tieline_server.matching.files import (
    FORMAT,
    FolderStore,
    IndexDamaged,
    Store,
    verify,
)
from tieline_server.matching.layers import Layers
from tieline_server.matching.mixing import SECRET_BYTES, lanes_of, mix
from tieline_server.matching.near import NearSegment
from tieline_server.matching.sorting import Collector, Run
from tieline_server.matching.table import TableRun

_BATCH = 1_000_000
"""Rows mixed at once while a snapshot is built."""


@dataclass(frozen=True, slots=True)
class Mixer:
    """The secret of an index, expanded: what turns digests into rows."""

    keys: U64
    table: U32

    def rows(self, kind: DigestKind, digests: U8) -> U32:
        """Return the rows (n, lanes) of (n, width) digests: mixed, or permuted for PDQ."""
        rows = np.empty((len(digests), kind.width // 4), dtype=np.uint32)
        if kind is DigestKind.PDQ:
            permute(frozen(digests), self.table, rows)
        else:
            mix(lanes_of(digests), self.keys, rows)
        return rows


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Number of the manifest, storage's generation it reflects, and a segment for each kind."""

    number: int = 0
    generation: int = 0
    exact: Mapping[DigestKind, ExactSegment | None] = field(default_factory=dict)
    near: NearSegment | None = None

    def segments(self) -> dict[DigestKind, ExactSegment | NearSegment]:
        found: dict[DigestKind, ExactSegment | NearSegment] = {}
        for kind, segment in self.exact.items():
            if segment is not None:
                found[kind] = segment
        if self.near is not None:
            found[DigestKind.PDQ] = self.near
        return found

    def files(self) -> list[str]:
        return [
            section.file
            for segment in self.segments().values()
            for section in segment.table.sections.values()
        ]

    def size(self) -> int:
        """Bytes of all arrays, mapped or not."""
        return sum(a.nbytes for s in self.segments().values() for a in s.arrays().values())

    def verify(self) -> None:
        """Compare every file with its checksum, two at a time. Raises IndexDamaged."""
        pairs = [
            (segment.table.sections[name], array)
            for segment in self.segments().values()
            for name, array in segment.arrays().items()
        ]
        with ThreadPoolExecutor(2, "tieline-verify") as pool:
            list(pool.map(lambda pair: verify(*pair), pairs))


def save(store: FolderStore, snapshot: Snapshot, secret: bytes) -> None:
    """Make ``snapshot``, whose files are written, the one that counts."""
    body = {
        "format": FORMAT,
        "number": snapshot.number,
        "generation": snapshot.generation,
        "secret": secret.hex(),
        "segments": {
            kind.label: segment.to_json() for kind, segment in snapshot.segments().items()
        },
    }
    store.commit(body, snapshot.files())


def load(store: FolderStore) -> tuple[Snapshot, bytes] | None:
    """Return the snapshot that counts and its secret, or None. Raises IndexDamaged."""
    body = store.manifest()
    if body is None:
        return None
    try:
        secret = bytes.fromhex(body["secret"])
        exact: dict[DigestKind, ExactSegment | None] = {}
        near = None
        for label, described in body["segments"].items():
            kind = DigestKind[label.upper()]
            if kind is DigestKind.PDQ:
                near = NearSegment.load(store, described)
            else:
                exact[kind] = ExactSegment.load(store, described)
        snapshot = Snapshot(int(body["number"]), int(body["generation"]), exact, near)
    except (KeyError, TypeError, ValueError) as error:
        raise IndexDamaged("the index manifest is incomplete; it is rebuilt") from error
    if len(secret) != SECRET_BYTES:
        raise IndexDamaged("the index manifest is incomplete; it is rebuilt")
    return snapshot, secret


def merge_layers(layers: Layers, old: Snapshot, store: Store, generation: int) -> Snapshot:
    """Write one snapshot of all that is alive in ``layers``; kinds without change keep theirs.

    Raises LimitExceeded, FilterNotBuilt, OSError; what was written by then is swept later.
    """
    number, dead = old.number + 1, layers.tombstones
    folder = store.folder if isinstance(store, FolderStore) else None
    exact: dict[DigestKind, ExactSegment | None] = {}
    near = layers.near.segment
    for kind in DigestKind:
        if not layers.pending(kind) and not len(dead.ids):
            if kind in EXACT_KINDS:
                exact[kind] = layers.exact[kind].segment
            continue
        lanes = kind.width // 4
        collector = Collector(lanes, folder)
        for delta in layers.deltas(kind):
            collector.add(*delta.alive(dead))
        runs = collector.runs()
        prefix = f"{kind.label}-{number:010d}"
        if kind is DigestKind.PDQ:
            runs += [TableRun(segment.table, dead) for segment in layers.near.segments]
            near = NearSegment.write(store, prefix, runs, layers.epoch, abreast=2)
        else:
            segment = layers.exact[kind].segment
            runs += [] if segment is None else [TableRun(segment.table, dead)]
            exact[kind] = ExactSegment.write(store, prefix, runs, lanes, layers.epoch)
    return Snapshot(number, generation, exact, near)


def build(
    source: Iterable[tuple[DigestKind, I64, U8]],
    mixer: Mixer,
    number: int,
    store: Store,
    generation: int,
) -> Snapshot:
    """Write a snapshot of everything that ``source`` yields, in bounded memory. Raises as above."""
    folder = store.folder if isinstance(store, FolderStore) else None
    collectors = {kind: Collector(kind.width // 4, folder) for kind in DigestKind}
    for kind, ids, digests in source:
        for start in range(0, len(ids), _BATCH):
            rows = mixer.rows(kind, digests[start : start + _BATCH])
            collectors[kind].add(rows, ids[start : start + _BATCH])
    exact: dict[DigestKind, ExactSegment | None] = {}
    for kind in EXACT_KINDS:
        runs: list[Run] = collectors.pop(kind).runs()
        prefix = f"{kind.label}-{number:010d}"
        exact[kind] = ExactSegment.write(store, prefix, runs, kind.width // 4, 0)
    runs = collectors.pop(DigestKind.PDQ).runs()
    near = NearSegment.write(store, f"pdq-{number:010d}", runs, 0, abreast=2)
    return Snapshot(number, generation, exact, near)
