"""The outbox with its destinations, and the inbox with its stored replies."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, literal_column, select

from tieline_server.domain.messages import Destination, InMessage, OutMessage, OutState, Reply
from tieline_server.domain.referral import Urgency
from tieline_server.storage.schema import destinations, inbox, outbox
from tieline_server.storage.session import Session

_QUEUED = outbox.c.state == literal_column(f"'{OutState.QUEUED.value}'")
"""Spelled out, not bound: only so is the partial index of queued messages known to serve."""


class Outbox:
    """`OutboxRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def add(self, message: OutMessage) -> OutMessage:
        """Queue a message; return it with its sequence. Raises AlreadyStored."""
        lane = f"outbox/{message.recipient}/{int(message.lane)}"
        queued = replace(message, sequence=self._session.next(lane))
        row = asdict(queued) | {"lane": int(queued.lane), "state": queued.state.value}
        self._run(insert(outbox).values(**row))
        return queued

    def due(self, recipient: str, limit: int) -> list[OutMessage]:
        """Return queued messages for a recipient: lanes by urgency, then sequence."""
        found = (
            select(outbox)
            .where(outbox.c.recipient == recipient, _QUEUED)
            .order_by(outbox.c.lane, outbox.c.sequence)
            .limit(limit)
        )
        return [_out(row) for row in self._run(found)]

    def settle(self, message: str, state: OutState, at: datetime, reason: str = "") -> None:
        """Say what came of a message, counting an attempt; QUEUED puts it back. Raises NotFound."""
        values = {
            "state": state.value,
            "settled": None if state is OutState.QUEUED else at,
            "reason": reason,
            "attempts": outbox.c.attempts + 1,
        }
        self._session.change(outbox, message, values, "message")

    def get(self, message: str) -> OutMessage | None:
        """Return a message; in a writing transaction it stays as it is until the end."""
        found = self._session.locked(select(outbox).where(outbox.c.id == message))
        row = self._run(found).one_or_none()
        return None if row is None else _out(row)

    def find(self, *, state: OutState | None = None, limit: int = 1000) -> list[OutMessage]:
        """Return messages, newest first."""
        found = select(outbox).order_by(outbox.c.created.desc(), outbox.c.id.desc()).limit(limit)
        if state is not None:
            found = found.where(outbox.c.state == state.value)
        return [_out(row) for row in self._run(found)]

    def of_subject(self, subject: str) -> list[OutMessage]:
        """Return the messages of a referral, upload or broadcast, oldest first."""
        found = select(outbox).where(outbox.c.subject == subject)
        return [_out(row) for row in self._run(found.order_by(outbox.c.created, outbox.c.id))]

    def destinations(self) -> list[Destination]:
        """Return every recipient with queued messages or a back-off, by agency."""
        waiting = (
            select(outbox.c.recipient, func.count()).where(_QUEUED).group_by(outbox.c.recipient)
        )
        queued = {row[0]: row[1] for row in self._run(waiting)}
        known = {row.agency: row for row in self._run(select(destinations))}
        return [
            Destination(
                agency=agency,
                queued=queued.get(agency, 0),
                attempts=known[agency].attempts if agency in known else 0,
                next_attempt=known[agency].next_attempt if agency in known else None,
                last_error=known[agency].last_error if agency in known else "",
            )
            for agency in sorted(queued.keys() | known.keys())
        ]

    def back_off(self, recipient: str, attempts: int, until: datetime, error: str) -> None:
        """Remember when to try a recipient again, and why."""
        values = {"attempts": attempts, "next_attempt": until, "last_error": error}
        statement = self._session.upsert(destinations).values(agency=recipient, **values)
        self._run(statement.on_conflict_do_update(index_elements=["agency"], set_=values))

    def clear_back_off(self, recipient: str) -> None:
        """Forget a recipient's back-off."""
        self._run(delete(destinations).where(destinations.c.agency == recipient))


class Inbox:
    """`InboxRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def get(self, sender: str, message: str) -> InMessage | None:
        """Return a message with the reply it was given."""
        found = select(inbox).where(inbox.c.sender == sender, inbox.c.id == message)
        row = self._run(found).one_or_none()
        return None if row is None else _in(row)

    def by_subject(self, subject: str) -> list[InMessage]:
        """Return the messages about one referral, upload or broadcast, as they came."""
        found = select(inbox).where(inbox.c.subject == subject)
        return [_in(row) for row in self._run(found.order_by(inbox.c.received, inbox.c.id))]

    def add(self, message: InMessage) -> None:
        """Store a message with its reply. Raises AlreadyStored for a second of the same id."""
        row = asdict(message) | {"lane": int(message.lane), "reply": int(message.reply)}
        self._run(insert(inbox).values(**row))


def _out(row: Row[Any]) -> OutMessage:
    return OutMessage(**{**row._mapping, "lane": Urgency(row.lane), "state": OutState(row.state)})


def _in(row: Row[Any]) -> InMessage:
    return InMessage(**{**row._mapping, "lane": Urgency(row.lane), "reply": Reply(row.reply)})
