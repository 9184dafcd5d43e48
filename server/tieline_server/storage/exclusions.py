"""Lists of known-good digests: staged like holdings, looked up before anything is held or asked.

A row holds what is new of a record: digests that a list which counts, or an earlier record of the
same list, names already are left out, and a record that brings nothing has no row. They are found
by an index of their own (exclusion_feed.py); the table has no tree of digests (ADR 12).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Row, delete, func, or_, select
from tieline_client.columns import Columns
from tieline_client.digests import EXACT_KINDS, DigestKind
from tieline_client.errors import InvalidDigest

from tieline_server.domain.ports import Ids, Rows, StageCounts
from tieline_server.storage import tallies
from tieline_server.storage.exclusion_feed import Listed
from tieline_server.storage.index_changes import record_change
from tieline_server.storage.packed import Bytes, Numbers, Packed, Same
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.resolve import COLUMNS
from tieline_server.storage.schema import exclusions, imports
from tieline_server.storage.session import Session

Mask = npt.NDArray[np.bool_]
COUNTS = (imports.c.exclusions, imports.c.generation.is_not(None), imports.c.answerable)
"""What is true of a list that counts; one that is being taken back is not answerable any more."""
_COMPLETE = Prepared(lambda _: select(imports.c.no).where(*COUNTS))


def complete_lists(session: Session) -> set[int]:
    """Return the numbers of the lists that count."""
    return {row[0] for row in _COMPLETE.run(session, {}).fetchall()}


def find(session: Session, kind: DigestKind, rows: Rows) -> Ids:
    """Return the positions of the digests (n, width) that lists which count name."""
    return np.flatnonzero(session.lists.find(session, kind, rows, complete_lists(session)))


def which(session: Session, kind: DigestKind, rows: Rows) -> Ids:
    """Return the number of a list that counts and names each digest (n, width); 0: none."""
    return session.lists.which(session, kind, rows, complete_lists(session))


def stage(session: Session, head: Row[Any], columns: Columns) -> StageCounts:
    """Stage known-good records; one is new when any of its exact digests is.

    Raises InvalidDigest for a record without an exact digest.
    """
    exact = {kind: columns.digests[kind] for kind in EXACT_KINDS if kind in columns.digests}
    identified = np.zeros(len(columns), dtype=np.bool_)
    for column in exact.values():
        identified |= column.present
    if not identified.all():
        raise InvalidDigest("a record of an exclusion list has no MD5, SHA-1 or SHA-256")
    lists = complete_lists(session) | {head.no}
    fresh: dict[DigestKind, Mask] = {}
    for kind, column in exact.items():
        places = np.flatnonzero(column.present)
        places = places[_first_of_each(column.rows[places])]
        known = session.lists.find(session, kind, column.rows[places], lists)
        fresh[kind] = np.zeros(len(columns), dtype=np.bool_)
        fresh[kind][places[~known]] = True
    new = np.zeros(len(columns), dtype=np.bool_)
    for mask in fresh.values():
        new |= mask
    added = int(np.count_nonzero(new))
    if added:
        digests = {kind: (exact[kind].rows[new], mask[new]) for kind, mask in fresh.items()}
        _insert(session, head.no, digests, added)
    return StageCounts(new=added, known=len(columns) - added, conflicts=0)


def erase(session: Session, import_no: int, limit: int) -> bool:
    """Erase up to ``limit`` records of a list; True when more are left, else its end is noted."""
    c = exclusions.c
    digests = [c[COLUMNS[kind]] for kind in EXACT_KINDS]
    # The row that says that a list is gone stays: who replays the rows has to learn of it.
    mine = [c.import_no == import_no, or_(*(column.is_not(None) for column in digests))]
    numbers = select(c.no).where(*mine).order_by(c.no).limit(limit)
    found = list(session.connection.scalars(numbers))
    if found:
        mine.append(c.no <= found[-1])
        counts = select(*(func.count(column) for column in digests)).where(*mine)
        gone = sum(session.connection.execute(counts).one())
        tallies.add(session, import_no, {"exclusions": -gone})
        session.connection.execute(delete(exclusions).where(*mine))
    if len(found) == limit:
        return True
    forget(session, import_no)
    record_change(session)  # processes with an index of their own rewrite theirs too
    return False


def forget(session: Session, import_no: int) -> None:
    """Say that a list is gone; its rows are erased by then."""
    number = session.next("exclusion")
    session.insert_new(exclusions, {"no": number, "import_no": import_no})
    session.listed.append(Listed(number, number, import_no, {}))


def _insert(
    session: Session, import_no: int, digests: dict[DigestKind, tuple[Rows, Mask]], count: int
) -> None:
    first = session.next("exclusion", count)
    last = first + count - 1
    columns: dict[str, Packed] = {
        "no": Numbers(np.arange(first, last + 1, dtype=np.int64)),
        "import_no": Same(import_no),
        **{kind.label: Bytes(rows, present) for kind, (rows, present) in digests.items()},
    }
    session.bulk.insert_columns(session.connection, exclusions, columns, count)
    kept = {kind: np.ascontiguousarray(rows[mask]) for kind, (rows, mask) in digests.items()}
    kept = {kind: rows for kind, rows in kept.items() if len(rows)}
    tallies.add(session, import_no, {"exclusions": sum(map(len, kept.values()))})
    session.listed.append(Listed(first, last, import_no, kept))


def _first_of_each(rows: Rows) -> Ids:
    """Return where each distinct row occurs first, ascending."""
    prefixes = np.ascontiguousarray(rows[:, :8]).view(np.uint64).ravel()
    ordered = np.sort(prefixes)
    if not (ordered[1:] == ordered[:-1]).any():
        return np.arange(len(rows))
    packed = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel()
    return np.sort(np.unique(packed, return_index=True)[1])
