"""Attachments: chunks as sent, and the digests of chunks as they come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, insert, select
from tieline_client.errors import NotFound, WrongState

from tieline_server.domain.ports import Attachment
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import (
    incoming_attachments,
    incoming_chunks,
    outgoing_attachments,
    outgoing_chunks,
)
from tieline_server.storage.session import Session

_IN = incoming_attachments.c
_OPENED_BEFORE = Prepared(
    lambda _: (
        select(*(_IN[name.name] for name in fields(Attachment)))
        .where(_IN.opened < bindparam("at"))
        .order_by(_IN.opened)
    )
)


class Attachments:
    """`AttachmentRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def add_outgoing(self, attachment: Attachment, chunks: Sequence[bytes]) -> None:
        """Keep chunks to send. The id names their content, so the same again changes nothing.

        Raises WrongState when the number of chunks is not what the attachment says.
        """
        if len(chunks) != attachment.chunks:
            raise WrongState(f"an attachment of {attachment.chunks} chunks came with {len(chunks)}")
        if not self._session.insert_new(outgoing_attachments, asdict(attachment)):
            return
        for index, data in enumerate(chunks):
            row = {"attachment": attachment.id, "index": index, "data": data}
            self._run(insert(outgoing_chunks).values(row))

    def outgoing(self, attachment: str) -> Attachment | None:
        """Return what is kept to send under an id."""
        found = select(outgoing_attachments).where(outgoing_attachments.c.id == attachment)
        row = self._run(found).one_or_none()
        return None if row is None else Attachment(**row._mapping)

    def chunk(self, attachment: str, index: int) -> bytes | None:
        """Return one chunk, from 0."""
        c = outgoing_chunks.c
        found = select(c.data).where(c.attachment == attachment, c.index == index)
        return self._session.connection.scalar(found)

    def open_incoming(self, attachment: Attachment, at: datetime) -> None:
        """Begin to receive. Raises AlreadyStored when it is open."""
        self._run(insert(incoming_attachments).values(**asdict(attachment), opened=at))

    def incoming(self, peer: str, attachment: str) -> Attachment | None:
        """Return an attachment being received; in a writing transaction it stays as it is."""
        row = self._incoming(peer, attachment)
        if row is None:
            return None
        return Attachment(row.id, row.peer, row.chunks, row.items, row.import_id, row.series)

    def received(self, peer: str, attachment: str) -> list[bytes]:
        """Return the SHA-256 of each chunk so far, in order."""
        c = incoming_chunks.c
        found = select(c.digest).where(c.peer == peer, c.attachment == attachment)
        return list(self._session.connection.scalars(found.order_by(c.index)))

    def add_received(self, peer: str, attachment: str, index: int, digest: bytes) -> None:
        """Note the next chunk. Raises NotFound when not open, WrongState when not the next."""
        if self._incoming(peer, attachment) is None:
            raise NotFound(f"attachment {attachment[:80]} of {peer} is not being received")
        expected = len(self.received(peer, attachment))
        if index != expected:
            raise WrongState(f"chunk {index} came where {expected} is next; resume from there")
        row = {"peer": peer, "attachment": attachment, "index": index, "digest": digest}
        self._run(insert(incoming_chunks).values(row))

    def close_incoming(self, peer: str, attachment: str) -> None:
        """Forget an attachment that has arrived or was given up."""
        c, chunks = incoming_attachments.c, incoming_chunks.c
        self._run(
            delete(incoming_chunks).where(chunks.peer == peer, chunks.attachment == attachment)
        )
        self._run(delete(incoming_attachments).where(c.peer == peer, c.id == attachment))

    def open_of(self, peer: str) -> int:
        """Return how many attachments of a peer are being received."""
        found = select(func.count()).select_from(incoming_attachments)
        return (
            self._session.connection.scalar(found.where(incoming_attachments.c.peer == peer)) or 0
        )

    def opened_before(self, at: datetime) -> list[Attachment]:
        """Return what began to come in before a time, oldest first."""
        return [Attachment(*row) for row in _OPENED_BEFORE.run(self._session, {"at": at})]

    def staged_imports(self) -> list[str]:
        """Return the imports that open attachments are staged under: not leftovers."""
        c = incoming_attachments.c
        found = select(c.import_id).where(c.import_id != "").order_by(c.import_id)
        return list(self._session.connection.scalars(found))

    def _incoming(self, peer: str, attachment: str) -> Row[Any] | None:
        c = incoming_attachments.c
        found = select(incoming_attachments).where(c.peer == peer, c.id == attachment)
        return self._run(self._session.locked(found)).one_or_none()
