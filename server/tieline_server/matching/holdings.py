"""Under what each item is held, beside the digests: one number an item, so that a hit costs a look.

Items are held in few different ways: an import and a series, or several such pairs. Each way (a
*holding set*) has a number, and a column indexed by item id holds each item's. Set 0 is empty: not
held, erased, or unknown. The column of a snapshot is mapped copy-on-write: what changes becomes
private memory page by page, what grows is private until the next merge writes it.

One thread changes it (the matcher sees to that) while others read: a number is written whole, and
sets are only ever added.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tieline_server.domain.ports import HoldingSet
from tieline_server.matching.compiled import I64, U32, frozen
from tieline_server.matching.files import (
    Array,
    FolderStore,
    IndexDamaged,
    Section,
    Store,
    sections_from_json,
    sections_to_json,
)

_GROWTH = 65_536
"""Least items by which the private part grows."""
_BLOCK = 4_000_000


@dataclass(frozen=True, slots=True)
class HoldingFiles:
    """A column as a snapshot holds it: ``numbers`` (items,) uint32, the sets as ``starts``
    (sets + 1,) int64 into ``pairs`` (n, 2) uint32 of import and series numbers, and ``counts``
    (sets,) int64 of the items that have each."""

    sections: Mapping[str, Section]
    arrays: Mapping[str, Array]

    @classmethod
    def load(cls, store: FolderStore, body: dict[str, Any]) -> HoldingFiles:
        sections = sections_from_json(body)
        if sections.keys() != {"numbers", "starts", "pairs", "counts"}:
            raise IndexDamaged("the index manifest is incomplete; it is rebuilt")
        return cls(sections, {name: store.load(one) for name, one in sections.items()})

    def to_json(self) -> dict[str, Any]:
        return sections_to_json(dict(self.sections))


class HoldingColumn:
    """The numbers of all items and the sets they stand for."""

    def __init__(self) -> None:
        self._sets: list[HoldingSet] = [()]
        self._numbers: dict[HoldingSet, int] = {(): 0}
        self._of_series: dict[int, list[int]] = {}
        self._counts: I64 = np.zeros(1, dtype=np.int64)
        self._parts: tuple[U32, U32] = (_none(), _none())
        self._end = 0
        self._journal: list[tuple[I64, U32]] | None = None
        self.changed = 0
        """Items held anew since the files were written."""
        self.of_files = False
        """Whether it rests on the files of a snapshot."""

    @classmethod
    def of(cls, files: HoldingFiles, base: U32) -> HoldingColumn:
        """Return the column of a snapshot; ``base`` is its numbers, see `private`."""
        column = cls()
        starts, pairs = files.arrays["starts"], files.arrays["pairs"]
        column._sets = _sets_of(starts, pairs)
        column._numbers = {one: number for number, one in enumerate(column._sets)}
        for number, one in enumerate(column._sets):
            column._note_series(number, one)
        column._counts = files.arrays["counts"].copy()
        if len(column._counts) != len(column._sets):
            raise IndexDamaged("the index's holdings do not fit together; it is rebuilt")
        column._parts = (base, _none())
        column._end = len(base)
        column.of_files = True
        return column

    def __len__(self) -> int:
        return self._end

    def numbers_of(self, item_ids: I64) -> U32:
        """Return the set number of each item (n,), 0 for what is not held or out of range."""
        base, tail = self._parts
        out = np.zeros(len(item_ids), dtype=np.uint32)
        low = (item_ids >= 0) & (item_ids < len(base))
        out[low] = base[item_ids[low]]
        if len(tail):
            high = (item_ids >= len(base)) & (item_ids < len(base) + len(tail))
            out[high] = tail[item_ids[high] - len(base)]
        return out

    def columns(self) -> tuple[U32, U32]:
        """Return the numbers by item id, in two parts; what is past the last item is 0."""
        base, tail = self._parts
        return frozen(base), frozen(tail)

    def set_of(self, number: int) -> HoldingSet:
        """Return the (import, series) pairs that a number stands for."""
        return self._sets[number] if number < len(self._sets) else ()

    def intern(self, sets: Iterable[HoldingSet]) -> U32:
        """Return the numbers of sets, giving out new ones."""
        numbers = []
        for one in sets:
            number = self._numbers.get(one)
            if number is None:
                number = len(self._sets)
                if number >= len(self._counts):
                    grown = np.zeros(2 * number, dtype=np.int64)
                    grown[: len(self._counts)] = self._counts
                    self._counts = grown
                self._sets.append(one)
                self._numbers[one] = number
                self._note_series(number, one)
            numbers.append(number)
        return np.asarray(numbers, dtype=np.uint32)

    def imports_of(self, series: int) -> set[int]:
        """Return the imports under which items of a series are, or were, held in it."""
        return {pair[0] for pair in self._pairs_of(series)}

    def count_of(self, series: int, imports: Container[int]) -> int:
        """Return how many items these imports hold in a series."""
        found = {number for import_no, number in self._pairs_of(series) if import_no in imports}
        return int(self._counts[list(found)].sum())

    def held(self) -> list[tuple[HoldingSet, int]]:
        """Return the sets that items have, and how many items have each."""
        counts = self._counts
        return [
            (one, int(count))
            for one, count in zip(self._sets[: len(counts)], counts.tolist(), strict=False)
            if one and count > 0
        ]

    def _pairs_of(self, series: int) -> Iterator[tuple[int, int]]:
        """Yield (import, set number) of the sets that name a series."""
        for number in self._of_series.get(series, ()):
            for import_no, named in self._sets[number]:
                if named == series:
                    yield import_no, number

    def _note_series(self, number: int, one: HoldingSet) -> None:
        for series in {series for _, series in one} - {0}:
            self._of_series.setdefault(series, []).append(number)

    def hold(self, item_ids: I64, numbers: U32) -> None:
        """Set the numbers of items; of an item that is named twice the last counts."""
        if not len(item_ids):
            return
        if (item_ids[1:] <= item_ids[:-1]).any():
            item_ids, back = np.unique(item_ids[::-1], return_index=True)
            numbers = numbers[::-1][back]
        base, tail = self._reserve(int(item_ids.max()) + 1)
        self._count(self.numbers_of(item_ids), -1)
        self._count(numbers, 1)
        low = item_ids < len(base)
        base[item_ids[low]] = numbers[low]
        if not low.all():
            tail[item_ids[~low] - len(base)] = numbers[~low]
        self.changed += len(item_ids)
        if self._journal is not None:
            self._journal.append((item_ids, numbers))

    def _count(self, numbers: U32, sign: int) -> None:
        which, counts = np.unique(numbers, return_counts=True)
        self._counts[which] += sign * counts

    def begin_write(self) -> None:
        """Remember what is held from here on, for `rebase`."""
        self._journal = []

    def write(self, store: Store, prefix: str) -> HoldingFiles:
        """Write the column as it is; changes meanwhile may or may not be in it (see `rebase`)."""
        sections, arrays = {}, {}
        writer = store.writer(f"{prefix}.numbers", "<u4")
        (base, tail), end = self._parts, self._end
        counts: I64 = np.zeros(1, dtype=np.int64)
        for part in (base, tail[: end - len(base)]):
            for start in range(0, len(part), _BLOCK):
                block = part[start : start + _BLOCK].copy()  # counted as it is written
                writer.append(block)
                here = np.bincount(block, minlength=len(counts))
                here[: len(counts)] += counts
                counts = here
        sections["numbers"], arrays["numbers"] = writer.finish()
        sets = self._sets[:]  # after the numbers: whatever they name is there
        starts = np.cumsum([0, *(len(one) for one in sets)], dtype=np.int64)
        pairs = np.asarray([pair for one in sets for pair in one], dtype=np.uint32)
        counts = np.concatenate([counts, np.zeros(len(sets) - len(counts), dtype=np.int64)])
        for name, array, row in (
            ("starts", starts, ()),
            ("pairs", pairs, (2,)),
            ("counts", counts, ()),
        ):
            writer = store.writer(f"{prefix}.{name}", "<u4" if name == "pairs" else "<i8")
            writer.append(array)
            sections[name], arrays[name] = writer.finish(*row)
        return HoldingFiles(sections, arrays)

    def rebase(self, files: HoldingFiles, base: U32) -> None:
        """Use what `write` wrote, mapped copy-on-write, with what was held since `begin_write`."""
        journal, self._journal = self._journal or [], None
        fresh = HoldingColumn()
        fresh._parts, fresh._end = (base, _none()), len(base)
        fresh._counts = np.zeros(len(self._counts), dtype=np.int64)
        fresh._counts[: len(files.arrays["counts"])] = files.arrays["counts"]
        for item_ids, numbers in journal:
            fresh.hold(item_ids, numbers)
        self._parts, self._end, self._counts = fresh._parts, fresh._end, fresh._counts
        self.of_files = True
        self.changed = sum(len(item_ids) for item_ids, _ in journal)

    def abandon_write(self) -> None:
        """Forget what `begin_write` began."""
        self._journal = None

    def _reserve(self, end: int) -> tuple[U32, U32]:
        base, tail = self._parts
        if end > len(base) + len(tail):
            grown = np.zeros(max(end - len(base), len(tail) * 3 // 2, _GROWTH), dtype=np.uint32)
            grown[: len(tail)] = tail
            tail = grown
            self._parts = base, tail
        self._end = max(self._end, end)
        return base, tail


def _none() -> U32:
    return np.zeros(0, dtype=np.uint32)


def _sets_of(starts: Array, pairs: Array) -> list[HoldingSet]:
    if not len(starts) or starts[0] != 0 or starts[-1] != len(pairs) or (np.diff(starts) < 0).any():
        raise IndexDamaged("the index's holdings do not fit together; it is rebuilt")
    flat = [(int(import_no), int(series)) for import_no, series in pairs.tolist()]
    bounds = starts.tolist()
    return [tuple(flat[a:b]) for a, b in pairwise(bounds)]


def private(store: Store, files: HoldingFiles) -> U32:
    """Return the numbers of a snapshot as memory of one's own, page by page where they change."""
    if isinstance(store, FolderStore):
        return store.load_private(files.sections["numbers"])
    return files.arrays["numbers"].copy()
