"""Retractions, who was told of them, and the erasures that are under way."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, and_, bindparam, select, update
from tieline_client.errors import NotFound

from tieline_server.domain.ports import Purge, RetractionRecipient
from tieline_server.domain.retraction import PurgeCause, PurgeState, Retraction, RetractionKind
from tieline_server.storage.imports import handling_row, row_handling
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import (
    outbox,
    purges,
    retraction_recipients,
    retraction_sources,
    retractions,
)
from tieline_server.storage.session import Session

_HANDLING = (
    *("handling", "tlp", "source_evaluation", "information_evaluation"),
    *("retain_until", "restriction"),
)

_IS_SAID = Prepared(
    lambda _: select(retractions.c.id).where(retractions.c.series == bindparam("of")).limit(1)
)
_ANY_OPEN = Prepared(lambda _: select(purges.c.id).where(purges.c.ended.is_(None)).limit(1))


class Retractions:
    """`RetractionRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    # --- what was said ---

    def add(self, retraction: Retraction) -> bool:
        """Keep a retraction; False when it is known."""
        return self._session.insert_new(retractions, _row(retraction))

    def put(self, retraction: Retraction) -> None:
        """Keep a retraction in the place of what is known of it."""
        self._session.put(retractions, _row(retraction))

    def get(self, retraction: str, series: str) -> Retraction | None:
        """Return one by its id and series; in a writing transaction it stays until the end."""
        c = retractions.c
        one = select(retractions).where(c.id == retraction, c.series == series)
        found = self._session.locked(one)
        row = self._run(found).one_or_none()
        return None if row is None else _retraction(row)

    def of_series(self, series: str) -> list[Retraction]:
        """Return what was said of a series, in order of time."""
        if _IS_SAID.run(self._session, {"of": series}).fetchone() is None:
            return []  # of nearly all series
        found = select(retractions).where(retractions.c.series == series)
        return [
            _retraction(row)
            for row in self._run(found.order_by(retractions.c.at, retractions.c.id))
        ]

    def standing(self) -> list[Retraction]:
        """Return all, in order of time."""
        found = select(retractions).order_by(retractions.c.at, retractions.c.id)
        return [_retraction(row) for row in self._run(found)]

    # --- who was told ---

    def tell(
        self, retraction: Retraction, agency: str, *, message: str = "", via: str = ""
    ) -> None:
        """Note that somebody is told; who is known stays as first noted."""
        row = {
            "retraction": retraction.id,
            "series": retraction.series,
            "agency": agency,
            "via": via,
            "message": message,
            "confirmed": None,
            "erased": False,
        }
        self._session.insert_new(retraction_recipients, row)

    def confirm(self, retraction: Retraction, agency: str, at: datetime, *, erased: bool) -> bool:
        """Note a receipt; False when it is known already. Raises NotFound for who was not told."""
        c = retraction_recipients.c
        key = and_(_of(retraction_recipients, retraction), c.agency == agency)
        known = self._run(select(c.confirmed).where(key)).one_or_none()
        if known is None:
            raise NotFound(f"{agency[:32]} was not told of retraction {retraction.id[:80]}")
        if known.confirmed is not None:
            return False
        self._run(update(retraction_recipients).where(key).values(confirmed=at, erased=erased))
        return True

    def recipients(self, retraction: Retraction) -> list[RetractionRecipient]:
        """Return who was told, by agency, with the state of the message where it is ours."""
        c, o = retraction_recipients.c, outbox.c
        found = (
            select(c.agency, c.via, c.confirmed, c.erased, o.state, o.created, o.settled, o.reason)
            .outerjoin(outbox, (o.id == c.message) & (o.recipient == c.agency))
            .where(_of(retraction_recipients, retraction))
            .order_by(c.agency)
        )
        return [
            RetractionRecipient(
                agency=row.agency,
                via=row.via,
                sent=row.state,
                sent_at=row.settled or row.created,
                reason=row.reason or "",
                confirmed=row.confirmed,
                erased=row.erased,
            )
            for row in self._run(found)
        ]

    # --- whom this node answers ---

    def add_source(self, retraction: Retraction, agency: str) -> None:
        """Note that an agency told us and waits for a receipt, perhaps another one."""
        row = {"retraction": retraction.id, "series": retraction.series, "agency": agency}
        self._session.put(retraction_sources, row | {"answered": None})

    def sources(self, retraction: Retraction, *, waiting: bool = False) -> list[str]:
        """Return who told us; those who have no receipt yet, where only they are ``waiting``."""
        c = retraction_sources.c
        told = _of(retraction_sources, retraction)
        found = select(c.agency).where(told).order_by(c.agency)
        if waiting:
            found = found.where(c.answered.is_(None))
        return list(self._session.connection.scalars(found))

    def answered(self, retraction: Retraction, agency: str, at: datetime) -> None:
        """Note that a receipt is queued."""
        c = retraction_sources.c
        self._run(
            update(retraction_sources)
            .where(_of(retraction_sources, retraction), c.agency == agency)
            .values(answered=at)
        )

    # --- what is being erased ---

    def begin_purge(self, purge: Purge) -> None:
        """Note an erasure that has to be carried out, from its beginning where it is known."""
        row = {
            "id": purge.id,
            "cause": purge.cause.value,
            "series": purge.series,
            "import_no": purge.import_no,
            "state": purge.state.value,
            "holdings": purge.holdings,
            "created": purge.created,
            "ended": None,
            "reason": "",
        }
        self._session.put(purges, row)

    def purge(self, identifier: str, series: str) -> Purge | None:
        """Return one; in a writing transaction it stays as it is until the end."""
        one = select(purges).where(purges.c.id == identifier, purges.c.series == series)
        found = self._session.locked(one)
        row = self._run(found).one_or_none()
        return None if row is None else _purge(row)

    def any_open_purge(self) -> bool:
        """Whether an erasure is under way."""
        return _ANY_OPEN.run(self._session, {}).fetchone() is not None

    def open_purges(self, limit: int = 1000) -> list[Purge]:
        """Return those under way, oldest first."""
        found = select(purges).where(purges.c.ended.is_(None))
        return [
            _purge(row)
            for row in self._run(found.order_by(purges.c.created, purges.c.id).limit(limit))
        ]

    def advance(
        self,
        some: Iterable[Purge],
        state: PurgeState,
        *,
        holdings: int = 0,
        ended: datetime | None = None,
    ) -> None:
        """Move erasures on, counting holdings erased since. Raises NotFound."""
        values = {
            "state": state.value,
            "holdings": purges.c.holdings + holdings,
            "ended": ended,
            "reason": "",
        }
        for one in some:
            self._change(one, values)

    def purge_waits(self, purge: Purge, reason: str) -> None:
        """Say why an erasure does not go on. Raises NotFound."""
        self._change(purge, {"reason": reason[:500]})

    def _change(self, purge: Purge, values: dict[str, Any]) -> None:
        c = purges.c
        one = update(purges).where(c.id == purge.id, c.series == purge.series)
        if not self._run(one.values(**values)).rowcount:
            raise NotFound(f"erasure {purge.id[:80]} does not exist")


def _of(table: Table, retraction: Retraction) -> ColumnElement[bool]:
    """The rows of a retraction in a table of those who told or were told."""
    return and_(table.c.retraction == retraction.id, table.c.series == retraction.series)


def _row(retraction: Retraction) -> dict[str, object]:
    row: dict[str, object] = {
        "id": retraction.id,
        "series": retraction.series,
        "kind": retraction.kind.value,
        "at": retraction.at,
        "person": retraction.person,
        "reason": retraction.reason,
        **dict.fromkeys(_HANDLING),
        "limited": retraction.limited,
        "only": json.dumps(sorted(retraction.only)),
        "sender": retraction.sender,
        "envelope": retraction.envelope,
    }
    return row if retraction.handling is None else row | handling_row(retraction.handling)


def _retraction(row: Row[Any]) -> Retraction:
    return Retraction(
        id=row.id,
        series=row.series,
        kind=RetractionKind(row.kind),
        at=row.at,
        person=row.person,
        reason=row.reason,
        handling=None if row.handling is None else row_handling(row),
        limited=row.limited,
        only=frozenset(json.loads(row.only)),
        sender=row.sender,
        envelope=row.envelope,
    )


def _purge(row: Row[Any]) -> Purge:
    values = dict(row._mapping)
    return Purge(
        **values | {"cause": PurgeCause(row.cause), "state": PurgeState(row.state)},
    )
