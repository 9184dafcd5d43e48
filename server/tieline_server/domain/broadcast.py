"""Broadcasts: the hub asks a named group "who can place this?", and the answers."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from tieline_server.domain.referral import Direction


class AnswerKind(enum.StrEnum):
    """What a recipient says of a broadcast series."""

    ASSESS = "assess"
    ELIMINATE = "eliminate"
    OURS = "ours"


class BroadcastRecipientState(enum.StrEnum):
    """How far a broadcast came with one recipient."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    ACKNOWLEDGED = "acknowledged"
    ANSWERED = "answered"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


_SLOWEST_FIRST = (
    BroadcastRecipientState.QUEUED,
    BroadcastRecipientState.DELIVERED,
    BroadcastRecipientState.ACKNOWLEDGED,
    BroadcastRecipientState.ANSWERED,
    BroadcastRecipientState.WITHDRAWN,
    BroadcastRecipientState.REFUSED,
)


def slowest(recipients: Collection[BroadcastRecipientState]) -> BroadcastRecipientState:
    """Return how far all recipients are; who refused it or had to give it back counts only where
    there is nobody else."""
    found = (state for state in _SLOWEST_FIRST if state in recipients)
    return next(found, BroadcastRecipientState.QUEUED)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One series shown to a group. ``originator`` wrote the envelope inside."""

    id: str
    series: str
    direction: Direction
    sender: str
    originator: str
    group: str
    group_version: int
    purpose: str
    case_ref: str
    person: str
    question: str
    created: datetime
    state: BroadcastRecipientState = BroadcastRecipientState.QUEUED
    """At a recipient: its own state. At the hub each recipient has one of its own."""


@dataclass(frozen=True, slots=True)
class BroadcastAnswer:
    """A recipient's answer. ``country`` for assess and eliminate, ``series`` for ours.

    ``confidence`` is 1 low, 2 medium, 3 high for assess, 0 otherwise.
    """

    id: str
    broadcast: str
    agency: str
    person: str
    kind: AnswerKind
    at: datetime
    country: str = ""
    confidence: int = 0
    series: str = ""
    text: str = ""
