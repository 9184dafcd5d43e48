"""Near lookups against PDQIndex and faiss: `python benchmarks/near_lookup.py --size 10000000`.

PDQ hashes at radius 31: half of the asked ones lie at a random distance (0 to 40) from a held one.
Peers, where importable: threatexchange's PDQIndex (not with --flat), and faiss IndexBinaryFlat,
which also says what is correct; without it, numpy compares a sample with everything.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rows import Row, paired, size_name
from tieline_client.digests import DigestKind
from tieline_server.matching.matcher import Matcher

KIND = DigestKind.PDQ
RADIUS = 31


def held(size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2**64, (size, 4), dtype=np.uint64).view(np.uint8)


def asked(digests: np.ndarray, count: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    bits = np.unpackbits(rng.integers(0, 256, (count, 32), dtype=np.uint8), axis=1)
    bits[::2] = np.unpackbits(digests[rng.integers(0, len(digests), len(bits[::2]))], axis=1)
    for row in bits[::2]:
        row[rng.choice(256, rng.integers(0, 41), replace=False)] ^= 1
    return np.packbits(bits, axis=1)


def source(digests: np.ndarray) -> Iterator[tuple[DigestKind, np.ndarray, np.ndarray]]:
    for start in range(0, len(digests), 1_000_000):
        piece = digests[start : start + 1_000_000]
        yield KIND, np.arange(start, start + len(piece)), piece


def answers(matcher: Matcher, ask: np.ndarray) -> set[tuple[int, int, int]]:
    hits = matcher.near(ask, RADIUS)
    columns = (hits.positions.tolist(), hits.item_ids.tolist(), hits.distances.tolist())
    return set(zip(*columns, strict=True))


def truth(digests: np.ndarray, ask: np.ndarray) -> set[tuple[int, int, int]]:
    """Compare everything with everything, by numpy."""
    found = set()
    words = digests.view(np.uint64)
    for position, row in enumerate(ask.view(np.uint64)):
        distances = np.bitwise_count(words ^ row).sum(axis=1, dtype=np.int64)
        found |= {
            (position, int(i), int(distances[i])) for i in np.flatnonzero(distances <= RADIUS)
        }
    return found


def resident() -> int:
    """Bytes of this process's own memory (RssAnon)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("no RssAnon in /proc/self/status")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flat", action="store_true", help="compare with faiss Flat only")
    parser.add_argument("--alone", action="store_true", help="without any peer")
    options = parser.parse_args()
    digests = held(options.size)
    ask = asked(digests, 1_000)
    folder = Path(tempfile.mkdtemp(prefix="bench"))
    try:
        matcher = Matcher(folder)
        began = time.perf_counter()
        matcher.rebuild(source(digests), 1)
        print(f"index of {options.size} made in {time.perf_counter() - began:.1f} s")
        size = int(matcher.stats()["snapshot_bytes"])
        sample = 20
        correct = {t for t in answers(matcher, ask) if t[0] < sample} == truth(
            digests, ask[:sample]
        )
        peers = {"pdqindex": None, "flat": None}
        if not options.alone and importlib.util.find_spec("faiss"):
            if not options.flat and importlib.util.find_spec("threatexchange"):
                peers["pdqindex"] = PdqIndex(digests)  # type: ignore[assignment]
            peers["flat"] = Flat(digests)  # type: ignore[assignment]
        measure(matcher, peers, ask, options, correct, size)
        matcher.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class PdqIndex:
    """threatexchange's PDQIndex, filled in pieces; its own list of entries is part of it."""

    def __init__(self, digests: np.ndarray) -> None:
        from threatexchange.signal_type.pdq.pdq_index import (  # type: ignore[import-not-found]
            PDQIndex,
        )

        before, began = resident(), time.perf_counter()
        self.index: Any = PDQIndex()
        for start in range(0, len(digests), 500_000):
            piece = digests[start : start + 500_000]
            self.index.add_all([(row.tobytes().hex(), start + at) for at, row in enumerate(piece)])
        self.bytes = resident() - before
        print(f"PDQIndex made in {time.perf_counter() - began:.1f} s, {self.bytes / 1e6:.0f} MB")

    def search(self, hexes: list[str]) -> set[tuple[int, int, int]]:
        found: dict[str, Any] = self.index.index.search_with_distance_in_result(hexes, RADIUS)
        return {
            (position, int(match[0]), int(match[2]))
            for position, text in enumerate(hexes)
            for match in found[text]
        }


class Flat:
    """faiss IndexBinaryFlat."""

    def __init__(self, digests: np.ndarray) -> None:
        import faiss  # type: ignore[import-not-found]

        self.index = faiss.IndexBinaryFlat(256)
        self.index.add(np.ascontiguousarray(digests))

    def search(self, ask: np.ndarray) -> set[tuple[int, int, int]]:
        limits, distances, ids = self.index.range_search(ask, RADIUS + 1)
        positions = np.repeat(np.arange(len(ask)), np.diff(limits.astype(np.int64)))
        return set(
            zip(positions.tolist(), ids.tolist(), distances.astype(int).tolist(), strict=True)
        )


def measure(matcher, peers, ask, options, correct, size) -> None:  # type: ignore[no-untyped-def]
    name = size_name(options.size)
    hexes = [row.tobytes().hex() for row in ask]
    singles = [ask[at : at + 1] for at in range(200)]
    found = answers(matcher, ask)

    def one_by_one() -> None:
        for single in singles:
            matcher.near(single, RADIUS)

    flat, pdqindex = peers["flat"], peers["pdqindex"]
    if flat is not None:
        few = 5 if options.size > 2_000_000 else 50
        checked = 100 if options.size > 2_000_000 else len(ask)
        correct = correct and flat.search(ask[:checked]) == {t for t in found if t[0] < checked}

        def flat_one_by_one() -> None:
            for single in singles[:few]:
                flat.search(single)

        ours, theirs = paired(one_by_one, flat_one_by_one, options.rounds)
        assert theirs is not None
        rates = (len(singles) / ours, few / theirs)
        Row(f"near_{name}_single_flat", options.size, *rates, 60, 150, correct).write()
    if pdqindex is not None:
        # PDQIndex gives every match, ours the nearest 100: no asked hash here has as many.
        correct = correct and pdqindex.search(hexes) == found
    ours, theirs = paired(
        one_by_one,
        pdqindex and (lambda: [pdqindex.index.query(text) for text in hexes[:50]]),
        options.rounds,
    )
    rate = 50 / theirs if theirs else None
    Row(f"near_{name}_single", options.size, 200 / ours, rate, 40, 100, correct).write()
    ours, theirs = paired(
        lambda: matcher.near(ask, RADIUS),
        pdqindex and (lambda: pdqindex.search(hexes)),
        options.rounds,
    )
    rate = len(ask) / theirs if theirs else None
    Row(f"near_{name}_batch_1k", options.size, len(ask) / ours, rate, 20, 50, correct).write()
    memory = pdqindex.bytes if pdqindex else None
    Row(f"near_{name}_memory", options.size, size, memory, 0.4, 0.2, correct).write()


if __name__ == "__main__":
    main()
