"""Recall and precision of near lookups: ``python -m benchmarks.near_recall --size N``.

Three sets of PDQ hashes: uniform; clustered, with clusters of Zipf's sizes around random centres;
and of low entropy, made of a few patterns. In each, hashes are planted at every distance from 0 to
40 from a held one and asked at radius 31. faiss IndexBinaryFlat says what is true, and brute force
where it is not installed. Each planted pair is checked for its own distance as well, and that none
beyond 31 is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tieline_client.digests import DigestKind
from tieline_client.limits import NEAR_ANSWERS_PER_HASH_MOST, NEAR_RADIUS
from tieline_server.matching.matcher import Matcher

from benchmarks import data, indexes
from benchmarks.near_peers import Flat, answered, brute_force, triples
from benchmarks.rows import arguments, report

DISTANCES = 41
PLANTED, PLANTED_ALONE = 40, 6
"""Asked at each distance, in each set."""
CLUSTER_MOST = 8_000


def uniform(rng: np.random.Generator, size: int) -> data.U8:
    """Return random hashes."""
    return rng.integers(0, 2**64, (size, 4), dtype=np.uint64).view(np.uint8)


def clustered(rng: np.random.Generator, size: int) -> data.U8:
    """Return hashes up to 40 bits from their centre; the r-th largest cluster has a 1/r share."""
    centres = uniform(rng, max(size // 20, 1))
    shares = 1 / np.arange(1, len(centres) + 1)
    shares = np.minimum(shares / shares.sum(), CLUSTER_MOST / size)
    rows = centres[rng.choice(len(centres), size, p=shares / shares.sum())]
    flips = rng.integers(0, 41, size)
    for turn in range(40):
        at = np.flatnonzero(turn < flips)
        bits = rng.integers(0, 256, len(at))
        rows[at, bits >> 3] ^= np.uint8(1) << (bits & 7).astype(np.uint8)
    return rows


def low_entropy(rng: np.random.Generator, size: int) -> data.U8:
    """Return hashes of sixteen words, each one of four patterns, as plain pictures give."""
    patterns = np.array([0x0000, 0xFFFF, 0xAAAA, 0x5555], dtype=np.uint16)
    return patterns[rng.integers(0, 4, (size, 16))].view(np.uint8)


SETS: tuple[Callable[[np.random.Generator, int], data.U8], ...] = (uniform, clustered, low_entropy)


def main() -> None:
    """Count over all sets, and write both rows."""
    options = arguments(__doc__, size=250_000).parse_args()
    with_flat = not options.alone and Flat.installed()
    found = true = both = 0
    correct = True
    for number, make in enumerate(SETS):
        rng = np.random.default_rng((105, number))
        held = make(rng, options.size)
        rows = rng.integers(0, options.size, DISTANCES * (PLANTED if with_flat else PLANTED_ALONE))
        distances = np.arange(len(rows)) % DISTANCES
        asked = data.flipped(rng, held[rows], distances)
        ours = search(options.data, held, asked)
        truth = Flat(held).search(asked) if with_flat else brute_force(held, asked)
        planted = triples(np.arange(len(rows)), rows, distances)
        near = np.sort(planted[distances <= NEAR_RADIUS])
        correct = correct and bool(np.isin(near, ours).all())
        correct = correct and not np.isin(planted[distances > NEAR_RADIUS], ours).any()
        common = len(np.intersect1d(ours, truth, assume_unique=True))
        print(f"{make.__name__}: {len(truth)} true pairs, {len(ours)} found, {common} in both")
        found, true, both = found + len(ours), true + len(truth), both + common
    recall, precision = both / true, both / found
    report("near_recall", options.size, both, true if with_flat else None, correct, ratio=recall)
    report("near_precision", options.size, both, found, correct, ratio=precision)
    if recall < 1 or precision < 1:
        raise SystemExit(f"recall {recall}, precision {precision}: both must be 1")


def search(root: Path, held: data.U8, asked: data.U8) -> data.I64:
    """Return what an index of its own finds; exit when an answer is cut short."""
    with TemporaryDirectory(dir=root) as folder:
        indexes.build(Path(folder), data.source(DigestKind.PDQ, held))
        matcher = Matcher.open(Path(folder))
        hits = matcher.near(asked, NEAR_RADIUS, NEAR_ANSWERS_PER_HASH_MOST)
        matcher.close()
    if len(hits.truncated):
        raise SystemExit(f"more than {NEAR_ANSWERS_PER_HASH_MOST} answers to one hash")
    return answered(hits)


if __name__ == "__main__":
    main()
