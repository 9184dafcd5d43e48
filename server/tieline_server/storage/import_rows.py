"""Imports as people see them in a list: what is kept of each, and its erasure."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Row, func, select

from tieline_server.domain.ports import ImportRow, Purge
from tieline_server.domain.retraction import PurgeCause, PurgeState
from tieline_server.storage.schema import holdings, import_tallies, imports, purges, series_keys
from tieline_server.storage.session import Session

_ERASURE = tuple(column.label(f"purge_{column.name}") for column in purges.c)
_STORED = func.coalesce(import_tallies.c.holdings + import_tallies.c.exclusions, 0)


def find(
    session: Session,
    *where: ColumnElement[bool],
    limit: int | None = None,
    oldest_first: bool = False,
) -> list[ImportRow]:
    """Return imports of which all this holds, newest first unless asked otherwise."""
    found = (
        select(imports, _STORED.label("stored"), *_ERASURE)
        .outerjoin(import_tallies, import_tallies.c.import_no == imports.c.no)
        .outerjoin(purges, purges.c.id == imports.c.id)
        .where(*where)
        .order_by(imports.c.no if oldest_first else imports.c.no.desc())
        .limit(limit)
    )
    return [_row(one) for one in session.connection.execute(found)]


def after(session: Session, row: ImportRow, limit: int) -> list[ImportRow]:
    """Return the complete imports after one that may have left out what it stored, oldest first:
    after a list all, otherwise those of its case."""
    after_it = [
        imports.c.agency == row.agency,
        imports.c.generation > row.generation,
        imports.c.answerable,
    ]
    if not row.exclusions:
        after_it += [imports.c.case_ref == row.case_ref, ~imports.c.exclusions]
    return find(session, *after_it, limit=limit, oldest_first=True)


def series_of(session: Session, number: int) -> list[str]:
    """Return the series that an import holds items in, by id."""
    mine = select(holdings.c.series_no).where(
        holdings.c.import_no == number, holdings.c.series_no > 0
    )
    found = select(series_keys.c.id).where(series_keys.c.no.in_(mine.distinct()))
    return list(session.connection.scalars(found.order_by(series_keys.c.id)))


def _row(row: Row[Any]) -> ImportRow:
    return ImportRow(
        no=row.no,
        id=row.id,
        source=row.source,
        format=row.format,
        person=row.person,
        agency=row.agency,
        case_ref=row.case_ref,
        retain_until=row.retain_until,
        created=row.created,
        fingerprint=row.fingerprint,
        exclusions=row.exclusions,
        generation=row.generation or 0,
        stored=row.stored,
        purge=None if row.purge_id is None else _purge(row),
    )


def _purge(row: Row[Any]) -> Purge:
    values = {column.name: getattr(row, f"purge_{column.name}") for column in purges.c}
    values |= {"cause": PurgeCause(row.purge_cause), "state": PurgeState(row.purge_state)}
    return Purge(**values)
