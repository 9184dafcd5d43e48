"""Exact lookups: which items have this digest?

A digest is mixed (mixing.py) and goes through the filter of the snapshot (fuse.py), which turns
away all but one in 65,000 of those that are not held; what passes is compared in full with the rows
of its bucket (table.py). Then the deltas are probed (delta.py). Each step is made for a block of
digests before the next one begins, with the memory it will touch asked for in advance: at 51
million a lookup is the wait for a few cache lines, and many waits overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tieline_server.matching.compiled import I64, U16, U32, U64, kernel, prefetch, signed
from tieline_server.matching.delta import Delta, DeltaView, find
from tieline_server.matching.files import FolderStore, Store
from tieline_server.matching.fuse import load_filters, place, write_filters
from tieline_server.matching.sorting import Run
from tieline_server.matching.table import Table, TableView, item_id, load_table, write_table
from tieline_server.matching.tombstones import Tombstones, is_dead

_BLOCK = 128
_LINEAR = 16
"""Rows of a bucket that are walked; a larger one is searched by halves first."""
_S32 = np.uint64(32)
_M32 = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class ExactSegment:
    """A snapshot of one kind: the table and the filters in front of it."""

    table: Table
    filters: U16
    parameters: U64

    @classmethod
    def write(
        cls, store: Store, prefix: str, runs: list[Run], lanes: int, epoch: int
    ) -> ExactSegment | None:
        """Make a segment of mixed rows, or None of nothing. Raises as its parts do."""
        table = write_table(store, prefix, runs, lanes, epoch)
        if table is None:
            return None
        section, filters, parameters = write_filters(store, prefix, table)
        table.sections["filter"] = section
        return cls(table, filters, parameters)

    @classmethod
    def load(cls, store: FolderStore, body: dict[str, Any]) -> ExactSegment:
        """Map what `to_json` described. Raises IndexDamaged."""
        table = load_table(store, body)
        return cls(table, *load_filters(store, table.sections["filter"], body["parameters"]))

    def view(self) -> SegmentView:
        return SegmentView(self.table.view(), self.filters, self.parameters)

    def to_json(self) -> dict[str, Any]:
        return self.table.to_json() | {
            "parameters": [[int(word) for word in row] for row in self.parameters]
        }

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return self.table.arrays() | {"filter": self.filters}


def lookup(
    rows: U32,
    segments: tuple[ExactSegment, ...],
    deltas: tuple[Delta, ...],
    tombstones: Tombstones,
) -> tuple[I64, I64]:
    """Return all pairs (row number, item id) of mixed rows (n, lanes), row numbers ascending."""
    found = [_all(probe_table, rows, segment.view(), tombstones) for segment in segments]
    found = [pair for pair in found if len(pair[0])]
    from_segments = len(found)
    found += [_all(probe_delta, rows, delta.view, tombstones) for delta in deltas if delta.count]
    found = [pair for pair in found if len(pair[0])]
    if not found:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    if len(found) == from_segments == 1:
        return found[0]
    positions = np.concatenate([pair[0] for pair in found])
    ids = np.concatenate([pair[1] for pair in found])
    order = np.lexsort((ids, positions))
    positions, ids = positions[order], ids[order]
    first = np.ones(len(ids), dtype=np.bool_)
    first[1:] = (positions[1:] != positions[:-1]) | (ids[1:] != ids[:-1])
    return positions[first], ids[first]


class SegmentView(NamedTuple):
    """What kernels see of a segment."""

    table: TableView
    filters: U16
    parameters: U64


class Found(NamedTuple):
    """Room for pairs; ``used[0]`` of them are written."""

    positions: I64
    ids: I64
    used: I64

    @classmethod
    def room(cls, pairs: int) -> Found:
        return cls(np.empty(pairs, np.int64), np.empty(pairs, np.int64), np.zeros(1, np.int64))


V = TypeVar("V")


def _all(
    probe: Callable[[U32, int, V, Tombstones, Found], int], rows: U32, view: V, dead: Tombstones
) -> tuple[I64, I64]:
    """Probe on from row to row, with more room each time, until all are done."""
    found = Found.room(len(rows) // 8 + 16)
    start, pieces = probe(rows, 0, view, dead, found), [found]
    while start < len(rows):
        found = Found.room(len(found.ids) * 4)
        start = probe(rows, start, view, dead, found)
        pieces.append(found)
    if len(pieces) == 1:
        return found.positions[: found.used[0]], found.ids[: found.used[0]]
    return (
        np.concatenate([piece.positions[: piece.used[0]] for piece in pieces]),
        np.concatenate([piece.ids[: piece.used[0]] for piece in pieces]),
    )


@kernel
def _word(rows: U32, i: int) -> np.uint64:
    return (np.uint64(rows[i, 0]) << _S32) | np.uint64(rows[i, 1])


@kernel
def _bucket(view: TableView, lane: np.uint32) -> tuple[int, int]:
    at = signed(lane >> np.uint32(32 - view.bits))
    return signed(view.offsets[at]), min(signed(view.offsets[at + 1]), view.rows.shape[0])


@kernel
def _lower_bound(rows: U32, low: int, high: int, word: np.uint64) -> int:
    """Return the first row in [low, high) whose first two lanes are not below ``word``."""
    while high - low > _LINEAR:
        middle = (low + high) // 2
        if _word(rows, middle) < word:
            low = middle + 1
        else:
            high = middle
    while low < high and _word(rows, low) < word:
        low += 1
    return low


@kernel
def _put(i: int, item: int, found: Found) -> bool:
    used = signed(found.used[0])
    if used == len(found.ids):
        return False
    found.positions[used] = i
    found.ids[used] = item
    found.used[0] = used + 1
    return True


@kernel
def _collect(queries: U32, i: int, view: TableView, dead: Tombstones, found: Found) -> bool:
    """Write the pairs of query i; return False, having written none, when there is no room."""
    low, high = _bucket(view, queries[i, 0])
    word = _word(queries, i)
    row = _lower_bound(view.rows, low, high, word)
    before = found.used[0]
    while row < high and _word(view.rows, row) == word:
        same = True
        for lane in range(2, queries.shape[1]):
            same = same and view.rows[row, lane] == queries[i, lane]
        item = item_id(view.ids, view.id_base, row)
        if same and not is_dead(item, view.epoch, dead) and not _put(i, item, found):
            found.used[0] = before
            return False
        row += 1
    return True


@kernel
def _filter(
    queries: U32, first: int, last: int, segment: SegmentView, passed: I64, survivors: int
) -> int:
    """Add to ``passed`` which of queries [first, last) pass the filter; return how many by now."""
    shard_bits = 0
    while (1 << shard_bits) < segment.parameters.shape[0]:
        shard_bits += 1
    cells = np.empty((_BLOCK, 3), dtype=np.uint64)
    marks = np.empty(_BLOCK, dtype=np.uint64)
    for k in range(last - first):
        word = _word(queries, first + k)
        marks[k] = place(word, segment.parameters, shard_bits, cells[k])
        for cell in range(3):
            prefetch(segment.filters, signed(cells[k, cell]))
    for k in range(last - first):
        mark = np.uint64(segment.filters[cells[k, 0]])
        mark ^= np.uint64(segment.filters[cells[k, 1]])
        mark ^= np.uint64(segment.filters[cells[k, 2]])
        passed[survivors] = first + k
        survivors += mark == marks[k]
    return survivors


@kernel
def probe_table(
    queries: U32, start: int, segment: SegmentView, dead: Tombstones, found: Found
) -> int:
    """Look up queries[start:]; return the query to go on with, once there is more room.

    Few pass the filter, so those of many blocks are looked up together.
    """
    view = segment.table
    total, lanes = queries.shape
    passed = np.empty(2 * _BLOCK, dtype=np.int64)
    survivors = 0
    for block in range(start, total, _BLOCK):
        last = min(block + _BLOCK, total)
        survivors = _filter(queries, block, last, segment, passed, survivors)
        if survivors < _BLOCK and last < total:
            continue
        for k in range(survivors):
            at = queries[passed[k], 0] >> np.uint32(32 - view.bits)
            prefetch(view.offsets, signed(at))
        for k in range(survivors):
            low, high = _bucket(view, queries[passed[k], 0])
            prefetch(view.rows, low * lanes)
            prefetch(view.rows, high * lanes - 1)
            prefetch(view.ids, low * view.ids.shape[1])
        for k in range(survivors):
            if not _collect(queries, signed(passed[k]), view, dead, found):
                return signed(passed[k])
        survivors = 0
    return int(total)


@kernel
def probe_delta(queries: U32, start: int, view: DeltaView, dead: Tombstones, found: Found) -> int:
    """As `probe_table`, over a delta."""
    # Nearly all asked digests are not there: their way is written out, since a call costs more than
    # the look (each counts references to all arrays of the view).
    slots = view.slots
    mask = np.uint64(len(slots) - 1)
    total = queries.shape[0]
    for block in range(start, total, _BLOCK):
        last = min(block + _BLOCK, total)
        for i in range(block, last):
            prefetch(slots, signed(np.uint64(queries[i, 1]) & mask))
        for i in range(block, last):
            tag = np.uint64(queries[i, 0])
            at = np.uint64(queries[i, 1]) & mask
            slot = slots[at]
            while slot != np.uint64(0) and slot >> _S32 != tag:
                at = (at + np.uint64(1)) & mask
                slot = slots[at]
            if slot == np.uint64(0):
                continue
            _, slot = find(queries, i, view)
            entry = signed(slot & _M32) - 1
            before = found.used[0]
            while entry >= 0:
                dead_now = is_dead(view.ids[entry], view.epochs[entry], dead)
                if not dead_now and not _put(i, view.ids[entry], found):
                    found.used[0] = before
                    return i
                entry = view.nexts[entry]
    return int(total)
