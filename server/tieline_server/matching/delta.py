"""What came since the snapshot, in memory: pairs in the order they came, found by hash tables.

One thread adds (the matcher sees to that) while others look up without a lock: an entry is written
in full, then a fence, then the one 64-bit slot that leads to it; tables that grow are copied and
swapped. A slot is ``tag << 32 | entry + 1``, 0 is free, probing is linear, load at most one half.

``slots`` leads from a digest to its newest entry, entries of one digest are chained, so that a
digest which a million items share costs no more than others. ``pairs`` knows (digest, item) pairs,
so that adding one twice changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tieline_server.matching.compiled import I64, U32, U64, kernel, publish, signed
from tieline_server.matching.tombstones import Tombstones, is_dead

_FIRST_ENTRIES = 1_024
_S29, _S32 = np.uint64(29), np.uint64(32)
_M32 = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)


class Pairs(NamedTuple):
    """Rows (n, lanes) and item ids (n,) that are added at an epoch."""

    rows: U32
    ids: I64
    epoch: int


class DeltaView(NamedTuple):
    """The arrays of a delta as one reader sees them; entries past ``Delta.count`` are undefined."""

    rows: U32
    ids: I64
    epochs: I64
    nexts: I64
    slots: U64
    pairs: U64
    keys: U64

    @classmethod
    def empty(cls, entries: int, lanes: int, keys: U64) -> DeltaView:
        return cls(
            np.empty((entries, lanes), dtype=np.uint32),
            np.empty(entries, dtype=np.int64),
            np.empty(entries, dtype=np.int64),
            np.empty(entries, dtype=np.int64),
            np.zeros(entries * 2, dtype=np.uint64),
            np.zeros(entries * 2, dtype=np.uint64),
            keys,
        )


class Delta:
    """Pairs of one kind that no table holds yet. ``keys`` are the secret words of the hash."""

    def __init__(self, lanes: int, keys: U64, entries: int = 0) -> None:
        room = max(_FIRST_ENTRIES, 1 << max(entries - 1, 0).bit_length())
        self.view = DeltaView.empty(room, lanes, keys)
        self.count = 0

    def add(self, rows: U32, ids: I64, epoch: int, tombstones: Tombstones) -> None:
        """Add pairs at ``epoch``; those that are there and alive stay as they are."""
        self._reserve(self.count + len(ids))
        count = append_new(Pairs(rows, ids, epoch), self.count, self.view, tombstones)
        link(self.count, count, self.view)
        self.count = count

    def alive(self, tombstones: Tombstones) -> tuple[U32, I64]:
        """Return the rows (n, lanes) and ids (n,) of the entries that are alive."""
        count, view = self.count, self.view
        alive = ~tombstones.dead(view.ids[:count], view.epochs[:count])
        return view.rows[:count][alive], view.ids[:count][alive]

    def _reserve(self, entries: int) -> None:
        old, room = self.view, len(self.view.ids)
        if entries <= room:
            return
        while room < entries:
            room *= 2
        view = DeltaView.empty(room, old.rows.shape[1], old.keys)
        view.rows[: self.count] = old.rows[: self.count]
        view.ids[: self.count] = old.ids[: self.count]
        view.epochs[: self.count] = old.epochs[: self.count]
        link_pairs(self.count, view)
        link(0, self.count, view)
        self.view = view


@kernel
def _same(a: U32, i: int, b: U32, j: int) -> bool:
    same = True
    for lane in range(a.shape[1]):
        same = same and a[i, lane] == b[j, lane]
    return same


@kernel
def _pair_slot(rows: U32, i: int, item_id: int, view: DeltaView) -> tuple[int, np.uint64]:
    """Return the slot of a pair, or the free one where it belongs, and the pair's tag."""
    mask, keys = np.uint64(len(view.pairs) - 1), view.keys
    h = keys[2] * np.uint64(item_id) + keys[3]
    for lane in range(rows.shape[1]):
        h = (h ^ (h >> _S29)) * keys[0] + keys[lane + 4] * np.uint64(rows[i, lane])
    h ^= h >> _S32
    h *= keys[1]
    h ^= h >> _S29
    tag = h & ~_M32
    at = h & mask
    while view.pairs[at] != np.uint64(0):
        if view.pairs[at] & ~_M32 == tag:
            entry = signed((view.pairs[at] & _M32) - _ONE)
            if view.ids[entry] == item_id and _same(rows, i, view.rows, entry):
                break
        at = (at + _ONE) & mask
    return signed(at), tag


