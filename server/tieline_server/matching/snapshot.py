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
from tieline_server.matching.mixing import SECRET_BYTES, mix_keys, mixed
from tieline_server.matching.near import NearSegment
from tieline_server.matching.sorting import Collector, Run
from tieline_server.matching.table import TableRun

_RATIO = 4
"""A segment at most so many times as large as what is to be written is taken in with it: then every
row is written a few times while a collection grows, and a lookup has few segments to look into."""
_LARGE = 12_000_000
"""Segments above this wait until nothing is added: whoever adds should not wait for their merge."""
_BATCH = 1_000_000
"""Rows mixed at once while a snapshot is built."""


@dataclass(frozen=True, slots=True)
class Mixer:
    """The secret of an index, expanded: what turns digests into rows."""

    keys: U64
    table: U32

    def rows(self, kind: DigestKind, digests: U8) -> U32:
        """Return the rows (n, lanes) of (n, width) digests: mixed, or permuted for PDQ."""
        if kind is not DigestKind.PDQ:
            return mixed(digests, self.keys)
        rows = np.empty((len(digests), kind.width // 4), dtype=np.uint32)
        permute(frozen(digests), self.table, rows)
        return rows


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Number of the manifest, storage's last change in it, the segments of each kind, the largest
    first, and under what items are held."""

    number: int = 0
    applied: int = 0
    exact: Mapping[DigestKind, tuple[ExactSegment, ...]] = field(default_factory=dict)
    near: tuple[NearSegment, ...] = ()
    holdings: HoldingFiles | None = None

    def segments(self) -> dict[DigestKind, tuple[ExactSegment, ...] | tuple[NearSegment, ...]]:
        return {**self.exact, DigestKind.PDQ: self.near}

    def arrays(self) -> list[tuple[Section, Array]]:
        """Return every array with where it stands."""
        found = [pair for some in self.segments().values() for one in some for pair in parts(one)]
        return found + self.held()

    def held(self) -> list[tuple[Section, Array]]:
        """Return the arrays that say under what items are held."""
        if self.holdings is None:
            return []
        return [(self.holdings.sections[name], one) for name, one in self.holdings.arrays.items()]

    def files(self) -> list[str]:
        return [section.file for section, _ in self.arrays()]

    def size(self) -> int:
        """Bytes of all arrays, mapped or not."""
        return sum(array.nbytes for _, array in self.arrays())

    def verify(self) -> None:
        """Compare every file with its checksum, two at a time. Raises IndexDamaged."""
        verify_all(self.arrays())


def parts(segment: ExactSegment | NearSegment) -> list[tuple[Section, Array]]:
    """Return the arrays of a segment with where they stand."""
    return [(segment.table.sections[name], array) for name, array in segment.arrays().items()]


def verify_all(arrays: Iterable[tuple[Section, Array]]) -> None:
    """Compare files with their checksums, two at a time. Raises IndexDamaged."""
    with ThreadPoolExecutor(2, "tieline-verify") as pool:
        list(pool.map(lambda pair: verify(*pair), arrays))


def save(store: FolderStore, snapshot: Snapshot, secret: bytes) -> None:
    """Make ``snapshot``, whose files are written, the one that counts."""
    body = {
        "format": FORMAT,
        "number": snapshot.number,
        "applied": snapshot.applied,
        "secret": secret.hex(),
        "segments": {
            kind.label: [segment.to_json() for segment in segments]
            for kind, segments in snapshot.segments().items()
        },
        "holdings": None if snapshot.holdings is None else snapshot.holdings.to_json(),
    }
    store.commit(body, snapshot.files())


def load(store: FolderStore) -> tuple[Snapshot, bytes] | None:
    """Return the snapshot that counts and its secret, or None. Raises IndexDamaged.

    One of format 4 is brought forward.
    """
    body = store.manifest()
    if body is None:
        return None
    try:
        secret = bytes.fromhex(body["secret"])
        if len(secret) != SECRET_BYTES:
            raise ValueError("another secret")
        keys = mix_keys(secret)
        exact: dict[DigestKind, tuple[ExactSegment, ...]] = {}
        near: tuple[NearSegment, ...] = ()
        for label, described in body["segments"].items():
            kind = DigestKind[label.upper()]
            if kind is DigestKind.PDQ:
                near = tuple(NearSegment.load(store, one) for one in described)
            else:
                exact[kind] = tuple(ExactSegment.load(store, one, keys) for one in described)
        described = body["holdings"]
        holdings = None if described is None else HoldingFiles.load(store, described)
        snapshot = Snapshot(int(body["number"]), int(body["applied"]), exact, near, holdings)
        if body["format"] != FORMAT:
            save(store, snapshot, secret)
    except (KeyError, TypeError, ValueError) as error:
        raise IndexDamaged("the index manifest is incomplete; it is rebuilt") from error
    except OSError as error:
        raise IndexDamaged(
            f"the index cannot be brought forward ({error.strerror}); it is rebuilt"
        ) from error
    return snapshot, secret


@dataclass(frozen=True, slots=True)
class Plan:
    """What a merge takes in: for each kind how many of the snapshot's segments stay as they are."""

    layers: Layers
    kept: Mapping[DigestKind, int]

    @classmethod
    def of(cls, layers: Layers, *, whole: bool) -> Plan:
        """Take in what is pending, and segments that are not _RATIO times as large as what is taken
        in so far; all of them for a ``whole`` merge, or when something was erased."""
        whole = whole or len(layers.tombstones.ids) > 0
        kept = {}
        for kind in DigestKind:
            segments, rows = layers.written(kind), layers.pending(kind)
            stay = len(segments)
            while stay:
                next_rows = segments[stay - 1].table.count
                if not whole and next_rows > min(_RATIO * rows, _LARGE):
                    break
                stay -= 1
                rows += next_rows
            kept[kind] = stay
        return cls(layers, kept)

    def arrays(self) -> list[tuple[Section, Array]]:
        """Return the arrays that are read."""
        return [
            pair
            for kind, stay in self.kept.items()
            for segment in self.layers.written(kind)[stay:]
            for pair in parts(segment)
        ]

    def changes(self, kind: DigestKind) -> bool:
        """Whether anything is to be written of a kind."""
        layers, taken = self.layers, len(self.layers.written(kind)) - self.kept[kind]
        return bool(layers.pending(kind) or taken > 1 or (taken and len(layers.tombstones.ids)))


def merge_layers(plan: Plan, keys: U64, number: int, store: Store, applied: int) -> Snapshot:
    """Write what ``plan`` takes in as one segment a kind; the others stay as they are. ``keys`` are
    those of the mix.

    Raises LimitExceeded, FilterNotBuilt, OSError; what was written by then is swept later.
    """
    layers, dead = plan.layers, plan.layers.tombstones
    folder = store.folder if isinstance(store, FolderStore) else None
    exact: dict[DigestKind, tuple[ExactSegment, ...]] = {}
    near = layers.near.base
    for kind in DigestKind:
        stay = plan.kept[kind]
        if not plan.changes(kind):
            if kind in EXACT_KINDS:
                exact[kind] = layers.exact[kind].segments
            continue
        lanes = kind.width // 4
        collector = Collector(lanes, folder)
        for delta in layers.deltas(kind):
            collector.add(*delta.alive(dead))
        runs = collector.runs()
        prefix = f"{kind.label}-{number:010d}"
        if kind is DigestKind.PDQ:
            taken = (*near[stay:], *layers.near.small)
            runs += [TableRun(segment.table, dead) for segment in taken]
            made = NearSegment.write(store, prefix, runs, layers.epoch, abreast=2)
            near = near[:stay] if made is None else (*near[:stay], made)
        else:
            segments = layers.exact[kind].segments
            runs += [TableRun(segment.table, dead) for segment in segments[stay:]]
            written = ExactSegment.write(store, prefix, runs, lanes, layers.epoch, keys)
            exact[kind] = segments[:stay] if written is None else (*segments[:stay], written)
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
    exact: dict[DigestKind, tuple[ExactSegment, ...]] = {}
    for kind in EXACT_KINDS:
        runs: list[Run] = collectors.pop(kind).runs()
        prefix = f"{kind.label}-{number:010d}"
        made = ExactSegment.write(store, prefix, runs, kind.width // 4, 0, mixer.keys)
        exact[kind] = () if made is None else (made,)
    runs = collectors.pop(DigestKind.PDQ).runs()
    near = NearSegment.write(store, f"pdq-{number:010d}", runs, 0, abreast=2)
    return Snapshot(number, applied, exact, () if near is None else (near,))
