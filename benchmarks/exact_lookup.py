"""Exact lookups in process against PostgreSQL: `python benchmarks/exact_lookup.py --size 51000000`.

SHA-1 digests, 2 % of the asked ones held. Ours is a `Matcher` opened from its snapshot; the peer is
PostgreSQL with sorted chunks and `= ANY` (exact_postgres.py), at the chunk size that was fastest.
Both are warmed and measured in turn; answers of both are compared with what was planted. A third
row asks digests crafted to share a prefix, against as many random ones.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import exact_postgres
import numpy as np
from rows import Row, paired, size_name
from tieline_client.digests import DigestKind
from tieline_server.matching.matcher import Matcher

KIND = DigestKind.SHA1
BATCHES = {1_000: (15.0, 34.0), 1_000_000: (40.0, 90.0)}
CHUNKS = (1_000, 5_000, 20_000)


def held(size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2**32, (size, 5), dtype=np.uint32).view(np.uint8)


def asked(digests: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted digests, and for each the row that holds it or -1."""
    rng = np.random.default_rng(count)
    rows = np.full(count, -1)
    ask = rng.integers(0, 256, (count, 20), dtype=np.uint8)
    hits = rng.choice(count, count // 50, replace=False)
    rows[hits] = rng.choice(len(digests), len(hits), replace=False)
    ask[hits] = digests[rows[hits]]
    order = np.lexsort(ask.view(">u4").T[::-1])
    return ask[order], rows[order]


def source(digests: np.ndarray) -> Iterator[tuple[DigestKind, np.ndarray, np.ndarray]]:
    for start in range(0, len(digests), 1_000_000):
        piece = digests[start : start + 1_000_000]
        yield KIND, np.arange(start, start + len(piece)), piece


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="without PostgreSQL")
    options = parser.parse_args()
    digests = held(options.size)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bench"))
        folder.chmod(0o755)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        builder = Matcher(folder / "index")
        began = time.perf_counter()
        builder.rebuild(source(digests), 1)
        print(f"index of {options.size} made in {time.perf_counter() - began:.1f} s")
        builder.close()
        began = time.perf_counter()
        matcher = stack.enter_context(_closing(Matcher(folder / "index")))
        matcher.exact(KIND, digests[:1])
        print(f"opened, first answer after {time.perf_counter() - began:.2f} s")
        matcher.wait_verified()
        peer = None
        if not options.alone and exact_postgres.binaries() is not None:
            peer = stack.enter_context(exact_postgres.cluster(folder))
            print(f"PostgreSQL loaded in {exact_postgres.load(peer, digests):.1f} s")
            print(f"settings {exact_postgres.SETTINGS}, server {peer.info.server_version}")
        for count, (at_least, aim) in BATCHES.items():
            measure(matcher, peer, digests, count, at_least, aim, options.rounds)
        crafted(matcher, options.size)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak of this process, with the data itself and mapped pages: {peak:.0f} MB")


class _closing:
    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher

    def __enter__(self) -> Matcher:
        return self.matcher

    def __exit__(self, *error: object) -> None:
        self.matcher.close()


def measure(matcher, peer, digests, count, at_least, aim, rounds) -> None:  # type: ignore[no-untyped-def]
    ask, rows = asked(digests, count)
    expected = np.flatnonzero(rows >= 0)
    hits = matcher.exact(KIND, ask)
    correct = np.array_equal(hits.positions, expected) and np.array_equal(
        hits.item_ids, rows[expected]
    )
    repeat = max(1, 200_000 // count)
    theirs, peer_seconds = None, None
    if peer is not None:
        texts = [row.tobytes() for row in ask]
        truth = {texts[position]: int(rows[position]) for position in expected}
        fastest = None
        for chunk in CHUNKS:
            correct = correct and dict(exact_postgres.ask(peer, texts, chunk)) == truth
            began = time.perf_counter()
            exact_postgres.ask(peer, texts, chunk)
            took = time.perf_counter() - began
            if fastest is None or took < fastest[0]:
                fastest = (took, chunk)
        assert fastest is not None
        print(f"PostgreSQL's best chunk for {count}: {fastest[1]}")
        theirs = lambda: exact_postgres.ask(peer, texts, fastest[1])  # noqa: E731

    def ours() -> None:
        for _ in range(repeat):
            matcher.exact(KIND, ask)

    our_seconds, peer_seconds = paired(ours, theirs, rounds)
    name = f"exact_{size_name(len(digests))}_batch_{size_name(count)}"
    our_rate = count * repeat / our_seconds
    peer_rate = None if peer_seconds is None else count / peer_seconds
    Row(name, len(digests), our_rate, peer_rate, at_least, aim, bool(correct)).write()


def crafted(matcher: Matcher, size: int) -> None:
    """Ask 200,000 digests that share 16 bytes with one another, against as many random ones."""
    same = np.full((200_000, 20), 0xAB, dtype=np.uint8)
    same[:, 16:] = np.arange(200_000, dtype=">u4").view(np.uint8).reshape(-1, 4)
    random = np.random.default_rng(3).integers(0, 256, same.shape, dtype=np.uint8)
    none = all(len(matcher.exact(KIND, ask).positions) == 0 for ask in (same, random))
    crafted_s, random_s = paired(
        lambda: matcher.exact(KIND, same), lambda: matcher.exact(KIND, random), 11
    )
    assert random_s is not None
    rates = (200_000 / crafted_s, 200_000 / random_s)
    Row(f"exact_{size_name(size)}_crafted", size, *rates, 0.5, 0.9, none).write()


if __name__ == "__main__":
    main()
