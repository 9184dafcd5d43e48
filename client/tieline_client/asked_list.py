"""The asked list: records in, packed digests by kind out, and back from positions to records.

A list is made once, by `ListBuilder` from the records of a file or by `AskedList.from_digests`, and
holds arrays alone: a million records take the memory of their digests and a number each.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tieline_client import limits
from tieline_client.columns import Columns
from tieline_client.digest_batch import DigestBatch, per_batch
from tieline_client.digests import EXACT_KINDS, DigestKind, format_digest, junk_rows
from tieline_client.errors import InvalidDigest, InvalidInput, LimitExceeded
from tieline_client.formats.record import Record, Rejected, Vote
from tieline_client.packed import U8, Index, ascending_order, is_new, take
from tieline_client.screening import (
    belongs,
    has_digest,
    votes_belong,
    why_unmatched,
    without_junk,
)

STRONGEST = (DigestKind.SHA256, DigestKind.SHA1, DigestKind.MD5, DigestKind.PDQ)
"""Kinds by what a match is worth as evidence."""


@dataclass(frozen=True, slots=True)
class AskTerms:
    """What may be asked abroad: records in these categories, and at most so many."""

    categories: frozenset[Vote] = frozenset()
    records_most: int = limits.RECORDS_PER_QUERY
    digest_later: bool = False
    """Whether a list may go out before its digest is known."""


@dataclass(frozen=True, slots=True)
class Column:
    """One kind: distinct ``digests`` (n, width), ascending.

    The records that have digest i are ``records[starts[i]:starts[i + 1]]``, as indexes into the
    list. Without ``starts`` each digest is that of one record, ``records[i]``; without ``records``
    that of record i.
    """

    digests: U8
    starts: Index | None = None
    records: Index | None = None

    def owners(self, positions: Index) -> tuple[Index, Index]:
        """Return pairs (index into ``positions``, record that has the digest there)."""
        each = np.arange(len(positions), dtype=np.int64)
        if self.starts is None or self.records is None:
            return each, positions if self.records is None else self.records[positions]
        first = self.starts[positions]
        counts = self.starts[positions + 1] - first
        which = np.repeat(each, counts)
        ends = np.cumsum(counts)
        inside = np.arange(len(which), dtype=np.int64) - np.repeat(ends - counts, counts)
        return which, self.records[np.repeat(first, counts) + inside]

    def positions(self, records: int) -> Index:
        """Return the position of each of the list's records, -1 where it has no such digest."""
        found = np.full(records, -1, dtype=np.int64)
        which, owners = self.owners(np.arange(len(self.digests), dtype=np.int64))
        found[owners] = which
        return found


