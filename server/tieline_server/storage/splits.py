"""Splits of series (domain/splitting.py), who was told of them, and moving what they name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Row, and_, bindparam, delete, exists, select, update

from tieline_server.domain.messages import OutState
from tieline_server.domain.splitting import Split
from tieline_server.storage import tallies, vote_counts
from tieline_server.storage.index_changes import record_change
from tieline_server.storage.items import Items
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import (
    holdings,
    outbox,
    outgoing_attachments,
    outgoing_chunks,
    series_keys,
    series_split_told,
    series_splits,
)
from tieline_server.storage.session import Session
from tieline_server.storage.staging_rows import key_numbers

_C = series_splits.c
_NAMES = tuple(field.name for field in fields(Split))
_ANY = Prepared(lambda _: select(_C.id).where(_C.series == bindparam("of")).limit(1))
_ANY_MADE = Prepared(lambda _: select(_C.id).where(_C.made == bindparam("of")).limit(1))
_OPEN = (OutState.QUEUED.value, OutState.PARKED.value)


class Splits:
    """`SplitRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def add(self, split: Split) -> bool:
        """Keep a split; False when it is known."""
        return self._session.insert_new(series_splits, asdict(split))

    def of(self, series: str) -> list[Split]:
        """Return the splits of a series, in order of time."""
        if _ANY.run(self._session, {"of": series}).fetchone() is None:
            return []  # of nearly all series
        return self._find(_C.series == series)

    def making(self, series: str) -> list[Split]:
        """Return the splits by which a series came to be."""
        if _ANY_MADE.run(self._session, {"of": series}).fetchone() is None:
            return []
        return self._find(_C.made == series)

    def tell(self, split: Split, agency: str) -> bool:
        """Note that an agency is told; False when it was before."""
        row = {"split": split.id, "series": split.series, "agency": agency}
        return self._session.insert_new(series_split_told, row)

    def told(self, series: str) -> list[str]:
        """Return whom this node told that items are of a series now."""
        if _ANY_MADE.run(self._session, {"of": series}).fetchone() is None:
            return []
        t = series_split_told.c
        one = and_(_C.id == t.split, _C.series == t.series)
        found = select(t.agency).join(series_splits, one).where(_C.made == series)
        return list(self._session.connection.scalars(found.distinct().order_by(t.agency)))

    def waits(self, series: str, agency: str) -> bool:
        """Whether a word that made a series has still to reach an agency."""
        if _ANY_MADE.run(self._session, {"of": series}).fetchone() is None:
            return False
        found = select(outbox.c.id).where(
            outbox.c.subject == series,
            outbox.c.recipient == agency,
            outbox.c.kind == "series_split",
            outbox.c.state.in_(_OPEN),
        )
        return self._session.connection.scalar(found.limit(1)) is not None

    def move(self, series: str, made: str, items: Collection[int]) -> int:
        """Hold items of a series in another from now on; return how many holdings moved."""
        number = key_numbers(self._session, {made})[made]
        return self._take(series, items, number)

    def drop(self, series: str, items: Collection[int]) -> int:
        """Erase how a series holds items, and what nobody holds any more; return how many."""
        return self._take(series, items, None)

    def _take(self, series: str, items: Collection[int], into: int | None) -> int:
        self._session.lock_items()
        number = self._session.connection.scalar(
            select(series_keys.c.no).where(series_keys.c.id == series)
        )
        if number is None or not items:
            return 0
        among = holdings.c.item.in_(select(self._session.bulk.ids(items).c.value))
        mine = and_(among, holdings.c.series_no == number, holdings.c.series_no > 0)
        rows = [dict(row) for row in self._run(select(holdings).where(mine)).mappings()]
        if not rows:
            return 0
        tallies.add_holdings(self._session, -1, among)
        self._run(delete(holdings).where(mine))
        if into is not None:
            moved = [row | {"series_no": into} for row in rows]
            self._run(self._session.upsert(holdings).on_conflict_do_nothing(), moved)
        tallies.add_holdings(self._session, 1, among)
        touched = {int(row["item"]) for row in rows}
        if into is None:
            vote_counts.forget(self._session, touched, {int(row["import_no"]) for row in rows})
            Items(self._session).let_go(touched)
            return len(rows)
        self._session.next("generation")
        self._session.next("erasure")
        record_change(self._session, touched=touched)
        return len(rows)

    def chunks_left(self, made: str) -> bool:
        """Erase the chunks in which items of a series went out under the id they had before;
        whether some have still to go."""
        left = False
        for split in self.making(made):
            sent = and_(
                outbox.c.attachment == outgoing_attachments.c.id, outbox.c.created <= split.noted
            )
            before = and_(outgoing_attachments.c.series == split.series, exists().where(sent))
            waits = exists().where(sent, outbox.c.state.in_(_OPEN))
            left |= (
                self._session.connection.scalar(
                    select(outgoing_attachments.c.id).where(before, waits).limit(1)
                )
                is not None
            )
            done = list(
                self._session.connection.scalars(
                    select(outgoing_attachments.c.id).where(before, ~waits)
                )
            )
            for attachment in done:
                self._run(delete(outgoing_chunks).where(outgoing_chunks.c.attachment == attachment))
                self._run(
                    delete(outgoing_attachments).where(outgoing_attachments.c.id == attachment)
                )
        return left

    def _find(self, *where: Any) -> list[Split]:
        found = select(*(_C[name] for name in _NAMES)).where(*where).order_by(_C.at, _C.id)
        return [_split(row) for row in self._run(found)]


def erase(session: Session, series: str) -> None:
    """What the words that made a series say of it goes with it. The marks stay: what comes late
    under the old id is known by them, and they name no digest."""
    gone = update(series_splits).where(_C.made == series)
    session.connection.execute(gone.values(notice=b"", envelope=b"", person=""))


def _split(row: Row[Any]) -> Split:
    return Split(**row._mapping)
