"""The loops of the near search. The memory of each stage is asked for before the stage begins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tieline_server.matching.chunks import GROUP_BUCKETS, bucket_of
from tieline_server.matching.compiled import I32, I64, U32, U64, kernel, popcount, prefetch, signed
from tieline_server.matching.table import item_id
from tieline_server.matching.tombstones import Flags, Tombstones, is_dead

_CANDIDATES = 256


class NearView(NamedTuple):
    """What kernels see of a segment; ``words`` (n, 4) is the memory of the table's rows.

    ``firsts`` are the offsets of the first chunk, ``offsets`` those of all others, ``postings`` the
    lists of those one behind the other; ``plan`` to ``groups`` are the scheme's.
    """

    words: U64
    ids: U32
    id_base: int
    firsts: U32
    offsets: U32
    postings: U32
    plan: I64
    turns: I64
    bounds: I64
    groups: I64
    epoch: int


class Asked(NamedTuple):
    """The asked hashes: ``lanes`` (n, 8) and ``words`` (n, 4) are the same memory."""

    lanes: U32
    words: U64
    radius: int
    over: PassedOver


class PassedOver(NamedTuple):
    """Items that are not looked for: those whose number, which stands by item id in ``base`` and
    behind it in ``tail`` (0 beyond both), is set in ``numbers``."""

    base: U32
    tail: U32
    numbers: Flags


class Nearest(NamedTuple):
    """The nearest of each asked hash: (n, cap) ids and distances, how many, and whether capped."""

    ids: I64
    distances: I32
    counts: I64
    capped: Flags


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
def _is_passed_over(item: int, over: PassedOver) -> bool:
    if not len(over.numbers):
        return False
    number, behind = np.uint32(0), item - len(over.base)
    if 0 <= item < len(over.base):
        number = over.base[item]
    elif 0 <= behind < len(over.tail):
        number = over.tail[behind]
    return bool(number < len(over.numbers) and over.numbers[number])


@kernel
def _offer(item: int, distance: int, q: int, best: Nearest) -> None:
    """Put an item into the list of hash q, ordered by (distance, id), each item once."""
    count, cap = best.counts[q], best.ids.shape[1]
    if best.capped[q] and (best.distances[q, cap - 1], best.ids[q, cap - 1]) < (distance, item):
        return
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
def _ask_ahead(offsets: U32, bucket: int, turns: I64) -> None:
    """Ask for the memory of the offsets of all buckets that ``turns`` lead to."""
    for k in range(len(turns)):
        prefetch(offsets, bucket ^ turns[k])


@kernel
def _open(offsets: U32, bucket: int, turns: I64, rows: int, ranges: I64, used: int) -> int:
    """Add the (start, end) of buckets that hold something; return how many ranges there are."""
    for k in range(len(turns)):
        at = bucket ^ turns[k]
        start, end = signed(offsets[at]), min(signed(offsets[at + 1]), rows)
        ranges[used, 0], ranges[used, 1] = start, end
        used += start < end
    return used


@kernel
def _open_group(group: I64, asked: Asked, q: int, view: NearView, ranges: I64) -> tuple[int, int]:
    """Find what the buckets of the steps ``group`` hold.

    Returns how many ranges of rows there are, from the first chunk, and behind them of postings.
    """
    flips, rows = group[0], view.words.shape[0]
    for chunk in range(group[1], group[2]):
        turns = view.turns[view.bounds[chunk, flips] : view.bounds[chunk, flips + 1]]
        offsets = view.firsts if chunk == 0 else view.offsets[view.plan[chunk, 3] :]
        _ask_ahead(offsets, bucket_of(asked.lanes, q, view.plan[chunk]), turns)
    direct = used = 0
    for chunk in range(group[1], group[2]):
        turns = view.turns[view.bounds[chunk, flips] : view.bounds[chunk, flips + 1]]
        offsets = view.firsts if chunk == 0 else view.offsets[view.plan[chunk, 3] :]
        bucket, before = bucket_of(asked.lanes, q, view.plan[chunk]), used
        used = _open(offsets, bucket, turns, rows, ranges, used)
        if chunk == 0:
            direct = used
            continue
        for k in range(before, used):
            ranges[k, 0] += (chunk - 1) * rows
            ranges[k, 1] += (chunk - 1) * rows
            prefetch(view.postings, ranges[k, 0])
    return direct, used


@kernel
def _compare(
    asked: Asked, q: int, view: NearView, dead: Tombstones, best: Nearest, found: I64
) -> None:
    """Compare the found rows with hash q, and offer those that are near."""
    held = view.words
    a, b, c, d = asked.words[q, 0], asked.words[q, 1], asked.words[q, 2], asked.words[q, 3]
    limit = _limit(q, asked.radius, best)
    for k in range(len(found)):
        row = found[k]
        distance = signed(
            popcount(a ^ held[row, 0])
            + popcount(b ^ held[row, 1])
            + popcount(c ^ held[row, 2])
            + popcount(d ^ held[row, 3])
        )
        if distance <= limit:
            item = item_id(view.ids, view.id_base, row)
            if not is_dead(item, view.epoch, dead) and not _is_passed_over(item, asked.over):
                _offer(item, distance, q, best)
                limit = _limit(q, asked.radius, best)


@kernel
def search_table(asked: Asked, view: NearView, dead: Tombstones, best: Nearest) -> None:
    """Search each asked hash in one segment.

    Steps go by flips and then chunk (chunks.py), a group of them at a time. The search of a hash
    ends before the radius is covered when its list is full and nothing unseen can be nearer than
    the last in it. A row that is met again is offered again, which changes nothing.
    """
    ranges = np.empty((GROUP_BUCKETS, 2), dtype=np.int64)
    found = np.empty(_CANDIDATES, dtype=np.int64)
    group = np.empty(3, dtype=np.int64)
    last = view.words.shape[0] - 1
    for q in range(asked.words.shape[0]):
        steps = 0
        for at in range(view.groups.shape[0]):
            left = _limit(q, asked.radius, best) + 1 - steps
            # One by one: a slice's check of shapes would take a seventh of all compiling.
            group[0], group[1] = view.groups[at, 0], view.groups[at, 1]
            group[2] = min(view.groups[at, 2], group[1] + left)
            if left <= 0:
                break
            steps += group[2] - group[1]
            direct, used = _open_group(group, asked, q, view, ranges)
            count = 0
            for k in range(used):
                for place in range(ranges[k, 0], ranges[k, 1]):
                    row = place if k < direct else signed(view.postings[place])
                    row = min(row, last)  # more only in a damaged file
                    prefetch(view.words, row * 4)
                    found[count] = row
                    count += 1
                    if count == _CANDIDATES:
                        _compare(asked, q, view, dead, best, found)
                        count = 0
            _compare(asked, q, view, dead, best, found[:count])


@kernel
def search_delta(asked: Asked, delta: DeltaRows, dead: Tombstones, best: Nearest) -> None:
    """Compare each asked hash with every row of a delta."""
    for q in range(asked.words.shape[0]):
        limit = _limit(q, asked.radius, best)
        for row in range(delta.rows):
            distance = _distance(asked.words, q, delta.words, row)
            if distance <= limit and not is_dead(delta.ids[row], delta.epochs[row], dead):
                if _is_passed_over(delta.ids[row], asked.over):
                    continue
                _offer(delta.ids[row], distance, q, best)
                limit = _limit(q, asked.radius, best)