@kernel
def append_new(new: Pairs, count: int, view: DeltaView, dead: Tombstones) -> int:
    """Write the pairs that are new, or dead by now, behind the first ``count`` entries.

    The hash is written out as in `_pair_slot`: a call costs more than the look, since it counts
    references to all arrays of the view.
    """
    rows, pairs, keys, ids, epochs = view.rows, view.pairs, view.keys, view.ids, view.epochs
    mask = np.uint64(len(pairs) - 1)
    lanes = new.rows.shape[1]
    for i in range(len(new.ids)):
        h = keys[2] * np.uint64(new.ids[i]) + keys[3]
        for lane in range(lanes):
            h = (h ^ (h >> _S29)) * keys[0] + keys[lane + 4] * np.uint64(new.rows[i, lane])
        h ^= h >> _S32
        h *= keys[1]
        h ^= h >> _S29
        tag = h & ~_M32
        at = h & mask
        while pairs[at] != np.uint64(0) and pairs[at] & ~_M32 != tag:
            at = (at + _ONE) & mask
        place = signed(at)
        if pairs[place] != np.uint64(0):
            place, _ = _pair_slot(new.rows, i, new.ids[i], view)
            if pairs[place] != np.uint64(0):
                entry = signed((pairs[place] & _M32) - _ONE)
                if not is_dead(ids[entry], epochs[entry], dead):
                    continue
        for lane in range(lanes):
            rows[count, lane] = new.rows[i, lane]
        ids[count] = new.ids[i]
        epochs[count] = new.epoch
        count += 1
        pairs[place] = tag | np.uint64(count)
    return count


@kernel
def link_pairs(count: int, view: DeltaView) -> None:
    """Fill a new pair table; of equal pairs the last counts."""
    for entry in range(count):
        at, tag = _pair_slot(view.rows, entry, view.ids[entry], view)
        view.pairs[at] = tag | np.uint64(entry + 1)


@kernel
def find(rows: U32, i: int, view: DeltaView) -> tuple[int, np.uint64]:
    """Return where the slot of row i's digest is, or the free one for it, and what it said.

    The slot is read once: a moment later it may lead to another digest.
    """
    mask = np.uint64(len(view.slots) - 1)
    tag = np.uint64(rows[i, 0]) << _S32
    at = np.uint64(rows[i, 1]) & mask
    slot = view.slots[at]
    while slot != np.uint64(0):
        if slot & ~_M32 == tag and _same(rows, i, view.rows, signed((slot & _M32) - _ONE)):
            break
        at = (at + _ONE) & mask
        slot = view.slots[at]
    return signed(at), slot


@kernel
def link(first: int, last: int, view: DeltaView) -> None:
    """Make entries [first, last) visible to readers."""
    rows, slots, nexts = view.rows, view.slots, view.nexts
    mask = np.uint64(len(slots) - 1)
    for entry in range(first, last):
        at = np.uint64(rows[entry, 1]) & mask
        tag = np.uint64(rows[entry, 0])
        while slots[at] != np.uint64(0) and slots[at] >> _S32 != tag:
            at = (at + _ONE) & mask
        place, slot = signed(at), slots[at]
        if slot != np.uint64(0):
            place, slot = find(rows, entry, view)
        nexts[entry] = signed(slot & _M32) - 1
        publish()
        slots[place] = (np.uint64(rows[entry, 0]) << _S32) | np.uint64(entry + 1)
