"""Clues, tips and relays of tips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, insert, or_, select, update

from tieline_server.domain.clue import Clue, Fate, Support, Tip, TipCounts, TipState
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import clues, tip_relays, tips
from tieline_server.storage.session import Session

_OF_DAY = Prepared(
    lambda _: (
        select(func.count())
        .select_from(tips)
        .where(tips.c.source == bindparam("of_source"), tips.c.day == bindparam("on_day"))
    )
)
_FIELDS = [field.name for field in fields(Tip)]
_TIP = [column for column in tips.c if column.name not in ("digest", "day")]


def day_of(moment: datetime) -> str:
    """Return the UTC day, as YYYY-MM-DD."""
    return moment.astimezone(UTC).date().isoformat()


class Clues:
    """`ClueRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def add(self, clue: Clue) -> None:
        """Add a clue. Raises AlreadyStored when the id exists."""
        self._run(insert(clues).values(**asdict(clue)))

    def get(self, clue: str) -> Clue | None:
        """Return a clue by its id or public id."""
        if not clue:
            return None
        found = select(clues).where(or_(clues.c.id == clue, clues.c.public == clue))
        row = self._run(self._session.locked(found)).first()
        return None if row is None else Clue(**row._mapping)

    def find(self, series: str = "", *, public: bool = False) -> list[Clue]:
        """Return clues in order of time."""
        found = select(clues).order_by(clues.c.created, clues.c.id)
        if series:
            found = found.where(clues.c.series == series)
        if public:
            found = found.where(clues.c.published.is_not(None), clues.c.ended.is_(None))
        return [Clue(**row._mapping) for row in self._run(found)]

    def set_published(
        self,
        clue: str,
        *,
        public: str,
        text: str,
        person: str,
        purpose: str,
        case_ref: str,
        at: datetime,
    ) -> None:
        """Publish words."""
        values: dict[str, object] = {
            "public": public,
            "published_text": text,
            "published_by": person,
            "purpose": purpose,
            "case_ref": case_ref,
            "published": at,
            "ended": None,
        }
        self._session.change(clues, clue, values, "clue")

    def take_back(self, clue: str, at: datetime) -> None:
        """End a publication."""
        self._session.change(clues, clue, {"ended": at}, "clue")

    def add_tip(self, tip: Tip) -> Fate:
        """Add a tip unless the same is there."""
        row = {name: getattr(tip, name) for name in _FIELDS} | {
            "state": tip.state.value,
            "digest": tip.digest,
            "day": day_of(tip.received),
        }
        if self._session.insert_new(tips, row):
            return Fate.ADDED
        self._run(update(clues).where(clues.c.id == tip.clue).values(known=clues.c.known + 1))
        return Fate.KNOWN

    def of_day(self, source: str, day: str) -> int:
        """Count tips of a source on a day."""
        row = _OF_DAY.run(self._session, {"of_source": source, "on_day": day}).fetchone()
        return int(row[0])

    def count_limited(self, clue: str, tips: int) -> None:
        """Count tips that were over the limit."""
        more = clues.c.limited + tips
        self._run(update(clues).where(clues.c.id == clue).values(limited=more))

    def tip(self, tip: str) -> Tip | None:
        """Return a tip."""
        found = self._session.locked(select(*_TIP).where(tips.c.id == tip))
        row = self._run(found).one_or_none()
        return None if row is None else _tip(row)

    def tips(
        self, clue: str = "", state: TipState | None = None, *, after: str = "", limit: int = 1000
    ) -> list[Tip]:
        """Return a page of tips by id."""
        found = select(*_TIP).where(tips.c.id > after).order_by(tips.c.id).limit(limit)
        if clue:
            found = found.where(tips.c.clue == clue)
        if state is not None:
            found = found.where(tips.c.state == state.value)
        return [_tip(row) for row in self._run(found)]

    def judge(
        self,
        tip: str,
        state: TipState,
        *,
        supports: str,
        eliminates: str,
        person: str,
        at: datetime,
        reason: str,
    ) -> None:
        """Keep a judgement."""
        values: dict[str, object] = {
            "state": state.value,
            "supports": supports,
            "eliminates": eliminates,
            "person": person,
            "judged": at,
            "reason": reason,
        }
        self._session.change(tips, tip, values, "tip")

    def relayed(self, tip: str, agency: str, at: datetime) -> bool:
        """Keep that a tip was relayed."""
        return self._session.insert_new(tip_relays, {"tip": tip, "agency": agency, "at": at})

    def relays(self, tip: str) -> list[str]:
        """Return to whom a tip was relayed."""
        found = select(tip_relays.c.agency).where(tip_relays.c.tip == tip)
        return list(self._session.connection.scalars(found.order_by(tip_relays.c.agency)))

    def counts(self, clues: Sequence[str]) -> dict[str, TipCounts]:
        """Count tips by clue and state, and those that were relayed."""
        wanted = tips.c.clue.in_(list(clues))
        made = {clue: TipCounts() for clue in clues}
        by_state = select(tips.c.clue, tips.c.state, func.count()).where(wanted)
        for clue, state, count in self._run(by_state.group_by(tips.c.clue, tips.c.state)):
            before = made[clue]
            made[clue] = replace(before, tips=before.tips + count, **{state: count})
        relayed = (
            select(tips.c.clue, func.count(tip_relays.c.tip.distinct()))
            .join(tip_relays, tip_relays.c.tip == tips.c.id)
            .where(wanted)
        )
        for clue, count in self._run(relayed.group_by(tips.c.clue)):
            made[clue] = replace(made[clue], relayed=count)
        return made

    def support(self, series: str) -> dict[str, Support]:
        """Count verified tips for and against each country."""
        found = (
            select(tips.c.supports, tips.c.eliminates, func.count())
            .join(clues, clues.c.id == tips.c.clue)
            .where(clues.c.series == series, tips.c.state == TipState.VERIFIED.value)
            .group_by(tips.c.supports, tips.c.eliminates)
        )
        made: dict[str, Support] = {}
        for supports, eliminates, count in self._run(found):
            for country, side in ((supports, "supporting"), (eliminates, "eliminating")):
                if country:
                    before = made.get(country, Support())
                    made[country] = replace(before, **{side: getattr(before, side) + count})
        return made


def _tip(row: Row[Any]) -> Tip:
    return Tip(**{**row._mapping, "state": TipState(row.state)})


def erase(session: Session, series: str) -> None:
    """Erase the clues of a series with everything that was said on them."""
    theirs = select(clues.c.id).where(clues.c.series == series).scalar_subquery()
    on_them = select(tips.c.id).where(tips.c.clue.in_(theirs)).scalar_subquery()
    session.connection.execute(delete(tip_relays).where(tip_relays.c.tip.in_(on_them)))
    session.connection.execute(delete(tips).where(tips.c.clue.in_(theirs)))
    session.connection.execute(delete(clues).where(clues.c.series == series))
