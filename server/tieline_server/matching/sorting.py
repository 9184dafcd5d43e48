"""Sorts (row, item id) pairs by all lanes of the row and then the id, in bounded memory.

Pairs come in batches. Every `RUN_ROWS` of them are parted by the first byte of the row into 256
parts and, with a folder at hand, spilled to an unnamed file. The sorted whole is then made part by
part: gather a part from every run, sort it, drop equal pairs. A snapshot that is merged is one more
run, without its dead entries. So a merge of 51 million rows holds a few hundred megabytes, and
files written and read are sequential.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tieline_server.matching.compiled import I64, U32, U64, kernel

RUN_ROWS = 4_000_000
"""Pairs held in memory before they are parted and spilled."""
PARTS = 256
_WHOLE = 1_000_000
"""Up to this many pairs are sorted as one part."""
_S32 = np.uint64(32)


class Run(Protocol):
    """Pairs parted by the first byte of their rows; ``span`` is the least and greatest item id."""

    @property
    def count(self) -> int: ...
    @property
    def span(self) -> tuple[int, int]: ...
    def part(self, first: int, last: int) -> tuple[U32, I64]:
        """Return the rows (n, lanes) and ids (n,) whose first byte is in [first, last)."""
        ...


@dataclass(frozen=True, slots=True)
class PartedRun:
    """A batch after parting; ``bounds[b]`` is where byte b begins."""

    rows: U32
    ids: I64
    bounds: I64
    span: tuple[int, int]

    @property
    def count(self) -> int:
        return len(self.ids)

    def part(self, first: int, last: int) -> tuple[U32, I64]:
        piece = slice(int(self.bounds[first]), int(self.bounds[last]))
        return self.rows[piece], self.ids[piece]


class Collector:
    """Takes pairs in any order and gives them back as runs."""

    def __init__(self, lanes: int, folder: Path | None) -> None:
        self._lanes, self._folder = lanes, folder
        self._rows: list[U32] = []
        self._ids: list[I64] = []
        self._held = 0
        self._runs: list[Run] = []

    def add(self, rows: U32, ids: I64) -> None:
        """Take rows (n, lanes) and ids (n,); neither is kept by reference."""
        for start in range(0, len(ids), RUN_ROWS):
            self._rows.append(rows[start : start + RUN_ROWS].copy())
            self._ids.append(ids[start : start + RUN_ROWS].copy())
            self._held += len(self._ids[-1])
            if self._held >= RUN_ROWS:
                self._part(spill=True)

    def runs(self) -> list[Run]:
        """Return everything taken so far."""
        if self._held:
            self._part(spill=bool(self._runs))
        return self._runs

    def _part(self, *, spill: bool) -> None:
        rows, ids = np.concatenate(self._rows), np.concatenate(self._ids)
        self._rows, self._ids, self._held = [], [], 0
        parted, parted_ids = np.empty_like(rows), np.empty_like(ids)
        bounds = np.zeros(PARTS + 1, dtype=np.int64)
        part_by_first_byte(rows, ids, parted, parted_ids, bounds)
        span = (int(ids.min()), int(ids.max()))
        if spill and self._folder is not None:
            del rows, ids
            parted, parted_ids = _spill(self._folder, parted, parted_ids)
        self._runs.append(PartedRun(parted, parted_ids, bounds, span))


def _spill(folder: Path, rows: U32, ids: I64) -> tuple[U32, I64]:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(ids.data.cast("B"))
        file.write(rows.reshape(-1).data.cast("B"))
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    back = np.frombuffer(mapped, dtype=np.int64, count=len(ids))
    lanes = np.frombuffer(mapped, dtype=np.uint32, offset=ids.nbytes)
    return lanes.reshape(rows.shape), back


def sorted_parts(runs: list[Run]) -> Iterator[tuple[U32, I64]]:
    """Yield rows (n, lanes) and ids (n,), ascending over the whole, each pair once."""
    step = PARTS if sum(run.count for run in runs) <= _WHOLE else 1
    for first in range(0, PARTS, step):
        pieces = [run.part(first, first + step) for run in runs]
        pieces = [piece for piece in pieces if len(piece[1])]
        if pieces:
            rows = np.concatenate([piece[0] for piece in pieces])
            ids = np.concatenate([piece[1] for piece in pieces])
            yield sort_pairs(rows, ids)


def sort_pairs(rows: U32, ids: I64) -> tuple[U32, I64]:
    """Return the pairs in order, each once."""
    order = np.argsort(first_words(rows))
    rows, ids = rows[order], ids[order]
    kept = settle(rows, ids)
    return rows[:kept], ids[:kept]


def first_words(rows: U32) -> U64:
    """Return the first two lanes of each row as one 64-bit word."""
    words: U64 = (rows[:, 0].astype(np.uint64) << _S32) | rows[:, 1]
    return words


@kernel
def part_by_first_byte(rows: U32, ids: I64, out: U32, out_ids: I64, bounds: I64) -> None:
    """Counting sort by the highest byte of lane 0."""
    count, lanes = rows.shape
    for i in range(count):
        bounds[(rows[i, 0] >> np.uint32(24)) + 1] += 1
    for part in range(PARTS):
        bounds[part + 1] += bounds[part]
    place = bounds[:PARTS].copy()
    for i in range(count):
        part = rows[i, 0] >> np.uint32(24)
        to = place[part]
        place[part] += 1
        out_ids[to] = ids[i]
        for j in range(lanes):
            out[to, j] = rows[i, j]


@kernel
def _after(rows: U32, ids: I64, i: int, row: U32, item_id: int) -> bool:
    for j in range(rows.shape[1]):
        if rows[i, j] != row[j]:
            return bool(rows[i, j] > row[j])
    return bool(ids[i] > item_id)


@kernel
def _sort_ties(rows: U32, ids: I64, start: int, end: int) -> None:
    """Shell sort (Tokuda's gaps): a digest that a million items share stays cheap."""
    lanes = rows.shape[1]
    hold = np.empty(lanes, dtype=np.uint32)
    gap = 1
    while gap * 9 // 4 < end - start:
        gap = gap * 9 // 4 + 1
    while gap > 0:
        for i in range(start + gap, end):
            for j in range(lanes):
                hold[j] = rows[i, j]
            held = ids[i]
            at = i
            while at - gap >= start and _after(rows, ids, at - gap, hold, held):
                for j in range(lanes):
                    rows[at, j] = rows[at - gap, j]
                ids[at] = ids[at - gap]
                at -= gap
            for j in range(lanes):
                rows[at, j] = hold[j]
            ids[at] = held
        gap = gap * 4 // 9


@kernel
def settle(rows: U32, ids: I64) -> int:
    """Finish a sort by the first two lanes: order ties by the rest, drop equal pairs in place.

    Returns how many pairs are kept.
    """
    count, lanes = rows.shape
    start = 0
    while start < count:
        end = start + 1
        while end < count and rows[end, 0] == rows[start, 0] and rows[end, 1] == rows[start, 1]:
            end += 1
        if end - start > 1:
            _sort_ties(rows, ids, start, end)
        start = end
    kept = 0
    for i in range(count):
        same = kept > 0 and ids[kept - 1] == ids[i]
        for j in range(lanes):
            same = same and rows[kept - 1, j] == rows[i, j]
        if not same:
            ids[kept] = ids[i]
            for j in range(lanes):
                rows[kept, j] = rows[i, j]
            kept += 1
    return kept
