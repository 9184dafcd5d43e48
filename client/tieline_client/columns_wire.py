"""Columns on the operator port: `pb.RecordColumns` and back, validated.

What a message may hold of text, bytes and elements was checked against its caps before
(constraints.py); here its parts must fit together:

1. 1 to RECORDS_PER_COLUMNS records; numbers ascend.
2. Kinds of digests ascend; a bitmap has a bit for each record and none beyond; a column holds as
   many digests as its bitmap has bits.
3. Every other column is empty, or has a value for each record.
4. Indexes point into their tables; a vote set has as many schemes as codes.
5. Qualities are 0 to 100, sizes below 2**63, flags no fourth value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tieline.v1 import operator_pb2 as pb

from tieline_client.columns import Columns, DigestColumn
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidDigest, MalformedMessage
from tieline_client.formats.record import Vote
from tieline_client.limits import RECORDS_PER_COLUMNS

_INT64_MAX = 2**63 - 1
_NO_QUALITY = 255
_QUALITY_MOST = 100
_FOURTH_VALUES = 0b10101010
"""The upper bit of each flag; beside the lower one it is no value."""


def to_wire(columns: Columns) -> pb.RecordColumns:
    """Return at most RECORDS_PER_COLUMNS records as a message."""
    numbers = columns.numbers
    message = pb.RecordColumns(
        count=len(columns),
        first_number=int(numbers[0]),
        media_types=columns.media_types,
        media_type=_places_out(columns.media_type),
        votes=_places_out(columns.votes),
        series_names=columns.series_names,
        series=_places_out(columns.series),
        entire=columns.entire,
    )
    if int(numbers[-1]) - int(numbers[0]) != len(numbers) - 1:
        message.numbers.extend(numbers.tolist())
    for kind, column in sorted(columns.digests.items()):
        whole = bool(column.present.all())
        message.digests.add(
            kind=int(kind),
            present=b"" if whole else np.packbits(column.present, bitorder="little").tobytes(),
            digests=(column.rows if whole else column.rows[column.present]).tobytes(),
        )
    for votes in columns.vote_sets:
        message.vote_sets.add(
            schemes=[vote.scheme for vote in votes], codes=[vote.code for vote in votes]
        )
    if (columns.quality >= 0).any():
        quality = np.where(columns.quality < 0, _NO_QUALITY, columns.quality)
        message.pdq_quality = quality.astype(np.uint8).tobytes()
    if (columns.size >= 0).any():
        message.sizes.extend((columns.size.astype(np.uint64) + np.uint64(1)).tolist())
    if columns.flags.any():
        message.flags = columns.flags.tobytes()
    return message


def from_wire(message: pb.RecordColumns) -> Columns:
    """Return the records of a message that kept its caps.

    Raises InvalidDigest for digests that are not whole, MalformedMessage for the rest.
    """
    count = message.count
    if not 1 <= count <= RECORDS_PER_COLUMNS:
        raise MalformedMessage(f"{count} records in one message; 1 to {RECORDS_PER_COLUMNS}")
    vote_sets = tuple(map(_votes_in, message.vote_sets))
    return Columns(
        _numbers_in(message),
        _digests_in(message),
        _quality_in(message.pdq_quality, count),
        _sizes_in(message.sizes, count),
        _places_in(message.media_type, len(message.media_types), count, "media_type"),
        _places_in(message.votes, len(vote_sets), count, "votes"),
        _places_in(message.series, len(message.series_names), count, "series"),
        _flags_in(message.flags, count),
        tuple(message.media_types),
        vote_sets,
        tuple(message.series_names),
        message.entire,
    )


def _places_out(places: npt.NDArray[np.int32]) -> list[int]:
    return (places + 1).tolist() if (places >= 0).any() else []


def _numbers_in(message: pb.RecordColumns) -> npt.NDArray[np.int64]:
    """Check 1."""
    count, first = message.count, message.first_number
    if not message.numbers:
        if first > _INT64_MAX - count:
            raise MalformedMessage(f"records from {first} on: no file has so many")
        return np.arange(first, first + count, dtype=np.int64)
    numbers = _whole(message.numbers, count, "numbers")
    if numbers[-1] > _INT64_MAX or not (numbers[:-1] < numbers[1:]).all():
        raise MalformedMessage("the numbers of the records do not ascend")
    return numbers.astype(np.int64)


def _digests_in(message: pb.RecordColumns) -> dict[DigestKind, DigestColumn]:
    """Check 2."""
    found: dict[DigestKind, DigestColumn] = {}
    for packed in message.digests:
        try:
            kind = DigestKind(packed.kind)
        except ValueError:
            raise InvalidDigest(f"{packed.kind} is no kind of digest") from None
        if found and kind <= max(found):
            raise MalformedMessage("the kinds of digests do not ascend")
        found[kind] = _column_in(kind, packed.present, packed.digests, message.count)
    return found


def _column_in(kind: DigestKind, bitmap: bytes, packed: bytes, count: int) -> DigestColumn:
    present = np.ones(count, dtype=bool)
    if bitmap:
        if len(bitmap) != -(-count // 8) or (count % 8 and bitmap[-1] >> count % 8):
            raise MalformedMessage(f"the bitmap of the {kind.label} digests is not of {count} bits")
        bits = np.frombuffer(bitmap, dtype=np.uint8)
        present = np.unpackbits(bits, count=count, bitorder="little").astype(bool)
    stated = int(np.count_nonzero(present))
    if len(packed) != stated * kind.width:
        raise InvalidDigest(f"{len(packed)} bytes are not {stated} {kind.label} digests")
    digests = np.frombuffer(packed, dtype=np.uint8).reshape(-1, kind.width)
    if stated == count:
        return DigestColumn(present, digests)
    rows = np.zeros((count, kind.width), dtype=np.uint8)
    rows[present] = digests
    return DigestColumn(present, rows)


def _whole(values: Sequence[int], count: int, name: str) -> npt.NDArray[np.uint64]:
    """Check 3."""
    if len(values) != count:
        raise MalformedMessage(f"{len(values)} values of {name} for {count} records")
    return np.fromiter(values, dtype=np.uint64, count=count)


def _places_in(places: Sequence[int], entries: int, count: int, name: str) -> npt.NDArray[np.int32]:
    """Checks 3 and 4."""
    if not places:
        return np.full(count, -1, dtype=np.int32)
    found = _whole(places, count, name)
    if found.max() > entries:
        raise MalformedMessage(f"a value of {name} points at nothing")
    return found.astype(np.int32) - np.int32(1)


def _votes_in(votes: pb.VoteSet) -> tuple[Vote, ...]:
    """Check 4."""
    if len(votes.schemes) != len(votes.codes) or not votes.codes:
        raise MalformedMessage("each category has a scheme and a code")
    return tuple(map(Vote, votes.schemes, votes.codes))


def _bytes_in(packed: bytes, count: int, name: str) -> npt.NDArray[np.uint8]:
    """Check 3 of a column of bytes."""
    if len(packed) != count:
        raise MalformedMessage(f"{len(packed)} values of {name} for {count} records")
    return np.frombuffer(packed, dtype=np.uint8)


def _quality_in(packed: bytes, count: int) -> npt.NDArray[np.int16]:
    """Check 5."""
    if not packed:
        return np.full(count, -1, dtype=np.int16)
    quality: npt.NDArray[Any] = _bytes_in(packed, count, "pdq_quality").astype(np.int16)
    quality[quality == _NO_QUALITY] = -1
    if quality.max() > _QUALITY_MOST:
        raise MalformedMessage(f"a PDQ quality is not 0 to {_QUALITY_MOST}")
    return quality


def _sizes_in(sizes: Sequence[int], count: int) -> npt.NDArray[np.int64]:
    """Check 5."""
    if not sizes:
        return np.full(count, -1, dtype=np.int64)
    found = _whole(sizes, count, "sizes")
    if found.max() > _INT64_MAX + 1:
        raise MalformedMessage("a size is not below 2**63 bytes")
    return (found - np.uint64(1)).astype(np.int64)


def _flags_in(packed: bytes, count: int) -> npt.NDArray[np.uint8]:
    """Check 5."""
    if not packed:
        return np.zeros(count, dtype=np.uint8)
    flags = _bytes_in(packed, count, "flags")
    if ((flags & flags << 1) & _FOURTH_VALUES).any():
        raise MalformedMessage("a flag is neither not stated, nor false, nor true")
    return flags
