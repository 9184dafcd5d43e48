"""A sorted table of (row, item id) pairs with buckets over the leading bits of the rows.

``rows`` (n, lanes) ascend; ``offsets[b] : offsets[b + 1]`` are the rows whose first ``bits`` bits
are b. Item ids are kept as one or two 32-bit lanes above a base. What comes from a mapped file is
clamped before it is used as an index, so that not even a damaged file makes a kernel read outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from tieline_client.errors import LimitExceeded

from tieline_server.matching.compiled import I64, U32, kernel, signed
from tieline_server.matching.files import (
    Array,
    FolderStore,
    IndexDamaged,
    Section,
    Store,
    sections_from_json,
    sections_to_json,
)
from tieline_server.matching.sorting import PARTS, Run, sorted_parts
from tieline_server.matching.tombstones import Tombstones

ROWS_MOST = 2**32 - 2
_ROWS_PER_BUCKET = 3
_S32 = np.uint64(32)


class TableView(NamedTuple):
    """What kernels see of a table."""

    rows: U32
    ids: U32
    id_base: int
    offsets: U32
    bits: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Table:
    """One kind's snapshot; ``epoch`` is the erasure epoch at which its pairs were alive."""

    rows: U32
    ids: U32
    id_base: int
    id_most: int
    offsets: U32
    bits: int
    epoch: int
    sections: dict[str, Section]

    @property
    def count(self) -> int:
        return int(self.rows.shape[0])

    def item_ids(self, first: int, last: int) -> I64:
        """Return the item ids of rows [first, last)."""
        ids = self.ids[first:last, 0].astype(np.int64)
        if self.ids.shape[1] == 2:
            ids |= self.ids[first:last, 1].astype(np.int64) << 32
        return ids + self.id_base

    def view(self) -> TableView:
        return TableView(self.rows, self.ids, self.id_base, self.offsets, self.bits, self.epoch)

    def arrays(self) -> dict[str, Array]:
        return {"rows": self.rows, "ids": self.ids, "offsets": self.offsets}

    def to_json(self) -> dict[str, Any]:
        return {
            "id_base": self.id_base,
            "id_most": self.id_most,
            "bits": self.bits,
            "sections": sections_to_json(self.sections),
        }


def load_table(store: FolderStore, body: dict[str, Any]) -> Table:
    """Map what `Table.to_json` described. Raises IndexDamaged."""
    sections = sections_from_json(body["sections"])
    rows, ids, offsets = (store.load(sections[name]) for name in ("rows", "ids", "offsets"))
    bits = int(body["bits"])
    if len(ids) != len(rows) or len(offsets) != (1 << bits) + 1:
        raise IndexDamaged("index files do not belong together; they are rebuilt")
    base, most = int(body["id_base"]), int(body["id_most"])
    return Table(rows, ids, base, most, offsets, bits, 0, sections)


def bucket_bits(count: int) -> int:
    """Return how many leading bits make buckets of about three rows (24 at 51 million)."""
    return min(28, max(8, round(math.log2(max(count, 1) / _ROWS_PER_BUCKET))))


def write_table(
    store: Store,
    prefix: str,
    runs: list[Run],
    lanes: int,
    epoch: int,
    *,
    bits: int | None = None,
) -> Table | None:
    """Sort the runs into a new table, or return None when they hold nothing.

    Raises LimitExceeded beyond 2^32 - 2 rows.
    """
    runs = [run for run in runs if run.count]
    count = sum(run.count for run in runs)
    if not count:
        return None
    if count > ROWS_MOST:
        raise LimitExceeded(f"{count} digests of one kind are more than one index holds")
    bits = bucket_bits(count) if bits is None else bits
    least, most = min(run.span[0] for run in runs), max(run.span[1] for run in runs)
    id_lanes = 1 if most - least < 2**32 else 2
    rows_out = store.writer(f"{prefix}.rows", "<u4")
    ids_out = store.writer(f"{prefix}.ids", "<u4")
    counts = np.zeros((1 << bits) + 1, dtype=np.uint32)
    for rows, ids in sorted_parts(runs):
        count_buckets(rows, bits, counts)
        rows_out.append(rows)
        above = (ids - least).astype(np.uint64)
        packed = np.empty((len(ids), id_lanes), dtype=np.uint32)
        packed[:, 0] = above & np.uint64(0xFFFFFFFF)
        if id_lanes == 2:
            packed[:, 1] = above >> _S32
        ids_out.append(packed)
    offsets_out = store.writer(f"{prefix}.offsets", "<u4")
    offsets_out.append(np.cumsum(counts, dtype=np.uint32))
    sections: dict[str, Section] = {}
    sections["rows"], rows_all = rows_out.finish(lanes)
    sections["ids"], ids_all = ids_out.finish(id_lanes)
    sections["offsets"], offsets = offsets_out.finish()
    if not len(rows_all):
        return None
    return Table(rows_all, ids_all, least, most, offsets, bits, epoch, sections)


class TableRun:
    """A table as a run of a merge: its pairs, without those that are dead by now."""

    def __init__(self, table: Table, tombstones: Tombstones) -> None:
        self._table, self._tombstones = table, tombstones
        edges = np.arange(PARTS + 1, dtype=np.int64) << (table.bits - 8)
        self._bounds = [int(edge) for edge in table.offsets[edges]]

    @property
    def count(self) -> int:
        return self._table.count

    @property
    def span(self) -> tuple[int, int]:
        return self._table.id_base, self._table.id_most

    def part(self, first: int, last: int) -> tuple[U32, I64]:
        low, high = self._bounds[first], self._bounds[last]
        rows, ids = self._table.rows[low:high], self._table.item_ids(low, high)
        epoch = np.array([self._table.epoch], dtype=np.int64)
        dead = self._tombstones.dead(ids, epoch)
        return (rows[~dead], ids[~dead]) if dead.any() else (rows, ids)


@kernel
def count_buckets(rows: U32, bits: int, counts: U32) -> None:
    """Add to ``counts[b + 1]`` the rows whose first ``bits`` (at most 32) bits are b."""
    shift = np.uint32(32 - bits)
    for i in range(rows.shape[0]):
        counts[signed(rows[i, 0] >> shift) + 1] += np.uint32(1)


@kernel
def item_id(ids: U32, base: int, row: int) -> int:
    """Return the item id of one row."""
    above = signed(ids[row, 0])
    if ids.shape[1] == 2:
        above |= signed(ids[row, 1]) << 32
    return base + above
