"""Items of a series with everything that is known of them, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, select
from tieline_client.formats.record import Record, Vote

from tieline_server.domain.ports.exports import ExportRow, SeriesImport
from tieline_server.storage import resolve
from tieline_server.storage.aliases import Aliases
from tieline_server.storage.imports import row_handling
from tieline_server.storage.items import Items
from tieline_server.storage.resolve import COLUMNS
from tieline_server.storage.schema import (
    holdings,
    imports,
    items,
    series_keys,
    vote_kinds,
    votes,
)
from tieline_server.storage.session import Session

_FLAGS = (
    ("victim_identified", "victim_identified"),
    ("offender_identified", "offender_identified"),
    ("distributed", "distributed"),
    ("submissions", "submissions"),
    ("baseline", "baseline"),
)
"""Columns of holdings and the record's fields."""


class Exports:
    """`ExportRepository` over SQLAlchemy."""

    def __init__(self, session: Session, known: Items) -> None:
        self._session, self._items = session, known
        self._run = session.connection.execute

    def imports_of(self, series: str) -> list[SeriesImport]:
        """Return the complete imports that hold items of a series, by number."""
        held = (
            select(holdings.c.import_no)
            .join(series_keys, series_keys.c.no == holdings.c.series_no)
            .where(
                series_keys.c.id.in_(Aliases(self._session).own_parts(series)),
                holdings.c.series_no > 0,
            )
        )
        found = (
            select(imports)
            .where(imports.c.no.in_(held), imports.c.generation.is_not(None))
            .order_by(imports.c.no)
        )
        return [SeriesImport(row.no, row.agency, row_handling(row)) for row in self._run(found)]

    def count(self, series: str, imports: Sequence[int]) -> int:
        """Return how many items `page` would yield in all."""
        found = self._held(series, imports, after=0).subquery()
        return self._session.connection.scalar(select(func.count()).select_from(found)) or 0

    def page(
        self, series: str, imports: Sequence[int], *, after: int, limit: int
    ) -> list[ExportRow]:
        """Return items of a series that these imports hold, by id."""
        wanted = self._held(series, imports, after=after).order_by(holdings.c.item).limit(limit)
        ids = list(self._session.connection.scalars(wanted))
        if not ids:
            return []
        values = self._items.values_of(ids, tuple(COLUMNS))
        described = self._described(ids)
        flags = self._flags(series, imports, ids)
        given = self._votes(imports, ids)
        rows = []
        for item in ids:
            one = values.get(item, {})
            quality, size = described.get(item, (None, None))
            record = Record(
                0,
                md5=one.get(resolve.MD5),
                sha1=one.get(resolve.SHA1),
                sha256=one.get(resolve.SHA256),
                pdq=one.get(resolve.PDQ),
                pdq_quality=quality if resolve.PDQ in one else None,
                photodna=one.get(resolve.PHOTODNA),
                size=size,
                media_type=one.get(resolve.MEDIA_TYPE, b"").decode() or None,
                votes=tuple(given.get(item, ())),
                **flags.get(item, {}),
            )
            rows.append(ExportRow(item, record))
        return rows

    def _held(self, series: str, imports: Sequence[int], *, after: int) -> Select[Any]:
        return (
            select(holdings.c.item)
            .join(series_keys, series_keys.c.no == holdings.c.series_no)
            .where(
                series_keys.c.id.in_(Aliases(self._session).own_parts(series)),
                holdings.c.series_no > 0,
                holdings.c.item > after,
                self._among(holdings.c.import_no, imports),
            )
            .group_by(holdings.c.item)
        )

    def _described(self, ids: Sequence[int]) -> dict[int, tuple[int | None, int | None]]:
        """Return PDQ quality and size as the import that made an item stated them."""
        complete = select(imports.c.no).where(imports.c.generation.is_not(None))
        found = select(items.c.id, items.c.pdq_quality, items.c.size).where(
            self._among(items.c.id, ids), items.c.import_no.in_(complete)
        )
        return {row.id: (row.pdq_quality, row.size) for row in self._run(found)}

    def _flags(
        self, series: str, numbers: Sequence[int], ids: Sequence[int]
    ) -> dict[int, dict[str, Any]]:
        found = (
            select(holdings)
            .join(imports, imports.c.no == holdings.c.import_no)
            .join(series_keys, series_keys.c.no == holdings.c.series_no)
            .where(
                series_keys.c.id.in_(Aliases(self._session).own_parts(series)),
                self._among(holdings.c.item, ids),
                self._among(holdings.c.import_no, numbers),
            )
            .order_by(imports.c.generation)
        )
        flags: dict[int, dict[str, Any]] = {}
        for row in self._run(found):
            stated = flags.setdefault(row.item, {})
            for column, name in _FLAGS:
                value = getattr(row, column)
                if value is not None:
                    stated[name] = value
        return flags

    def _votes(self, numbers: Sequence[int], ids: Sequence[int]) -> dict[int, list[Vote]]:
        found = (
            select(votes.c.item, vote_kinds.c.scheme, vote_kinds.c.code)
            .join(vote_kinds, vote_kinds.c.no == votes.c.vote_no)
            .where(
                self._among(votes.c.item, ids),
                self._among(votes.c.import_no, numbers),
            )
            .distinct()
            .order_by(votes.c.item, vote_kinds.c.scheme, vote_kinds.c.code)
        )
        given: dict[int, list[Vote]] = {}
        for row in self._run(found):
            given.setdefault(row.item, []).append(Vote(row.scheme, row.code))
        return given

    def _among(self, column: Any, numbers: Sequence[int]) -> Any:
        return column.in_(select(self._session.bulk.ids(numbers).c.value))
