"""What was done with each series."""

from __future__ import annotations

from dataclasses import fields

from sqlalchemy import RowMapping, select
from tieline_client import limits

from tieline_server.domain.series_life import EventKind, SeriesEvent
from tieline_server.storage.schema import series_events as table
from tieline_server.storage.session import Session

_NAMES = tuple(field.name for field in fields(SeriesEvent))


class History:
    """`HistoryRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, event: SeriesEvent) -> None:
        """Add a line; one whose id is known is left as it is."""
        row = {name: getattr(event, name) for name in _NAMES} | {"kind": event.kind.value}
        self._session.insert_new(table, row)

    def latest(self, kind: EventKind, limit: int) -> list[SeriesEvent]:
        """Return the latest lines of a kind, of all series, newest first."""
        found = (
            select(*(table.c[name] for name in _NAMES))
            .where(table.c.kind == kind.value)
            .order_by(table.c.at.desc(), table.c.id.desc())
            .limit(limit)
        )
        return [_event(row) for row in self._session.connection.execute(found).mappings()]

    def of(self, series: str) -> list[SeriesEvent]:
        """Return the latest lines of a series' history, oldest first."""
        found = (
            select(*(table.c[name] for name in _NAMES))
            .where(table.c.series == series)
            .order_by(table.c.at.desc(), table.c.id.desc())
            .limit(limits.EVENTS_SHOWN)
        )
        rows = self._session.connection.execute(found).mappings().all()
        return [_event(row) for row in rows[::-1]]


def _event(row: RowMapping) -> SeriesEvent:
    return SeriesEvent(**(dict(row) | {"kind": EventKind(row["kind"])}))
