"""The peers of near lookups, where they are installed (`make bench` does), and brute force."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from typing import Any

import numpy as np
from tieline_client.limits import NEAR_RADIUS
from tieline_server.domain.ports import NearHits

from benchmarks.data import I32, I64, U8

_ID_BITS, _DISTANCE_BITS = 32, 8


def triples(positions: I64, ids: I64, distances: I64 | I32) -> I64:
    """Return (position, item, distance) as ascending numbers, for comparisons of millions."""
    keys = (positions.astype(np.int64) << (_ID_BITS + _DISTANCE_BITS)) | (
        ids.astype(np.int64) << _DISTANCE_BITS
    )
    return np.sort(keys | distances.astype(np.int64))


def answered(hits: NearHits) -> I64:
    """Return our answer as `triples`."""
    return triples(hits.positions, hits.item_ids, hits.distances)


def brute_force(held: U8, asked: U8) -> I64:
    """Compare everything with everything."""
    words = held.view(np.uint64)
    found = []
    for position, row in enumerate(asked.view(np.uint64)):
        distances = np.bitwise_count(words ^ row).sum(axis=1, dtype=np.int64)
        ids = np.flatnonzero(distances <= NEAR_RADIUS)
        found.append(triples(np.full(len(ids), position), ids, distances[ids]))
    return np.concatenate(found)


class Flat:
    """faiss IndexBinaryFlat, with as many threads as the machine has cores."""

    def __init__(self, held: U8) -> None:
        import faiss

        self._index: Any = faiss.IndexBinaryFlat(256)
        self._index.add(np.ascontiguousarray(held))
        print(f"faiss {faiss.__version__}, {faiss.omp_get_max_threads()} threads", flush=True)

    @staticmethod
    def installed() -> bool:
        """Whether faiss can be imported."""
        return importlib.util.find_spec("faiss") is not None

    def search(self, asked: U8) -> I64:
        """Return everything within NEAR_RADIUS; faiss leaves out what is as far as its radius."""
        limits, distances, ids = self._index.range_search(asked, NEAR_RADIUS + 1)
        positions = np.repeat(np.arange(len(asked)), np.diff(limits.astype(np.int64)))
        return triples(positions, ids, distances)


class PdqIndex:
    """threatexchange's PDQIndex, filled in pieces, with the item number as what it returns."""

    PIECE = 500_000

    def __init__(self, held: U8) -> None:
        from threatexchange.signal_type.pdq.pdq_index import PDQIndex

        began = time.perf_counter()
        self._index: Any = PDQIndex()
        for start in range(0, len(held), self.PIECE):
            piece = held[start : start + self.PIECE]
            self._index.add_all([(row.tobytes().hex(), start + at) for at, row in enumerate(piece)])
        took = time.perf_counter() - began
        print(f"PDQIndex {importlib.metadata.version('threatexchange')}: made in {took:.1f} s")

    @staticmethod
    def installed() -> bool:
        """Whether threatexchange and faiss can be imported."""
        return Flat.installed() and importlib.util.find_spec("threatexchange") is not None

    def query(self, text: str) -> Any:
        """Ask for one hash in hex."""
        return self._index.query(text)

    def search(self, texts: list[str]) -> dict[str, Any]:
        """Ask for many hashes in hex; matches are (item, hash, distance)."""
        found: dict[str, Any] = self._index.index.search_with_distance_in_result(texts, NEAR_RADIUS)
        return found

    def answered(self, texts: list[str]) -> I64:
        """Return what `search` finds as `triples`."""
        found = self.search(texts)
        rows = [
            (position, int(match[0]), int(match[2]))
            for position, text in enumerate(texts)
            for match in found[text]
        ]
        return triples(*np.array(rows, dtype=np.int64).reshape(-1, 3).T)
