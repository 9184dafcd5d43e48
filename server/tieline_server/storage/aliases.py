"""Which series are part of which (domain/merging.py)."""

from __future__ import annotations

from dataclasses import asdict, fields

from sqlalchemy import bindparam, select

from tieline_server.domain.merging import Alias, follow
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import series_aliases as table
from tieline_server.storage.session import Session

_NAMES = tuple(field.name for field in fields(Alias))
_CHAIN_MOST = 32
_FAMILY_MOST = 10_000
_IS_PART = Prepared(lambda _: select(table.c.merged).where(table.c.merged == bindparam("merged")))
_PARTS_OF = select(table.c.merged).where(table.c.series == bindparam("of")).order_by(table.c.merged)
_PARTS = Prepared(lambda _: _PARTS_OF)
_OWN_PARTS = Prepared(lambda _: _PARTS_OF.where(table.c.envelope == b""))


class Aliases:
    """`AliasRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, alias: Alias) -> bool:
        """Add an alias; the first word of a merged series stands. False when there was one."""
        return self._session.insert_new(table, asdict(alias))

    def get(self, merged: str) -> Alias | None:
        """Return what a series is part of."""
        if _IS_PART.run(self._session, {"merged": merged}).fetchone() is None:
            return None  # nearly always
        found = select(*(table.c[name] for name in _NAMES)).where(table.c.merged == merged)
        row = self._session.connection.execute(found).mappings().one_or_none()
        return None if row is None else Alias(**row)

    def current(self, series: str) -> str:
        """Return the series that an id stands for, itself where it is part of nothing."""
        chain: dict[str, str] = {}
        at = series
        while at not in chain and len(chain) < _CHAIN_MOST:
            alias = self.get(at)
            if alias is None:
                break
            chain[at] = at = alias.series
        return follow(chain, series)

    def family(self, series: str) -> list[str]:
        """Return a series and all that are part of it, however indirectly."""
        return self._family(series, _PARTS)

    def own_parts(self, series: str) -> list[str]:
        """As `family`, by this node's own word: what peers say joins no items here."""
        return self._family(series, _OWN_PARTS)

    def _family(self, series: str, parts: Prepared) -> list[str]:
        found = {series: None}
        waiting = [series]
        while waiting and len(found) < _FAMILY_MOST:
            rows = parts.run(self._session, {"of": waiting.pop(0)}).fetchall()
            fresh = [row[0] for row in rows if row[0] not in found]
            found |= dict.fromkeys(fresh)
            waiting += fresh
        return list(found)
