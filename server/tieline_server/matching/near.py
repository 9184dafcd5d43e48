"""Near lookups: which items are within a Hamming distance of this PDQ hash, and how far?

The rows of a segment are permuted hashes (chunks.py), sorted, so that the first chunk's buckets are
ranges of rows; every other chunk has a list of row numbers by bucket (`postings`). A search visits
the buckets of each step (near_kernels.py), compares what it finds there in full and keeps the
nearest ``cap`` items of each asked hash, ties by item id. Segments are searched one after another
into the same lists, then the rows of the deltas, one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tieline_server.matching.chunks import (
    LANES,
    SCHEMES,
    Scheme,
    count_chunk,
    post_chunk,
    scheme_for,
)
from tieline_server.matching.compiled import I32, I64, U32
from tieline_server.matching.delta import Delta
from tieline_server.matching.files import FolderStore, IndexDamaged, Store
from tieline_server.matching.near_kernels import (
    Asked,
    DeltaRows,
    Nearest,
    NearView,
    search_delta,
    search_table,
)
from tieline_server.matching.sorting import Run
from tieline_server.matching.table import Table, load_table, write_table
from tieline_server.matching.tombstones import Tombstones


@dataclass(frozen=True, slots=True)
class NearSegment:
    """Sorted permuted hashes, and for every chunk but the first the rows of each bucket.

    ``probes`` are the offsets of those chunks one behind the other, ``postings`` (m - 1, n) the
    rows; the first chunk's offsets are the table's.
    """

    table: Table
    scheme: Scheme
    probes: U32
    postings: U32

    @classmethod
    def write(
        cls, store: Store, prefix: str, runs: list[Run], epoch: int, abreast: int = 1
    ) -> NearSegment | None:
        """Make a segment of permuted rows, or None of nothing; ``abreast`` chunks at a time."""
        scheme = scheme_for(sum(run.count for run in runs))
        table = write_table(store, prefix, runs, LANES, epoch, bits=int(scheme.plan[0, 1]))
        if table is None:
            return None
        probes_out = store.writer(f"{prefix}.probes", "<u4")
        postings_out = store.writer(f"{prefix}.postings", "<u4")
        with ThreadPoolExecutor(abreast, "tieline-build") as pool:
            for group in range(1, len(scheme.plan), abreast):
                for offsets, postings in pool.map(
                    partial(_post, table.rows), scheme.plan[group : group + abreast]
                ):
                    probes_out.append(offsets)
                    postings_out.append(postings)
        table.sections["probes"], probes = probes_out.finish()
        table.sections["postings"], postings = postings_out.finish(table.count)
        return cls(table, scheme, probes, postings)

    @classmethod
    def load(cls, store: FolderStore, body: dict[str, Any]) -> NearSegment:
        """Map what `to_json` described. Raises IndexDamaged."""
        table, scheme = load_table(store, body), SCHEMES[body["scheme"]]
        probes, postings = (store.load(table.sections[name]) for name in ("probes", "postings"))
        if len(probes) != scheme.probes or postings.shape != (len(scheme.plan) - 1, table.count):
            raise IndexDamaged("index files do not belong together; they are rebuilt")
        return cls(table, scheme, probes, postings)

    def view(self) -> NearView:
        table, scheme = self.table, self.scheme
        return NearView(
            table.rows.view(np.uint64),
            table.ids,
            table.id_base,
            table.offsets,
            self.probes,
            self.postings.reshape(-1),
            scheme.plan,
            scheme.turns,
            scheme.bounds,
            scheme.groups,
            table.epoch,
        )

    def to_json(self) -> dict[str, Any]:
        return self.table.to_json() | {"scheme": self.scheme.name}

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return self.table.arrays() | {"probes": self.probes, "postings": self.postings}


def _post(rows: U32, plan: I64) -> tuple[U32, U32]:
    offsets = np.zeros((1 << int(plan[1])) + 1, dtype=np.uint32)
    count_chunk(rows, plan, offsets)
    postings = np.empty(len(rows), dtype=np.uint32)
    post_chunk(rows, plan, offsets, postings)
    return offsets, postings


def search(
    asked: Asked,
    cap: int,
    segments: Sequence[NearSegment],
    deltas: Sequence[Delta],
    tombstones: Tombstones,
) -> Nearest:
    """Search permuted hashes in all layers, and keep the nearest ``cap`` of each."""
    n = len(asked.lanes)
    best = Nearest(
        np.empty((n, cap), dtype=np.int64),
        np.empty((n, cap), dtype=np.int32),
        np.zeros(n, dtype=np.int64),
        np.zeros(n, dtype=np.bool_),
    )
    for segment in segments:
        search_table(asked, segment.view(), tombstones, best)
    for delta in deltas:
        count, view = delta.count, delta.view
        if count:
            rows = DeltaRows(view.rows.view(np.uint64), view.ids, view.epochs, count)
            search_delta(asked, rows, tombstones, best)
    return best


def columns(best: Nearest, start: int) -> tuple[I64, I64, I32, I64]:
    """Return positions from ``start`` on, item ids and distances of all, and capped positions."""
    if len(best.counts) == 1:
        count = int(best.counts[0])
        positions, ids, distances = np.full(count, start), best.ids[0], best.distances[0]
        capped = np.array([start] if best.capped[0] else [], dtype=np.int64)
        return positions, ids[:count], distances[:count], capped
    used = np.arange(best.ids.shape[1]) < best.counts[:, None]
    positions = np.repeat(np.arange(start, start + len(used)), best.counts)
    return positions, best.ids[used], best.distances[used], best.capped.nonzero()[0] + start
