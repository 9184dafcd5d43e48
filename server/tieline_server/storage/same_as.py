"""Series that two agencies hold as one (domain/same_as.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, delete, or_, select, update

from tieline_server.domain.merging import follow
from tieline_server.domain.same_as import LinkState, SameAs, Word
from tieline_server.domain.series import DutyContact, ExternalReference, SeriesStatus
from tieline_server.storage.schema import same_as as table
from tieline_server.storage.schema import series, series_aliases, series_keys
from tieline_server.storage.session import Session


class SameAsRows:
    """`SameAsRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def add(self, link: SameAs) -> bool:
        """Add a link; the first of a pair of series stands. False when there was one."""
        if self.between(link.own, link.other) is not None:
            return False
        return self._session.insert_new(table, _row(link))

    def get(self, link: str) -> SameAs | None:
        """Return a link."""
        return self._first(select(table).where(table.c.id == link))

    def between(self, own: str, other: str) -> SameAs | None:
        """Return the link of a pair of series."""
        return self._first(select(table).where(table.c.own == own, table.c.other == other))

    def of(self, series: str) -> list[SameAs]:
        """Return the links that name a series, on either side, oldest first."""
        return self._all(or_(table.c.own == series, table.c.other == series))

    def find(self) -> list[SameAs]:
        """Return all links, oldest first."""
        return self._all()

    def say(self, link: str, word: Word, purpose: str, case_ref: str) -> None:
        """Keep this agency's word."""
        values = _word("ours", word) | {"purpose": purpose, "case_ref": case_ref}
        self._run(update(table).where(table.c.id == link).values(values))

    def heard(self, link: SameAs) -> None:
        """Keep the other side's word, with what came with it."""
        row = _row(link)
        kept = ("shared", "own_items", "other_items", "purpose", "case_ref", "references")
        values = _word("theirs", link.theirs) | {name: row[name] for name in (*kept, "contact")}
        self._run(update(table).where(table.c.id == link.id).values(values))

    def told(self, series: str) -> frozenset[str]:
        """Return whom this agency told of an own series by its word."""
        found = self._all(table.c.own == series, table.c.ours_at.is_not(None))
        return frozenset(one.peer for one in found if one.purpose)

    def wholes(self) -> Mapping[int, str]:
        """Return the series that each number of holdings stands for; none that is withdrawn."""
        parts = select(series_aliases.c.merged, series_aliases.c.series)
        aliases = {row.merged: row.series for row in self._run(parts)}
        here = (
            select(series_keys.c.no, series.c.id)
            .join(series, series.c.id == series_keys.c.id)
            .where(series.c.status != SeriesStatus.WITHDRAWN.value)
        )
        return {number: follow(aliases, one) for number, one in self._run(here)}

    def _all(self, *where: Any) -> list[SameAs]:
        found = select(table).where(*where).order_by(table.c.found, table.c.id)
        return [_link(row) for row in self._run(found)]

    def _first(self, found: Any) -> SameAs | None:
        row = self._run(self._session.locked(found)).first()
        return None if row is None else _link(row)


def _word(side: str, word: Word) -> dict[str, Any]:
    return {side: word.state.value, f"{side}_at": word.at, f"{side}_person": word.person}


def _row(link: SameAs) -> dict[str, Any]:
    plain = ("id", "own", "other", "found", "shared", "own_items", "other_items")
    return {
        **{name: getattr(link, name) for name in (*plain, "purpose", "case_ref")},
        **_word("ours", link.ours),
        **_word("theirs", link.theirs),
        "references": json.dumps([[one.scheme, one.value] for one in link.references]),
        "contact": json.dumps(asdict(link.contact)),
    }


def _link(row: Row[Any]) -> SameAs:
    made = dict(row._mapping)
    for side in ("ours", "theirs"):
        state, at = LinkState(made.pop(side)), made.pop(f"{side}_at")
        made[side] = Word(state, at, made.pop(f"{side}_person"))
    made["references"] = tuple(ExternalReference(*one) for one in json.loads(made["references"]))
    made["contact"] = DutyContact(**json.loads(made["contact"]))
    return SameAs(**made)


def erase(session: Session, series_id: str) -> None:
    """Erase the links of a series: they tell of it."""
    named = or_(table.c.own == series_id, table.c.other == series_id)
    session.connection.execute(delete(table).where(named))
