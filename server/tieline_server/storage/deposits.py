"""What a repository holds of series, counted: items, baseline, and how often each was brought."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select

from tieline_server.domain.ports.deposits import Held
from tieline_server.storage.schema import holdings, imports, series_keys
from tieline_server.storage.session import Session


class Deposits:
    """`DepositRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def held(self, series: Sequence[str]) -> Held:
        """Return the distinct items of these series, and how many are stated to be baseline."""
        of_it = self._of(series)
        baseline = (*of_it, holdings.c.baseline.is_(True))
        return Held(self._items(*of_it), self._items(*baseline))

    def submissions(self, items: Sequence[int]) -> dict[int, int]:
        """Return of items how many complete imports brought each, deposits among them."""
        wanted = select(self._session.bulk.ids(items).c.value)
        found = (
            select(holdings.c.item, func.count(holdings.c.import_no.distinct()))
            .join(imports, imports.c.no == holdings.c.import_no)
            .where(holdings.c.item.in_(wanted), imports.c.generation.is_not(None))
            .group_by(holdings.c.item)
        )
        return {row[0]: row[1] for row in self._run(found)}

    def _items(self, *where: ColumnElement[bool]) -> int:
        found = (
            select(func.count(holdings.c.item.distinct()))
            .join(series_keys, series_keys.c.no == holdings.c.series_no)
            .join(imports, imports.c.no == holdings.c.import_no)
            .where(*where, imports.c.generation.is_not(None))
        )
        return self._session.connection.scalar(found) or 0

    @staticmethod
    def _of(series: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
        return (series_keys.c.id.in_(list(series)), holdings.c.series_no > 0)
