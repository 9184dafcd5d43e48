"""How 256 bits are permuted and cut into chunks, so that near digests share a chunk nearly.

Multi-index hashing (Norouzi, Punjani, Fleet: "Fast search in Hamming space with multi-index
hashing", 2012): two digests at distance at most r agree, in at least one of m chunks, up to t_i
bits, if Σ(t_i + 1) > r. The bits are permuted first, by a secret order, because PDQ's neighbouring
bits go together, and so that nobody can choose digests that crowd one bucket.

The search is a list of *steps* (flips, chunk), fewest flips first: after s steps everything at
distance below s has been seen. A radius r therefore takes the first r + 1 steps.

Buckets that differ from one another in a high bit lie a power of two apart, so those of one step
would crowd a few sets of the processor's caches and push one another out before they are read.
`spread` therefore moves each bucket of the chunks after the first within its neighbourhood.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tieline_server.matching.compiled import I64, U32, frozen, kernel, signed
from tieline_server.matching.mixing import expand

BITS = 256
LANES = 8
FLIPS_MOST = 2
GROUP_BUCKETS = 300
_WIDE_FROM = 3_000_000
"""Rows from which 11 wide chunks beat 16 of 16 bits, whose tables are 130 times smaller."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """``plan`` (m, 5): first bit, bits, flips allowed, start in the probes, first lane.

    ``turns[bounds[c, f] : bounds[c, f + 1]]`` lead, by exclusive or, from a bucket of chunk c to
    those that are f flips away. ``groups`` (g, 3): flips, first chunk and the one after the last of
    steps that are taken together.
    """

    name: str
    plan: I64
    turns: I64
    bounds: I64
    groups: I64

    @property
    def probes(self) -> int:
        """Entries of the offsets of all chunks but the first, which has an array of its own."""
        return int(self.plan[-1, 3] + (1 << self.plan[-1, 1]) + 1)


def _spread(value: int) -> int:
    """Return where the bucket of a value lies: linear over exclusive or, one to one."""
    high = value >> 14
    return value ^ (((high ^ (high << 3) ^ (high << 7) ^ (high >> 3)) & 0x3FF) << 4)


spread = kernel(_spread)


def _scheme(name: str, sizes: list[tuple[int, int]]) -> Scheme:
    plan = np.zeros((len(sizes), 5), dtype=np.int64)
    bounds = np.zeros((len(sizes), FLIPS_MOST + 2), dtype=np.int64)
    turns: list[int] = []
    first = start = 0
    for chunk, (bits, most) in enumerate(sizes):
        plan[chunk] = (first, bits, most, start, min(first // 32, LANES - 2))
        for flips in range(most + 1):
            for at in combinations(range(bits), flips):
                turn = sum(1 << bit for bit in at)
                turns.append(_spread(turn) if chunk else turn)
            bounds[chunk, flips + 1 :] = len(turns)
        bounds[chunk + 1 :, 0] = len(turns)
        first += bits
        start += (1 << bits) + 1 if chunk else 0
    return Scheme(name, frozen(plan), frozen(np.array(turns)), frozen(bounds), _groups(bounds))


def _groups(bounds: I64) -> I64:
    """Take steps together while their buckets are at most GROUP_BUCKETS."""
    groups: list[list[int]] = []
    for flips in range(FLIPS_MOST + 1):
        buckets = GROUP_BUCKETS
        for chunk, count in enumerate(bounds[:, flips + 1] - bounds[:, flips]):
            if not count:
                continue
            buckets += int(count)
            if buckets > GROUP_BUCKETS or groups[-1][2] != chunk:
                groups.append([flips, chunk, chunk])
                buckets = int(count)
            groups[-1][2] = chunk + 1
    return frozen(np.array(groups))


WIDE = _scheme("wide", [(24, 2)] * 6 + [(23, 2)] * 4 + [(20, 1)])
NARROW = _scheme("narrow", [(16, 1)] * 16)
SCHEMES = {scheme.name: scheme for scheme in (WIDE, NARROW)}


def scheme_for(rows: int) -> Scheme:
    """Return the scheme that searches so many rows fastest in reasonable memory."""
    return WIDE if rows >= _WIDE_FROM else NARROW


def permutation(secret: bytes) -> U32:
    """Return the permutation as a table (32, 256, 8): the lanes that a byte's value adds."""
    order = np.argsort(expand(secret, b"tieline-near", BITS), kind="stable")
    table = np.zeros((32, 256, LANES), dtype=np.uint32)
    values = np.arange(256)
    for bit in range(BITS):
        to = int(order[bit])
        here = (values >> (7 - bit % 8)) & 1 == 1
        table[bit // 8, here, to // 32] |= np.uint32(1 << (31 - to % 32))
    return frozen(table)


@kernel
def permute(digests: np.ndarray[tuple[int, int], np.dtype[np.uint8]], table: U32, out: U32) -> None:
    """Write the permuted lanes of (n, 32) digests to ``out`` (n, 8)."""
    for i in range(digests.shape[0]):
        for lane in range(8):
            out[i, lane] = 0
        for byte in range(32):
            value = digests[i, byte]
            for lane in range(8):
                out[i, lane] |= table[byte, value, lane]


@kernel
def chunk_of(rows: U32, i: int, plan: I64) -> int:
    """Return the value in row i of the chunk that ``plan``, a row of `Scheme.plan`, describes."""
    first, bits, lane = plan[0], plan[1], plan[4]
    word = (np.uint64(rows[i, lane]) << np.uint64(32)) | np.uint64(rows[i, lane + 1])
    shift = np.uint64(64 - bits - (first - 32 * lane))
    return signed((word >> shift) & np.uint64((1 << bits) - 1))


@kernel
def bucket_of(rows: U32, i: int, plan: I64) -> int:
    """Return the bucket of row i in that chunk: its value, spread unless it is the first chunk."""
    value = chunk_of(rows, i, plan)
    return value if plan[0] == 0 else spread(value)


@kernel
def count_chunk(rows: U32, plan: I64, offsets: U32) -> None:
    """Make ``offsets`` (2^bits + 1, zero) the starts of the buckets of one chunk."""
    for i in range(rows.shape[0]):
        offsets[bucket_of(rows, i, plan) + 1] += np.uint32(1)
    for bucket in range(len(offsets) - 1):
        offsets[bucket + 1] += offsets[bucket]


@kernel
def post_chunk(rows: U32, plan: I64, offsets: U32, postings: U32) -> None:
    """Write the rows of each bucket of one chunk, in order (the second half of a counting sort)."""
    place = offsets.copy()
    for i in range(rows.shape[0]):
        bucket = bucket_of(rows, i, plan)
        postings[place[bucket]] = i
        place[bucket] += np.uint32(1)
