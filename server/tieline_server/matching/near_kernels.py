"""The loops of the near search. The memory of each stage is asked for before the stage begins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tieline_server.matching.chunks import chunk_of
from tieline_server.matching.compiled import I32, I64, U32, U64, kernel, popcount, prefetch, signed
from tieline_server.matching.table import item_id
from tieline_server.matching.tombstones import Flags, Tombstones, is_dead

_MOST = 276
"""Buckets of one step: two flips of 24 bits."""
_PROBES = _MOST + 236
_CANDIDATES = 256
_LEVELS = 3
"""Flips of a step: 0, 1 or 2."""


class NearView(NamedTuple):
    """What kernels see of a segment; ``words`` (n, 4) is the memory of the table's rows.

    ``firsts`` are the offsets of the first chunk, ``offsets`` those of all others.
    """

    words: U64
    ids: U32
    id_base: int
    firsts: U32
    offsets: U32
    postings: U32
    plan: I64
    masks: U64
    epoch: int


class Asked(NamedTuple):
    """The asked hashes: ``lanes`` (n, 8) and ``words`` (n, 4) are the same memory."""

    lanes: U32
    words: U64
    radius: int


class Nearest(NamedTuple):
    """The nearest of each asked hash: (n, cap) ids and distances, how many, and whether capped."""

    ids: I64
    distances: I32
    counts: I64
    capped: Flags


class Scratch(NamedTuple):
    """Buckets to visit (where in the offsets, of which chunk), rows to compare (found by which)."""

    probes: I64
    probe_chunks: I64
    starts: I64
    ends: I64
    found: I64
    found_chunks: I64


class Search(NamedTuple):
    """Everything that one search in a segment works with."""

    asked: Asked
    held: NearView
    dead: Tombstones
    best: Nearest
    scratch: Scratch


class DeltaRows(NamedTuple):
    """The first ``rows`` rows of a delta, as 64-bit words (n, 4), with ids and epochs."""

    words: U64
    ids: I64
    epochs: I64
    rows: int


@kernel
def _distance(a: U64, i: int, b: U64, j: int) -> int:
    return signed(
        popcount(a[i, 0] ^ b[j, 0])
        + popcount(a[i, 1] ^ b[j, 1])
        + popcount(a[i, 2] ^ b[j, 2])
        + popcount(a[i, 3] ^ b[j, 3])
    )


@kernel
def _offer(item: int, distance: int, q: int, best: Nearest) -> None:
    """Put an item into the list of hash q, ordered by (distance, id), each item once."""
    count, cap = best.counts[q], best.ids.shape[1]
    here = count
    for k in range(count):
        if best.ids[q, k] == item:
            here = k
    if here < count:
        if best.distances[q, here] <= distance:
            return
    elif count < cap:
        best.counts[q] = count + 1
    else:
        best.capped[q] = True
        here = cap - 1
        if (best.distances[q, here], best.ids[q, here]) < (distance, item):
            return
    while here > 0 and (best.distances[q, here - 1], best.ids[q, here - 1]) > (distance, item):
        best.distances[q, here] = best.distances[q, here - 1]
        best.ids[q, here] = best.ids[q, here - 1]
        here -= 1
    best.distances[q, here], best.ids[q, here] = distance, item


@kernel
def _limit(q: int, radius: int, best: Nearest) -> int:
    """Return the distance beyond which nothing can matter for hash q any more."""
    if best.capped[q]:
        return min(radius, signed(best.distances[q, best.distances.shape[1] - 1]))
    return radius


@kernel
def _first_seen(s: Search, q: int, row: int, chunk: int, flips: int) -> bool:
    """Whether no step before (flips, chunk) has met this row."""
    plan = s.held.plan
    for other in range(plan.shape[0]):
        differing = 0
        for word in range(4):
            bits = s.asked.words[q, word] ^ s.held.words[row, word]
            differing += signed(popcount(bits & s.held.masks[other, word]))
        if differing <= plan[other, 2] and (
            differing < flips or (differing == flips and other < chunk)
        ):
            return False
    return True


@kernel
def _compare(s: Search, q: int, count: int, flips: int) -> None:
    """Compare the first ``count`` found rows with hash q."""
    limit = _limit(q, s.asked.radius, s.best)
    for k in range(count):
        row = s.scratch.found[k]
        distance = _distance(s.asked.words, q, s.held.words, row)
        if distance > limit:
            continue
        if not _first_seen(s, q, row, s.scratch.found_chunks[k], flips):
            continue
        item = item_id(s.held.ids, s.held.id_base, row)
        if not is_dead(item, s.held.epoch, s.dead):
            _offer(item, distance, q, s.best)
            limit = _limit(q, s.asked.radius, s.best)


@kernel
def _visit(s: Search, q: int, probe_count: int, flips: int) -> None:
    """Compare everything in the collected buckets with hash q."""
    view, scratch = s.held, s.scratch
    total = view.words.shape[0]
    filled = 0
    for k in range(probe_count):
        chunk, probe = scratch.probe_chunks[k], scratch.probes[k]
        if chunk == 0:
            start, end = signed(view.firsts[probe]), signed(view.firsts[probe + 1])
        else:
            start, end = signed(view.offsets[probe]), signed(view.offsets[probe + 1])
        end = min(end, total)
        scratch.starts[filled], scratch.ends[filled] = start, end
        scratch.probe_chunks[filled] = chunk
        if start < end:
            filled += 1
            if chunk > 0:
                prefetch(view.postings, (chunk - 1) * total + start)
    count = 0
    for k in range(filled):
        chunk = scratch.probe_chunks[k]
        for at in range(scratch.starts[k], scratch.ends[k]):
            row = at if chunk == 0 else signed(view.postings[chunk - 1, at])
            if row >= total:  # only in a damaged file
                continue
            prefetch(view.words, row * 4)
            scratch.found[count] = row
            scratch.found_chunks[count] = chunk
            count += 1
            if count == _CANDIDATES:
                _compare(s, q, count, flips)
                count = 0
    _compare(s, q, count, flips)


@kernel
def _collect(s: Search, count: int, chunk: int, flips: int, value: int) -> int:
    """Collect the buckets of one step: those at ``flips`` bits from ``value``."""
    first, bits = s.held.plan[chunk, 3], s.held.plan[chunk, 1]
    for one in range(bits if flips > 0 else 1):
        for two in range(one + 1 if flips == 2 else 0, bits if flips == 2 else 1):
            bucket = value
            if flips > 0:
                bucket ^= 1 << one
            if flips == 2:
                bucket ^= 1 << two
            s.scratch.probes[count] = first + bucket
            s.scratch.probe_chunks[count] = chunk
            if chunk == 0:
                prefetch(s.held.firsts, first + bucket)
            else:
                prefetch(s.held.offsets, first + bucket)
            count += 1
    return count


@kernel
def search_table(asked: Asked, view: NearView, dead: Tombstones, best: Nearest) -> None:
    """Search each asked hash in one segment.

    Steps go by flips and then chunk (chunks.py); those of few buckets are collected and visited
    together. The search of a hash ends before the radius is covered when its list is full and
    nothing unseen can be nearer than the last in it.
    """
    scratch = Scratch(
        np.empty(_PROBES, dtype=np.int64),
        np.empty(_PROBES, dtype=np.int64),
        np.empty(_PROBES, dtype=np.int64),
        np.empty(_PROBES, dtype=np.int64),
        np.empty(_CANDIDATES, dtype=np.int64),
        np.empty(_CANDIDATES, dtype=np.int64),
    )
    s = Search(asked, view, dead, best, scratch)
    for q in range(asked.words.shape[0]):
        steps = 0
        for flips in range(_LEVELS):
            count = 0
            for chunk in range(view.plan.shape[0]):
                if view.plan[chunk, 2] < flips:
                    continue
                if steps > _limit(q, asked.radius, best):
                    break
                value = chunk_of(asked.lanes, q, view.plan[chunk])
                count = _collect(s, count, chunk, flips, value)
                steps += 1
                if count > _PROBES - _MOST:
                    _visit(s, q, count, flips)
                    count = 0
            _visit(s, q, count, flips)


@kernel
def search_delta(asked: Asked, delta: DeltaRows, dead: Tombstones, best: Nearest) -> None:
    """Compare each asked hash with every row of a delta."""
    for q in range(asked.words.shape[0]):
        limit = _limit(q, asked.radius, best)
        for row in range(delta.rows):
            distance = _distance(asked.words, q, delta.words, row)
            if distance <= limit and not is_dead(delta.ids[row], delta.epochs[row], dead):
                _offer(delta.ids[row], distance, q, best)
                limit = _limit(q, asked.radius, best)
