"""The asked list: records in, packed digests by kind out, and back from positions to records."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tieline.v1 import digests_pb2, exchange_pb2
from tieline_client import limits
from tieline_client.digests import EXACT_KINDS, DigestKind, format_digest
from tieline_client.errors import InvalidInput, LimitExceeded
from tieline_client.formats.record import Record

Rows = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]

_STRONGEST = (DigestKind.SHA256, DigestKind.SHA1, DigestKind.MD5, DigestKind.PDQ)


@dataclass(frozen=True, slots=True)
class Column:
    """One kind: distinct ``digests`` (n, width) ascending; the records of digest i are
    ``records[starts[i]:starts[i + 1]]``, as indexes into the list."""

    digests: Rows
    starts: Index
    records: Index


class AskedList:
    """Records of one question; a record is one asked item whatever number of digests it has."""

    def __init__(self, *, near: bool) -> None:
        self._kinds: Sequence[DigestKind] = (*EXACT_KINDS, DigestKind.PDQ) if near else EXACT_KINDS
        self._values: dict[DigestKind, bytearray] = {kind: bytearray() for kind in self._kinds}
        self._of: dict[DigestKind, array[int]] = {kind: array("q") for kind in self._kinds}
        self.numbers: list[int] = []
        self.columns: dict[DigestKind, Column] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, record: Record) -> bool:
        """Add a record; False when it has no digest of a kind that is asked.

        Raises LimitExceeded over ``limits.RECORDS_PER_QUERY``.
        """
        present = [
            (kind, value)
            for kind in self._kinds
            if (value := getattr(record, kind.label)) is not None
        ]
        if not present:
            return False
        if len(self.numbers) >= limits.RECORDS_PER_QUERY:
            raise LimitExceeded(
                f"a question may hold {limits.RECORDS_PER_QUERY} records; split the file"
            )
        for kind, value in present:
            self._values[kind] += value
            self._of[kind].append(len(self.numbers))
        self.numbers.append(record.number)
        return True

    def close(self) -> None:
        """Sort every column. No record is added afterwards."""
        for kind in self._kinds:
            if self._of[kind]:
                self.columns[kind] = _column(kind, self._values[kind], self._of[kind])

    def counts(self) -> list[int]:
        """Distinct digests by kind, in the order of DigestKind."""
        return [
            len(self.columns[kind].digests) if kind in self.columns else 0 for kind in DigestKind
        ]

    def digest(self) -> bytes:
        """SHA-256 over all packed digests, kinds in order."""
        total = hashlib.sha256()
        for kind in DigestKind:
            if kind in self.columns:
                total.update(self.columns[kind].digests.data)
        return total.digest()

    def batches(self) -> Iterator[exchange_pb2.OverlapRequest]:
        """Yield the list as it travels."""
        for kind in DigestKind:
            if kind not in self.columns:
                continue
            rows = self.columns[kind].digests
            for start in range(0, len(rows), limits.DIGESTS_PER_BATCH):
                part = rows[start : start + limits.DIGESTS_PER_BATCH]
                yield exchange_pb2.OverlapRequest(
                    batch=digests_pb2.DigestList(kind=int(kind), digests=part.tobytes())  # type: ignore[arg-type]
                )

    def records_at(self, kind: DigestKind, position: int) -> Iterable[int]:
        """Indexes of the records that have the digest at a position."""
        column = self.columns[kind]
        return (
            int(index)
            for index in column.records[column.starts[position] : column.starts[position + 1]]
        )

    def name_of(self, record: int) -> str:
        """``sha256:<hex>`` of the strongest digest of the record with an index."""
        for kind in _STRONGEST:
            owners = self._of.get(kind)
            at = bisect_left(owners, record) if owners else 0
            if owners and at < len(owners) and owners[at] == record:
                value = self._values[kind][at * kind.width : (at + 1) * kind.width]
                return format_digest(kind, bytes(value))
        raise InvalidInput(f"no record of index {record} was asked")


def strength(kind: DigestKind) -> int:
    """Lower is stronger evidence."""
    return _STRONGEST.index(kind)


def _column(kind: DigestKind, values: bytearray, owners: array[int]) -> Column:
    rows = np.frombuffer(bytes(values), dtype=np.uint8).reshape(-1, kind.width)
    order = np.lexsort(rows.T[::-1])
    rows = rows[order]
    records = np.frombuffer(owners, dtype=np.int64)[order]
    fresh = np.ones(len(rows), dtype=bool)
    fresh[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    starts = np.append(np.flatnonzero(fresh), len(rows)).astype(np.int64)
    return Column(np.ascontiguousarray(rows[fresh]), starts, records)
