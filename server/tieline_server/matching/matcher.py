"""The node's indexes: derived from storage, never the truth.

The life of a digest: `add` mixes it and puts it into the open delta, where the next lookup finds
it. When deltas have grown (`merge_if_due`), a merge freezes them, writes a new snapshot of
everything that is alive, and swaps it in; what came meanwhile stays above. `erase` takes effect at
once and leaves the files at the next merge. After a restart the snapshot is mapped; the node then
replays storage's changes after `applied`, which is safe to do twice. Beside the digests stands
under what each item is held (holdings.py).

Any number of threads look up, without locks; `add`, `erase` and the swaps take turns (layers.py).
Small PDQ deltas are walked; grown ones become segments in memory, each at least twice as large as
the next, until a merge takes them in.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import replace

import numpy as np
from tieline_client import limits
from tieline_client.digests import EXACT_KINDS, DigestKind
from tieline_client.errors import InvalidInput

from tieline_server.domain.ports import ExactHits, HoldingSet, NearHits
from tieline_server.matching.chunks import LANES
from tieline_server.matching.compiled import I32, I64, U8, U32, U64, frozen
from tieline_server.matching.exact import lookup
from tieline_server.matching.files import MemoryStore
from tieline_server.matching.layers import new_delta
from tieline_server.matching.near import NearSegment, columns, search
from tieline_server.matching.near_kernels import Asked, PassedOver
from tieline_server.matching.sketching import least_of_bins
from tieline_server.matching.sorting import Collector, Run
from tieline_server.matching.table import TableRun
from tieline_server.matching.upkeep import Upkeep, check_digests

_EXACT_TASK = 65_536
"""Digests that one thread looks up; of a question several batches are looked up at once."""
_NEAR_TASK = 16
_WALKED_ROWS = 32_768
"""PDQ delta rows that are compared one by one; more become a segment in memory."""
_NOTHING_PASSED_OVER = PassedOver(
    *(frozen(np.zeros(0, dtype=np.uint32)),) * 2, frozen(np.zeros(0, dtype=np.bool_))
)


class Matcher(Upkeep):
    """Exact and near lookups over everything the node holds."""

    # --- lookups ------------------------------------------------------------------------------

    @property
    def applied(self) -> int:
        """Number of storage's last change that answers reflect."""
        return self._applied

    @property
    def life(self) -> int:
        """Goes up when what stood here is dropped, for damage or to be made anew."""
        return self._life

    def exact(self, kind: DigestKind, digests: U8) -> ExactHits:
        """Return all pairs (position in ``digests``, item id) of equal digests.

        ``digests`` is (n, width) uint8 in any order. Positions ascend, ids within them. Raises
        InvalidDigest on another shape, InvalidInput for PDQ, which is matched by `near`.
        """
        if kind not in EXACT_KINDS:
            raise InvalidInput(f"{kind.label} is matched by distance; ask for a near lookup")
        check_digests(kind, digests)
        picture = self._layers
        layers = picture.exact[kind]

        def look(start: int) -> tuple[I64, I64]:
            asked, keys = digests[start : start + _EXACT_TASK], self._mixer.keys
            positions, ids = lookup(asked, keys, layers.segments, layers.deltas, picture.tombstones)
            return positions + start, ids

        starts = range(0, len(digests), _EXACT_TASK)
        if len(starts) <= 1:
            return ExactHits(*look(0))
        found = list(self._pool.map(look, starts))
        return ExactHits(*(np.concatenate(column) for column in zip(*found, strict=True)))

    def near(
        self,
        digests: U8,
        radius: int = limits.NEAR_RADIUS,
        cap: int = limits.NEAR_ANSWERS_PER_HASH,
        passed_over: Collection[int] = (),
    ) -> NearHits:
        """Return the items within ``radius`` bits of each PDQ hash, (n, 32) uint8.

        Ordered by position, distance, item id; each item once per position, at its least distance.
        Of more than ``cap`` items the nearest are kept and the position stands in ``truncated``.
        Items whose number (`holdings`) is ``passed_over`` are not looked for. Raises InvalidDigest,
        InvalidInput.
        """
        check_digests(DigestKind.PDQ, digests)
        if not 0 <= radius <= limits.NEAR_RADIUS:
            raise InvalidInput(f"radius {radius} is not 0 to {limits.NEAR_RADIUS} bits")
        if not 1 <= cap <= limits.NEAR_ANSWERS_PER_HASH_MOST:
            raise InvalidInput(f"cap {cap} is not 1 to {limits.NEAR_ANSWERS_PER_HASH_MOST} answers")
        picture = self._layers
        over = self._passed_over(passed_over)

        def look(start: int) -> tuple[I64, I64, I32, I64]:
            rows = self._mixer.rows(DigestKind.PDQ, digests[start : start + _NEAR_TASK])
            near, asked = picture.near, Asked(rows, rows.view(np.uint64), radius, over)
            best = search(asked, cap, near.segments, near.deltas, picture.tombstones)
            return columns(best, start)

        starts = range(0, len(digests), _NEAR_TASK)
        if len(starts) <= 1:
            return NearHits(*look(0))
        found = list(self._pool.map(look, starts))
        positions, ids, distances, truncated = zip(*found, strict=True)
        return NearHits(
            np.concatenate(positions),
            np.concatenate(ids),
            np.concatenate(distances),
            np.concatenate(truncated),
        )

    def _passed_over(self, numbers: Collection[int]) -> PassedOver:
        if not numbers:
            return _NOTHING_PASSED_OVER
        flags = np.zeros(max(numbers) + 1, dtype=np.bool_)
        flags[list(numbers)] = True
        return PassedOver(*self._holdings.columns(), frozen(flags))

    def holdings(self, item_ids: I64) -> U32:
        """Return the number (n,) of the set of holdings of each item, 0 for one that has none."""
        return self._holdings.numbers_of(item_ids)

    def holding_set(self, number: int) -> HoldingSet:
        """Return the holdings that a number stands for."""
        return self._holdings.set_of(number)

    def held(self) -> list[tuple[HoldingSet, int]]:
        """Return in which ways items are held, and how many items in each."""
        return self._holdings.held()

    def imports_of(self, series: int) -> set[int]:
        """Return the imports that hold items in a series, or did."""
        return self._holdings.imports_of(series)

    def count_of(self, series: int, imports: Container[int]) -> int:
        """Return how many items these imports hold in a series."""
        return self._holdings.count_of(series, imports)

    def least_of_bins(self, digests: U8, words: U64) -> U32:
        """Return the sketch of (n, width) digests under a key's words; see sketching.py."""
        return least_of_bins(digests, words)

    # --- changes ------------------------------------------------------------------------------

    def holding_numbers(self, sets: Iterable[HoldingSet]) -> U32:
        """Return the numbers that stand for sets of holdings, giving out new ones."""
        with self._update:
            return self._holdings.intern(sets)

    def hold(self, item_ids: I64, numbers: U32) -> None:
        """Set under what items (n,) are held: numbers (n,) of `holding_numbers`, 0 for nothing."""
        with self._update:
            self._holdings.hold(np.ascontiguousarray(item_ids, dtype=np.int64), numbers)

    def add(self, kind: DigestKind, item_ids: I64, digests: U8) -> None:
        """Add pairs of item id (n,) and digest (n, width); pairs that are there change nothing.

        The next lookup finds them. Raises InvalidDigest, InvalidInput.
        """
        check_digests(kind, digests)
        ids = np.ascontiguousarray(item_ids, dtype=np.int64)
        if ids.shape != (len(digests),):
            raise InvalidInput(f"{len(digests)} digests came with {ids.shape} item ids")
        rows = self._mixer.rows(kind, digests)
        with self._update:
            self._touched = time.monotonic()
            step = _WALKED_ROWS if kind is DigestKind.PDQ else max(len(ids), 1)
            for start in range(0, len(ids), step):
                layers = self._layers
                layers.deltas(kind)[-1].add(
                    rows[start : start + step],
                    ids[start : start + step],
                    layers.epoch,
                    layers.tombstones,
                )
                if kind is DigestKind.PDQ:
                    self._settle()

    def erase(self, item_ids: I64) -> None:
        """Make items vanish from all answers at once, and from snapshots at the next merge."""
        ids = np.asarray(item_ids, dtype=np.int64)
        with self._update:
            layers = self._layers
            if len(ids):
                self._holdings.hold(ids, np.zeros(len(ids), dtype=np.uint32))
                epoch = layers.epoch + 1
                tombstones = layers.tombstones.with_erased(ids, epoch)
                self._layers = replace(layers, tombstones=tombstones, epoch=epoch)

    def restate(self, item_ids: I64, digests: Mapping[DigestKind, tuple[I64, U8]]) -> None:
        """Replace what is known of items by these pairs of item id (n,) and digest (n, width).

        What is not stated again vanishes at once; what is, is found at every moment. Under what
        items are held is `hold`'s. Raises InvalidDigest.
        """
        ids = np.asarray(item_ids, dtype=np.int64)
        if not len(ids):
            return
        for kind, (_, rows) in digests.items():
            check_digests(kind, rows)
        stated = [
            (kind, np.ascontiguousarray(owners, dtype=np.int64), self._mixer.rows(kind, rows))
            for kind, (owners, rows) in digests.items()
        ]
        with self._update:
            self._touched = time.monotonic()
            layers = self._layers
            epoch = layers.epoch + 1
            tombstones = layers.tombstones.with_erased(ids, epoch)
            for kind, owners, mixed in stated:  # beside what goes, until the tombstones are seen
                layers.deltas(kind)[-1].add(mixed, owners, epoch, tombstones)
            self._layers = replace(layers, tombstones=tombstones, epoch=epoch)
            self._settle()

    def set_applied(self, applied: int) -> None:
        """State that all changes of storage up to ``applied`` have been applied."""
        with self._update:
            self._applied = applied

    def _settle(self) -> None:
        """Turn a grown PDQ delta, and small segments not twice as large, into one segment."""
        layers = self._layers
        near = layers.near
        if near.deltas[-1].count < _WALKED_ROWS:
            return
        collector = Collector(LANES, None)
        collector.add(*near.deltas[-1].alive(layers.tombstones))
        runs: list[Run] = collector.runs()
        small = list(near.small)
        rows = sum(run.count for run in runs)
        while len(small) > near.frozen and small[-1].table.count <= 2 * rows:
            runs.append(TableRun(small.pop().table, layers.tombstones))
            rows += runs[-1].count
        made = NearSegment.write(MemoryStore(), "", runs, layers.epoch)
        fresh = new_delta(DigestKind.PDQ, self._mixer.keys)
        self._layers = replace(
            layers,
            near=replace(
                near,
                small=(*small, made) if made is not None else tuple(small),
                deltas=(*near.deltas[:-1], fresh),
            ),
        )
