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
    Array,
    FolderStore,
    IndexDamaged,
    Section,
    Store,
    verify,
)
from tieline_server.matching.holdings import HoldingFiles
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
    """Number of the manifest, storage's last change in it, a segment for each kind, and under
    what items are held."""

    number: int = 0
    applied: int = 0
    exact: Mapping[DigestKind, ExactSegment | None] = field(default_factory=dict)
    near: NearSegment | None = None
    holdings: HoldingFiles | None = None

    def segments(self) -> dict[DigestKind, ExactSegment | NearSegment]:
        found: dict[DigestKind, ExactSegment | NearSegment] = {}
        for kind, segment in self.exact.items():
            if segment is not None:
                found[kind] = segment
        if self.near is not None:
            found[DigestKind.PDQ] = self.near
        return found

    def arrays(self) -> list[tuple[Section, Array]]:
        """Return every array with where it stands."""
        found = [
            (segment.table.sections[name], array)
            for segment in self.segments().values()
            for name, array in segment.arrays().items()
        ]
        if self.holdings is not None:
            found += [(self.holdings.sections[n], a) for n, a in self.holdings.arrays.items()]
        return found

    def files(self) -> list[str]:
        return [section.file for section, _ in self.arrays()]

    def size(self) -> int:
        """Bytes of all arrays, mapped or not."""
        return sum(array.nbytes for _, array in self.arrays())

    def verify(self) -> None:
        """Compare every file with its checksum, two at a time. Raises IndexDamaged."""
        with ThreadPoolExecutor(2, "tieline-verify") as pool:
            list(pool.map(lambda pair: verify(*pair), self.arrays()))


def save(store: FolderStore, snapshot: Snapshot, secret: bytes) -> None:
    """Make ``snapshot``, whose files are written, the one that counts."""
    body = {
        "format": FORMAT,
        "number": snapshot.number,
        "applied": snapshot.applied,
        "secret": secret.hex(),
        "segments": {
            kind.label: segment.to_json() for kind, segment in snapshot.segments().items()
        },
        "holdings": None if snapshot.holdings is None else snapshot.holdings.to_json(),
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
        described = body["holdings"]
        holdings = None if described is None else HoldingFiles.load(store, described)
        snapshot = Snapshot(int(body["number"]), int(body["applied"]), exact, near, holdings)
    except (KeyError, TypeError, ValueError) as error:
        raise IndexDamaged("the index manifest is incomplete; it is rebuilt") from error
    if len(secret) != SECRET_BYTES:
        raise IndexDamaged("the index manifest is incomplete; it is rebuilt")
    return snapshot, secret


def merge_layers(layers: Layers, old: Snapshot, store: Store, applied: int) -> Snapshot:
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
    return Snapshot(number, applied, exact, near)


def build(
    source: Iterable[tuple[DigestKind, I64, U8]],
    mixer: Mixer,
    number: int,
    store: Store,
    applied: int,
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
    return Snapshot(number, applied, exact, near)
