"""Lists of known-good digests: staged like holdings, looked up before anything is held or asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Row, or_, select
from tieline_client.columns import Columns
from tieline_client.digests import EXACT_KINDS, DigestKind
from tieline_client.errors import InvalidDigest

from tieline_server.domain.ports import Ids, Rows, StageCounts
from tieline_server.storage.packed import Bytes, Same
from tieline_server.storage.schema import exclusions, imports
from tieline_server.storage.session import Session


def stage_columns(session: Session, head: Row[Any], columns: Columns) -> StageCounts:
    """Stage known-good records; one is new when any of its exact digests is.

    Raises InvalidDigest for a record without an exact digest.
    """
    exact = {kind: columns.digests[kind] for kind in EXACT_KINDS if kind in columns.digests}
    identified = np.zeros(len(columns), dtype=np.bool_)
    new = np.zeros(len(columns), dtype=np.bool_)
    for column in exact.values():
        identified |= column.present
    if not identified.all():
        raise InvalidDigest("a record of an exclusion list has no MD5, SHA-1 or SHA-256")
    counted = or_(imports.c.generation.is_not(None), imports.c.no == head.no)
    for kind, column in exact.items():
        records = np.flatnonzero(column.present)
        rows, first = distinct(column.rows[records])
        fresh = np.ones(len(rows), dtype=np.bool_)
        fresh[_listed(session, kind, rows, counted)] = False
        new[records[first[fresh]]] = True
        _insert(session, head.no, kind, rows[fresh])
    added = int(np.count_nonzero(new))
    return StageCounts(new=added, known=len(columns) - added, conflicts=0)


def distinct(rows: Rows) -> tuple[Rows, Ids]:
    """Return distinct rows in ascending order, and where each occurs first."""
    packed = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel()
    _, first = np.unique(packed, return_index=True)
    return rows[first], first.astype(np.int64)


def _listed(
    session: Session, kind: DigestKind, rows: Rows, counted: ColumnElement[bool]
) -> Sequence[int]:
    """Return the places of the distinct rows that lists of these imports name."""
    packed, width = rows.tobytes(), kind.width
    values = [packed[start : start + width] for start in range(0, len(packed), width)]
    found = session.bulk.match(
        session.connection,
        exclusions.c.digest,
        exclusions.c.import_no,
        values,
        exclusions.c.kind == int(kind),
        (exclusions.c.import_no + 0).in_(select(imports.c.no).where(counted)),  # by digest
    )
    if not found:
        return []
    places = {value: place for place, value in enumerate(values)}
    return [places[value] for value, _ in found]


def _insert(session: Session, import_no: int, kind: DigestKind, rows: Rows) -> None:
    session.bulk.insert_columns(
        session.connection,
        exclusions,
        {
            "kind": Same(int(kind)),
            "digest": Bytes(rows, np.ones(len(rows), dtype=np.bool_)),
            "import_no": Same(import_no),
        },
        len(rows),
    )
