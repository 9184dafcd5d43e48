"""How many items, digests, holdings and known-good digests each import made, kept beside it:
counting tens of millions of rows would take as many seconds as somebody waits for an answer.

Whatever adds, removes or changes rows of ``items`` or ``holdings`` says so here, in the same
transaction; rows that change are taken off before and put on afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import ColumnElement, func, select
from tieline_client.digests import DigestKind

from tieline_server.storage.resolve import COLUMNS
from tieline_server.storage.schema import holdings, import_tallies, items
from tieline_server.storage.session import Session

NAMES = ("items", *(COLUMNS[kind] for kind in DigestKind), "holdings", "exclusions")


def add(session: Session, import_no: int, counts: Mapping[str, int]) -> None:
    """Add to what an import made; counts may be negative."""
    row = {name: counts.get(name, 0) for name in NAMES}
    if not any(row.values()):
        return
    statement = session.upsert(import_tallies).values(import_no=import_no, **row)
    changed = {name: import_tallies.c[name] + row[name] for name in NAMES}
    session.connection.execute(
        statement.on_conflict_do_update(index_elements=["import_no"], set_=changed)
    )


def add_items(session: Session, ids: Iterable[int], sign: int) -> None:
    """Put on (1) or take off (-1) what these items are now."""
    columns = (func.count(items.c[COLUMNS[kind]]) for kind in DigestKind)
    found = (
        select(items.c.import_no, func.count(), *columns)
        .where(items.c.id.in_(select(session.bulk.ids(ids).c.value)))
        .group_by(items.c.import_no)
    )
    for import_no, *counts in session.connection.execute(found).all():
        signed = (sign * count for count in counts)
        add(session, import_no, dict(zip(NAMES, signed, strict=False)))


def add_holdings(session: Session, sign: int, *where: ColumnElement[bool]) -> None:
    """Put on (1) or take off (-1) these holdings."""
    found = select(holdings.c.import_no, func.count()).where(*where)
    for import_no, count in session.connection.execute(found.group_by(holdings.c.import_no)).all():
        add(session, import_no, {"holdings": sign * count})
