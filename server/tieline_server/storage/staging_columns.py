"""Staging a batch of columns: what stands alone goes in as columns, the rest record by record.

A record stands alone when it has an exact digest and shares none with any item, with what else is
being staged, or with another record of the batch: it is a new item whatever the order. All others
(known items, repeats, those known by PDQ only) are resolved by staging.py. In a large import nearly
all stand alone, so its cost is the rows' own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Row
from tieline_client.columns import FLAGS, Columns
from tieline_client.digests import EXACT_KINDS, DigestKind
from tieline_client.errors import LimitExceeded
from tieline_client.limits import RECORDS_PER_STAGE_TRANSACTION

from tieline_server.domain.ports import HoldingSet, Rows, StageCounts
from tieline_server.storage import staging, staging_known, staging_rows, tallies
from tieline_server.storage.index_changes import record_change
from tieline_server.storage.packed import Bytes, Flags, Numbers, Packed, Same, Texts
from tieline_server.storage.schema import holdings, items, votes
from tieline_server.storage.session import Session
from tieline_server.storage.types import storable

Mask = npt.NDArray[np.bool_]
Numbers64 = npt.NDArray[np.int64]


def stage_columns(
    session: Session,
    head: Row[Any],
    columns: Columns,
    series: Sequence[str | None],
    voter: str,
) -> StageCounts:
    """Stage columns under the import whose row is ``head``; ``series`` are the series ids that
    ``columns.series_names`` stand for. See `ImportRepository.stage_columns`."""
    if len(columns) > RECORDS_PER_STAGE_TRANSACTION:
        raise LimitExceeded(
            f"{len(columns)} records in one batch; at most {RECORDS_PER_STAGE_TRANSACTION}"
        )
    alone = _alone(session, columns)
    numbers = _Numbers(session, alone)
    counts = StageCounts(0, 0, 0)
    if not alone.all():
        rest = columns.take(~alone)
        ids = dict(zip(columns.series_names, series, strict=True))
        records = rest.records()
        named = [None if one.series is None else ids[one.series] for one in records]
        counts = staging.stage(session, head, records, named, voter, numbers.of_others)
    if alone.any():
        part = columns if alone.all() else columns.take(alone)
        _insert(session, head, part, numbers.of_alone(), columns, series, voter)
    return StageCounts(counts.new + int(alone.sum()), counts.known, counts.conflicts)


class _Numbers:
    """Gives the new items of a batch their ids in the order of its records: where several items
    might be meant, the one that was stated first is."""

    def __init__(self, session: Session, alone: Mask) -> None:
        self._session = session
        self._alone, self._others = np.flatnonzero(alone), np.flatnonzero(~alone)
        self._ids: Numbers64 | None = None

    def of_others(self, indexes: Sequence[int]) -> Sequence[int]:
        """Return the ids of items made by others than those that stand alone."""
        makers = self._others[np.asarray(indexes, dtype=np.int64)]
        places = np.concatenate([self._alone, makers])
        first = self._session.next("item", len(places))
        ids = np.empty(len(places), dtype=np.int64)
        ids[np.argsort(places)] = np.arange(first, first + len(places))
        self._ids = ids[: len(self._alone)]
        return list(ids[len(self._alone) :].tolist())

    def of_alone(self) -> Numbers64:
        """Return the ids of those that stand alone; the others have theirs by then."""
        if self._ids is None:
            first = self._session.next("item", len(self._alone))
            self._ids = np.arange(first, first + len(self._alone), dtype=np.int64)
        return self._ids


def _alone(session: Session, columns: Columns) -> Mask:
    shared = np.zeros(len(columns), dtype=np.bool_)
    exact = np.zeros(len(columns), dtype=np.bool_)
    fills = staging_known.staged_fills(session)
    for kind in EXACT_KINDS:
        column = columns.digests.get(kind)
        if column is None:
            continue
        exact |= column.present
        records = np.flatnonzero(column.present)
        rows = np.ascontiguousarray(column.rows[records])
        shared[records[session.feed.candidates(session, kind, rows)[0]]] = True
        shared[records[_repeated(rows)]] = True
        if fills:
            values = column.values()
            wanted = sorted({value for value in values if value is not None})
            found = {value for value, _ in staging_known.fills_of(session, kind, wanted)}
            shared |= np.fromiter((v in found for v in values), dtype=np.bool_, count=len(values))
    return exact & ~shared


def _repeated(rows: Rows) -> npt.NDArray[np.int64]:
    """Return the indexes of rows that may not be the only ones of their kind: those whose first
    eight bytes are not. Being wrong costs time only."""
    prefixes = np.ascontiguousarray(rows[:, :8]).view(np.uint64).ravel()
    order = np.argsort(prefixes)
    ordered = prefixes[order]
    same = np.zeros(len(rows), dtype=np.bool_)
    equal = ordered[1:] == ordered[:-1]
    same[1:] |= equal
    same[:-1] |= equal
    return order[same]


def _insert(
    session: Session,
    head: Row[Any],
    columns: Columns,
    ids: Numbers64,
    whole: Columns,
    series: Sequence[str | None],
    voter: str,
) -> None:
    """Insert records that are new items, with their holdings and votes."""
    count = len(columns)
    put, connection = session.bulk.insert_columns, session.connection
    put(connection, items, _items(columns, ids, head.no), count)
    named = dict(zip(whole.series_names, series, strict=True))
    keys = staging_rows.key_numbers(session, {one for one in series if one is not None})
    places = [keys[one] if one is not None else 0 for one in map(named.get, columns.series_names)]
    at = np.asarray([*places, 0], dtype=np.int64)[columns.series]  # -1 is the last
    put(connection, holdings, _holdings(columns, ids, at, head.no), count)
    _insert_votes(session, head.no, columns, ids, voter)
    digests = {kind.label: int(one.present.sum()) for kind, one in columns.digests.items()}
    tallies.add(session, head.no, {"items": count, **digests, "holdings": count})
    sets: dict[int, HoldingSet] = {place: ((head.no, place),) for place in {*places, 0}}
    record_change(
        session,
        new=(int(ids[0]), int(ids[-1])),
        fresh={
            kind: (ids[column.present], np.ascontiguousarray(column.rows[column.present]))
            for kind, column in columns.digests.items()
        },
        held=(ids, [sets[place] for place in at.tolist()]),
    )


def _items(columns: Columns, ids: Numbers64, import_no: int) -> dict[str, Packed]:
    digests = {
        kind.label: Bytes(columns.digests[kind].rows, columns.digests[kind].present)
        if kind in columns.digests
        else Same(None)
        for kind in DigestKind
    }
    media_types = tuple(map(storable, columns.media_types))
    return {
        "id": Numbers(ids),
        "import_no": Same(import_no),
        **digests,
        "pdq_quality": _numbers(columns.quality),
        "size": _numbers(columns.size),
        "media_type": Texts(columns.media_type, media_types) if media_types else Same(None),
        "perceptual": Same(value=False),
    }


def _numbers(stated: npt.NDArray[Any]) -> Packed:
    return Numbers(stated.astype(np.int64)) if (stated >= 0).any() else Same(None)


def _holdings(
    columns: Columns, ids: Numbers64, series: Numbers64, import_no: int
) -> dict[str, Packed]:
    flags: dict[str, Packed] = {}
    for shift, name in enumerate(FLAGS):
        stated = ((columns.flags >> 2 * shift) & 3).astype(np.int64) - 1  # -1 not stated, 0, 1
        flags[name] = Flags(stated) if (stated >= 0).any() else Same(None)
    return {
        "import_no": Same(import_no),
        "item": Numbers(ids),
        "series_no": Numbers(series),
        **flags,
    }


def _insert_votes(
    session: Session, import_no: int, columns: Columns, ids: Numbers64, voter: str
) -> None:
    numbers = [
        [staging_rows.vote_number(session, voter, vote) for vote in dict.fromkeys(stated)]
        for stated in columns.vote_sets
    ]
    owners: list[Numbers64] = []
    given: list[Numbers64] = []
    for place in range(max(map(len, numbers), default=0)):
        column = [one[place] if place < len(one) else -1 for one in numbers]
        votes_here = np.asarray([*column, -1], dtype=np.int64)[columns.votes]
        owners.append(ids[votes_here >= 0])
        given.append(votes_here[votes_here >= 0])
    if owners:
        rows: dict[str, Packed] = {
            "import_no": Same(import_no),
            "item": Numbers(np.concatenate(owners)),
            "vote_no": Numbers(np.concatenate(given)),
        }
        session.bulk.insert_columns(session.connection, votes, rows, sum(map(len, owners)))
