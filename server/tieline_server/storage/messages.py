"""The inbox with its stored replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Row, bindparam, insert, select

from tieline_server.domain.messages import InMessage, Reply, StoredReply
from tieline_server.domain.referral import Urgency
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import inbox
from tieline_server.storage.session import Session

_NAMES = tuple(field.name for field in fields(InMessage))
_INSERT = Prepared(lambda _: insert(inbox).values({name: bindparam(name) for name in _NAMES}))


class Inbox:
    """`InboxRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def get(self, sender: str, message: str) -> InMessage | None:
        """Return a message with the reply it was given."""
        found = select(inbox).where(inbox.c.sender == sender, inbox.c.id == message)
        row = self._run(found).one_or_none()
        return None if row is None else read_in(row)

    def replies(self, sender: str, messages: Sequence[str]) -> dict[str, StoredReply]:
        """Return what was said to those of these messages that came before, by id."""
        c = inbox.c
        found = select(c.id, c.digest, c.reply, c.reason).where(
            c.sender == sender, c.id.in_(list(messages))
        )
        return {
            row.id: StoredReply(row.digest, Reply(row.reply), row.reason)
            for row in self._run(found)
        }

    def by_subject(self, subject: str) -> list[InMessage]:
        """Return the messages about one referral, upload or broadcast, as they came."""
        found = select(inbox).where(inbox.c.subject == subject)
        return [read_in(row) for row in self._run(found.order_by(inbox.c.received, inbox.c.id))]

    def add(self, message: InMessage) -> None:
        """Store a message with its reply. Its place in its lane is settled by `Standings.came`, in
        the same transaction, for all of a batch at once. Raises AlreadyStored for a known id."""
        row = {name: getattr(message, name) for name in _NAMES}
        row |= {"lane": int(message.lane), "reply": int(message.reply)}
        _INSERT.run(self._session, row)


def read_in(row: Row[Any]) -> InMessage:
    """Return a whole row of the inbox as the message that it keeps."""
    return InMessage(**{**row._mapping, "lane": Urgency(row.lane), "reply": Reply(row.reply)})
