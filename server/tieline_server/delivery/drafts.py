"""Which messages go next, out of what is due: decided in one look at storage."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from tieline.v1 import delivery_pb2, envelope_pb2, payload_pb2
from tieline_client import limits
from tieline_client.errors import TielineError, UnknownMethod
from tieline_client.payload_kinds import HOLDS_UP, unread, why_unread

from tieline_server.domain.messages import OutMessage, OutState, Reply
from tieline_server.domain.ports import Tx
from tieline_server.services.renewing import is_stale


@dataclass(frozen=True, slots=True)
class Draft:
    """A message with what this agency signed."""

    message: OutMessage
    envelope: envelope_pb2.Envelope
    payload: payload_pb2.Payload


@dataclass(slots=True)
class Batch:
    """``ready`` may go now, in this order. ``decided`` need no call: every peer would say the same.
    ``waiting`` are put off behind a message of the same subject, until then. ``stale`` are to be
    signed anew before they can go."""

    ready: list[Draft] = field(default_factory=list)
    decided: list[tuple[Draft, delivery_pb2.DeliverResponse]] = field(default_factory=list)
    waiting: list[tuple[OutMessage, datetime]] = field(default_factory=list)
    stale: list[Draft] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.ready or self.decided or self.waiting or self.stale)


def next_batch(tx: Tx, agency: str, size: int, now: datetime) -> Batch:
    """Return up to ``size`` messages for an agency.

    Of one subject only the first goes: when the peer puts it off, those behind it must not have
    gone. What waits behind a parked message is parked with it. What the peer's version of the wire
    cannot read is parked without asking, and holds up nothing that it can read.
    """
    due = tx.outbox.due(agency, size, limits.DELIVERY_BATCH_BYTES)
    batch = Batch()
    if not due:
        return batch
    wire = tx.standings.known(agency).wire
    newer = unread(wire)
    behind = tx.outbox.behind(agency, {one.subject for one in due}, passing=newer - HOLDS_UP)
    seen: set[str] = set()
    for message in due:
        draft = draft_of(message)
        if message.kind in newer:
            why = UnknownMethod(why_unread(agency, wire, message.kind))
            batch.decided.append((draft, answer_of(Reply.UNSUPPORTED, why)))
            if message.kind in HOLDS_UP:
                behind[message.subject] = (OutState.PARKED, None)
            continue
        if message.subject and message.subject in seen:
            break
        seen.add(message.subject)
        state, until = behind.get(message.subject, (None, None))
        if state is OutState.PARKED:
            parked = UnknownMethod("it waits behind a parked message")
            batch.decided.append((draft, answer_of(Reply.UNSUPPORTED, parked)))
        elif until is not None:
            batch.waiting.append((message, until))
        elif is_stale(draft.payload, now):
            batch.stale.append(draft)
        else:
            batch.ready.append(draft)
    return batch


def draft_of(message: OutMessage) -> Draft:
    """Return a message with its envelope and payload parsed."""
    envelope = envelope_pb2.Envelope.FromString(message.envelope)
    return Draft(message, envelope, payload_pb2.Payload.FromString(envelope.payload))


def answer_of(reply: Reply, error: TielineError) -> delivery_pb2.DeliverResponse:
    """An error that will not change by itself, as the reply that it amounts to."""
    return delivery_pb2.DeliverResponse(
        reply=int(reply),  # type: ignore[arg-type]
        reason=error.reason,
        text=error.message[: limits.FREE_TEXT_CHARS],
    )
