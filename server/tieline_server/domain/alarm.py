"""Alarms: set for a time, raised once it comes, seen in status, log and the agency's own command.

Those about immediate referrals are ended by a person's step. The recipient's duty contact is
alarmed at once. When no person has acknowledged an hour after it was told, both sides are alarmed
(again), each by its own clock, and the sender tells the hub where it may.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tieline_client import limits

from tieline_server.domain.referral import Direction, Referral, Urgency


class AlarmKind(enum.StrEnum):
    """What an alarm says; its audit entry is ``alarm.`` and this."""

    IMMEDIATE = "immediate"
    """An immediate referral came in."""
    UNACKNOWLEDGED = "unacknowledged"
    """Nobody acknowledged an immediate referral in time."""
    ESCALATED = "escalated"
    """The hub was told that nobody did."""
    BUDGET_LOW = "budget-low"
    """A peer has used 80 % of its budget of the day."""
    BUDGET_SPENT = "budget-spent"
    """A peer asked for more than was left."""
    LOW_HITS = "low-hits"
    """A peer asked very much and next to nothing of it is here."""
    CRAFTED = "crafted-hashes"
    """A peer asked digests that no files have."""
    REPEATED = "repeated-lists"
    """A peer asked lists that are almost the same, many times."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm. ``raised`` and ``ended`` are None until then. No personal text.

    About a peer's questions ``sender`` is the peer, ``referral`` the question or "", and ``series``
    is empty.
    """

    id: str
    kind: AlarmKind
    referral: str
    series: str
    sender: str
    recipient: str
    due: datetime
    raised: datetime | None = None
    ended: datetime | None = None


PATTERNS = frozenset({AlarmKind.LOW_HITS, AlarmKind.CRAFTED, AlarmKind.REPEATED})
ABOUT_QUESTIONS = PATTERNS | {AlarmKind.BUDGET_LOW, AlarmKind.BUDGET_SPENT}
"""Nothing that a person does with a referral ends these."""


def alarms_of(referral: Referral, now: datetime) -> Sequence[Alarm]:
    """Return the alarms to be set when a referral is sent or comes in at ``now``."""
    if referral.urgency is not Urgency.IMMEDIATE:
        return ()
    late = _of(referral, AlarmKind.UNACKNOWLEDGED, now + limits.ESCALATE_AFTER)
    if referral.direction is Direction.OUT:
        return (late,)
    return (_of(referral, AlarmKind.IMMEDIATE, now), late)


def _of(referral: Referral, kind: AlarmKind, due: datetime) -> Alarm:
    return Alarm(
        id=f"{referral.id}/{kind.value}",
        kind=kind,
        referral=referral.id,
        series=referral.series,
        sender=referral.sender,
        recipient=referral.recipient,
        due=due,
    )