class AskedList:
    """Records of one question; a record is one asked item whatever number of digests it has.

    ``columns`` holds the kinds that occur, in their order; ``excluded`` counts the records that
    stay at home.
    """

    def __init__(
        self, numbers: Index, columns: Mapping[DigestKind, Column], excluded: int = 0
    ) -> None:
        """``numbers`` are the records' positions in their file, (n,) from 1."""
        self._numbers = numbers
        self.columns = {kind: columns[kind] for kind in DigestKind if kind in columns}
        self.excluded = excluded
        self._positions: dict[DigestKind, Index] = {}

    @classmethod
    def from_digests(cls, kind: DigestKind, rows: U8) -> AskedList:
        """Ask (n, width) digests of one kind in any order, each a record that belongs.

        They are numbered from 1; those that say nothing of content are left out and counted.
        Raises InvalidDigest on a wrong width, LimitExceeded over ``limits.RECORDS_PER_QUERY``.
        """
        if rows.ndim != 2 or rows.shape[1] != kind.width or rows.dtype != np.uint8:
            raise InvalidDigest(f"{kind.label} digests are rows of {kind.width} bytes")
        numbers = np.arange(1, len(rows) + 1, dtype=np.int64)
        junk = junk_rows(kind, rows)
        if junk.any():
            rows, numbers = rows[~junk], numbers[~junk]
        _check_size(len(rows), limits.RECORDS_PER_QUERY)
        columns = {kind: _column(rows, None)} if len(rows) else {}
        return cls(numbers, columns, int(junk.sum()))

    @classmethod
    def of_items(cls, items: Index, digests: Mapping[DigestKind, tuple[Index, U8]]) -> AskedList:
        """Ask items by their ascending ids; ``digests`` are ids of items and rows by kind."""
        columns = {
            kind: _column(rows, np.searchsorted(items, ids).astype(np.int64))
            for kind, (ids, rows) in digests.items()
            if len(rows)
        }
        return cls(items, columns)

    def __len__(self) -> int:
        return len(self._numbers)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over all packed digests, kinds in order."""
        total = hashlib.sha256()
        for column in self.columns.values():
            total.update(column.digests.data)
        return total.digest()

    def counts(self) -> list[int]:
        """Distinct digests by kind, in the order of DigestKind."""
        return [
            len(self.columns[kind].digests) if kind in self.columns else 0 for kind in DigestKind
        ]

    def batches(self) -> Iterator[DigestBatch]:
        """Yield the list as it travels: kinds in order, digests ascending across batches."""
        for kind, column in self.columns.items():
            size = per_batch(kind)
            for start in range(0, len(column.digests), size):
                rows = column.digests[start : start + size]
                yield DigestBatch.of(kind, rows.reshape(-1).data)

    def without(self, known: Mapping[DigestKind, Index]) -> AskedList:
        """Return the list without the records that have a digest at one of these positions.

        A digest goes with the last record that has it. The records count as excluded.
        """
        gone = np.zeros(len(self), dtype=bool)
        for kind, positions in known.items():
            gone[self.columns[kind].owners(positions)[1]] = True
        renumbered = np.cumsum(~gone) - 1
        columns = {}
        for kind, column in self.columns.items():
            which, records = column.owners(np.arange(len(column.digests), dtype=np.int64))
            kept = ~gone[records]
            which, records = which[kept], renumbered[records[kept]]
            if len(which):
                fresh = np.ones(len(which), dtype=bool)
                fresh[1:] = which[1:] != which[:-1]
                columns[kind] = _grouped(take(column.digests, which[fresh]), fresh, records)
        return AskedList(self._numbers[~gone], columns, self.excluded + int(gone.sum()))

    def numbers_of(self, records: Index) -> Index:
        """Return the positions in the file, from 1, of records by their indexes in the list; of
        items, their ids."""
        return self._numbers[records]

    def name_of(self, record: int) -> str:
        """``sha256:<hex>`` of the strongest digest of the record with an index."""
        for kind in STRONGEST:
            if kind in self.columns:
                position = int(self._positions_of(kind)[record])
                if position >= 0:
                    return format_digest(kind, self.columns[kind].digests[position].tobytes())
        raise InvalidInput(f"no record of index {record} was asked")

    def _positions_of(self, kind: DigestKind) -> Index:
        if kind not in self._positions:
            self._positions[kind] = self.columns[kind].positions(len(self))
        return self._positions[kind]


class ListBuilder:
    """Takes the records of a file; `build` makes the list of them, in the order of the file.

    Of the records that stay at home ``perceptual_only`` counts those that ``near`` would ask, and
    ``unmatched_count`` those of which nothing could be matched anywhere; ``unmatched`` names the
    first REJECTED_LISTED, in the words of an import.
    """

    def __init__(self, terms: AskTerms, *, near: bool, stated: Vote | None = None) -> None:
        """``stated`` is the category of records that carry none; ``near`` asks PDQ too."""
        self._terms, self._stated = terms, stated
        self._kinds = (*EXACT_KINDS, DigestKind.PDQ) if near else EXACT_KINDS
        self._rows: dict[DigestKind, bytearray] = {kind: bytearray() for kind in self._kinds}
        self._owners: dict[DigestKind, array[int]] = {kind: array("q") for kind in self._kinds}
        self._numbers = array("q")
        self._excluded = 0
        self.perceptual_only = 0
        self.unmatched: list[Rejected] = []
        self.unmatched_count = 0

    def add(self, record: Record) -> bool:
        """Add a record; False when it stays at home: it does not belong, or has nothing to ask.

        Raises LimitExceeded over the most records of a question.
        """
        record, junk = without_junk(record)
        present = [
            (kind, value)
            for kind in self._kinds
            if (value := getattr(record, kind.label)) is not None
        ]
        wanted = not record.deleted and belongs(record, self._terms.categories, self._stated)
        if not present or not wanted:
            self._excluded += 1
            if has_digest(record):  # PDQ alone, where it is wanted
                self.perceptual_only += wanted
            elif not record.deleted:
                self._name_unmatched([record.number], why_unmatched(junk))
            return False
        for kind, value in present:
            self._rows[kind] += value
            self._owners[kind].append(len(self._numbers))
        self._numbers.append(record.number)
        _check_size(len(self._numbers), self._terms.records_most)
        return True

    def add_columns(self, columns: Columns) -> int:
        """Add records that come as columns; return how many. Raises LimitExceeded as `add`."""
        usable = {
            kind: column.present & ~junk_rows(kind, column.rows)
            for kind, column in columns.digests.items()
        }
        if DigestKind.PDQ in usable:
            # Not stated is -1: such a hash counts.
            poor = (columns.quality >= 0) & (columns.quality < limits.PDQ_MIN_QUALITY)
            usable[DigestKind.PDQ] &= ~poor
        present = {kind: usable[kind] for kind in self._kinds if kind in usable}
        matched = _any(usable.values(), len(columns))
        if not matched.all():
            stated = columns.identified()
            for some, junk in ((stated & ~matched, 1), (~stated, 0)):
                self._name_unmatched(columns.numbers[some].tolist(), why_unmatched(junk))
        wanted = self._belong(columns)
        kept = wanted & _any(present.values(), len(columns))
        added = int(kept.sum())
        self.perceptual_only += int((wanted & matched).sum()) - added
        index = len(self._numbers) + np.cumsum(kept) - 1
        for kind, has in present.items():
            chosen = np.flatnonzero(has & kept)
            self._rows[kind] += take(columns.digests[kind].rows, chosen).tobytes()
            self._owners[kind].frombytes(index[chosen].astype(np.int64).tobytes())
        self._numbers.frombytes(columns.numbers[kept].astype(np.int64).tobytes())
        self._excluded += len(columns) - added
        _check_size(len(self._numbers), self._terms.records_most)
        return added

    def _name_unmatched(self, numbers: list[int], why: str) -> None:
        self.unmatched_count += len(numbers)
        room = limits.REJECTED_LISTED - len(self.unmatched)
        self.unmatched += [Rejected(number, why) for number in numbers[:room]]

    def _belong(self, columns: Columns) -> npt.NDArray[np.bool_]:
        if columns.entire:
            return np.ones(len(columns), dtype=bool)
        categories, stated = self._terms.categories, self._stated
        sets = [votes_belong(votes, categories, stated) for votes in columns.vote_sets]
        # Index -1, no votes, takes the last.
        return np.array([*sets, stated is not None], dtype=bool)[columns.votes]

    def build(self) -> AskedList:
        """Return the list; the builder is used up."""
        numbers = np.frombuffer(self._numbers, dtype=np.int64)
        places: Index | None = None
        if (numbers[1:] < numbers[:-1]).any():
            # Of a block of a file, columns come before the records that columns cannot say.
            order = np.argsort(numbers, kind="stable")
            places = np.empty_like(order)
            places[order] = np.arange(len(order))
            numbers = numbers[order]
        columns = {}
        for kind in self._kinds:
            if len(self._owners[kind]):
                rows = np.frombuffer(self._rows.pop(kind), dtype=np.uint8)
                owners = np.frombuffer(self._owners.pop(kind), dtype=np.int64)
                owners = owners if places is None else places[owners]
                columns[kind] = _column(rows.reshape(-1, kind.width), owners)
        return AskedList(numbers, columns, self._excluded)


def _any(masks: Iterable[npt.NDArray[np.bool_]], count: int) -> npt.NDArray[np.bool_]:
    found = np.zeros(count, dtype=bool)
    for mask in masks:
        found |= mask
    return found


def _check_size(records: int, most: int) -> None:
    if records > most:
        raise LimitExceeded(f"a question may hold {most} records; split the file")


def _column(rows: U8, owners: Index | None) -> Column:
    """Sort (n, width) rows; ``owners`` (n,) are their records, None: each its own."""
    order = ascending_order(rows)
    if order is None:
        return Column(np.ascontiguousarray(rows), None, owners)
    rows = take(rows, order)
    return _grouped(rows, is_new(rows), order if owners is None else owners[order])


def _grouped(rows: U8, fresh: npt.NDArray[np.bool_], records: Index) -> Column:
    """Return the column of ascending pairs of digest and record, ``fresh`` where one begins.

    ``rows`` are the pairs' digests, or the distinct ones already.
    """
    if fresh.all():
        return Column(rows, None, records)
    starts = np.append(np.flatnonzero(fresh), len(fresh)).astype(np.int64)
    if len(rows) == len(fresh):
        rows = take(rows, starts[:-1])
    return Column(rows, starts, records)
