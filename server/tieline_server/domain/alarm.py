"""Alarms: set for a time, raised once it comes, seen in status, log and the agency's own command.

Those about referrals are ended by a person's step. The recipient's officers are reminded: of an
immediate referral at once, of others when acknowledging is due, and later when the next step is.
When no person has acknowledged for longer (an hour, if immediate), both sides are alarmed, each by
its own clock and targets, and the sender tells the hub where it may; then it tells the fallback
agency.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tieline_server.domain.referral import Direction, Referral, ReferralState, Urgency
from tieline_server.domain.targets import Targets


class AlarmKind(enum.StrEnum):
    """What an alarm says; its audit entry is ``alarm.`` and this."""

    IMMEDIATE = "immediate"
    """An immediate referral came in."""
    REMINDER = "reminder"
    """The next step of a referral that came in is late."""
    UNACKNOWLEDGED = "unacknowledged"
    """Nobody acknowledged a referral in time."""
    FALLBACK = "fallback"
    """Nobody did for longer still: another agency is told, where there is one."""
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
    DECONFLICTION = "deconfliction"
    """Another agency works on the same series; see meeting.py."""
    WATCH_MATCH = "watch-match"
    """A standing query of this agency matched at a peer."""
    WATCHED = "watched-by-peer"
    """A standing query of a peer matched here."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm. ``raised`` and ``ended`` are None until then. No personal text.

    Of a meeting ``referral`` is its reference. About questions ``sender`` is the peer,
    ``referral`` the question, the standing query or "", and ``series`` is empty.
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
ABOUT_QUESTIONS = PATTERNS | {
    *(AlarmKind.BUDGET_LOW, AlarmKind.BUDGET_SPENT),
    *(AlarmKind.WATCH_MATCH, AlarmKind.WATCHED),
}
"""Nothing that a person does with a referral ends these."""


ENDED_BY_HAND = frozenset(
    {AlarmKind.ESCALATED, AlarmKind.DECONFLICTION, AlarmKind.WATCH_MATCH, AlarmKind.WATCHED}
)
"""Of what others did: a person who has seen these ends them."""

WAITS_FOR_A_WORD = frozenset({AlarmKind.IMMEDIATE, AlarmKind.UNACKNOWLEDGED, AlarmKind.FALLBACK})
"""These are over once a person of the recipient has said a word."""


def alarms_of(referral: Referral, now: datetime, targets: Targets) -> Sequence[Alarm]:
    """Return the alarms to be set when a referral is sent or comes in at ``now``."""
    late = _of(referral, AlarmKind.UNACKNOWLEDGED, now + targets.escalate[referral.urgency])
    if referral.direction is Direction.OUT:
        fallback = _of(referral, AlarmKind.FALLBACK, now + targets.fallback[referral.urgency])
        return (late, fallback) if referral.country else (late,)
    if referral.urgency is Urgency.IMMEDIATE:
        return (_of(referral, AlarmKind.IMMEDIATE, now), late)
    return (*reminder_of(referral, ReferralState.DELIVERED, now, targets), late)


def reminder_of(
    referral: Referral, state: ReferralState, now: datetime, targets: Targets
) -> Sequence[Alarm]:
    """Return what reminds its recipient of the step after ``state``, reached ``now``."""
    due = targets.due(state, referral.urgency, now)
    if due is None or state is ReferralState.PASSED_ON:  # it is another's to act
        return ()
    reminder = _of(referral, AlarmKind.REMINDER, due)
    return (replace(reminder, id=f"{reminder.id}/{state.value}"),)


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
