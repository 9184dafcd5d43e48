"""Binary fuse filters (Graf and Lemire, 2022; 16 bits) over the fingerprints of a table.

One filter for each of 2^s ranges of fingerprints, so that building needs memory for one range only,
and the three cells of a probe lie close together. Built by pyfusefilter's C code, probed here.
"""

from __future__ import annotations

import numpy as np
from pyfusefilter._xorfilter import ffi, lib
from tieline_client.errors import TielineError

from tieline_server.matching.compiled import I64, U16, U32, U64, frozen, kernel, prefetch, signed
from tieline_server.matching.files import FolderStore, Section, Store
from tieline_server.matching.sorting import first_words
from tieline_server.matching.table import Table

KEYS_PER_FILTER = 4_000_000
PARAMETERS = 5
"""Per filter: seed, segment length, its mask, length of all first segments, first cell."""

_S18, _S32, _S33 = np.uint64(18), np.uint64(32), np.uint64(33)
_M16, _M32 = np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)
_C1, _C2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)


class FilterNotBuilt(TielineError):
    """The filter's construction failed; the index before it stays in use."""


def write_filters(store: Store, prefix: str, table: Table) -> tuple[Section, U16, U64]:
    """Build the filters of a table; return the cells and the (2^s, PARAMETERS) parameters.

    Raises FilterNotBuilt when memory is short.
    """
    shards = 1
    while table.count / shards > KEYS_PER_FILTER:
        shards *= 2
    width = (1 << table.bits) // shards
    writer = store.writer(f"{prefix}.filter", "<u2")
    parameters = np.empty((shards, PARAMETERS), dtype=np.uint64)
    first_cell = 0
    for shard in range(shards):
        low, high = (int(table.offsets[(shard + at) * width]) for at in (0, 1))
        keys = first_words(table.rows[low:high])
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys
        cells, parameters[shard, :4] = _populate(keys if len(keys) else np.zeros(1, np.uint64))
        parameters[shard, 4] = first_cell
        first_cell += len(cells)
        writer.append(cells)
    section, filters = writer.finish()
    return section, filters, frozen(parameters)


def load_filters(
    store: FolderStore, section: Section, parameters: list[list[int]]
) -> tuple[U16, U64]:
    """Map what `write_filters` made."""
    return store.load(section), frozen(np.array(parameters, dtype=np.uint64))


def _populate(keys: U64) -> tuple[U16, U64]:
    filter_ = ffi.new("binary_fuse16_t *")
    if not lib.binary_fuse16_allocate(len(keys), filter_):
        raise FilterNotBuilt("no memory for the index filter; free some and merge again")
    try:
        buffer = ffi.cast("uint64_t *", ffi.from_buffer(keys))
        if not lib.binary_fuse16_populate(buffer, len(keys), filter_):
            raise FilterNotBuilt("the index filter cannot be built; merge again")
        cells = np.frombuffer(
            ffi.buffer(filter_.Fingerprints, filter_.ArrayLength * 2), dtype=np.uint16
        ).copy()
        parameters = np.array(
            [
                filter_.Seed,
                filter_.SegmentLength,
                filter_.SegmentLengthMask,
                filter_.SegmentCountLength,
            ],
            dtype=np.uint64,
        )
    finally:
        lib.binary_fuse16_free(filter_)
    return cells, parameters


@kernel
def place(word: np.uint64, parameters: U64, shard_bits: int, cells: U64) -> np.uint64:
    """Write the three cells of a fingerprint and return its 16-bit mark (binaryfusefilter.h)."""
    shard = (word >> np.uint64(1)) >> np.uint64(63 - shard_bits)
    h = word + parameters[shard, 0]
    h ^= h >> _S33
    h *= _C1
    h ^= h >> _S33
    h *= _C2
    h ^= h >> _S33
    length, mask, across = parameters[shard, 1], parameters[shard, 2], parameters[shard, 3]
    first = ((h >> _S32) * across + (((h & _M32) * across) >> _S32)) >> _S32
    second = first + length
    third = second + length
    cells[0] = parameters[shard, 4] + first
    cells[1] = parameters[shard, 4] + (second ^ ((h >> _S18) & mask))
    cells[2] = parameters[shard, 4] + (third ^ (h & mask))
    return np.uint64((h ^ (h >> _S32)) & _M16)


@kernel
def pass_filters(
    rows: U32, numbers: I64, count: int, filters: U16, parameters: U64, cells: U64
) -> int:
    """Keep of the first ``count`` rows, and of their numbers, those that pass; return how many.

    ``cells`` (n, 4) is room for as many.
    """
    shard_bits = 0
    while (1 << shard_bits) < parameters.shape[0]:
        shard_bits += 1
    for k in range(count):
        word = (np.uint64(rows[k, 0]) << _S32) | np.uint64(rows[k, 1])
        cells[k, 3] = place(word, parameters, shard_bits, cells[k])
        for cell in range(3):
            prefetch(filters, signed(cells[k, cell]))
    kept = 0
    for k in range(count):
        mark = np.uint64(filters[cells[k, 0]])
        mark ^= np.uint64(filters[cells[k, 1]])
        mark ^= np.uint64(filters[cells[k, 2]])
        if mark == cells[k, 3]:
            numbers[kept] = numbers[k]
            for lane in range(rows.shape[1]):
                rows[kept, lane] = rows[k, lane]
            kept += 1
    return kept
