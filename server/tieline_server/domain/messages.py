"""A message's life in the tables: outbox, inbox, replies.

Out: operator -> service -> one transaction (data + outbox + audit) -> delivery -> peer. In: peer
-> one transaction (inbox + effect + audit) -> stored reply -> the transport's reply. A message is
known by its id (UUIDv7, inside the signature); a second copy gets the stored reply and no effect.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tieline_server.domain.referral import Urgency


class Reply(enum.IntEnum):
    """The five replies (values of delivery.proto)."""

    APPLIED = 1
    DUPLICATE = 2
    REFUSED = 3
    """Terminal: the queue moves on and the operator is told."""
    UNSUPPORTED = 4
    """Parked until the peer's version changes."""
    RETRY = 5


class OutState(enum.StrEnum):
    """Where a queued message stands."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    REFUSED = "refused"
    PARKED = "parked"
    CANCELLED = "cancelled"
    """Taken back before it left; its envelope is empty and its place in the lane is void."""


@dataclass(frozen=True, slots=True)
class OutMessage:
    """A signed message on its way to one recipient. ``attachment`` is an attachment id that must
    arrive before it.

    A message to a group goes to each recipient under the same ``id``. ``subject`` is the id of the
    referral, upload or broadcast it belongs to, so that delivery can be recorded there.
    ``sequence`` counts from 1 per (recipient, lane); storage assigns it. A message that the peer
    would not take yet is queued and ``held_until`` a time.
    """

    id: str
    recipient: str
    lane: Urgency
    kind: str
    subject: str
    envelope: bytes
    created: datetime
    attachment: str = ""
    sequence: int = 0
    state: OutState = OutState.QUEUED
    attempts: int = 0
    settled: datetime | None = None
    reason: str = ""
    held_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of one message."""

    message: str
    state: OutState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class InMessage:
    """A message as received, with the reply that was given. ``digest`` is SHA-256 of the envelope's
    payload: the same id with another digest is refused (threats.md 15)."""

    id: str
    sender: str
    lane: Urgency
    sequence: int
    kind: str
    subject: str
    digest: bytes
    envelope: bytes
    received: datetime
    reply: Reply
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StoredReply:
    """What was said to a message that came before, and the SHA-256 of its payload."""

    digest: bytes
    reply: Reply
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LaneQueue:
    """What waits in one lane: all, those of them that are put off, and since when the first."""

    queued: int = 0
    put_off: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """Delivery's memory of one peer: the back-off survives a restart.

    ``busy_since`` is when messages began to go that have not come to the end of the queue since;
    ``delivered`` counts those settled from then on.
    """

    agency: str
    attempts: int = 0
    next_attempt: datetime | None = None
    last_error: str = ""
    busy_since: datetime | None = None
    delivered: int = 0
    lanes: Mapping[Urgency, LaneQueue] = field(default_factory=dict)

    @property
    def queued(self) -> int:
        """Messages that wait, of all lanes."""
        return sum(lane.queued for lane in self.lanes.values())
