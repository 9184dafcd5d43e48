"""Digests made to collide: ``python -m benchmarks.exact_crafted --size N``.

Whoever asks, or sends, chooses the digests. 200,000 that share their first 16 bytes, then 200,000
that share their last 16, are looked up against as many random ones, first where none is held, then
in an index in memory that holds them all, half of them since its last merge. The slowest counts.
"""

from __future__ import annotations

import numpy as np
from tieline_client.digests import DigestKind
from tieline_server.matching.matcher import Matcher

from benchmarks import data, indexes
from benchmarks.rows import arguments, paired, report

KIND = DigestKind.SHA1
COUNT = 200_000


def crafted() -> list[data.U8]:
    """Return digests that share a prefix, and digests that share their end."""
    numbers = np.arange(COUNT, dtype=">u4").view(np.uint8).reshape(-1, 4)
    same = np.full((COUNT, 16), 0xAB, dtype=np.uint8)
    return [np.hstack([same, numbers]), np.hstack([numbers, same])]


def holding(rows: data.U8) -> Matcher:
    """Return an index in memory that holds ``rows``, half of them in its delta."""
    matcher = Matcher(None)
    ids = np.arange(len(rows), dtype=np.int64)
    half = len(rows) // 2
    matcher.add(KIND, ids[:half], rows[:half])
    matcher.merge()
    matcher.add(KIND, ids[half:], rows[half:])
    return matcher


def compare(ours: Matcher, asked: data.U8, peer: Matcher, random: data.U8, rounds: int) -> float:
    """Return the rate of ``asked`` as a part of that of ``random``, and print both."""
    mine, theirs = paired(lambda: ours.exact(KIND, asked), lambda: peer.exact(KIND, random), rounds)
    assert theirs is not None
    print(f"{COUNT / mine:.0f} lookups/s crafted, {COUNT / theirs:.0f} random", flush=True)
    return theirs / mine


def main() -> None:
    """Measure, and write the slowest."""
    options = arguments(__doc__, size=1_000_000, rounds=11).parse_args()
    random = np.random.default_rng((104,)).integers(0, 256, (COUNT, KIND.width), dtype=np.uint8)
    correct = True
    ratios = []
    with indexes.opened(indexes.exact_folder(options.data, options.size)) as matcher:
        correct = matcher.exact(KIND, data.digests(KIND, 1)).item_ids.tolist() == [0]
        for rows in crafted():
            correct = correct and not len(matcher.exact(KIND, rows).positions)
            ratios.append(compare(matcher, rows, matcher, random, options.rounds))
        began = COUNT / paired(lambda: matcher.exact(KIND, random), None, options.rounds)[0]
    peer = holding(random)
    for rows in crafted():
        ours = holding(rows)
        hits = ours.exact(KIND, rows)
        correct = correct and np.array_equal(hits.item_ids, np.arange(COUNT))
        ratios.append(compare(ours, rows, peer, random, options.rounds))
        ours.close()
    peer.close()
    report("exact_crafted", options.size, began * min(ratios), began, correct, ratio=min(ratios))


if __name__ == "__main__":
    main()
