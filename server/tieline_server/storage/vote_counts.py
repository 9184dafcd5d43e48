"""How a series' items were judged, counted by the database: series have up to millions of items.
A vote is kept for every import that states it, and counts once.

The rule is that of domain/category_votes.py:distribution; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import and_, case, delete, distinct, exists, func, select
from tieline_client import limits

from tieline_server.domain.category_votes import VoteCount
from tieline_server.storage.items import Items
from tieline_server.storage.schema import holdings, imports, vote_kinds, votes
from tieline_server.storage.session import Session


class VoteCounts:
    """`VoteRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def of(self, series: str) -> tuple[VoteCount, ...]:
        """Return the counts of a series' items, by scheme and code."""
        mine = Items(self._session).ids_of_series(series)
        given = (
            select(votes.c.item, vote_kinds.c.agency, vote_kinds.c.scheme, vote_kinds.c.code)
            .join(vote_kinds, vote_kinds.c.no == votes.c.vote_no)
            .join(imports, imports.c.no == votes.c.import_no)
            .where(votes.c.item.in_(mine), imports.c.generation.is_not(None))
            .distinct()
            .cte("given")
        )
        g = given.c
        codes = (
            select(g.item, g.scheme, func.count(distinct(g.code)).label("codes"))
            .group_by(g.item, g.scheme)
            .cte("codes")
        )
        each = (
            select(g.item, g.scheme, g.code, func.count(g.agency).label("voters"))
            .group_by(g.item, g.scheme, g.code)
            .cte("each")
        )
        alone = and_(codes.c.codes == 1, each.c.voters >= limits.VOTES_TRUSTED)
        counted = (
            select(
                *(each.c.scheme, each.c.code, func.count()),
                func.sum(case((alone, 1), else_=0)),
                func.sum(case((codes.c.codes > 1, 1), else_=0)),
            )
            .join(codes, and_(codes.c.item == each.c.item, codes.c.scheme == each.c.scheme))
            .group_by(each.c.scheme, each.c.code)
        )
        voters = select(g.scheme, g.code, func.count(distinct(g.agency))).group_by(g.scheme, g.code)
        run = self._session.connection.execute
        agencies = {(scheme, code): count for scheme, code, count in run(voters)}
        return tuple(
            VoteCount(scheme, code, items, agencies[scheme, code], int(trusted), int(disputed))
            for scheme, code, items, trusted, disputed in sorted(map(tuple, run(counted)))
        )


def forget(session: Session, items: Iterable[int], import_nos: Iterable[int]) -> None:
    """Erase how imports judged items of which they hold nothing any more."""
    still = exists().where(
        holdings.c.import_no == votes.c.import_no, holdings.c.item == votes.c.item
    )
    session.connection.execute(
        delete(votes).where(
            votes.c.item.in_(select(session.bulk.ids(items).c.value)),
            votes.c.import_no.in_(import_nos),
            ~still,
        )
    )
