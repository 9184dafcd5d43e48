"""Exact lookups in process against PostgreSQL: ``python -m benchmarks.exact_lookup --size N``.

SHA-1 digests, 2 % of the asked ones held, in batches of a million and of 1,000. Ours is a `Matcher`
opened from its files; the peer is one connection to PostgreSQL, with sorted chunks and `= ANY`
(postgres.py), at the chunk size that was fastest. Both are warmed and measured in turn; what both
answer is compared with what was planted.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

import numpy as np
from tieline_client.digests import DigestKind
from tieline_server.matching.matcher import Matcher

from benchmarks import data, indexes, postgres
from benchmarks.rows import arguments, paired, report

KIND = DigestKind.SHA1
BATCHES = {"exact_batch_1k": 1_000, "exact_batch_1m": 1_000_000}
CHUNKS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)


def main() -> None:
    """Measure both batch sizes."""
    options = arguments(__doc__, size=1_000_000).parse_args()
    folder = indexes.exact_folder(options.data, options.size)
    held = data.digests(KIND, options.size)
    with ExitStack() as stack:
        matcher = stack.enter_context(indexes.opened(folder))
        peer = None
        if not options.alone and postgres.binaries() is not None:
            peer = stack.enter_context(postgres.cluster(postgres.FOR_LOOKUPS))
            print(f"PostgreSQL {peer.info.server_version}: {postgres.FOR_LOOKUPS}")
            print(f"loaded in {postgres.load(peer, held):.1f} s; {postgres.plan(peer, held)}")
        for key, count in BATCHES.items():
            measure(matcher, peer, held, key, count, options.rounds)


def measure(
    matcher: Matcher,
    peer: postgres.Connection | None,
    held: data.U8,
    key: str,
    count: int,
    rounds: int,
) -> None:
    """Measure one batch size, and write its row."""
    asked, rows = data.asked_exact(held, count)
    expected = np.flatnonzero(rows >= 0)
    hits = matcher.exact(KIND, asked)
    correct = np.array_equal(hits.positions, expected) and np.array_equal(
        hits.item_ids, rows[expected]
    )
    again = max(1, 200_000 // count)
    chunk = 0
    texts = [row.tobytes() for row in asked] if peer is not None else []
    if peer is not None:
        truth = {texts[position]: int(rows[position]) for position in expected}
        seconds = {}
        postgres.ask(peer, texts, CHUNKS[0])  # so that the first that counts is as warm as others
        for size in (chunk for chunk in CHUNKS if chunk <= count):
            began = time.perf_counter()
            answered = postgres.ask(peer, texts, size)
            seconds[size] = time.perf_counter() - began
            correct = correct and dict(answered) == truth
        chunk = min(seconds, key=lambda size: seconds[size])
        tried = ", ".join(f"{size}: {count / took:.0f}/s" for size, took in seconds.items())
        print(f"PostgreSQL, {count} asked, by chunk size: {tried}")

    def ours() -> None:
        for _ in range(again):
            matcher.exact(KIND, asked)

    def theirs() -> None:
        assert peer is not None
        postgres.ask(peer, texts, chunk)

    our_seconds, peer_seconds = paired(ours, theirs if peer is not None else None, rounds)
    our_rate = count * again / our_seconds
    peer_rate = None if peer_seconds is None else count / peer_seconds
    report(key, len(held), our_rate, peer_rate, correct)


if __name__ == "__main__":
    main()
