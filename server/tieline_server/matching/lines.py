"""The first filter of a table: one cache line for each digest that is asked.

A blocked Bloom filter (Putze, Sanders, Singler: "Cache-, hash- and space-efficient Bloom filters",
2007) whose blocks are single words: the fingerprint's high lane chooses a word, its low lane up to
five bits of it. One in about sixty of those that are not held passes, and goes on to the binary
fuse filter (fuse.py), which takes three cache lines and passes one in 65,000. What an asked digest
costs is mostly the wait for the memory it touches, and nearly all stop here.

Who asks sends a list in ascending order. The filter is therefore cut into *regions* by the first
bits of the digest as it was, so that one batch stays within a part of it; within a region the keyed
mix decides. A region has words for the digests that are in it: of crafted digests that begin alike
all are in one, which is then as large as the whole, and looked into as fast.
"""

from __future__ import annotations

import numpy as np

from tieline_server.matching.compiled import I64, U8, U32, U64, frozen, kernel, prefetch, signed
from tieline_server.matching.files import FolderStore, IndexDamaged, Section, Store
from tieline_server.matching.mixing import first_lane, inverses, lane
from tieline_server.matching.table import Table

BITS_PER_KEY = 10
REGION_BITS = 10
_S32 = np.uint64(32)
_ONE, _SIX, _M6 = np.uint64(1), np.uint64(6), np.uint64(63)
_M8, _S8, _BELOW = np.uint32(0xFF), np.uint32(8), np.uint32(16 - REGION_BITS)


def write_lines(store: Store, prefix: str, table: Table, keys: U64) -> tuple[Section, U64, U64]:
    """Make the words of a table whose rows were mixed with ``keys``.

    Return them, where they stand, and the first word of each region, (2^REGION_BITS + 1,).
    """
    back = inverses(keys)
    counts = np.zeros(1 << REGION_BITS, dtype=np.int64)
    _count(table.rows, keys, back, counts)
    starts = np.zeros(len(counts) + 1, dtype=np.uint64)
    starts[1:] = np.cumsum(np.maximum(1, -(-counts * BITS_PER_KEY // 64)))
    words = np.zeros(int(starts[-1]), dtype=np.uint64)
    _fill(table.rows, keys, back, starts, words)
    writer = store.writer(f"{prefix}.lines", "<u8")
    writer.append(words)
    section, lines = writer.finish()
    return section, lines, frozen(starts)


def load_lines(store: FolderStore, section: Section, starts: list[int]) -> tuple[U64, U64]:
    """Map what `write_lines` made. Raises IndexDamaged."""
    lines, bounds = store.load(section), np.array(starts, dtype=np.int64)
    fits = len(bounds) == (1 << REGION_BITS) + 1 and bounds[0] == 0 and bounds[-1] == len(lines)
    if not fits or (np.diff(bounds) < 1).any():
        raise IndexDamaged("index files do not belong together; they are rebuilt")
    return lines, frozen(bounds.astype(np.uint64))


@kernel
def region_of(lane: np.uint32) -> int:
    """Return the region of a digest by its first lane: by its first bits as they are sorted."""
    return signed((((lane & _M8) << _S8) | ((lane >> _S8) & _M8)) >> _BELOW)


@kernel
def mask_of(lane: np.uint32) -> np.uint64:
    """Return the bits of a fingerprint's low lane: five at most."""
    left, mask = np.uint64(lane), np.uint64(0)
    for _ in range(5):
        mask |= _ONE << (left & _M6)
        left >>= _SIX
    return mask


@kernel
def _count(rows: U32, keys: U64, back: U64, counts: I64) -> None:
    for i in range(rows.shape[0]):
        counts[region_of(first_lane(rows, i, keys, back))] += 1


@kernel
def _fill(rows: U32, keys: U64, back: U64, starts: U64, words: U64) -> None:
    for i in range(rows.shape[0]):
        region = region_of(first_lane(rows, i, keys, back))
        first = starts[region]
        across = starts[region + 1] - first
        words[signed(first + ((np.uint64(rows[i, 0]) * across) >> _S32))] |= mask_of(rows[i, 1])


@kernel
def pass_lines(digests: U8, mixed: U32, lines: U64, starts: U64, places: I64, passed: I64) -> int:
    """Write to ``passed`` the numbers of the queries that pass; return how many.

    ``digests`` are as they came, ``mixed`` the same mixed, ``places`` room for as many numbers.
    """
    queries = digests.shape[0]
    for k in range(queries):
        region = region_of(lane(digests, k, 0))
        first = starts[region]
        across = starts[region + 1] - first
        place = signed(first + ((np.uint64(mixed[k, 0]) * across) >> _S32))
        places[k] = place
        prefetch(lines, place)
    count = 0
    for k in range(queries):
        mask = mask_of(mixed[k, 1])
        passed[count] = k
        count += (lines[places[k]] & mask) == mask
    return count
