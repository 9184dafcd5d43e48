"""Exact lookups: which items have this digest?

A digest is mixed (mixing.py) and goes through the filters of the snapshot: the first turns away
nearly all that are not held (lines.py), the second all but one in 65,000 of the rest (fuse.py).
What passes both is compared in full with the rows of its bucket (table.py). Then the deltas are
probed (delta.py). Each step is made for a block of digests before the next one begins, with the
memory it will touch asked for in advance: at 51 million a lookup is the wait for a few cache lines,
and many waits overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tieline_server.matching.compiled import (
    I64,
    U8,
    U16,
    U32,
    U64,
    frozen,
    kernel,
    prefetch,
    signed,
)
from tieline_server.matching.delta import Delta, DeltaView, find
from tieline_server.matching.files import FolderStore, Store
from tieline_server.matching.fuse import load_filters, pass_filters, write_filters
from tieline_server.matching.lines import load_lines, pass_lines, write_lines
from tieline_server.matching.mixing import mix, mixed
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
    """A snapshot of one kind: the table and the two filters in front of it."""

    table: Table
    lines: U64
    starts: U64
    filters: U16
    parameters: U64

    @classmethod
    def write(
        cls, store: Store, prefix: str, runs: list[Run], lanes: int, epoch: int, keys: U64
    ) -> ExactSegment | None:
        """Make a segment of rows mixed with ``keys``, None of nothing. Raises as its parts do."""
        table = write_table(store, prefix, runs, lanes, epoch)
        if table is None:
            return None
        table.sections["filter"], filters, parameters = write_filters(store, prefix, table)
        table.sections["lines"], lines, starts = write_lines(store, prefix, table, keys)
        return cls(table, lines, starts, filters, parameters)

    @classmethod
    def load(cls, store: FolderStore, body: dict[str, Any], keys: U64) -> ExactSegment:
        """Map what `to_json` described; a segment of format 4 is given its first filter, which
        takes a second for some ten million rows. Raises IndexDamaged."""
        table = load_table(store, body)
        filters, parameters = load_filters(store, table.sections["filter"], body["parameters"])
        if "lines" in table.sections:
            lines, starts = load_lines(store, table.sections["lines"], body["starts"])
        else:
            prefix = table.sections["rows"].file.partition(".")[0]
            table.sections["lines"], lines, starts = write_lines(store, prefix, table, keys)
        return cls(table, lines, starts, filters, parameters)

    def view(self, keys: U64) -> SegmentView:
        return SegmentView(
            *(self.table.view(), keys, self.lines, self.starts, self.filters, self.parameters)
        )

    def to_json(self) -> dict[str, Any]:
        return self.table.to_json() | {
            "parameters": [[int(word) for word in row] for row in self.parameters],
            "starts": [int(word) for word in self.starts],
        }

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return self.table.arrays() | {"filter": self.filters, "lines": self.lines}


def lookup(
    digests: U8,
    keys: U64,
    segments: tuple[ExactSegment, ...],
    deltas: tuple[Delta, ...],
    tombstones: Tombstones,
) -> tuple[I64, I64]:
    """Return all pairs (position, item id) of (n, width) digests, positions ascending.

    ``keys`` are those of the mix.
    """
    digests = frozen(digests)
    found = [_all(probe_table, digests, segment.view(keys), tombstones) for segment in segments]
    found = [pair for pair in found if len(pair[0])]
    from_segments = len(found)
    if any(delta.count for delta in deltas):
        rows = mixed(digests, keys)
        found += [_all(probe_delta, rows, one.view, tombstones) for one in deltas if one.count]
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
    keys: U64
    lines: U64
    starts: U64
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


R = TypeVar("R", U8, U32)
V = TypeVar("V")


def _all(
    probe: Callable[[R, int, V, Tombstones, Found], int], rows: R, view: V, dead: Tombstones
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
def _collect(
    queries: U32, i: int, number: int, view: TableView, dead: Tombstones, found: Found
) -> bool:
    """Write the pairs of row i, query ``number``; return False, having written none, when there is
    no room."""
    low, high = _bucket(view, queries[i, 0])
    word = _word(queries, i)
    row = _lower_bound(view.rows, low, high, word)
    before = found.used[0]
    while row < high and _word(view.rows, row) == word:
        same = True
        for lane in range(2, queries.shape[1]):
            same = same and view.rows[row, lane] == queries[i, lane]
        item = item_id(view.ids, view.id_base, row)
        if same and not is_dead(item, view.epoch, dead) and not _put(number, item, found):
            found.used[0] = before
            return False
        row += 1
    return True


@kernel
def probe_table(
    digests: U8, start: int, segment: SegmentView, dead: Tombstones, found: Found
) -> int:
    """Look up digests[start:]; return the one to go on with, once there is more room.

    Few pass the first filter, so those of many blocks go on together.
    """
    view = segment.table
    total, width = digests.shape[0], digests.shape[1] // 4
    rows = np.empty((_BLOCK, width), dtype=np.uint32)
    places, passed = np.empty(_BLOCK, dtype=np.int64), np.empty(_BLOCK, dtype=np.int64)
    left = np.empty((2 * _BLOCK, width), dtype=np.uint32)
    numbers = np.empty(2 * _BLOCK, dtype=np.int64)
    cells = np.empty((2 * _BLOCK, 4), dtype=np.uint64)
    count = 0
    for block in range(start, total, _BLOCK):
        last = min(block + _BLOCK, total)
        asked = digests[block:last]
        mix(asked, segment.keys, rows)
        fresh = pass_lines(asked, rows, segment.lines, segment.starts, places, passed)
        for k in range(fresh):
            for lane in range(width):
                left[count + k, lane] = rows[passed[k], lane]
            numbers[count + k] = block + passed[k]
        count += fresh
        if count < _BLOCK and last < total:
            continue
        for k in range(count):  # most of them pass the second filter as well
            prefetch(view.offsets, signed(left[k, 0] >> np.uint32(32 - view.bits)))
        count = pass_filters(left, numbers, count, segment.filters, segment.parameters, cells)
        for k in range(count):
            low, high = _bucket(view, left[k, 0])
            prefetch(view.rows, low * width)
            prefetch(view.rows, high * width - 1)
            prefetch(view.ids, low * view.ids.shape[1])
        for k in range(count):
            if not _collect(left, k, signed(numbers[k]), view, dead, found):
                return signed(numbers[k])
        count = 0
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
