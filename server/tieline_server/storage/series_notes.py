"""What agencies wrote to each other about series."""

from __future__ import annotations

import json
from dataclasses import asdict

from sqlalchemy import delete, select
from tieline_client import limits

from tieline_server.domain.series_note import SeriesNote
from tieline_server.storage.schema import series_notes as table
from tieline_server.storage.session import Session


class SeriesNotes:
    """`NoteRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, note: SeriesNote) -> bool:
        """Add a note; False when its author's note of this id is known."""
        return self._session.insert_new(table, asdict(note) | {"told": json.dumps(note.told)})

    def of(self, series: str) -> list[SeriesNote]:
        """Return the notes on a series, oldest first."""
        found = (
            select(table)
            .where(table.c.series == series)
            .order_by(table.c.at, table.c.id)
            .limit(limits.NOTES_PER_SERIES)
        )
        rows = self._session.connection.execute(found).mappings().all()
        return [SeriesNote(**{**row, "told": tuple(json.loads(row["told"]))}) for row in rows]


def erase(session: Session, series: str) -> None:
    """Erase all notes on a series."""
    session.connection.execute(delete(table).where(table.c.series == series))
