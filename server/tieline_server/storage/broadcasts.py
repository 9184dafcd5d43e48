"""Broadcasts, how far each came with each recipient, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, bindparam, insert, literal_column, select, update
from tieline_client.errors import NotFound

from tieline_server.domain.broadcast import (
    AnswerKind,
    Broadcast,
    BroadcastAnswer,
    BroadcastRecipientState,
)
from tieline_server.domain.referral import Direction
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import broadcast_answers, broadcast_recipients, broadcasts
from tieline_server.storage.session import Session

_RANK = {
    BroadcastRecipientState.QUEUED: 0,
    BroadcastRecipientState.DELIVERED: 1,
    BroadcastRecipientState.REFUSED: 1,
    BroadcastRecipientState.ACKNOWLEDGED: 2,
    BroadcastRecipientState.ANSWERED: 3,
    BroadcastRecipientState.WITHDRAWN: 4,
}

_NAMES = tuple(column.name for column in broadcasts.columns)
_INSERT = Prepared(lambda _: insert(broadcasts).values({name: bindparam(name) for name in _NAMES}))
_IS_THERE = Prepared(lambda _: select(broadcasts.c.id).where(broadcasts.c.id == bindparam("one")))
_RECIPIENT = broadcast_recipients.c
_ADD_RECIPIENT = Prepared(
    lambda _: insert(broadcast_recipients).values(
        {column.name: bindparam(column.name) for column in broadcast_recipients.columns}
    )
)
_RECIPIENTS = Prepared(
    lambda _: (
        select(_RECIPIENT.agency, _RECIPIENT.state)
        .where(_RECIPIENT.broadcast == bindparam("of"))
        .order_by(_RECIPIENT.agency)
    )
)
_ANSWERS = Prepared(
    lambda _: (
        select(broadcast_answers)
        .where(broadcast_answers.c.broadcast == bindparam("of"))
        .order_by(broadcast_answers.c.at, broadcast_answers.c.id)
    )
)
_SETTLE_RECIPIENT = Prepared(
    lambda _: (
        update(broadcast_recipients)
        .where(
            _RECIPIENT.broadcast == bindparam("in"),
            _RECIPIENT.agency == bindparam("to"),
            _RECIPIENT.state == literal_column(f"'{BroadcastRecipientState.QUEUED.value}'"),
        )
        .values(state=bindparam("new_state"))
    )
)


class Broadcasts:
    """`BroadcastRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def add(self, broadcast: Broadcast, recipients: Sequence[str]) -> None:
        """Add a broadcast with its recipients, all queued. Raises AlreadyStored."""
        row = {name: getattr(broadcast, name) for name in _NAMES}
        row |= {"direction": broadcast.direction.value, "state": broadcast.state.value}
        _INSERT.run(self._session, row)
        queued = BroadcastRecipientState.QUEUED.value
        for agency in recipients:
            row = {"broadcast": broadcast.id, "agency": agency, "state": queued}
            _ADD_RECIPIENT.run(self._session, row)

    def get(self, broadcast: str) -> Broadcast | None:
        """Return a broadcast; in a writing transaction it stays as it is until the end."""
        if _IS_THERE.run(self._session, {"one": broadcast}).fetchone() is None:
            return None
        found = self._session.locked(select(broadcasts).where(broadcasts.c.id == broadcast))
        row = self._run(found).one_or_none()
        return None if row is None else _broadcast(row)

    def find(self, direction: Direction | None = None, series: str = "") -> list[Broadcast]:
        """Return broadcasts in order of time, of one direction or series when given."""
        found = select(broadcasts).order_by(broadcasts.c.created, broadcasts.c.id)
        if direction is not None:
            found = found.where(broadcasts.c.direction == direction.value)
        if series:
            found = found.where(broadcasts.c.series == series)
        return [_broadcast(row) for row in self._run(found)]

    def set_recipient(self, broadcast: str, agency: str, state: BroadcastRecipientState) -> None:
        """Move one recipient's state forward; never backwards.

        A broadcast that came in moves its own state. Raises NotFound for an unknown broadcast, or
        for an agency that an outgoing one was not sent to.
        """
        own = self.get(broadcast)
        if own is None:
            raise NotFound(f"broadcast {broadcast[:80]} does not exist; copy the id from its list")
        if own.direction is Direction.IN:
            if _RANK[state] > _RANK[own.state]:
                self._session.change(broadcasts, broadcast, {"state": state.value}, "broadcast")
            return
        before = self.recipients(broadcast).get(agency)
        if before is None:
            raise NotFound(f"broadcast {broadcast[:80]} was not sent to {agency[:32]}")
        if _RANK[state] > _RANK[before]:
            key = (
                broadcast_recipients.c.broadcast == broadcast,
                broadcast_recipients.c.agency == agency,
            )
            self._run(update(broadcast_recipients).where(*key).values(state=state.value))

    def settle_recipient(
        self, broadcasts: Sequence[str], agency: str, state: BroadcastRecipientState
    ) -> None:
        """Say what came of sending broadcasts to an agency; who has done more already stays."""
        for broadcast in broadcasts:
            values = {"in": broadcast, "to": agency, "new_state": state.value}
            _SETTLE_RECIPIENT.run(self._session, values)

    def add_recipient(self, broadcast: str, agency: str) -> None:
        """Add an agency that the broadcast was sent to, unless it is there."""
        queued = BroadcastRecipientState.QUEUED.value
        row = {"broadcast": broadcast, "agency": agency, "state": queued}
        self._session.insert_new(broadcast_recipients, row)

    def recipients(self, broadcast: str) -> dict[str, BroadcastRecipientState]:
        """Return each recipient's state, by agency."""
        found = _RECIPIENTS.run(self._session, {"of": broadcast}).fetchall()
        return {agency: BroadcastRecipientState(state) for agency, state in found}

    def add_answer(self, answer: BroadcastAnswer) -> bool:
        """Add an answer; False when its id is known."""
        row = {**asdict(answer), "kind": answer.kind.value}
        return self._session.insert_new(broadcast_answers, row)

    def answers(self, broadcast: str) -> list[BroadcastAnswer]:
        """Return the answers in order of time."""
        return [
            BroadcastAnswer(**{**row._asdict(), "kind": AnswerKind(row.kind)})
            for row in _ANSWERS.rows(self._session, {"of": broadcast})
        ]

    def claimed_to(self, series: str) -> list[str]:
        """Return the hubs that this agency told, in answer to a broadcast, that it has a series."""
        found = (
            select(broadcasts.c.sender)
            .join(broadcast_answers, broadcast_answers.c.broadcast == broadcasts.c.id)
            .where(
                broadcasts.c.direction == Direction.IN.value,
                broadcast_answers.c.series == series,
            )
            .distinct()
        )
        return list(self._session.connection.scalars(found.order_by(broadcasts.c.sender)))


def _broadcast(row: Row[Any]) -> Broadcast:
    return Broadcast(
        **{
            **row._mapping,
            "direction": Direction(row.direction),
            "state": BroadcastRecipientState(row.state),
        }
    )
