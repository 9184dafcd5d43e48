"""Records of one file as columns, for files of millions: one array instead of many objects.

What few records say (PhotoDNA, references, counts of sightings, tombstones) has no column: such
records travel as `Record`. What never leaves the reader (the time of the last change, notes) is
dropped on the way into columns.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidDigest
from tieline_client.formats.record import Record, Vote

FLAGS = ("victim_identified", "offender_identified", "distributed", "baseline")
"""In the order of their bits in `Columns.flags`."""

T = TypeVar("T", bound=Hashable)
Wanted = npt.NDArray[np.bool_] | npt.NDArray[np.intp] | slice
"""Which records: a mask over all, ascending positions, or a slice."""

_FLAG_VALUES = (None, False, True)
_QUALITY_MOST = 100
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class DigestColumn:
    """``present`` (n,) bool; ``rows`` (n, width) uint8, zero where absent."""

    present: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.uint8]

    def values(self) -> list[bytes | None]:
        """Return the digests one by one, None where absent."""
        width, packed = self.rows.shape[1], self.rows.tobytes()
        digests = [packed[start : start + width] for start in range(0, len(packed), width)]
        if self.present.all():
            return list(digests)
        pairs = zip(self.present.tolist(), digests, strict=True)
        return [digest if there else None for there, digest in pairs]


@dataclass(frozen=True, slots=True)
class Columns:
    """n records in the order of the file.

    ``numbers`` (n,) int64: positions in the file from 1. ``quality`` (n,) int16 and ``size`` (n,)
    int64: -1 where not stated. ``media_type``, ``votes`` and ``series`` (n,) int32 are indexes into
    ``media_types``, ``vote_sets`` and ``series_names``, -1 for none. ``flags`` (n,) uint8: two bits
    for each of FLAGS from the lowest, 0 not stated, 1 false, 2 true. ``entire``: the format states
    that every record belongs.
    """

    numbers: npt.NDArray[np.int64]
    digests: dict[DigestKind, DigestColumn]
    quality: npt.NDArray[np.int16]
    size: npt.NDArray[np.int64]
    media_type: npt.NDArray[np.int32]
    votes: npt.NDArray[np.int32]
    series: npt.NDArray[np.int32]
    flags: npt.NDArray[np.uint8]
    media_types: tuple[str, ...] = ()
    vote_sets: tuple[tuple[Vote, ...], ...] = ()
    series_names: tuple[str, ...] = ()
    entire: bool = field(default=False)

    def __len__(self) -> int:
        return len(self.numbers)

    def identified(self) -> npt.NDArray[np.bool_]:
        """Return a mask of the records that have a digest."""
        found = np.zeros(len(self), dtype=bool)
        for column in self.digests.values():
            found |= column.present
        return found

    def take(self, wanted: Wanted) -> Columns:
        """Return the wanted records; kinds, texts and votes that no record has are left out."""
        if isinstance(wanted, np.ndarray) and wanted.dtype == np.bool_ and wanted.all():
            return self
        digests = {}
        for kind, column in self.digests.items():
            present = column.present[wanted]
            if present.any():
                digests[kind] = DigestColumn(present, column.rows[wanted])
        media_type, media_types = _used(self.media_type[wanted], self.media_types)
        votes, vote_sets = _used(self.votes[wanted], self.vote_sets)
        series, series_names = _used(self.series[wanted], self.series_names)
        return Columns(
            self.numbers[wanted],
            digests,
            self.quality[wanted],
            self.size[wanted],
            media_type,
            votes,
            series,
            self.flags[wanted],
            media_types,
            vote_sets,
            series_names,
            self.entire,
        )

    def record(self, index: int) -> Record:
        """Return one record as an object."""
        return self.take(np.array([index])).records()[0]

    def records(self, wanted: Wanted | None = None) -> list[Record]:
        """Return the wanted records as objects, all of them by default."""
        if wanted is not None:
            return self.take(wanted).records()
        nothing: list[Any] = [None] * len(self)
        digests = [
            self.digests[kind].values() if kind in self.digests else nothing for kind in DigestKind
        ]
        media_types = (*self.media_types, None)  # -1 is the last
        vote_sets = (*self.vote_sets, ())
        series_names = (*self.series_names, None)
        made = [
            Record(
                number,
                md5=md5,
                sha1=sha1,
                sha256=sha256,
                pdq=pdq,
                pdq_quality=pdq_quality,
                size=bytes_,
                media_type=media_types[media_type],
                votes=vote_sets[votes],
                series=series_names[series],
                entire=self.entire,
            )
            for number, md5, sha1, sha256, pdq, pdq_quality, bytes_, media_type, votes, series in (
                zip(
                    self.numbers.tolist(),
                    *digests,
                    _stated(self.quality),
                    _stated(self.size),
                    self.media_type.tolist(),
                    self.votes.tolist(),
                    self.series.tolist(),
                    strict=True,
                )
            )
        ]
        for index in np.flatnonzero(self.flags).tolist():
            flags = int(self.flags[index])
            for shift, name in enumerate(FLAGS):
                setattr(made[index], name, _FLAG_VALUES[flags >> 2 * shift & 3])
        return made


# --- from records -----------------------------------------------------------------------------


def columnar(record: Record) -> bool:
    """Whether columns say all of a record that the node is told."""
    return (
        record.photodna is None
        and not record.references
        and record.submissions is None
        and not record.deleted
        and (record.size is None or 0 <= record.size <= _INT64_MAX)
        and (record.pdq_quality is None or 0 <= record.pdq_quality <= _QUALITY_MOST)
    )


def of_records(records: Sequence[Record]) -> Columns:
    """Return records as columns.

    All are `columnar`, numbers ascend and ``entire`` is one and the same. Raises InvalidDigest for
    a digest of another width.
    """
    digests = {}
    for kind in DigestKind:
        values = [getattr(record, kind.label) for record in records]
        if any(values):
            digests[kind] = digest_column(kind, values)
    media_type, media_types = indexed(record.media_type for record in records)
    votes, vote_sets = indexed(record.votes for record in records)
    series, series_names = indexed(record.series for record in records)
    flags = np.zeros(len(records), dtype=np.uint8)
    for shift, name in enumerate(FLAGS):
        stated = [getattr(record, name) for record in records]
        if any(each is not None for each in stated):
            codes = [0 if each is None else 2 if each else 1 for each in stated]
            flags |= np.array(codes, dtype=np.uint8) << 2 * shift
    return Columns(
        np.array([record.number for record in records], dtype=np.int64),
        digests,
        _or_minus_one((record.pdq_quality for record in records), np.int16),
        _or_minus_one((record.size for record in records), np.int64),
        media_type,
        votes,
        series,
        flags,
        media_types,
        vote_sets,
        series_names,
        entire=bool(records) and records[0].entire,
    )


def digest_column(kind: DigestKind, values: Sequence[bytes | None]) -> DigestColumn:
    """Return digests as a column. Raises InvalidDigest for one of another width."""
    blank = bytes(kind.width)
    packed = [blank if value is None else value for value in values]
    if set(map(len, packed)) - {kind.width}:
        raise InvalidDigest(f"a {kind.label} digest has {kind.width} bytes")
    rows = np.frombuffer(b"".join(packed), dtype=np.uint8).reshape(-1, kind.width)
    return DigestColumn(np.array([value is not None for value in values], dtype=bool), rows)


def indexed(values: Iterable[T | None]) -> tuple[npt.NDArray[np.int32], tuple[T, ...]]:
    """Return for each value its place in a table of those that occur; -1 for what is empty."""
    table: dict[T, int] = {}
    places = [table.setdefault(value, len(table)) if value else -1 for value in values]
    return np.array(places, dtype=np.int32), tuple(table)


def merge(parts: Sequence[Columns]) -> Columns:
    """Return the records of several columns together, by number; ``entire`` is that of each."""
    if len(parts) == 1:
        return parts[0]
    numbers = np.concatenate([part.numbers for part in parts])
    order = np.argsort(numbers, kind="stable")
    digests = {}
    for kind in DigestKind:
        found = [part.digests.get(kind) for part in parts]
        if any(found):
            columns = [
                column or DigestColumn(np.zeros(len(part), dtype=bool), _blank(kind, len(part)))
                for part, column in zip(parts, found, strict=True)
            ]
            digests[kind] = DigestColumn(
                np.concatenate([column.present for column in columns])[order],
                np.concatenate([column.rows for column in columns])[order],
            )
    media_type, media_types = _joined([(part.media_type, part.media_types) for part in parts])
    votes, vote_sets = _joined([(part.votes, part.vote_sets) for part in parts])
    series, series_names = _joined([(part.series, part.series_names) for part in parts])
    return Columns(
        numbers[order],
        digests,
        np.concatenate([part.quality for part in parts])[order],
        np.concatenate([part.size for part in parts])[order],
        media_type[order],
        votes[order],
        series[order],
        np.concatenate([part.flags for part in parts])[order],
        media_types,
        vote_sets,
        series_names,
        parts[0].entire,
    )


# --- parts ------------------------------------------------------------------------------------


def _blank(kind: DigestKind, count: int) -> npt.NDArray[np.uint8]:
    return np.zeros((count, kind.width), dtype=np.uint8)


def _stated(values: npt.NDArray[Any]) -> list[int | None]:
    return [None if value < 0 else value for value in values.tolist()]


def _or_minus_one(values: Iterable[int | None], kind: type[Any]) -> npt.NDArray[Any]:
    return np.array([-1 if value is None else value for value in values], dtype=kind)


def _used(
    places: npt.NDArray[np.int32], table: tuple[T, ...]
) -> tuple[npt.NDArray[np.int32], tuple[T, ...]]:
    """Return places and table without the entries at which no place points."""
    if not table:
        return places, table
    used = np.bincount(places + 1, minlength=len(table) + 1)[1:] > 0
    if used.all():
        return places, table
    moved = np.append(np.cumsum(used, dtype=np.int32) - 1, np.int32(-1))
    return moved[places], tuple(table[place] for place in np.flatnonzero(used).tolist())


def _joined(
    parts: Sequence[tuple[npt.NDArray[np.int32], tuple[T, ...]]],
) -> tuple[npt.NDArray[np.int32], tuple[T, ...]]:
    table: dict[T, int] = {}
    places = []
    for indexes, entries in parts:
        moved = [table.setdefault(entry, len(table)) for entry in entries]
        places.append(np.array([*moved, -1], dtype=np.int32)[indexes])
    return np.concatenate(places), tuple(table)
