"""Staging a batch of records: load what they touch, resolve, write.

1. Check the records' widths and sizes.
2. Find the items that share a digest with any of them: by the index, and among staged fills
   (staging_known.py).
3. Load those items whole, with what is staged by other imports marked as not solid.
4. Resolve record by record (resolve.py).
5. Write new items, fills, links, holdings and votes, leaving out what complete imports of the
   same case have (staging_rows.py).

Nothing of it counts until the import is complete: every row carries the import's number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sqlalchemy import Row
from tieline_client.errors import InvalidDigest, InvalidInput, LimitExceeded
from tieline_client.formats.record import Record
from tieline_client.limits import RECORDS_PER_STAGE_TRANSACTION

from tieline_server.domain.ports import StageCounts
from tieline_server.storage.resolve import (
    COLUMNS,
    MD5,
    MEDIA_TYPE,
    PDQ,
    PHOTODNA,
    SHA1,
    SHA256,
    Item,
    Resolver,
    Values,
)
from tieline_server.storage.session import Session
from tieline_server.storage.staging_known import load_sharing
from tieline_server.storage.staging_rows import key_numbers, write
from tieline_server.storage.types import storable

PHOTODNA_BYTES = 144


def stage(
    session: Session,
    head: Row[Any],
    records: Sequence[Record],
    series: Sequence[str | None],
    voter: str,
    number: Callable[[Sequence[int]], Sequence[int]] | None = None,
) -> StageCounts:
    """Stage records under the import whose row is ``head``; see `ImportRepository.stage`.

    ``number`` gives out the ids of new items: it is told, ascending, the indexes of the records
    that made them.
    """
    if len(records) > RECORDS_PER_STAGE_TRANSACTION:
        raise LimitExceeded(
            f"{len(records)} records in one batch; at most {RECORDS_PER_STAGE_TRANSACTION}"
        )
    if len(series) != len(records):
        raise InvalidInput(f"{len(records)} records came with {len(series)} series")
    stated = [values_of(record) for record in records]
    first = session.counter("item") + 1
    resolver = Resolver(load_sharing(session, head.no, stated), first)
    numbers = key_numbers(session, {one for one in series if one is not None})
    conflicts = 0
    resolved: list[Item] = []
    makers: list[int] = []
    for index, values in enumerate(stated):
        item, made, conflict = resolver.resolve(values)
        conflicts += conflict
        resolved.append(item)
        if made:
            makers.append(index)
    _number(session, resolver, makers, number)
    placed = [0 if one is None else numbers[one] for one in series]
    held = [
        (item.final(), record, number)
        for item, record, number in zip(resolved, records, placed, strict=True)
    ]
    new = write(session, head, resolver, held, voter)
    return StageCounts(new=new, known=len(records) - new, conflicts=conflicts)


def _number(
    session: Session,
    resolver: Resolver,
    makers: Sequence[int],
    number: Callable[[Sequence[int]], Sequence[int]] | None,
) -> None:
    """Give new items their ids; those of `Resolver` only say which came first."""
    kept = [
        (item, index)
        for item, index in zip(resolver.created, makers, strict=True)
        if item.into is None
    ]
    if not kept:
        return
    if number is None:
        first = session.next("item", len(kept))
        ids: Sequence[int] = range(first, first + len(kept))
    else:
        ids = number([index for _, index in kept])
    for (item, _), one in zip(kept, ids, strict=True):
        item.id = one


def values_of(record: Record) -> Values:
    """Return a record's digests by kind, with its media type. Raises InvalidDigest."""
    values: Values = {}
    md5, sha1, sha256 = record.md5, record.sha1, record.sha256
    if md5 is not None:
        values[MD5] = md5 if len(md5) == 16 else _wrong(record, MD5, md5)
    if sha1 is not None:
        values[SHA1] = sha1 if len(sha1) == 20 else _wrong(record, SHA1, sha1)
    if sha256 is not None:
        values[SHA256] = sha256 if len(sha256) == 32 else _wrong(record, SHA256, sha256)
    if record.pdq is not None:
        values[PDQ] = record.pdq if len(record.pdq) == 32 else _wrong(record, PDQ, record.pdq)
    if record.photodna is not None:
        photodna = record.photodna
        wide = len(photodna) == PHOTODNA_BYTES
        values[PHOTODNA] = photodna if wide else _wrong(record, PHOTODNA, photodna)
    if not values:
        raise InvalidDigest(f"record {record.number} has no digest")
    if record.media_type:
        values[MEDIA_TYPE] = storable(record.media_type).encode()
    return values


def _wrong(record: Record, kind: int, value: bytes) -> NoReturn:
    raise InvalidDigest(
        f"record {record.number}: {COLUMNS[kind]} has {len(value)} bytes, which no such digest has"
    )
